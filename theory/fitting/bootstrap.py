"""Wild cluster bootstrap with held-out residuals, and intervals from its replicas.

Residuals within a curve are correlated, so a run's log residuals stay together and are multiplied by one random weight
of Webb's six-point distribution; roles stay filled, unlike when runs are drawn anew. The residuals of a run are best
those of a fit without it: a fit of ten parameters bends towards every smooth deviation of a curve, and its own
residuals give intervals several times too narrow.

References: MacKinnon, Nielsen & Webb, J. Appl. Econometrics 38 (2023) 671 (held-out residuals); Cameron, Gelbach &
Miller, Rev. Econ. Stat. 90 (2008) 414; Webb, Queen's Econ. Dept. WP 1315 (2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.plan import Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LEVEL", "interval", "resampled_losses"]

WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])
LEVEL = 0.9  # of the intervals, unless another is asked for


def resampled_losses(
    predicted: Sequence[np.ndarray], residuals: Sequence[np.ndarray], *, replicas: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """Losses of all runs, once for each replica: predicted x exp(residual x one weight a run).

    Args:
        predicted: Losses that the fit gives at each run's points.
        residuals: log(loss/prediction) at the same points, predictions best made without the run.
        replicas: How many.
        seed: Of the weights.

    Returns:
        One list of losses a replica, a run an entry.

    Raises:
        InputError: if the number of replicas or the seed is not a whole number >= 0.
    """
    checks.whole("replicas", replicas, 0)
    checks.whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    for _ in range(replicas):
        yield [
            losses * np.exp(residual * rng.choice(WEBB)) for losses, residual in zip(predicted, residuals, strict=True)
        ]


def interval(values: ArrayLike, *, level: float = LEVEL, estimate: float | None = None) -> Interval:
    """The central interval that holds ``level`` of the ``values``, by linear interpolation between them.

    Args:
        values: One number a replica, at least one.
        level: Share, in (0, 1).
        estimate: Of the fit to the data themselves: the interval is widened to hold it. Replicas of a parameter at its
            bound, or of one run, may all lie on one side of it.

    Returns:
        The interval.

    Raises:
        InputError: if a value is not finite or the level does not lie in (0, 1).
    """
    checks.finite("values", values)
    checks.inside("level", level, 0, 1, fix="give a share such as 0.9")
    low, high = np.quantile(np.asarray(values, dtype=float), [(1 - level) / 2, (1 + level) / 2])
    if estimate is not None:
        checks.finite("estimate", estimate)
        low, high = min(low, estimate), max(high, estimate)
    return Interval(low=float(low), high=float(high), level=level)
