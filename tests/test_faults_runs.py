"""Faults at chosen moments of a run: signals, kills, second signals, full disks, no home and no network."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import latebloom
from latebloom.theory import InputError, Optimizer, Stage, read_plan, read_record, write_plan
from latebloom.theory.controls import fixed_depth
from latebloom.theory.online_expansion import AutoExpansion
from latebloom.train import ranks as ranks_module
from latebloom.train.run import checkpoint
from latebloom.train.run.branch import branch
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import Interrupted, TrainConfig, resume, train
from latebloom.train.run.several import run_one
from latebloom.train.run.trainee import Trainee
from tests.faults.injector import Fault, Stopped, at_file_event, injected, kill, signalled, stall, stop
from tests.helpers import tiny_plan
from tests.ranks import on_ranks

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=64, log_every=2, checkpoint_every=4, repeat_data=True, device="cpu"
)  # fmt: skip


def plan_of(*, steps=12, tau=6, optimizer="muon_nsgd", **stage):
    plan = tiny_plan(steps=steps, tau=tau)
    stages = (plan.stages[0], Stage(start_step=tau, depth=3, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=optimizer))


def twice_grown():
    plan = plan_of(optimizer="adamw", tau=4)
    return plan.replace(stages=(*plan.stages, Stage(start_step=8, depth=5, init="copy_zero_last")))


def rows(out):
    record = read_record(out)
    columns = (record.columns[name] for name in ("step", "split", "metric", "value"))
    return {row[:3]: row[3] for row in zip(*columns, strict=True) if row[2] not in ("tokens_per_s", "mfu")}


def same(one, two):
    """Rows, weights and optimizer state of two runs, to the last bit."""
    assert rows(one) == rows(two)
    (_, w_1, o_1), (_, w_2, o_2) = (checkpoint.load(RunDirectory(run).newest_checkpoint()[0]) for run in (one, two))
    assert w_1.keys() == w_2.keys() and all(torch.equal(w_1[name], w_2[name]) for name in w_1)
    assert o_1.keys() == o_2.keys()
    assert all(torch.equal(o_1[name][key], o_2[name][key]) for name in o_1 for key in o_1[name] | o_2[name])


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Runs that nothing disturbed, by plan."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def run(plan):
        if plan.digest not in made:
            made[plan.digest] = folder / plan.digest[:12]
            train(plan, data=data, out=made[plan.digest], config=CONFIG)
        return made[plan.digest]

    return run


def save_again(out, number):
    """A save of a later moment, killed before its ``number``-th file operation; their number where it was not."""
    path = RunDirectory(out).newest_checkpoint()[0]
    state, weights, moments = checkpoint.load(path)
    digest = checkpoint.manifest_of(path).data_digest
    seen = at_file_event(number, kill, below=str(out))
    state = state.replace(step=state.step + 1)
    checkpoint.save(
        out / "checkpoints", plan=checkpoint.saved_plan(path), data_digest=digest, state=state, model=weights,
        optimizer=moments, keep=1,
    )  # fmt: skip
    return len(seen)


def test_kill_9_at_every_file_operation_of_a_save(whole, tmp_path):
    """One checkpoint is kept: the old one or the new one is whole, whichever operation is the last."""
    run, number, ended = whole(plan_of()), 0, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        out = shutil.copytree(run, tmp_path / str(number))
        shutil.rmtree(RunDirectory(out).newest_checkpoint()[0])
        (ended,) = on_ranks(save_again, 1, out, number)
        found, passed = RunDirectory(out).newest_checkpoint()
        assert found.name.endswith(("00008-stage-1", "00009-stage-1")) and passed == []
        number += 1
    assert number > 15 and number == ended + 1


def killed_run(plan, data, out, fault):
    with injected(fault):
        train(plan, data=data, out=out, config=CONFIG)


@pytest.mark.parametrize("event", ["growth", "after growth", "row", "tensors", "commit", "after commit"])
def test_killed_while_it_grows_a_run_is_wholly_before_or_wholly_after(event, whole, data, tmp_path):
    plan = plan_of(init="copy_zero_last")
    fault = Fault(event=event, step=plan.tau, act=kill)
    assert on_ranks(killed_run, 1, plan, data, tmp_path / "run", fault) == [-signal.SIGKILL]
    for path in RunDirectory(tmp_path / "run").checkpoints():
        assert checkpoint.verify(path).depth == (3 if path.name.endswith("stage-1") else 1)
    resume(tmp_path / "run")
    same(whole(plan), tmp_path / "run")


@pytest.fixture
def no_nohup():
    """SIGHUP is not ignored, even if whoever runs the tests does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code", "event"),
    [
        (signal.SIGTERM, 143, "validation"), (signal.SIGTERM, 143, "growth"), (signal.SIGTERM, 143, "warming"),
        (signal.SIGTERM, 143, "save"), (signal.SIGUSR1, 143, "growth"), (signal.SIGHUP, 129, "update"),
    ],
)  # fmt: skip
def test_a_signal_at_any_moment_is_seen_after_the_step(number, code, event, whole, data, tmp_path, no_nohup):
    plan = plan_of(optimizer="adamw", optimizer_state="keep_warmed")
    with pytest.raises(Interrupted) as ended, injected(Fault(event=event, act=signalled(number))) as happened:
        train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert ended.value.code == code and happened == [event]
    assert checkpoint.verify(RunDirectory(tmp_path / "run").newest_checkpoint()[0]).step in (1, 7)
    resume(tmp_path / "run")
    same(whole(plan), tmp_path / "run")


def test_a_run_under_nohup_outlives_its_terminal(data, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with injected(Fault(event="update", step=3, act=signalled(signal.SIGHUP))):
            record = train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert record.columns["step"].max() == 12


def test_a_second_signal_while_it_saves_begins_nothing_anew(whole, data, tmp_path):
    faults = (
        Fault(event="update", step=5, act=signalled(signal.SIGTERM)),
        Fault(event="tensors", step=6, act=signalled(signal.SIGTERM)),
        Fault(event="commit", step=6, act=signalled(signal.SIGINT)),
    )
    with pytest.raises(Interrupted) as ended, injected(*faults) as happened:
        train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    assert ended.value.code == 143 and happened == ["update", "tensors", "commit"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert checkpoint.verify(RunDirectory(tmp_path / "run").newest_checkpoint()[0]).step == 6
    resume(tmp_path / "run")
    same(whole(plan_of()), tmp_path / "run")


def test_ctrl_c_in_a_notebook_leaves_a_run_to_go_on_with(whole, data, tmp_path):
    """In one process: handlers and lock are given back, no thread is left, and the next cell resumes."""
    handler, threads = signal.getsignal(signal.SIGINT), threading.active_count()
    with pytest.raises(Interrupted) as ended, injected(Fault(event="update", step=5, act=signalled(signal.SIGINT))):
        train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    assert ended.value.code == 130
    assert signal.getsignal(signal.SIGINT) is handler and threading.active_count() == threads
    assert read_record(tmp_path / "run").columns["step"].max() == 6
    resume(tmp_path / "run")
    same(whole(plan_of()), tmp_path / "run")


@pytest.mark.parametrize("step", range(12))
def test_stopped_before_any_step_of_two_expansions_it_ends_bit_for_bit(step, whole, data, tmp_path):
    plan = twice_grown()
    with pytest.raises(Stopped), injected(Fault(event="update", step=step, act=stop)):
        train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    resume(tmp_path / "run")
    same(whole(plan), tmp_path / "run")


def stalled_run(plan, data, out):
    """Rank 1 falls silent in the midst of a run, for longer than the other waits."""
    ranks_module.ANSWER_S = 1
    try:
        with injected(Fault(event="update", step=3, rank=1, act=stall(10))):
            train(plan, data=data, out=out, config=CONFIG.replace(rank_timeout=6.0))
    except RuntimeError as error:
        return type(error).__name__, str(error)


def test_a_rank_that_stalls_is_named_with_step_and_collective(data, tmp_path):
    (name, text), _ = on_ranks(stalled_run, 2, plan_of(), data, tmp_path / "run")
    assert name == "PeerLost" and "\n" not in text
    assert text.startswith("rank 0 of 2, step 3, ")
    assert text.endswith(": rank 1 is lost (silent for 6 s, --rank-timeout); resume the run")
    assert any(word in text for word in ("all_gather", "all_reduce", "reduce_scatter", "all_to_all"))


def killed_rank(plan, data, out):
    ranks_module.ANSWER_S = 1
    try:
        with injected(Fault(event="update", step=5, rank=1, act=kill)):
            train(plan, data=data, out=out, config=CONFIG)
    except RuntimeError as error:
        return str(error)


def test_a_rank_that_is_killed_is_named_with_step(data, tmp_path):
    text, code = on_ranks(killed_rank, 2, plan_of(), data, tmp_path / "run")
    assert code == -signal.SIGKILL
    assert text.startswith("rank 0 of 2, step 5, ") and ": rank 1 is lost (" in text


def test_files_of_another_moment_under_an_old_manifest_are_refused(whole, tmp_path):
    out = shutil.copytree(whole(plan_of(optimizer="adamw")), tmp_path / "run")
    first, last = RunDirectory(out).checkpoints()
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        old = (first / name).read_bytes()
        shutil.copy(last / name, first / name)
        with pytest.raises(InputError, match=rf"{name.partition('.')[0]}\.[a-z]+ = .*(manifest|bytes)"):
            checkpoint.verify(first)
        (first / name).write_bytes(old)
    checkpoint.verify(first)


def test_too_little_disk_is_said_before_the_first_step(data, tmp_path, monkeypatch, whole):
    plan = plan_of()
    usage, size = shutil.disk_usage(tmp_path), sum(f.stat().st_size for f in sorted(_newest_files(whole(plan))))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size))
    message = r"checkpoints' has [\d,]+ bytes free; 2 checkpoints and the one being written take [\d,]+; free some disk"
    with pytest.raises(InputError, match=message.replace("' has", "': has")):
        train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert not (tmp_path / "run").exists()
    out = shutil.copytree(whole(plan), tmp_path / "kept")  # whose two checkpoints will make room
    resume(out)
    train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(keep_checkpoints=1))


def _newest_files(run):
    return [path for path in RunDirectory(run).newest_checkpoint()[0].iterdir() if path.suffix == ".safetensors"]


def test_a_checkpoint_is_of_one_moment(data, tmp_path, monkeypatch):
    """Saves are waited for: no update is made while one is written, and no thread writes."""
    real, after = Trainee.update, {}

    def update(self, **options):
        result = real(self, **options)
        after[self.step] = {name: tensor.clone() for name, tensor in self.weights().items()}
        return result

    monkeypatch.setattr(Trainee, "update", update)
    threads = []
    with injected(Fault(event="tensors", act=lambda: threads.append(threading.current_thread()), again=True)):
        config = CONFIG.replace(checkpoint_every=1, keep_checkpoints=50)
        train(fixed_depth(plan_of(), name="fixed", depth=2), data=data, out=tmp_path / "run", config=config)
    assert set(threads) == {threading.main_thread()}
    for path in RunDirectory(tmp_path / "run").checkpoints()[1:]:
        state, weights, _ = checkpoint.load(path)
        assert all(torch.equal(weights[name], after[state.step][name]) for name in weights)


def test_a_jump_after_growth_is_in_the_record_and_can_be_taken_back(data, tmp_path):
    """The loss right after growth is a row; a branch from before it goes on as another plan."""
    plan = plan_of(steps=40, tau=30, init="copy")
    record = train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(keep_checkpoints=9))
    step, after = record.curve(metric="loss_after_growth")
    before = dict(zip(*record.curve(), strict=True))[30]
    assert step.tolist() == [30] and after[0] != before
    gentle = plan_of(steps=40, tau=30, init="copy_zero_last")
    other = branch(tmp_path / "run", gentle, out=tmp_path / "back", quiet=True)
    assert other.curve(metric="loss_after_growth")[1][0] == pytest.approx(before, abs=1e-5)  # the function is kept
    assert read_plan(tmp_path / "back" / "plan.json") == gentle


def test_other_data_are_refused_at_resume(whole, data, tmp_path):
    out = shutil.copytree(whole(plan_of()), tmp_path / "run")
    other = shutil.copytree(data, tmp_path / "data")
    (other / "manifest.json").unlink()  # read as foreign shards: another digest
    with pytest.raises(InputError, match="is not the data the run began with"):
        resume(out, data=other)


def test_a_run_whose_last_checkpoint_is_missing_is_not_finished(whole, data, tmp_path):
    """Its record is complete before the last save is; found by a random kill."""
    plan, out = plan_of(), tmp_path / "run"
    with pytest.raises(Stopped), injected(Fault(event="tensors", step=12, act=stop)):
        train(plan, data=data, out=out, config=CONFIG)
    assert read_record(out).final() == read_record(whole(plan)).final()
    assert not RunDirectory(out).is_finished(plan.steps)
    run_one(plan, data, out, config=CONFIG)
    same(whole(plan), out)
    assert RunDirectory(out).is_finished(plan.steps)
    shutil.rmtree(out / "checkpoints")  # by its user: the record is what counts then
    assert RunDirectory(out).is_finished(plan.steps)


@pytest.mark.parametrize("step", [4, 8, 10])
def test_an_online_run_validates_at_the_same_steps_however_often_it_was_stopped(step, data, tmp_path):
    """Found by a random kill: after the expansion was moved the old plan's validation steps stayed, unless resumed."""
    plan = plan_of(tau=11)
    rule = AutoExpansion(schedule=plan.schedule, mixing_area=5 * plan.schedule.peak)
    config = CONFIG.replace(evals=8)
    train(plan, data=data, out=tmp_path / "whole", config=config, auto=rule)
    assert read_plan(tmp_path / "whole" / "plan.json").tau == 7
    with pytest.raises(Stopped), injected(Fault(event="update", step=step, act=stop)):
        train(plan, data=data, out=tmp_path / "cut", config=config, auto=rule)
    resume(tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


LONELY = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise OSError("no network")
sys.addaudithook(refuse)
from latebloom.cli import main
main(sys.argv[1:])
"""


def lonely(folder, *arguments):
    """A command without home, network and GPU, from a directory of its own."""
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LANG")}
    environment["PYTHONPATH"] = str(Path(latebloom.__file__).parents[1])
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LONELY, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_without_home_network_and_gpu_the_defaults_work(data, tmp_path):
    write_plan(plan_of(steps=4, tau=2), tmp_path / "plan.json")
    done = lonely(tmp_path, "train", "plan.json", "--data", data, "--repeat-data", "--evals", 0, "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "tiny" / "record.jsonl").exists()
    sampled = lonely(tmp_path, "sample", "runs/tiny", "late", "--tokens", 3)
    assert sampled.returncode == 0, sampled.stderr


@pytest.mark.parametrize("command", ["train", "plan", "prepare"])
def test_what_cannot_be_written_is_one_line(command, data, tmp_path):
    write_plan(plan_of(steps=4, tau=2), tmp_path / "plan.json")
    (tmp_path / "file").write_text("a file, in which no directory can be made")
    where = tmp_path / "file" / "out"
    arguments = {
        "train": ["train", "plan.json", "--data", data, "--repeat-data", "--out", where],
        "plan": [
            "plan",
            "--model",
            "gpt2-7b",
            "--steps",
            100,
            "--batch-tokens",
            1024,
            "--u-mix",
            0.1,
            "--peak-lr",
            0.02,
            "--out",
            where,
        ],
        "prepare": ["data", "prepare", "plan.json", "--out", where, "--tokenizer", "bytes"],
    }[command]
    done = lonely(tmp_path, *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "/file/" in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("fault", ["empty", "marked", "other", "of others"])
def test_checkpoints_may_be_linked_to_a_directory_of_their_own(fault, whole, data, tmp_path):
    """A scratch disk: an empty directory becomes the run's; one with anything of another's is refused."""
    scratch, out = tmp_path / "scratch", tmp_path / "run"
    scratch.mkdir()
    if fault == "of others":
        (scratch / "precious").write_text("kept")
    elif fault == "other":
        (scratch / "id.txt").write_text("0123456789abcdef\n")
    out.mkdir()
    (out / "checkpoints").symlink_to(scratch)
    if fault in ("other", "of others"):
        with pytest.raises(InputError, match="is a link to .*; link an empty directory"):
            train(plan_of(), data=data, out=out, config=CONFIG)
        assert len(list(scratch.iterdir())) == 1
        return
    if fault == "marked":
        with pytest.raises(Interrupted), injected(Fault(event="update", step=9, act=signalled(signal.SIGTERM))):
            train(plan_of(), data=data, out=out, config=CONFIG)
        resume(out)
    else:
        train(plan_of(), data=data, out=out, config=CONFIG)
    assert (scratch / "id.txt").read_text().strip() == RunDirectory(out).id
    assert len(list(scratch.glob("step-*"))) == 2
    same(whole(plan_of()), out)
