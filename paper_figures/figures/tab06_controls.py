"""Table 6: one grown run beside every control: which way to spend the compute ends lowest?

Records: of the demo's corpus and model, see figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from latebloom.paper_figures.curves import told_depths
from latebloom.paper_figures.figures.fig04_predicted_gaps import GAPS, record_of, records_of, seeds_of
from latebloom.paper_figures.seeds import told_mean
from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.controls import control
from latebloom.theory.cost import plan_flops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

GROWN = ("grown-360", "grown-600")
RECORDS = records_of(name for grown in GROWN for name in (grown, *GAPS[grown].values()))


def data(records: Mapping[str, Record]) -> Table:
    """One row a run, the grown one first, then its controls by loss."""
    rows: list[tuple[str, ...]] = []
    for grown in GROWN:
        own = {seed: records[record_of(seed, grown)] for seed in seeds_of(records, grown)}
        plan = own[0].plan
        spent = plan_flops(plan)
        rows.append(_row(f"{told_depths(plan)}, grown at {plan.tau}", own, own, spent))
        controls = []
        for name, run in GAPS[grown].items():
            runs = {seed: records[record_of(seed, run)] for seed in own if record_of(seed, run) in records}
            told, depths = control(name).label, told_depths(runs[0].plan)
            told += "" if depths in told else f" ({depths})"
            controls.append(_row(told, runs, own, spent))
        rows += sorted(controls, key=lambda row: row[3])
    return Table(("run", "steps", "compute", "final loss", "grown − this run", "seeds"), rows)


def _row(told: str, runs: Mapping[int, Record], own: Mapping[int, Record], spent: float) -> tuple[str, ...]:
    losses = np.array([run.final() for run in runs.values()])
    above = np.array([own[seed].final() - run.final() for seed, run in runs.items()])
    plan = runs[0].plan
    gap = told_mean(above) if above.any() else ""
    return (told, str(plan.steps), f"{plan_flops(plan) / spent:.2f}", f"{losses.mean():.3f}", gap, str(len(losses)))


def make(records: Mapping[str, Record]) -> Figure:
    """The table."""
    return draw_table(data(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    plan = records[record_of(0, GROWN[0])].plan
    return (
        f"Two runs of a {plan.model.name} that grow, {told_depths(plan)}, with every control: compute over that of the "
        "grown run, mean final loss in nats a token, and the grown run's loss minus this one's in the same seed (mean "
        "and standard error; positive: growing is worse). Controls of equal compute have a compute of 1.00 and decide."
    )
