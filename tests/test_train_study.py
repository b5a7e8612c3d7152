"""Declared grids of runs: equal compute in every arm, trunks shared, resumable, best fixed depth named."""

import json
import math
import re

import numpy as np
import pytest

from latebloom import cli
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import read_plan
from latebloom.train.config import LaunchConfig, TrainConfig
from latebloom.train.experiments.study import (
    GrowthGrid,
    Recipe,
    RecipeStage,
    Study,
    price,
    read_study,
    run_study,
    study_arms,
    study_table,
    study_text,
)
from tests.helpers import in_this_process

STUDY = Study(
    name="tiny", width=16, heads=2, context=16, vocab_size=256, batch_tokens=64, peak_lr=0.02, warmup_steps=2,
    depths=(0, 1, 3), computes=(16, 40), seeds=(0, 1),
    growth=(
        GrowthGrid(small=1, at=(0.5,), init=("random", "copy_zero_last")),
        GrowthGrid(small=0, at=(0.5,), init=("copy", "random"), computes=(40,)),
    ),
)  # fmt: skip

TOML = """
name = "tiny"
width = 16
heads = 2
context = 16
vocab_size = 256
batch_tokens = 64
peak_lr = 0.02
warmup_steps = 2
depths = [0, 1, 3]
computes = [16, 40]
seeds = [0, 1]
[[growth]]
small = 1
at = [0.5]
init = ["random", "copy_zero_last"]
[[growth]]
small = 0
at = [0.5]
init = ["copy", "random"]
computes = [40]
"""

SMALLER = TOML.partition("[[growth]]\nsmall = 0")[0]
for old, new in {"[0, 1, 3]": "[1, 3]", "[0, 1]": "[1]", '["random", "copy_zero_last"]': '["random"]'}.items():
    SMALLER = SMALLER.replace(old, new)


def test_a_file_declares_a_study(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    assert read_study(path) == STUDY


def test_every_arm_of_one_compute_costs_the_same():
    arms = study_arms(STUDY)
    full = {arm.compute: arm for arm in arms if arm.name.startswith("fixed-3-")}
    for arm in arms:
        step = plan_flops(full[arm.compute].plan) / full[arm.compute].plan.steps
        assert abs(plan_flops(arm.plan) - plan_flops(full[arm.compute].plan)) <= step
    assert len([arm for arm in arms if arm.grown]) == 5  # nothing can be copied from no block


def test_arms_share_trunks_and_the_price_counts_them_once():
    arms = {arm.name: arm for arm in study_arms(STUDY)}
    assert [arm.trunk is None for arm in arms.values()] == [True] * 3 + [False] * (len(arms) - 3)
    for arm in arms.values():
        if arm.trunk:
            trunk = arms[arm.trunk].plan
            shared = arm.plan.tau if arm.grown else trunk.steps - trunk.schedule.decay_steps
            assert np.array_equal(trunk.schedule.lrs()[:shared], arm.plan.schedule.lrs()[:shared])
            assert trunk.stages[0] == arm.plan.stages[0]
    alone = len(STUDY.seeds) * sum(plan_flops(arm.plan) for arm in arms.values())
    assert 0.3 * alone < price(STUDY) < 0.8 * alone


def test_a_study_runs_resumes_and_names_the_best_fixed_depth(data, tmp_path, capsys):
    config = TrainConfig(quiet=True, evals=2, eval_tokens=256, repeat_data=True, device="cpu")
    out = tmp_path / "out"
    study = STUDY.replace(depths=(1, 3), growth=(STUDY.growth[0].replace(init=("random",)),), seeds=(1,))
    records = run_study(study, data=data, out=out, config=config)
    grown = records["grown-1-3-x0.5-random-stack-C40-s1"]
    assert grown.header.seed == 1 and grown.plan.digest == read_plan(out / grown.header.name / "plan.json").digest
    trunk = records["fixed-1-C40-s1"]
    early = [record.curve(split="train")[1][0] for record in (grown, trunk)]
    assert early[0] == early[1]  # one seed, one order of data, one beginning

    rows = study_table(study, {name: record.final() for name, record in records.items()})
    assert {row.arm for row in rows} == {arm.name for arm in study_arms(study)}
    for compute in study.computes:
        fixed = [row for row in rows if row.compute == compute and not row.grown]
        assert min(row.above_best_fixed for row in fixed) == 0
        assert fixed[0].mean == min(row.mean for row in fixed)

    path = tmp_path / "tiny.toml"
    path.write_text(SMALLER)
    assert read_study(path) == study
    before = {p: p.stat().st_mtime_ns for p in out.rglob("record.jsonl")}
    arguments = ["study", str(path), "--data", str(data), "--out", str(out), "--json", "--repeat-data", "--evals", "2"]
    with pytest.raises(SystemExit) as done:
        cli.main([*arguments, "--eval-tokens", "256", "--device", "cpu"])
    assert done.value.code == 0
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("record.jsonl")}  # nothing was trained again
    printed = json.loads(capsys.readouterr().out)
    assert [row["arm"] for row in printed] == [row.arm for row in rows]


def test_recipes_of_several_stages_cost_the_same_and_go_on_from_a_fixed_run(data, tmp_path, monkeypatch):
    study = STUDY.replace(
        depths=(1, 3), computes=(40,), growth=(), seeds=(0,),
        recipes=(
            Recipe(
                name="tied", computes=(40,), rewarm_steps=2,
                stages=(
                    RecipeStage(depth=1), RecipeStage(at=0.4, depth=1, replayed_to=3),
                    RecipeStage(at=0.7, depth=3, init="copy"),
                ),
            ),
        ),
    )  # fmt: skip
    arm = next(arm for arm in study_arms(study) if arm.grown)
    full = next(arm for arm in study_arms(study) if arm.name == "fixed-3-C40").plan
    assert abs(plan_flops(arm.plan) - plan_flops(full)) <= plan_flops(full) / full.steps
    tau, untied = (stage.start_step for stage in arm.plan.stages[1:])
    rates = arm.plan.schedule.lrs()
    assert rates[tau] == rates[untied] == 0 and rates[tau + 1] == 0.01
    trunk = next(each for each in study_arms(study) if each.name == arm.trunk).plan
    assert np.array_equal(rates[:tau], trunk.schedule.lrs()[:tau])  # or it would not be a branch

    pytest.importorskip("submitit")
    config = TrainConfig(quiet=True, evals=2, eval_tokens=256, repeat_data=True, device="cpu")
    launch = LaunchConfig(launcher="local", at_once=1)
    records = run_study(study, data=data, out=tmp_path / "jobs", config=config, launch=launch)
    in_this_process(monkeypatch)
    alone = run_study(study, data=data, out=tmp_path / "here", config=config, launch=LaunchConfig(at_once=1))
    assert {name: r.final() for name, r in records.items()} == {name: r.final() for name, r in alone.items()}
    assert records["tied-C40-s0"].plan == arm.plan.replace(name="tied-C40-s0")


def test_a_table_of_what_is_there():
    names = [f"{arm.name}-s{seed}" for arm in study_arms(STUDY) for seed in STUDY.seeds]
    finals = {name: 2.0 + 0.1 * i for i, name in enumerate(names)}
    grown = "grown-1-3-x0.5-random-stack-C16"
    some = {name: finals[name] for name in names if name in (f"{grown}-s1", "fixed-1-C16-s0", "fixed-1-C16-s1")}
    rows = {row.arm: row for row in study_table(STUDY, some)}
    assert rows.keys() == {grown, "fixed-1-C16"}
    assert rows[grown].losses == (finals[f"{grown}-s1"],)
    assert rows[grown].above_best_fixed == pytest.approx(finals[f"{grown}-s1"] - finals["fixed-1-C16-s1"])
    assert math.isnan(rows[grown].standard_error) and math.isnan(rows[grown].rho)


@pytest.mark.parametrize(
    ("grown", "said"),
    [
        ((2.97, 2.96), "Growing wins. At .* 0.0350 below fixed-1-C16 .± 0.0050, 2 seeds., and below every other fixed"),
        ((3.04, 3.03), "Growing does not win. At .* 0.0350 above fixed-1-C16 .± 0.0050, 2 seeds.[.]"),
        ((2.95, 3.03), "Not decided. At .* 0.0100 below fixed-1-C16 .± 0.0400, 2 seeds.: not told apart"),
        ((2.97,), "Not decided. At .* 0.0300 below fixed-1-C16 .one seed.: not told apart"),
    ],
)
def test_growing_wins_where_it_ends_below_every_fixed_depth_by_more_than_seeds_explain(grown, said):
    ends = {"grown-1-3-x0.5-random-stack": grown, "fixed-1": (3.0, 3.0), "fixed-3": (3.2, 3.3)}
    finals = {f"{arm}-C16-s{seed}": end for arm, losses in ends.items() for seed, end in enumerate(losses)}
    (told,) = study_text(study_table(STUDY, finals))
    assert re.match(said, told)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("depths = [0, 1, 3]|depths = [0, 3]", "growth.small = 1: is not among the depths"),
        ("small = 1|small = 3", "growth.small = 3: must lie below 3"),
        ("computes = [40]|computes = [41]", r"growth.computes = \[41\]: are not among"),
        ("width = 16|widht = 16", "did you mean 'width'"),
        ('name = "tiny"|name = "a/b"', r"\$.name"),
        ("width = 16|width =", "is not TOML"),
    ],
)
def test_what_a_study_cannot_be(changed, message, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML.replace(*changed.split("|"), 1))
    with pytest.raises(InputError, match=message):
        read_study(path)


def test_efficiency_is_one_where_the_small_steps_count_in_full():
    arms = {arm.name: arm for arm in study_arms(STUDY)}
    arm = arms["grown-1-3-x0.5-random-stack-C40"]

    def full(steps: float) -> float:
        return 5 - math.log(steps)

    finals = {f"{name}-s{s}": full(a.plan.steps) for name, a in arms.items() for s in STUDY.seeds}
    tau = arm.plan.tau
    for rho in (0.3, 0.6):
        equal = arm.plan.steps - tau + rho * tau
        finals |= {f"{arm.name}-s{s}": full(equal) for s in STUDY.seeds}
        row = next(row for row in study_table(STUDY, finals) if row.arm == arm.name)
        assert row.rho == (pytest.approx(rho, abs=1e-9) if 16 <= equal <= 40 else pytest.approx(math.nan, nan_ok=True))
        assert 0 < row.n < 1
