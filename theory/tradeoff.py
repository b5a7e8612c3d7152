r"""Steps against depth: when growing pays, in closed form, for power-law signals at a constant learning rate.

Notation
    n = c_l/c_L  ``cost_ratio``     T  horizon, tau expansion step, u = T - tau ``tail``; steps, or learning-rate area
    A_w, s_w  ``trunk``, ``trunk_exponent``     A_x, s_x  ``fresh``, ``fresh_exponent``     kappa  retention distance

    grown loss  A_w T^-s_w + kappa A_x u^-s_x        cost  n T + (1 - n) u        (full-depth steps)
    fixed loss  A_w T^-s_w + A_x T^-s_x              cost  T

Least cost at given loss and least loss at given cost have the same condition:

    u* = T^gamma [ (kappa s_x A_x/(s_w A_w)) n/(1 - n) ]^{1/(1 + s_x)},   gamma = (1 + s_w)/(1 + s_x)

(the structure of Theorem 3.2 in arXiv 2602.14208). If u* >= T there is no expansion worth making inside the run. For
equal exponents that is kappa (A_x/A_w) n/(1 - n) >= 1 at every horizon; otherwise it changes at one horizon. (With
kappa < 1 the formulas would then grow at once, with layers that nothing has conditioned: outside their regime.)

Never growing buys C/n steps of the small depth, which never learns the gap g that its missing layers leave:

    never grown  A_w (C/n)^-s_w + g

so that growing is the best use only from some C on, where the trunk's signal has fallen below what g is worth, and up
to where the full depth alone is as good, if that ever comes (:func:`latebloom.theory.optimum.winning_window`).

The gain that counts is *iso-loss*: the cost of the full depth alone at the grown run's loss, over the grown run's cost.
It can be 1.15 where the iso-iteration gain T/(n T + (1 - n) u) reads 5, because a fixed run may stop early too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import scipy
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BestRun", "Tradeoff", "timing_exponent"]

Exponent = Annotated[float, Meta(gt=0, le=10)]
Ratio = Annotated[float, Meta(gt=0, lt=1)]


class BestRun(Spec, frozen=True, kw_only=True):
    """The best grown run of a given cost beside the best fixed one.

    Attributes:
        grows: An expansion inside the run is the best choice and beats the fixed run; else tau = 0.
        horizon: T, steps.
        tau: Expansion step.
        tail: u = T - tau, steps.
        loss: Grown run's signal above the floor.
        fixed_loss: That of the fixed run of the same cost.
        iso_loss_gain: Cost of the fixed run that reaches ``loss``, over the cost.
        iso_iteration_gain: Cost of the fixed run of T steps, over the cost: what is published.
        never_loss: Signal above the full depth's floor of the small depth of the same cost; None if its gap is unknown.
        lowest: Which of the three ends lowest.
    """

    grows: bool
    horizon: float
    tau: float
    tail: float
    loss: float
    fixed_loss: float
    iso_loss_gain: float
    iso_iteration_gain: float
    never_loss: float | None
    lowest: Literal["grown", "fixed", "never grown"]


class Tradeoff(Spec, frozen=True, kw_only=True):
    """Power-law signals of trunk and new layers, and what a small step costs.

    Args:
        cost_ratio: n, cost of a small step in full-depth steps, in (0, 1).
        trunk: A_w, the trunk's loss at T = 1.
        trunk_exponent: s_w.
        fresh: A_x, the new layers' loss at T = 1.
        fresh_exponent: s_x.
        kappa: Distance of grown layers over that of fresh ones, in the loss metric.
        small_gap: g, floor of the small depth above the full depth's; None if unknown: never growing is not compared.
    """

    cost_ratio: Ratio
    trunk: Positive
    trunk_exponent: Exponent
    fresh: Positive
    fresh_exponent: Exponent
    kappa: Positive = 1.0
    small_gap: NonNegative | None = None

    def tail(self, horizon: ArrayLike) -> np.ndarray:
        """u*(T), formula above; at or above T where no expansion is worth making."""
        t = _steps("horizon", horizon)
        weight = self.kappa * self.fresh_exponent * self.fresh / (self.trunk_exponent * self.trunk)
        weight *= self.cost_ratio / (1 - self.cost_ratio)
        return t ** timing_exponent(self.trunk_exponent, self.fresh_exponent) * weight ** (
            1 / (1 + self.fresh_exponent)
        )

    def grown_loss(self, horizon: ArrayLike, tail: ArrayLike) -> np.ndarray:
        """A_w T^-s_w + kappa A_x u^-s_x, above the floor."""
        t, u = _steps("horizon", horizon), _steps("tail", tail)
        return self.trunk * t**-self.trunk_exponent + self.kappa * self.fresh * u**-self.fresh_exponent

    def fixed_loss(self, horizon: ArrayLike) -> np.ndarray:
        """A_w T^-s_w + A_x T^-s_x, above the floor."""
        t = _steps("horizon", horizon)
        return self.trunk * t**-self.trunk_exponent + self.fresh * t**-self.fresh_exponent

    def never_loss(self, horizon: ArrayLike) -> np.ndarray:
        """A_w T^-s_w + g, above the full depth's floor.

        Raises:
            InputError: if the gap g is unknown.
        """
        if self.small_gap is None:
            raise InputError("small_gap", None, "is needed to compare never growing", "give the floors' difference")
        return self.trunk * _steps("horizon", horizon) ** -self.trunk_exponent + self.small_gap

    def cost(self, horizon: ArrayLike, tail: ArrayLike) -> np.ndarray:
        """n T + (1 - n) u, full-depth steps."""
        return self.cost_ratio * _steps("horizon", horizon) + (1 - self.cost_ratio) * _steps("tail", tail)

    def iso_loss_gain(self, horizon: float) -> float:
        """Cost of the full depth alone at the loss of the run grown at u*(T), over that run's cost; u* < T assumed.

        For equal exponents, a = A_x/A_w, r = u*/T:  [(1 + a)/(1 + kappa a r^-s)]^{1/s}/(n + (1 - n) r).
        """
        u = float(self.tail(horizon))
        return self._fixed_cost(float(self.grown_loss(horizon, u))) / float(self.cost(horizon, u))

    def wins(self, horizon: float) -> bool:
        """General condition: u*(T) < T, and the iso-loss gain is above 1 (which follows from it if kappa <= 1)."""
        return bool(self.tail(horizon) < horizon) and (self.kappa <= 1 or self.iso_loss_gain(horizon) > 1)

    def best(self, compute: float) -> BestRun:
        """Best run of cost ``compute`` full-depth steps: (T, tau) from the condition and n T + (1 - n) u*(T) = C."""
        c = float(_steps("compute", compute))

        def excess(log_t: float) -> float:  # grows with T
            t = math.exp(log_t)
            return math.log(float(self.cost(t, self.tail(t))) / c)

        low, high = math.log(c), math.log(c / self.cost_ratio)
        while excess(low) > 0:
            low -= 1.0
        horizon = math.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-14))
        tail = float(self.tail(horizon))
        fixed = float(self.fixed_loss(c))
        never = None if self.small_gap is None else float(self.never_loss(c / self.cost_ratio))
        fixed_lowest = never is None or fixed <= never
        if not (tail < horizon and self.wins(horizon)):
            return BestRun(
                grows=False,
                horizon=c,
                tau=0.0,
                tail=c,
                loss=fixed,
                fixed_loss=fixed,
                iso_loss_gain=1.0,
                iso_iteration_gain=1.0,
                never_loss=never,
                lowest="fixed" if fixed_lowest else "never grown",
            )
        grown = float(self.grown_loss(horizon, tail))
        return BestRun(
            grows=True,
            horizon=horizon,
            tau=horizon - tail,
            tail=tail,
            loss=grown,
            fixed_loss=fixed,
            iso_loss_gain=self.iso_loss_gain(horizon),
            iso_iteration_gain=horizon / c,
            never_loss=never,
            lowest="grown" if never is None or grown < never else "never grown",
        )

    def _fixed_cost(self, loss: float) -> float:
        """T at which the full depth alone has ``loss``."""
        return math.exp(
            scipy.optimize.brentq(
                lambda log_t: float(self.fixed_loss(math.exp(log_t))) / loss - 1, -200, 200, xtol=1e-13
            )
        )


def timing_exponent(trunk_exponent: float, fresh_exponent: float) -> float:
    """gamma = (1 + s_w)/(1 + s_x): T - tau* grows as T^gamma.

    Args:
        trunk_exponent: s_w > -1.
        fresh_exponent: s_x > -1.

    Raises:
        InputError: if an exponent is not finite or not above -1.

    >>> timing_exponent(0.3, 0.3)
    1.0
    """
    if not (-1 < trunk_exponent < math.inf and -1 < fresh_exponent < math.inf):
        raise InputError("exponent", (trunk_exponent, fresh_exponent), "must be above -1", "give decaying signals")
    return (1 + trunk_exponent) / (1 + fresh_exponent)


def _steps(name: str, value: ArrayLike) -> np.ndarray:
    rule, fix = "must be positive and finite", "give a number of steps"
    array = checks.positive(name, value, rule=rule, fix=fix)
    if array.size == 0:
        raise InputError(name, [], rule, fix)
    return array
