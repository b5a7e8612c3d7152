"""The loop: bitwise resume at every kind of place and after kill -9, whole checkpoints, honest stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from latebloom.theory import InputError, Optimizer, Stage, read_plan, read_record, write_plan
from latebloom.theory.cost import plan_flops
from latebloom.theory.files import file_sha256
from latebloom.train.data.corpus import prepare
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import Interrupted, TrainConfig, make_trainee, resume, train
from latebloom.train.run.measure import validation_steps
from latebloom.train.run.trainee import NonFiniteLoss, Trainee
from tests.helpers import tiny_plan

CONFIG = TrainConfig(quiet=True, evals=6, eval_tokens=256, log_every=4, checkpoint_every=7, repeat_data=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    rng = np.random.default_rng(0)
    words = np.array(["grow", "depth", "late", "bloom", "step", "loss"])
    paths = []
    for i in range(30):
        paths.append(folder / f"{i}.txt")
        paths[-1].write_text(" ".join(rng.choice(words, 300)))
    prepare(paths, folder / "data", tokenizer="bytes", val_share=0.2)
    return folder / "data"


def plan_of(optimizer="muon_nsgd", **stage):
    plan = tiny_plan(steps=30, tau=15, small=1, full=3)
    stages = (plan.stages[0], Stage(start_step=15, depth=3, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=optimizer))


def values(out):
    """Everything in a record but wall-clock time and speed."""
    record = read_record(out)
    keys = zip(record.columns["step"], record.columns["split"], record.columns["metric"], strict=True)
    found = dict(zip(keys, record.columns["value"], strict=True))
    return {key: value for key, value in found.items() if key[2] not in ("tokens_per_s", "mfu")}


def weights(out):
    return checkpoint.load(RunDirectory(out).newest_checkpoint()[0])[1]


def same(a, b):
    assert values(a) == values(b)
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)


class Stop(Exception):
    pass


def stop_after(monkeypatch, updates):
    """Let the process die, as far as the run can tell, after so many updates: no cleanup, no final save."""
    real, done = Trainee.update, [0]

    def update(self, **options):
        if done[0] == updates:
            raise Stop
        done[0] += 1
        return real(self, **options)

    monkeypatch.setattr(Trainee, "update", update)


def test_record_and_files_of_a_run(data, tmp_path):
    plan = plan_of()
    record = train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    step, loss = record.curve()
    assert step[0] == 0
    assert step[-1] == 30
    assert set(validation_steps((0, plan.tau), plan.steps, 6)) | {0} == set(step)
    assert loss[-1] < loss[0] - 0.5
    assert record.final() == loss[-1]
    assert record.header.plan_digest == plan.digest
    last = {name: column[-1] for name, column in record.columns.items()}
    assert last["flops"] == plan_flops(plan)
    assert last["tokens"] == 30 * 64
    assert [record.columns["depth"][record.columns["step"] == s][0] for s in (12, 20)] == [1, 3]
    assert read_plan(tmp_path / "run" / "plan.json") == plan
    lr_step, lr = record.curve(split="train", metric="lr")
    assert lr == pytest.approx(plan.schedule.lr(lr_step - 1), rel=1e-15)
    assert [p.name for p in RunDirectory(tmp_path / "run").checkpoints()] == [
        "step-00000028-stage-1",
        "step-00000030-stage-1",
    ]


@pytest.mark.parametrize("optimizer", ["muon_nsgd", "adamw"])
@pytest.mark.parametrize("stopped_after", [3, 14, 15, 16, 22, 29])
def test_resume_is_bitwise(data, tmp_path, monkeypatch, optimizer, stopped_after):
    """Before, at and after the expansion, between checkpoints, the new layers' first Adam step included."""
    plan = plan_of(optimizer)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_after)
        with pytest.raises(Stop):
            train(plan, data=data, out=tmp_path / "cut", config=CONFIG)
    resume(tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    "stage",
    [{"init": "copy", "order": "inter"}, {"init": "zero_last"}, {"optimizer_state": "reset"}, {"new_rate": 2.0}],
)
def test_resume_across_other_expansions(data, tmp_path, monkeypatch, stage):
    plan = plan_of(**stage)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    with monkeypatch.context() as patch:
        stop_after(patch, 16)
        with pytest.raises(Stop):
            train(plan, data=data, out=tmp_path / "cut", config=CONFIG)
    resume(tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


def test_new_blocks_at_a_rate_of_their_own(data):
    plan = plan_of(init="copy", order="inter", new_rate=3.0)
    trainee = make_trainee(plan, data, CONFIG)
    trainee.begin()
    trainee.step = 15
    trainee.grow()
    rate = float(plan.schedule.lr(15))
    of_block = {0: rate, 1: 3 * rate, 2: 3 * rate}  # the old one stands first
    for group in trainee.optimizer.param_groups:
        for name in group["param_names"]:
            expected = of_block[int(name.split(".")[1])] if name.startswith("blocks.") else rate
            assert group["lr"] == pytest.approx(expected), name
    trainee.close()


@pytest.mark.parametrize("stopped_after", [13, 17])  # while blocks are replayed, and once they are untied
def test_resume_in_replayed_blocks(data, tmp_path, monkeypatch, stopped_after):
    plan = plan_of()
    tied = Stage(start_step=10, depth=1, replayed_to=plan.depth)
    untied = Stage(start_step=15, depth=plan.depth, init="copy")
    plan = plan.replace(stages=(plan.stages[0], tied, untied))
    record = train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    rows = record.columns
    before = rows["value"][(rows["metric"] == "loss") & (rows["split"] == "val") & (rows["step"] == 15)]
    after = rows["value"][(rows["metric"] == "loss_after_growth") & (rows["step"] == 15)]
    assert before.tolist() == after.tolist()  # a copy of its own for each pass is the same function
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_after)
        with pytest.raises(Stop):
            train(plan, data=data, out=tmp_path / "cut", config=CONFIG)
    resume(tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


def test_microbatches_change_only_rounding(data, tmp_path):
    plan = plan_of()
    whole = train(plan, data=data, out=tmp_path / "a", config=CONFIG)
    parts = train(plan, data=data, out=tmp_path / "b", config=CONFIG.replace(microbatch=2))
    # float32 sums in another order: 1e-7 a step, amplified by 30 steps of a normalised optimizer
    assert parts.curve()[1][1] == pytest.approx(whole.curve()[1][1], abs=1e-5)
    assert parts.final() == pytest.approx(whole.final(), abs=1e-3)


def test_kill_9_then_resume_by_command_line(data, tmp_path):
    """A real process, killed with SIGKILL at whatever it is doing; `latebloom resume` ends bit for bit the same."""
    plan = tiny_plan(steps=60, tau=30)
    write_plan(plan, tmp_path / "plan.json")
    options = ["--data", str(data), "--evals", "6", "--eval-tokens", "256", "--checkpoint-every", "5", "--repeat-data"]
    command = [sys.executable, "-m", "latebloom", "train", str(tmp_path / "plan.json"), *options, "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = TrainConfig(evals=6, eval_tokens=256, checkpoint_every=5, repeat_data=True, quiet=True)
    final = train(plan, data=data, out=whole, config=settings).final()
    process = subprocess.Popen([*command, "--out", str(cut)], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(cut.glob("checkpoints/step-*0-stage-*[01]")):
        time.sleep(0.01)
    while time.monotonic() < deadline and len(list(cut.glob("checkpoints/step-*"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(
        [sys.executable, "-m", "latebloom", "resume", str(cut), "--json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["final_loss"] == final
    same(whole, cut)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_says_so(number, code, data, tmp_path, monkeypatch):
    real = Trainee.update

    def update(self, **options):
        if self.step == 10:
            os.kill(os.getpid(), number)
        return real(self, **options)

    plan = plan_of()
    with monkeypatch.context() as patch:
        patch.setattr(Trainee, "update", update)
        with pytest.raises(Interrupted) as stop:
            train(plan, data=data, out=tmp_path / "cut", config=CONFIG)
    assert stop.value.code == code
    assert RunDirectory(tmp_path / "cut").newest_checkpoint()[0].name == "step-00000011-stage-0"
    resume(tmp_path / "cut")
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    same(tmp_path / "whole", tmp_path / "cut")


def test_torn_and_changed_checkpoints_are_passed_over(data, tmp_path, monkeypatch):
    plan, out = plan_of(), tmp_path / "cut"
    with monkeypatch.context() as patch:
        stop_after(patch, 16)
        with pytest.raises(Stop):
            train(plan, data=data, out=out, config=CONFIG)
    paths = RunDirectory(out).checkpoints()
    assert [p.name for p in paths] == ["step-00000015-stage-0", "step-00000015-stage-1"]
    blob = bytearray((paths[1] / "model.safetensors").read_bytes())
    blob[-5] ^= 1
    (paths[1] / "model.safetensors").write_bytes(bytes(blob))
    with pytest.raises(InputError, match=r"model\.safetensors = .* is not the manifest's SHA-256"):
        checkpoint.verify(paths[1])
    (out / "checkpoints" / ".step-00000016-stage-1.part").mkdir()
    (out / "checkpoints" / "step-00000017-stage-1").mkdir()
    found, passed = RunDirectory(out).newest_checkpoint()
    assert found == paths[0]
    assert len(passed) == 2
    resume(out)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    same(tmp_path / "whole", out)


def test_verify_says_what_a_checkpoint_is(data, tmp_path):
    train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    path = RunDirectory(tmp_path / "run").checkpoints()[-1]
    code = (
        "import sys; from latebloom.train.run.checkpoint import verify\n"
        "m = verify(sys.argv[1]); print(m.step, m.depth, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["30", "3", "False"]
    (path / "optimizer.safetensors").unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors = None: is missing"):
        checkpoint.verify(path)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="has no complete checkpoint"):
        resume(tmp_path / "run")


def test_not_a_number_stops_before_the_update(data, tmp_path, monkeypatch):
    real = Trainee.update

    def update(self, **options):
        if self.step == 9:
            with torch.no_grad():
                self.model.norm.weight[0] = float("nan")
        return real(self, **options)

    monkeypatch.setattr(Trainee, "update", update)
    with pytest.raises(NonFiniteLoss, match=r"step 9: loss nan.* on batch 9 of seed 0; the update was not made"):
        train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    kept = weights(tmp_path / "run")
    assert all(torch.isfinite(t).all() for t in kept.values())
    assert RunDirectory(tmp_path / "run").newest_checkpoint()[0].name == "step-00000007-stage-0"


def test_weights_that_are_not_finite_are_never_saved(finished, tmp_path):
    """After the last update nothing looks at them but the checkpoint; the good ones stay."""
    out = shutil.copytree(finished, tmp_path / "run")
    before = RunDirectory(out).checkpoints()
    state, tensors, moments = checkpoint.load(before[-1])
    digest = checkpoint.manifest_of(before[-1]).data_digest
    for value in (float("nan"), float("inf")):
        tensors[NORM][3] = value
        with pytest.raises(checkpoint.NonFiniteWeights, match=rf"step 30: {NORM} is not finite; no checkpoint is writ"):
            checkpoint.save(
                out / "checkpoints", plan=plan_of("adamw"), data_digest=digest, state=state, model=tensors,
                optimizer=moments, keep=1,
            )  # fmt: skip
    assert RunDirectory(out).checkpoints() == before
    assert resume(out).final() == read_record(finished).final()


def test_what_was_just_saved_is_kept_whatever_lies_beside_it(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    _, last = RunDirectory(out).checkpoints()
    state, tensors, moments = checkpoint.load(last)
    (out / "checkpoints" / "step-00000040-stage-1").mkdir()  # of another run, later than all of this one
    digest = checkpoint.manifest_of(last).data_digest
    for keep, left in ((2, [30, 40]), (1, [30])):
        checkpoint.save(
            out / "checkpoints", plan=plan_of("adamw"), data_digest=digest, state=state, model=tensors,
            optimizer=moments, keep=keep,
        )  # fmt: skip
        assert [int(path.name[5:13]) for path in RunDirectory(out).checkpoints()] == left


def test_a_checkpoint_that_cannot_be_removed_does_not_end_the_run(data, tmp_path, monkeypatch):
    """Another user's, say; a link is left alone, and is no checkpoint."""
    out = tmp_path / "run"
    (tmp_path / "else").mkdir()
    real = checkpoint.save

    def save(*args, **options):
        path = real(*args, **options)
        link = path.parent / "step-00000003-stage-0"
        if not link.is_symlink():
            link.symlink_to(tmp_path / "else")
        return path

    monkeypatch.setattr(checkpoint, "save", save)
    train(plan_of(), data=data, out=out, config=CONFIG)
    assert [int(path.name[5:13]) for path in RunDirectory(out).checkpoints()] == [28, 30]
    assert (tmp_path / "else").is_dir()


@pytest.mark.parametrize("stop_at", ["header", "validate", "save"])
def test_stopped_before_the_first_checkpoint_train_begins_anew(stop_at, data, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Stop

    plan, out = plan_of(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(*((checkpoint, "save") if stop_at == "save" else (Trainee, "validate")), stop)
        with pytest.raises(Stop):
            train(plan, data=data, out=out, config=CONFIG)
    if stop_at == "header":
        (out / "record.jsonl").write_bytes((out / "record.jsonl").read_bytes()[:50])
    with pytest.raises(InputError, match="was stopped before its first checkpoint; start it again as it was started"):
        resume(out)
    train(plan, data=data, out=out, config=CONFIG)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    same(tmp_path / "whole", out)


def test_checkpoints_without_a_record_do_not_win_over_a_new_run(finished, data, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "record.jsonl").unlink()
    with pytest.raises(InputError, match="holds checkpoints of an earlier run, with which this one would go on"):
        train(plan_of("adamw"), data=data, out=out, config=CONFIG.replace(seed=1))
    shutil.rmtree(out / "checkpoints")
    assert train(plan_of("adamw"), data=data, out=out, config=CONFIG).final() == read_record(finished).final()


@pytest.mark.parametrize("name", ["lock", "record.jsonl", "checkpoints", "plan.json.part"])
def test_links_are_not_followed(name, finished, tmp_path):
    out, theirs = shutil.copytree(finished, tmp_path / "run"), tmp_path / "theirs"
    theirs.write_text("precious")
    if (out / name).is_dir():
        shutil.move(out / name, tmp_path / "elsewhere")
        (out / name).symlink_to(tmp_path / "elsewhere")
    else:
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(theirs)
    with pytest.raises(InputError, match=rf"{name}'?: .*is a link to"), RunDirectory(out).lock():
        pass
    assert theirs.read_text() == "precious"


def test_a_lock_that_says_something_else_is_a_line(tmp_path):
    with RunDirectory(tmp_path / "run").lock():
        (tmp_path / "run" / "lock").write_text("[1, 2")
        with (
            pytest.raises(InputError, match="is in use by process None on None"),
            RunDirectory(tmp_path / "run").lock(),
        ):
            pass


def vouch(path, **changes):
    """Edit a checkpoint's manifest, and have it vouch for the files that lie there."""
    manifest = checkpoint.manifest_of(path)
    entries = tuple(
        entry.replace(bytes=(path / entry.name).stat().st_size, sha256=file_sha256(path / entry.name))
        for entry in manifest.files
    )
    (path / "manifest.json").write_text(manifest.replace(files=entries, **changes).to_json())


@pytest.mark.parametrize(
    ("state", "manifest", "message"),
    [
        ({"step": 29}, {}, "state.json = 'step 29, stage 1': is not the manifest's step 30, stage 1"),
        ({"step": 29}, {"step": 29}, "holds step 29, stage 1; give it the name that it was written under"),
        ({"step": 14}, {"step": 14}, "manifest.json = 'step 14, stage 1': does not exist in the plan beside it"),
        ({"step": 31}, {"step": 31}, "manifest.json = 'step 31, stage 1': does not exist in the plan beside it"),
        ({"stage": 2}, {"stage": 2}, "manifest.json = 'step 30, stage 2': does not exist in the plan beside it"),
        ({}, {"depth": 2}, r"\$\.depth = 2: is not the plan's depth of stage 1, 3"),
    ],
)  # fmt: skip
def test_a_manifest_of_another_moment_is_refused(state, manifest, message, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    path = RunDirectory(out).checkpoints()[-1]
    held = checkpoint.load(path)[0]
    (path / "state.json").write_text(held.replace(**state).to_json())
    vouch(path, **manifest)
    with pytest.raises(InputError, match=message):
        checkpoint.verify(path)
    assert RunDirectory(out).newest_checkpoint()[0] == RunDirectory(out).checkpoints()[0]  # the one before serves


def test_weights_of_another_depth_are_one_line(finished, tmp_path):
    from safetensors.torch import load_file, save_file

    out = shutil.copytree(finished, tmp_path / "run")
    path = RunDirectory(out).checkpoints()[-1]
    tensors = load_file(path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.startswith("blocks.2.")}, path / "model.safetensors")
    vouch(path)
    with pytest.raises(InputError, match=r"model\.safetensors = 2: blocks; the manifest says 3"):
        resume(out)


def test_refusals_leave_everything_as_it_was(data, tmp_path):
    plan, out = plan_of(), tmp_path / "run"
    with pytest.raises(InputError, match="is not a directory of token shards"):
        train(plan, data=tmp_path / "none", out=out, config=CONFIG)
    with pytest.raises(InputError, match="does not divide the batch of 4 sequences"):
        train(plan, data=data, out=out, config=CONFIG.replace(microbatch=3))
    with pytest.raises(InputError, match="--device = 'gpu9': is not usable here"):
        train(plan, data=data, out=out, config=CONFIG.replace(device="gpu9"))
    huge = plan.replace(model=plan.model.replace(width=2**22))
    with pytest.raises(InputError, match="plan = 'full depth': takes .* GiB for its states alone; cpu has"):
        train(huge, data=data, out=out, config=CONFIG)
    assert not out.exists()
    train(plan, data=data, out=out, config=CONFIG)
    before = (out / "record.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds a run already; `latebloom resume"):
        train(plan, data=data, out=out, config=CONFIG)
    write_plan(plan.replace(name="other"), out / "plan.json")
    with pytest.raises(InputError, match=r"plan\.json: \$\.name = 'other': was 'tiny' when the run began"):
        resume(out)
    assert (out / "record.jsonl").read_bytes() == before


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run of AdamW; tests change copies of it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train(plan_of("adamw"), data=data, out=out, config=CONFIG)
    return out


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("dtype", "bfloat16"), ("log_every", 5)])
def test_edited_settings_that_decide_numbers_are_refused(field, value, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    file = RunDirectory(out).config_file
    file.write_text(CONFIG.replace(**{field: value}).to_json())
    was = getattr(CONFIG, field)
    with pytest.raises(InputError, match=rf"config\.json: \$\.{field} = {value!r}: was {was!r} when the run began"):
        resume(out)
    file.write_text(CONFIG.replace(device="cpu", microbatch=2, keep_checkpoints=5, tracker="none").to_json())
    assert resume(out).final() == read_record(finished).final()


def change_optimizer_state(path, change):
    """Edit a checkpoint's optimizer state, and have its manifest vouch for it."""
    from safetensors.torch import load_file, save_file

    file = path / "optimizer.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    vouch(path)


NORM = "blocks.0.norm1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [t.pop(k) for k in list(t) if k.startswith(f"{NORM}|")], f"optimizer state = '{NORM}': is missing"),
        (lambda t: t.pop(f"{NORM}|exp_avg"), f"optimizer state of {NORM} = 'exp_avg': is missing"),
        (lambda t: t.update({f"{NORM}|exp_avg": torch.zeros(5)}), r"has the shape \(5,\), the model \(32,\)"),
        (lambda t: t.update({"other|exp_avg": torch.zeros(5)}), "optimizer state = 'other': is not of this model"),
    ],
    ids=["parameter", "moment", "shape", "unknown"],
)
def test_a_state_that_does_not_fit_is_refused(change, message, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    path = RunDirectory(out).checkpoints()[-1]
    change_optimizer_state(path, change)
    with pytest.raises(InputError, match=message) as refusal:
        resume(out)
    assert str(refusal.value).startswith(str(path))


def test_a_missing_weight_is_one_line(finished):
    trainee = make_trainee(plan_of("adamw"), Path((finished / "data.txt").read_text().strip()), CONFIG)
    state, tensors, moments = checkpoint.load(RunDirectory(finished).newest_checkpoint()[0])
    del tensors[NORM]
    with pytest.raises(InputError, match=rf"^weights = '{NORM}': is missing; use another checkpoint$"):
        trainee.load(step=state.step, stage=state.stage, weights=tensors, optimizer_state=moments)


def test_a_checkpoint_is_replaced_and_never_gone(finished, tmp_path, monkeypatch):
    """Killed between putting the old one aside and naming the new one, with no other checkpoint at hand."""
    out = shutil.copytree(finished, tmp_path / "run")
    first, last = RunDirectory(out).checkpoints()
    shutil.rmtree(first)
    state, tensors, moments = checkpoint.load(last)
    rename, calls = Path.rename, []

    def killed(self, target):
        calls.append(self.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    def save():
        digest = checkpoint.manifest_of(RunDirectory(out).newest_checkpoint()[0]).data_digest
        plan = RunDirectory(out).plan()
        checkpoint.save(
            out / "checkpoints", plan=plan, data_digest=digest, state=state, model=tensors, optimizer=moments, keep=1
        )

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save()
    assert not last.exists()
    assert resume(out).final() == read_record(finished).final()
    save()
    assert [path.name for path in last.parent.iterdir()] == [last.name]


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with RunDirectory(tmp_path / "run").lock(), RunDirectory(tmp_path / "run").lock():
        pass


def test_data_that_nobody_names_are_asked_for(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    RunDirectory(out).data_file.unlink()
    with pytest.raises(InputError, match=r"--data = None: is not known: the run has no data\.txt"):
        resume(out)


def test_one_run_directory_one_process(tmp_path):
    with RunDirectory(tmp_path / "run").lock():
        code = (
            "import sys; from latebloom.train.run.directory import RunDirectory\n"
            "with RunDirectory(sys.argv[1]).lock(): pass"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        second = subprocess.run(command, capture_output=True, text=True)
        assert f"is in use by process {os.getpid()}" in second.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_disk_full_is_one_line_and_the_old_checkpoint_stays(data, tmp_path, monkeypatch):
    from safetensors import torch as st

    train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG)
    before = RunDirectory(tmp_path / "run").checkpoints()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(st, "save_file", full)
    asked, real = [], shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or real(path))
    state = checkpoint.State(step=40, stage=1, wall_s=0.0, train_loss_sum=0.0, train_loss_steps=0)
    with pytest.raises(InputError, match=r"No space left on device\): 4 bytes needed, [\d,]+ free"):
        checkpoint.save(
            tmp_path / "run" / "checkpoints", plan=plan_of(), data_digest="", state=state, model={"w": torch.zeros(1)},
            optimizer={},
        )  # fmt: skip
    assert asked == [tmp_path / "run" / "checkpoints"]  # which may be a link to another disk
    assert RunDirectory(tmp_path / "run").checkpoints() == before
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert Path(before[-1]).exists()


def command(*args, before=""):
    """(exit code, standard error) of a command in a shell of its own."""
    words = " ".join(map(str, args))
    done = subprocess.run(
        ["bash", "-c", f"{before} {sys.executable} -m latebloom {words}"], capture_output=True, text=True
    )
    return done.returncode, done.stderr


def test_a_full_disk_and_a_diverged_run_are_one_line_each(data, tmp_path):
    write_plan(tiny_plan(steps=30, tau=15), tmp_path / "plan.json")
    write_plan(tiny_plan(steps=30, tau=15, peak_lr=1e20), tmp_path / "wild.json")
    rest = ("--data", data, "--repeat-data", "--quiet", "--threads", 1)
    code, err = command("train", tmp_path / "plan.json", *rest, "--out", tmp_path / "a", before="ulimit -f 40;")
    assert code == 2
    assert err.count("\n") == 1
    assert "could not be written" in err
    assert not list((tmp_path / "a" / "checkpoints").iterdir())
    code, err = command("train", tmp_path / "wild.json", *rest, "--out", tmp_path / "b")
    assert code == 1
    assert err.count("\n") == 1
    assert "the update was not made" in err
