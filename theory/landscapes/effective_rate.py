r"""One learning rate that says what a run's two learning rates and its weight decay do together.

Laws of this package take one learning rate a step. A run of Muon has two, of the matrices and of the rest (embeddings,
head, vectors), and decay changes what a rate does: where updates have a size of their own, as Muon's have, a matrix of
size R turns by eta/R a step (Kosson et al., arXiv 2305.17212), and R follows from rate and decay alone,

    R_{k+1}^2 = (1 - eta_k lambda)^2 R_k^2 + eta_k^2,        r_k = eta_k / R_k,

with R the root mean square singular value in units of the update's, each update taken as orthogonal to the weights. At
constant eta it goes to R^2 = eta/(2 lambda - eta lambda^2) within 1/(2 eta lambda) steps: the rate eta of two runs that
differ in their peak matters through its square root, and decay as much as the rate. The rest enters by its share w,

    e_k = (1 - w) r_k/max r + w a_k/max a,    times max r,

which only runs can fix in which the two go different ways. What follows from e is a law's affair: `law.loss(e, step)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["joint_rates", "turning_rates"]


def turning_rates(rates: ArrayLike, *, weight_decay: float, initial_size: float) -> np.ndarray:
    """r_k = eta_k/R_k, how far matrices turn at each update.

    Args:
        rates: Learning rate eta_k of the matrices at each update, (steps,).
        weight_decay: lambda, decoupled: weights are multiplied by 1 - eta lambda.
        initial_size: R_0, root mean square singular value of the matrices at first, in units of the update's.

    Returns:
        Radians a step, (steps,).

    Raises:
        InputError: for rates that are negative or no numbers, a negative decay, or a size that is not positive.
    """
    eta = checks.non_negative("rates", rates)
    decay = float(checks.non_negative("weight_decay", weight_decay))
    square = float(checks.positive("initial_size", initial_size)) ** 2
    turned = np.empty(eta.shape)
    for k, rate in enumerate(eta.tolist()):
        turned[k] = rate / square**0.5
        square = (1 - rate * decay) ** 2 * square + rate**2
    return turned


def joint_rates(matrices: ArrayLike, others: ArrayLike, *, share: float) -> np.ndarray:
    """e_k = (1 - w) r_k + w a_k max r/max a.

    Args:
        matrices: r_k, of the matrices, (steps,).
        others: a_k, of the rest, in any unit, (steps,).
        share: w, in [0, 1].

    Returns:
        In the unit of ``matrices``, (steps,).

    Raises:
        InputError: for rates that are negative, no numbers, zero throughout or not as many, or another share.
    """
    r, a = checks.non_negative("matrices", matrices), checks.non_negative("others", others)
    w = float(checks.within("share", share, 0, 1))
    if r.shape != a.shape:
        raise InputError("others", a.shape, f"must be {r.shape}, one rate for each of the matrices'", "match them")
    checks.positive("largest of matrices", r.max(initial=0.0))
    checks.positive("largest of others", a.max(initial=0.0))
    return (1 - w) * r + w * a * (r.max() / a.max())
