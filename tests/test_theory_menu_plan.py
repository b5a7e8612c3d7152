"""Plans from the recovery field: the best arm, the best that grows beside it, what the file holds, what is printed."""

import numpy as np
import pytest

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.recovery_field import fit_recovery_field
from latebloom.theory.menu_plan import pilot_costs, plan_from_menu
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.spec import decode
from tests.benchmarks.planner_calibration import DEMO_DESIGN, SMALL_ENDS, gpt

LARGEST_FILE = 200_000  # bytes


@pytest.fixture(scope="module")
def experiment():
    return gpt(0)


def plans_of(experiment, names=DEMO_DESIGN, **changes):
    ends = [experiment.ends[name] for name in names]
    field = fit_recovery_field(ends, full_depth=4, reference=experiment.plan.schedule.total_area)
    given = {"budget": experiment.ends["grown-360"].flops, "growth": Stage(start_step=1, depth=4), "depths": (2,)}
    return plan_from_menu(field, experiment.plan, **given | changes)


@pytest.fixture(scope="module")
def plans(experiment):
    return plans_of(experiment)


def test_the_plan_is_the_best_arm_and_growing_stands_beside_it(experiment, plans):
    best, growing = plans.best, plans.growing
    assert best.schema_version == growing.schema_version == 2
    assert [stage.depth for stage in best.stages] == [1]
    assert [stage.depth for stage in growing.stages] == [1, 4]
    row = next(row for row in growing.predicted.menu if row.name == growing.predicted.decision.growth)
    assert (growing.tau, growing.steps) == (row.tau, row.steps)
    for plan in (best, growing):
        assert plan.schedule.warmup_steps == experiment.plan.schedule.warmup_steps
        assert plan.predicted.flops == pytest.approx(plan_flops(plan))
    assert best.predicted.menu == growing.predicted.menu
    assert best.predicted.draws == growing.predicted.draws


def test_how_blocks_begin_is_kept(experiment):
    growth = Stage(start_step=1, depth=4, init="copy_zero_last", order="inter", optimizer_state="reset")
    stage = plans_of(experiment, growth=growth).growing.stages[1]
    assert (stage.init, stage.order, stage.optimizer_state) == ("copy_zero_last", "inter", "reset")


def test_files_read_back_and_are_small(plans):
    for plan in (plans.best, plans.growing):
        text = plan.to_json()
        assert len(text) < LARGEST_FILE
        again = decode(text, Plan)
        assert again == plan and again.digest == plan.digest


def test_point_values_are_medians_of_the_draws(plans):
    p = plans.growing.predicted
    draws = dict(zip(p.draws.names, np.array(p.draws.losses).T, strict=True))
    assert len(p.draws.losses) == 200
    for name, value in {
        "fixed": p.fixed_final_loss,
        "equal_compute": p.equal_compute_final_loss,
        "small": p.small_final_loss,
        "never": p.control_losses["small_equal_compute"],
    }.items():
        assert value == pytest.approx(np.median(draws[name]), abs=1e-5)
    assert p.final_loss == pytest.approx(np.median(draws["grown"]), abs=0.01)
    assert p.final_loss_interval.low < p.final_loss < p.final_loss_interval.high
    assert p.retention == pytest.approx(np.median(draws["cold_start"] - draws["grown"]), abs=1e-5)


def test_gaps_of_the_file_are_those_of_the_draws(plans):
    """Two samples of one posterior: 200 kept draws and the 4000 from which the quantiles were taken."""
    p = plans.growing.predicted
    draws = dict(zip(p.draws.names, np.array(p.draws.losses).T, strict=True))
    for name in ("fixed", "equal_compute", "never"):
        gap = getattr(p.gaps, name)
        relative = draws["grown"] / draws[name] - 1
        spread = (gap.gap.high - gap.gap.low) / 2
        assert np.median(relative) == pytest.approx(gap.gap.median, abs=0.3 * spread)
        assert np.mean(relative < 0) == pytest.approx(gap.p_below, abs=0.12)
    assert p.gaps.best_fixed.against == "1 block"


def test_a_run_on_the_seed_of_the_pilots_is_better_known_than_the_mean_over_seeds(plans):
    """The seed's own shift is in the pilots: a measured name varies less than the same run expected over seeds."""
    p = plans.best.predicted
    draws = dict(zip(p.draws.names, np.array(p.draws.losses).T, strict=True))
    assert dict(zip(p.draws.names, p.draws.measured, strict=True))["1 block"] is False
    assert np.std(draws["never"]) < np.std(draws["1 block"])


def test_a_plan_that_does_not_grow_has_no_expansion_step(plans):
    p = plans.best.predicted
    assert p.tau_star is None and p.fixed_final_loss is None
    assert p.decision.head == "do not grow" and p.decision.best == "1 block"


def test_what_is_printed(plans):
    first, second, *rest = plans.text.split("\n")
    assert first.startswith(
        "Do not grow: train 1 block for 1114 steps. At this compute (2.65e12 FLOPs) it is best with prob"
    )
    assert second.startswith("Growing 1 -> 4 at ")
    text = "\n".join(rest)
    for words in ("Why: The small depth still falls", "to beat never growing", "Pilots: ", "% with the pilots"):
        assert words in text
    assert plans.best.predicted.verdict == first
    assert "To grow all the same: --grow writes 1 -> 4 at" in plans.best.provenance.reason
    assert "This plan grows all the same" in plans.growing.predicted.verdict


def test_three_seeds_make_one_plan():
    assert [plans_of(gpt(seed)).best.stages[0].depth for seed in range(3)] == [1, 1, 1]


def test_branches_of_a_trunk_count_it_once(experiment):
    """Three annealed ends of one small trunk: the longest whole, of the others the decay alone; growth what follows."""
    small, full = (plan_flops(experiment.plan.replace(stages=(Stage(start_step=0, depth=d),))) / 800 for d in (1, 4))
    ends = [experiment.ends[name] for name in SMALL_ENDS]
    costs = pilot_costs(ends, experiment.plan)
    assert costs.flops == pytest.approx(small * (800 + 20 + 40))
    assert costs.reused == 0
    grown = pilot_costs([*ends, experiment.ends["grown-600"]], experiment.plan)
    assert grown.flops - costs.flops == pytest.approx(full * 200)
    assert grown.share_of_fixed == pytest.approx(grown.flops / (full * 800))
    assert [run.role for run in grown.runs] == ["small", "small", "small", "grown"]


def test_the_trunk_that_the_plan_goes_on_from_is_not_paid_twice(plans, experiment):
    small = plan_flops(experiment.plan.replace(stages=(Stage(start_step=0, depth=1),))) / 800
    assert plans.best.predicted.pilots.reused == pytest.approx(small * 720)
    assert plans.growing.predicted.pilots.reused == pytest.approx(small * min(720, plans.growing.tau))
    for plan in (plans.best, plans.growing):
        p = plan.predicted
        assert p.pilots.saving_net < p.saving_equal_compute


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"peak_lr": 0.02}, "peak_lr", "the pilots' is 0.015; give --peak-lr 0.015"),
        ({"warmup_steps": 8}, "warmup_steps", "the pilots' is 16.*give --warmup 0.02, or run pilots"),
    ],
)
def test_pilots_of_another_schedule_are_refused(experiment, change, name, words):
    other = experiment.plan.replace(schedule=experiment.plan.schedule.replace(**change))
    field = fit_recovery_field(
        [experiment.ends[end] for end in DEMO_DESIGN], full_depth=4, reference=experiment.plan.schedule.total_area
    )
    with pytest.raises(InputError, match=words) as error:
        plan_from_menu(field, other, budget=1e12, growth=Stage(start_step=1, depth=4))
    assert error.value.name == name
