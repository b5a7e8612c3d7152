"""Figure 12: growing under other optimizers. Each at the best learning rate that was tried for the fixed depth.

Left: loss of the fixed depth and of the run that grows at half of the steps. Right: final losses of every control.

Source: arXiv 2511.04981 grows under Muon-NSGD, AdamW and others. Records: GPT-2 of width 64 on bytes of novels, 160
steps, 1 to 4 blocks at step 80; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import OPTIMIZER_NAMES, Look, plot_ends, plot_seeds
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.seeds import runs_of, told_mean, told_seeds
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

COLORS = {"muon_nsgd": "#D55E00", "muon_adamw": "#0072B2", "adamw": "#009E73", "sgd": "#CC79A7"}
OPTIMIZERS = {name: (OPTIMIZER_NAMES[name], color) for name, color in COLORS.items()}
ARMS = {  # by the end of a record's name: label and marker
    "fixed": ("4 blocks, same steps", "s"),
    "grown": ("1 → 4 at half", "D"),
    "equal_compute": ("4 blocks, equal compute", "o"),
    "small_equal_compute": ("1 block, equal compute", "^"),
}
RECORDS = ["optimizers/*"]
MADE_BY = "latebloom train paper_figures/plans/optimizers/NAME.json --data DIR"


def prepare(records: Mapping[str, Record]) -> dict[str, dict[str, list[Record]]]:
    """By optimizer its arms, one run a seed, ``fixed`` at the learning rate that ends lowest with seed 0."""
    found: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(name.rpartition("_s")[0] for name in records):
        optimizer, _, arm = name.removeprefix("optimizers/").partition("-")
        arm = arm.partition("-lr")[0]
        best = found.setdefault(optimizer, {}).get(arm)
        if best is None or records[f"{name}_s0"].final() < records[f"{best}_s0"].final():
            found[optimizer][arm] = name
    chosen = {name: found[name] for name in OPTIMIZERS if set(ARMS) <= set(found.get(name, {}))}
    require(len(chosen) > 1, "every arm of two optimizers", MADE_BY)
    return {
        optimizer: {arm: list(runs_of(records, name).values()) for arm, name in arms.items()}
        for optimizer, arms in chosen.items()
    }


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
    for told, marker in ARMS.values():
        right.plot([], [], marker, color="#555555", label=told)
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
        (OPTIMIZERS[name][0], ARMS[arm][0], run.plan.schedule.peak, run.header.seed, run.final())
        for name, arms in runs.items()
        for arm in ARMS
        for run in arms[arm]
    ]
    return Table(("optimizer", "run", "peak learning rate", "seed", "final loss"), rows)


def caption(runs: dict[str, dict[str, list[Record]]]) -> str:
    """The caption, its numbers computed."""
    told = []
    for name, arms in runs.items():
        others = {arm: told_mean(_apart(arms, arm)) for arm in ARMS if arm != "grown"}
        told.append(
            f"{OPTIMIZERS[name][0]} (peak {arms['fixed'][0].plan.schedule.peak:g}) "
            f"{told_mean(_finals(arms['grown']), '.3f')}: {others['fixed']} to 4 blocks for as many steps, "
            f"{others['equal_compute']} for equal compute, {others['small_equal_compute']} to 1 block of equal compute"
        )
    seeds = told_seeds(len(arms[arm]) for arms in runs.values() for arm in ARMS)
    return (
        f"Grown from 1 to 4 blocks at half of 160 steps (GPT-2, width 64, bytes, {seeds}), each optimizer at the "
        "best of the one or two peak learning rates that were tried. Final loss of the grown run in nats, and "
        f"its difference: {'; '.join(told)}."
    )
