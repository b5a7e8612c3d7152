"""The coupled quadratic: against the differential equation, descent step by step, Monte Carlo, and its limits."""

import math

import numpy as np
import pytest
import scipy

from latebloom.theory import Constant, Cosine, InputError, fixed_depth, wsd
from latebloom.theory.landscapes.coupled import CoupledQuadratic, random_coupled
from tests.helpers import tiny_plan

LAW = random_coupled(trunk=4, new=3, coupling=0.8, grown=0.5, seed=3)


def rows(matrix):
    return tuple(tuple(row) for row in matrix.tolist())


def flow(law, area_one, area_two, *, masked=True):
    """Loss by integrating dW/dS = -gradient, with the gradient by finite differences of the loss: no algebra shared."""
    h, w = np.array(law.hessian), len(law.trunk_start)
    x_star = np.array(law.target)

    def loss(z):  # z = [w - w*, x]
        e = np.concatenate([z[:w], z[w:] - x_star])
        return 0.5 * e @ h @ e

    def slope(mask):
        eye = np.eye(len(h)) * 1e-5

        def right(_, z):
            return -mask * np.array([(loss(z + d) - loss(z - d)) / 2e-5 for d in eye])

        return right

    train_w, train_all = (np.arange(len(h)) < w) * 1.0, np.ones(len(h))
    options = dict(rtol=1e-9, atol=1e-12)
    z = np.concatenate([law.trunk_start, np.zeros(len(x_star)) if masked else law.fresh_start])
    if masked:
        if area_one:
            z = scipy.integrate.solve_ivp(slope(train_w), (0, area_one), z, **options).y[:, -1]
        if area_two is None:
            return law.floor + loss(z)
        z[w:] = law.grown_start
    return law.floor + loss(scipy.integrate.solve_ivp(slope(train_all), (0, area_two), z, **options).y[:, -1])


def uncoupled(law):
    """The law with C = 0 and B = Q: the same small gap and the same small model's descent, but one w* for both."""
    w = len(law.trunk_start)
    hessian = np.zeros((w + len(law.target),) * 2)
    hessian[:w, :w], hessian[w:, w:] = np.array(law.hessian)[:w, :w], (law.schur + law.schur.T) / 2
    start = np.array(law.trunk_start) - law.small_optimum()
    return law.replace(hessian=rows(hessian), trunk_start=tuple(start.tolist()))


class TestFlow:
    def test_small_full_and_grown_solve_the_differential_equation(self):
        schedule = wsd(steps=100, peak_lr=0.1)
        total, at = schedule.total_area, float(schedule.area(40))
        assert LAW.fixed(schedule, 100, depth=1) == pytest.approx(flow(LAW, total, None), rel=1e-7)
        assert LAW.fixed(schedule, 100, depth=4) == pytest.approx(flow(LAW, 0, total, masked=False), rel=1e-7)
        assert LAW.grown(schedule, 100, tau=40) == pytest.approx(flow(LAW, at, total - at), rel=1e-7)
        assert LAW.grown_after(at, total - at) == pytest.approx(flow(LAW, at, total - at), rel=1e-7)
        assert LAW.grown(schedule, 40, tau=40) == pytest.approx(flow(LAW, at, None), rel=1e-7)

    def test_small_optimum_and_schur_complement(self):
        """The minimum over w by brute force, and after an endless phase one."""
        h, w = np.array(LAW.hessian), 4

        def loss(v):
            e = np.concatenate([v, -np.array(LAW.target)])
            return 0.5 * e @ h @ e

        best = scipy.optimize.minimize(loss, np.zeros(w), tol=1e-12)
        assert LAW.small_optimum() == pytest.approx(best.x, abs=1e-5)
        assert LAW.small_gap == pytest.approx(best.fun, rel=1e-9)
        long = Constant(steps=10_000, peak_lr=1.0)
        assert LAW.fixed(long, 10_000, depth=1) == pytest.approx(LAW.floor + best.fun, rel=1e-9)

    def test_loss_of_plans_and_excess(self):
        law = LAW.replace(full_depth=3)
        plan = tiny_plan(steps=200, tau=120, peak_lr=0.3)
        total = plan.schedule.total_area
        left = total - float(plan.schedule.area(120))
        price = float(law.loss(plan) - law.loss(fixed_depth(plan, name="f")))
        assert law.excess(left, total) == pytest.approx(price, rel=1e-10)
        assert law.loss(plan, [10, 120])[1] == law.fixed(plan.schedule, 120, depth=1)

    def test_mixing_area_solves_its_equation(self):
        for tolerance in (1e-3, 1e-2):
            area = LAW.mixing_area(tolerance, 60.0)
            assert LAW.excess(area, 60.0) == pytest.approx(tolerance, rel=1e-6)
            assert LAW.excess(area * 1.05, 60.0) < tolerance
        assert LAW.mixing_area(100.0, 60.0) == 0.0


class TestDescent:
    def test_small_steps_follow_the_flow_at_first_order(self):
        errors = []
        for steps in (100, 1000):
            schedule = Cosine(steps=steps, peak_lr=20 / steps)
            exact = LAW.grown(schedule, steps, tau=steps // 2)
            errors.append(abs(LAW.descent(schedule, tau=steps // 2)[-1] - exact))
        assert errors[0] / errors[1] == pytest.approx(10, rel=0.15)

    @pytest.mark.parametrize("tau", [None, 0, 30, 60])
    def test_mean_over_noisy_runs(self, tau):
        """20000 runs of stochastic descent written out; five standard errors."""
        law = CoupledQuadratic(
            small_depth=0, full_depth=1, floor=0.0, hessian=((1.0, 0.4), (0.4, 0.5)), trunk_start=(1.0,),
            target=(0.7,), fresh_start=(-0.2,), grown_start=(0.1,), noise=((0.5, 0.2), (0.2, 0.3)),
        )  # fmt: skip
        schedule = wsd(steps=60, peak_lr=0.3)
        rng, runs = np.random.default_rng(0), 20_000
        w = np.full(runs, 1.0)
        x = np.full(runs, -0.2 if tau is None else 0.0)
        for k, eta in enumerate(schedule.lrs()):
            if k == tau:
                x[:] = 0.1
            noise = rng.multivariate_normal([0, 0], law.noise, size=runs)
            dw, dx = w * 1.0 + (x - 0.7) * 0.4, w * 0.4 + (x - 0.7) * 0.5
            w = w - eta * (dw + noise[:, 0])
            if tau is None or k >= tau:
                x = x - eta * (dx + noise[:, 1])
        losses = 0.5 * w**2 + 0.4 * w * (x - 0.7) + 0.25 * (x - 0.7) ** 2
        assert law.descent(schedule, tau=tau)[-1] == pytest.approx(
            losses.mean(), abs=5 * losses.std() / math.sqrt(runs)
        )

    def test_noise_floor(self):
        """One mode at a constant rate: eta sigma^2/(2 (2 - eta lambda)) on top of the floor."""
        law = CoupledQuadratic(
            small_depth=0, full_depth=1, floor=1.0, hessian=((0.8, 0.0), (0.0, 1e-9)), trunk_start=(1.0,),
            target=(0.0,), fresh_start=(0.0,), grown_start=(0.0,), noise=((0.6, 0.0), (0.0, 0.0)),
        )  # fmt: skip
        floor = law.descent(Constant(steps=200, peak_lr=0.5))[-1]
        assert floor == pytest.approx(1 + 0.5 * 0.6 / (2 * (2 - 0.5 * 0.8)), rel=1e-9)


class TestRetention:
    def test_without_coupling_kappa_is_one_number(self):
        """x_tau - x* half as far as x_0 - x*: kappa = 1/4 at every tau and u, and retention is never negative."""
        law = random_coupled(trunk=5, new=5, coupling=0.0, seed=1)
        fresh, target = np.array(law.fresh_start), np.array(law.target)
        law = law.replace(grown_start=tuple((target + 0.5 * (fresh - target)).tolist()))
        for at in (0.0, 1.0, 50.0):
            for u in (0.0, 0.5, 20.0):
                assert law.kappa(at, u) == pytest.approx(0.25, rel=1e-10)
                assert law.retention(at, u) >= 0

    def test_coupling_makes_kappa_depend_on_tau(self):
        """Same layers put in (x_tau = x_0): 1 at tau = 0, another limit after a long phase one; negative retention."""
        law = random_coupled(trunk=8, new=8, coupling=0.9, grown=1.0, seed=1)
        assert law.kappa(0.0, 20.0) == pytest.approx(1, rel=1e-12)
        assert abs(law.kappa(100.0, 20.0) - law.kappa(5.0, 20.0)) > 0.1
        assert law.retention(100.0, 20.0) < -1e-3
        plain = uncoupled(law)
        assert plain.kappa(100.0, 20.0) == pytest.approx(1, rel=1e-9)
        assert plain.retention(100.0, 20.0) >= 0

    def test_uncoupled_partner_has_the_same_small_model(self):
        partner = uncoupled(LAW)
        schedule = wsd(steps=50, peak_lr=0.4)
        assert partner.small_gap == pytest.approx(LAW.small_gap, rel=1e-12)
        small = LAW.fixed(schedule, np.arange(51), depth=1)
        assert partner.fixed(schedule, np.arange(51), depth=1) == pytest.approx(small, rel=1e-12)
        assert np.allclose(partner.small_optimum(), 0)

    def test_kappa_tends_to_that_of_the_slowest_mode(self):
        """(q.e_tau)^2/(q.e_0)^2, q the slowest eigenvector of H."""
        rates, vectors = np.linalg.eigh(np.array(LAW.hessian))
        for at in (0.5, 20.0):
            limit = (vectors[:, 0] @ LAW._grown_error(at)) ** 2 / (vectors[:, 0] @ LAW._fresh_error()) ** 2
            errors = [abs(LAW.kappa(at, u) / limit - 1) for u in (40.0, 60.0)]
            assert math.log(errors[0] / errors[1]) / 20 == pytest.approx(rates[1] - rates[0], rel=0.2)

    def test_fast_trunk_kicks_the_new_layers_once(self):
        """A -> A/eps, C -> C/sqrt(eps): e_x(u) -> exp(-Q u) (e_x - C' A^-1 v), with an error of order
        eps^(3/2): the kick itself is of order eps^(1/2), its shape is known to order eps."""
        errors = []
        for eps in (1e-2, 1e-3):
            a, c, b = (
                np.diag([1.0, 2.0]) / eps,
                np.array([[0.5, 0.1], [0.2, 0.4]]) / math.sqrt(eps),
                np.diag([1.0, 0.6]),
            )
            law = CoupledQuadratic(
                small_depth=0, full_depth=1, floor=0.0, hessian=rows(np.block([[a, c], [c.T, b]])),
                trunk_start=(0.3, -0.2), target=(1.0, 0.5), fresh_start=(0.0, 0.0), grown_start=(0.0, 0.0),
            )  # fmt: skip
            e_x, q = -np.array([1.0, 0.5]), law.schur
            lag = np.array([0.3, -0.2]) + np.linalg.solve(a, c @ e_x)
            kicked = scipy.linalg.expm(-q) @ (e_x - c.T @ np.linalg.solve(a, lag))
            grown = scipy.linalg.expm(-q) @ e_x  # after a long phase one: no lag, no kick
            expected = (grown @ q @ grown) / (kicked @ q @ kicked)
            errors.append(abs(law.kappa(100.0, 1.0) / expected - 1))
        assert errors[0] / errors[1] == pytest.approx(10**1.5, rel=0.2)

    def test_coupling_moves_the_mixing_area(self):
        """Same spectrum scale and gap, other mixing area: a fit without coupling would mistime the expansion."""
        law = random_coupled(trunk=8, new=8, coupling=0.9, grown=1.0, seed=1)
        assert law.mixing_area(0.01, 60.0) > 1.2 * uncoupled(law).mixing_area(0.01, 60.0)


class TestObservables:
    def test_they_tell_coupling_from_none(self):
        """kappa moves with tau, and retention changes sign, with coupling alone; prices differ."""
        law = random_coupled(trunk=8, new=8, coupling=0.9, grown=1.0, seed=1)
        left = np.array([5.0, 20.0, 40.0, 60.0])
        with_it, without = law, uncoupled(law)
        assert np.ptp([with_it.kappa(60 - u, u) for u in left]) > 0.1
        assert [without.kappa(60 - u, u) for u in left] == pytest.approx(np.ones(4), rel=1e-9)
        assert with_it.retention(60 - left, left).min() < 0 <= without.retention(60 - left, left).min()
        price = with_it.excess(left, 60.0)
        assert price[-1] == pytest.approx(0, abs=1e-12)  # grown at once, from a fresh run's start
        assert np.all(np.abs(price[:2] - without.excess(left, 60.0)[:2]) > 1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LAW.replace(hessian=LAW.hessian[:3]), r"hessian = \(3, 7\): must be 7 x 7"),
        (lambda: LAW.replace(grown_start=(1.0,)), r"grown_start = 1: needs 3 values"),
        (lambda: LAW.replace(full_depth=1), r"full_depth = 1: must be larger"),
        (lambda: LAW.replace(hessian=rows(-np.array(LAW.hessian))), r"is its least eigenvalue"),
        (lambda: LAW.replace(noise=rows(np.triu(np.ones((7, 7))))), r"noise = .*must be symmetric"),
        (lambda: LAW.replace(floor=math.nan), r"floor = nan"),
        (lambda: LAW.loss(tiny_plan(full=7)), r"depth = 7: is unknown to a law of depths 1 and 4"),
        (lambda: LAW.descent(wsd(steps=5, peak_lr=0.1), tau=6), r"tau = 6: must be a whole number in \[0, 5\]"),
        (lambda: LAW.mixing_area(0.0, 1.0), r"tolerance = .*must be positive"),
        (lambda: random_coupled(trunk=2, new=2, coupling=1.0), r"coupling = 1.0: must lie in \[0, 1\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
