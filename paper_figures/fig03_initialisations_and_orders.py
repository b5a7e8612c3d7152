"""Figure 3: how new blocks begin and where they stand, on Shakespeare.

Source: arXiv 2511.04981 finds copying slightly better than random from one layer, and the order 'last' worse than
'stack' and 'inter'. Here at the size of a laptop, one seed: tinyshakespeare, a BPE of 1024 trained on it, GPT-2 of 4
blocks of width 64, Muon-NSGD, WSD, 800 steps, grown at 0.7 of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from paper_figures.curves import Look, loss_limits, mark_expansion, plot_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from theory.record import Record

ARMS = {
    "fixed_4": Look("fixed depth", "#000000"),
    "2_to_4_stack": Look("2 → 4, copied, stack", "#0072B2"),
    "2_to_4_inter": Look("2 → 4, copied, inter", "#0072B2", "--"),
    "2_to_4_last": Look("2 → 4, copied, last", "#0072B2", ":"),
    "1_to_4_random": Look("1 → 4, random", "#D55E00"),
    "1_to_4_copy": Look("1 → 4, copied", "#D55E00", "--"),
    "0_to_4_random": Look("0 → 4, random", "#009E73"),
}
RECORDS = [f"shakespeare_{arm}" for arm in ARMS]


def make(records: dict[str, Record]) -> Figure:
    """Left the curves, right the final losses of the runs that started with blocks."""
    figure, (curves, finals) = plt.subplots(1, 2, width_ratios=(1.3, 1))
    runs = {arm: records[f"shakespeare_{arm}"] for arm in ARMS}
    for arm, record in runs.items():
        plot_run(curves, record, ARMS[arm], against="step")
    tau = runs["1_to_4_random"].plan.tau
    assert tau is not None
    mark_expansion(curves, tau, "grow")
    loss_limits(curves, list(runs.values()))
    curves.set(xlabel="iterations", ylabel="validation loss (nats/token)")
    shown = [arm for arm in ARMS if not arm.startswith("0")]
    for place, arm in enumerate(reversed(shown)):
        finals.plot([runs[arm].final()], [place], "o", color=ARMS[arm].color, label=ARMS[arm].label)
    finals.set_yticks(range(len(shown)), [ARMS[arm].label for arm in reversed(shown)])
    finals.set(xlabel="final validation loss", title="final, without 0 → 4")
    curves.legend(loc="lower left", fontsize=6)
    return figure


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    final = {arm: records[f"shakespeare_{arm}"].final() for arm in ARMS}
    plan = records["shakespeare_1_to_4_random"].plan
    text = ", ".join(f"{ARMS[arm].label} {loss:.3f}" for arm, loss in sorted(final.items(), key=lambda item: item[1]))
    return (
        f"Tinyshakespeare, grown at step {plan.tau} of {plan.steps}, one seed; differences of .005 are not more than "
        f"seeds make: {text} nats per token."
    )
