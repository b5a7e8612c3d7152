"""Figure 25: longer runs may grow later. The latest step and what it saves, over the horizon.

The area that new layers need is a property of the landscape; the area of a run whose peak follows eta_ref/sqrt(T) grows
as sqrt(T) (:func:`latebloom.theory.timing.horizon_share`). So the share of the run after which it must have grown rises
with its length. The saving is against the full depth for as many steps: the paper's comparison, not equal compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.tables import Table
from latebloom.theory.architectures.presets import preset
from latebloom.theory.cost import depth_cost_ratio
from latebloom.theory.timing import horizon_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS: list[str] = []
MODELS = {"gpt2-124m": "#56B4E9", "gpt2-774m": "#0072B2", "gpt2-7b": "#D55E00"}
REFERENCE_LR = 10.0  # eta_ref of arXiv 2511.04981 for Muon-NSGD
KNOWN = 20_000  # steps at which the mixing area is taken to be SHARES of peak rate x steps: chosen by us
SHARES = (0.10, 0.15)
DECAY = 0.1
HORIZONS = np.geomspace(5_000, 1_000_000, 80)


class Latest(NamedTuple):
    """tau*/T over the horizon for one mixing area, and savings by model."""

    share: float
    tau: np.ndarray
    savings: dict[str, np.ndarray]


def prepare(records: Mapping[str, Record]) -> list[Latest]:
    """For both ends of the range of mixing areas."""
    found = []
    for share in SHARES:
        area = share * REFERENCE_LR * KNOWN**0.5
        tau = np.array(
            [horizon_share(float(t), decay=DECAY, mixing_area=area, reference_lr=REFERENCE_LR) for t in HORIZONS]
        )
        savings = {}
        for name in MODELS:
            shape, depth = preset(name)
            savings[name] = 100 * (1 - depth_cost_ratio(shape, 1, depth)) * tau
        found.append(Latest(share, tau, savings))
    return found


def make(latest: list[Latest]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    low, high = latest[1], latest[0]
    left.fill_between(HORIZONS, low.tau, high.tau, color="#D55E00", alpha=0.25, linewidth=0)
    for one in latest:
        left.plot(HORIZONS, one.tau, color="#D55E00", linewidth=0.8, label=f"_need {one.share:g}")
    need = f"needs {SHARES[0]:g} to {SHARES[1]:g} of ηT\nat {KNOWN:,} steps"
    left.annotate(need, (0.35, 0.1), xycoords="axes fraction", fontsize=7.5)
    left.set(xscale="log", xlabel="steps T", ylabel="latest τ/T", title="when to grow", ylim=(0.5, 1))
    for name, color in MODELS.items():
        right.fill_between(HORIZONS, low.savings[name], high.savings[name], color=color, alpha=0.25, linewidth=0)
        middle = (low.savings[name] + high.savings[name]) / 2
        right.plot(HORIZONS, middle, color=color, label=f"{name}, from 1 block")
    right.set(xscale="log", xlabel="steps T", ylabel="FLOPs saved, same steps (%)", title="saving")
    right.legend()
    return figure


def data(latest: list[Latest]) -> Table:
    """Every line."""
    rows = [
        (one.share, float(t), float(one.tau[i]), *(float(one.savings[name][i]) for name in MODELS))
        for one in latest
        for i, t in enumerate(HORIZONS)
    ]
    return Table(
        ("mixing area over peak rate x steps", "steps", "tau/T", *(f"saved, {name} (%)" for name in MODELS)), rows
    )


def caption(latest: list[Latest]) -> str:
    """The caption, its numbers computed."""
    first, last = HORIZONS[0], HORIZONS[-1]
    ends = ", ".join(
        f"{name} {latest[1].savings[name][0]:.0f} to {latest[1].savings[name][-1]:.0f} %" for name in MODELS
    )
    return (
        f"Theory: latest step to grow under warmup-stable-decay (decay {DECAY:.0%}) with a peak of "
        f"{REFERENCE_LR:g}/sqrt(T), if "
        f"growing needs {SHARES[0]:g} to {SHARES[1]:g} of peak rate times steps at {KNOWN:,} steps (chosen by us; "
        "band). From "
        f"{first:,.0f} to {last:,.0f} steps it moves from {latest[1].tau[0]:.2f} to {latest[1].tau[-1]:.2f} T at the "
        "larger need, and "
        f"the FLOPs saved against the full depth for as many steps: {ends}. Against equal compute figure 17 is the "
        "limit."
    )
