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

from latebloom.paper_figures.corpora import told_corpus
from latebloom.paper_figures.curves import plain_log_ticks
from latebloom.paper_figures.seeds import above, records_of_seeds, runs_of, told_mean, told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.expansion import INITS, Init
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

SHOWN: dict[Init, str] = {"random": "#D55E00", "copy": "#0072B2", "copy_zero_last": "#009E73"}
STARTS = {"1": "", "2": "_stack"}  # of the small depth: how its records are called
GROWN = [f"grown_{l}_{i}{order}" for l, order in STARTS.items() for i in SHOWN]
RECORDS = records_of_seeds(f"shakespeare_{arm}" for arm in ("fixed", "small_1", "small_2", "grown_0_random", *GROWN))


def _above(records: Mapping[str, Record], arm: str) -> np.ndarray:
    """Final loss of each seed above its fixed run's, nats."""
    return above(records, f"shakespeare_{arm}", "shakespeare_fixed")


def _arms(records: Mapping[str, Record]) -> dict[str, tuple[str, str]]:
    """By arm: label and color, top to bottom."""
    full = records["shakespeare_fixed_s0"].plan.depth
    arms = {}
    for small, order in STARTS.items():
        arms[f"small_{small}"] = (f"{blocks_text(int(small))}, never grown", "#777777")
        arms |= {
            f"grown_{small}_{i}{order}": (f"{small} → {full}, {INITS[i].label}", color) for i, color in SHOWN.items()
        }
    return arms


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2, width_ratios=(1, 1.1))
    for init, color in SHOWN.items():
        runs = list(runs_of(records, f"shakespeare_grown_1_{init}").values())
        tau = runs[0].plan.tau or 0
        step = runs[0].curve()[0]
        after = step > tau
        losses = np.array([run.curve()[1][after] for run in runs])
        x = np.maximum(step[after] - tau, 1)
        left.plot(x, losses.mean(axis=0), color=color, label=INITS[init].label, marker="o", markersize=2.5)
        left.fill_between(x, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.2, linewidth=0)
    left.set(
        xscale="log", xlabel="steps since the expansion", ylabel="validation loss (nats/token)",
        title="grown from 1 block",
    )  # fmt: skip
    plain_log_ticks(left)
    left.legend()
    arms = _arms(records)
    for place, (arm, (_, color)) in enumerate(reversed(arms.items())):
        apart = _above(records, arm)
        right.plot(apart, [place] * len(apart), "|", color=color, markersize=7, label="_seeds")
        marker = "s" if arm.startswith("small") else "o"
        right.plot([apart.mean()], [place], marker, color=color, markersize=4.5, label=arms[arm][0])
    right.set_yticks(range(len(arms)), [label for label, _ in reversed(arms.values())])
    right.axvline(0, color="#999999", linewidth=0.7, zorder=0)
    right.set(xlabel="final loss − fixed depth (nats/token)", title="at the end")
    right.set_xlim(left=min(-0.01, right.get_xlim()[0]))
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """The right panel."""
    full = records["shakespeare_fixed_s0"].plan.depth
    arms = {"grown_0_random": (f"0 → {full}, random", ""), **_arms(records)}
    seeds = runs_of(records, "shakespeare_fixed")
    rows = [(arms[a][0], s, float(v)) for a in arms for s, v in zip(seeds, _above(records, a), strict=True)]
    return Table(("arm", "seed", "above fixed depth (nats)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    grown = records["shakespeare_grown_1_copy_s0"]
    plan = grown.plan
    told = [f"{label} {told_mean(_above(records, arm))}" for arm, (label, _) in _arms(records).items()]
    jumps = []
    for init in SHOWN:
        step, loss = records[f"shakespeare_grown_1_{init}_s0"].curve()
        jumps.append(f"{INITS[init].label} {loss[step > plan.tau][0]:.2f}")
    ends = [
        f"{INITS[init].label} {told_mean(above(records, f'shakespeare_grown_1_{init}', 'shakespeare_grown_1_random'))}"
        for init in SHOWN
        if init != "random"
    ]
    return (
        f"Initialisations of new blocks, {told_corpus(grown)}, GPT-2 of width {plan.model.width}, grown at step "
        f"{plan.tau} of {plan.steps}; {told_seeds([len(runs_of(records, 'shakespeare_fixed'))])}, band from the lowest "
        f"to the highest. Left: from 1 block; one step after the expansion the loss is, with seed 0, "
        f"{', '.join(jumps)} nats. Right: final loss above {blocks_text(plan.depth)} from the start (nats, mean and "
        f"standard error; ticks are seeds): {'; '.join(told)}. Beside random blocks those from 1 block end at "
        f"{' and '.join(ends)} nats: a copy changes the function, a copy whose last maps are zero keeps it."
    )
