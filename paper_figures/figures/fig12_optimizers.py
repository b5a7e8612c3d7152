"""Figure 12: growing under other optimizers. Each at the best learning rate that was tried for the fixed depth.

Left: loss of the fixed depth and of the run that grows at half of the steps. Right: final losses of every control.

Source: arXiv 2511.04981 grows under Muon-NSGD, AdamW and others. Records: GPT-2 of width 64 on bytes of novels, 160
steps, 1 to 4 blocks at step 80; plans in paper_figures/plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import OPTIMIZER_NAMES, Look, plot_ends, plot_seeds, told_depths
from latebloom.paper_figures.fronts import told_model
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.seeds import told_mean, told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

COLORS = {"muon_nsgd": "#D55E00", "muon_adamw": "#0072B2", "adamw": "#009E73", "sgd": "#CC79A7"}
OPTIMIZERS = {name: (OPTIMIZER_NAMES[name], color) for name, color in COLORS.items()}
ARMS = {  # by the end of a record's name: what its label says beside the depth, and marker
    "fixed": ("same steps", "s"),
    "grown": ("grown", "D"),
    "equal_compute": ("equal compute", "o"),
    "small_equal_compute": ("equal compute", "^"),
}
RECORDS = ["optimizers/*", "optimizers/*/*"]  # the latter as `latebloom train-all` names controls
MADE_BY = "latebloom train paper_figures/plans/optimizers/NAME.json --data DIR --out records/optimizers/NAME_s0"


def prepare(records: Mapping[str, Record]) -> dict[str, dict[str, list[Record]]]:
    """By optimizer its arms, one run a seed, each at the learning rate that ends lowest with the first seed."""
    found: dict[str, dict[str, dict[float, list[Record]]]] = {}
    for name, record in sorted(records.items()):
        optimizer, rate = record.plan.optimizer.name, record.plan.schedule.peak
        arm = re.split(r"-lr|_s\d", name.rpartition("/")[2].removeprefix(f"{optimizer}-"))[0]
        arm = "grown" if arm == "progressive" else arm
        found.setdefault(optimizer, {}).setdefault(arm, {}).setdefault(rate, []).append(record)
    chosen = {name: found[name] for name in OPTIMIZERS if set(ARMS) <= set(found.get(name, {}))}
    require(len(chosen) > 1, "every arm of two optimizers", MADE_BY)
    return {
        optimizer: {arm: min(by_rate.values(), key=lambda runs: runs[0].final()) for arm, by_rate in arms.items()}
        for optimizer, arms in chosen.items()
    }


def _labels(runs: dict[str, dict[str, list[Record]]]) -> dict[str, str]:
    """By arm, its depths and what it is."""
    arms = next(iter(runs.values()))
    return {arm: f"{told_depths(arms[arm][0].plan)}, {told}" for arm, (told, _) in ARMS.items()}


def _finals(runs: list[Record]) -> np.ndarray:
    return np.array([run.final() for run in runs])


def _apart(arms: dict[str, list[Record]], arm: str) -> np.ndarray:
    """Final losses of the grown runs less those of another arm, of the same seeds."""
    others = {run.header.seed: run.final() for run in arms[arm]}
    return np.array([run.final() - others[run.header.seed] for run in arms["grown"] if run.header.seed in others])


def make(runs: dict[str, dict[str, list[Record]]]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for place, (name, arms) in enumerate(runs.items()):
        label, color = OPTIMIZERS[name]
        for arm, line in (("fixed", "-"), ("grown", "--")):
            shown = Look(label if arm == "fixed" else f"_{label}, grown", color, line)
            plot_seeds(left, arms[arm], shown, against="step")
        for arm, (told, marker) in ARMS.items():
            plot_ends(right, place, _finals(arms[arm]), marker, color=color, label=f"_{label}: {told}")
    for arm, told in _labels(runs).items():
        right.plot([], [], ARMS[arm][1], color="#555555", label=told)
    right.legend(fontsize=6.5, loc="upper left", bbox_to_anchor=(0, 1.02))
    right.set_xticks(range(len(runs)), [OPTIMIZERS[name][0] for name in runs])
    right.set(ylabel="final loss (nats/token)", title="every control", xlim=(-0.6, len(runs) - 0.4))
    finals = np.concatenate([_finals(arms[arm]) for arms in runs.values() for arm in ARMS])
    right.set_ylim(finals.min() - 0.1 * np.ptp(finals), finals.max() + 0.55 * np.ptp(finals))  # room for the legend
    left.set(xlabel="steps", ylabel="validation loss (nats/token)", title="fixed (line) and grown (dashes)")
    left.set_ylim(min(finals) * 0.97, max(finals) * 1.25)
    left.legend()
    return figure


def data(runs: dict[str, dict[str, list[Record]]]) -> Table:
    """Every run shown."""
    rows = [
        (OPTIMIZERS[name][0], _labels(runs)[arm], run.plan.schedule.peak, run.header.seed, run.final())
        for name, arms in runs.items()
        for arm in ARMS
        for run in arms[arm]
    ]
    return Table(("optimizer", "run", "peak learning rate", "seed", "final loss"), rows)


def caption(runs: dict[str, dict[str, list[Record]]]) -> str:
    """The caption, its numbers computed."""
    told, plan = [], next(iter(runs.values()))["grown"][0].plan
    full, small = blocks_text(plan.depth), blocks_text(plan.stages[0].depth)
    for name, arms in runs.items():
        others = {arm: told_mean(_apart(arms, arm)) for arm in ARMS if arm != "grown"}
        told.append(
            f"{OPTIMIZERS[name][0]} (peak {arms['fixed'][0].plan.schedule.peak:g}) "
            f"{told_mean(_finals(arms['grown']), '.3f')}: {others['fixed']} to {full} for as many steps, "
            f"{others['equal_compute']} for equal compute, {others['small_equal_compute']} to {small} of equal compute"
        )
    seeds = told_seeds(len(arms[arm]) for arms in runs.values() for arm in ARMS)
    return (
        f"Grown {told_depths(plan)} at step {plan.tau} of {plan.steps} ({told_model(plan)}, {seeds}), each "
        "optimizer at the best of the peak learning rates that were tried. Final loss of the grown run in nats, "
        f"and its difference: {'; '.join(told)}."
    )
