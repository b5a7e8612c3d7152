"""Losses of anyone's runs, against steps and against compute: `latebloom figures RUN ...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, loss_limits, mark_expansion, plot_run, told_depths
from latebloom.paper_figures.tables import Table
from latebloom.theory.cost import plan_flops
from latebloom.theory.words import amount_text, count_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels, one line a run; expansions are thin vertical lines, if no more than three steps have one."""
    figure, (steps, compute) = plt.subplots(1, 2, sharey=True)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(records)))
    for (name, record), color in zip(records.items(), colors, strict=True):
        shown = Look(f"{name} ({told_depths(record.plan)})", color)
        plot_run(steps, record, shown, against="step")
        plot_run(compute, record, shown, against="flops")
    growths = sorted({stage.start_step for record in records.values() for stage in record.plan.stages[1:]})
    for step in growths if len(growths) <= 3 else []:
        mark_expansion(steps, step, f"grow at {step}")
    loss_limits(steps, list(records.values()))
    steps.set(xlabel="steps", ylabel="validation loss (nats/token)", title="against steps")
    compute.set(xlabel="training FLOPs", title="against compute")
    figure.legend(*compute.get_legend_handles_labels(), loc="outside lower center", ncols=2 if len(records) < 9 else 3)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every validation point of every run."""
    rows = []
    for name, record in records.items():
        series = record.select(split="val")
        rows += [
            (name, int(step), float(flops), float(value))
            for step, flops, value in zip(series["step"], series["flops"], series["value"], strict=True)
        ]
    return Table(("run", "step", "flops", "validation loss"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """What each run ends at, lowest first."""
    lasts = {name: float(record.curve()[1][-1]) for name, record in records.items()}
    ends = "; ".join(
        f"{name}: {told_depths(records[name].plan)}, {records[name].plan.steps} steps, "
        f"{amount_text(plan_flops(records[name].plan))} FLOPs, {loss:.4f}"
        for name, loss in sorted(lasts.items(), key=lambda item: item[1])
    )
    return f"Validation loss in nats per token of {count_text(len(records), 'run')}, lowest end first. {ends}."
