"""Schedules: closed-form areas against running sums, continuum limits with their rate, inverses, bad input."""

import numpy as np
import pytest
from scipy import integrate

from latebloom.theory import WSD, Constant, Cosine, InputError, Linear, Tail, wsd
from latebloom.theory.decay_shapes import power_sum
from latebloom.theory.plan import Plan
from latebloom.theory.schedules import Cyclic, InverseSqrt, Piecewise
from latebloom.theory.spec import decode
from tests.helpers import INVERSE, ROUNDING

SCHEDULES = [
    Constant(steps=100, peak_lr=0.1, warmup_steps=7),
    Linear(steps=100, peak_lr=0.1, warmup_steps=7, final=0.1),
    Linear(steps=60, peak_lr=1.0),
    Cosine(steps=100, peak_lr=0.1, warmup_steps=7),
    Cosine(steps=1000, peak_lr=3.0, final=0.1),
    WSD(steps=100, peak_lr=0.1, warmup_steps=2, decay_steps=10),
    WSD(steps=100, peak_lr=0.1, warmup_steps=20, decay_steps=80),
    WSD(steps=9, peak_lr=0.1, decay_steps=0),
    Tail(base=wsd(steps=100, peak_lr=0.3), start_step=50),
    Tail(base=Tail(base=Cosine(steps=90, peak_lr=0.3), start_step=20), start_step=30),
    Cosine(steps=1, peak_lr=1.0),
    WSD(steps=200, peak_lr=0.1, warmup_steps=2, decay_steps=60, decay="sqrt"),
    WSD(steps=200, peak_lr=0.1, warmup_steps=2, decay_steps=60, decay="cosine", final=0.1),
    WSD(steps=200, peak_lr=0.1, warmup_steps=2, decay_steps=60, decay="exponential", final=0.05),
    InverseSqrt(steps=300, peak_lr=0.1),
    InverseSqrt(steps=3000, peak_lr=0.1, warmup_steps=30, timescale=30),
    Cyclic(steps=100, peak_lr=0.1, warmup_steps=3, period=20, final=0.1),
    Cyclic(steps=107, peak_lr=0.1, period=1),
    Piecewise(at=[0, 10, 50, 50, 80], rate=[0.01, 0.1, 0.1, 0.03, 0.01]),
    Piecewise(at=[0, 40], rate=[0.1, 0.1]),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{type(s).__name__}{s.horizon}")
class TestEverySchedule:
    def test_area_is_the_running_sum(self, schedule):
        running = np.concatenate([[0.0], np.cumsum(schedule.lrs())])
        assert schedule.area(np.arange(schedule.horizon + 1)) == pytest.approx(running, rel=ROUNDING, abs=ROUNDING)

    def test_area_is_linear_between_steps(self, schedule):
        t = np.arange(schedule.horizon)
        middle = 0.5 * (schedule.area(t) + schedule.area(t + 1))
        assert schedule.area(t + 0.5) == pytest.approx(middle, rel=ROUNDING)

    def test_inverse(self, schedule):
        t = np.linspace(0, schedule.horizon, 333)
        assert schedule.area_inverse(schedule.area(t)) == pytest.approx(t, abs=INVERSE * schedule.horizon)

    def test_remaining(self, schedule):
        assert schedule.remaining(0) == 1
        assert schedule.remaining(schedule.horizon) == pytest.approx(0, abs=ROUNDING)

    def test_learning_rates_are_positive_and_never_above_the_peak(self, schedule):
        assert np.all(schedule.lrs() > 0)
        assert schedule.lrs().max() <= schedule.peak

    @pytest.mark.parametrize("t", [-1, 1e9, np.nan])
    def test_outside_is_refused(self, schedule, t):
        with pytest.raises(InputError, match=r"must lie in"):
            schedule.area(t)
        with pytest.raises(InputError, match=r"must lie in"):
            schedule.area_inverse(t)


@pytest.mark.parametrize(
    ("make", "share"),
    [
        (lambda n: Linear(steps=n, peak_lr=1 / n), lambda x: 1 - x),
        (lambda n: Cosine(steps=n, peak_lr=1 / n), lambda x: (1 + np.cos(np.pi * x)) / 2),
        (lambda n: WSD(steps=n, peak_lr=1 / n, decay_steps=n // 5), lambda x: min(1.0, 5 * (1 - x))),
    ],
)
def test_area_converges_to_the_integral_at_first_order(make, share):
    exact, _ = integrate.quad(share, 0, 0.9, points=[0.8])
    errors = [abs(make(n).area(0.9 * n) - exact) for n in (100, 1000)]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.02)  # left-end sampling: error proportional to 1/n


@pytest.mark.parametrize("p", [0.5, -0.5, 1.5, 2.0])
def test_power_sum(p):
    m = np.array([0, 1, 15, 16, 17, 1000, 10**5])
    exact = np.concatenate([[0.0], np.cumsum(np.arange(1, 10**5 + 1, dtype=float) ** p)])[m]
    assert power_sum(m, p) == pytest.approx(exact, rel=1e-13)


def test_jump_of_a_table_takes_the_second_value():
    stairs = Piecewise(at=[0, 5, 5, 9], rate=[1.0, 1.0, 0.25, 0.25])
    assert stairs.lrs().tolist() == [1.0] * 5 + [0.25] * 4


def test_linear_decay_is_the_last_iterate_optimum():
    assert Linear(steps=4, peak_lr=1.0).lrs() == pytest.approx([1, 0.75, 0.5, 0.25])


def test_default_wsd_has_2_percent_warmup_and_10_percent_decay():
    s = wsd(steps=1000, peak_lr=1.0)
    assert (s.warmup_steps, s.decay_steps) == (20, 100)
    assert s.lr(0) == pytest.approx(1 / 20)
    assert s.lr(19) == s.lr(899) == 1
    assert s.lr(999) == pytest.approx(1 / 100)


def test_tail_is_what_is_left():
    base = wsd(steps=100, peak_lr=0.3)
    assert Tail(base=base, start_step=85).lrs() == pytest.approx(base.lrs()[85:], rel=0)


def test_with_steps_keeps_shares_and_peak():
    s = wsd(steps=1000, peak_lr=0.3).with_steps(500)
    assert s == wsd(steps=500, peak_lr=0.3)
    with pytest.raises(InputError, match="no shape of its own"):
        Tail(base=s, start_step=3).with_steps(20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WSD(steps=100, peak_lr=0.1, decay_steps=200), r"decay_steps = 200: does not fit"),
        (lambda: WSD(steps=100, peak_lr=0.1, warmup_steps=95, decay_steps=10), r"leave 5; give at most 5"),
        (lambda: Constant(steps=5, peak_lr=0.1, warmup_steps=6), r"warmup_steps = 6: is longer"),
        (lambda: Constant(steps=0, peak_lr=0.1), r"steps = 0: expected int >= 1"),
        (lambda: Constant(steps=5.0, peak_lr=0.1), r"steps = 5.0: expected int"),
        (lambda: Constant(steps=True, peak_lr=0.1), r"steps = True: expected int"),
        (lambda: Constant(steps=5, peak_lr=float("nan")), r"peak_lr = nan: must be a finite number"),
        (lambda: Constant(steps=5, peak_lr=0.0), r"peak_lr = 0.0: expected float > 0"),
        (lambda: Cosine(steps=5, peak_lr=1.0, final=1.5), r"final = 1.5: expected float <= 1"),
        (lambda: WSD(steps=5, peak_lr=0.1, decay_steps=3, decay="exponential"), r"never reached by an exponential"),
        (lambda: WSD(steps=5, peak_lr=0.1, decay_steps=3, decay="sqr"), r"did you mean 'sqrt'"),
        (lambda: Piecewise(at=[1, 5], rate=[0.1, 0.1]), r"at = 1: must begin with 0"),
        (lambda: Piecewise(at=[0, 5, 4], rate=[0.1, 0.1, 0.1]), r"must not decrease"),
        (lambda: Piecewise(at=[0, 5], rate=[0.1, 0.1, 0.1]), r"needs one value for each of 2"),
        (lambda: Piecewise(at=[0, 5], rate=[0.0, 0.0]), r"is zero everywhere"),
        (lambda: Tail(base=Constant(steps=5, peak_lr=0.1), start_step=5), r"leaves nothing"),
        (lambda: wsd(steps=5, peak_lr=0.1, warmup=2.0), r"warmup = 2.0: must be a share"),
        (lambda: Constant(steps=5, peak_lr=0.1).lr(1.5), r"must be whole"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_equal_values_have_equal_digests():
    from latebloom.theory.spec import digest

    a, b = Constant(steps=5, peak_lr=1), Constant(steps=5, peak_lr=1.0)
    assert a == b
    assert digest(a) == digest(b)
    assert decode(a.to_json(), Constant) == a
    assert Plan.__struct_fields__[0] == "schema_version"
