"""Figure 8: how new blocks begin. What the loss does at the expansion, and what is left of it at the end.

Left: loss above the run of full depth, against steps since the expansion, grown from 1 block. Right: final losses of
every start and initialisation above that of the fixed depth of the same seed.

Records: `latebloom ablate`, see figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.seeds import told_mean
from latebloom.paper_figures.tables import Table
from latebloom.theory.expansion import INITS, Init

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

SEEDS = (0, 1, 2)
SHOWN: dict[Init, str] = {"random": "#D55E00", "copy": "#0072B2", "copy_zero_last": "#009E73"}
STARTS = {"1": "", "2": "_stack"}  # of the small depth: how its records are called
RECORDS = [
    *(f"shakespeare_{arm}_s{seed}" for arm in ("fixed", "small_1", "small_2", "grown_0_random") for seed in SEEDS),
    *(f"shakespeare_grown_{l}_{i}{o}_s{seed}" for l, o in STARTS.items() for i in SHOWN for seed in SEEDS),
]


def _above(records: Mapping[str, Record], arm: str) -> np.ndarray:
    """Final loss of each seed above its fixed run's, nats."""
    return np.array(
        [records[f"shakespeare_{arm}_s{s}"].final() - records[f"shakespeare_fixed_s{s}"].final() for s in SEEDS]
    )


def _arms() -> dict[str, tuple[str, str]]:
    """By arm: label and color, top to bottom."""
    arms = {"small_1": ("1 block, never grown", "#777777")}
    arms |= {f"grown_1_{i}": (f"1 → 4, {INITS[i].label}", color) for i, color in SHOWN.items()}
    arms["small_2"] = ("2 blocks, never grown", "#777777")
    arms |= {f"grown_2_{i}_stack": (f"2 → 4, {INITS[i].label}", color) for i, color in SHOWN.items()}
    return arms


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2, width_ratios=(1, 1.1))
    for init, color in SHOWN.items():
        runs = [records[f"shakespeare_grown_1_{init}_s{s}"] for s in SEEDS]
        tau = runs[0].plan.tau or 0
        step = runs[0].curve()[0]
        after = step > tau
        losses = np.array([run.curve()[1][after] for run in runs])
        x = np.maximum(step[after] - tau, 1)
        left.plot(x, losses.mean(axis=0), color=color, label=INITS[init].label, marker="o", markersize=2.5)
        left.fill_between(x, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.2, linewidth=0)
    left.set(
        xscale="log", yscale="log", xlabel="steps since the expansion",
        ylabel="validation loss (nats/token)", title="grown from 1 block",
    )  # fmt: skip
    left.set_yticks([5, 6, 7, 8], ["5", "6", "7", "8"])
    left.set_yticks([], minor=True)
    left.legend()
    arms = _arms()
    for place, (arm, (_, color)) in enumerate(reversed(arms.items())):
        above = _above(records, arm)
        right.plot(above, [place] * len(above), "|", color=color, markersize=7, label="_seeds")
        marker = "s" if arm.startswith("small") else "o"
        right.plot([above.mean()], [place], marker, color=color, markersize=4.5, label=arms[arm][0])
    right.set_yticks(range(len(arms)), [label for label, _ in reversed(arms.values())])
    right.axvline(0, color="#999999", linewidth=0.7, zorder=0)
    right.set(xlabel="final loss − fixed depth (nats/token)", title="at the end")
    right.set_xlim(left=-0.01)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """The right panel."""
    arms = {"grown_0_random": ("0 → 4, random", ""), **_arms()}
    rows = [(arms[a][0], s, float(v)) for a in arms for s, v in zip(SEEDS, _above(records, a), strict=True)]
    return Table(("arm", "seed", "above fixed depth (nats)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    plan = records["shakespeare_grown_1_copy_s0"].plan
    told = []
    for arm, (label, _) in _arms().items():
        told.append(f"{label} {told_mean(_above(records, arm))}")
    jumps = []
    for init in SHOWN:
        run = records[f"shakespeare_grown_1_{init}_s0"]
        step, loss = run.curve()
        jumps.append(f"{INITS[init].label} {loss[step > plan.tau][0]:.2f}")
    return (
        f"Initialisations of new blocks, tinyshakespeare, GPT-2 of width {plan.model.width}, grown at step {plan.tau} "
        "of "
        f"{plan.steps}; n = 3 seeds, band from the lowest to the highest. Left: from 1 block; one step after the "
        f"expansion the loss is, with seed 0, {', '.join(jumps)} nats. Right: final loss above four blocks "
        f"from the start (nats, mean and standard error; ticks are seeds): {'; '.join(told)}. 'Copied' jumps and does "
        "not recover within the run; a copy whose last maps are zero keeps the function and ends where random does."
    )
