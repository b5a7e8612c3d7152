"""Figure 16: growing GPT-2's blocks and LLAMA3-like blocks (RMSNorm, rotary positions, grouped queries, SwiGLU).

Left: loss of the fixed depth and of the run that grows at half of the steps. Right: final losses of every control.

Records: width 64 on bytes of novels, 400 steps of 1024 tokens, 1 to 4 blocks at step 200; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, plot_ends, plot_seeds
from latebloom.paper_figures.seeds import finals, records_of_seeds, runs_of, told_mean, told_seeds
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
            "fixed": "schedules/wsd-fixed",
            "grown": "schedules/wsd-grown-200",
            "small": "schedules/wsd-small",
            "equal_compute": "architectures_gpt2/equal_compute",
            "small_equal_compute": "architectures_gpt2/small_equal_compute",
        },
    ),
    "llama": (
        "LLAMA3-like",
        "#D55E00",
        {
            arm: f"architectures/llama-{arm}"
            for arm in ("fixed", "grown", "small", "equal_compute", "small_equal_compute")
        },
    ),
}
ARMS = {  # label and marker
    "fixed": ("4 blocks", "s"),
    "grown": ("1 → 4 at half", "D"),
    "small": ("1 block", "^"),
    "equal_compute": ("4 blocks, equal compute", "o"),
    "small_equal_compute": ("1 block, equal compute", "v"),
}
RECORDS = records_of_seeds(name for _, _, arms in FAMILIES.values() for name in arms.values())
MADE_BY = "latebloom train paper_figures/plans/architectures/NAME.json (or architectures_gpt2) --data DIR"


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for label, color, arms in FAMILIES.values():
        for arm, line in (("fixed", "-"), ("grown", "--")):
            runs = list(runs_of(records, arms[arm]).values())
            plot_seeds(left, runs, Look(f"{label}, {ARMS[arm][0]}", color, line), against="step")
        for arm, (told, marker) in ARMS.items():
            cost = plan_flops(runs_of(records, arms[arm])[0].plan)
            plot_ends(right, cost, finals(records, arms[arm]), marker, color=color, label=f"_{label}, {told}")
    for told, marker in ARMS.values():
        right.plot([], [], marker, color="#555555", label=told)
    lowest = [record.final() for record in records.values()]
    left.set(xlabel="steps", ylabel="validation loss (nats/token)", title="runs of 400 steps")
    left.set_ylim(min(lowest) * 0.97, max(lowest) * 1.45)
    left.legend()
    right.set(xlabel="training FLOPs", ylabel="final loss (nats/token)", title="every control")
    right.margins(x=0.12)
    right.set_ylim(min(lowest) - 0.1 * np.ptp(lowest), max(lowest) + 0.65 * np.ptp(lowest))  # room for the legend
    right.legend(fontsize=6.3, loc="upper right")
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every run's end."""
    rows = []
    for label, _, arms in FAMILIES.values():
        for arm, (told, _) in ARMS.items():
            for seed, record in runs_of(records, arms[arm]).items():
                rows.append((label, told, float(plan_flops(record.plan)), seed, record.final()))
    return Table(("architecture", "run", "FLOPs", "seed", "final loss"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told, counts = [], []
    for label, _, arms in FAMILIES.values():
        final = {arm: told_mean(finals(records, name), ".3f") for arm, name in arms.items()}
        counts += [len(runs_of(records, name)) for name in arms.values()]
        plan = runs_of(records, arms["fixed"])[0].plan
        price = flops_per_token(plan.model, 1) / flops_per_token(plan.model, plan.depth)
        told.append(
            f"{label} (a step of 1 block costs {price:.2f} of one of 4): 4 blocks {final['fixed']}, grown "
            f"{final['grown']}, never grown {final['small']}; for the compute of the grown run 4 blocks "
            f"{final['equal_compute']}, 1 block {final['small_equal_compute']}"
        )
    return (
        "Two families of blocks on one skeleton, grown from 1 to 4 blocks at half of 400 steps (width 64, bytes, "
        f"{told_seeds(counts)}). Final losses in nats: {'. '.join(told)}."
    )
