"""Weight decay as a rate: limits in closed form, and matrices that do turn so."""

import numpy as np
import pytest

from latebloom.theory.landscapes.effective_rate import turning_rates


@pytest.mark.parametrize(("eta", "decay"), [(0.02, 0.1), (0.05, 0.3)])
def test_at_constant_rate_the_size_settles_where_decay_and_updates_balance(eta, decay):
    turned = turning_rates(np.full(4000, eta), weight_decay=decay, initial_size=3.0)
    assert turned[0] == eta / 3.0
    assert turned[-1] == pytest.approx(eta / np.sqrt(eta / (2 * decay - eta * decay**2)), rel=1e-5)


def test_without_decay_the_size_grows_as_a_random_walk():
    rates = np.array([0.3, 0.1, 0.2])
    assert turning_rates(rates, weight_decay=0, initial_size=0.5) == pytest.approx(
        rates / np.sqrt([0.25, 0.34, 0.35]), rel=1e-12
    )


def test_random_orthogonal_updates_turn_a_matrix_by_that_angle():
    generator = np.random.default_rng(0)

    def rotation():
        q, r = np.linalg.qr(generator.normal(size=(40, 40)))
        return q * np.sign(np.diag(r))  # without the signs it is not uniform

    weights, rates, decay = 0.5 * rotation(), np.full(200, 0.05), 0.4
    turned = turning_rates(rates, weight_decay=decay, initial_size=0.5)
    for rate, expected in zip(rates, turned, strict=True):
        update = rotation()
        after = (1 - rate * decay) * weights - rate * update
        cosine = (weights * after).sum() / np.linalg.norm(weights) / np.linalg.norm(after)
        assert np.tan(np.arccos(cosine)) == pytest.approx(expected, rel=0.1)  # the update is orthogonal on average
        weights = after
