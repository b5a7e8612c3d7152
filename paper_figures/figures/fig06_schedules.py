"""Figure 6: warmup-stable-decay against cosine. How late may a run grow?

Left: final loss above the fixed depth of the same seed, measured, against the step of the expansion. Right: the latest
step that leaves a given share of learning-rate area, as theory has it (:mod:`latebloom.theory.timing`): a cosine has
spent its area earlier, so a run must grow earlier under it.

Source: arXiv 2511.04981 finds limits of .8 T (WSD) and .4 to .5 T (cosine). Records: GPT-2 of width 64 on bytes of
novels, 400 steps, one schedule each, all seeds that there are; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.seeds import above, finals, records_of_seeds, told_mean, told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.timing import tau_cosine, tau_wsd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

SCHEDULES = {"wsd": ("warmup-stable-decay", "#D55E00"), "cosine": ("cosine", "#0072B2")}
TAUS = (100, 200, 280, 340)
RECORDS = records_of_seeds(
    f"schedules/{kind}-{arm}" for kind in SCHEDULES for arm in ("fixed", "small", *(f"grown-{tau}" for tau in TAUS))
)
MADE_BY = "latebloom train paper_figures/plans/schedules/NAME.json --data DIR"
DECAY = 0.1
PAPER = (0.10, 0.15)  # mixing area over peak rate x steps that explains both of the paper's limits


MIXED = 1.0  # per cent above the fixed depth, within which the paper calls a grown run mixed


def gaps(records: Mapping[str, Record], kind: str) -> dict[float, np.ndarray]:
    """By tau/T: per cent above the fixed depth, one a seed, of the runs grown under one schedule; 1 is never grown."""
    fixed = finals(records, f"schedules/{kind}-fixed").mean()
    shares = {tau / records[f"schedules/{kind}-fixed_s0"].plan.steps: f"grown-{tau}" for tau in TAUS} | {1.0: "small"}
    return {
        share: 100 * above(records, f"schedules/{kind}-{arm}", f"schedules/{kind}-fixed") / fixed
        for share, arm in shares.items()
    }


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    v = np.linspace(0.005, 0.45, 200)
    for kind, (label, color) in SCHEDULES.items():
        found = gaps(records, kind)
        share, gap = list(found), [values.mean() for values in found.values()]
        left.plot(share[:-1], gap[:-1], "o-", color=color, label=label)
        left.plot(share[-2:], gap[-2:], ":", color=color, label="_to never")
        left.plot(share[-1:], gap[-1:], "s", color=color, markerfacecolor="#ffffff", label=f"{label}, never grown")
        for x, values in found.items():
            if len(values) > 1:
                left.plot([x] * len(values), values, "_", color=color, label="_seeds", markersize=6)
        latest = [tau_wsd(1.0, DECAY, x) if kind == "wsd" else tau_cosine(1.0, x) for x in v]
        right.plot(v, latest, color=color, label=label)
    left.set(xlabel="expansion at τ/T", ylabel="final loss above 4 blocks (%)", title="measured", xlim=(0, 1.03))
    left.set_ylim(bottom=0)
    left.legend(fontsize=6.8)
    right.axvspan(*PAPER, color="#999999", alpha=0.25, linewidth=0)
    right.annotate("explains the\npaper's limits", (PAPER[1] + 0.01, 0.97), va="top", fontsize=7, color="#555555")
    right.set(xlabel="area needed / (peak rate × T)", ylabel="latest τ/T", title="theory", ylim=(0, 1))
    right.legend(loc="lower left")
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """The left panel, one row a seed; tau/T = 1 stands for never grown."""
    rows = [
        (label, share, float(gap))
        for kind, (label, _) in SCHEDULES.items()
        for share, values in gaps(records, kind).items()
        for gap in values
    ]
    return Table(("schedule", "tau/T", "above fixed depth (%)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    plan = records[RECORDS[0]].plan
    told, mixed, counts = [], [], []
    for kind, (label, _) in SCHEDULES.items():
        found = gaps(records, kind)
        counts += [len(values) for values in found.values()]
        mixed += [label for share, values in found.items() if share < 1 and values.mean() <= MIXED]
        ends = [f"{told_mean(values, '.1f', ' %')} at {share:.2f} T" for share, values in found.items() if share < 1]
        told.append(f"{label}: {', '.join(ends)}, never grown {told_mean(found[1.0], '.1f', ' %')}")
    low, high = PAPER
    return (
        f"Grown from 1 to 4 blocks (GPT-2, width {plan.model.width}, bytes, {plan.steps} steps of {plan.batch_tokens} "
        f"tokens, {told_seeds(counts)}): final loss above four blocks from the start under the same schedule"
        f"{', mean and standard error' if max(counts) > 1 else ''}. {'; '.join(told)}. "
        f"{len(mixed) or 'None'} of these comes within {MIXED:g} %, where the paper calls a run mixed. Right: with a "
        f"mixing area of {low:g} to {high:g} of peak rate times steps theory gives {tau_wsd(1.0, DECAY, high):.2f} to "
        f"{tau_wsd(1.0, DECAY, low):.2f} T under warmup-stable-decay and {tau_cosine(1.0, high):.2f} to "
        f"{tau_cosine(1.0, low):.2f} T under cosine."
    )
