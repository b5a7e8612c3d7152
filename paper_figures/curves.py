"""Loss curves as the figures and the report draw them: against steps, against FLOPs, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latebloom.paper_figures.fronts import depths_passed
from latebloom.theory.controls import control

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

__all__ = [
    "CONTROL_STYLES",
    "OPTIMIZER_NAMES",
    "Look",
    "depth_color",
    "look",
    "loss_limits",
    "mark_expansion",
    "plain_log_ticks",
    "plot_ends",
    "plot_predicted",
    "plot_run",
    "plot_seeds",
    "told_depths",
]


class Look(NamedTuple):
    """How one kind of run looks everywhere.

    Attributes:
        label: For the legend.
        color: As matplotlib reads it.
        line: Style, as matplotlib reads it.
    """

    label: str
    color: str
    line: str = "-"


GROWN = {
    "progressive": Look("progressive", "#D55E00"),
    "zero_layer": Look("zero-layer progressive", "#0072B2"),
    "one_layer": Look("one-layer progressive", "#D55E00"),
}
# Color and line of each row of latebloom.theory.controls, which has its label; a test holds that none is missing.
CONTROL_STYLES = {
    "fixed": ("#000000", "-"),
    "equal_compute": ("#777777", "--"),
    "cold_start": ("#E69F00", ":"),
    "small": ("#009E73", "-."),
    "small_equal_compute": ("#009E73", "--"),
    "depth_equal_compute": ("#56B4E9", "--"),
}

DEPTH_COLORS = (  # by number of blocks; the last one for all that are deeper
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#E69F00", "#56B4E9", "#56B4E9", "#777777",
)  # fmt: skip

OPTIMIZER_NAMES = {
    "muon_nsgd": "Muon-NSGD",
    "muon_adamw": "Muon-AdamW",
    "muon": "Muon",
    "adamw": "AdamW",
    "nsgd": "normalised SGD",
    "sgd": "SGD",
}


def depth_color(depth: int) -> str:
    """The color of a depth, small depths dark: the same in every figure.

    Args:
        depth: Number of blocks.
    """
    return DEPTH_COLORS[min(depth, len(DEPTH_COLORS) - 1)]


def look(name: str) -> Look:
    """How the run called ``name`` looks: a grown one or a control.

    Args:
        name: ``progressive``, ``zero_layer``, ``one_layer``, or of a control.

    Raises:
        InputError: if there is no such control.
    """
    if name in GROWN:
        return GROWN[name]
    named = control(name)
    return Look(named.label, *CONTROL_STYLES[named.row])


def plain_log_ticks(axes: Axes) -> None:
    """A logarithmic vertical axis of less than a decade: a few round numbers in full.

    Args:
        axes: Whose limits are set.
    """
    from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())


def told_depths(plan: Plan) -> str:
    """The depths that a run goes through, in words: '1 → 4 blocks'.

    Args:
        plan: Of the run.
    """
    depths = depths_passed(plan)
    return f"{depths} block{'' if depths == '1' else 's'}"


def plot_run(axes: Axes, record: Record, look: Look, *, against: str) -> None:
    """Validation loss, the last point marked.

    Args:
        axes: Where to draw.
        record: The run.
        look: How it looks.
        against: Column of the horizontal axis, ``step`` or ``flops``.
    """
    series = record.select(split="val")
    x, y = series[against].astype(float), series["value"]
    keep = x > 0
    axes.plot(x[keep], y[keep], look.line, color=look.color, label=look.label)
    axes.plot(x[-1:], y[-1:], "o", color=look.color, markersize=3)


def plot_seeds(axes: Axes, runs: Sequence[Record], look: Look, *, against: str) -> None:
    """Mean validation loss over seeds, and a band from the lowest to the highest.

    Args:
        axes: Where to draw.
        runs: One a seed, validated at the same steps.
        look: How they look.
        against: Column of the horizontal axis, ``step`` or ``flops``.
    """
    series = [record.select(split="val") for record in runs]
    x, losses = series[0][against].astype(float), np.array([each["value"] for each in series])
    keep = x > 0
    axes.plot(x[keep], losses.mean(axis=0)[keep], look.line, color=look.color, label=look.label)
    axes.plot(x[-1:], losses.mean(axis=0)[-1:], "o", color=look.color, markersize=3)
    if len(runs) > 1:
        low, high = losses.min(axis=0)[keep], losses.max(axis=0)[keep]
        axes.fill_between(x[keep], low, high, color=look.color, alpha=0.15, linewidth=0)


def plot_ends(axes: Axes, x: float, ends: np.ndarray, marker: str, *, color: str, label: str, size: float = 5) -> None:
    """The mean over seeds as a marker and, if there are several, each as a dash.

    Args:
        axes: Where to draw.
        x: Where on the horizontal axis.
        ends: One value a seed.
        marker: Of the mean, as matplotlib reads it.
        color: Of all.
        label: For the legend.
        size: Of the marker, points.
    """
    axes.plot([x], [ends.mean()], marker, color=color, label=label, markersize=size)
    if len(ends) > 1:
        axes.plot([x] * len(ends), ends, "_", color=color, label="_seeds", markersize=size)


def plot_predicted(axes: Axes, record: Record, *, against: str) -> None:
    """The plan's predicted curve, on the axis of the measured one; nothing if the plan predicts none.

    Args:
        axes: Where to draw.
        record: A run of the plan.
        against: Column of the horizontal axis, ``step`` or ``flops``.
    """
    curve = record.plan.predicted.curve
    if curve is None:
        return
    x = np.asarray(curve.step, dtype=float)
    if against == "flops":
        from latebloom.theory.cost import plan_flops

        x = np.array([plan_flops(record.plan, step) for step in curve.step])
    axes.plot(x, curve.loss, "-.", color="#0072B2", linewidth=1.0, label="predicted before the run")


def mark_expansion(axes: Axes, x: float, text: str) -> None:
    """A thin vertical line where the model grows.

    Args:
        axes: Where to draw.
        x: Where on the horizontal axis.
        text: What stands beside the line.
    """
    axes.axvline(x, color="#999999", linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
    axes.annotate(text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
                  va="top", ha="left", fontsize=7, color="#555555")  # fmt: skip


def loss_limits(axes: Axes, records: list[Record]) -> None:
    """Show where runs differ: every final loss, and curves from a third above the best one on.

    Args:
        axes: Whose vertical limits are set.
        records: The runs drawn there.
    """
    series = [record.select(split="val")["value"] for record in records]
    finals = [float(values[np.isfinite(values)][-1]) for values in series]
    best = min(finals)
    axes.set_ylim(0.97 * best, max(1.3 * best, 1.02 * max(finals)))
