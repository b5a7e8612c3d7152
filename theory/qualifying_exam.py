r"""The qualifying exam: does a schedule's best bound fall as O(1/sqrt T)? Without training.

The bound is that of the last iterate, at the best peak.

Notation: s_k relative learning rates, peak eta, horizon T; D, G distance and gradient norm of
:mod:`latebloom.theory.bounds`.

    Omega_T(eta) = q1^2/(eta T) + q2^2 eta
    q1^2 = D^2 T/(2 sum s),   q2^2 = G^2/2 [s_T + sum_{k<T} s_k^2/sum_{j>k} s_j]
    best peak eta = q1/(q2 sqrt T),   best excess 2 q1 q2/sqrt T

In the limit of many steps, with s(x) and R(x) = int_x^1 s: q1^2 = D^2/(2 R(0)), q2^2 = G^2/2 int_0^1 s^2/R dx. Piece by
piece (omega warm-up share, b stable share, d decay share; r, kappa of the decay,
:func:`latebloom.theory.decay_shapes.decay_limit`):

    R(0)     = omega/2 + b + r d
    q2^2/G^2 = (a/omega) artanh(omega/a) - 1 + 1/2 ln((b + r d)/(r d)) + kappa,     a^2 = 2 omega R(0)

With omega = 0, r = 1/2 and stable share c these are Table 1 of arXiv 2602.07145: linear q1^2 = D^2, q2^2 = G^2; cosine
q2^2 = 1.061 G^2; WSD q1^2 = D^2/(1 + c), q2^2 = G^2 (1 + ln((1 + c)/(1 - c))/2). A schedule that does not end at 0
fails: s^2/R ~ s(1)/(1 - x) has no integral and q2^2 grows as ln T. So do constants, cosines to 10 % and 1/sqrt(t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from latebloom.theory import checks
from latebloom.theory.bounds import last_iterate
from latebloom.theory.decay_shapes import decay_limit
from latebloom.theory.errors import InputError
from latebloom.theory.schedules import WSD, AnySchedule, Constant, Cosine, Cyclic, InverseSqrt, Linear, Piecewise, Tail
from latebloom.theory.spec import Spec

__all__ = ["Exam", "constants", "examine", "examine_rates"]

HORIZONS = tuple(256 * 4**k for k in range(5))
SETTLED = 1e-5  # relative growth of (2 q1 q2)^2 per factor 4 of T that counts as none
DIVERGES = 0.85  # ratio of successive growths: 1 for a logarithm, 4^-p for a constant approached as T^-p


class Exam(Spec, frozen=True, kw_only=True):
    """Result of the exam.

    Attributes:
        passes: The best bound falls as O(1/sqrt T).
        q1: Constant per unit of D in the limit (symbolic) or at the largest horizon tried (numeric). None where it does
            not exist.
        q2: The same per unit of G; the best peak is q1 D/(q2 G sqrt T), the best excess 2 q1 q2 D G/sqrt T.
        method: 'symbolic', or 'numeric' for a schedule without a closed form here.
        reason: Why, in words.
    """

    passes: bool
    q1: float | None
    q2: float | None
    method: Literal["symbolic", "numeric"]
    reason: str


def examine(schedule: AnySchedule) -> Exam:
    """Put ``schedule`` to the exam: symbolic for the shapes with closed forms, numeric for tables and cycles.

    Warm-up and decay keep their shares of the steps as T grows.

    Args:
        schedule: Any schedule that can be stretched; its peak does not matter.

    Raises:
        InputError: for a tail, which cannot be stretched.
    """
    if isinstance(schedule, Cyclic | Piecewise | Tail):
        return examine_rates(lambda steps: schedule.with_steps(steps).lrs())
    why = None
    if isinstance(schedule, InverseSqrt):
        why = "ends at 1/sqrt(T) of its peak, too slowly: the excess is sqrt(ln(T)/T)"
    elif isinstance(schedule, Constant) or (isinstance(schedule, WSD) and schedule.decay_steps == 0):
        why = "never decays: the excess is sqrt(ln(T)/T)"
    elif schedule.final > 0:
        why = f"ends at {schedule.final:g} of its peak, not at 0: the excess is sqrt(ln(T)/T)"
    if why:
        return Exam(passes=False, q1=None, q2=None, method="symbolic", reason=why)
    assert isinstance(schedule, Linear | Cosine | WSD)
    decay = schedule.decay if isinstance(schedule, WSD) else type(schedule).__name__.lower()
    after = schedule.steps - schedule.warmup_steps
    decay_steps = schedule.decay_steps if isinstance(schedule, WSD) else after
    if decay_steps == 0:
        return Exam(passes=False, q1=None, q2=None, method="symbolic", reason="is all warm-up")
    q1, q2 = constants(warmup=schedule.warmup_steps / schedule.steps, decay=decay_steps / schedule.steps, shape=decay)
    return Exam(passes=True, q1=q1, q2=q2, method="symbolic", reason="decays to 0")


def constants(*, warmup: float, decay: float, shape: str = "linear") -> tuple[float, float]:
    """(q1/D, q2/G) of warm-up, stable phase and decay to 0 in the limit of many steps; formulas above.

    Args:
        warmup: omega, share of the steps, in [0, 1).
        decay: d > 0, share of the steps; the rest is stable.
        shape: 'linear', 'cosine' or 'sqrt'.

    Raises:
        InputError: if the shares are not those of one run, or the shape has no limit.

    References:
        arXiv 2602.07145, Table 1.
    """
    if not (0 <= warmup < 1 and 0 < decay <= 1 and warmup + decay <= 1 + 1e-12):
        raise InputError("decay", (warmup, decay), "must be shares of one run, decay > 0", "give such as 0.02 and 0.1")
    mean, kappa = decay_limit(shape)
    stable = max(0.0, 1.0 - warmup - decay)
    last = mean * decay
    total = warmup / 2 + stable + last
    rise = 0.0
    if warmup > 0:
        a = math.sqrt(2 * warmup * total)
        rise = a / warmup * math.atanh(warmup / a) - 1
    q2_squared = rise + 0.5 * math.log((stable + last) / last) + kappa
    return math.sqrt(1 / (2 * total)), math.sqrt(q2_squared)


def examine_rates(rates: Callable[[int], np.ndarray]) -> Exam:
    """The exam for any rule that gives learning rates for a horizon, by the growth of (2 q1 q2)^2 with T.

    Horizons 256 ... 65536 in factors of 4. A constant that is approached as T^-p changes by a factor 4^-p from one
    to the next, a logarithm by as much each time: the ratio must be below 0.85 (p > 0.12). A final learning rate
    below 1e-5 of the peak is taken for 0.

    Args:
        rates: Horizon T -> learning rates, shape (T,), any peak.

    Raises:
        InputError: if they are of another shape, negative, not finite or all zero.
    """
    best = []
    for steps in HORIZONS:
        lrs = np.asarray(rates(steps), dtype=float)
        if lrs.shape != (steps,):
            raise InputError("rates", lrs.shape, f"must give {steps} learning rates for {steps} steps", "correct it")
        checks.non_negative("rates", lrs, fix="correct it")
        peak = checks.positive("rates", lrs.max(), rule="are zero at every step", fix="correct it")
        best.append(last_iterate(lrs / peak, distance=1.0, gradient=1.0))
    squared = np.array([(bound.best_value**2) * steps for bound, steps in zip(best, HORIZONS, strict=True)])
    growth = np.abs(np.diff(squared))
    ratio = growth[-1] / growth[-2] if growth[-2] > 0 else 0.0
    passes = bool(growth[-1] < SETTLED * squared[-1] or ratio < DIVERGES)
    reason = f"from T = {HORIZONS[-2]} to {HORIZONS[-1]} (2 q1 q2)^2 changes by {growth[-1]:.2g}"
    reason += f", {ratio:.2g} times the change before"
    q1, q2 = math.sqrt(best[-1].distance_term * HORIZONS[-1]), math.sqrt(best[-1].gradient_term)
    return Exam(passes=passes, q1=q1 if passes else None, q2=q2 if passes else None, method="numeric", reason=reason)
