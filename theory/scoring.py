"""How good a prediction was, once the runs are made: each measured gap's place among its predicted draws.

The probability integral transform (PIT) of a measured value y is F(y), with F the predicted distribution's function. If
predictions are honest, PITs of many of them are uniform in [0, 1]: too many near 0 and 1 mean intervals too narrow, too
many in the middle too wide (Dawid 1984, J. R. Stat. Soc. A 147, 278).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.prediction import JointDraws, Quantiles

if TYPE_CHECKING:
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan

__all__ = ["draws_of", "gap_draws", "loss_draws", "pit", "quantiles"]

DRAWS = 200
DRAWN_AS = {"progressive": "grown", "small_equal_compute": "never"}  # names of runs in a plan's draws


def draws_of(field: RecoveryField, plans: Mapping[str, Plan], *, number: int = DRAWS, seed: int = 0) -> JointDraws:
    """Joint draws of the final losses that runs of ``plans`` will show, each with an error of its own.

    Args:
        field: Posterior, of pilots of the same seed and data order.
        plans: By name, each of one depth from the small to the full one or grown once between those.
        number: How many draws.
        seed: Of the generator.
    """
    before, after, depths = [], [], []
    for plan in plans.values():
        total = plan.schedule.total_area
        at = total if plan.depth == field.small_depth else float(plan.schedule.area(plan.tau or 0))
        before.append(at)
        after.append(total - at)
        depths.append(plan.depth)
    losses = field.draws(field.points(before, after, depths), number=number, seed=seed, measured=True)
    return JointDraws(
        names=tuple(plans), measured=(True,) * len(plans), losses=tuple(tuple(row) for row in losses.tolist())
    )


def loss_draws(draws: JointDraws, name: str) -> np.ndarray:
    """What the run called ``name`` ends at, in every draw, (draws,).

    Args:
        draws: Joint.
        name: ``progressive``, of a control, or of a row of the menu.

    Raises:
        InputError: if it is not among them.
    """
    drawn = DRAWN_AS.get(name, name)
    drawn = drawn if drawn in draws.names else name
    if drawn not in draws.names:
        raise InputError("draws", name, f"is not among {', '.join(draws.names)}", "plan again with it")
    return np.array(draws.losses)[:, draws.names.index(drawn)]


def gap_draws(draws: JointDraws, grown: str, against: str) -> np.ndarray:
    """(grown - control)/control in every draw, (draws,).

    Args:
        draws: Joint.
        grown: Name of the run that grows.
        against: Name of the control.

    Raises:
        InputError: if the draws do not hold both.
    """
    return loss_draws(draws, grown) / loss_draws(draws, against) - 1


def quantiles(drawn: np.ndarray) -> Quantiles:
    """Median and 90 % interval.

    Args:
        drawn: Of one quantity, (n,).

    Raises:
        InputError: if a draw is not finite.
    """
    low, median, high = np.quantile(checks.finite("drawn", drawn), [0.05, 0.5, 0.95])
    return Quantiles(low=float(low), median=float(median), high=float(high))


def pit(drawn: np.ndarray, measured: float) -> float:
    """Share of draws below the measured value, in (0, 1): (k + 1/2)/(n + 1) for k of n.

    >>> pit(np.array([1.0, 2.0, 3.0]), 2.5)
    0.625

    Args:
        drawn: Of one quantity, (n,).
        measured: Its value.

    Raises:
        InputError: if a number is not finite.
    """
    checks.finite("measured", measured)
    return (float((checks.finite("drawn", drawn) < measured).sum()) + 0.5) / (len(drawn) + 1)
