"""The area law and tau*: against quadratics that share no code with it, closed forms, limits and bad input."""

import numpy as np
import pytest

from latebloom.theory import WSD, AreaLaw, Constant, Cosine, InputError, Linear, Signal, cold_start, tau_star, wsd
from latebloom.theory.landscapes.area import noise_response
from latebloom.theory.timing import mixing_step, tau_cosine, tau_wsd

from tests.helpers import tiny_plan  # isort: skip


def law(schedule, *, kappa=0.8, noise=0.5, exponent=0.4):
    reference = schedule.total_area
    return AreaLaw(
        small_depth=1,
        full_depth=3,
        floor=2.0,
        small_gap=0.7,
        trunk=Signal(amplitude=0.6, exponent=0.3, onset=0.01 * reference, reference=reference),
        fresh=Signal(amplitude=0.3, exponent=exponent, onset=0.01 * reference, reference=reference),
        kappa=kappa,
        noise=noise,
        noise_rate=30 / reference,
    )


def quadratic_descent(lrs, tau, eigenvalues, start, fresh):
    """Gradient descent on 1/2 sum lambda e^2, coordinate by coordinate, with ``fresh`` ones frozen until tau."""
    error, losses = start.copy(), []
    for k, lr in enumerate(lrs):
        moving = ~fresh | (k >= tau)
        error = np.where(moving, error * (1 - lr * eigenvalues), error)
        losses.append(0.5 * np.sum(eigenvalues * error**2))
    return np.array(losses)


@pytest.mark.parametrize(
    "schedule", [wsd(steps=4000, peak_lr=0.02), Cosine(steps=4000, peak_lr=0.02), Linear(steps=4000, peak_lr=0.02)]
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_area_law_is_exact_on_uncoupled_quadratics(schedule, share):
    """P(T) - L(T) depends on the remaining area only: B measured on one constant-rate run predicts every schedule."""
    rng = np.random.default_rng(0)
    eigenvalues = 1.0 / np.arange(1, 41) ** 1.5
    start, fresh = rng.normal(size=40), np.arange(40) % 2 == 1
    tau = int(share * schedule.steps)
    fixed = quadratic_descent(schedule.lrs(), 0, eigenvalues, start, fresh)[-1]
    grown = quadratic_descent(schedule.lrs(), tau, eigenvalues, start, fresh)[-1]

    probe = Constant(steps=8000, peak_lr=0.01)
    only_fresh = quadratic_descent(probe.lrs(), 0, eigenvalues[fresh], start[fresh], np.zeros(20, dtype=bool))
    areas = probe.area(np.arange(1, probe.steps + 1))
    remaining = schedule.total_area - float(schedule.area(tau))
    delta = np.interp(remaining, areas, only_fresh) - np.interp(schedule.total_area, areas, only_fresh)
    # (1 - eta lambda)^n against exp(-lambda S): relative error eta lambda/2 x lambda S <= 1 % here
    assert grown - fixed == pytest.approx(delta, rel=0.02)


def test_excess_is_the_difference_of_the_curves():
    plan = tiny_plan(steps=400, tau=300)
    landscape = law(plan.schedule)
    full = landscape.fixed(plan.schedule, plan.steps, depth=3)
    remaining = plan.schedule.total_area - plan.schedule.area(plan.tau)
    assert landscape.loss(plan) - full == pytest.approx(
        landscape.excess(remaining, plan.schedule.total_area), rel=1e-12
    )


def test_mixing_area_solves_its_equation_and_tau_leaves_it():
    schedule = wsd(steps=5000, peak_lr=0.02)
    landscape = law(schedule)
    area = landscape.mixing_area(0.02, schedule.total_area)
    assert landscape.excess(area, schedule.total_area) == pytest.approx(0.02, rel=1e-9)
    tau = tau_star(schedule, area)
    assert schedule.total_area - schedule.area(tau) == pytest.approx(area, rel=1e-9)
    before, after = (float(landscape.grown(schedule, 5000, tau=t)) for t in (tau - 1, tau + 1))
    price = float(landscape.fixed(schedule, 5000, depth=3)) + 0.02
    assert before < price < after


def test_logarithm_is_the_limit_of_small_exponents():
    """a/s (x^-s - 1) -> -a ln x, at first order in s."""
    log = Signal(amplitude=0.23, exponent=0.0, onset=0.1, reference=10.0)
    errors = []
    for s in (1e-2, 1e-3):
        power = Signal(amplitude=0.23 / s, exponent=s, onset=0.1, reference=10.0)
        errors.append(abs((power(2.0) - power(9.0)) - (log(2.0) - log(9.0))))
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("exponent", [0.0, 0.05, 0.4, 2.0])
def test_signal_inverse(exponent):
    signal = Signal(amplitude=0.3, exponent=exponent, onset=0.5, reference=20.0)
    for area in (0.1, 3.0, 400.0):
        assert signal.inverse(float(signal(area))) == pytest.approx(area, rel=1e-9)
    assert signal.inverse(float(signal(0.0)) + 1) == 0
    if exponent:
        assert signal.inverse(-0.1) == np.inf


def test_without_mixing_the_area_is_infinite():
    schedule = wsd(steps=1000, peak_lr=0.02)
    never = law(schedule, kappa=3.0).mixing_area(1e-3, schedule.total_area)
    assert never > schedule.total_area
    with pytest.raises(InputError, match="no expansion mixes within 1000 steps"):
        tau_star(schedule, never)


def test_noise_is_proportional_to_a_constant_rate_and_forgets():
    """eta (1 - 1/(1 + C S)) exactly for a constant rate; after a drop it relaxes to the new floor."""
    constant = Constant(steps=4000, peak_lr=0.05)
    for rate in (0.5, 50.0):
        exact = 0.05 * (1 - 1 / (1 + rate * 200))
        assert noise_response(constant, 4000, rate) == pytest.approx(exact, rel=1e-12)
    assert noise_response(constant, 0, 50.0) == 0
    double = Constant(steps=4000, peak_lr=0.1)
    assert noise_response(double, 4000, 1e4) == pytest.approx(2 * noise_response(constant, 4000, 1e4), rel=1e-3)
    decayed = WSD(steps=4000, peak_lr=0.05, decay_steps=2000)
    assert noise_response(decayed, 4000, 5.0) < 0.2 * noise_response(decayed, 2000, 5.0)


def test_grown_curve_before_tau_is_the_small_model():
    plan = tiny_plan(steps=400, tau=300)
    landscape = law(plan.schedule)
    step = np.array([10, 100, 300])
    assert landscape.loss(plan, step) == pytest.approx(landscape.fixed(plan.schedule, step, depth=1), rel=0)
    assert landscape.loss(plan, 301) != pytest.approx(float(landscape.fixed(plan.schedule, 301, depth=1)), abs=1e-3)


def test_growing_at_once_is_the_fixed_run():
    """kappa = 1 and tau -> 0: Delta -> 0."""
    schedule = wsd(steps=400, peak_lr=0.02)
    landscape = law(schedule, kappa=1.0)
    gap = landscape.grown(schedule, 400, tau=0) - landscape.fixed(schedule, 400, depth=3)
    assert gap == pytest.approx(0, abs=1e-14)


def test_unknown_depths_and_meaningless_kappa_are_refused():
    plan = tiny_plan(full=7)
    with pytest.raises(InputError, match="depth = 7: is unknown to a law of depths 1 and 3"):
        law(plan.schedule).loss(plan)
    with pytest.raises(InputError, match="kappa = 0.8: has no meaning for a logarithmic signal"):
        law(plan.schedule, exponent=0.0)
    with pytest.raises(InputError, match="must be larger than the small depth"):
        law(plan.schedule).replace(full_depth=1)
    assert law(plan.schedule).loss(cold_start(tiny_plan(), name="cold")) > 2


@pytest.mark.parametrize(("share", "expected"), [(0.10, 0.85), (0.15, 0.80)])
def test_wsd_limit_of_the_paper(share, expected):
    schedule = WSD(steps=100_000, peak_lr=0.01, decay_steps=10_000)
    exact = tau_star(schedule, share * 0.01 * 100_000)
    assert exact / 1e5 == pytest.approx(expected, abs=1e-4)
    assert tau_wsd(1e5, 0.1, share) == pytest.approx(exact, abs=1)  # continuous against discrete: one step


@pytest.mark.parametrize(("share", "expected"), [(0.10, 0.48), (0.15, 0.40)])
def test_cosine_limit_of_the_paper(share, expected):
    exact = tau_star(Cosine(steps=100_000, peak_lr=0.01), share * 0.01 * 100_000)
    assert exact / 1e5 == pytest.approx(expected, abs=0.01)
    assert tau_cosine(1e5, share) == pytest.approx(exact, abs=1)


def test_wsd_expansion_inside_the_decay():
    schedule = WSD(steps=100_000, peak_lr=0.01, decay_steps=20_000)
    assert tau_wsd(1e5, 0.2, 0.02) == pytest.approx(tau_star(schedule, 0.02 * 1000), abs=2)


def test_the_two_limits_of_the_paper_are_one_share_of_the_mass():
    """WSD at 0.8 T and cosine at 0.52 T both leave 16 % of the learning-rate mass."""
    assert wsd(steps=10_000, peak_lr=1.0).remaining(8000) == pytest.approx(0.16, abs=0.002)
    assert Cosine(steps=10_000, peak_lr=1.0).remaining(5230) == pytest.approx(0.16, abs=0.002)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_mixing_area_must_be_positive(value):
    with pytest.raises(InputError, match="mixing_area = .*must be positive"):
        tau_star(wsd(steps=100, peak_lr=0.1), value)


def test_mixing_step_is_sustained():
    step = np.arange(1, 8)
    fixed = np.ones(7)
    late = np.array([2.0, 2.0, 1.005, 1.1, 1.008, 1.001, 1.0])
    assert mixing_step(step, late, fixed, tolerance=0.01, start=2) == 5  # step 3 was luck
    assert mixing_step(step, late, fixed, tolerance=0.5, start=2) == 3
    assert mixing_step(step, late[::-1], fixed, tolerance=0.01, start=2) is None
    with pytest.raises(InputError, match="shape of both losses"):
        mixing_step(step, late[:3], fixed, tolerance=0.01, start=2)
