"""A branch from a trunk is the run of its plan, bit for bit."""

import numpy as np
import pytest
import torch

from latebloom import cli
from latebloom.theory import InputError, Stage, read_record, write_plan, wsd
from latebloom.theory.controls import fixed_depth
from latebloom.theory.record import RecordWriter
from latebloom.theory.schedules import Constant
from latebloom.train.run import checkpoint
from latebloom.train.run.branch import agree_until, branch
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, train
from tests.helpers import tiny_plan

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=256, log_every=4, checkpoint_every=4, keep_checkpoints=20, repeat_data=True,
    device="cpu",
)  # fmt: skip
GROWN = tiny_plan(steps=24, tau=12)


@pytest.fixture(scope="module")
def trunk(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trunk") / "small"
    train(fixed_depth(GROWN, name="small", depth=1), data=data, out=out, config=CONFIG)
    return out


def same_run(a, b):
    """Final weights, optimizer state and training curve of two runs are equal bit for bit."""
    (_, w_a, o_a), (_, w_b, o_b) = (checkpoint.load(RunDirectory(run).newest_checkpoint()[0]) for run in (a, b))
    assert all(torch.equal(w_a[name], w_b[name]) for name in w_a | w_b)
    assert all(torch.equal(o_a[n][k], o_b[n][k]) for n in o_a | o_b for k in o_a[n])
    curves = [read_record(run).curve(split="train") for run in (a, b)]
    assert np.array_equal(*(np.array(curve) for curve in curves))
    assert read_record(a).final() == read_record(b).final()


@pytest.mark.parametrize(
    "stages",
    [
        (Stage(start_step=12, depth=3),),
        (Stage(start_step=12, depth=3, init="copy_zero_last", order="inter"),),
        (Stage(start_step=9, depth=2), Stage(start_step=14, depth=3)),  # not at a checkpoint: from step 8
    ],
    ids=["random", "copy", "two"],
)
def test_a_branch_is_the_run_of_its_plan(stages, data, trunk, tmp_path):
    plan = GROWN.replace(stages=(GROWN.stages[0], *stages))
    record = branch(trunk, plan, out=tmp_path / "branch", quiet=True)
    train(plan, data=data, out=tmp_path / "alone", config=CONFIG)
    same_run(tmp_path / "branch", tmp_path / "alone")
    assert record.header.plan_digest == plan.digest
    assert record.columns["depth"].max() == 3


def test_a_branch_of_a_grown_run(data, tmp_path):
    """From after the expansion, with another decay; from before it, where the trunk grew otherwise."""
    train(GROWN, data=data, out=tmp_path / "trunk", config=CONFIG)
    longer = GROWN.replace(schedule=wsd(steps=26, peak_lr=GROWN.schedule.peak))
    other = longer.replace(stages=(GROWN.stages[0], Stage(start_step=12, depth=4)))
    for name, plan in (("longer", longer), ("other", other)):
        record = branch(tmp_path / "trunk", plan, out=tmp_path / name, quiet=True)
        train(plan, data=data, out=tmp_path / f"{name}_alone", config=CONFIG)
        same_run(tmp_path / name, tmp_path / f"{name}_alone")
        assert set(record.columns["depth"]) == {1, plan.depth}


def test_a_branch_that_only_ends_earlier_measures_its_end(data, trunk, tmp_path):
    """All its steps are the trunk's, which took no validation loss there."""
    constant = Constant(steps=12, peak_lr=GROWN.schedule.peak)
    longer = fixed_depth(GROWN, name="longer", depth=1, schedule=constant.replace(steps=16))
    train(longer, data=data, out=tmp_path / "longer", config=CONFIG)
    plan = longer.replace(name="shorter", schedule=constant)
    branch(tmp_path / "longer", plan, out=tmp_path / "branch", quiet=True)
    train(plan, data=data, out=tmp_path / "alone", config=CONFIG)
    same_run(tmp_path / "branch", tmp_path / "alone")


def test_where_plans_part():
    later = GROWN.replace(stages=(GROWN.stages[0], Stage(start_step=15, depth=3)))
    assert agree_until(GROWN, GROWN) == 24
    assert agree_until(GROWN, later) == 12
    assert agree_until(GROWN, fixed_depth(GROWN, name="x", depth=1)) == 12
    longer = GROWN.replace(schedule=wsd(steps=100, peak_lr=GROWN.schedule.peak))
    rates = GROWN.schedule.lrs(), longer.schedule.lrs()[:24]
    assert agree_until(GROWN, longer) == np.flatnonzero(rates[0] != rates[1])[0]
    assert agree_until(GROWN, GROWN.replace(batch_tokens=128)) == -1


@pytest.mark.parametrize("stop_at", ["save", "record"])
def test_a_branch_killed_while_it_begins_can_be_made_again(stop_at, data, trunk, tmp_path, monkeypatch):
    """The trunk's rows are in the branch's record all or not at all."""
    written = []
    write = RecordWriter.write

    def die(self, rows):
        written.append(1)
        if stop_at == "save" or len(written) > 3:
            raise KeyboardInterrupt
        write(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", die)
        with pytest.raises(KeyboardInterrupt):
            branch(trunk, GROWN, out=tmp_path / "branch", quiet=True)
    assert not (tmp_path / "branch" / "record.jsonl").exists()
    branch(trunk, GROWN, out=tmp_path / "branch", quiet=True)
    train(GROWN, data=data, out=tmp_path / "alone", config=CONFIG)
    same_run(tmp_path / "branch", tmp_path / "alone")


def test_refusals(trunk, tmp_path, capsys):
    with pytest.raises(InputError, match="does not begin as"):
        branch(trunk, GROWN.replace(batch_tokens=128), out=tmp_path / "a")
    with pytest.raises(InputError, match="holds a run already"):
        branch(trunk, GROWN, out=trunk)
    with pytest.raises(InputError, match="is not a run's directory"):
        branch(tmp_path, GROWN, out=tmp_path / "a")
    for path in RunDirectory(trunk).checkpoints()[:-2]:  # what the default number of checkpoints leaves
        path.rename(path.with_name("away-" + path.name))
    write_plan(GROWN, tmp_path / "plan.json")
    with pytest.raises(SystemExit) as stop:
        cli.main(["branch", str(trunk), str(tmp_path / "plan.json"), "--out", str(tmp_path / "a")])
    assert stop.value.code == 2
    assert "has no checkpoint up to step 12, from which on the plans differ (step-000000" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
