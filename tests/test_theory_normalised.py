"""The law of normalised steps: against modes stepped one by one, sums done term by term, and deep linear networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.lowrank import LowRank
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.normalised import fit_normalised
from latebloom.theory.landscapes.normalised import HitTimes, NormalisedLaw, delayed_area, hit_area
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import Constant, Cosine, Linear, wsd

from tests.helpers import ROUNDING, tiny_plan  # isort: skip

torch.set_num_threads(1)

# Of the loss, on noiseless deep linear nets: measured up to 3.6 % (0 -> L), where the area law misses by up to 22 %.
LAW = 0.05


def modes(**changes) -> NormalisedLaw:
    signal = HitTimes(weights=(0.5, 0.125), areas=(1.0, 2.0))
    return NormalisedLaw(
        **{"small_depth": 1, "full_depth": 3, "floor": 0.1, "small_gap": 0.2, "fresh": signal, "regrown": signal}
        | changes
    )


def test_signal_is_what_modes_at_constant_speed_leave():
    """Each factor steps by eta towards its mode, by hand: the law is off by the overshoot, (2 s m q eta)^2/2 a mode."""
    sigma, s_m = np.array([1.0, 0.5, 0.2]), 0.7
    hits = hit_area(sigma, share=s_m)
    law = HitTimes(weights=tuple((sigma**2 / 2).tolist()), areas=tuple(hits.tolist()))
    for eta in (1e-2, 1e-3):
        q, worst = np.zeros(3), 0.0
        for k in range(int(1.5 / eta)):
            q = q + eta * np.sign(sigma - s_m * q**2)
            worst = max(worst, abs(np.sum((sigma - s_m * q**2) ** 2) / 2 - float(law(eta * (k + 1)))))
        assert worst < 1.05 * np.sum(2 * s_m * sigma) * eta**2


def test_hit_area_of_any_number_of_factors():
    assert float(hit_area(0.25, start=0.1)) == pytest.approx(0.4)
    assert float(hit_area(0.001, factors=3)) == pytest.approx(0.1)
    assert float(hit_area(0.01, start=0.5)) == 0.0  # there already
    with pytest.raises(InputError, match="sigma"):
        hit_area(-1.0)


def test_inverse_and_limits():
    signal = HitTimes(weights=(0.5, 0.125), areas=(1.0, 2.0))
    for area in (0.1, 0.9, 1.7):
        assert signal.inverse(float(signal(area))) == pytest.approx(area, rel=1e-9)
    assert float(signal(2.0)) == 0.0 == float(signal(9.0))
    assert signal.inverse(0.0) == 2.0
    assert signal.inverse(1.0) == 0.0
    assert signal.inverse(-1e-9) == np.inf
    assert float(HitTimes()(3.0)) == 0.0


@pytest.mark.parametrize("schedule", [wsd(steps=200, peak_lr=0.02), Cosine(steps=200, peak_lr=0.05)])
@pytest.mark.parametrize("start", [0, 60])
def test_delayed_area_is_its_sum(schedule, start):
    lr, lag = schedule.lrs(), 0.7
    for t in (start, start + 1, 130, 200):
        u = late = 0.0
        for k in range(start, t):
            late += lr[k] * ((u + lr[k]) ** 2 - u**2)
            u += lr[k]
        expected = u - lag * late / u if u else 0.0
        assert float(delayed_area(schedule, t, lag=lag, start=start)) == pytest.approx(expected, rel=ROUNDING)
    assert float(delayed_area(schedule, 200, lag=0.0)) == pytest.approx(schedule.total_area, rel=ROUNDING)


def test_at_a_constant_rate_the_delay_is_a_slower_clock():
    schedule = Constant(steps=100, peak_lr=0.1)
    assert float(delayed_area(schedule, 80, lag=0.5)) == pytest.approx(8 * (1 - 0.05), rel=ROUNDING)


def test_interface_of_the_area_law():
    schedule, law = wsd(steps=400, peak_lr=0.01), modes(lag=2.0)
    plan = tiny_plan(steps=400, tau=100).replace(schedule=schedule)
    left = float(delayed_area(schedule, 400, lag=2.0, start=100))
    total = float(delayed_area(schedule, 400, lag=2.0))
    full = float(law.fixed(schedule, 400, depth=3))
    assert float(law.loss(plan)) - full == pytest.approx(float(law.excess(left, total)), rel=1e-12)
    assert float(law.loss(plan, 100)) == pytest.approx(0.1 + 0.2)  # the small model's last value
    star = law.tau_star(schedule, 0.01)
    assert float(law.grown(schedule, 400, tau=star)) == pytest.approx(full + 0.01, rel=1e-4)
    assert law.tau_star(schedule, 10.0) == 400.0
    assert modes(regrown=HitTimes(weights=(9.0,), areas=(99.0,))).tau_star(schedule, 0.01) is None
    assert float(law.fresh(law.mixing_area(0.01, 9.0))) == pytest.approx(0.01, rel=1e-6)
    faster = HitTimes(weights=(0.5,), areas=(0.5,))
    trained = modes(regrown=faster, trunk=HitTimes(weights=(1.0,), areas=(2.0,)))
    for tau, learnt in ((0, 0.0), (100, 1 - float(trained.trunk(schedule.area(100)))), (260, 1.0)):
        u = schedule.total_area - schedule.area(tau)
        expected = float(trained.fresh(u) + learnt * (faster(u) - trained.fresh(u)))
        assert float(trained.grown(schedule, 400, tau=tau)) == pytest.approx(0.1 + expected, rel=1e-9)
    with pytest.raises(InputError, match="depth = 7"):
        law.fixed(schedule, 4, depth=7)
    with pytest.raises(InputError, match="full_depth"):
        modes(full_depth=1)
    with pytest.raises(InputError, match="areas"):
        HitTimes(weights=(1.0,))


def test_floor_is_proportional_to_the_rate_and_forgets():
    law = modes(noise=2.0, noise_rate=50.0)
    quiet = modes()
    for lr in (0.01, 0.02):
        schedule = Constant(steps=1000, peak_lr=lr)
        extra = float(law.fixed(schedule, 1000, depth=3) - quiet.fixed(schedule, 1000, depth=3))
        assert extra == pytest.approx(2.0 * lr * (1 - np.exp(-50 * 1000 * lr)), rel=1e-9)
    decayed = wsd(steps=1000, peak_lr=0.02, decay=0.5)
    assert float(law.fixed(decayed, 1000, depth=3) - quiet.fixed(decayed, 1000, depth=3)) < 0.2 * 2.0 * 0.02


def run(schedule, *stages, optimizer, family, measure=()):
    arms = [
        Arm(name="a", seed=0, schedule=schedule, stages=tuple(Stage(start_step=t, depth=n) for n, t in each))
        for each in stages
    ]
    return run_arms(family, arms, optimizer=optimizer, noisy=False, measure=measure)


@pytest.mark.parametrize(("name", "alpha", "small"), [("muon", 1.0, 0), ("nsgd", 0.5, 0), ("nsgd", 1.0, 1)])
def test_law_predicts_grown_runs_from_wsd_pilots(name, alpha, small):
    """Final loss on WSD, cosine and linear at seven taus, from two fixed pilots (and one grown one for l = 1): 5 %."""
    family, full, steps = LowRank(alpha=alpha), 8, 500
    optimizer = Optimizer(name=name, momentum=0.9, weight_decay=0.0, transfer="none")
    total = 4.0 * (full * family.multiplier(full)) ** -0.5  # 4 times the way to the largest mode

    def scaled(schedule):
        return schedule.replace(peak_lr=total / schedule.total_area)

    def pilot(schedule, *stages, tau=None):
        curve = run(schedule, stages, optimizer=optimizer, family=family, measure=range(0, 2 * steps + 1, 4))[0]
        return LossCurve(name="pilot", schedule=schedule, step=curve.step[1:], loss=curve.loss[1:], tau=tau)

    slow, fast = (scaled(wsd(steps=k, peak_lr=1.0)) for k in (2 * steps, steps))
    long = wsd(steps=2 * steps, peak_lr=fast.peak)
    law = fit_normalised(
        [pilot(slow, (full, 0)), pilot(fast, (full, 0))], small_depth=small, full_depth=full, noisy=False,
        small=[pilot(fast, (1, 0))] if small else (), floor=family.floor(full),
        grown=[pilot(long, (1, 0), (full, steps), tau=steps)] if small else (),
    )  # fmt: skip
    naive = []
    for shape in (wsd(steps=steps, peak_lr=1.0), Cosine(steps=steps, peak_lr=1.0), Linear(steps=steps, peak_lr=1.0)):
        schedule = scaled(shape)
        taus = [round(float(schedule.area_inverse(x * total))) for x in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)]
        fixed, *grown = run(
            schedule, ((full, 0),), *(((small, 0), (full, tau)) for tau in taus), optimizer=optimizer, family=family,
            measure=range(0, steps + 1, 4),
        )  # fmt: skip
        simulated = np.array([curve.final for curve in grown])
        predicted = np.array([float(law.grown(schedule, steps, tau=tau)) for tau in taus])
        np.testing.assert_allclose(predicted, simulated, rtol=LAW)
        left = total - schedule.area(np.array(taus))
        naive.append(np.max(np.abs(np.interp(left, schedule.area(fixed.step), fixed.loss) / simulated - 1)))
    assert max(naive) > 0.1  # what the area law misses by


def test_bad_pilots_are_refused():
    schedule = wsd(steps=100, peak_lr=0.1)
    pilot = LossCurve(name="slow", schedule=schedule, step=np.array([50, 100]), loss=np.ones(2))
    other = LossCurve(name="fast", schedule=schedule.replace(peak_lr=0.05), step=np.array([50]), loss=np.ones(1))
    with pytest.raises(InputError, match="fewer than two learning rates"):
        fit_normalised([pilot, pilot], small_depth=0, full_depth=2)
    with pytest.raises(InputError, match="give a small and a grown pilot"):
        fit_normalised([pilot, other], small_depth=1, full_depth=2)
    with pytest.raises(InputError, match="fast: loss = nan: must be a positive number"):
        LossCurve(name="fast", schedule=schedule, step=np.array([50]), loss=np.array([np.nan]))
