"""Figure 23: predictions that stood in the plan before the run, beside what was measured.

A plan's digest stands in the Record of its run, so that what the plan predicts was written before; the planner's
predictions of studies' arms were committed before the arms were trained (studies/predictions). Left: the predicted and
the measured curve of the one-layer run of figure 1. Right: how far every final loss that was predicted lies from the
measured one.

Records: those of figure 1, and every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import look, plot_predicted, plot_run
from latebloom.paper_figures.paths import PREDICTIONS
from latebloom.paper_figures.tables import Table
from latebloom.theory.plan import read_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

CURVE = "stdlib_one_layer"
CONTROLS = {"stdlib_fixed": "fixed", "stdlib_equal_compute": "equal_compute", "stdlib_small": "small"}
RECORDS = [CURVE, *CONTROLS, "studies/*/*"]
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"


class Frozen(NamedTuple):
    """One prediction and what came of it, nats."""

    run: str
    what: str
    predicted: float
    low: float
    high: float
    measured: float


def frozen(records: Mapping[str, Record]) -> list[Frozen]:
    """Every final loss that stood in a plan: of its own run, and of the controls of the one-layer run."""
    found = _of_studies(records)
    for name, record in records.items():
        told = record.plan.predicted
        if told.final_loss is not None:
            interval = told.final_loss_interval
            low, high = (interval.low, interval.high) if interval else (told.final_loss, told.final_loss)
            what = "progressive" if record.plan.tau is not None else "fixed"
            found.append(Frozen(name, what, told.final_loss, low, high, record.final()))
    told = records[CURVE].plan.predicted
    controls = {
        "fixed": told.fixed_final_loss, "equal_compute": told.equal_compute_final_loss, "small": told.small_final_loss
    }  # fmt: skip
    for name, control in CONTROLS.items():
        value = controls[control]
        if value is not None:
            found.append(Frozen(name, control, value, value, value, records[name].final()))
    return found


def _of_studies(records: Mapping[str, Record]) -> list[Frozen]:
    """Arms of studies that a frozen plan's menu names and that were trained since."""
    found: dict[str, Frozen] = {}
    for path in sorted(PREDICTIONS.glob("*.json")):
        plan = read_plan(path)
        seed = path.stem.rpartition("-s")[2]
        for row in plan.predicted.menu or ():
            run = f"studies/{plan.model.name}/{row.name}-s{seed}"
            if run in records:
                what = "progressive" if row.tau is not None else "fixed"
                end = row.loss
                found[run] = Frozen(run, what, end.median, end.low, end.high, records[run].final())
    return list(found.values())


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    run = records[CURVE]
    plot_run(left, run, look("one_layer"), against="step")
    plot_predicted(left, run, against="step")
    left.set(xlabel="steps", ylabel="validation loss (nats/token)", title="1 → 4 blocks", ylim=(4.5, 6))
    left.legend()
    points = sorted(frozen(records), key=lambda point: point.measured)
    for what in dict.fromkeys(point.what for point in points):
        here = [(place, point) for place, point in enumerate(points, 1) if point.what == what]
        at, shown = [place for place, _ in here], look(what)
        off = {
            name: [100 * (getattr(point, name) / point.measured - 1) for _, point in here]
            for name in ("predicted", "low", "high")
        }
        right.vlines(at, off["low"], off["high"], color=shown.color, linewidth=0.8)
        right.plot(at, off["predicted"], "o", color=shown.color, markersize=3.5, label=shown.label)
    right.axhline(0, color="#000000", linewidth=0.9)
    right.set(
        xlabel="runs, by their final loss", ylabel="predicted above measured (%)", title="written before the runs"
    )
    right.legend(loc="lower right")
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every prediction."""
    return Table(("run", "what", "predicted", "low", "high", "measured"), frozen(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    points = frozen(records)
    errors = [abs(p.predicted / p.measured - 1) for p in points]
    with_interval = [p for p in points if p.low < p.high]
    inside = sum(p.low <= p.measured <= p.high for p in with_interval)
    return (
        f"{len(points)} final losses that stood in a plan before its run, beside the measured ones (n = 1 run each): "
        "median error "
        f"{np.median(errors):.2%}, largest {max(errors):.2%}; {inside} of {len(with_interval)} lie in their 90 % "
        "interval, where the "
        "plan gives one. Left: the curve that the plan of the one-layer run predicts, beside the run."
    )
