r"""What weight decay makes of a learning rate: how far matrices turn at each update.

Where updates have a size of their own, as Muon's have, a matrix of size R turns by eta/R a step (Kosson et al., arXiv
2305.17212), and R follows from rate and decay alone,

    R_{k+1}^2 = (1 - eta_k lambda)^2 R_k^2 + eta_k^2,        r_k = eta_k / R_k,

with R the root mean square singular value in units of the update's, each update taken as orthogonal to the weights. At
constant eta it goes to R^2 = eta/(2 lambda - eta lambda^2) within 1/(2 eta lambda) steps: the rate eta of two runs that
differ in their peak matters through its square root, and decay as much as the rate. What follows from r is a law's
affair: ``law.loss(r, step)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["INITIAL_SIZE", "turning_rates"]

INITIAL_SIZE = 0.5  # R_0 of a GPT-2 under Muon: tried first; .25 and 1 were tried later and predicted other runs worse


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
