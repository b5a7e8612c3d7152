"""Figure 18: where growing pays. What a step of the small phase is worth, against its price and the loss-equal line.

A run that grows at step tau of T ends where the full depth alone ends after (T - tau) + rho tau steps: a small step is
worth rho of a full one. It costs n. Growing beats the full depth of equal compute where rho > n. A run that merely goes
on from the loss it has (loss-equal) saves at most 6 to 8 % against the best fixed depth; beyond that line it could save
more.

Records: of the demo's corpus and model (see figure 4), and every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import depth_color
from latebloom.paper_figures.fronts import DEMO, STUDIES, GrownArm, finished_ends, grown_arms
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = [*DEMO, *STUDIES]
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"


def prepare(records: Mapping[str, Record]) -> list[GrownArm]:
    """Grown arms whose rho could be measured."""
    arms = [arm for arm in grown_arms(finished_ends(records)) if np.isfinite(arm.rho).any()]
    require(arms, "grown runs beside fixed runs of their full depth", MADE_BY)
    return arms


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def make(arms: list[GrownArm]) -> Figure:
    """Top: rho against n and against what loss-equal growth would have. Bottom: both ratios over the compute."""
    figure, ((left, right), (below_left, below_right)) = plt.subplots(2, 2, figsize=(7.0, 5.6), sharey="row")
    for small in sorted({arm.plan.stages[0].depth for arm in arms}):
        for bytes_alone, marker in ((True, "o"), (False, "s")):
            here = [
                arm for arm in arms
                if arm.plan.stages[0].depth == small and (arm.plan.model.vocab_size == 256) == bytes_alone
            ]  # fmt: skip
            if not here:
                continue
            rho, price = np.array([_mean(arm.rho) for arm in here]), np.array([arm.price for arm in here])
            equal = np.array([_mean(arm.loss_equal) for arm in here])
            compute = [arm.tokens_per_parameter for arm in here]
            label = f"from {blocks_text(small)}, {'bytes' if bytes_alone else 'BPE'}"
            style = {"color": depth_color(small), "markersize": 4, "alpha": 0.85, "markeredgewidth": 0}
            left.plot(price, rho, marker, label=label, **style)
            right.plot(equal, rho, marker, label=f"_{label}", **style)
            below_left.plot(compute, rho / price, marker, label=f"_{label}", **style)
            below_right.plot(compute, rho / equal, marker, label=f"_{label}", **style)
    top = max(1.0, *(_mean(arm.rho) for arm in arms)) + 0.3
    low = min(0.0, *(_mean(arm.rho) for arm in arms)) - 0.05
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], color="#000000", linewidth=0.9, label="_line")
        axes.fill_between([0, 1], [0, 1], [top, top], color="#009E73", alpha=0.08, linewidth=0)
        axes.set(xlim=(0, 1), ylim=(low, top))
    highest = max(_mean(arm.rho) / arm.price for arm in arms) + 0.6
    for axes in (below_left, below_right):
        axes.axhspan(1, highest, color="#009E73", alpha=0.08, linewidth=0)
        axes.axhline(1, color="#000000", linewidth=0.9)
        axes.set(xscale="log", ylim=(0, highest), xlabel="compute (tokens a parameter of the full depth)")
    said = {"xycoords": "axes fraction", "va": "top", "fontsize": 7, "color": "#006648"}
    left.annotate("ρ > n: grown below the full\ndepth of equal compute", (0.04, 0.97), **said)
    right.annotate("better than going on\nfrom the same loss", (0.04, 0.97), **said)
    left.set(xlabel="price n of a small step", ylabel="transfer efficiency ρ", title="against its price")
    right.set(xlabel="ρ of loss-equal growth", title="against the loss-equal line")
    below_left.set(ylabel="ratio", title="ρ over its price n")
    below_right.set(title="ρ over that of loss-equal growth")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def data(arms: list[GrownArm]) -> Table:
    """Every arm."""
    rows = [
        (a.group, a.way, a.tokens_per_parameter, a.price, _mean(a.rho), _mean(a.loss_equal), len(a.rho)) for a in arms
    ]
    return Table(("study", "arm", "tokens a parameter", "n", "rho", "rho loss-equal", "seeds"), rows)


def caption(arms: list[GrownArm]) -> str:
    """The caption, its numbers computed."""
    beats = sum(_mean(arm.rho) > arm.price for arm in arms)
    known = [arm for arm in arms if np.isfinite(_mean(arm.loss_equal))]
    past = sum(_mean(arm.rho) > _mean(arm.loss_equal) for arm in known)
    groups = len({arm.group for arm in arms})
    return (
        f"{len(arms)} ways of growing at one compute each, of {groups} sets of runs; a point is the mean over its n = "
        f"1 to {max(len(arm.rho) for arm in arms)} seeds. A step of the small phase is worth ρ steps of the full depth "
        f"and costs n of one. {beats} of {len(arms)} lie above ρ = n and end below the full depth of equal compute; "
        f"{past} of {len(known)} lie above the loss-equal line, on which growing saves at most 6 to 8 % of the compute "
        "of the best fixed depth. "
        "Below: the same as ratios, over the compute."
    )
