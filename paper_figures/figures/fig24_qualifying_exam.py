"""Figure 24: which schedules can be good at all? The best bound of each, times the square root of the steps.

A schedule qualifies if its last-iterate bound at the best peak falls as 1/sqrt(T) (arXiv 2602.07145): its line is level
at last. Others rise for ever, as the logarithm of the steps. No run is needed
(:mod:`latebloom.theory.qualifying_exam`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.theory.bounds import last_iterate
from latebloom.theory.qualifying_exam import examine
from latebloom.theory.schedules import WSD, Constant, Cosine, InverseSqrt, Linear

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record
    from latebloom.theory.schedules import AnySchedule

RECORDS: list[str] = []
STEPS = 1000
SCHEDULES: dict[str, tuple[AnySchedule, str, str]] = {
    "linear to 0": (Linear(steps=STEPS, peak_lr=1.0), "#000000", "-"),
    "cosine to 0": (Cosine(steps=STEPS, peak_lr=1.0), "#0072B2", "-"),
    "WSD, decay 10 %": (WSD(steps=STEPS, peak_lr=1.0, decay_steps=100), "#D55E00", "-"),
    "WSD, decay 20 %": (WSD(steps=STEPS, peak_lr=1.0, decay_steps=200), "#E69F00", "-"),
    "cosine to 10 %": (Cosine(steps=STEPS, peak_lr=1.0, final=0.1), "#0072B2", "--"),
    "1/sqrt(t)": (InverseSqrt(steps=STEPS, peak_lr=1.0, timescale=50), "#009E73", "--"),
    "constant": (Constant(steps=STEPS, peak_lr=1.0), "#CC79A7", "--"),
}
HORIZONS = tuple(int(t) for t in np.geomspace(100, 100_000, 13))


def prepare(records: Mapping[str, Record]) -> dict[str, np.ndarray]:
    """sqrt(T) x best bound of each schedule at every horizon, in units of D G."""
    return {
        name: np.array(
            [last_iterate(s.with_steps(t).lrs(), distance=1.0, gradient=1.0).best_value * t**0.5 for t in HORIZONS]
        )
        for name, (s, _, _) in SCHEDULES.items()
    }


def make(bounds: dict[str, np.ndarray]) -> Figure:
    """One panel."""
    figure, axes = plt.subplots(figsize=(5.2, 3.0))
    for name, values in bounds.items():
        _, color, line = SCHEDULES[name]
        axes.plot(HORIZONS, values, line, color=color, label=name)
    axes.set(
        xscale="log",
        xlabel="steps T",
        ylabel="best bound × √T / (D G)",
        title="level at the end: the schedule qualifies",
    )
    axes.set_ylim(bottom=1.8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure


def caption(bounds: dict[str, np.ndarray]) -> str:
    """The caption, its numbers computed."""
    told = []
    for name, (schedule, _, _) in SCHEDULES.items():
        exam = examine(schedule)
        limit = f"{2 * exam.q1 * exam.q2:.3f}" if exam.q1 is not None and exam.q2 is not None else "grows without end"
        told.append(f"{name} {limit}")
    return (
        "How good can a schedule be at all? The bound of the last iterate's loss at the best peak learning rate, times "
        "√T, for convex losses (D: distance of the start from the optimum, G: largest gradient). Where it grows with "
        "T, dashed, the schedule does not qualify. In the limit of many steps: "
        f"{'; '.join(told)}."
    )
