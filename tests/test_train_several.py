"""Several runs on one machine: branches wait for their trunks, and which trunk saves most."""

import pytest
from rich.console import Console

from latebloom.theory import InputError, Stage, read_record
from latebloom.theory.controls import fixed_depth
from latebloom.theory.menu import schedule_for
from latebloom.theory.pilots import pilot_plans
from latebloom.train.config import TrainConfig
from latebloom.train.run.branch import share_trunks
from latebloom.train.run.checkpoint import checkpoints
from latebloom.train.run.several import run_all
from tests.helpers import tiny_plan
from tests.test_train_ablation import in_this_process

GROWN = tiny_plan(steps=24, tau=12)
SMALL = fixed_depth(GROWN, name="small", depth=1)
SHORT = SMALL.replace(name="short", schedule=schedule_for(SMALL.schedule, 16))
CONFIG = TrainConfig(quiet=True, evals=2, eval_tokens=256, log_every=4, repeat_data=True, device="cpu")


def test_the_trunk_that_saves_most_is_chosen(tmp_path):
    trunks = share_trunks([SHORT, GROWN, SMALL], tmp_path, every=4)
    assert {name: (trunk.run.name, trunk.steps) for name, trunk in trunks.items()} == {
        GROWN.name: ("small", 12),
        "short": ("small", 12),
    }
    there = {tmp_path / "there": SMALL.replace(name="there")}
    trunks = share_trunks([SHORT, GROWN, SMALL], tmp_path, every=4, finished=there)
    assert {trunk.run.name for trunk in trunks.values()} == {"there"}  # preferred: nothing waits for it
    other = SHORT.replace(batch_tokens=2 * SHORT.batch_tokens)
    assert share_trunks([other, SMALL], tmp_path, every=4) == {}


def test_a_branch_waits_for_its_trunk_and_only_trunks_keep_checkpoints(data, tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    plans = [SHORT, GROWN.replace(name="grown"), SMALL]
    trunks = {"short": tmp_path / "small", "grown": tmp_path / "small"}
    records = run_all(
        plans, data, tmp_path, config=CONFIG, trunk_config=CONFIG.replace(checkpoint_every=4, keep_checkpoints=20),
        console=Console(quiet=True), trunks=trunks,
    )  # fmt: skip
    assert [record.plan for record in records] == plans
    at = read_record(tmp_path / "small").select(split="train")["wall_s"][0]
    assert [record.select(split="train")["wall_s"][0] for record in records] == [at] * 3
    assert [int(path.name.split("-")[1]) for path in checkpoints(tmp_path / "small")][:4] == [0, 4, 8, 12]


def test_branches_in_a_circle_are_refused(data, tmp_path):
    trunks = {"short": tmp_path / "small", "small": tmp_path / "short"}
    with pytest.raises(InputError, match="short <- small <- short: is a branch of its own branch|circle|own branch"):
        run_all([SHORT, SMALL], data, tmp_path, config=CONFIG, console=Console(quiet=True), trunks=trunks)


def test_pilots_are_branches_of_two_trunks_and_keep_the_warm_up(tmp_path):
    base = fixed_depth(tiny_plan(steps=800, tau=400, full=4), name="base")
    pilots = pilot_plans(base, small_depth=1, init="copy")
    assert [plan.name for plan in pilots] == [
        "small-800", "small-400", "small-200", "small-100", "grown-400-496", "grown-400-448", "grown-400-424",
        "full-200", "full-100",
    ]  # fmt: skip
    assert {plan.schedule.warmup_steps for plan in pilots} == {base.schedule.warmup_steps}
    grown = pilots[4:7]
    assert all(plan.stages[1] == Stage(start_step=400, depth=4, init="copy") for plan in grown)
    assert all(plan.schedule.decay_steps <= plan.steps - 400 for plan in grown)
    trunks = share_trunks(pilots, tmp_path, every=40)
    assert pilots[0].name not in trunks
    assert "full-200" not in trunks
    assert {trunk.run.name for trunk in trunks.values()} == {"small-800", "full-200"}
    with pytest.raises(InputError, match="steps = 100: is too short to learn from an eighth of it"):
        pilot_plans(base.replace(schedule=schedule_for(base.schedule, 100)), small_depth=1)
