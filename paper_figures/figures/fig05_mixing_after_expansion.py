"""Figure 5: does a grown run catch up with the run that had its full depth from the start, and how fast?

Left: the loss of runs that grow from 1 to 4 blocks at different steps, beside both fixed depths. Right: how far each is
above the fixed run of 4 blocks, in per cent, against the steps since it grew. The published claim is that the gap
closes ("mixes") within a short, fixed number of steps whenever the run grows before the learning rate decays.

Source: arXiv 2511.04981, on mixing. Records: those of the demo's corpus and model, see figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, plot_run
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

SEEDS = {160: (0, 1, 2), 360: (0, 1, 2), 600: (0, 1, 2), 80: (0,), 480: (0,), 680: (0,)}  # by expansion step
FIXED, SMALL = "full-800", "small-800"
TOLERANCE = 1.0  # per cent, within which the paper calls a grown run mixed
RECORDS = list(
    dict.fromkeys(
        [f"demo_scale/s{seed}_{name}" for seed in (0, 1, 2) for name in (FIXED, SMALL)]
        + [f"demo_scale/s{seed}_grown-{tau}" for tau in sorted(SEEDS) for seed in SEEDS[tau]]
    )
)


def gap_curve(grown: Record, fixed: Record) -> tuple[np.ndarray, np.ndarray]:
    """(steps since the expansion, per cent above the fixed run), where the grown run was validated after it."""
    step, loss = grown.curve()
    reference_step, reference = fixed.curve()
    tau = grown.plan.tau or 0
    after = step > tau
    at = np.interp(np.log(step[after]), np.log(np.maximum(reference_step, 1)), reference)
    return step[after] - tau, 100 * (loss[after] / at - 1)


def make(records: Mapping[str, Record]) -> Figure:
    """Left: losses of seed 0. Right: gaps of every seed."""
    figure, (left, right) = plt.subplots(1, 2)
    taus = sorted(SEEDS)
    colors = dict(zip(taus, plt.get_cmap("viridis")(np.linspace(0, 0.88, len(taus))), strict=True))
    plot_run(left, records[f"demo_scale/s0_{FIXED}"], Look("4 blocks from the start", "#000000"), against="step")
    plot_run(left, records[f"demo_scale/s0_{SMALL}"], Look("1 block, never grown", "#777777", "--"), against="step")
    for tau in taus:
        grown = records[f"demo_scale/s0_grown-{tau}"]
        step, _ = grown.curve()
        label = f"grown at {tau}"
        after = np.searchsorted(step, tau)
        x, y = grown.curve()
        left.plot(x[after:], y[after:], color=colors[tau], label=label)
        for seed in SEEDS[tau]:
            fixed = records[f"demo_scale/s{seed}_{FIXED}"]
            since, gap = gap_curve(records[f"demo_scale/s{seed}_grown-{tau}"], fixed)
            shown = label if seed == 0 else f"_{label}, seed {seed}"
            right.plot(since, gap, color=colors[tau], alpha=1 if seed == 0 else 0.45, label=shown,
                       linewidth=1.4 if seed == 0 else 0.8)  # fmt: skip
    right.axhspan(-TOLERANCE, TOLERANCE, color="#999999", alpha=0.2, linewidth=0)
    right.axhline(0, color="#999999", linewidth=0.7)
    right.set(xscale="log", xlabel="steps since the expansion", ylabel="loss above 4 blocks (%)", ylim=(-1.3, 4))
    right.set_title("distance to the fixed depth, band 1 %")
    left.set(xlabel="steps", ylabel="validation loss (nats/token)", title="runs of 800 steps", ylim=(4.4, 6.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every point of the right panel."""
    rows = []
    for tau in sorted(SEEDS):
        for seed in SEEDS[tau]:
            fixed = records[f"demo_scale/s{seed}_{FIXED}"]
            since, gap = gap_curve(records[f"demo_scale/s{seed}_grown-{tau}"], fixed)
            rows += [(tau, seed, int(s), float(g)) for s, g in zip(since, gap, strict=True)]
    return Table(("expansion step", "seed", "steps since", "above fixed depth (%)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    ends, inside, total = [], 0, 0
    for tau in sorted(SEEDS):
        gaps = [
            100 * (records[f"demo_scale/s{s}_grown-{tau}"].final() / records[f"demo_scale/s{s}_{FIXED}"].final() - 1)
            for s in SEEDS[tau]
        ]
        inside, total = inside + sum(gap <= TOLERANCE for gap in gaps), total + len(gaps)
        ends.append(f"{np.mean(gaps):.1f} % (grown at {tau}, n = {len(gaps)})")
    return (
        "Runs that grow from 1 to 4 blocks at different steps of 800 (warmup-stable-decay, decay over the last 80), "
        "against four blocks from the start. At the last step they lie above it by " + ", ".join(ends) + ", means over "
        f"n seeds; thin lines are seeds 1 and 2. {inside} of {total} end inside the band of {TOLERANCE:g} %, within "
        "which a run "
        "counts as mixed."
    )
