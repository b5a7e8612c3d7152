"""The table of controls: their plans, families, and that one more row appears everywhere."""

import re
import shutil

import pytest

from latebloom.paper_figures.curves import CONTROL_STYLES, Look, look
from latebloom.paper_figures.report import write_report
from latebloom.theory import InputError, Stage, controls, fixed_depth, plan_expansion, wsd
from latebloom.theory.controls import CONTROLS, Control, compared, control, controls_among, depths_between
from latebloom.theory.cost import plan_flops
from latebloom.theory.menu import schedule_for
from latebloom.theory.verdict import WANTED, from_prediction, judge
from latebloom.theory.verdict_text import details, sentence
from latebloom.theory.words import blocks_text
from latebloom.train.experiments import ablation
from tests.helpers import tiny_plan, tiny_shape
from tests.test_figures import experiment
from tests.test_theory_planning import COMMON, SCHEDULE, law, run

PLAN = tiny_plan(steps=100, tau=60, full=4)


def test_what_each_control_trains():
    """(depth, steps) of every row, beside a run that grows from 1 to 4 blocks at step 60 of 100."""
    made = {name: row.plan(PLAN) for name, row in CONTROLS.items() if row.depth is not None}
    expected = {"fixed": (4, 100), "cold_start": (4, 40), "small": (1, 100)}
    assert {name: (made[name].depth, made[name].steps) for name in expected} == expected
    assert (made["equal_compute"].depth, made["small_equal_compute"].depth) == (4, 1)
    for name, plan in made.items():
        row = CONTROLS[name]
        assert (plan.name, plan.tau, plan.depth) == (name, None, {"full": 4, "small": 1}[row.depth])
        assert row.at_equal_compute or plan.steps == (40 if row.starts_at_expansion else 100)
        if row.at_equal_compute:
            assert plan_flops(plan) == pytest.approx(plan_flops(PLAN), rel=0.5 / plan.steps)
            assert plan.schedule == schedule_for(PLAN.schedule, plan.steps)
            assert plan.schedule.warmup_steps == PLAN.schedule.warmup_steps
    assert made["small_equal_compute"].steps > 100 > made["equal_compute"].steps


def test_a_family_has_a_member_a_depth():
    family = CONTROLS["depth_equal_compute"]
    with pytest.raises(InputError, match="stands for one control a depth; choose one: depth_equal_compute-2"):
        family.plan(PLAN)
    for depth in (1, 2, 3, 4):
        member = family.at(depth)
        assert member == control(f"depth_equal_compute-{depth}")
        assert (member.label, member.row) == (f"{blocks_text(depth)}, equal compute", "depth_equal_compute")
        plan = member.plan(PLAN)
        assert plan.depth == depth
        assert plan_flops(plan) == pytest.approx(plan_flops(PLAN), rel=0.5 / plan.steps)
    assert family.at(1).plan(PLAN).stages == CONTROLS["small_equal_compute"].plan(PLAN).stages
    assert CONTROLS["small"].at(0).plan(PLAN) == fixed_depth(PLAN, name="small-0", depth=0)


def test_names():
    usual = ["fixed", "equal_compute", "cold_start", "small", "small_equal_compute"]
    assert [c.name for c in compared()] == usual
    assert [c.name for c in compared((2, 3))] == [*usual, "depth_equal_compute-2", "depth_equal_compute-3"]
    assert (depths_between(1, 4), depths_between(0, 12), depths_between(3, 12), depths_between(2, 4)) == (
        (2,), (1, 2, 4, 8), (6,), (),
    )  # fmt: skip
    assert set(WANTED) <= set(controls.COMPARED)
    assert all(name == row.name == row.row for name, row in CONTROLS.items())
    assert len({row.label for row in CONTROLS.values()}) == len(CONTROLS)
    runs = ["small-2", "progressive", "full-100", "small-10", "cold_start", "fixed", "small-", "small-x"]
    assert [c.name for c in controls_among(runs)] == ["fixed", "cold_start", "small-2", "small-10"]
    with pytest.raises(InputError, match="control = 'fixd': is unknown; did you mean 'fixed'"):
        control("fixd")


def test_every_control_has_a_look():
    assert set(CONTROL_STYLES) == set(CONTROLS)
    looks = [look(name) for name in CONTROLS]
    assert len({(shown.color, shown.line) for shown in looks}) == len(looks)
    assert look("small-2") == Look("2 blocks, never grown", *CONTROL_STYLES["small"])


def test_never_growing_at_equal_compute_is_judged_like_any_control():
    landscape = law(fresh=0.05, trunk=1.5, kappa=1.0)
    plan = plan_expansion(**COMMON, law=landscape, tolerance=0.02)
    names = ("fixed", "equal_compute", "cold_start", "small_equal_compute")
    runs = {name: run(control(name).plan(plan), landscape, name) for name in names}
    verdict = judge({"progressive": run(plan, landscape, "p")} | runs)
    assert verdict.gap("small_equal_compute") == verdict.progressive / runs["small_equal_compute"].final() - 1
    assert verdict.gap("small_equal_compute") < 0
    assert verdict.head == "grow"
    assert list(verdict.menu) == ["progressive", "small_equal_compute", "equal_compute"]
    runs["small_equal_compute"] = run(control("small").plan(plan), landscape, "s")
    with pytest.raises(InputError, match="small_equal_compute = .* must cost what the progressive run costs"):
        judge({"progressive": run(plan, landscape, "p")} | runs)


def test_judge_takes_what_there_is_and_names_what_is_not():
    landscape = law()
    plan = plan_expansion(**COMMON, law=landscape)
    runs = {each.name: run(each.plan(plan), landscape, each.name) for each in compared()}
    with pytest.raises(InputError, match="lack 'progressive'"):
        judge(runs)
    grown = run(plan, landscape, "p")
    with pytest.raises(InputError, match="lack every control of it, such as equal_compute"):
        judge({"progressive": grown})
    whole = judge({"progressive": grown} | runs)
    assert whole.missing == () and whole.head == "grow"
    for name in runs:
        alone = judge({"progressive": grown, name: runs[name]})
        assert alone.head == "not decided" and name not in alone.missing
        assert alone.gap(name) == whole.gap(name)
        assert sentence(alone).startswith("Not decided:") and "not run" in sentence(alone)
        told = [line for line in details(alone) if not line.startswith("To reach")]
        assert set(told) <= set(details(whole))
    less = judge({"progressive": grown} | {name: runs[name] for name in runs if name != "cold_start"})
    assert (less.head, less.missing, less.retention) == ("grow", ("cold_start",), None)


@pytest.fixture
def one_more(monkeypatch):
    """A control that the package does not have: half the batch, for as many steps."""

    def half_the_batch(plan, *, name, depth=None):
        return fixed_depth(plan, name=name, depth=depth).replace(batch_tokens=plan.batch_tokens // 2)

    row = Control(
        name="half_batch",
        label="half the batch",
        controls_for="what tokens are worth",
        make=half_the_batch,
        depth="full",
    )
    monkeypatch.setitem(CONTROLS, row.name, row)
    monkeypatch.setitem(CONTROL_STYLES, row.name, ("#F0E442", "-"))
    monkeypatch.setattr(controls, "COMPARED", (*controls.COMPARED, row.name))
    return row


def test_one_more_row_is_predicted(one_more):
    landscape = law()
    plan = plan_expansion(**COMMON, law=landscape)
    assert plan.predicted.control_losses["half_batch"] == float(landscape.loss(one_more.plan(plan)))
    verdict = from_prediction(plan)
    names = ["fixed", "equal_compute", "cold_start", "small", "small_equal_compute", "half_batch"]
    assert list(verdict.controls) == names
    assert details(verdict)[-1].startswith("Half the batch: ")


def test_one_more_row_is_an_arm_of_the_ablation(one_more):
    assert list(ablation._control_plans(PLAN, (0, 1))) == [
        "fixed", "equal_compute", "cold_start", "small-0", "small-1", "small_equal_compute-0", "small_equal_compute-1",
        "depth_equal_compute-2", "half_batch",
    ]  # fmt: skip


def test_one_more_row_is_judged_and_drawn(one_more, tmp_path):
    verdict = experiment(tmp_path, further=[one_more])
    assert details(verdict)[-1] == "Half the batch: 2.700 after 100 steps; growing ends 7.41% below that."
    page = write_report(tmp_path).read_text()
    row = re.search(r"<tr><td>half the batch</td>.*?</tr>", page)[0]
    assert "2.7000" in row
    assert "#f0e442" in page.lower()  # the line of its look


def test_a_report_of_fewer_controls_shows_those_there_are(tmp_path):
    experiment(tmp_path)
    shutil.rmtree(tmp_path / "runs" / "cold_start")
    page = write_report(tmp_path).read_text()
    assert "<td>fixed depth</td>" in page
    assert "<td>cold start</td>" not in page
    shutil.rmtree(tmp_path / "runs" / "progressive")
    with pytest.raises(InputError, match="lack 'progressive'"):
        write_report(tmp_path)


def test_rows_of_the_small_depth_are_arms_of_every_start(monkeypatch):
    monkeypatch.setattr(controls, "COMPARED", (*controls.COMPARED, "depth_equal_compute-3"))
    copied = PLAN.replace(stages=(PLAN.stages[0], PLAN.stages[1].replace(init="copy")))
    arms = ablation._control_plans(copied, (0, 2))
    assert list(arms)[3:] == [
        "small-0", "small-2", "small_equal_compute-0", "small_equal_compute-2", "depth_equal_compute-2",
        "depth_equal_compute-3",
    ]  # fmt: skip
    from_two = PLAN.replace(stages=(Stage(start_step=0, depth=2), PLAN.stages[1]))
    assert plan_flops(arms["small_equal_compute-2"]) == pytest.approx(plan_flops(from_two), rel=0.01)
    assert arms["small_equal_compute-2"].depth == 2


def test_a_prediction_is_complete_and_gives_its_verdict_again():
    plan = plan_expansion(**COMMON, law=law())
    assert list(plan.predicted.control_losses) == ["small_equal_compute"]
    assert sentence(from_prediction(plan)) == plan.predicted.verdict


def test_a_depth_that_the_law_does_not_know_is_not_predicted(monkeypatch):
    monkeypatch.setattr(controls, "COMPARED", (*controls.COMPARED, "depth_equal_compute-3", "depth_equal_compute-1"))
    shape = tiny_shape()
    plan = plan_expansion(
        model=shape, small_depth=1, full_depth=6, schedule=wsd(steps=2000, peak_lr=SCHEDULE.peak), batch_tokens=64,
        law=law(),
    )  # fmt: skip
    assert list(plan.predicted.control_losses) == ["small_equal_compute", "depth_equal_compute-1"]
