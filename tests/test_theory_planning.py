"""Plans from landscapes, and the verdict from runs: consistency of the two, signs, bad input."""

import numpy as np
import pytest

from latebloom.theory import AreaLaw, InputError, Signal, cold_start, equal_compute, fixed_depth, plan_expansion, wsd
from latebloom.theory.controls import compared
from latebloom.theory.cost import plan_flops
from latebloom.theory.planning import budget_step
from latebloom.theory.verdict import from_prediction, judge
from latebloom.theory.verdict_text import sentence
from tests.helpers import synthetic_record, tiny_shape

SCHEDULE = wsd(steps=2000, peak_lr=0.02)
COMMON = dict(model=tiny_shape(), small_depth=1, full_depth=6, schedule=SCHEDULE, batch_tokens=64)


def law(*, fresh=0.3, kappa=0.7, trunk=0.8):
    ref = SCHEDULE.total_area
    return AreaLaw(
        small_depth=1, full_depth=6, floor=2.0, small_gap=0.9, kappa=kappa, noise=1.0, noise_rate=20 / ref,
        trunk=Signal(amplitude=trunk, exponent=0.5, onset=0.01 * ref, reference=ref),
        fresh=Signal(amplitude=fresh, exponent=0.5, onset=0.01 * ref, reference=ref),
    )  # fmt: skip


def run(plan, landscape, name):
    step = np.unique(np.geomspace(1, plan.steps, 40).astype(int))
    return synthetic_record(plan, step, landscape.loss(plan, step), name=name)


@pytest.mark.parametrize(("fresh", "trunk", "grows"), [(0.05, 1.5, True), (0.9, 0.02, False)])
def test_what_is_predicted_is_what_runs_on_the_landscape_show(fresh, trunk, grows):
    landscape = law(fresh=fresh, trunk=trunk, kappa=1.0)
    plan = plan_expansion(**COMMON, law=landscape, tolerance=0.02)
    predicted = from_prediction(plan)
    controls = {each.name: run(each.plan(plan), landscape, each.name) for each in compared()}
    measured = judge({"progressive": run(plan, landscape, "p")} | controls)
    assert measured.controls == pytest.approx(predicted.controls, rel=1e-12)
    assert measured.small == pytest.approx(predicted.small, rel=1e-12)
    assert measured.progressive == pytest.approx(predicted.progressive, rel=1e-12)
    assert measured.retention == pytest.approx(predicted.retention, abs=1e-12)
    assert measured.retention == pytest.approx(measured.controls["cold_start"] - measured.progressive, abs=1e-12)
    assert measured.saving_same_horizon == pytest.approx(predicted.saving_same_horizon, rel=1e-12)
    assert measured.gap_same_horizon == pytest.approx(0.02, abs=1e-4)  # the tolerance is what growing costs
    assert (measured.gap_equal_compute < 0) == grows
    assert measured.head == predicted.head == ("grow" if grows else "do not grow")
    grow = f"Grow: train 1 block for {plan.tau} of 2000 steps, then grow to 6."
    assert sentence(measured).startswith(grow if grows else "Do not grow: train 1 block longer.")
    assert (predicted.saving_equal_compute > 0) == grows
    assert (measured.saving_equal_compute > 0) == grows
    assert f"step {plan.tau}" not in plan.provenance.reason
    assert f"for {plan.tau} of 2000 steps" in plan.provenance.reason


def test_growing_that_is_worth_nothing_is_not_called_growth():
    landscape = law(fresh=0.0, trunk=1.5).replace(small_gap=0.0)  # the full depth learns nothing more
    plan = plan_expansion(**COMMON, law=landscape, mixing_area=5.0)
    predicted = from_prediction(plan)
    assert predicted.gap_equal_compute < 0
    assert predicted.gain_over_small == pytest.approx(0, abs=1e-12)
    assert sentence(predicted).startswith("Do not grow: train 1 block longer.")


def test_a_landscape_without_fresh_modes_is_explained():
    plan = plan_expansion(**COMMON, law=law(fresh=0.0))
    assert plan.tau == SCHEDULE.steps - 1
    assert plan.predicted.tau_star == SCHEDULE.steps
    assert "Even at the last step growing costs less than the 1.0% of the final loss allowed." in plan.provenance.reason


def test_an_interval_over_the_whole_run_is_no_confidence():
    wide = plan_expansion(**COMMON, law=law(), resamples=[law(kappa=k) for k in (0.01, 5.0) for _ in range(9)])
    narrow = plan_expansion(**COMMON, law=law(), resamples=[law(kappa=k) for k in (0.69, 0.7, 0.71)])
    assert "Confidence: none, the pilots allow any step." in wide.provenance.reason
    assert "Confidence: 90% of the fits to resampled pilots put the step at " in narrow.provenance.reason
    assert "nats above 6 blocks from the start, 1.0% of the final loss." in narrow.provenance.reason


def test_equal_compute_costs_the_same_and_has_its_own_schedule():
    plan = plan_expansion(**COMMON, mixing_area=5.0)
    equal = equal_compute(plan, name="e")
    assert plan_flops(equal) == pytest.approx(plan_flops(plan), rel=1 / equal.steps)
    assert equal.schedule.decay_steps == round(0.1 * equal.steps)
    assert equal.schedule.peak == plan.schedule.peak


@pytest.mark.parametrize("budget", [0.5, 0.7, 1.0])
def test_budget_is_kept_and_used(budget):
    plan = plan_expansion(**COMMON, budget=budget)
    spent = plan_flops(plan) / plan.predicted.fixed_flops
    assert spent <= budget
    if plan.tau > 1:
        assert budget - spent < 1 / plan.steps


def test_budget_below_the_small_model_is_refused():
    fixed = fixed_depth(plan_expansion(**COMMON, mixing_area=5.0), name="f")
    with pytest.raises(InputError, match=r"budget = 0.01: must lie in \(0\."):
        budget_step(fixed, small_depth=1, budget=0.01)


def test_interval_covers_the_point_and_comes_from_the_replicas():
    replicas = [law(kappa=k) for k in np.linspace(0.6, 0.8, 21)]
    plan = plan_expansion(**COMMON, law=law(), resamples=replicas)
    p = plan.predicted
    assert p.tau_interval.low < p.tau_star < p.tau_interval.high
    assert p.final_loss_interval.low <= p.final_loss <= p.final_loss_interval.high


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "mixing_area = None: is needed to place the expansion"),
        ({"mixing_area": 1e9}, r"is all of the schedule's area|no expansion mixes"),
        ({"mixing_area": 5.0, "small_depth": 6}, "small_depth = 6: must be below the full depth 6"),
        ({"mixing_area": 5.0, "tolerance": 1.5}, "tolerance = 1.5: must be a share of the loss"),
        ({"law": "kappa"}, "tolerance = 0.01: growing 1 -> 6 costs more than this whenever"),
    ],
)
def test_bad_input(changes, message):
    if changes.get("law"):
        changes = {"law": law(kappa=5.0)}
    with pytest.raises(InputError, match=message):
        plan_expansion(**COMMON | changes)


def test_judge_refuses_what_does_not_control():
    landscape = law()
    plan = plan_expansion(**COMMON, law=landscape)
    good = {
        "progressive": run(plan, landscape, "p"),
        "fixed": run(fixed_depth(plan, name="f"), landscape, "f"),
        "equal_compute": run(equal_compute(plan, name="e"), landscape, "e"),
        "cold_start": run(cold_start(plan, name="c"), landscape, "c"),
    }
    with pytest.raises(InputError, match="equal_compute = .* must cost what the progressive run costs"):
        judge(good | {"equal_compute": good["fixed"]})
    with pytest.raises(InputError, match="small = .* must be a fixed run of depth 1"):
        judge(good | {"small": good["fixed"]})
    with pytest.raises(InputError, match="cold_start = .* must be a fixed run of depth 6"):
        judge(good | {"cold_start": good["progressive"]})


@pytest.mark.parametrize(
    ("control", "change", "message"),
    [
        (
            "fixed",
            {"schedule": SCHEDULE.replace(peak_lr=0.01)},
            "fixed: schedule = .* is not the schedule of this control",
        ),
        (
            "fixed",
            {"schedule": SCHEDULE.replace(decay_steps=SCHEDULE.decay_steps + 4)},  # by 2 steps at the peak
            "fixed: schedule = .* is not the schedule of this control",
        ),
        ("cold_start", {"schedule": SCHEDULE.with_steps(50)}, "cold_start: schedule = .*theory.cold_start"),
        ("equal_compute", {"batch_tokens": 128}, "equal_compute: batch_tokens = 128: is not the progressive run's"),
    ],
)
def test_judge_refuses_controls_that_differ_in_more_than_they_should(control, change, message):
    landscape = law()
    plan = plan_expansion(**COMMON, law=landscape)
    plans = {"progressive": plan, "fixed": fixed_depth(plan, name="f"), "equal_compute": equal_compute(plan, name="e"),
             "cold_start": cold_start(plan, name="c")}  # fmt: skip
    plans[control] = plans[control].replace(**change)
    with pytest.raises(InputError, match=message):
        judge({name: run(p, landscape, name) for name, p in plans.items()})


def test_judge_takes_a_schedule_that_differs_by_rounding():
    landscape = law()
    plan = plan_expansion(**COMMON, law=landscape)
    fixed = fixed_depth(plan, name="f", schedule=SCHEDULE.replace(decay_steps=SCHEDULE.decay_steps + 1))
    made = judge({"progressive": run(plan, landscape, "p"), "fixed": run(fixed, landscape, "f")})
    assert made.controls.keys() == {"fixed"}


def test_judge_needs_a_run_that_grows():
    landscape = law()
    plan = fixed_depth(plan_expansion(**COMMON, law=landscape), name="f")
    fixed = run(plan, landscape, "f")
    with pytest.raises(InputError, match="a fixed-depth plan has no expansion; give a progressive plan"):
        judge(dict.fromkeys(("progressive", "fixed", "equal_compute", "cold_start"), fixed))


def test_a_given_area_has_no_interval_and_no_tolerance():
    plan = plan_expansion(**COMMON, law=law(), resamples=[law(kappa=k) for k in (0.6, 0.7, 0.8)], mixing_area=5.0)
    assert plan.predicted.tau_interval is None
    assert "of the final loss" not in plan.provenance.reason
