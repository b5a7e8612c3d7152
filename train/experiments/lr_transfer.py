"""Tune small, train large: a learning-rate sweep at a small size, and the optimum that it predicts at the target.

Each learning rate is a fixed-depth run of the small plan; the loss is a parabola in ln eta around its minimum, whose
vertex is the optimum (refused if it lies outside the sweep). At the target it is multiplied by (T_small/T_target)^h and
each kind of parameter by its factor of :mod:`latebloom.theory.plan_transfer`, which the trainer applies under a plan
whose ``optimizer.base`` is the small size. h is fitted to sweeps at further horizons, where such are asked for
(:func:`latebloom.theory.transfer.fit_horizon_exponent`); else it is assumed to be 1/2, as of convex losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from latebloom.theory.controls import fixed_depth
from latebloom.theory.errors import InputError
from latebloom.theory.menu import schedule_for
from latebloom.theory.plan import Base, Plan
from latebloom.theory.plan_transfer import size_factors
from latebloom.theory.transfer import fit_horizon_exponent, horizon_exponent
from latebloom.train.config import TrainConfig
from latebloom.train.run.checkpoint import NonFiniteWeights
from latebloom.train.run.several import check_reuse, run_one
from latebloom.train.run.trainee import NonFiniteLoss

__all__ = ["LRTransfer", "lr_transfer", "plot", "transfer_text", "vertex"]

CONVEX = 1.0  # signal exponent of the convex bound, whose horizon law is eta_ref/sqrt(T)


@dataclass(frozen=True, kw_only=True)
class LRTransfer:
    """The sweep, its optimum, and what it predicts at the target by kind of parameter.

    Attributes:
        optimizer: Of every run.
        lrs: Peak learning rates of the sweep, increasing.
        losses: Final validation losses, nats per token; infinite where a run diverged.
        optimum: Peak learning rate of the small size.
        horizon_exponent: h.
        optima: Best rate of each horizon that was swept, (steps, rate), the small plan's first.
        horizon_factor: (T_small/T_target)^h.
        target_peak_lr: Their product.
        base: Size at which the rates hold.
        factors: Of the target's learning rate, by kind of parameter.
    """

    optimizer: str
    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    optimum: float
    horizon_exponent: float
    optima: tuple[tuple[int, float], ...]
    horizon_factor: float
    target_peak_lr: float
    base: Base
    factors: dict[str, float]

    def as_dict(self) -> dict:
        """Plain data, for ``--json``; the loss of a run that diverged is null."""
        losses = [loss if math.isfinite(loss) else None for loss in self.losses]
        base = {"width": self.base.width, "depth": self.base.depth}
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"losses": losses, "base": base}


def lr_transfer(
    plan: Plan,
    *,
    data: Path,
    out: Path,
    lrs: Sequence[float],
    width: int,
    depth: int,
    steps: int,
    horizons: Sequence[int] = (),
    config: TrainConfig | None = None,
    on_run: Callable[[float, float], None] | None = None,
) -> LRTransfer:
    """Sweep ``lrs`` over the small ``plan`` and predict the optimum at the target.

    Args:
        plan: The small run; its peak learning rate is replaced. If it has an ``optimizer.base``, rates are those there.
        data: Directory of token shards.
        out: Directory of the runs; those of an earlier call are not repeated, and go on if it was interrupted.
        lrs: At least four, increasing.
        width: Of the target.
        depth: Of the target, in blocks.
        steps: Of the target.
        horizons: Further steps at which the sweep is made, for h.
        config: How to run.
        on_run: Called with learning rate and loss.

    Raises:
        InputError: if there are too few rates, the minimum lies outside them, or a run stands in ``out`` under the name
            of one of these and is of another plan, other data or another seed.
    """
    if len(lrs) < 4 or any(b <= a for a, b in pairwise(lrs)):
        raise InputError("--lrs", list(lrs), "must be four or more, increasing", "give such as 0.005,0.01,0.02,0.04")
    if not (width >= 1 and depth >= 1 and steps >= 1):
        raise InputError("target", (width, depth, steps), "must be positive", "give --width, --depth and --steps")
    config = config or TrainConfig()
    swept = {}
    for horizon in dict.fromkeys((plan.steps, *horizons)):
        end = "" if horizon == plan.steps else f"-{horizon}"
        schedule = plan.schedule if horizon == plan.steps else schedule_for(plan.schedule, horizon)
        swept[horizon] = [fixed_depth(plan, name=f"lr-{lr:g}{end}", schedule=schedule.with_peak(lr)) for lr in lrs]
    check_reuse([run for runs in swept.values() for run in runs], data, out, config=config)
    losses: dict[int, list[float]] = {horizon: [] for horizon in swept}
    for horizon, runs in swept.items():
        for lr, run in zip(lrs, runs, strict=True):
            losses[horizon].append(_final(run, data, out / run.name, config))
            if on_run:
                on_run(lr, losses[horizon][-1])
    optima = {horizon: vertex(lrs, of_one) for horizon, of_one in losses.items()}
    exponent = horizon_exponent(CONVEX)
    if len(optima) > 1:
        exponent = fit_horizon_exponent([*optima], [*optima.values()]).exponent
    best, factor = optima[plan.steps], (plan.steps / steps) ** exponent
    base = plan.optimizer.base or Base(width=plan.model.width, depth=max(plan.depth, 1))
    at_base = plan.optimizer.replace(base=base)
    return LRTransfer(
        optimizer=plan.optimizer.name, lrs=tuple(lrs), losses=tuple(losses[plan.steps]), optimum=best,
        horizon_exponent=exponent, optima=tuple(optima.items()), horizon_factor=factor,
        target_peak_lr=best * factor, base=base, factors=size_factors(at_base, width=width, depth=depth),
    )  # fmt: skip


def _final(plan: Plan, data: Path, out: Path, config: TrainConfig) -> float:
    """Its final loss, infinite if it diverged."""
    try:
        loss = run_one(plan, data, out, config=config).final()
    except (NonFiniteLoss, NonFiniteWeights):
        return math.inf
    return loss if math.isfinite(loss) else math.inf


def vertex(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """exp of the vertex of the parabola in ln eta through the lowest loss and its neighbours.

    Args:
        lrs: Learning rates, increasing.
        losses: At each.

    Raises:
        InputError: if the lowest loss is at either end: the optimum is not bracketed.
    """
    i = int(np.argmin(losses))
    if i in (0, len(lrs) - 1):
        rule = f"is the {'smallest' if i == 0 else 'largest'} of the sweep and the best: the optimum is not bracketed"
        raise InputError("--lrs", lrs[i], rule, "extend the sweep on that side")
    if not all(map(math.isfinite, losses[i - 1 : i + 2])):
        rule = "diverged next to the best rate: the parabola is not determined"
        raise InputError("--lrs", lrs[i + 1], rule, f"give a rate between {lrs[i]:g} and {lrs[i + 1]:g}")
    x, y = np.log(lrs[i - 1 : i + 2]), np.asarray(losses[i - 1 : i + 2])
    a, b, _ = np.polyfit(x - x[1], y, 2)
    return float(np.exp(x[1] - b / (2 * a)))


def transfer_text(result: LRTransfer) -> str:
    """The table as text.

    Args:
        result: Of a sweep.
    """
    lines = [f"{'learning rate':>14}  loss"]
    lines += [f"{lr:>14.5g}  {loss:.4f}" for lr, loss in zip(result.lrs, result.losses, strict=True)]
    why = "assumed: .32 and .5 are published, and --horizons measures it"
    if len(result.optima) > 1:
        why = "fitted to " + ", ".join(f"{rate:.3g} at {steps} steps" for steps, rate in result.optima)
    factor = f"horizon factor {result.horizon_factor:.3g}, T^-{result.horizon_exponent:.3g} {why}"
    lines.append(f"optimum {result.optimum:.4g}; {factor}")
    lines.append(f"target: peak learning rate {result.target_peak_lr:.4g}, by kind of parameter")
    lines += [f"{kind:>14}  x {by:.3g} = {by * result.target_peak_lr:.4g}" for kind, by in result.factors.items()]
    base = f"--base-width {result.base.width}" + (f" --base-depth {result.base.depth}" if result.base.depth else "")
    lines.append(f"`latebloom plan --peak-lr {result.target_peak_lr:.4g} {base}` makes a plan that applies them")
    return "\n".join(lines)


def plot(result: LRTransfer, path: Path) -> None:
    """Draw loss against learning rate with the optimum.

    Args:
        result: Of a sweep.
        path: File to write; its name says whether SVG, PDF or PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(result.lrs, result.losses, "o-", label=f"sweep ({result.optimizer})")
    axes.axvline(result.optimum, color="C1", label=f"optimum {result.optimum:.3g}")
    axes.axvline(result.target_peak_lr, color="C2", ls="--", label=f"at the target {result.target_peak_lr:.3g}")
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("validation loss")
    axes.legend(fontsize=8)
    figure.savefig(path)
