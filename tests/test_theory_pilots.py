"""Pilots by design: prices, branches, files; `latebloom plan` and its refusals from the command line."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from latebloom import cli
from latebloom.paper_figures import registry
from latebloom.theory import Stage, read_plan
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.decision import decide, sentences
from latebloom.theory.fitting.annealed_ends import ends_of
from latebloom.theory.fitting.recovery_field import fit_recovery_field
from latebloom.theory.menu import equal_compute_menu
from latebloom.theory.menu_plan import plan_from_menu
from latebloom.theory.pilot_design import PilotDesign, design_pilots, growth_is_ruled_out, pilots_left
from latebloom.theory.pilot_reach import short_pilots_text
from latebloom.theory.record import read_record, write_parquet
from latebloom.theory.schedules import Constant
from latebloom.theory.spec import read_spec
from tests.benchmarks.planner_calibration import gpt
from tests.test_theory_recovery_field import end

DEMO = registry.DATA / "demo_scale"
TARGET = ["--model", "gpt2-tiny", "--steps", "800", "--batch-tokens", "768", "--peak-lr", "0.015"]
SMALL = ("s0_small-200", "s0_small-400", "s0_small-800")
GROWTH = Stage(start_step=1, depth=4)


def run(capsys, *args):
    """(exit code, standard output, standard error) of a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(args))
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def runs(*names):
    return [str(DEMO / f"{name}.parquet") for name in names]


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def design():
    return design_pilots(gpt(0).plan, small_depth=1, growth=GROWTH)


def agree_until(a, b):
    """Steps in which two plans do the same, counted from their learning rates and depths."""
    steps = min(a.steps, b.steps)
    same = (a.schedule.lrs()[:steps] == b.schedule.lrs()[:steps]) & np.array(
        [a.stages[a.stage_at(t)].depth == b.stages[b.stage_at(t)].depth for t in range(steps)]
    )
    return steps if same.all() else int(np.argmin(same))


def test_branches_leave_where_the_plans_differ(design):
    plans = {pilot.name: pilot.plan for pilot in design.pilots}
    for pilot in design.pilots:
        if pilot.branch_of is not None:
            assert agree_until(pilot.plan, plans[pilot.branch_of]) - pilot.branch_at in (
                0,
                1,
            )  # decay begins at the peak
    assert [p.name for p in design.pilots if p.branch_of is None] == ["small-800", "full-200"]
    parents = {pilot.name: pilot.branch_of for pilot in design.pilots if pilot.role == "grown"}
    assert parents == {
        "grown-480-at-400": "small-800",
        "grown-432-at-400": "small-800",  # it decays from the expansion on, which the longer one does not
    }


def test_prices(design):
    small, full = (768.0 * flops_per_token(design.base.model, depth) for depth in (1, 4))
    price = {pilot.name: pilot.flops for pilot in design.pilots}
    assert price["small-800"] == pytest.approx(800 * small)
    assert price["small-200"] == pytest.approx(20 * small)
    assert price["full-100"] == pytest.approx(10 * full)
    assert price["grown-480-at-400"] == pytest.approx(80 * full)
    assert price["grown-432-at-400"] == pytest.approx(32 * full)
    assert design.flops == pytest.approx(sum(price.values()))
    assert design.share_of_fixed == pytest.approx((design.flops - 800 * small) / (800 * full))
    assert 0.4 < design.share_of_fixed < 0.55


def test_every_branch_finds_a_checkpoint(design):
    every = {pilot.name: pilot.checkpoint_every for pilot in design.pilots if pilot.branch_of is None}
    assert every == {"small-800": 10, "full-200": 90}
    for pilot in design.pilots:
        if pilot.branch_of in every:
            assert pilot.branch_at % every[pilot.branch_of] == 0


def test_few_checkpoints_where_the_steps_have_no_common_divisor():
    base = gpt(0).plan
    odd = base.replace(schedule=base.schedule.with_steps(7919).replace(warmup_steps=16))
    trunk = design_pilots(odd, small_depth=1, growth=GROWTH).pilots[0]
    assert trunk.plan.steps / trunk.checkpoint_every <= 102


def test_warm_up_is_one_for_all(design):
    assert {pilot.plan.schedule.warmup_steps for pilot in design.pilots} == {16}


def test_what_was_run_is_left_out(design):
    ends = ends_of([read_record(path) for path in runs(*SMALL, "s0_full-200")], small_depth=1, full_depth=4)
    left = pilots_left(design, ends)
    assert [pilot.name for pilot in left.pilots][:2] == ["small-100", "full-100"]
    assert left.flops == left.flops_beside_small == pytest.approx(sum(pilot.flops for pilot in left.pilots))
    assert {pilot.role for pilot in pilots_left(design, ends, growth=False).pilots} == {"small", "full"}


def test_growing_is_ruled_out_where_the_depth_gap_is_too_small():
    """A full depth that ends just below the small one leaves nothing to recover, and the small one still falls."""
    experiment = gpt(0)
    ends = [experiment.ends[name] for name in ("small-200", "small-400", "small-800", "full-200", "full-400")]
    fit = functools.partial(fit_recovery_field, full_depth=4, reference=experiment.plan.schedule.total_area)
    budget = experiment.ends["grown-360"].flops
    ruled_out, conditions = growth_is_ruled_out(fit(ends[:3]), experiment.plan, budget=budget)
    assert not ruled_out and conditions.delta is None
    assert not growth_is_ruled_out(fit(ends), experiment.plan, budget=budget)[0]  # late growth needs little
    level = [dataclasses.replace(end, loss=experiment.fixed("small", end.steps) + 0.05) for end in ends[3:]]
    ruled_out, conditions = growth_is_ruled_out(fit([*ends[:3], *level]), experiment.plan, budget=budget)
    assert ruled_out and max(row.p_possible for row in conditions.conditions) < 0.1


# --- commands ---------------------------------------------------------------------------------------------------------


def test_pilots_command(capsys, in_empty_directory):
    code, out, err = run(capsys, "pilots", *TARGET)
    assert (code, err) == (0, "")
    assert "0.45 of the fixed run" in out and "latebloom branch runs/small-800 pilots/small-400.json" in out
    assert "Pilots at half the width" in out
    design = read_spec("pilots/manifest.json", PilotDesign)
    for pilot in design.pilots:
        assert read_plan(in_empty_directory / "pilots" / pilot.file) == pilot.plan
    code, out, _ = run(capsys, "pilots", *TARGET, "--out", "rest", "--after", *runs(*SMALL))
    assert code == 0
    assert "The small depth still falls" in out and "Stop here if you know that 4 blocks would end less than" in out
    assert not (in_empty_directory / "rest" / "small-800.json").exists()
    code, out, _ = run(capsys, "pilots", *TARGET, "--after", *runs("s0_small-200"), "--json")
    assert json.loads(out)["small_depth"] == 1


def test_next_command(capsys):
    records = runs(*SMALL)
    code, out, _ = run(capsys, "plan", "--next", *records, "--depth", "4", "--out", "next.json")
    assert code == 0
    assert out.startswith("Most worth knowing next: ")
    table = json.loads(run(capsys, "plan", "next", *records, "--depth", "4", "--json")[1])
    assert table[0]["name"] in out
    rates = [row["regret_fall"] / row["flops"] for row in table]
    assert rates == sorted(rates, reverse=True)
    plan = read_plan("next.json")
    assert plan.schedule.warmup_steps == 16
    assert f"at step {plan.tau}, annealed at {plan.steps}" in out or f"to step {plan.steps}, annealed" in out


def test_next_writes_nothing_that_is_not_worth_its_price(capsys):
    code, out, _ = run(capsys, "plan", "--next", *runs(*SMALL, "s0_full-200"), "--out", "idle.json")
    assert code == 0
    assert out.splitlines() == [
        "Most worth knowing next: nothing that was looked at is expected to change the choice.",
        "idle.json is not written.",
    ]
    assert not Path("idle.json").exists()


def test_plan_command_from_the_field(capsys):
    records = runs(*SMALL, "s0_full-200", "s0_grown-600")
    code, out, err = run(capsys, "plan", *TARGET, "--budget", "0.8125", "--pilot", *records)
    assert (code, err) == (0, "")
    assert out.startswith(
        "Do not grow: train 1 block for 1114 steps. At this compute (2.65e12 FLOPs) it is best with probability"
    )
    assert read_plan("plan.json").tau is None
    code, out, _ = run(capsys, "plan", *TARGET, "--grow", "--out", "grow.json", "--pilot", *records)
    assert code == 0
    assert "This plan grows all the same" in out.split("\n")[0]
    plan = read_plan("grow.json")
    assert [stage.depth for stage in plan.stages] == [1, 4]
    code, out, _ = run(capsys, "plan", *TARGET, "--most-steps", "800", "--out", "few.json", "--pilot", *records)
    assert code == 0
    assert max(row.steps for row in read_plan("few.json").predicted.menu) == 800
    code, out, _ = run(capsys, "plan", *TARGET, "--depths", "2,3", "--out", "d.json", "--pilot", *records)
    assert {row.depths for row in read_plan("d.json").predicted.menu} >= {(1,), (2,), (3,), (4,), (1, 4)}


@pytest.mark.parametrize(
    ("args", "names", "message"),
    [
        (
            [],
            SMALL[:2],
            "too few annealed ends of the small depth: its slope needs 3 horizons; anneal the small depth's",
        ),
        ([], SMALL, "no run has 4 blocks; train 4 blocks to step 200, or grow the small depth's trunk"),
        ([], ("s0_full-200", "s0_grown-600"), "hold no run of the small depth alone; train the small depth to"),
        ([], (*SMALL, "s1_full-200"), "is unpaired: no run of the small depth has its seed 1"),
        ([], (*SMALL, "s0_pfull-100"), "differs from the warm-up of the other runs, 16 steps; train it again with"),
        ([], (*SMALL, "s0_lr0.03-d4"), "differs from the peak learning rate of the other runs, 0.015"),
        (["--init", "copy"], (*SMALL, "s0_grown-600"), "say --init and --order as the pilots have them"),
        (["--budget", "0.001"], (*SMALL, "s0_full-200"), "below the cheapest arm, 1 block for 18 steps"),
        (
            ["--warmup", "0.05"],
            (*SMALL, "s0_full-200"),
            "the pilots' is 16: pilots keep the warm-up in steps; give --w",
        ),
        (["--tolerance", "0.02"], (*SMALL, "s0_full-200"), "leave it out, or give --law area"),
        (["--law", "feild"], SMALL, "did you mean 'field'?"),
        (["--depths", "7"], (*SMALL, "s0_full-200"), "depths = 7: must lie from 1 to 4"),
        (["--grow"], (), "--grow = True: needs pilots and --law field: here the plan always grows"),
    ],
)
def test_what_cannot_be_planned_is_named_with_what_mends_it(capsys, in_empty_directory, args, names, message):
    pilots = ["--pilot", *runs(*names)] if names else ["--u-mix", "0.1"]
    code, out, err = run(capsys, "plan", *TARGET, *args, *pilots)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert list(in_empty_directory.iterdir()) == []


def test_growth_pilots_of_two_recipes(capsys):
    """Another state of the optimizer is another recipe; the record says so and nothing else does."""
    record = read_record(runs("s0_grown-360")[0])
    stages = (record.plan.stages[0], record.plan.stages[1].replace(optimizer_state="reset"))
    plan = record.plan.replace(stages=stages)
    head = record.header.replace(plan=plan, plan_digest=plan.digest, name="reset")
    write_parquet(type(record)(header=head, columns=record.columns), "reset.parquet")
    records = [*runs(*SMALL, "s0_grown-600"), "reset.parquet"]
    code, _, err = run(capsys, "plan", *TARGET, "--pilot", *records)
    assert code == 2
    assert "is a growth of another recipe than" in err and "grow it again by random stack keep" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--schedule", "cosine"], "schedule = 'cosine': has no constant phase that pilots could be branches of"),
        (["--steps", "40"], "steps = 40: is too short for pilots"),
        (["--after", "nowhere"], "record = 'nowhere': is not there"),
        (["--small-depth", "4"], "small_depth = 4: must be below the full depth 4"),
    ],
)
def test_pilots_that_cannot_be(capsys, args, message):
    code, out, err = run(capsys, "pilots", *TARGET, *args)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_constant_rate_has_no_anneal():
    base = gpt(0).plan
    with pytest.raises(Exception, match="give --schedule wsd"):
        design_pilots(base.replace(schedule=Constant(steps=800, peak_lr=0.1)), small_depth=1, growth=GROWTH)


def test_mistakes_of_next(capsys):
    code, _, err = run(capsys, "plan", "next", *runs(*SMALL))
    assert code == 2
    assert "--depth = 1: is not above the small depth 1 of these runs; give the full depth" in err


# --- pilots that do not reach -----------------------------------------------------------------------------------------


def cliff(*losses: float, full: float = 4.5):
    """A field of the small depth annealed at 200, 400, 800 steps and of the full depth at 200, and a menu."""
    ends = [end("small", steps, loss) for steps, loss in zip((200, 400, 800), losses, strict=True)]
    field = fit_recovery_field([*ends, end("full", 200, full)], full_depth=4, reference=ends[-1].area)
    plan = gpt(0).plan
    plan = plan.replace(schedule=plan.schedule.replace(peak_lr=1.0))
    return field, plan, equal_compute_menu(plan, small_depth=1, full_depth=4, budget=plan_flops(plan))


def test_pilots_that_end_on_a_cliff_decide_nothing():
    """A fall that gets faster is no law: the decision is open, and the pilot that mends it is named."""
    field, plan, menu = cliff(5.0, 4.9, 2.0)
    decision = decide(field, menu, plan)
    assert decision.head == "not decided"
    wanted = max(arm.steps for arm in menu if arm.depths == (1,))
    assert decision.too_short.startswith("Pilots too short: 1 block fell 0.0")
    assert decision.too_short.endswith(f"anneal that depth at step {wanted} too.")
    assert sentences(decision)[0].startswith("Not decided") and sentences(decision)[1] == decision.too_short
    text = plan_from_menu(field, plan, budget=plan_flops(plan), growth=GROWTH).text
    assert decision.too_short in text and "worth knowing next" not in text  # one pilot is asked for, not two
    twice = dataclasses.replace(field.ends[2], steps=795, area=field.ends[2].area * 795 / 800, loss=2.004)
    assert short_pilots_text([*field.ends, twice], menu) == decision.too_short  # two ends side by side show no share
    shorter = [arm for arm in menu if arm.steps <= 800]
    assert short_pilots_text(field.ends, shorter) is None  # nothing is said of runs that pilots have seen


@pytest.mark.parametrize("losses", [(5.3, 5.0, 4.6), (5.0, 4.7, 4.5), (4.60, 4.59, 4.55)])
def test_pilots_that_fall_as_runs_do_reach(losses):
    """The demo's curve (9.4 and 12 % an e-fold), one that flattens, and one that hardly falls."""
    field, plan, menu = cliff(*losses)
    assert decide(field, menu, plan).too_short is None
