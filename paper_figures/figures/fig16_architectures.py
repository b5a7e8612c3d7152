"""Figure 16: growing GPT-2's blocks and LLAMA3-like blocks (RMSNorm, rotary positions, grouped queries, SwiGLU).

Left: loss of the fixed depth and of the run that grows at half of the steps. Right: final losses of every control.

Records: width 64 on bytes of novels, 400 steps of 1024 tokens, 1 to 4 blocks at step 200; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from latebloom.paper_figures.tables import Table
from latebloom.theory.cost import flops_per_token, plan_flops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

FAMILIES = {  # by family: label, color, and its arms' records
    "gpt2": (
        "GPT-2",
        "#0072B2",
        {
            "fixed": "schedules/wsd-fixed_s0",
            "grown": "schedules/wsd-grown-200_s0",
            "small": "schedules/wsd-small_s0",
        },
    ),
    "llama": (
        "LLAMA3-like",
        "#D55E00",
        {
            "fixed": "architectures/llama-fixed_s0",
            "grown": "architectures/llama-grown_s0",
            "small": "architectures/llama-small_s0",
        },
    ),
}
ARMS = {"fixed": "4 blocks", "grown": "1 → 4 at half", "small": "1 block, never grown"}
RECORDS = [name for _, _, arms in FAMILIES.values() for name in arms.values()]
MADE_BY = "latebloom train paper_figures/plans/architectures/NAME.json --data DIR"


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for label, color, arms in FAMILIES.values():
        for arm, line in (("fixed", "-"), ("grown", "--")):
            step, loss = records[arms[arm]].curve()
            left.plot(step[1:], loss[1:], line, color=color, label=f"{label}, {ARMS[arm]}")
        costs = [plan_flops(records[arms[arm]].plan) for arm in ARMS]
        losses = [records[arms[arm]].final() for arm in ARMS]
        for told, cost, end, marker in zip(ARMS.values(), costs, losses, "sD^", strict=True):
            right.plot([cost], [end], marker, color=color, label=f"{label}, {told}")
    finals = [records[name].final() for name in RECORDS]
    left.set(xlabel="iterations", ylabel="validation loss (nats/token)", title="runs of 400 steps")
    left.set_ylim(min(finals) * 0.97, max(finals) * 1.3)
    left.legend()
    right.set(xlabel="training FLOPs", ylabel="final validation loss", title="every arm")
    right.margins(0.15)
    right.legend(fontsize=6.5)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every run's end."""
    rows = []
    for label, _, arms in FAMILIES.values():
        for arm, told in ARMS.items():
            record = records[arms[arm]]
            rows.append((label, told, float(plan_flops(record.plan)), record.final()))
    return Table(("architecture", "run", "FLOPs", "final loss"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = []
    for label, _, arms in FAMILIES.values():
        final = {arm: records[name].final() for arm, name in arms.items()}
        plan = records[arms["fixed"]].plan
        price = flops_per_token(plan.model, 1) / flops_per_token(plan.model, plan.depth)
        told.append(
            f"{label} (a step of 1 block costs {price:.2f} of one of 4): 4 blocks {final['fixed']:.3f}, grown "
            f"{final['grown']:.3f}, never grown {final['small']:.3f}"
        )
    return (
        "Two families of blocks on one skeleton, grown from 1 to 4 blocks at half of 400 steps (width 64, bytes, n = "
        "1 seed). "
        f"Final losses in nats: {'; '.join(told)}."
    )
