"""Figure 19: ways of growing head to head, each above the best fixed depth of its compute.

Records: every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import depth_color
from latebloom.paper_figures.fronts import STUDIES, finished_ends, grown_arms, told_model
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = list(STUDIES)
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"
SHOWN = 24  # the best ways; the CSV has all


class Way(NamedTuple):
    """One way of growing over everything that it was tried at: loss above the best fixed depth, per cent of it."""

    model: str
    way: str
    small: int
    above: np.ndarray


def prepare(records: Mapping[str, Record]) -> list[Way]:
    """Ways of every study, the best mean first."""
    found: dict[tuple[str, str], list[float]] = {}
    small: dict[tuple[str, str], int] = {}
    for arm in grown_arms(finished_ends(records)):
        key = (told_model(arm.plan), arm.way)
        found.setdefault(key, []).extend(100 * arm.share[np.isfinite(arm.share)])
        small[key] = arm.plan.stages[0].depth
    ways = [Way(*key, small[key], np.array(values)) for key, values in found.items() if values]
    require(ways, "grown runs beside fixed runs of equal compute", MADE_BY)
    return sorted(ways, key=lambda way: way.above.mean())


def make(ways: list[Way]) -> Figure:
    """One row a way."""
    shown = ways[:SHOWN]
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.17 * len(shown)))
    for place, way in enumerate(reversed(shown)):
        color = depth_color(way.small)
        axes.plot(way.above, np.full(len(way.above), place), "|", color=color, markersize=6, label="_each")
        axes.plot([way.above.mean()], [place], "o", color=color, markersize=4.5, label=f"{way.model}: {way.way}")
    axes.axvline(0, color="#000000", linewidth=0.9)
    axes.set_yticks(range(len(shown)), [f"{way.way}  ({way.model})" for way in reversed(shown)], fontsize=6.8)
    axes.set(xlabel="final loss above the best fixed depth of equal compute (%)", ylim=(-0.6, len(shown) - 0.4))
    return figure


def data(ways: list[Way]) -> Table:
    """Every way at every compute and seed."""
    return Table(("model", "way", "above best fixed (%)"), [(w.model, w.way, float(v)) for w in ways for v in w.above])


def caption(ways: list[Way]) -> str:
    """The caption, its numbers computed."""
    best = ways[0]
    won = sum(int((way.above < 0).sum()) for way in ways)
    total = sum(len(way.above) for way in ways)
    return (
        f"{len(ways)} ways of growing (depths, share of the run after which they grow, how new blocks begin), the best "
        f"{min(SHOWN, len(ways))} shown; a tick is one amount of compute and one seed, a dot their mean, colors are "
        "the small "
        f"depth. Lowest on average: {best.way} ({best.model}), {best.above.mean():+.2f} % of the loss over "
        f"{len(best.above)} "
        f"runs. {won} of all {total} runs end below the best fixed depth of equal compute."
    )
