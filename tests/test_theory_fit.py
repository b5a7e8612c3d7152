"""Fitting the area law: recovers what made the data, predicts beyond it, intervals that mean something, bad input."""

import re

import numpy as np
import pytest

from latebloom.theory import AreaLaw, InputError, Plan, Signal, Stage, fixed_depth, tau_star, wsd
from latebloom.theory.fitting.area import fit_area_law
from tests.helpers import synthetic_record, tiny_shape


def pilot(*, steps, tau, small=1, full=4):
    stages = [Stage(start_step=0, depth=small), Stage(start_step=tau, depth=full)]
    return Plan(name="p", model=tiny_shape(), batch_tokens=64, schedule=wsd(steps=steps, peak_lr=0.05), stages=stages)


REFERENCE = pilot(steps=600, tau=300).schedule.total_area
TRUTH = AreaLaw(
    small_depth=1, full_depth=4, floor=2.5, small_gap=0.6, kappa=0.6, noise=1.5, noise_rate=30 / REFERENCE,
    trunk=Signal(amplitude=0.7, exponent=0.5, onset=0.02 * REFERENCE, reference=REFERENCE),
    fresh=Signal(amplitude=0.4, exponent=0.3, onset=0.02 * REFERENCE, reference=REFERENCE),
)  # fmt: skip


def records(*, noise=0.0, seed=0, grown=True):
    rng = np.random.default_rng(seed)
    made = []
    for steps in (300, 600):
        base = pilot(steps=steps, tau=steps // 2)
        plans = {"small": fixed_depth(base, name="s", depth=1), "full": fixed_depth(base, name="f")}
        if grown:
            plans["grown"] = base
        for name, plan in plans.items():
            step = np.unique(np.linspace(10, steps, 30).astype(int))
            walk = noise * np.exp(-np.abs(np.subtract.outer(step, step)) / (0.3 * steps))  # correlated within a curve
            error = rng.multivariate_normal(np.zeros(len(step)), noise * walk) if noise else 0.0
            made.append(synthetic_record(plan, step, TRUTH.loss(plan, step) * np.exp(error), name=f"{name}{steps}"))
    return made


def test_recovers_the_law_from_clean_pilots():
    fit = fit_area_law(records())
    found, truth = fit.law.parameters, TRUTH.parameters
    for name in ("floor", "small_gap", "trunk_exponent", "fresh_exponent", "kappa"):
        assert found[name] == pytest.approx(truth[name], rel=0.05), name
    assert fit.identifiability == ()
    assert max(np.abs(p / r.loss - 1).max() for p, r in zip(fit.predicted, fit.runs, strict=True)) < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_predicts_three_horizons_ahead(seed):
    """Noise of 0.2 %, correlated along each curve, becomes less than 2 % at three times the longest pilot."""
    fit = fit_area_law(records(noise=0.002, seed=seed))
    plan = pilot(steps=1800, tau=1440)
    assert fit.law.loss(plan) == pytest.approx(float(TRUTH.loss(plan)), rel=0.02)
    full = fixed_depth(plan, name="f")
    assert fit.law.loss(full) == pytest.approx(float(TRUTH.loss(full)), rel=0.02)


def test_intervals_cover_about_as_often_as_they_say():
    """90 % intervals of tau* over 12 data sets cover the truth in at least 8 (binomial: 97 % if they do in 90 %)."""
    schedule = wsd(steps=2000, peak_lr=0.05)
    total = schedule.total_area
    truth = tau_star(schedule, TRUTH.mixing_area(0.05, total))
    covered = 0
    for seed in range(12):
        fit = fit_area_law(records(noise=0.002, seed=seed), starts=4)
        laws = fit.bootstrap(replicas=20, seed=seed)
        taus = [tau_star(schedule, min(law.mixing_area(0.05, total), 0.999 * total)) for law in laws]
        low, high = np.quantile(taus, [0.05, 0.95])
        covered += low <= truth <= high
    assert covered >= 8


def test_kappa_without_a_grown_pilot_is_said_to_be_unknown():
    fit = fit_area_law(records(grown=False))
    assert fit.law.kappa == 1
    assert any("kappa is taken as 1" in line for line in fit.identifiability)


def test_report_and_provenance():
    fit = fit_area_law(records(noise=0.001))
    table = fit.report(fit.bootstrap(replicas=5))
    assert set(table["parameters"]) == set(fit.law.parameters)
    assert {row["role"] for row in table["runs"].values()} == {"small", "full", "grown"}
    origin = fit.provenance()
    assert origin.landscape == "area"
    assert len(origin.pilots) == 6


def test_bad_input():
    good = records()
    with pytest.raises(InputError, match="need one of the full depth 4 alone"):
        fit_area_law([r for r in good if not r.header.name.startswith("full")])
    with pytest.raises(InputError, match=r"depths = \[4\]: must be two"):
        fit_area_law([r for r in good if r.header.name.startswith("full")])
    plan = pilot(steps=300, tau=150)
    few = [synthetic_record(p, np.array([100, 300]), np.array([4.0, 3.0]), name="x")
           for p in (plan, fixed_depth(plan, name="f"))]  # fmt: skip
    with pytest.raises(InputError, match="points = 4: are too few for 10 parameters"):
        fit_area_law(few)


def test_pilots_that_are_not_alike_are_refused():
    good = records()
    other = good[-1].plan.replace(batch_tokens=128)
    bad = synthetic_record(other, np.array([300, 600]), np.array([4.0, 3.0]), name="other")
    with pytest.raises(InputError, match=r"batch_tokens of other = 128: differs from that of 'small300'"):
        fit_area_law([*good, bad])
    zeroed = good[-1].plan.replace(stages=(good[-1].plan.stages[0], good[-1].plan.stages[1].replace(init="zero_last")))
    bad = synthetic_record(zeroed, np.array([300, 600]), np.array([4.0, 3.0]), name="other")
    with pytest.raises(InputError, match="are the ways in which these pilots grow"):
        fit_area_law([*good, bad])
    diverged = synthetic_record(good[-1].plan, np.array([300, 600]), np.array([4.0, np.nan]), name="diverged")
    with pytest.raises(InputError, match="at step 600 of pilot 'diverged': it diverged"):
        fit_area_law([*good, diverged])


def test_short_pilots_leave_the_final_loss_open_and_say_so():
    """Ten times the longest pilot: open, by how much, and what would tell; asked at what they saw: nothing to say."""
    fit = fit_area_law(records(noise=0.002), starts=4)
    laws = fit.bootstrap(replicas=10)
    (line,) = fit.left_open(laws, wsd(steps=6000, peak_lr=0.05))
    assert "floor and trunk exponent are not told apart" in line
    assert "seen for 10% of the learning-rate area of 6000 steps" in line
    assert "A pilot of 1 block alone for all 6000 steps would tell." in line
    low, high = map(float, re.search(r"anything from (\S+) to (\S+) ", line).groups())
    plan = fixed_depth(pilot(steps=6000, tau=3000), name="f")
    assert low < float(TRUTH.loss(plan)) < high
    assert fit.left_open(laws, wsd(steps=600, peak_lr=0.05)) == []
    assert line.partition(":")[0].split(" (")[0] in " ".join(fit.report(laws)["identifiability"])


def test_the_small_depth_for_the_whole_horizon_tells():
    """The pilot that the line above asks for brings the full depth's final loss from 3 % off to within 1 %."""
    horizon = 6000
    plan = pilot(steps=horizon, tau=horizon // 2)
    small, full = fixed_depth(plan, name="long", depth=1), fixed_depth(plan, name="f")
    step = np.unique(np.linspace(10, horizon, 30).astype(int))
    short = records(noise=0.002)
    fit = fit_area_law([*short, synthetic_record(small, step, TRUTH.loss(small, step), name="long")], starts=4)
    assert float(fit_area_law(short, starts=4).law.loss(full)) != pytest.approx(float(TRUTH.loss(full)), rel=0.02)
    assert float(fit.law.loss(full)) == pytest.approx(float(TRUTH.loss(full)), rel=0.01)
    assert fit.left_open([fit.law, fit.law.replace(floor=0.0)], full.schedule) == []  # seen: it advises nothing
