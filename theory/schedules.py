r"""Learning-rate schedules: plain data with an exact learning-rate area S(t) and its inverse.

Notation
    t        updates done so far, 0 <= t <= T; ``step`` k = 0 ... T-1 is the update that takes t = k to k + 1
    eta_k    learning rate of update k, eta_k = ``peak_lr`` * s_k
    w        ``warmup_steps``: s_k = (k + 1) / w for k < w, so that the peak is reached, and never a zero step taken
    i, n     step and number of steps after the warm-up, i = k - w, n = T - w
    S(t)     ``area``: sum of eta_k over k < t, *intrinsic time*; between integers it is linear

Decays are sampled at the left end of each step (first value 1, last value just above ``final``), as in Schaipp et al.
(arXiv 2501.18965), so that a linear decay over T steps is (T - k)/T, the schedule that is optimal for the last
iterate (Defazio et al., arXiv 2310.07831). Every area below is a closed form, not a running sum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec
import numpy as np
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.decay_shapes import DECAYS, power_sum
from latebloom.theory.errors import InputError
from latebloom.theory.spec import Count, Fraction, NonNegative, Positive, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    Array = np.ndarray

__all__ = [
    "WSD",
    "AnySchedule",
    "Constant",
    "Cosine",
    "Cyclic",
    "InverseSqrt",
    "Linear",
    "Piecewise",
    "Schedule",
    "Tail",
    "wsd",
]

Steps = Annotated[int, Meta(ge=1, le=10**9)]


class Schedule(Spec, frozen=True, kw_only=True, tag_field="shape"):
    """A learning rate for each of ``steps`` updates.

    Every method raises InputError for steps, times and areas outside the schedule.

    Subclasses give the shape after the warm-up through ``_unit`` (relative learning rate at i) and ``_unit_area``
    (its sum over 0 ... m-1); everything else follows.
    """

    def lr(self, step: ArrayLike) -> Array:
        """Learning rate of update ``step``, an integer or integers in [0, steps)."""
        raise NotImplementedError

    def _area(self, t: Array) -> Array:
        """S at integers."""
        raise NotImplementedError

    @property
    def horizon(self) -> int:
        """Number of updates T."""
        raise NotImplementedError

    @property
    def peak(self) -> float:
        """Largest learning rate."""
        return float(np.max(self.lrs()))

    def lrs(self) -> Array:
        """All learning rates, shape (steps,)."""
        return self.lr(np.arange(self.horizon))

    def area(self, t: ArrayLike) -> Array:
        """Learning-rate area S(t) after ``t`` updates; exact at integers, linear between them.

        >>> float(Constant(steps=10, peak_lr=0.5).area(4))
        2.0
        """
        t = _checked("t", t, 0, self.horizon)
        whole = np.minimum(np.floor(t), self.horizon - 1).astype(np.int64)
        return self._area(whole) + (t - whole) * self.lr(whole)

    @property
    def total_area(self) -> float:
        """S(T), the learning-rate area of the whole run."""
        return float(self.area(self.horizon))

    def area_inverse(self, area: ArrayLike) -> Array:
        """S^{-1}: the smallest t with S(t) = ``area``, by bisection on the closed form (exact, O(log T)).

        >>> float(Constant(steps=10, peak_lr=0.5).area_inverse(2.0))
        4.0
        """
        total = self.total_area
        area = _checked("area", area, 0.0, total)
        low = np.zeros(np.shape(area), dtype=np.int64)
        high = np.full(np.shape(area), self.horizon, dtype=np.int64)
        while np.any(high - low > 1):  # invariant: S(low) < area <= S(high), or low = 0
            middle = (low + high) // 2
            below = self.area(middle) < area
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        start, lr = self.area(low), self.lr(np.minimum(low, self.horizon - 1))
        inside = np.where(area > start, (area - start) / np.where(lr > 0, lr, 1.0), 0.0)
        return low + np.clip(inside, 0.0, 1.0)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the learning rate against steps (:func:`latebloom.theory.display.plot_schedule`).

        Args:
            axes: Where to draw; a new figure by default.
        """
        from latebloom.theory import display

        return display.plot_schedule(self, axes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from latebloom.theory import display

        return display.schedule_html(self)

    def with_peak(self, peak: float) -> AnySchedule:
        """The same shape at another largest learning rate.

        >>> Piecewise(at=(0, 2, 4), rate=(0.0, 0.1, 0.05)).with_peak(1.0).rate
        (0.0, 1.0, 0.5)

        Args:
            peak: Largest learning rate > 0.

        Raises:
            InputError: if it is not positive.
        """
        return self.replace(peak_lr=peak)  # type: ignore[return-value]

    def with_steps(self, steps: int) -> AnySchedule:
        """The same shape over another horizon: warm-up and decay keep their shares, the peak stays.

        Args:
            steps: The new horizon T >= 1.

        Raises:
            InputError: for a tail, which has no shape of its own; if ``steps`` is not a whole number >= 1.
        """
        raise NotImplementedError

    def remaining(self, t: ArrayLike) -> Array:
        """Share of the learning-rate mass that is left after ``t`` updates, (S(T) - S(t))/S(T)."""
        return 1.0 - self.area(t) / self.total_area


class _Warm(Schedule, frozen=True, kw_only=True):
    """A linear warm-up, then a shape that the subclass gives.

    Args:
        steps: T, updates of the whole schedule.
        peak_lr: eta, learning rate at the end of the warm-up.
        warmup_steps: w, updates of warm-up, at most ``steps``.
    """

    steps: Steps
    peak_lr: Positive
    warmup_steps: Count = 0

    def check(self) -> None:
        if self.warmup_steps > self.steps:
            rule = f"is longer than the schedule's {self.steps} steps"
            raise InputError("warmup_steps", self.warmup_steps, rule, f"give at most {self.steps}")

    @property
    def horizon(self) -> int:
        return self.steps

    @property
    def peak(self) -> float:
        return self.peak_lr

    def lr(self, step: ArrayLike) -> Array:
        step = _checked("step", step, 0, self.steps - 1)
        if not np.all(step == np.floor(step)):
            raise InputError("step", step, "must be whole", "round it first")
        w = self.warmup_steps
        warm = (step + 1.0) / max(w, 1)
        return self.peak_lr * np.where(step < w, warm, self._unit(np.maximum(step - w, 0)))

    def _area(self, t: Array) -> Array:
        w = self.warmup_steps
        m = np.minimum(t, w)
        return self.peak_lr * (m * (m + 1.0) / (2 * max(w, 1)) + self._unit_area(np.maximum(t - w, 0)))

    def with_steps(self, steps: int) -> AnySchedule:
        steps = _horizon(steps)
        scaled = self.replace(steps=steps, warmup_steps=round(self.warmup_steps * steps / self.steps))
        return cast("AnySchedule", scaled)

    def _unit(self, i: Array) -> Array:
        raise NotImplementedError

    def _unit_area(self, m: Array) -> Array:
        raise NotImplementedError


class Constant(_Warm, frozen=True, kw_only=True, tag="constant"):
    """s = 1 after the warm-up."""

    def _unit(self, i: Array) -> Array:
        return np.ones_like(i, dtype=float)

    def _unit_area(self, m: Array) -> Array:
        return np.asarray(m, dtype=float)


class _Decaying(_Warm, frozen=True, kw_only=True):
    """One decay over all the steps after the warm-up.

    Args:
        final: f, the last learning rate over the peak.
    """

    final: Fraction = 0.0

    def _unit(self, i: Array) -> Array:
        return DECAYS[self._decay()][0](i, max(self.steps - self.warmup_steps, 1), self.final)

    def _unit_area(self, m: Array) -> Array:
        return DECAYS[self._decay()][1](np.asarray(m, dtype=float), max(self.steps - self.warmup_steps, 1), self.final)

    def _decay(self) -> str:
        return str(self.__struct_config__.tag)


class Linear(_Decaying, frozen=True, kw_only=True, tag="linear"):
    """s_i = 1 - (1 - f) i/n with f = ``final``, the last learning rate over the peak."""


class Cosine(_Decaying, frozen=True, kw_only=True, tag="cosine"):
    """s_i = f + (1 - f) (1 + cos(pi i/n))/2 with f = ``final``, the last learning rate over the peak."""


class InverseSqrt(_Warm, frozen=True, kw_only=True, tag="inverse_sqrt"):
    """s_i = 1/sqrt(1 + i/c); c = 1 is the textbook 1/sqrt(t), c = w that of Vaswani et al. (arXiv 1706.03762).

    Args:
        timescale: c, updates after the warm-up until the learning rate has fallen to the peak over sqrt(2).
    """

    timescale: Steps = 1

    def _unit(self, i: Array) -> Array:
        return 1.0 / np.sqrt(1.0 + i / self.timescale)

    def _unit_area(self, m: Array) -> Array:
        c = self.timescale
        return math.sqrt(c) * (power_sum(c + np.asarray(m) - 1, -0.5) - power_sum(np.asarray(c - 1), -0.5))


class Cyclic(_Warm, frozen=True, kw_only=True, tag="cyclic"):
    """Cosine decays to ``final`` that restart every ``period`` steps (Loshchilov & Hutter, arXiv 1608.03983).

    Args:
        period: Updates of one decay.
        final: Last learning rate of each decay over the peak.
    """

    period: Steps
    final: Fraction = 0.0

    def with_steps(self, steps: int) -> AnySchedule:
        steps = _horizon(steps)
        warmup = round(self.warmup_steps * steps / self.steps)
        return self.replace(steps=steps, warmup_steps=warmup, period=max(1, round(self.period * steps / self.steps)))

    def _unit(self, i: Array) -> Array:
        return DECAYS["cosine"][0](i % self.period, self.period, self.final)

    def _unit_area(self, m: Array) -> Array:
        cycles, rest = np.divmod(np.asarray(m, dtype=float), self.period)
        area = DECAYS["cosine"][1]
        return cycles * area(np.asarray(float(self.period)), self.period, self.final) + area(
            rest, self.period, self.final
        )


class WSD(_Warm, frozen=True, kw_only=True, tag="wsd"):
    """Warm-up, stable at the peak, then a ``decay`` to ``final`` times the peak over the last ``decay_steps``.

    The decay's shapes are those of :mod:`latebloom.theory.decay_shapes`; an exponential one needs ``final`` > 0.

    Args:
        decay_steps: Updates of the decay; 0 for none.
        decay: Shape of the decay.
        final: Last learning rate over the peak.
    """

    decay_steps: Count
    decay: Literal["linear", "cosine", "sqrt", "exponential"] = "linear"
    final: Fraction = 0.0

    def check(self) -> None:
        super().check()
        room = self.steps - self.warmup_steps
        if self.decay_steps > room:
            rule = f"does not fit: {self.steps} steps less {self.warmup_steps} of warm-up leave {room}"
            raise InputError("decay_steps", self.decay_steps, rule, f"give at most {room}, or more steps")
        if self.decay == "exponential" and self.final == 0:
            raise InputError("final", self.final, "is never reached by an exponential decay", "give such as 0.1")

    def with_steps(self, steps: int) -> AnySchedule:
        steps = _horizon(steps)
        warmup = round(self.warmup_steps * steps / self.steps)
        decay = min(round(self.decay_steps * steps / self.steps), steps - warmup)
        return self.replace(steps=steps, warmup_steps=warmup, decay_steps=decay)

    def _unit(self, i: Array) -> Array:
        j = i - (self.steps - self.warmup_steps - self.decay_steps)
        shape, _ = DECAYS[self.decay]
        return np.where(j < 0, 1.0, shape(np.maximum(j, 0), max(self.decay_steps, 1), self.final))

    def _unit_area(self, m: Array) -> Array:
        stable = self.steps - self.warmup_steps - self.decay_steps
        _, area = DECAYS[self.decay]
        return np.minimum(m, stable) + area(np.maximum(m - stable, 0.0), max(self.decay_steps, 1), self.final)


class Piecewise(Schedule, frozen=True, kw_only=True, tag="piecewise"):
    """Straight lines through a table: learning rate ``lr[j]`` at update ``at[j]``; a step at which two values stand
    jumps from the first to the second. Trapezoids, stairs and whole measured schedules are tables.

    Args:
        at: Updates, from 0 to T, not decreasing, none more than twice.
        rate: Learning rates at them, >= 0; before a jump the first value is the limit from the left.
    """

    at: Annotated[tuple[Count, ...], Meta(min_length=2, max_length=100_000)]
    rate: Annotated[tuple[NonNegative, ...], Meta(min_length=2, max_length=100_000)]

    def check(self) -> None:
        if len(self.at) != len(self.rate):
            raise InputError("rate", len(self.rate), f"needs one value for each of {len(self.at)} steps", "match them")
        if self.at[0] != 0:
            raise InputError("at", self.at[0], "must begin with 0", "say the learning rate from the first update on")
        gaps = np.diff(self.at)
        if np.any(gaps < 0) or np.any((gaps[1:] == 0) & (gaps[:-1] == 0)) or self.at[-1] == 0:
            raise InputError(
                "at", self.at[:6], "must not decrease, nor repeat a step more than twice", "sort the table"
            )
        if max(self.rate) == 0:
            raise InputError("rate", 0.0, "is zero everywhere", "give a learning rate")

    @property
    def horizon(self) -> int:
        return self.at[-1]

    def with_peak(self, peak: float) -> AnySchedule:
        peak = float(checks.positive("peak", peak))
        return self.replace(rate=tuple(peak * (rate / self.peak) for rate in self.rate))

    def with_steps(self, steps: int) -> AnySchedule:
        steps = _horizon(steps)
        return self.replace(at=tuple(round(t * steps / self.horizon) for t in self.at))

    def lr(self, step: ArrayLike) -> Array:
        step = _checked("step", step, 0, self.horizon - 1)
        at, rate = np.array(self.at), np.array(self.rate)
        left = np.searchsorted(at, step, side="right") - 1
        return rate[left] + (step - at[left]) * (rate[left + 1] - rate[left]) / (at[left + 1] - at[left])

    def _area(self, t: Array) -> Array:
        at, rate = np.array(self.at), np.array(self.rate)
        slope = np.diff(rate) / np.maximum(np.diff(at), 1)

        def within(j: Array, steps: Array) -> Array:
            return steps * rate[j] + slope[j] * steps * (steps - 1) / 2

        return self._pieces(t, within)

    def _pieces(self, t: Array, within: Callable[[Array, Array], Array]) -> Array:
        """Sum of whole pieces before ``t`` and the part of the last, ``within(piece, time in it)``."""
        at = np.array(self.at)
        pieces = np.arange(len(at) - 1)
        before = np.concatenate([[0.0], np.cumsum(within(pieces, np.diff(at)))])
        left = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
        return before[left] + within(left, t - at[left])


class Tail(Schedule, frozen=True, kw_only=True, tag="tail"):
    """What is left of ``base`` after ``start_step`` updates: the schedule of a run that starts there (cold start).

    Args:
        base: The whole schedule.
        start_step: Updates of it that are left out, less than its horizon.
    """

    base: AnySchedule
    start_step: Count

    def check(self) -> None:
        if self.start_step >= self.base.horizon:
            rule = f"leaves nothing of the base schedule's {self.base.horizon} steps"
            raise InputError("start_step", self.start_step, rule, f"give at most {self.base.horizon - 1}")

    @property
    def horizon(self) -> int:
        return self.base.horizon - self.start_step

    def with_peak(self, peak: float) -> AnySchedule:
        peak = float(checks.positive("peak", peak))  # of the tail itself
        return self.replace(base=self.base.with_peak(peak * (self.base.peak / self.peak)))

    def with_steps(self, steps: int) -> AnySchedule:
        raise InputError("schedule", "tail", "has no shape of its own to stretch", "stretch its base schedule")

    def lr(self, step: ArrayLike) -> Array:
        step = _checked("step", step, 0, self.horizon - 1)
        return self.base.lr(step + self.start_step)

    def _area(self, t: Array) -> Array:
        return self.base.area(t + self.start_step) - self.base.area(self.start_step)


AnySchedule = Constant | Linear | Cosine | InverseSqrt | WSD | Cyclic | Piecewise | Tail
msgspec.structs.fields(Constant)  # resolve annotations early, so that a typo fails at import


def wsd(*, steps: int, peak_lr: float, warmup: float = 0.02, decay: float = 0.1) -> WSD:
    """Latebloom's default schedule: WSD with ``warmup`` = 2 % and ``decay`` = 10 % of the steps, linear to 0.

    The paper's schedule (arXiv 2511.04981, section 4). Steps are rounded to the nearest whole number.

    Args:
        steps: T, updates of the whole schedule.
        peak_lr: eta, the largest learning rate.
        warmup: Share of the steps in which the learning rate rises, in [0, 1].
        decay: Share of the steps in which it falls to 0, in [0, 1].

    Raises:
        InputError: if a share lies outside [0, 1], or both together are more than the whole.
    """
    for name, value in {"warmup": warmup, "decay": decay}.items():
        if not 0 <= value <= 1:
            raise InputError(name, value, "must be a share of the steps in [0, 1]", "give a fraction such as 0.1")
    steps = _horizon(steps)
    return WSD(steps=steps, peak_lr=peak_lr, warmup_steps=round(warmup * steps), decay_steps=round(decay * steps))


def _horizon(steps: int) -> int:
    return int(checks.whole("steps", steps, 1, 10**9))


def _checked(name: str, value: ArrayLike, low: float, high: float) -> Array:
    array = np.asarray(value)
    good = np.isfinite(array) & (array >= low) & (array <= high * (1 + 1e-12))
    if not np.all(good):
        bad = array[~good].flat[0] if array.ndim else array[()]
        raise InputError(name, bad.item(), f"must lie in [{low:g}, {high:g}]", "stay inside the schedule")
    return np.minimum(array, high)
