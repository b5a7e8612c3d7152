"""The limits of growing: closed forms against minimisation by brute force, and at both ends."""

import itertools
import math

import numpy as np
import pytest

from latebloom.theory.errors import InputError
from latebloom.theory.limits import (
    fixed_share,
    head_limit,
    loss_equal_efficiency,
    loss_equal_limit,
    one_expansion_limit,
    path_share,
    prescribed_size_limit,
    served_limit,
    transfer_efficiency,
    transfer_lead,
)

EXPONENTS = [(0.34, 0.28), (0.348, 0.366), (0.3, 0.6)]
# Sums over a grid of losses and of sizes, about 150 and 100 to an e-fold, against integrals and exact minima.
GRID = 2e-4


def tokens(size, excess, a, b):
    """D at A = B = 1, infinite where the size never gets there."""
    left = excess - size**-a
    return np.where(left > 0, np.maximum(left, 1e-300) ** (-1 / b), np.inf)


def brute_force_growth(a, b, *, head=0.0, largest=math.inf):
    """Least cost down to excess 1 with any size (up to ``largest``) at every loss: 6 (head + N) dD, summed."""
    excess = np.exp(np.linspace(0, 30 * min(a, b), 1501))
    sizes = np.exp(np.linspace(-30, 20, 5001))
    sizes = sizes[sizes <= largest * (1 + 1e-12)]
    cost = 0.0
    for low, high in itertools.pairwise(excess):
        middle = math.sqrt(low * high)
        able = sizes[sizes**-a < 0.999999 * middle]
        cost += (6 * (head + able) * (middle - able**-a) ** (-1 / b - 1) / b).min() * (high - low)
    return cost


def brute_force_fixed(a, b, *, head=0.0):
    sizes = np.exp(np.linspace(0, 25, 100001))[1:]
    cost = 6 * (head + sizes) * tokens(sizes, 1.0, a, b)
    return sizes[cost.argmin()], cost.min()


@pytest.mark.parametrize(("rho", "n", "better"), [(0.5, 0.4, True), (0.4, 0.5, False)])
def test_growing_wins_where_transfer_exceeds_price(rho, n, better):
    steps, tau = 1000.0, 600.0
    fixed_loss = lambda t: 3 + t**-0.3  # noqa: E731
    grown = fixed_loss((steps - tau) + rho * tau)
    equal = fixed_loss((steps - tau) + n * tau)
    assert (grown < equal) == better == (transfer_lead(rho, n, tau=tau) > 0)


def test_transfer_at_its_price_is_level():
    assert transfer_lead(0.3, 0.3, tau=500) == 0


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_path_is_the_cheapest_fall_of_the_loss(a, b):
    """Among sizes at one loss, the cost of the next small fall is least at the share y*."""
    sizes = np.exp(np.linspace(0.01, 20, 200001))
    fall = 1e-6
    cost = sizes * (tokens(sizes, 1 - fall, a, b) - tokens(sizes, 1.0, a, b))
    cost[~np.isfinite(cost)] = np.inf
    assert sizes[np.nanargmin(cost)] ** -a == pytest.approx(path_share(a, b), rel=1e-3)


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_best_fixed_share_is_that_of_a_grid(a, b):
    size, _ = brute_force_fixed(a, b)
    assert size**-a == pytest.approx(fixed_share(a, b), rel=1e-3)


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_limit_is_that_of_brute_force(a, b):
    brute = brute_force_fixed(a, b)[1] / brute_force_growth(a, b)
    assert loss_equal_limit(a, b) == pytest.approx(brute, rel=GRID)


def test_limit_for_published_exponents():
    assert [round(loss_equal_limit(a, b), 3) for a, b in EXPONENTS] == [1.057, 1.083, 1.173]


def test_one_expansion_is_that_of_a_grid():
    a, b = 0.34, 0.28
    _, best = brute_force_fixed(a, b)
    first = np.exp(np.linspace(0.02, 1.2, 400))[:, None]  # excess at the expansion
    final = np.exp(np.linspace(1.5, 6, 800))[None, :]
    cost = best * first ** (-1 / a - 1 / b) + 6 * final * (tokens(final, 1.0, a, b) - tokens(final, first, a, b))
    assert one_expansion_limit(a, b) == pytest.approx(best / np.nanmin(cost), rel=GRID)


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_one_expansion_saves_less_than_all_and_more_than_none(a, b):
    assert 1 < one_expansion_limit(a, b) < loss_equal_limit(a, b)


@pytest.mark.parametrize("head", [0.1, 1.0, 10.0])
def test_head_limit_is_that_of_brute_force(head):
    """The head is given in units of the best fixed depth, which the brute force finds by itself."""
    a, b = 0.34, 0.28
    ratio_of = lambda h: h / brute_force_fixed(a, b, head=h)[0]  # noqa: E731
    low, high = 1e-3, 1e6
    for _ in range(60):  # the head whose best fixed depth is head/``head``
        middle = math.sqrt(low * high)
        low, high = (middle, high) if ratio_of(middle) < head else (low, middle)
    brute = brute_force_fixed(a, b, head=low)[1] / brute_force_growth(a, b, head=low)
    assert head_limit(a, b, head=head) == pytest.approx(brute, rel=GRID)


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_head_limit_at_both_ends(a, b):
    assert head_limit(a, b, head=0.0) == pytest.approx(loss_equal_limit(a, b), rel=1e-8)
    assert head_limit(a, b, head=1e6) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("served", [0.0, 0.3, 3.0])
def test_served_limit_is_that_of_a_grid(served):
    a, b = 0.34, 0.28
    size, _ = brute_force_fixed(a, b)
    asked = served * float(tokens(size, 1.0, a, b))
    finals = np.exp(np.linspace(0.3, math.log(1.3 * path_share(a, b) ** (-1 / a)), 25))
    grown = min(brute_force_growth(a, b, largest=n) + 2 * n * asked for n in finals)
    sizes = np.exp(np.linspace(0.01, 10, 200001))
    fixed = (6 * sizes * tokens(sizes, 1.0, a, b) + 2 * sizes * asked).min()
    assert served_limit(a, b, served=served) == pytest.approx(fixed / grown, rel=2e-3)  # 25 final sizes


@pytest.mark.parametrize("size", [0.8, 1.0, 3.0])
def test_prescribed_size_is_that_of_brute_force(size):
    a, b = 0.34, 0.28
    best, _ = brute_force_fixed(a, b)
    final = size * best
    fixed = 6 * final * float(tokens(final, 1.0, a, b))
    brute = fixed / brute_force_growth(a, b, largest=final)
    assert prescribed_size_limit(a, b, size=size) == pytest.approx(brute, rel=2e-3)


def test_prescribed_size_beyond_the_path_has_the_closed_form():
    a, b, size = 0.34, 0.28, 5.0
    y = fixed_share(a, b)
    closed = loss_equal_limit(a, b) * size * ((1 - y) / (1 - y * size**-a)) ** (1 / b)
    assert prescribed_size_limit(a, b, size=size) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: loss_equal_limit(0.0, 0.3), "a"),
        (lambda: loss_equal_limit(0.3, -1.0), "b"),
        (lambda: head_limit(0.3, 0.3, head=-1), "head"),
        (lambda: served_limit(0.3, 0.3, served=-1), "served"),
        (lambda: prescribed_size_limit(0.3, 0.3, size=0.01), "size"),
        (lambda: transfer_lead(0.5, 0.0, tau=3), "price"),
    ],
)
def test_refusals_name_what_is_wrong(call, name):
    with pytest.raises(InputError) as error:
        call()
    assert error.value.name == name


def test_transfer_efficiency_is_that_of_the_law_it_was_made_from():
    """L = 2 + T^-.3 at the full depth; a grown run that is worth 60 + .4 x 40 steps of it ends there."""
    horizons = np.geomspace(20, 200, 400)
    losses = 2 + horizons**-0.3
    loss = 2 + (60 + 0.4 * 40) ** -0.3
    known = {"fixed_steps": horizons, "fixed_losses": losses}
    assert transfer_efficiency(loss, steps=100, tau=40, **known) == pytest.approx(0.4, abs=1e-4)
    assert math.isnan(transfer_efficiency(1.9, steps=100, tau=40, **known))
    rising = {"fixed_steps": horizons, "fixed_losses": losses[::-1].copy()}
    assert math.isnan(transfer_efficiency(loss, steps=100, tau=40, **rising))


def test_loss_equal_growth_goes_on_where_the_full_depth_had_the_small_ones_loss():
    """The small depth has after tau steps the loss that the full depth has after tau/4."""
    steps = np.geomspace(10, 1000, 300)
    small, full = 2 + steps**-0.3, 2 + (4 * steps) ** -0.3
    known = {"small_steps": steps, "small_losses": small, "full_steps": steps, "full_losses": full}
    assert loss_equal_efficiency(200, **known) == pytest.approx(0.25, abs=1e-3)
    assert math.isnan(loss_equal_efficiency(5, **known))
    assert math.isnan(loss_equal_efficiency(20, **known))  # the full depth was measured from a lower loss on
