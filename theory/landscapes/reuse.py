r"""The law of reuse: what a trained trunk is worth to the model that is grown from it.

Notation: S, u learning-rate area before and after the expansion, eta the rate of the last update,

    x = ln(1 + S/S0),   y = ln(1 + u/u0)

    small depth   L0 + G + a exp(-s x(S))                                   + b eta
    grown         L0     + A exp(-alpha1 x(S) - alpha2 y(u) + alpha3 x y)   + b eta
    full depth    the same at S = 0:  L0 + A exp(-alpha2 y)                 + b eta

A D1^-alpha1 D2^(-alpha2 + alpha3 ln D1) + E is the form fitted to pre-training in two parts, continued or grown, in
arXiv 2510.06548, D1 and D2 being the tokens of each: the better trained the trunk, the less each further token buys.
Here areas take the place of tokens and onsets keep both ends finite; b eta is what is lost while rates are high.
Growing at step 0 is the fixed run. Growing at the last step is not never growing: u = 0 is beyond what the form is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.spec import NonNegative, Positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import Schedule

__all__ = ["ReuseLaw"]


class ReuseLaw(GrowthLandscape, frozen=True, kw_only=True, tag="reuse"):
    """Loss of small, full and grown runs by the law of reuse.

    Attributes:
        small_depth: l.
        full_depth: L.
        floor: L0, nats.
        small_gap: G, what the small depth can never learn, nats.
        small_amplitude: a, nats.
        small_exponent: s.
        amplitude: A, nats.
        trunk_exponent: alpha1, of the area before the expansion.
        exponent: alpha2, of the area after it.
        saturation: alpha3, by which the trunk's training lowers alpha2.
        trunk_onset: S0, learning rate x steps.
        onset: u0, learning rate x steps.
        noise: b, nats per unit of learning rate.
    """

    floor: NonNegative
    small_gap: NonNegative
    small_amplitude: NonNegative
    small_exponent: NonNegative
    amplitude: NonNegative
    trunk_exponent: NonNegative
    exponent: NonNegative
    saturation: NonNegative
    trunk_onset: Positive
    onset: Positive
    noise: NonNegative = 0.0

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates of a run that keeps ``depth``, one of the two. Nats."""
        self.check_depth(depth)
        area = np.asarray(schedule.area(step), float)
        above = self._small(area) if depth == self.small_depth else self.floor + self._signal(np.zeros_like(area), area)
        return above + self._warm(schedule, step)

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates of a run that grows after ``tau`` updates; up to it the small depth's. Nats."""
        area, begun = np.asarray(schedule.area(step), float), float(schedule.area(checks.non_negative("tau", tau)))
        after = self.floor + self._signal(np.full_like(area, begun), np.maximum(area - begun, 0.0))
        grown = np.asarray(step, float) > tau
        return np.where(grown, after, self._small(area)) + self._warm(schedule, step)

    def _small(self, area: np.ndarray) -> np.ndarray:
        falls = np.exp(-self.small_exponent * np.log1p(area / self.trunk_onset))
        return self.floor + self.small_gap + self.small_amplitude * falls

    def _signal(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        x, y = np.log1p(before / self.trunk_onset), np.log1p(after / self.onset)
        return self.amplitude * np.exp(-self.trunk_exponent * x - self.exponent * y + self.saturation * x * y)

    def _warm(self, schedule: Schedule, step: ArrayLike) -> np.ndarray:
        """b eta of the last update."""
        last = np.maximum(np.asarray(step, float) - 1, 0)
        return self.noise * np.asarray(schedule.lr(last), float)
