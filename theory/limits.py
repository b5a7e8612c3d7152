r"""How much growing can save at most: two continuations after the expansion, and what each allows.

Notation: loss L = E + A N^-a + B D^-b of a model of size N after D tokens, cost C = 6 N D; excess l = L - E.

**Transfer.** The grown run equals the full depth after (T - tau) + rho tau steps, and costs (T - tau) + n tau of them
(n = c_l/c_L): it beats the full depth of equal compute exactly where rho > n. Where the fixed curve still falls, that
is all that growing must do against a *prescribed* depth.

**Loss-equal.** The grown model goes on as a fixed run of its size did from the same loss. Its state is then the excess
alone, and the best that any growth can do is, at every l, the size that lowers l most per FLOP. At the share
y = A N^-a/l a fall dl costs

    dC = (6/b) A^(1/a) B^(1/b) l^(-1 - 1/a - 1/b) y^(-1/a) (1 - y)^(-1 - 1/b) dl,    least at y* = b/(b + a (b + 1))

against y_f = b/(a + b) of the best fixed size. Their costs down to any l have one ratio,

    C_fixed/C* = ((a + b)/a) y_f^(-1/a) (1 - y_f)^(-1/b) y*^(1/a) (1 - y*)^(1 + 1/b),

1.057 for the exponents .34/.28, 1.083 for .348/.366, 1.17 for .3/.6: so no growth that only keeps its loss saves more
than some 8 % against the best fixed size. It ends at a larger size than that, since y* < y_f. The functions below give
the same ratio for depth at fixed width, for one expansion, for a model that is served, and for a prescribed size. A
term of the loss that no size moves (a width, a vocabulary) belongs to E and changes none of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latebloom.theory import checks
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "fixed_share",
    "head_limit",
    "loss_equal_efficiency",
    "loss_equal_limit",
    "one_expansion_limit",
    "path_share",
    "prescribed_size_limit",
    "served_limit",
    "transfer_efficiency",
    "transfer_lead",
]


def transfer_efficiency(
    loss: float, *, steps: float, tau: float, fixed_steps: ArrayLike, fixed_losses: ArrayLike
) -> float:
    """rho of a measured run: it ends where the full depth ends after (T - tau) + rho tau steps.

    The full depth's loss is interpolated in the logarithm of its steps.

    Args:
        loss: What the grown run ends at, nats.
        steps: T.
        tau: Expansion step, > 0.
        fixed_steps: Horizons of finished runs of the full depth, increasing, shape (runs,).
        fixed_losses: What they end at, decreasing, shape (runs,).

    Returns:
        rho; nan where the loss lies outside what the full depth was measured at, or its losses do not decrease.

    Raises:
        InputError: if a number is out of range or the lengths differ.

    >>> round(transfer_efficiency(3.0, steps=100, tau=50, fixed_steps=[50, 75, 100], fixed_losses=[3.5, 3.0, 2.8]), 9)
    0.5
    """
    checks.positive("tau", tau)
    checks.positive("loss", loss)
    checks.positive("steps", steps)
    return (_steps_at(loss, fixed_steps, fixed_losses) - (steps - tau)) / tau


def loss_equal_efficiency(
    tau: float, *, small_steps: ArrayLike, small_losses: ArrayLike, full_steps: ArrayLike, full_losses: ArrayLike
) -> float:
    """rho of loss-equal growth, t/tau: the grown run goes on as the full depth did from step t, where it had its loss.

    Both curves are of one kind, either those of runs whose learning rate has not decayed yet or the ends of annealed
    runs over their horizons; they are interpolated in the logarithm of the steps.

    Args:
        tau: Expansion step, > 0.
        small_steps: Where the small depth's loss was measured, increasing, shape (n,).
        small_losses: Its losses, nats, shape (n,).
        full_steps: The same of the full depth, shape (m,).
        full_losses: Its losses, decreasing, nats, shape (m,).

    Returns:
        rho; nan where the small depth's loss at tau is outside what the full depth was measured at.

    Raises:
        InputError: if a number is out of range or the lengths differ.

    >>> curves = {"small_steps": [50, 100], "full_steps": [25, 50]}
    >>> round(loss_equal_efficiency(100, small_losses=[4.0, 3.5], full_losses=[4.0, 3.5], **curves), 9)
    0.5
    """
    import numpy as np

    checks.positive("tau", tau)
    step, loss = checks.columns(1, small_steps=small_steps, small_losses=small_losses)
    checks.increasing("small_steps", step, fix="sort the measurements")
    if not step[0] <= tau <= step[-1]:
        return math.nan
    return _steps_at(float(np.interp(math.log(tau), np.log(step), loss)), full_steps, full_losses) / tau


def _steps_at(loss: float, steps: ArrayLike, losses: ArrayLike) -> float:
    """Steps after which a falling curve has ``loss``; nan beyond its ends, or where it does not fall."""
    import numpy as np

    step, fallen = checks.columns(1, steps=steps, losses=losses)
    checks.increasing("steps", step, fix="sort the runs by their horizon")
    if np.any(np.diff(fallen) >= 0) or not fallen[-1] <= loss <= fallen[0]:
        return math.nan
    return float(math.exp(np.interp(-loss, -fallen, np.log(step))))


def transfer_lead(transfer_efficiency: float, price: float, *, tau: float) -> float:
    """Steps of the full depth by which growing leads the full depth of equal compute, tau (rho - n).

    Args:
        transfer_efficiency: rho, steps of the full depth that one step of the small one is worth.
        price: n = c_l/c_L.
        tau: Expansion step.

    Raises:
        InputError: if the price does not lie in (0, 1].
    """
    if not 0 < price <= 1:
        raise InputError("price", price, "must lie in (0, 1]", "give c_l/c_L")
    checks.finite("transfer_efficiency", transfer_efficiency)
    checks.non_negative("tau", tau)
    return tau * (transfer_efficiency - price)


def fixed_share(a: float, b: float) -> float:
    """y_f = b/(a + b), share of the excess that its size leaves to the best fixed model.

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.
    """
    _check(a, b)
    return b / (a + b)


def path_share(a: float, b: float) -> float:
    """y* = b/(b + a (b + 1)), the same for the size that lowers the loss most per FLOP.

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.
    """
    _check(a, b)
    return b / (b + a * (b + 1))


def loss_equal_limit(a: float, b: float) -> float:
    """C_fixed/C* of loss-equal growth through every size, against the best fixed size.

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.

    >>> round(loss_equal_limit(0.34, 0.28), 3), round(loss_equal_limit(0.348, 0.366), 3)
    (1.057, 1.083)
    """
    return _fixed_cost(fixed_share(a, b), a, b) / _path_cost(a, b)


def one_expansion_limit(a: float, b: float) -> float:
    """C_fixed/C of the best loss-equal growth that expands once.

    Minimises c_f l1^(-1/a - 1/b) + 6 N [D(N, 1) - D(N, l1)] over the excess l1 > 1 at which the model grows and the
    size N it grows to (excess 1 at the end, A = B = 1), with D(N, l) = (l - N^-a)^(-1/b).

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.
    """
    import numpy as np
    import scipy.optimize

    best_fixed = _fixed_cost(fixed_share(a, b), a, b)

    def cost(log_excess_and_share: np.ndarray) -> float:
        rise, logit = log_excess_and_share
        excess, share = 1 + math.exp(rise), 1 / (1 + math.exp(-logit))
        return best_fixed * excess ** (-1 / a - 1 / b) + _tail_cost(share, excess, a, b)

    start = np.array([math.log(0.5), math.log(path_share(a, b) / (1 - path_share(a, b)))])
    least = scipy.optimize.minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    return best_fixed / float(least.fun)


def head_limit(a: float, b: float, *, head: float) -> float:
    """C_fixed/C* for depth at fixed width, where a step of depth d costs h + d blocks.

    The best fixed depth and the path are at

        l = A d^-a [1 + (a/b)(1 + h/d)],    l = A d^-a [1 + a (1 + 1/b)(1 + h/d)]

    and C* is the integral of (h + d) (l - A d^-a)^(-1 - 1/b)/b along the second. Without a head it is
    :func:`loss_equal_limit`; where the head is all of the cost depth is free, and the limit 1.

    Args:
        a: Exponent of the depth.
        b: Exponent of the tokens.
        head: h over the best fixed depth: what a step costs at any depth, in units of that model's blocks.

    Raises:
        InputError: if an exponent is not positive or the head's cost negative.
    """
    import scipy.integrate
    import scipy.optimize

    _check(a, b)
    if not 0 <= head < math.inf:
        raise InputError("head", head, "must not be negative", "give the head's cost over the blocks'")

    def excess(depth: float) -> float:  # on the path, A = 1, the best fixed depth = 1
        return depth**-a * (1 + a * (1 + 1 / b) * (1 + head / depth))

    def slope(depth: float) -> float:
        return (
            a * depth ** (-a - 1) * (1 + a * (1 + 1 / b) * (1 + head / depth))
            + depth**-a * a * (1 + 1 / b) * head / depth**2
        )

    def cost_per_fold(log_depth: float) -> float:
        depth = math.exp(log_depth)
        tokens_rate = (excess(depth) - depth**-a) ** (-1 - 1 / b) / b
        return (head + depth) * tokens_rate * slope(depth) * depth

    final = 1 + (a / b) * (1 + head)
    fixed = (1 + head) * (final - 1) ** (-1 / b)
    largest = scipy.optimize.brentq(lambda t: excess(math.exp(t)) - final, -1.0, 1.0 + 20 / a)
    span = 60 * b  # the integrand falls at least like depth^(a/b): nothing is left this far below
    path, _ = scipy.integrate.quad(cost_per_fold, largest - span / a, largest, limit=500, epsabs=0, epsrel=1e-11)
    return fixed / path


def prescribed_size_limit(a: float, b: float, *, size: float) -> float:
    """C_fixed/C of loss-equal growth to a prescribed size, against training that size from the start.

    From the path's own end on growing waits until the last moment:

        limit x size [(1 - y_f)/(1 - y_f size^-a)]^(1/b),

    below it the path is left where it reaches the size.

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.
        size: Prescribed size over the best fixed one's, at least that at which the loss can still be reached.

    Raises:
        InputError: if an exponent is not positive or the size is too small for the loss.
    """
    checks.positive("size", size)
    share = fixed_share(a, b) * size**-a
    if not 0 < share < 1:
        rule = f"never reaches the loss of the best fixed size; that takes more than {fixed_share(a, b) ** (1 / a):.3g}"
        raise InputError("size", size, rule, "give a larger one")
    return _fixed_cost(share, a, b) / _growth_cost(share, a, b)


def served_limit(a: float, b: float, *, served: float) -> float:
    """(Training + serving of the best fixed size)/(the same of loss-equal growth to the best final size).

    Serving Q tokens costs 2 N Q at the final size. The best fixed size then is smaller, and so is the largest size that
    growth visits: it leaves the path there.

    Args:
        a: Exponent of the size.
        b: Exponent of the tokens.
        served: Q over the tokens on which the best fixed size (at Q = 0) is trained.

    Raises:
        InputError: if an exponent is not positive or ``served`` negative.
    """
    import scipy.optimize

    if not 0 <= served < math.inf:
        raise InputError("served", served, "must not be negative", "give tokens served over tokens trained on")
    tokens = served * (1 - fixed_share(a, b)) ** (-1 / b)

    def total(training, logit: float) -> float:
        share = 1 / (1 + math.exp(-logit))
        return training(share, a, b) + 2 * share ** (-1 / a) * tokens

    def least(training) -> float:
        bounds = (_logit(path_share(a, b)), _logit(1 - 1e-9))
        found = scipy.optimize.minimize_scalar(
            lambda t: total(training, t), bounds=bounds, method="bounded", options={"xatol": 1e-10}
        )
        return min(float(found.fun), total(training, bounds[0]))

    return least(_fixed_cost) / least(_growth_cost)


# Costs in units in which A = B = 1 and the excess at the end is 1; sizes are given by their share y = N^-a.


def _fixed_cost(share: float, a: float, b: float) -> float:
    """6 N D of one size down to excess 1."""
    return 6 * share ** (-1 / a) * (1 - share) ** (-1 / b)


def _path_cost(a: float, b: float) -> float:
    """C* down to excess 1."""
    y = path_share(a, b)
    return 6 * a / (a + b) * y ** (-1 / a) * (1 - y) ** (-1 - 1 / b)


def _tail_cost(share: float, excess: float, a: float, b: float) -> float:
    """6 N [D(N, 1) - D(N, excess)]: one size from an excess down to 1."""
    return 6 * share ** (-1 / a) * ((1 - share) ** (-1 / b) - (excess - share) ** (-1 / b))


def _growth_cost(share: float, a: float, b: float) -> float:
    """The path until it reaches the size, that size from there on; C* for sizes beyond the path's end."""
    y = path_share(a, b)
    if share <= y:
        return _path_cost(a, b)
    leave = share / y  # excess at which the path has this size
    return _path_cost(a, b) * leave ** (-1 / a - 1 / b) + _tail_cost(share, leave, a, b)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _check(a: float, b: float) -> None:
    for name, value in (("a", a), ("b", b)):
        if not 0 < value < math.inf:
            raise InputError(
                name, value, "must be a positive exponent", "give that of a loss falling with size and tokens"
            )
