"""Figure 6: warmup-stable-decay against cosine. How late may a run grow?

Left: final loss above the fixed depth, measured, against the step of the expansion. Right: the latest step that leaves
a given share of learning-rate area, as theory has it (:mod:`latebloom.theory.timing`): a cosine has spent its area
earlier, so a run must grow earlier under it.

Source: arXiv 2511.04981 finds limits of .8 T (WSD) and .4 to .5 T (cosine). Records: GPT-2 of width 64 on bytes of
novels, 400 steps, one schedule each; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.tables import Table
from latebloom.theory.timing import tau_cosine, tau_wsd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

SCHEDULES = {"wsd": ("warmup-stable-decay", "#D55E00"), "cosine": ("cosine", "#0072B2")}
TAUS = (100, 200, 280, 340)
RECORDS = [
    f"schedules/{kind}-{arm}_s0" for kind in SCHEDULES for arm in ("fixed", "small", *(f"grown-{tau}" for tau in TAUS))
]
MADE_BY = "latebloom train paper_figures/plans/schedules/NAME.json --data DIR"
DECAY = 0.1
PAPER = (0.10, 0.15)  # mixing area over peak rate x steps that explains both of the paper's limits


def gaps(records: Mapping[str, Record], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(tau/T, per cent above the fixed depth) of the runs grown under one schedule; at T the one never grown."""
    fixed = records[f"schedules/{kind}-fixed_s0"]
    runs = [records[f"schedules/{kind}-grown-{tau}_s0"] for tau in TAUS]
    share = [run.plan.tau / run.plan.steps for run in runs if run.plan.tau is not None]
    ends = [run.final() for run in (*runs, records[f"schedules/{kind}-small_s0"])]
    return np.array([*share, 1.0]), 100 * (np.array(ends) / fixed.final() - 1)


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    v = np.linspace(0.005, 0.45, 200)
    for kind, (label, color) in SCHEDULES.items():
        share, gap = gaps(records, kind)
        left.plot(share[:-1], gap[:-1], "o-", color=color, label=label)
        left.plot(share[-2:], gap[-2:], ":", color=color, label="_to never")
        left.plot(share[-1:], gap[-1:], "s", color=color, markerfacecolor="#ffffff", label=f"{label}, never grown")
        latest = [tau_wsd(1.0, DECAY, x) if kind == "wsd" else tau_cosine(1.0, x) for x in v]
        right.plot(v, latest, color=color, label=label)
    left.set(xlabel="expansion at τ/T", ylabel="final loss above 4 blocks (%)", title="measured", xlim=(0, 1.03))
    left.set_ylim(bottom=0)
    left.legend(fontsize=6.8)
    right.axvspan(*PAPER, color="#999999", alpha=0.25, linewidth=0)
    right.annotate("explains the\npaper's limits", (PAPER[1] + 0.01, 0.97), va="top", fontsize=7, color="#555555")
    right.set(xlabel="area that new layers need / (peak rate × T)", ylabel="latest τ/T", title="theory", ylim=(0, 1))
    right.legend(loc="lower left")
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """The left panel; tau/T = 1 stands for never grown."""
    rows = [
        (label, float(x), float(g))
        for kind, (label, _) in SCHEDULES.items()
        for x, g in zip(*gaps(records, kind), strict=True)
    ]
    return Table(("schedule", "tau/T", "above fixed depth (%)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    plan = records[RECORDS[0]].plan
    told = []
    for kind, (label, _) in SCHEDULES.items():
        share, gap = gaps(records, kind)
        ends = ", ".join(f"{g:.1f} % at {x:.2f} T" for x, g in zip(share[:-1], gap[:-1], strict=True))
        told.append(f"{label}: {ends}, never grown {gap[-1]:.1f} %")
    low, high = PAPER
    return (
        f"Grown from 1 to 4 blocks (GPT-2, width {plan.model.width}, bytes, {plan.steps} steps of {plan.batch_tokens} "
        "tokens, "
        f"n = 1 seed): final loss above four blocks from the start under the same schedule. {'; '.join(told)}. Right: "
        "with a "
        f"mixing area of {low:g} to {high:g} of peak rate times steps theory gives {tau_wsd(1.0, DECAY, high):.2f} to "
        f"{tau_wsd(1.0, DECAY, low):.2f} T under warmup-stable-decay and {tau_cosine(1.0, high):.2f} to "
        f"{tau_cosine(1.0, low):.2f} T under cosine."
    )
