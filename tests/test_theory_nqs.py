"""The noisy quadratic system: closed sums against exact finite sums, against simulated gradient noise, and its fit."""

from __future__ import annotations

import numpy as np
import pytest

from latebloom.theory.errors import InputError
from latebloom.theory.fitting.scaling import fit_noisy_quadratic
from latebloom.theory.landscapes.nqs import COSINE, NoisyQuadratic, cosine, modes
from latebloom.theory.spec import decode

# Euler-Maclaurin after 16 exact terms at either end leaves the error of f' by differences, f'''(16)/24 of a power law.
QUADRATURE = 5e-6
# Geometric sums in closed form against the recursion step by step: rounding of a few thousand products.
RECURSION = 1e-9
# 8,000 simulated runs of 40 modes, the first few of which carry the loss: standard error about 1 %; 3 sigma.
SIMULATION = 0.03

LAW = NoisyQuadratic(
    floor=1.1,
    signal=2e-3,
    signal_exponent=1.2,
    rate=0.05,
    rate_exponent=0.65,
    noise=0.02,
    noise_exponent=0.9,
    onset=500.0,
    critical_batch=200.0,
)
PLAIN = NoisyQuadratic(
    floor=0.5, signal=2.0, signal_exponent=1.3, rate=0.8, rate_exponent=0.7, noise=3.0, noise_exponent=0.5, edge=0
)


def spectrum(law: NoisyQuadratic, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Typed from the module's notation: (lambda_n, P m^-p, R m^-r) of every mode."""
    n = np.arange(1, count + 1)
    m = (n + law.onset) / (1 + law.onset)
    rate = law.rate * m**-law.rate_exponent * (1 - n / (count + 1)) ** law.edge
    return rate, law.signal * m**-law.signal_exponent, law.noise * m**-law.noise_exponent


def recursion(law: NoisyQuadratic, count: int, batch: float, lrs: np.ndarray) -> tuple[float, float]:
    """Bias and variance of all modes, step by step."""
    rate, signal, noise = spectrum(law, count)
    squared, spread = signal.copy(), np.zeros(count)
    for lr in lrs / np.sqrt(1 + law.critical_batch / batch):
        squared *= (1 - lr * rate) ** 2
        spread = spread * (1 - lr * rate) ** 2 + lr**2 * rate * noise / batch
    return squared.sum() / 2, spread.sum() / 2


@pytest.mark.parametrize("law", [LAW, PLAIN, LAW.replace(edge=0), PLAIN.replace(edge=2)])
@pytest.mark.parametrize(("count", "steps"), [(40, 16), (1000, 1600), (30_000, 320)])
def test_terms_against_the_recursion(law, count, steps):
    """Bias and variance equal the finite sum over every mode of the recursion over every step."""
    lrs = np.repeat(COSINE, steps // len(COSINE))
    bias, variance = recursion(law, count, 64.0, lrs)
    terms = law.terms(count, 64, steps, shape=COSINE)
    assert terms["bias"] == pytest.approx(bias, rel=QUADRATURE, abs=QUADRATURE * (bias + variance))
    assert terms["variance"] == pytest.approx(variance, rel=QUADRATURE, abs=QUADRATURE * (bias + variance))


def test_approximation_is_the_sum_out_of_reach():
    n = np.arange(1001, 4_000_001)
    m = (n + LAW.onset) / (1 + LAW.onset)
    beyond = 4_000_000.5 + LAW.onset  # the rest as an integral
    rest = (1 + LAW.onset) ** 1.2 * beyond**-0.2 / 0.2
    by_hand = LAW.signal * (np.sum(m**-1.2) + rest) / 2
    assert LAW.terms(1000, 1, 1)["approximation"] == pytest.approx(by_hand, rel=1e-8)  # midpoint at n = 4e6


def test_against_simulated_gradient_noise():
    """A quadratic of 40 modes trained by noisy steps from random starts, 8,000 runs at once."""
    law = PLAIN.replace(edge=2, critical_batch=16.0)
    rate, signal, noise = spectrum(law, 40)
    rng = np.random.default_rng(0)
    runs, batch, steps = 8_000, 8, 32
    error = rng.standard_normal((runs, 40)) * np.sqrt(signal / rate)  # signal = lambda E (w - w*)^2
    for lr in np.repeat(COSINE, steps // len(COSINE)) / np.sqrt(1 + 16.0 / batch):
        error += -lr * rate * error + lr * np.sqrt(noise / batch) * rng.standard_normal((runs, 40))
    simulated = np.mean(error**2 @ rate) / 2
    terms = law.terms(40, batch, steps, shape=COSINE)
    assert terms["bias"] + terms["variance"] == pytest.approx(simulated, rel=SIMULATION)
    assert terms["variance"] > 0.2 * terms["bias"] > 0.02 * terms["variance"]  # both are tested


def test_constant_segments_compose():
    """One constant segment equals eight equal ones."""
    one = LAW.loss(1e6, 64, 4000)
    assert LAW.loss(1e6, 64, 4000, shape=np.ones(8)) == pytest.approx(float(one), rel=RECURSION)


def test_cosine_segments():
    """Segments have the mean rates of a cosine; against it, step by step, their error falls as 1/count^2."""
    u = (np.arange(8000) + 0.5) / 8000
    fine = (1 + np.cos(np.pi * u)) / 2
    np.testing.assert_allclose(cosine(8), fine.reshape(8, -1).mean(axis=1), rtol=1e-6)
    exact = sum(recursion(PLAIN, 300, 64.0, fine[5::10]))
    errors = []
    for count in (8, 16, 32):
        terms = PLAIN.terms(300, 64, 800, shape=cosine(count))
        errors.append((terms["bias"] + terms["variance"]) / exact - 1)
    assert abs(errors[1]) < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_modes_sum_powers():
    for count in (40, 1000, 10_000):
        node, weight = (a[0] for a in modes(np.array([float(count)])))
        n = np.arange(1, count + 1)
        for f in (lambda v: v**-1.3, lambda v: v**0.0, lambda v, c=count: (1 - v / (c + 1)) ** 2 * v**-0.6):
            assert np.sum(weight * f(node)) == pytest.approx(np.sum(f(n)), rel=QUADRATURE)


def test_hard_edge_of_random_matrices():
    """Smallest eigenvalues of X X' for square Gaussian X grow as (distance from the edge)^2: where h = 2 comes from."""
    rng = np.random.default_rng(0)
    values = np.mean([np.sort(np.linalg.svd(rng.standard_normal((200, 200)))[1] ** 2) for _ in range(8)], axis=0)
    rank = np.arange(1, 41) - 0.5
    slope = np.polyfit(np.log(rank[4:]), np.log(values[4:40]), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)  # 8 matrices of 200: the edge regime is the lowest fifth


def test_bias_exponent():
    """Far from the first and last mode, bias + approximation fall as K^-((p-1)/q)."""
    law = PLAIN.replace(noise=0.0, floor=0.0)
    steps = np.array([1e5, 1e6])
    loss = law.loss(1e14, 1, steps)
    slope = np.diff(np.log(loss))[0] / np.log(10)
    assert slope == pytest.approx(-(1.3 - 1) / 0.7, abs=0.002)  # the first mode's correction falls as 1/K^(.3/.7)


def test_size_exponent():
    """With all modes learned, loss falls as N^-(p-1)."""
    law = PLAIN.replace(noise=0.0, floor=0.0)
    loss = law.loss(np.array([1e4, 1e5]), 1, 1e9)
    assert np.diff(np.log(loss))[0] / np.log(10) == pytest.approx(-0.3, abs=1e-3)


def test_noise_falls_with_batch():
    """Plain SGD: variance ~ 1/B. Below the critical batch Adam's effective rate ~ sqrt(B), and the floor is flat."""
    variance = [PLAIN.terms(1e4, b, 1e6)["variance"] for b in (1, 100)]
    assert variance[0] / variance[1] == pytest.approx(100, rel=1e-12)
    adam = PLAIN.replace(critical_batch=1e6, rate=0.1)
    variance = [adam.terms(1e4, b, 1e9)["variance"] for b in (1, 100)]
    assert 5 < variance[0] / variance[1] < 11  # g/B with g ~ sqrt(B): 10 at equilibrium
    half = PLAIN.terms(1e4, 1, 1e6, lr=0.5)["variance"]
    assert PLAIN.terms(1e4, 1, 1e6)["variance"] / half == pytest.approx(2, rel=0.35)  # floor ~ lr, top modes faster


def test_fit_finds_what_it_should_predict():
    """Fitted on small runs of the law itself, runs of 100 times the compute are predicted to half a per cent."""
    n, b, k = (g.ravel() for g in np.meshgrid([1e6, 8e6, 64e6], [96, 384, 1536], [300, 1200, 4800]))
    law = fit_noisy_quadratic(n, b, k, LAW.loss(n, b, k, shape=COSINE), starts=2)
    large = (np.array([64e6, 256e6, 1e9]), np.array([1536, 3072, 3072]), np.array([48_000, 48_000, 96_000]))
    np.testing.assert_allclose(law.loss(*large, shape=COSINE), LAW.loss(*large, shape=COSINE), rtol=0.005)


def test_bad_input():
    with pytest.raises(InputError, match="must be above 1"):
        LAW.replace(signal_exponent=1.0)
    with pytest.raises(InputError, match="overshoots"):
        LAW.replace(rate=1.5)
    with pytest.raises(InputError, match="overshoots at rate 0.8"):
        PLAIN.loss(1e6, 1, 1, lr=2.0)
    with pytest.raises(InputError, match=r"parameters = 8"):
        LAW.loss(8, 1, 1)
    with pytest.raises(InputError, match=r"batch\[0\] = 0.0"):
        LAW.loss(1e6, 0, 1)
    with pytest.raises(InputError, match="learning rates >= 0"):
        LAW.loss(1e6, 1, 1, shape=[1.0, np.nan])
    with pytest.raises(InputError, match="too few"):
        fit_noisy_quadratic([1e6] * 9, [8] * 9, [10] * 9, [3.0] * 9)


def test_law_is_plain_data():
    assert decode(LAW.to_json(), NoisyQuadratic) == LAW
