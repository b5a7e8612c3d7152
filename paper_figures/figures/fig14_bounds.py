"""Figure 14: what convex bounds say of measured runs, and what they do not.

Left: the last-iterate bound with floor, distance and gradient norm fitted to the loss under warmup-stable-decay, then
asked for cosine. Right: the published bound of growing (arXiv 2511.04981), whose difference to the fixed depth's is the
share of area before the expansion times the small depth's gap, beside the measured difference.

The bounds are worst cases: their difference bounds no difference of losses (docs/derivation.md, section 6).
Records: those of figure 6 and of the demo's corpus and model, see figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.figures.fig05_mixing_after_expansion import FIXED, SEEDS, SMALL
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.laws import fit_law
from latebloom.theory.landscapes.classical import ConvexBound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

CURVES = {"wsd": ("warmup-stable-decay, fitted", "#D55E00"), "cosine": ("cosine, predicted", "#0072B2")}
DEMO = [f"demo_scale/s{seed}_{name}" for seed in (0, 1, 2) for name in (FIXED, SMALL)]
GROWN = [f"demo_scale/s{seed}_grown-{tau}" for tau in sorted(SEEDS) for seed in SEEDS[tau]]
RECORDS = [*(f"schedules/{kind}-fixed_s0" for kind in CURVES), *DEMO, *GROWN]
BEGIN = 0.1  # share of the steps that is not fitted: the warm-up's transient


class Compared(NamedTuple):
    """Measured and bound: the curves by schedule, and the gaps of grown runs by expansion step."""

    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # step, measured, bound
    gaps: list[tuple[int, int, float, float]]  # tau, seed, measured, bound; nats
    shares: np.ndarray  # area before the expansion, at every fortieth of the steps
    small_gap: float


def prepare(records: Mapping[str, Record]) -> Compared:
    """Fit the bound to one schedule, and evaluate both bounds."""
    runs = {}
    for kind in CURVES:
        record = records[f"schedules/{kind}-fixed_s0"]
        step, loss = record.curve()
        late = step > BEGIN * record.plan.steps
        runs[kind] = LossCurve(name=kind, schedule=record.plan.schedule, step=step[late], loss=loss[late])
    law = fit_law(ConvexBound, [runs["wsd"]]).law
    curves = {k: (c.step, c.loss, np.asarray(law.loss(c.schedule, c.step))) for k, c in runs.items()}
    final = {name: record.final() for name, record in records.items()}
    small_gaps = {s: final[f"demo_scale/s{s}_{SMALL}"] - final[f"demo_scale/s{s}_{FIXED}"] for s in (0, 1, 2)}
    gaps = []
    for tau in sorted(SEEDS):
        for seed in SEEDS[tau]:
            name = f"demo_scale/s{seed}_grown-{tau}"
            spent = 1 - float(records[name].plan.schedule.remaining(tau))
            measured = final[name] - final[f"demo_scale/s{seed}_{FIXED}"]
            gaps.append((tau, seed, measured, spent * small_gaps[seed]))
    schedule = records[f"demo_scale/s0_{FIXED}"].plan.schedule
    shares = 1 - schedule.remaining(np.linspace(0, schedule.horizon, 41))
    return Compared(curves, gaps, shares, float(np.mean(list(small_gaps.values()))))


def make(compared: Compared) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for kind, (label, color) in CURVES.items():
        step, loss, bound = compared.curves[kind]
        left.plot(step, loss, "o", color=color, markersize=3, label=f"{label.split(',')[0]}, measured")
        left.plot(step, bound, "-", color=color, label=label)
    left.set(xlabel="steps", ylabel="validation loss (nats/token)", title="the last-iterate bound")
    left.legend()
    taus = np.linspace(0, 800, 41)
    right.plot(taus, compared.small_gap * compared.shares, color="#000000", label="difference of the bounds")
    for seed, marker in zip((0, 1, 2), "os^", strict=True):
        here = [(tau, measured) for tau, s, measured, _ in compared.gaps if s == seed]
        right.plot(*zip(*here, strict=True), marker, color="#D55E00", label=f"measured, seed {seed}", markersize=4)
    right.set(xlabel="expansion at step", ylabel="grown − fixed depth (nats/token)", title="the bound of growing")
    right.set_ylim(bottom=0)
    right.legend(loc="lower right")
    return figure


def caption(compared: Compared) -> str:
    """The caption, its numbers computed."""
    errors = {kind: np.mean(np.abs(bound / loss - 1)) for kind, (_, loss, bound) in compared.curves.items()}
    measured, bound = (np.array([gap[i] for gap in compared.gaps]) for i in (2, 3))
    return (
        "Left: the bound of the last iterate, its three constants fitted to one run under warmup-stable-decay (mean "
        "error "
        f"{errors['wsd']:.2%}), predicts the run under cosine with {errors['cosine']:.2%} (n = 1 seed). Right: the "
        "difference of the "
        "published bounds of growing and of the fixed depth (1 to 4 blocks, 800 steps) beside measured differences of "
        f"{len(measured)} runs, three seeds: measured over bound {np.median(measured / bound):.2f} in the median, from "
        f"{(measured / bound).min():.2f} to {(measured / bound).max():.2f}. It grows with the step in both."
    )
