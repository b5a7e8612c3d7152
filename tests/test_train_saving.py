"""Checkpoints that are written while training goes on: exact, one at a time, and never silent when they fail."""

import threading

import pytest
import torch

from latebloom.theory import InputError
from latebloom.train.config import TrainConfig
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import resume, train
from latebloom.train.run.trainee import Trainee
from tests.helpers import tiny_plan
from tests.ranks import on_ranks

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=160, log_every=4, checkpoint_every=2, keep_checkpoints=20, repeat_data=True,
    device="cpu", microbatch=2,
)  # fmt: skip
PLAN = tiny_plan(steps=24, tau=12)
BEHIND = CONFIG.replace(save_behind=True)


def assert_same_checkpoints(one, two):
    """Of two runs: the same moments, the same tensors to the last bit."""
    for a, b in zip(RunDirectory(one).checkpoints(), RunDirectory(two).checkpoints(), strict=True):
        assert a.name == b.name
        checkpoint.verify(b)
        (state_a, weights_a, moments_a), (state_b, weights_b, moments_b) = checkpoint.load(a), checkpoint.load(b)
        assert state_a.replace(wall_s=0) == state_b.replace(wall_s=0)
        assert all(torch.equal(weights_a[name], weights_b[name]) for name in weights_a | weights_b)
        for name in moments_a | moments_b:
            assert all(torch.equal(moments_a[name][key], moments_b[name][key]) for key in moments_a[name])


def run(plan, data, out, config):
    return train(plan, data=data, out=out, config=config).final()


def test_what_is_written_behind_is_the_moment_of_its_step(data, tmp_path, monkeypatch):
    """Each save is held until the next update is done: weights have moved on while the file is written."""
    moved, real_save, real_update = threading.Event(), checkpoint.save, Trainee.update
    threads = []

    def save(*args, **options):
        threads.append(threading.current_thread().name)
        if threads[-1] == "checkpoint":
            assert moved.wait(20)
        return real_save(*args, **options)

    def update(self, **options):
        result = real_update(self, **options)
        moved.set()
        return result

    final = run(PLAN, data, tmp_path / "waited", CONFIG)
    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr(Trainee, "update", update)
    real_start = threading.Thread.start

    def start(self):
        if self.name == "checkpoint":
            moved.clear()
        real_start(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert run(PLAN, data, tmp_path / "behind", BEHIND) == final
    assert threads.count("checkpoint") >= 3 and threads[0] == threads[-1] == "MainThread"
    assert_same_checkpoints(tmp_path / "waited", tmp_path / "behind")


def test_ranks_write_behind_what_they_write_at_once(data, tmp_path):
    config = BEHIND.replace(microbatch=1)
    finals = on_ranks(run, 4, PLAN, data, tmp_path / "behind", config)
    assert finals == on_ranks(run, 4, PLAN, data, tmp_path / "waited", config.replace(save_behind=False))
    assert_same_checkpoints(tmp_path / "waited", tmp_path / "behind")


def failing_run(plan, data, out, config):
    """A run whose first rank cannot write what is written behind, once it has made three checkpoints."""
    real, written = checkpoint._write_tensors, []

    def write_tensors(part, model, flat, ranks, shapes):
        written.append(part)
        if threading.current_thread().name == "checkpoint" and len(written) > 3 and ranks.is_first:
            raise OSError(28, "No space left on device")
        return real(part, model, flat, ranks, shapes)

    checkpoint._write_tensors = write_tensors
    try:
        return run(plan, data, out, config)
    finally:
        checkpoint._write_tensors = real


def test_a_failure_behind_stops_the_run_and_what_was_saved_is_good(data, tmp_path):
    with pytest.raises(
        InputError, match="could not be written .No space left on device.: .* free some disk and resume"
    ):
        failing_run(PLAN, data, tmp_path / "run", BEHIND)
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint"]
    assert resume(tmp_path / "run").final() == run(PLAN, data, tmp_path / "whole", CONFIG)


def test_a_failure_of_one_rank_behind_stops_all_after_the_same_step(data, tmp_path):
    first, second = on_ranks(failing_run, 2, PLAN, data, tmp_path / "run", BEHIND)
    assert isinstance(first, InputError) and "No space left" in str(first)
    assert isinstance(second, SystemExit) and second.code == 2
    assert resume(tmp_path / "run").final() == run(PLAN, data, tmp_path / "whole", CONFIG)
