"""Convex bounds: against the theorem as printed, mpmath, worst cases and simulation; the exam and its constants."""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest

from latebloom.theory import WSD, Constant, Cosine, InputError, Linear, Tail, wsd
from latebloom.theory.bounds import (
    Bound,
    last_iterate,
    last_iterate_curve,
    meeting_area,
    meeting_step,
    restarted,
)
from latebloom.theory.decay_shapes import DECAYS, decay_limit
from latebloom.theory.qualifying_exam import constants, examine, examine_rates
from latebloom.theory.schedules import Cyclic, InverseSqrt, Piecewise
from tests.benchmarks.certificates import GOLDEN, SHAPES, learning_rates, worst_case

# Extended precision leaves two roundings to double; without it (ARM) sums of 500 terms lose a few digits.
EXACT = 4.5e-16 if np.finfo(np.longdouble).eps < 1e-18 else 1e-14
UNIT = dict(distance=1.0, gradient=1.0)
SCHEDULES = [wsd(steps=500, peak_lr=0.3), Cosine(steps=300, peak_lr=2.0), InverseSqrt(steps=200, peak_lr=0.1)]


def theorem_10(eta, gradient, distance):
    """Defazio et al., arXiv 2310.07831, Theorem 10, as printed, a loop over the double sum."""
    n = len(eta)
    total = sum(eta)
    value = distance**2 / (2 * total) + sum((e * g) ** 2 for e, g in zip(eta, gradient, strict=True)) / (2 * total)
    for k in range(n - 1):
        value += 0.5 * eta[k] / sum(eta[k + 1 :]) * sum((eta[t] * gradient[t]) ** 2 for t in range(k, n)) / sum(eta[k:])
    return value


class TestLastIterate:
    @pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
    def test_abel_form_is_the_double_sum(self, schedule):
        eta = schedule.lrs()[:150]
        gradient = np.random.default_rng(0).uniform(0.5, 2, len(eta))
        printed = theorem_10(eta.tolist(), gradient.tolist(), 3.0)
        assert last_iterate(eta, distance=3.0, gradient=gradient).value == pytest.approx(printed, rel=1e-12)

    @pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
    def test_exact_to_rounding(self, schedule):
        eta = schedule.lrs()
        gradient = np.random.default_rng(1).uniform(0.5, 2, len(eta))
        with mpmath.workdps(40):
            left, inner = mpmath.mpf(0), mpmath.mpf(0)
            for k in reversed(range(len(eta))):
                energy = (mpmath.mpf(eta[k]) * mpmath.mpf(gradient[k])) ** 2
                inner += energy / left if left else energy / mpmath.mpf(eta[k])
                left += mpmath.mpf(eta[k])
            exact = 9 / (2 * left) + inner / 2
        assert abs(last_iterate(eta, distance=3.0, gradient=gradient).value / exact - 1) < EXACT

    def test_one_step(self):
        """D^2/(2 eta) + eta G^2/2."""
        assert last_iterate([0.5], distance=2.0, gradient=3.0).value == pytest.approx(4.0 + 2.25, rel=1e-15)

    def test_subgradient_descent_keeps_below_the_bound(self):
        """On |x| in many dimensions, from anywhere, at any horizon: the simulation."""
        rng = np.random.default_rng(2)
        for schedule in (Linear(steps=60, peak_lr=0.2), Constant(steps=60, peak_lr=0.3)):
            x, eta = rng.normal(size=20), schedule.lrs()
            distance = float(np.linalg.norm(x))
            for t in range(60):
                bound = last_iterate(eta[: t + 1], distance=distance, gradient=math.sqrt(20)).value
                assert np.abs(x).sum() <= bound
                x = x - eta[t] * np.sign(x)

    def test_best_scale_is_the_minimum(self):
        eta = wsd(steps=300, peak_lr=1.0).lrs()
        bound = last_iterate(eta, distance=2.0, gradient=0.7)
        values = [last_iterate(eta * bound.best_scale * f, distance=2.0, gradient=0.7).value for f in (0.99, 1.0, 1.01)]
        assert values[1] == pytest.approx(bound.best_value, rel=1e-14)
        assert values[1] < min(values[0], values[2])


class TestWorstCases:
    """Semidefinite programming gives the exact worst case; no bound may lie below it."""

    golden = json.loads(Path(GOLDEN).read_text())

    @pytest.mark.parametrize("name", sorted(golden))
    def test_no_bound_is_below_the_worst_case(self, name):
        shape, steps, *shifted = name.split("-")
        eta = learning_rates(shape, int(steps))
        bound = last_iterate(eta, **UNIT).value if not shifted else last_iterate(eta[1:], **UNIT).value
        worst = self.golden[name]
        assert worst <= bound
        assert bound < 2.6 * worst  # and none is loose by more than this: linear decay 2.05, constant least

    def test_published_certificate(self):
        """lr-scheduling, linear decay, T = 60, by MOSEK; ours by Clarabel, whose objectives are good to about 1e-5."""
        assert self.golden["linear-60-shifted"] == pytest.approx(0.12921112202093746, rel=2e-5)

    def test_solver(self):
        """The smallest cases again, where PEPit is installed (it is half a gigabyte and no dependency)."""
        pytest.importorskip("PEPit")
        for shape in SHAPES:
            again = worst_case(learning_rates(shape, 4)[:-1])
            assert again == pytest.approx(self.golden[f"{shape}-4"], rel=1e-6)


class TestCurve:
    @pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
    def test_every_horizon(self, schedule):
        eta = schedule.lrs()
        gradient = np.random.default_rng(3).uniform(0.5, 2, len(eta))
        curve = last_iterate_curve(eta, distance=0.3, gradient=gradient, tolerance=1e-8)
        exact = [last_iterate(eta[:t], distance=0.3, gradient=gradient[:t]).value for t in range(1, len(eta) + 1)]
        assert curve.error < 1e-8
        assert curve.value == pytest.approx(exact, rel=1e-8)

    def test_steps_of_zero_change_nothing(self):
        eta = np.array([0.0, 0.3, 0.0, 0.2, 0.1, 0.0])
        curve = last_iterate_curve(eta, **UNIT, tolerance=1e-10).value
        assert curve[0] == np.inf
        assert curve[1] == curve[2]
        assert curve[4] == curve[5] == pytest.approx(last_iterate([0.3, 0.2, 0.1], **UNIT).value, rel=1e-10)
        assert last_iterate(eta, **UNIT).value == last_iterate([0.3, 0.2, 0.1], **UNIT).value


class TestGrowth:
    eta = wsd(steps=400, peak_lr=0.1).lrs()

    def test_restart_is_the_tail_and_needs_no_small_model(self):
        base = wsd(steps=400, peak_lr=0.1)
        tail = last_iterate(Tail(base=base, start_step=250).lrs(), distance=1.5, gradient=2.0)
        assert restarted(base.lrs(), tau=250, distance=1.5, gradient=2.0) == tail
        norms = np.linspace(1, 2, 400)
        cut = restarted(self.eta, tau=399, distance=1.0, gradient=norms).value
        assert cut == pytest.approx(1 / (2 * self.eta[-1]) + self.eta[-1] * 4 / 2, rel=1e-12)

    @pytest.mark.parametrize("rho", [0.0, 0.3, 0.7, 1.0])
    def test_where_the_bounds_meet(self, rho):
        total = float(self.eta.sum())
        area = meeting_area(total, rho)
        assert rho * total == pytest.approx(total - area, abs=1e-12)  # rho D^2/(2 (S - S_tau)) = D^2/(2 S)
        step = meeting_step(self.eta, rho=rho, distance=3.0, gradient=1.0)
        whole = last_iterate(self.eta, distance=3.0, gradient=1.0).value
        values = [
            restarted(self.eta, tau=t, distance=3.0 * math.sqrt(max(rho, 1e-12)), gradient=1.0).value
            for t in (step, min(step + 1, 399))
        ]
        assert values[0] <= whole
        assert step == 399 or values[1] > whole
        assert self.eta[: step + 1].sum() >= area - 1e-12  # the gradient terms left behind are a gain
        far = meeting_step(self.eta, rho=rho, distance=1e5, gradient=1.0)  # where only distances count
        assert self.eta[:far].sum() == pytest.approx(area, abs=0.11) or rho == 0


class TestExam:
    @pytest.mark.parametrize(
        ("schedule", "passes"),
        [
            (Linear(steps=1000, peak_lr=1.0), True),
            (Cosine(steps=1000, peak_lr=1.0), True),
            (wsd(steps=1000, peak_lr=1.0), True),
            (WSD(steps=1000, peak_lr=1.0, decay_steps=200, decay="sqrt"), True),
            (WSD(steps=1000, peak_lr=1.0, warmup_steps=100, decay_steps=300, decay="cosine"), True),
            (Constant(steps=1000, peak_lr=1.0), False),
            (WSD(steps=1000, peak_lr=1.0, decay_steps=0), False),
            (InverseSqrt(steps=1000, peak_lr=1.0), False),
            (Cosine(steps=1000, peak_lr=1.0, final=0.1), False),
            (WSD(steps=1000, peak_lr=1.0, decay_steps=300, decay="exponential", final=0.01), False),
            (Cyclic(steps=1000, peak_lr=1.0, period=250), True),
            (Cyclic(steps=1000, peak_lr=1.0, period=300), False),
            (Piecewise(at=[0, 100, 800, 1000], rate=[0.0, 1.0, 1.0, 0.0]), True),
            (Piecewise(at=[0, 100, 800, 1000], rate=[0.0, 1.0, 1.0, 0.1]), False),
        ],
        ids=lambda v: type(v).__name__,
    )
    def test_symbolic_and_numeric_agree(self, schedule, passes):
        numeric = examine_rates(lambda steps: schedule.with_steps(steps).lrs())
        assert numeric.passes is passes
        exam = examine(schedule)
        assert exam.passes is passes
        assert (exam.q1 is not None) is passes
        if passes:
            assert numeric.q1 == pytest.approx(exam.q1, rel=1e-4)
            assert numeric.q2 == pytest.approx(exam.q2, rel=2e-3)

    def test_table_1(self):
        """arXiv 2602.07145, Table 1, per D and G."""
        assert constants(warmup=0, decay=1.0) == (1.0, 1.0)
        assert constants(warmup=0, decay=1.0, shape="cosine")[1] ** 2 == pytest.approx(1.061, abs=5e-4)
        for c in (0.5, 0.8, 0.9):
            q1, q2 = constants(warmup=0, decay=1 - c)
            assert q1**2 == pytest.approx(1 / (1 + c), rel=1e-12)
            assert q2**2 == pytest.approx(1 + math.log((1 + c) / (1 - c)) / 2, rel=1e-12)

    @pytest.mark.parametrize(
        ("make", "decay", "shape"),
        [
            (lambda n: Linear(steps=n, peak_lr=1.0), 1.0, "linear"),
            (lambda n: Cosine(steps=n, peak_lr=1.0), 1.0, "cosine"),
            (lambda n: WSD(steps=n, peak_lr=1.0, decay_steps=n // 5), 0.2, "linear"),
            (lambda n: WSD(steps=n, peak_lr=1.0, decay_steps=n // 5, decay="sqrt"), 0.2, "sqrt"),
        ],
    )
    def test_constants_are_approached_as_one_over_horizon(self, make, decay, shape):
        """q1^2 exactly as 1/T (1/sqrt(T) enters 1-sqrt's sum at higher order), q2^2 as ln(T)/T: rate of 1 within .2."""
        q1, q2 = constants(warmup=0, decay=decay, shape=shape)
        horizons = np.array([500, 4000, 32_000])
        errors = []
        for n in horizons:
            bound = last_iterate(make(int(n)).lrs(), **UNIT)
            errors.append([abs(bound.distance_term * n / q1**2 - 1), abs(bound.gradient_term / q2**2 - 1)])
        slopes = np.diff(np.log(errors), axis=0) / np.log(8)
        assert slopes[:, 0] == pytest.approx(-1, abs=0.1)
        assert slopes[:, 1] == pytest.approx(-1, abs=0.2)

    def test_failing_grows_as_the_logarithm(self):
        """A constant rate: (2 q1 q2)^2 = 4 x 1/2 x 1/2 (1 + ln T + gamma + ...)."""
        for n in (1000, 32_000):
            best = last_iterate(np.ones(n), **UNIT).best_value
            assert best**2 * n == pytest.approx(1 + math.log(n) + np.euler_gamma, rel=1e-3)

    @pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
    def test_decay_limit(self, shape):
        """Against sums over 5e4 steps with the mid-point rule."""
        n = 50_000
        unit = DECAYS[shape][0](np.arange(n) + 0.5, n, 0.0)
        left = (np.cumsum(unit[::-1])[::-1] - unit / 2) / n
        mean, kappa = decay_limit(shape)
        assert unit.mean() == pytest.approx(mean, rel=1e-5)
        assert 0.5 * np.mean(unit**2 / left) == pytest.approx(kappa, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: last_iterate([0.1, -0.1], **UNIT), r"lrs = -0.1: must be finite and >= 0"),
        (lambda: last_iterate([0.1, math.nan], **UNIT), r"lrs = nan: must be finite"),
        (lambda: last_iterate([0.0, 0.0], **UNIT), r"lrs = 0.0: is zero at every step"),
        (lambda: last_iterate([], **UNIT), r"lrs = \(0,\): must be a series"),
        (lambda: last_iterate([0.1], distance=-1.0, gradient=1.0), r"distance = -1.0: must be finite and positive"),
        (lambda: last_iterate([0.1], distance=1.0, gradient=math.inf), r"gradient = inf: must be positive"),
        (lambda: last_iterate([0.1], distance=1.0, gradient=[1.0, 2.0]), r"gradient = \(2,\): must be positive"),
        (lambda: last_iterate_curve([0.1, math.inf], **UNIT), r"lrs = inf"),
        (lambda: restarted([0.1, 0.1], tau=2, **UNIT), r"tau = 2: must be a whole number in \[0, 1\]"),
        (lambda: restarted([0.1, 0.1], tau=0.5, **UNIT), r"tau = 0.5: must be a whole number"),
        (lambda: meeting_area(1.0, 1.2), r"rho = 1.2: must lie in \[0, 1\]"),
        (lambda: Bound(distance_term=-1.0, gradient_term=1.0).best_scale, r"distance_term = -1.0"),
        (lambda: examine(Tail(base=wsd(steps=9, peak_lr=1.0), start_step=3)), r"no shape of its own"),
        (lambda: examine_rates(lambda n: np.ones(3)), r"rates = \(3,\): must give 256"),
        (lambda: constants(warmup=0.5, decay=0.9), r"decay = .*shares of one run"),
        (lambda: decay_limit("exponential"), r"shape = 'exponential': has no limit"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
