"""Figure 12: growing under other optimizers. Each at the best learning rate that was tried for the fixed depth.

Left: loss of the fixed depth and of the run that grows at half of the steps. Right: final losses of every control.

Source: arXiv 2511.04981 grows under Muon-NSGD, AdamW and others. Records: GPT-2 of width 64 on bytes of novels, 160
steps, 1 to 4 blocks at step 80; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from latebloom.paper_figures.curves import OPTIMIZER_NAMES
from latebloom.paper_figures.missing import require
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


def prepare(records: Mapping[str, Record]) -> dict[str, dict[str, Record]]:
    """By optimizer, its arms, ``fixed`` at the learning rate that ends lowest."""
    found: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        optimizer, _, arm = name.removeprefix("optimizers/").rpartition("_s")[0].partition("-")
        arm = arm.partition("-lr")[0]
        best = found.setdefault(optimizer, {}).get(arm)
        if best is None or record.final() < best.final():
            found[optimizer][arm] = record
    runs = {name: found[name] for name in OPTIMIZERS if set(ARMS) <= set(found.get(name, {}))}
    require(len(runs) > 1, "every arm of two optimizers", MADE_BY)
    return runs


def make(runs: dict[str, dict[str, Record]]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for place, (name, arms) in enumerate(runs.items()):
        label, color = OPTIMIZERS[name]
        for arm, line in (("fixed", "-"), ("grown", "--")):
            step, loss = arms[arm].curve()
            left.plot(step[1:], loss[1:], line, color=color, label=label if arm == "fixed" else f"_{label}, grown")
        for arm, (told, marker) in ARMS.items():
            right.plot([place], [arms[arm].final()], marker, color=color, markersize=5, markeredgewidth=0,
                       label=f"{label}: {told}", alpha=0.9)  # fmt: skip
    for told, marker in ARMS.values():
        right.plot([], [], marker, color="#555555", label=told)
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles[-len(ARMS) :], labels[-len(ARMS) :], fontsize=6.5, loc="upper left")
    right.set_xticks(range(len(runs)), [OPTIMIZERS[name][0] for name in runs])
    right.set(ylabel="final validation loss", title="every control")
    right.margins(y=0.25)
    left.set(xlabel="iterations", ylabel="validation loss (nats/token)", title="fixed (line) and grown (dashes)")
    finals = [arms[arm].final() for arms in runs.values() for arm in ARMS]
    left.set_ylim(min(finals) * 0.97, max(finals) * 1.25)
    left.legend()
    return figure


def data(runs: dict[str, dict[str, Record]]) -> Table:
    """Every run shown."""
    rows = [
        (OPTIMIZERS[name][0], ARMS[arm][0], arms[arm].plan.schedule.peak, arms[arm].final())
        for name, arms in runs.items()
        for arm in ARMS
    ]
    return Table(("optimizer", "run", "peak learning rate", "final loss"), rows)


def caption(runs: dict[str, dict[str, Record]]) -> str:
    """The caption, its numbers computed."""
    told = []
    for name, arms in runs.items():
        grown = arms["grown"].final()
        others = {arm: grown - arms[arm].final() for arm in ARMS if arm != "grown"}
        told.append(
            f"{OPTIMIZERS[name][0]} (peak {arms['fixed'].plan.schedule.peak:g}) {grown:.3f}: {others['fixed']:+.3f} "
            "to 4 blocks "
            f"for as many steps, {others['equal_compute']:+.3f} for equal compute, "
            f"{others['small_equal_compute']:+.3f} to 1 "
            "block of equal compute"
        )
    return (
        "Grown from 1 to 4 blocks at half of 160 steps (GPT-2, width 64, bytes, n = 1 seed), each optimizer at the "
        "best of the one or two peak learning rates that were tried. Final loss of the grown run in nats, and "
        f"its difference: {'; '.join(told)}."
    )
