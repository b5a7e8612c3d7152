"""Figure 1: fixed depth against zero- and one-layer progressive training, against iterations and against compute.

Source: arXiv 2511.04981, figure 1, here at the size of a laptop and with the two controls that the paper does not have,
the fixed-depth run of equal compute and never growing.

Records: `latebloom demo` (fixed, equal_compute, progressive as one_layer, pilots/small), and for zero_layer the same
plan from depth 0, `latebloom plan --model gpt2-tiny --steps 800 --batch-tokens 768 --peak-lr 0.015 --small-depth 0
--u-mix-area AREA` with the demo's mixing area, trained on the demo's data; each written by `latebloom record RUN
--parquet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from latebloom.paper_figures.curves import look, loss_limits, mark_expansion, plot_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["stdlib_fixed", "stdlib_equal_compute", "stdlib_small", "stdlib_zero_layer", "stdlib_one_layer"]


def make(records: dict[str, Record]) -> Figure:
    """Two panels, one line a run."""
    figure, (steps, compute) = plt.subplots(1, 2, sharey=True)
    for name, record in records.items():
        shown = look(name.removeprefix("stdlib_"))
        plot_run(steps, record, shown, against="step")
        plot_run(compute, record, shown, against="flops")
    one = records["stdlib_one_layer"]
    assert one.plan.tau is not None
    mark_expansion(steps, one.plan.tau, f"grow to {one.plan.depth}")
    loss_limits(steps, list(records.values()))
    steps.set(xlabel="iterations", ylabel="validation loss (nats/token)", title="against iterations")
    compute.set(xlabel="training FLOPs", title="against compute")
    compute.legend(loc="upper right")
    return figure


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    final = {name.removeprefix("stdlib_"): record.final() for name, record in records.items()}
    plan = records["stdlib_one_layer"].plan
    return (
        f"Validation loss of a {plan.model.name} (width {plan.model.width}, {plan.depth} blocks, vocabulary "
        f"{plan.model.vocab_size}) on the Python standard library: fixed {final['fixed']:.3f}, fixed at equal compute "
        f"{final['equal_compute']:.3f}, grown at step {plan.tau} of {plan.steps} from one block "
        f"{final['one_layer']:.3f} and from none {final['zero_layer']:.3f}, one block never grown {final['small']:.3f} "
        "nats per token."
    )
