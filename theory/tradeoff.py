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
to where the full depth alone is as good, if that ever comes (:meth:`Tradeoff.winning_window`).

The gain that counts is *iso-loss*: the cost of the full depth alone at the grown run's loss, over the grown run's cost.
It can be 1.15 where the iso-iteration gain T/(n T + (1 - n) u) reads 5, because a fixed run may stop early too.

Stages: with depths l_0 < l_1 < ... of cost c_k and signals A_k u_k^-s_k, u_k what is left when stage k begins, the same
condition gives each stage its own u_k*; a stage is worth having only where these come out ordered, u_1* > u_2* > ...
Where they do not, neighbours collapse into one (pooling of adjacent violators). Signal per cost A_k/(c_k - c_{k-1})
that is the same for all, or grows with k, collapses everything: a single expansion is best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import scipy
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BestRun", "StageSignal", "Tradeoff", "best_stages", "fit_timing_exponent", "stage_tails", "timing_exponent"]

Exponent = Annotated[float, Meta(gt=0, le=10)]
Ratio = Annotated[float, Meta(gt=0, lt=1)]
LARGEST = 1e15  # horizons searched


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

    def winning_horizon(self) -> float | None:
        """Smallest horizon from 1 to 1e15 at which growing wins; None if there is none.

        For kappa = 1 and s_x > s_w: [(s_x A_x/(s_w A_w)) n/(1 - n)]^{1/(s_x - s_w)}.
        """
        grid = np.geomspace(1.0, LARGEST, 61)
        won = np.array([self.wins(t) for t in grid])
        if not won.any():
            return None
        first = int(np.argmax(won))
        if first == 0:
            return 1.0
        low, high = grid[first - 1], grid[first]
        while high / low > 1 + 1e-9:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.wins(middle) else (middle, high)
        return float(high)

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

    def winning_window(self) -> tuple[float, float] | None:
        """First range of compute from 1 to 1e15 full-depth steps in which growing ends lowest; None if nowhere.

        The upper end is infinite where growing still does at 1e15.
        """
        grid = np.geomspace(1.0, LARGEST, 121)
        lowest = np.array([self.best(c).lowest == "grown" for c in grid])
        if not lowest.any():
            return None
        first = int(np.argmax(lowest))
        after = np.flatnonzero(~lowest[first:])
        low = float(grid[0]) if first == 0 else self._change(grid[first - 1], grid[first])
        if not len(after):
            return low, math.inf
        return low, self._change(grid[first + after[0] - 1], grid[first + after[0]])

    def _change(self, low: float, high: float) -> float:
        """Compute between two at which growing begins, or ceases, to end lowest."""
        before = self.best(low).lowest == "grown"
        while high / low > 1 + 1e-9:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if (self.best(middle).lowest == "grown") == before else (low, middle)
        return float(high)

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


def fit_timing_exponent(horizon: ArrayLike, tail: ArrayLike) -> tuple[float, float]:
    """(gamma, prefactor) of tail = prefactor x horizon^gamma, least squares in logarithms: measured small, used large.

    Args:
        horizon: T of at least two small runs, shape (n,).
        tail: Best T - tau of each, shape (n,).

    Raises:
        InputError: if a number is not positive, the lengths differ, or all horizons are equal.
    """
    t, u = _steps("horizon", horizon), _steps("tail", tail)
    if t.ndim != 1 or t.shape != u.shape or len(np.unique(t)) < 2:
        raise InputError("horizon", t.shape, "needs two different horizons, one tail each", "run another horizon")
    gamma, level = np.polyfit(np.log(t), np.log(u), 1)
    return float(gamma), float(math.exp(level))


class StageSignal(Spec, frozen=True, kw_only=True):
    """What one stage adds.

    Args:
        cost: c_k - c_{k-1}, added cost per step; for the first stage c_0.
        amplitude: A_k, kappa included, of its signal A_k u^-s_k.
        exponent: s_k.
    """

    cost: Positive
    amplitude: Positive
    exponent: Exponent


def stage_tails(stages: Sequence[StageSignal], horizon: float) -> np.ndarray:
    """u_k* of every later stage by itself, the condition above with n/(1 - n) -> c_0/(c_k - c_{k-1}); shape (m,).

    Args:
        stages: The starting depth first, then each that may be grown to, in order of depth.
        horizon: T.
    """
    first, *later = _stages(stages)
    t = float(_steps("horizon", horizon))
    price = first.exponent * first.amplitude * t ** (-1 - first.exponent) / first.cost  # loss per unit of cost
    return np.array([(s.exponent * s.amplitude / (price * s.cost)) ** (1 / (1 + s.exponent)) for s in later])


def best_stages(stages: Sequence[StageSignal], horizon: float) -> list[tuple[int, float]]:
    """Which stages to have, and when: [(index of the deepest stage reached, u)], from early to late.

    A stage whose u_k* is not above the next one's collapses with it into a single, larger expansion, whose u solves
    sum s_k A_k u^{-1 - s_k} = (loss per cost) sum (c_k - c_{k-1}). Depths whose u is not below T are left out: start
    from them and ask again.

    Args:
        stages: The starting depth first, then each that may be grown to, in order of depth.
        horizon: T.

    Returns:
        One pair for each expansion that remains, tails strictly decreasing and below T; empty if there is none.
    """
    first, *later = _stages(stages)
    t = float(_steps("horizon", horizon))
    price = first.exponent * first.amplitude * t ** (-1 - first.exponent) / first.cost
    tails = stage_tails(stages, horizon)
    pools = [([k], float(tails[k])) for k in range(len(later))]
    k = 0
    while k + 1 < len(pools):
        if pools[k][1] > pools[k + 1][1] * (1 + 1e-12):
            k += 1
            continue
        members = pools[k][0] + pools[k + 1][0]
        pools[k : k + 2] = [(members, _pooled_tail([later[i] for i in members], price))]
        k = max(k - 1, 0)
    return [(members[-1] + 1, tail) for members, tail in pools if tail < t]


def _pooled_tail(members: Sequence[StageSignal], price: float) -> float:
    cost = price * sum(s.cost for s in members)

    def surplus(log_u: float) -> float:
        return math.log(sum(s.exponent * s.amplitude * math.exp(-(1 + s.exponent) * log_u) for s in members) / cost)

    single = [math.log(s.exponent * s.amplitude / (price * s.cost)) / (1 + s.exponent) for s in members]
    low, high = min(single), max(single)  # the pooled tail lies between those of its members
    if high - low < 1e-12:
        return math.exp(low)
    return math.exp(scipy.optimize.brentq(surplus, low - 1e-9, high + 1e-9, xtol=1e-14))


def _stages(stages: Sequence[StageSignal]) -> Sequence[StageSignal]:
    if len(stages) < 2:
        raise InputError("stages", len(stages), "needs a starting depth and one to grow to", "give at least two")
    return stages


def _steps(name: str, value: ArrayLike) -> np.ndarray:
    rule, fix = "must be positive and finite", "give a number of steps"
    array = checks.positive(name, value, rule=rule, fix=fix)
    if array.size == 0:
        raise InputError(name, [], rule, fix)
    return array
