"""The Volterra engine: against the sum term by term, against mpmath, its error against what it says, bad input."""

import mpmath
import numpy as np
import pytest

from latebloom.theory import Cosine, InputError, volterra, wsd
from latebloom.theory.volterra import Exponentials, power_kernel, response


def direct(gap, weight, kernel, at=None):
    """The sums of ``response`` term by term."""
    steps = range(len(gap) + 1) if at is None else at
    return np.array([np.sum(weight[:i] * kernel(np.cumsum(gap[:i][::-1])[::-1])) for i in steps])


@pytest.mark.parametrize("exponent", [0.05, 0.3, 0.5, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_error_is_kept_and_is_what_is_reported(exponent, tolerance):
    kernel = power_kernel(exponent, low=1e-4, high=1e5, tolerance=tolerance)
    u = np.exp(np.random.default_rng(0).uniform(np.log(1e-4), np.log(1e5), 4000))
    error = np.max(np.abs(kernel(u) * u**exponent - 1))
    assert error <= tolerance
    # six points to an oscillation miss its crest by at most 1 - cos(pi/6) = 13 %
    assert error <= 1.15 * kernel.error + 1e-13


def test_kernel_against_mpmath():
    kernel = power_kernel(0.7, low=0.0, high=50.0, shift=1.0, rate=8.0, tolerance=1e-10)
    for u in (0.0, 1e-3, 0.37, 50.0):
        exact = (1 + mpmath.mpf(8) * mpmath.mpf(u)) ** mpmath.mpf("-0.7")
        assert abs(kernel(u) / exact - 1) < 1e-10


def test_number_of_exponentials_grows_with_the_logarithms():
    """M ~ ln(range) ln(1/tolerance)/pi^2."""
    sizes = [len(power_kernel(1.0, low=1.0, high=h, tolerance=1e-6).rate) for h in (1e3, 1e6, 1e9)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], abs=1)
    assert sizes[2] - sizes[1] < np.log(1e3) * np.log(1e6) / np.pi**2 * 1.3
    assert sizes[2] < 50


@pytest.mark.parametrize("chunk", [16, 100, 16384])
@pytest.mark.parametrize("steps", [1, 2, 3, 47, 500])
def test_response_is_the_sum_term_by_term(monkeypatch, chunk, steps):
    monkeypatch.setattr(volterra, "CHUNK", chunk)
    gap = Cosine(steps=steps, peak_lr=0.3).lrs()
    weight = np.random.default_rng(1).uniform(0.5, 1.0, steps)
    kernel = power_kernel(1.0, low=gap.min(), high=gap.sum(), tolerance=1e-9)
    exact = direct(gap, weight, lambda u: 1 / u)
    assert response(gap, weight, kernel) == pytest.approx(exact, rel=1e-9)


def test_error_of_the_sum_is_the_error_of_the_kernel():
    """The result converges with the tolerance, and never errs by more than the kernel where weights are positive."""
    gap = wsd(steps=2000, peak_lr=1.0).lrs()
    exact = direct(gap, gap**2, lambda u: (1 + 3 * u) ** -0.4)
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        kernel = power_kernel(0.4, low=0.0, high=gap.sum(), shift=1.0, rate=3.0, tolerance=tolerance)
        got = response(gap, gap**2, kernel)
        errors.append(np.max(np.abs(got[1:] / exact[1:] - 1)))
        assert errors[-1] <= 1.15 * kernel.error
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


def test_signed_weights_lags_and_zero_gaps():
    rng = np.random.default_rng(2)
    gap = np.where(rng.random(300) < 0.3, 0.0, rng.random(300))
    weight, lag = rng.normal(size=300), rng.uniform(0.2, 3, 300)
    kernel = power_kernel(0.6, low=0.2, high=gap.sum() + 3, tolerance=1e-9)
    got = response(gap, weight, kernel, lag=lag)
    for i in (1, 2, 77, 300):
        distance = np.cumsum(gap[:i][::-1])[::-1] + lag[:i]
        terms = weight[:i] * distance**-0.6
        assert abs(got[i] - terms.sum()) <= 1e-9 * np.abs(terms).sum()


def test_a_single_exponential_is_exact():
    kernel = Exponentials(rate=np.array([0.7]), weight=np.array([2.0]), low=0.0, high=100.0, error=0.0)
    gap = np.full(100, 0.5)
    exact = 2 * 0.1 * np.cumsum(np.exp(-0.7 * 0.5 * np.arange(1, 101)))
    assert response(gap, np.full(100, 0.1), kernel)[1:] == pytest.approx(exact, rel=1e-13)


def test_small_learning_rates_keep_their_digits():
    """Areas of 1e4 with steps of 1e-11: differences of areas would have lost every digit."""
    gap = np.concatenate([np.ones(10_000), np.full(5, 1e-11)])
    kernel = power_kernel(1.0, low=1e-11, high=gap.sum(), tolerance=1e-9)
    got = response(gap, gap, kernel)
    assert got[-5:] == pytest.approx(direct(gap, gap, lambda u: 1 / u, at=range(10_001, 10_006)), rel=1e-9)


KERNEL = power_kernel(1.0, low=0.1, high=10.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: response([0.1, -0.1], [1, 1], KERNEL), r"gap = -0.1: must be finite and >= 0"),
        (lambda: response([0.1, np.nan], [1, 1], KERNEL), r"gap = nan: must be finite"),
        (lambda: response([0.1, 0.1], [1, np.inf], KERNEL), r"weight = inf: must be finite"),
        (lambda: response([0.1, 0.1], [1.0], KERNEL), r"weight = 1: needs one value for each of 2 gaps"),
        (lambda: response([[0.1]], [1.0], KERNEL), r"gap = \(1, 1\): must have one axis"),
        (lambda: response([0.1, 0.01], [1, 1], KERNEL), r"gap = .*must lie, singly and in sum, in the kernel's range"),
        (lambda: response([9.0, 9.0], [1, 1], KERNEL), r"gap = .*must lie, singly and in sum, in the kernel's range"),
        (lambda: response([1.0], [1.0], KERNEL, lag=[-0.5]), r"lag = -0.5: must be finite and >= 0"),
        (lambda: power_kernel(1.0, low=0.0, high=1.0), r"low = 0.0: must be >= 0"),
        (lambda: power_kernel(1.0, low=2.0, high=1.0), r"low = 2.0"),
        (lambda: power_kernel(0.0, low=1.0, high=2.0), r"exponent = \[0.0\]: must lie in \(0, 10\]"),
        (lambda: power_kernel(1.0, low=1.0, high=2.0, tolerance=0.5), r"tolerance = 0.5: must lie in"),
        (lambda: power_kernel(1.0, low=1.0, high=2.0, rate=-1.0), r"shift = .*rate > 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_nothing_gives_nothing():
    assert response([], [], KERNEL).tolist() == [0.0]
