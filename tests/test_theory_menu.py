"""The menu of equal compute: prices, probabilities, gaps, pilots, words; decisions on the committed GPT runs."""

import dataclasses
import time

import numpy as np
import pytest

from latebloom.paper_figures import registry
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.decision import decide, explain
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.field_kernel import FieldPrior
from latebloom.theory.fitting.recovery_field import field_of_records, fit_recovery_field
from latebloom.theory.growth_conditions import conditions_text, growth_conditions, smallest_budget
from latebloom.theory.menu import draws_of_arms, equal_compute_menu, expected_of_arms, schedule_for
from latebloom.theory.menu_plan import plan_from_menu
from latebloom.theory.pilot_value import Pilot, candidate_pilots, pilot_value
from latebloom.theory.plan import Stage
from latebloom.theory.record import read_record
from latebloom.theory.schedules import Cosine
from tests.benchmarks.planner_calibration import DEMO_DESIGN, SMALL_ENDS, gpt, judge_planted

DEMO_PILOTS = registry.DATA / "demo_pilots"
DEMO_SEEDS = (0, 1, 2)
PLAN_CPU_SECONDS = 3.0  # a plan takes .1 to .3 s of CPU here; machines differ, and the bar is one second


@pytest.fixture(scope="module")
def experiments():
    return [gpt(seed) for seed in range(3)]


def field_of(experiment, names=DEMO_DESIGN):
    ends = [experiment.ends[name] for name in names]
    return fit_recovery_field(ends, full_depth=4, reference=experiment.plan.schedule.total_area)


def menu_of(experiment, **changes):
    budget = experiment.ends["grown-360"].flops
    return equal_compute_menu(experiment.plan, **{"small_depth": 1, "full_depth": 4, "budget": budget} | changes)


def test_every_arm_costs_the_budget(experiments):
    budget = experiments[0].ends["grown-360"].flops
    menu = menu_of(experiments[0], depths=(2,))
    for arm in menu:
        plan = experiments[0].plan
        small, last = (768.0 * flops_per_token(plan.model, d) for d in (arm.depths[0], arm.depths[-1]))
        assert arm.flops == pytest.approx(small * (arm.tau or 0) + last * (arm.steps - (arm.tau or 0)))
        assert arm.flops == pytest.approx(budget, rel=2e-3)  # a whole number of steps
    assert [arm.depths for arm in menu[:3]] == [(1,), (2,), (4,)]
    assert menu[0].name == "1 block" and menu[0].area_after == 0 and menu[2].area_before == 0
    assert "1 -> 4 at" in menu[5].name


def test_the_known_growth_stands_on_its_own_menu(experiments):
    """Growing at 360 of 800 costs what its record says, so that share buys exactly those steps."""
    (arm,) = menu_of(experiments[0], shares=(0.45,))[2:]
    assert (arm.tau, arm.steps) == (360, 800)
    assert arm.area_before == pytest.approx(experiments[0].ends["grown-360"].area_before)


def test_data_cap_the_steps(experiments):
    menu = menu_of(experiments[0], most_steps=800)
    assert max(arm.steps for arm in menu) == 800
    assert menu[0].flops < menu[1].flops


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"budget": 1e9}, "budget", "below the cheapest arm, 1 block"),
        ({"depths": (7,)}, "depths", "from 1 to 4"),
    ],
)
def test_menus_that_cannot_be(experiments, changes, name, words):
    with pytest.raises(InputError, match=words) as error:
        menu_of(experiments[0], **changes)
    assert error.value.name == name


def test_warm_up_is_kept_in_steps(experiments):
    schedule = experiments[0].plan.schedule
    for steps in (100, 800, 2000):
        scaled = schedule_for(schedule, steps)
        assert (scaled.warmup_steps, scaled.decay_steps, scaled.horizon) == (16, steps // 10, steps)
    assert schedule_for(schedule, 800) == schedule
    assert schedule_for(Cosine(steps=100, peak_lr=1.0, warmup_steps=5), 300).warmup_steps == 5
    with pytest.raises(InputError, match="warm-up"):
        schedule_for(schedule, 16)


def test_ladders_have_exact_limits_and_cost_what_their_steps_do(experiments):
    """Both expansions at once are one to the full depth; the second with the last step is one to the depth between."""
    experiment, field = experiments[0], field_of(experiments[0])
    menu = menu_of(experiment, depths=(2,), ladders=True)
    ladders = [arm for arm in menu if arm.second_tau is not None]
    assert len(ladders) == 6 and ladders[0].depths == (1, 2, 4)
    assert [arm.flops for arm in ladders] == pytest.approx([menu[0].flops] * 6, rel=3e-3)
    one = next(arm for arm in menu if arm.tau is not None and arm.second_tau is None)
    total = one.area_before + one.area_after
    both = dataclasses.replace(one, depths=(1, 2, 4), second_tau=one.tau, second_area=one.area_before)
    late = dataclasses.replace(both, second_tau=one.steps, second_area=total)
    between = dataclasses.replace(one, depths=(1, 2))
    losses = draws_of_arms(field, [one, both, between, late], number=50)
    assert losses[:, 1] == pytest.approx(losses[:, 0], rel=1e-12)
    assert losses[:, 3] == pytest.approx(losses[:, 2], rel=1e-12)
    assert expected_of_arms(field, [both]) == pytest.approx(expected_of_arms(field, [one]), rel=1e-12)


def test_a_ladder_can_be_planned(experiments):
    """Its plan has three stages; on the menu it has a name and a probability."""
    experiment, field = experiments[0], field_of(experiments[0])
    budget = experiment.ends["grown-360"].flops
    plans = plan_from_menu(field, experiment.plan, budget=budget, growth=Stage(start_step=1, depth=4), depths=(2,),
                           shares=(), ladders=True)  # fmt: skip
    stages = plans.growing.stages
    assert [stage.depth for stage in stages] == [1, 2, 4]
    name = f"1 -> 2 at {stages[1].start_step} -> 4 at {stages[2].start_step}"
    row = next(row for row in plans.growing.predicted.menu if row.name == name)
    assert row.depths == (1, 2, 4) and 0 <= row.p_best <= 1
    assert f"Growing {name} of {plans.growing.steps} steps ends" in plans.text


def test_probabilities_and_regrets_hang_together(experiments):
    decision = decide(field_of(experiments[0]), menu_of(experiments[0], depths=(2,)), experiments[0].plan)
    assert sum(choice.p_best for choice in decision.choices) == pytest.approx(1)
    grown = sum(choice.p_best for choice in decision.choices if choice.arm.tau is not None)
    assert decision.p_grow == pytest.approx(grown)
    assert decision.choices[decision.best].regret == min(choice.regret for choice in decision.choices)
    assert all(c.loss.low <= c.loss.median <= c.loss.high and c.regret >= 0 for c in decision.choices)
    assert decision.draws.shape == (200, len(decision.choices))
    assert decision.controls.shape == (200, 2)
    assert decision.never.against.depths == (1,) and decision.equal_compute.against.depths == (4,)
    assert decision.never.against.steps > decision.fixed.against.steps > decision.equal_compute.against.steps


def test_three_seeds_of_the_demo_make_one_decision(experiments):
    """Never grown is best in all three, with P >= .9, and the intervals of its loss overlap."""
    decisions = [decide(field_of(e), menu_of(e, depths=(2,)), e.plan) for e in experiments]
    for decision in decisions:
        best = decision.choices[decision.best]
        assert best.arm.depths == (1,) and best.p_best >= 0.9
        assert decision.head == "do not grow" and decision.p_grow < 0.1
    for gaps in ([d.fixed for d in decisions], [d.equal_compute for d in decisions], [d.never for d in decisions]):
        assert max(gap.gap.low for gap in gaps) < min(gap.gap.high for gap in gaps)


def demo_decision(seed):
    """What the pilots of one seed of `latebloom demo --seed SEED` decide, from their committed Records."""
    records = [
        read_record(path) for path in sorted(DEMO_PILOTS.glob(f"s{seed}_*-*.parquet")) if "depth" not in path.stem
    ]
    base = next(r.plan for r in records if r.header.name == "small-800").replace(
        name="demo", stages=(Stage(start_step=0, depth=4),)
    )
    field = field_of_records(records, small_depth=1, full_depth=4, reference=base.schedule.total_area)
    menu = equal_compute_menu(base, small_depth=1, full_depth=4, budget=0.8 * plan_flops(base), depths=(2,))
    return decide(field, menu, base)


def test_seeds_of_todays_demo_make_one_decision():
    """The eight pilots that `latebloom demo` trains, seed by seed; of seed 0 the two runs that decide are there too."""
    decisions = [demo_decision(seed) for seed in DEMO_SEEDS]
    for decision in decisions:
        best = decision.choices[decision.best]
        assert best.arm.name == "1 block" and best.p_best >= 0.9 and decision.head == "do not grow"
    for gaps in ([d.fixed for d in decisions], [d.equal_compute for d in decisions], [d.never for d in decisions]):
        assert max(gap.gap.low for gap in gaps) < min(gap.gap.high for gap in gaps)
    grown, never = (
        read_record(DEMO_PILOTS / f"s0_{name}.parquet").final() for name in ("progressive", "small_equal_compute")
    )
    gap = decisions[0].never.gap
    assert gap.low <= grown / never - 1 <= gap.high


def test_the_measured_gaps_lie_in_their_intervals(experiments):
    """90 % intervals: of the six gaps of three seeds at least five hold what was measured."""
    held = []
    for experiment in experiments:
        menu = menu_of(experiment, shares=(0.45,))
        decision = decide(field_of(experiment), menu, experiment.plan)
        grown = experiment.ends["grown-360"].loss
        full = experiment.ends["full-800"].loss
        never = experiment.fixed("small", decision.never.against.steps)
        for gap, control in ((decision.fixed, full), (decision.never, never)):
            held.append(gap.gap.low <= grown / control - 1 <= gap.gap.high)
    assert sum(held) >= 5


def test_only_ends_count():
    """A pilot evaluated at other steps is the same annealed end; noise of an evaluation moves P by less than .05."""
    experiment = gpt(0)
    chances = []
    for change in (0.0, 0.002):
        ends = [
            dataclasses.replace(end, loss=end.loss + change * (name == "grown-600"))
            for name, end in experiment.ends.items()
            if name in DEMO_DESIGN
        ]
        field = fit_recovery_field(ends, full_depth=4, reference=experiment.plan.schedule.total_area)
        chances.append(decide(field, menu_of(experiment), experiment.plan).p_grow)
    assert abs(chances[1] - chances[0]) < 0.05


def test_a_plan_takes_less_than_a_second(experiments):
    begun = time.process_time()
    field = field_of(experiments[1])
    pilots = candidate_pilots(field, experiments[1].plan, horizon=800, depths=(2,))
    decide(field, menu_of(experiments[1], depths=(2,)), experiments[1].plan, pilots=pilots)
    assert time.process_time() - begun < PLAN_CPU_SECONDS


def test_decisions_are_the_same_twice(experiments):
    first, second = (decide(field_of(experiments[2]), menu_of(experiments[2]), experiments[2].plan) for _ in range(2))
    assert first.choices == second.choices and first.fixed == second.fixed
    assert np.array_equal(first.draws, second.draws)


def test_nothing_is_decided_from_the_small_depth_alone(experiments):
    with pytest.raises(InputError, match="no run has 4 blocks.*step 200"):
        decide(field_of(experiments[0], SMALL_ENDS), menu_of(experiments[0]), experiments[0].plan)


def test_a_menu_without_growth_and_an_empty_one(experiments):
    field = field_of(experiments[0])
    decision = decide(field, menu_of(experiments[0], shares=()), experiments[0].plan)
    assert decision.growth is None and decision.fixed is None and decision.p_grow == 0
    assert "Growing" not in explain(decision)
    with pytest.raises(InputError, match="no arm"):
        decide(field, (), experiments[0].plan)


# --- pilots -----------------------------------------------------------------------------------------------------------


def test_candidates_leave_out_what_was_run(experiments):
    names = [p.name for p in candidate_pilots(field_of(experiments[0]), experiments[0].plan, horizon=800)]
    assert "4 blocks to step 400, annealed" in names
    assert "4 blocks to step 200, annealed" not in names
    assert "1 block to step 800, annealed" not in names


def test_a_trunk_that_is_there_costs_nothing_again(experiments):
    """Growing the small depth's finished trunk costs the full depth's steps alone."""
    pilots = candidate_pilots(field_of(experiments[0]), experiments[0].plan, horizon=800)
    (pilot,) = [p for p in pilots if p.name.startswith("grow 1 -> 4 at step 400, annealed at 448")]
    assert pilot.flops == pytest.approx(48 * 768 * flops_per_token(experiments[0].plan.model, 4))


def test_value_of_a_pilot_is_the_fall_that_comes_true(experiments):
    """Regret falls on average by what was foretold when the pilot's loss is drawn and the field fitted again."""
    experiment = experiments[0]
    prior = FieldPrior(amplitudes=(0.0064,), exponents=(0.2,), onsets=(0.0,), noises=(0.002,), discrepancies=(0.004,))
    ends = [experiment.ends[name] for name in ("full-200", *SMALL_ENDS)]
    fit = lambda more: fit_recovery_field(  # noqa: E731
        [*ends, *more], full_depth=4, reference=experiment.plan.schedule.total_area, prior=prior
    )
    field = fit([])
    menu = menu_of(experiment, budget=experiment.ends["grown-360"].flops / 2)
    known = experiment.ends["grown-600"]
    pilot = Pilot(
        name="", area_before=known.area_before, area_after=known.area - known.area_before, depth=4, flops=known.flops
    )
    at = field.points([pilot.area_before], [pilot.area_after], [4])
    outcomes = field.draws(at, number=300, measured=True)[:, 0]
    points = field.points([a.area_before for a in menu], [a.area_after for a in menu], [a.depths[-1] for a in menu])
    after = [fit([dataclasses.replace(known, loss=float(y))]).expected(points).min() for y in outcomes]
    fall = field.expected(points).min() - np.mean(after)
    error = np.std(after) / np.sqrt(len(after))
    value = pilot_value(field, menu, pilot)
    assert value.regret_fall == pytest.approx(fall, abs=3 * error + 2e-4)
    expected = float(field.expected(at, measured=True)[0])
    for each, told in ((field, value.gap), (fit([dataclasses.replace(known, loss=expected)]), value.gap_then)):
        mean, covariance = each.moments(points)
        grows = np.array([arm.tau is not None for arm in menu])
        p, f = (np.where(among, field.moments(points)[0], np.inf).argmin() for among in (grows, ~grows))
        spread = np.sqrt(covariance[p, p] + covariance[f, f] - 2 * covariance[p, f])
        assert (told.low + told.high) / 2 == pytest.approx(mean[p] - mean[f], abs=1e-9)
        assert (told.high - told.low) / 2 == pytest.approx(1.6449 * spread, rel=1e-6)
    assert value.gap_then.high - value.gap_then.low < value.gap.high - value.gap.low


def test_a_pilot_like_the_arm_itself_is_worth_more_than_a_short_one(experiments):
    budget = 20 * experiments[0].ends["grown-360"].flops  # where the choice is open
    field, menu = field_of(experiments[0], ("full-200", *SMALL_ENDS)), menu_of(experiments[0], budget=budget)
    late = next(arm for arm in menu if arm.tau is not None and arm.tau / arm.steps > 0.75)
    own = Pilot(name="", area_before=late.area_before, area_after=late.area_after, depth=4, flops=1.0)
    short = Pilot(name="", area_before=0.0, area_after=late.area_after / 20, depth=4, flops=1.0)
    assert pilot_value(field, menu, own).regret_fall > pilot_value(field, menu, short).regret_fall >= 0


# --- words and conditions ---------------------------------------------------------------------------------------------


def test_explanation_names_the_best_arm_and_all_three_controls(experiments):
    text = explain(decide(field_of(experiments[0]), menu_of(experiments[0], depths=(2,)), experiments[0].plan))
    assert text.startswith("Do not grow: train 1 block for 1114 steps. At this compute (2.65e12 FLOPs)")
    assert "above 1 block of equal compute" in text and "for as many steps" in text


def test_an_open_decision_names_the_pilot(experiments):
    experiment = experiments[0]
    field = field_of(experiment, ("full-200", *SMALL_ENDS))
    menu = menu_of(experiment, budget=experiment.ends["grown-360"].flops * 20)
    pilots = candidate_pilots(field, experiment.plan, horizon=800)
    decision = decide(field, menu, experiment.plan, pilots=pilots)
    assert decision.head == "not decided"
    assert "would decide with probability" in explain(decision)


def test_conditions_of_the_demo(experiments):
    """beta is about .55 nats an e-fold, and growing at 45 % would have to recover .18 of a depth gap of .08."""
    experiment = experiments[0]
    budget = experiment.ends["grown-360"].flops
    alone = growth_conditions(field_of(experiment, SMALL_ENDS), experiment.plan, budget=budget, shares=(0.45,))
    assert alone.beta.median == pytest.approx(0.55, abs=0.05)
    needed = alone.conditions[0].needed
    measured = experiment.fixed("small", 800) - experiment.fixed("small", 1114)
    assert needed.low <= measured <= needed.high
    assert needed.median == pytest.approx(measured, abs=0.02)
    assert alone.delta is None and alone.conditions[0].p_possible is None
    first_order = alone.beta.median * np.log(1 + (1 - alone.price) * 0.55 / alone.price)
    assert alone.conditions[0].needed.median == pytest.approx(first_order, rel=0.1)
    assert "not known before the full depth is trained" in conditions_text(alone)
    field = field_of(experiment)
    seen = growth_conditions(field, experiment.plan, budget=budget)
    assert seen.conditions[4].p_possible < 0.25 and seen.conditions[4].p_met < 0.05
    needed = [c.needed.median for c in seen.conditions]
    assert needed == sorted(needed, reverse=True)
    smallest = smallest_budget(field, experiment.plan, budget=budget)
    assert smallest is None or smallest > budget
    assert "It can only from" in conditions_text(seen, smallest=smallest)


def test_conditions_agree_with_the_decision(experiments):
    """Where z falls short of what never growing asks, never growing is the better arm."""
    experiment = experiments[1]
    field, budget = field_of(experiment), experiment.ends["grown-360"].flops
    (condition,) = growth_conditions(field, experiment.plan, budget=budget, shares=(0.5,)).conditions
    decision = decide(field, menu_of(experiment, shares=(0.5,)), experiment.plan)
    never, grown = decision.choices[0], decision.choices[2]
    below = (decision.draws[:, 2] < decision.draws[:, 0]).mean()
    assert grown.arm.steps == condition.steps
    assert below == pytest.approx(condition.p_met, abs=0.05)
    assert never.mean < grown.mean


def test_a_planted_world_is_judged():
    result = judge_planted(0, stream=9)
    assert 0 <= result.p_grow <= 1 and result.regret >= 0
    assert result.cost == pytest.approx(0.45, abs=0.1)


def test_the_records_cost_what_their_plans_cost(experiments):
    end = experiments[0].ends["grown-360"]
    assert end.flops == plan_flops(experiments[0].plan) - 360 * 768 * (
        flops_per_token(experiments[0].plan.model, 4) - flops_per_token(experiments[0].plan.model, 1)
    )
