"""Several runs on one machine: branches wait for their trunks, and which trunk saves most."""

import pytest
from rich.console import Console

from latebloom.theory import InputError, read_record
from latebloom.theory.controls import fixed_depth
from latebloom.theory.menu import schedule_for
from latebloom.train.config import LaunchConfig, TrainConfig
from latebloom.train.run.branch import agree_until, share_trunks
from latebloom.train.run.directory import RunDirectory
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
        "short": ("small", min(agree_until(SMALL, SHORT), SHORT.steps - 1) // 4 * 4),  # a step of its own at least
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
    saved = RunDirectory(tmp_path / "small").checkpoints()
    assert [int(path.name.split("-")[1]) for path in saved][:4] == [0, 4, 8, 12]


def test_a_cluster_that_is_not_there(data, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    slurm = LaunchConfig(launcher="slurm")
    with pytest.raises(InputError, match="--launcher = 'slurm': needs sbatch, which is not on the path"):
        run_all([SMALL], data, tmp_path, config=CONFIG, console=Console(quiet=True), launch=slurm)


def test_branches_in_a_circle_are_refused(data, tmp_path):
    trunks = {"short": tmp_path / "small", "small": tmp_path / "short"}
    with pytest.raises(InputError, match="short <- small <- short: is a branch of its own branch|circle|own branch"):
        run_all([SHORT, SMALL], data, tmp_path, config=CONFIG, console=Console(quiet=True), trunks=trunks)
