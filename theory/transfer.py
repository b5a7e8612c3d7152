r"""Hyperparameter transfer between widths, depths, horizons and batches, as data.

Notation
    m_w, m_L, m_T, m_B   target over base: width, depth, steps, batch
    alpha                residual branches x + L^-alpha f(x)
    eta, lambda, eps     learning rate, decoupled weight decay, Adam's epsilon
    B_c                  critical batch, in examples or tokens

Every rule is a row of :data:`RULES`: for an optimizer, a parameter group and a quantity, the exponents of m_w and m_L
(the latter affine in alpha), the regime and the source. :func:`transfer` evaluates rows; nothing else knows a rule.

Parameter groups: ``embedding`` and ``head`` (untied; V fixed), ``hidden`` (matrices in blocks, both sides ~ width),
``vector`` (gains and biases in blocks), ``final_vector`` (those after the last block).

The requirement behind all width and depth exponents (Yang et al. 2310.17813; Bordelon et al. 2309.16620; Dey et al.
2505.01618): one step changes each layer's features, and the sum over blocks the residual stream, by O(1) at any size.
In a block the step must therefore satisfy m_L^-alpha ||dW||_2 ~ m_L^-1. A normalised step has ||dW|| ~ eta, so
eta ~ L^(alpha-1); a gradient step has ||dW|| ~ eta L^-alpha, so eta ~ L^(2 alpha-1).

The optimal rate under signal and noise, A (eta T)^-s + b eta, is eta* ~ T^(-s/(1+s)), s = 1 being the convex
eta_ref/sqrt(T); a rate r times too large costs the share (r^-s + s r)/(1+s) - 1 of the loss above the floor. Published
exponents are .5 and .32, 2.2 times apart over 80 x of T: :func:`fit_horizon_exponent` measures it.

What a step does is its *effective rate*, update RMS over weight RMS: runs with ``diagnostics`` log both by kind of
parameter (rows ``update_rms_KIND`` and ``weight_rms_KIND`` of the record's train split).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import ANY, COMPLETE, MUP, NONE, OPTIMIZERS, SPECTRAL, UPDATE_RULES, OptimizerName
from latebloom.theory.spec import Positive, Spec
from latebloom.theory.words import text_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "RESIDUAL_MULTIPLIERS",
    "RULES",
    "Expansion",
    "Factor",
    "HorizonFit",
    "ResidualMultiplier",
    "Rule",
    "Size",
    "across_expansion",
    "batch_factor",
    "fit_horizon_exponent",
    "horizon_exponent",
    "misfit_cost",
    "table",
    "transfer",
]

Group = Literal["embedding", "hidden", "vector", "final_vector", "head", "block", "all"]
Quantity = Literal["lr", "init_std", "multiplier", "weight_decay", "eps"]

DEPTH_MUP = "arXiv 2310.02244, 2309.16620"
DECAY = "arXiv 2405.13698"  # the averaging time 1/(eta lambda) as a share of the run
BRANCH = (0.0, -1.0)  # -alpha


@dataclass(frozen=True, kw_only=True)
class Rule:
    """factor = m_w^width m_L^(depth[0] + depth[1] alpha) for one optimizer, group and quantity.

    Attributes:
        optimizer: One of a plan's.
        group: Kind of parameter, ``block`` or ``all``.
        quantity: What is multiplied by the factor.
        width: Exponent of the width.
        depth: Exponent of the depth, affine in alpha.
        regime: Where it holds.
        source: Where it was derived.
    """

    optimizer: OptimizerName
    group: Group
    quantity: Quantity
    width: float
    depth: tuple[float, float]
    regime: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ResidualMultiplier:
    """scale L^-alpha on each residual branch of L blocks. The scale does not change between depths: alpha alone does.

    Attributes:
        name: In words.
        alpha: Exponent of the depth.
        scale: Its value at L = 1.
        source: Where it was proposed.
    """

    name: str
    alpha: float
    scale: float
    source: str


RESIDUAL_MULTIPLIERS = (
    ResidualMultiplier(name="1/L", alpha=1.0, scale=1.0, source=f"{COMPLETE}; arXiv 2603.00541, 2512.05620 (Muon)"),
    ResidualMultiplier(
        name="1/sqrt(2L)", alpha=0.5, scale=0.5**0.5, source="arXiv 2603.28743, with the rate x sqrt(base depth/depth)"
    ),
    ResidualMultiplier(name="1", alpha=0.0, scale=1.0, source="GPT-2's blocks as they are"),
)


def _rules() -> tuple[Rule, ...]:
    rows = []

    def add(optimizer, group, quantity, width, depth, regime, source) -> None:
        rows.append(
            Rule(
                optimizer=optimizer,
                group=group,
                quantity=quantity,
                width=float(width),
                depth=depth,
                regime=regime,
                source=source,
            )
        )

    for optimizer, row in OPTIMIZERS.items():
        rule_by_kind = {kind: UPDATE_RULES[name] for kind, name in row.rules.items()}
        rates = [next(r for r in rule.rates if r.kind == kind) for kind, rule in rule_by_kind.items()]
        scaled_head = rule_by_kind["head"].scaled_head
        for rate in rates:
            add(optimizer, rate.kind, "lr", rate.width, rate.depth, rate.regime, rate.source)
        add(optimizer, "embedding", "init_std", 0, NONE, ANY, MUP)
        add(optimizer, "hidden", "init_std", -0.5, NONE, "std 1/sqrt(fan_in)", MUP)
        add(optimizer, "head", "init_std", 0 if scaled_head else -1, NONE, ANY, MUP if scaled_head else SPECTRAL)
        if scaled_head:
            add(optimizer, "head", "multiplier", -1, NONE, "on the logits", MUP)
        depth_source = f"{COMPLETE} (alpha = 1); {DEPTH_MUP} (alpha = 1/2)"
        add(optimizer, "block", "multiplier", 0, BRANCH, "on each residual branch; pre-norm", depth_source)
        for rate in rates:
            if rate.kind in MATRIX_KINDS:
                inverse = (-rate.depth[0], -rate.depth[1])
                add(optimizer, rate.kind, "weight_decay", -rate.width, inverse, "decoupled: eta lambda T kept", DECAY)
        for kind in ("embedding", "hidden", "vector", "head"):
            if kind in rule_by_kind and rule_by_kind[kind].scaled_eps:
                in_block = kind in ("hidden", "vector")
                add(optimizer, kind, "eps", -1, BRANCH if in_block else NONE, ANY, COMPLETE)
    return tuple(rows)


RULES = _rules()


class Size(Spec, frozen=True, kw_only=True):
    """What transfers.

    Attributes:
        width: Of the model.
        depth: Blocks, at least 1.
        steps: Horizon in optimizer steps.
        batch: In any one unit.
    """

    width: Positive
    depth: Positive
    steps: Positive
    batch: Positive


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One row of the answer: multiply the base's ``quantity`` of ``group`` by ``factor``.

    Attributes:
        optimizer: One of a plan's.
        group: Kind of parameter, ``block`` or ``all``.
        quantity: What is multiplied; ``multiplier`` is a forward multiplier relative to the base's.
        factor: Product of the four parts below.
        width: Part of the width.
        depth: Part of the depth.
        horizon: Part of the horizon.
        batch: Part of the batch.
        rule: The product in symbols.
        regime: Where it holds.
        source: Where it was derived.
    """

    optimizer: OptimizerName
    group: Group
    quantity: Quantity
    factor: float
    width: float
    depth: float
    horizon: float
    batch: float
    rule: str
    regime: str
    source: str


def transfer(
    base: Size,
    target: Size,
    optimizer: OptimizerName,
    *,
    alpha: float = 1.0,
    horizon: float = 0.5,
    critical_batch: float | None = None,
) -> tuple[Factor, ...]:
    """What to multiply each hyperparameter by, from ``base`` to ``target``.

    Args:
        base: Where the hyperparameters were tuned.
        target: Where they are to be used.
        optimizer: One of a plan's.
        alpha: Residual multiplier L^-alpha: 1 is CompleteP, 1/2 depth-muP, 0 none (its depth exponents then hold only
            while the residual stream does not blow up).
        horizon: Exponent h of eta ~ T^-h; see :func:`horizon_exponent`.
        critical_batch: B_c; None says that both batches are well below it.

    Raises:
        InputError: if an argument is out of range.
    """
    if optimizer not in OPTIMIZERS:
        names = ", ".join(OPTIMIZERS)
        raise InputError("optimizer", optimizer, "has no transfer rules", f"choose one of {names}")
    _within("alpha", alpha, 0, 1)
    _within("horizon", horizon, 0, 1)
    m_w, m_l, m_t = target.width / base.width, target.depth / base.depth, target.steps / base.steps
    m_b = batch_factor(target.batch, optimizer, critical_batch) / batch_factor(base.batch, optimizer, critical_batch)
    rows = []
    for rule in RULES:
        if rule.optimizer != optimizer:
            continue
        exponent = rule.depth[0] + rule.depth[1] * alpha
        power = {"lr": (-horizon, 1), "weight_decay": (horizon - 1, -1)}.get(rule.quantity, (0, 0))
        parts = [m_w**rule.width, m_l**exponent, m_t ** power[0], m_b ** power[1]]
        rows.append(
            Factor(
                optimizer=optimizer,
                group=rule.group,
                quantity=rule.quantity,
                factor=math.prod(parts),
                width=parts[0],
                depth=parts[1],
                horizon=parts[2],
                batch=parts[3],
                rule=_words(rule, *power),
                regime=rule.regime,
                source=rule.source,
            )
        )
    return tuple(rows)


def batch_factor(batch: float, optimizer: OptimizerName, critical_batch: float | None) -> float:
    """Optimal learning rate against batch, up to a constant.

        SGD          1/(1 + B_c/B)        linear up to the critical batch     McCandlish et al., arXiv 1812.06162
        the others   1/sqrt(1 + B_c/B)    square root up to it                Malladi et al., arXiv 2205.10287

    ``None`` gives the limits far below B_c, B and sqrt(B). The normalised optimizers follow Adam's rule because, below
    B_c, noise makes up the norm that they divide by.

    Args:
        batch: B.
        optimizer: One of a plan's.
        critical_batch: B_c, in the same unit; None: both are far below it.

    Raises:
        InputError: if a batch is not positive.
    """
    for name, value in {"batch": batch, "critical_batch": critical_batch}.items():
        if value is not None and not (0 < value < math.inf):
            raise InputError(name, value, "must be positive", "give examples or tokens, in one unit for both")
    linear = batch if critical_batch is None else 1 / (1 + critical_batch / batch)
    rule = UPDATE_RULES[OPTIMIZERS[optimizer].rules["hidden"]]
    return linear if rule.linear_in_batch else math.sqrt(linear)


def horizon_exponent(signal_exponent: float) -> float:
    """h of eta* ~ T^-h under A (eta T)^-s + b eta: h = s/(1+s).

    s = 1, the convex bound, gives the 1/2 of eta_ref/sqrt(T); a fitted landscape's smaller s gives a slower decline.

    Args:
        signal_exponent: s > 0, of the loss against learning-rate area.

    Raises:
        InputError: if s is not positive and finite.
    """
    if not 0 < signal_exponent < math.inf:
        raise InputError("signal_exponent", signal_exponent, "must be positive", "take it from a fitted landscape")
    return signal_exponent / (1 + signal_exponent)


class HorizonFit(Spec, frozen=True, kw_only=True):
    """The horizon exponent as sweeps show it, eta* = rate T^-h.

    Attributes:
        exponent: h by least squares in logarithms.
        rate: eta* at T = 1.
        low: Lower end of h, None with fewer than three horizons.
        high: Upper end of h, likewise.
        level: Probability with which h lies between them, if the logarithms of the best rates err alike.
    """

    exponent: float
    rate: float
    low: float | None
    high: float | None
    level: float = 0.9

    def rate_at(self, steps: float) -> float:
        """eta* at ``steps``.

        Raises:
            InputError: if ``steps`` is not positive.
        """
        return self.rate * float(checks.positive("steps", steps)) ** -self.exponent


def fit_horizon_exponent(steps: ArrayLike, rates: ArrayLike, *, level: float = 0.9) -> HorizonFit:
    """h of eta* ~ T^-h from the best rates of sweeps at several horizons: fitted instead of assumed 1/2 or .32.

    A grid of rates a factor g apart places each best rate to within a factor sqrt(g): two horizons a factor 4 apart on
    a grid of factor 2 leave h open by +-.5, and the interval says so from three horizons on.

    Args:
        steps: T of each sweep, shape (n,), two or more different ones.
        rates: Its best peak learning rate, shape (n,).
        level: Of the interval, in (0, 1).

    Returns:
        The exponent and its Student interval.

    Raises:
        InputError: if a number is not positive, the lengths differ, or all horizons are equal.

    >>> fit = fit_horizon_exponent([100, 400, 1600], [0.04, 0.02, 0.01])
    >>> round(fit.exponent, 6), round(fit.rate_at(6400), 6)
    (0.5, 0.005)
    """
    horizon, best = checks.positive("steps", steps), checks.positive("rates", rates)
    checks.inside("level", level, 0, 1)
    if horizon.ndim != 1 or horizon.shape != best.shape or len(np.unique(horizon)) < 2:
        raise InputError("steps", horizon.shape, "needs two different horizons, one best rate each", "sweep another")
    x, y = np.log(horizon), np.log(best)
    slope, level_at_0 = np.polyfit(x, y, 1)
    low = high = None
    freedom = len(x) - 2
    if freedom > 0:
        residual = y - slope * x - level_at_0
        error = math.sqrt(float(residual @ residual) / freedom / float(((x - x.mean()) ** 2).sum()))
        width = error * float(scipy.special.stdtrit(freedom, (1 + level) / 2))
        low, high = -float(slope) - width, -float(slope) + width
    return HorizonFit(exponent=-float(slope), rate=float(math.exp(level_at_0)), low=low, high=high, level=level)


def misfit_cost(ratio: float, signal_exponent: float) -> float:
    """Share of the loss above the floor that a learning rate ``ratio`` times the optimum adds: (r^-s + s r)/(1+s) - 1.

    Args:
        ratio: r > 0, rate over optimal rate.
        signal_exponent: s > 0.

    Raises:
        InputError: if an argument is not positive and finite.
    """
    if not 0 < ratio < math.inf:
        raise InputError("ratio", ratio, "must be positive", "give a learning rate over another")
    horizon_exponent(signal_exponent)  # checks s
    return (ratio**-signal_exponent + signal_exponent * ratio) / (1 + signal_exponent) - 1


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """What an expansion does to the optimal learning rate.

    Attributes:
        trunk: Factor on the rate of old blocks at the expansion.
        new: Factor on the rate of new blocks. It equals ``trunk``: both stand in the deep model, and what sets their
            rate is its depth and multiplier, not their age.
        outside: Factor for embedding, head and final vectors.
        same_is_right: Whether one rate before and after is optimal.
        cost: Share of the loss above the floor that keeping the small model's rate adds to the tail, when the rate
            was optimal before.
        reason: In words.
    """

    trunk: float
    new: float
    outside: float
    same_is_right: bool
    cost: float
    reason: str


def across_expansion(
    small_depth: float, full_depth: float, optimizer: OptimizerName, *, alpha: float = 1.0, signal_exponent: float = 0.5
) -> Expansion:
    """Learning rates before and after growing from ``small_depth`` to ``full_depth`` at one width and batch.

    With residual multipliers that follow the depth, l^-alpha before and L^-alpha after, blocks want (L/l)^(alpha - 1)
    times their rate (normalised steps) or (L/l)^(2 alpha - 1) (gradient steps); the rest is unchanged. So one rate is
    right throughout at alpha = 1 for AdamW, Muon and NSGD, at alpha = 1/2 for SGD, and from zero layers always: the
    small model then has no block whose rate could be wrong, and the peak is that of the full model.

    Args:
        small_depth: l >= 0.
        full_depth: L > l.
        optimizer: One of a plan's.
        alpha: As in :func:`transfer`.
        signal_exponent: s of the landscape, for the cost. Assumed .5 until a fit says better.

    Raises:
        InputError: if the depths are not in order.
    """
    if not 0 <= small_depth < full_depth < math.inf:
        rule = f"must be at least 0 and below the full depth {full_depth}"
        raise InputError("small_depth", small_depth, rule, "give the depth before the expansion")
    one = Size(width=1, depth=max(small_depth, 1), steps=1, batch=1)
    rows = transfer(one, one.replace(depth=full_depth), optimizer, alpha=alpha)
    factor = next(row.factor for row in rows if (row.group, row.quantity) == ("hidden", "lr"))
    if small_depth == 0:
        reason = "no block before the expansion: tune the rate for the full depth and keep it"
        return Expansion(trunk=1.0, new=1.0, outside=1.0, same_is_right=True, cost=0.0, reason=reason)
    same = math.isclose(factor, 1.0, rel_tol=1e-12)
    cost = misfit_cost(1 / factor, signal_exponent)
    if same:
        reason = f"the optimal rate does not depend on depth at alpha = {alpha:g} under {optimizer}: keep it"
    else:
        reason = (
            f"blocks want {factor:.3g} times their rate at alpha = {alpha:g} under {optimizer}; "
            f"the small model's rate, where stable, would cost {cost:.1%} of the loss above the floor"
        )
    return Expansion(trunk=factor, new=factor, outside=1.0, same_is_right=same, cost=cost, reason=reason)


def table(rows: tuple[Factor, ...]) -> str:
    """The rows as aligned text.

    Args:
        rows: From :func:`transfer`.
    """
    head = ("quantity", "group", "factor", "rule", "source", "regime")
    return text_table(
        "<<<<<<", head, [(r.quantity, r.group, f"{r.factor:.4g}", r.rule, r.source, r.regime) for r in rows]
    )


def _words(rule: Rule, horizon: float, batch: int) -> str:
    """The rule as a product of powers; f is :func:`batch_factor`'s ratio."""
    constant, slope = rule.depth
    affine = {0: "", 1: "alpha", -1: "-alpha", 2: "2 alpha", -2: "-2 alpha"}[int(slope)]
    if constant:
        affine += f"{constant:+g}" if affine else f"{constant:g}"
    parts = [f"m_w^{rule.width:g}" if rule.width else "", f"m_L^({affine})" if affine else ""]
    parts += [f"m_T^{horizon:g}" if horizon else "", {0: "", 1: "f", -1: "f^-1"}[batch]]
    return " ".join(part for part in parts if part) or "1"


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(name, value, f"must be within [{low}, {high}]", "correct it")
