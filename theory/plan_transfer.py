r"""Learning rates that a plan's optimizer uses, by kind of parameter: the schedule's, times factors from base to size.

Kinds are those of :mod:`latebloom.theory.architectures.tensors`.

With ``optimizer.base`` a plan says at which width and depth its learning rate was tuned. At width D and depth l every
kind then learns at lr(t) times its row of :mod:`latebloom.theory.transfer`, for a model without residual multiplier
(alpha = 0), and decay and Adam's epsilon follow their rows. l is the depth of the stage: at an expansion l -> L the
blocks, old and new, go to l/L of their rate, and nothing else changes, as
:func:`latebloom.theory.transfer.across_expansion` says for alpha = 0. arXiv 2511.04981 keeps one rate for all depths:
that is a base without depth. A short run sides with it (Muon-NSGD, width 64, bytes of Shakespeare, 1 -> 4 blocks at .6
of 600 steps, one seed; final loss): .02, the best of .01, .02, .04 for four blocks from the start, gives 1.864 as one
rate, 1.873 as tuned at one block, but 2.013 as tuned at four, which puts the single block at four times the rate.

Initialisation does not change: the trainer draws hidden matrices with standard deviation ~ width^(-1/2), which is their
row whatever the base, and the tied table by the embedding's row, one standard deviation at any width. The head's own
rows are left out: a standard deviation ~ 1/width would take the tokens out of the residual stream, and a multiplier
1/m_w on the logits would no longer be GPT-2. Under AdamW and SGD, whose head row counts on that multiplier, the tied
table thus learns as the embedding that it is too (the rows' learning rates are equal). A head that is not tied has
neither excuse; a plan with a base refuses it.
"""

from __future__ import annotations

from typing import Literal

from latebloom.theory import checks
from latebloom.theory.architectures.tensors import KINDS
from latebloom.theory.optimizers import OPTIMIZERS, Optimizer, OptimizerName
from latebloom.theory.plan import Plan
from latebloom.theory.transfer import Size, transfer
from latebloom.theory.words import blocks_text

__all__ = ["Scaled", "lr_rows", "peak_rates", "rates_text", "size_factors", "transfer_factors"]

Scaled = Literal["lr", "weight_decay", "eps"]


def transfer_factors(
    optimizer: OptimizerName, *, width: float, depth: float, quantity: Scaled = "lr"
) -> dict[str, float]:
    """Factors of :func:`latebloom.theory.transfer.transfer` by kind of parameter, for a model without residual
    multiplier.

    Args:
        optimizer: One of a plan's.
        width: Target over base.
        depth: Target over base.
        quantity: What to multiply by them; kinds that have no row for it are absent.

    Raises:
        InputError: if a ratio is not positive.
    """
    one = Size(width=1, depth=1, steps=1, batch=1)
    factors = transfer(one, one.replace(width=width, depth=depth), optimizer, alpha=0.0)
    return {str(row.group): row.factor for row in factors if row.quantity == quantity and row.group in KINDS}


def size_factors(optimizer: Optimizer, *, width: int, depth: int, quantity: Scaled = "lr") -> dict[str, float]:
    """Factors at ``width`` and ``depth`` from the optimizer's base; none, where it has no base.

    Args:
        optimizer: Of a plan.
        width: Of the model.
        depth: Blocks that it has now. Without any, no kind that depends on the depth is there.
        quantity: See :func:`transfer_factors`.
    """
    checks.whole("width", width, 1)
    checks.whole("depth", depth, 0)
    base = optimizer.base
    if base is None:
        return {}
    ratio = 1.0 if base.depth is None else max(depth, 1) / base.depth
    return transfer_factors(optimizer.name, width=width / base.width, depth=ratio, quantity=quantity)


def peak_rates(plan: Plan) -> list[dict[str, float]]:
    """For each stage its ``start_step`` and ``depth``, and the learning rate of each kind at the schedule's peak.

    Args:
        plan: With or without a base.
    """
    stages = []
    for stage in plan.stages:
        factors = size_factors(plan.optimizer, width=plan.model.width, depth=stage.passes)
        rates: dict[str, float] = {"start_step": stage.start_step, "depth": stage.depth}
        for kind in KINDS:
            if stage.depth == 0 and kind in ("hidden", "vector"):
                continue
            own = OPTIMIZERS[plan.optimizer.name].rate_factor(kind)
            rates[kind] = plan.schedule.peak * own * factors.get(kind, 1.0)
        stages.append(rates)
    return stages


def lr_rows(plan: Plan, *, every: int = 1) -> list[dict[str, float]]:
    """What each update needs to know, a row an update: ``step``, ``lr``, ``depth``, and ``factor_KIND`` on lr.

    Args:
        plan: With or without a base.
        every: Updates between rows; the first of each stage and the last update have one as well.

    Raises:
        InputError: if ``every`` is not a whole number of at least 1.
    """
    checks.whole("every", every, 1)
    stages = peak_rates(plan)
    starts = [int(stage["start_step"]) for stage in stages]
    at = sorted({*range(0, plan.steps, every), *starts, plan.steps - 1})
    rates = plan.schedule.lrs()
    rows = []
    for step in at:
        stage = stages[plan.stage_at(step)]
        lr = float(f"{rates[step]:.12g}")  # .0002, not .00020000000000000017
        row: dict[str, float] = {"step": step, "lr": lr, "depth": int(stage["depth"])}
        factors = {f"factor_{kind}": stage.get(kind, 0.0) / plan.schedule.peak for kind in KINDS}
        rows.append(
            {name: float(f"{value:.12g}") if name == "lr" else value for name, value in (row | factors).items()}
        )
    return rows


def rates_text(plan: Plan) -> list[str]:
    """:func:`peak_rates` in words, a line a stage; none without a base, where every kind learns at the plan's rate.

    Args:
        plan: With or without a base.
    """
    lines, base = [], plan.optimizer.base
    for stage in peak_rates(plan):
        rates = {kind: rate for kind, rate in stage.items() if kind in KINDS}
        if base is None and set(rates.values()) == {plan.schedule.peak}:
            continue
        shares = (f"{kind} {rate:.4g} (x {rate / plan.schedule.peak:.4g})" for kind, rate in rates.items())
        lines.append(f"  from step {stage['start_step']} at the peak: {', '.join(shares)}")
    if base is not None:
        depth = "one rate at every depth" if base.depth is None else blocks_text(base.depth)
        lines.insert(0, f"  tuned at width {base.width}, {depth}; factors of latebloom.theory.transfer")
    return lines
