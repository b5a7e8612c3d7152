"""Figure 1: fixed depths against zero- and one-layer progressive training, against steps and against compute.

Source: arXiv 2511.04981, figure 1, here at the size of a laptop and with the controls that the paper does not have: the
fixed depths of equal compute, the small one, never grown, among them.

Records: of a progressive run from one block, its controls (:mod:`latebloom.theory.controls`), and for zero_layer the
same plan from depth 0, `latebloom plan --model gpt2-tiny --steps 800 --batch-tokens 768 --peak-lr 0.015 --small-depth 0
--u-mix-area AREA`, all trained on the demo's data with one seed; those of demo_scale are branches of constant-rate
trunks. Each was written by `latebloom record RUN --parquet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from latebloom.paper_figures.curves import look, loss_limits, mark_expansion, plot_run, told_depths
from latebloom.theory.cost import plan_flops
from latebloom.theory.words import amount_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RUNS = {  # what each record is beside the one-layer run
    "stdlib_fixed": "fixed",
    "stdlib_small": "small",
    "stdlib_equal_compute": "equal_compute",
    "stdlib_cold_start": "cold_start",
    "demo_scale/s0_two-760": "depth_equal_compute-2",
    "demo_scale/s0_small-942": "small_equal_compute",
    "stdlib_zero_layer": "zero_layer",
    "stdlib_one_layer": "one_layer",
}
RECORDS = list(RUNS)
GROWN = "stdlib_one_layer"
EQUAL_COMPUTE = 0.01  # relative: runs whose FLOPs differ by less spend the same


def make(records: dict[str, Record]) -> Figure:
    """Two panels, one line a run; a vertical line marks the compute of the run that grows from one block."""
    figure, (steps, compute) = plt.subplots(1, 2, sharey=True)
    for name, record in records.items():
        shown = look(RUNS[name])
        shown = shown._replace(label=_label(RUNS[name], record))
        plot_run(steps, record, shown, against="step")
        plot_run(compute, record, shown, against="flops")
    plan = records[GROWN].plan
    assert plan.tau is not None
    mark_expansion(steps, plan.tau, f"grow to {plan.depth}")
    mark_expansion(compute, plan_flops(plan), "")
    best = _menu(records)[0]
    compute.annotate(
        f"lowest: {told_depths(best.plan)}", (plan_flops(best.plan), best.final()), xytext=(8, -2),
        textcoords="offset points", va="top", ha="left", fontsize=7,
    )  # fmt: skip
    loss_limits(steps, list(records.values()))
    steps.set(xlabel="steps", ylabel="validation loss (nats/token)", title="against steps")
    compute.set(xlabel="training FLOPs", title="against compute")
    figure.legend(*compute.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _label(run: str, record: Record) -> str:
    """Depths, and what else tells the run from others: '4 blocks, equal compute'."""
    what = {"cold_start": ", cold start"}.get(run, ", equal compute" if "equal_compute" in run else "")
    return told_depths(record.plan) + what


def _menu(records: dict[str, Record]) -> list[Record]:
    """The runs that spend what the one-layer run does, it among them, lowest final loss first."""
    spent = plan_flops(records[GROWN].plan)
    equal = [record for record in records.values() if abs(plan_flops(record.plan) / spent - 1) < EQUAL_COMPUTE]
    return sorted(equal, key=lambda record: record.final())


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    final = {RUNS[name]: record.final() for name, record in records.items()}
    plan = records[GROWN].plan
    menu = _menu(records)
    grown = plan.tau is not None and menu[0].plan.tau is not None
    fixed = amount_text(plan_flops(records["stdlib_fixed"].plan))
    ends = ", ".join(f"{told_depths(record.plan)} {record.final():.3f}" for record in menu)
    return (
        f"Validation loss of a {plan.model.name} (width {plan.model.width}, vocabulary {plan.model.vocab_size}) on the "
        f"Python standard library, one seed. Final losses at the compute of growing 1 → {plan.depth} at step "
        f"{plan.tau} of {plan.steps} ({amount_text(plan_flops(plan))} FLOPs), in nats per token: {ends}; "
        f"{'growing is best' if grown else 'growing is not worth it'} here. Four blocks from the start end at "
        f"{final['fixed']:.3f} after as many steps, for {fixed} FLOPs; from a "
        f"cold start (only the steps after the expansion) {final['cold_start']:.3f}; grown from no block "
        f"{final['zero_layer']:.3f}."
    )
