"""Which pilot would narrow the step to grow: from replicas that disagree in one number, and from real pilots."""

from types import SimpleNamespace

import numpy as np
import pytest

from latebloom.theory import AreaLaw, plan_expansion, wsd
from latebloom.theory.architectures.presets import preset
from latebloom.theory.controls import fixed_depth
from latebloom.theory.cost import plan_flops
from latebloom.theory.landscapes.area import Signal
from latebloom.theory.narrowing_pilot import narrowing_pilot
from latebloom.theory.words import amount_text

SCHEDULE = wsd(steps=2000, peak_lr=0.02)
TOLERANCE = 0.01


def law(kappa=0.7):
    unit = {"exponent": 0.4, "onset": 0.04, "reference": SCHEDULE.total_area}
    return AreaLaw(
        small_depth=1, full_depth=12, floor=2.5, small_gap=0.12, trunk=Signal(amplitude=0.9, **unit),
        fresh=Signal(amplitude=0.1, **unit), kappa=kappa, noise=0.0, noise_rate=1.0,
    )  # fmt: skip


def planned():
    model, _ = preset("gpt2-124m")
    return plan_expansion(
        model=model, small_depth=1, full_depth=12, schedule=SCHEDULE, batch_tokens=8192, law=law(), tolerance=TOLERANCE
    )


def star(each, plan):
    return each.tau_star(SCHEDULE, TOLERANCE * float(each.loss(fixed_depth(plan, name="full"))))


def run(role, steps):
    return SimpleNamespace(role=role, schedule=SCHEDULE.with_steps(steps))


REPLICAS = [law(kappa) for kappa in np.linspace(0.4, 1.0, 61)]  # how fast new blocks learn: only growth shows it


def test_a_pilot_that_grows_narrows_what_only_growth_shows():
    plan = planned()
    found = narrowing_pilot(plan, SimpleNamespace(law=law(), runs=()), REPLICAS, tolerance=TOLERANCE)
    assert found.pilot.tau == found.pilot.steps // 2
    low, high = np.quantile([star(each, plan) for each in REPLICAS], [0.05, 0.95])
    assert low < found.interval.low < star(law(), plan) < found.interval.high < high
    assert found.interval.high - found.interval.low < 0.8 * (high - low)
    assert f"({amount_text(plan_flops(found.pilot))} FLOPs) would narrow the step to grow to" in found.sentence()


def test_the_interval_is_the_one_that_the_agreeing_replicas_have():
    plan = planned()
    found = narrowing_pilot(plan, SimpleNamespace(law=law(), runs=()), REPLICAS, tolerance=TOLERANCE)
    losses = np.array([float(each.loss(found.pilot)) for each in REPLICAS])
    weights = np.exp(-0.5 * (np.log(losses / float(law().loss(found.pilot))) / 0.002) ** 2)
    drawn = np.random.default_rng(0).choice(len(REPLICAS), size=200_000, p=weights / weights.sum())
    sampled = np.quantile(np.array([star(each, plan) for each in REPLICAS])[drawn], [0.05, 0.95])
    spacing = np.max(np.abs(np.diff([star(each, plan) for each in REPLICAS])))
    assert [found.interval.low, found.interval.high] == pytest.approx(sampled, abs=spacing)


@pytest.mark.parametrize(
    ("runs", "replicas"),
    [
        ((run("grown", 2000), run("full", 2000)), REPLICAS),  # nothing longer is asked for
        ((), [law(0.7)] * 20),  # nothing is open
        ((), [law(0.01), law(5.0)] * 9),  # no replica agrees with what the law expects
    ],
)
def test_no_pilot_is_named_that_says_nothing(runs, replicas):
    assert narrowing_pilot(planned(), SimpleNamespace(law=law(), runs=runs), replicas, tolerance=TOLERANCE) is None
