"""What a run can be told: compile, bfloat16, recomputation, state policies, online expansion, diagnostics, trackers."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from latebloom.theory import InputError, Optimizer, Stage, read_plan, read_record
from latebloom.theory.cost import flops_per_token
from latebloom.theory.plan import BlockVariant
from latebloom.train.model.transformer import GPT2
from latebloom.train.optim.state import named_state
from latebloom.train.run import checkpoint, loop, measure, trainee
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, make_trainee, resume, train
from latebloom.train.run.measure import graphs_compiled
from latebloom.train.run.trainee import Trainee
from tests.helpers import COMPILES, tiny_plan, tiny_shape

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=256, log_every=4, checkpoint_every=50, repeat_data=True, device="cpu"
)


def plan_of(*, steps=12, tau=6, small=1, full=3, optimizer="muon_nsgd", **stage):
    plan = tiny_plan(steps=steps, tau=tau, small=small, full=full)
    stages = (plan.stages[0], Stage(start_step=tau, depth=full, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=optimizer))


def final_weights(out):
    return checkpoint.load(RunDirectory(out).newest_checkpoint()[0])[1]


@COMPILES
@pytest.mark.parametrize("small", [0, 1])
def test_compiled_blocks_make_one_graph_and_growth_none(small, data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainee, "COMPILE_BACKEND", "aot_eager")  # the same graphs, without a C++ compiler's minutes
    torch._dynamo.reset()
    graphs = []
    real = Trainee.update

    def update(self, **options):
        before = graphs_compiled()
        value = real(self, **options)
        graphs.append((self.model.depth, graphs_compiled() - before))
        return value

    monkeypatch.setattr(Trainee, "update", update)
    record = train(plan_of(small=small), data=data, out=tmp_path / "run", config=CONFIG.replace(compile=True))
    made = {depth: sum(n for d, n in graphs if d == depth) for depth in (small, 3)}
    assert made == ({0: 0, 3: 1} if small == 0 else {1: 1, 3: 0})
    monkeypatch.undo()
    eager = train(plan_of(small=small), data=data, out=tmp_path / "eager", config=CONFIG)
    assert record.final() == pytest.approx(eager.final(), abs=1e-3)  # compiled kernels round differently


@COMPILES
def test_a_run_after_another_of_other_sizes_has_a_graph_of_its_own_sizes(data, tmp_path, monkeypatch):
    """In one process, as in a notebook; left to itself torch makes the second graph one for any size, and slower."""
    sizes = []

    def backend(graph, inputs):
        sizes.extend(size for t in inputs if isinstance(t, torch.Tensor) for size in t.shape)
        assert all(isinstance(t, torch.Tensor) for t in inputs)
        return graph.forward

    monkeypatch.setattr(trainee, "COMPILE_BACKEND", backend)
    torch._dynamo.reset()
    for microbatch in (4, 2):
        config = CONFIG.replace(compile=True, microbatch=microbatch)
        train(plan_of(steps=2, tau=1), data=data, out=tmp_path / str(microbatch), config=config)
        assert microbatch in sizes and {type(size) for size in sizes} == {int}


@COMPILES
def test_a_second_graph_is_said_at_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainee, "COMPILE_BACKEND", "aot_eager")
    counts = iter(range(0, 100, 1))
    monkeypatch.setattr(measure, "graphs_compiled", lambda: next(counts))
    with pytest.raises(RuntimeError, match="2 block graphs were compiled instead of one"):
        train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG.replace(compile=True))


@COMPILES
@pytest.mark.parametrize("compiled", [False, True])
def test_what_blocks_keep_changes_nothing(compiled, data, tmp_path, monkeypatch):
    """Through growth, to the last bit; and compiled blocks are one graph still, growth making none."""
    monkeypatch.setattr(trainee, "COMPILE_BACKEND", "aot_eager")
    config, weights = CONFIG.replace(compile=compiled, eval_tokens=64), {}
    for mode in ("keep", "selective", "recompute"):
        torch._dynamo.reset()
        before = graphs_compiled()
        train(plan_of(), data=data, out=tmp_path / mode, config=config.replace(activations=mode))
        assert graphs_compiled() - before == compiled
        weights[mode] = final_weights(tmp_path / mode)
    for mode in ("selective", "recompute"):
        assert all(torch.equal(weights["keep"][k], weights[mode][k]) for k in weights["keep"]), mode


def test_bfloat16_keeps_float32_masters_and_comes_close(data, tmp_path):
    record = train(plan_of(), data=data, out=tmp_path / "half", config=CONFIG.replace(dtype="bfloat16"))
    full = train(plan_of(), data=data, out=tmp_path / "full", config=CONFIG)
    assert {t.dtype for t in final_weights(tmp_path / "half").values()} == {torch.float32}
    assert record.final() == pytest.approx(full.final(), abs=0.05)
    assert record.final() != full.final()


@pytest.mark.parametrize("optimizer", ["muon_nsgd", "adamw"])
def test_warmed_state_moves_no_weight_and_leaves_old_state_alone(optimizer, data, tmp_path, monkeypatch):
    seen = {}
    real = Trainee.warm

    def warm(self, old):
        before = {k: v.clone() for k, v in self.model.state_dict().items()}
        held = {n: {k: v.clone() for k, v in h.items()} for n, h in named_state(self.optimizer).items()}
        real(self, old)
        after = named_state(self.optimizer)
        assert all(torch.equal(v, before[k]) for k, v in self.model.state_dict().items())
        for name in after:
            if name in old:
                assert all(torch.equal(after[name][k], held[name][k]) for k in held[name])
            else:
                assert held[name] == {}
        seen.update({n: {k: v.clone() for k, v in h.items()} for n, h in after.items() if n not in old})
        assert self.optimizer.param_groups[0]["lr"] == pytest.approx(self.plan.schedule.lr(self.step))

    monkeypatch.setattr(Trainee, "warm", warm)
    plan = plan_of(steps=20, tau=15, optimizer=optimizer, optimizer_state="keep_warmed")
    train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert len(seen) == 2 * 12
    key = "momentum" if optimizer == "muon_nsgd" else "exp_avg"
    assert all(float(h[key].norm()) > 0 for n, h in seen.items() if "weight" in n)
    if optimizer == "adamw":
        assert {int(h["step"]) for h in seen.values()} == {trainee.WARMING}


@pytest.mark.parametrize("policy", ["keep_copied", "keep_warmed"])
def test_state_policies_resume_bitwise(policy, data, tmp_path):
    plan = plan_of(init="copy", optimizer="adamw", optimizer_state=policy)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    train(plan, data=data, out=tmp_path / "cut", config=CONFIG.replace(checkpoint_every=3))
    for path in RunDirectory(tmp_path / "cut").checkpoints()[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    resume(tmp_path / "cut")
    a, b = final_weights(tmp_path / "whole"), final_weights(tmp_path / "cut")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_several_expansions_of_llama_blocks(data, tmp_path):
    """1 -> 2 -> 4 with another operator each time; every stage trains."""
    plan = tiny_plan(steps=30, tau=None, full=1)
    shape = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48, qk_norm=True))
    stages = (
        Stage(start_step=0, depth=1), Stage(start_step=10, depth=2, init="copy_zero_last", order="inter"),
        Stage(start_step=20, depth=4, init="zero_last", order="first"),
    )  # fmt: skip
    record = train(plan.replace(model=shape, stages=stages), data=data, out=tmp_path / "run", config=CONFIG)
    _, after = record.curve(metric="loss_after_growth")
    step, loss = record.curve()
    before = [loss[list(step).index(s)] for s in (10, 20)]
    assert after == pytest.approx(before, rel=1e-6)  # both keep the function; the sums are taken in another order
    assert loss[-1] < min(before)
    assert sorted(set(record.columns["depth"])) == [1, 2, 4]


def test_an_expansion_that_would_never_train_is_refused_before_the_first_step(data, tmp_path):
    shape = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48, qk_norm=True))
    plan = plan_of(init="copy_zero_norm").replace(model=shape)
    with pytest.raises(InputError, match="init = 'copy_zero_norm': leaves the new MLPs of the family llama without"):
        train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert not (tmp_path / "run").exists()


def test_online_expansion_is_the_plan_that_was_executed(data, tmp_path):
    online = pytest.importorskip("latebloom.theory.online_expansion")
    plan = plan_of(steps=30, tau=28)
    rule = online.AutoExpansion(schedule=plan.schedule, mixing_area=12 * plan.schedule.peak)
    record = train(plan, data=data, out=tmp_path / "run", config=CONFIG, auto=rule)
    tau = record.plan.stages[1].start_step
    remaining = plan.schedule.total_area - float(plan.schedule.area(tau))
    assert remaining <= 12 * plan.schedule.peak < remaining + plan.schedule.peak
    assert tau < 28
    assert read_plan(tmp_path / "run" / "plan.json") == record.plan
    assert read_plan(tmp_path / "run" / "planned.json") == plan
    train(record.plan, data=data, out=tmp_path / "known", config=CONFIG)
    a, b = final_weights(tmp_path / "run"), final_weights(tmp_path / "known")
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stop_in", ["save", "write_plan", "change_plan"])
def test_a_run_killed_while_it_moves_its_expansion_goes_on(stop_in, data, tmp_path, monkeypatch):
    online = pytest.importorskip("latebloom.theory.online_expansion")
    plan = plan_of(steps=30, tau=28)
    rule = online.AutoExpansion(schedule=plan.schedule, mixing_area=12 * plan.schedule.peak)
    train(plan, data=data, out=tmp_path / "whole", config=CONFIG, auto=rule)
    real = loop._Run.move_expansion

    def move_expansion(self):
        place = {"save": (checkpoint, "save"), "write_plan": (loop, "write_plan")}.get(stop_in)
        place = place or (type(self.measure.writer), "change_plan")
        original, calls = getattr(*place), []

        def die(*args, **kwargs):
            calls.append(1)
            if stop_in == "write_plan" and len(calls) == 1:
                return original(*args, **kwargs)
            raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(*place, die)
            return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "move_expansion", move_expansion)
        with pytest.raises(InterruptedError):
            train(plan, data=data, out=tmp_path / "run", config=CONFIG, auto=rule)
    resume(tmp_path / "run")
    a, b = final_weights(tmp_path / "whole"), final_weights(tmp_path / "run")
    assert all(torch.equal(a[k], b[k]) for k in a)
    whole, cut = (read_record(tmp_path / name) for name in ("whole", "run"))
    assert whole.plan == cut.plan
    assert read_plan(tmp_path / "run" / "plan.json") == cut.plan


def test_diagnostics_and_utilisation(data, tmp_path):
    plan = plan_of()
    config = CONFIG.replace(diagnostics=True, peak_tflops=0.05)
    record = train(plan, data=data, out=tmp_path / "run", config=config)
    step, rms = record.curve(split="train", metric="update_rms_blocks_matrices")
    assert step.tolist() == [4, 8, 12]
    lr = np.array([plan.schedule.lr(int(s) - 1) for s in step])
    ratio = rms / lr  # Muon: sqrt(fan_out/fan_in) polar, RMS about 1/sqrt(fan_in) whatever the gradient
    assert ratio.max() / ratio.min() < 1.2
    assert ratio.mean() == pytest.approx(1 / np.sqrt(32), rel=0.25)
    steps, speed = record.curve(split="train", metric="tokens_per_s")
    _, mfu = record.curve(split="train", metric="mfu")
    assert steps.tolist() == [6, 12]
    per_token = np.array([flops_per_token(plan.model, d) for d in (1, 3)])
    assert mfu == pytest.approx(speed * per_token / 0.05e12)


def test_starting_from_hugging_face_weights(data, tmp_path):
    from safetensors.torch import save_file

    from latebloom.train.model.hf import hf_config, hf_state

    given = GPT2(tiny_shape(), 1, seed=7)
    (tmp_path / "hf").mkdir()
    save_file(
        {k: v.contiguous() for k, v in hf_state(given.state_dict(), given.shape).items()},
        tmp_path / "hf/model.safetensors",
    )
    (tmp_path / "hf/config.json").write_text(json.dumps(hf_config(given.shape, 1)))
    config = CONFIG.replace(init_from=str(tmp_path / "hf"))
    train(plan_of(), data=data, out=tmp_path / "run", config=config)
    first = checkpoint.load(RunDirectory(tmp_path / "run").checkpoints()[0])[1]
    assert set(first) >= set(given.state_dict())
    begun = make_trainee(plan_of(), data, config)
    begun.begin()
    assert all(torch.equal(v, given.state_dict()[k]) for k, v in begun.weights().items())
    with pytest.raises(InputError, match="not the plan's first stage"):
        train(plan_of(small=2), data=data, out=tmp_path / "y", config=config)


def test_tensorboard_holds_the_rows(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = train(plan_of(), data=data, out=tmp_path / "run", config=CONFIG.replace(tracker="tensorboard"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = {event.step: event.value for event in events.Scalars("val/loss")}
    assert shown == pytest.approx(dict(zip(*record.curve(), strict=True)), rel=1e-6)
    rows = record.select(split="val", metric="loss")
    for name, column in (("tokens", "tokens"), ("flops", "flops"), ("depth", "depth"), ("stage", "phase")):
        spent = {e.step: e.value for e in reversed(events.Scalars(f"spent/{name}"))}  # before it grew
        assert [spent[step] for step in rows["step"]] == pytest.approx(rows[column], rel=1e-6)
    per_token = [e.value / np.log(2) / shown[e.step] for e in events.Scalars("val/bits_per_byte")]
    assert len(per_token) == len(rows["step"]) and np.ptp(per_token) < 1e-6


def test_samples_bits_and_time_left_are_shown_and_change_nothing(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("latebloom.train.run.progress.PLAIN_EVERY_S", 0.0)
    told = CONFIG.replace(quiet=False, prompt="late")
    shown = train(plan_of(), data=data, out=tmp_path / "shown", config=told)
    lines = capsys.readouterr().err.splitlines()
    steps = shown.select(split="val", metric="loss")["step"]
    begins = tuple(f"step {step}: {quote}late" for step in steps for quote in "'\"")
    samples = [line for line in lines if line.startswith(begins)]
    assert len(samples) == len(steps)
    shown_text = " ".join(lines)
    assert "bits a byte" in shown_text and " seconds left" in shown_text  # lines are folded
    quiet = train(plan_of(), data=data, out=tmp_path / "quiet", config=CONFIG)
    assert np.array_equal(shown.curve(), quiet.curve())
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("train.bin", "val.bin"):
        (bare / name).symlink_to(data / name)
    with pytest.raises(InputError, match="--prompt = 'late': needs the data's tokenizer.json"):
        train(plan_of(), data=bare, out=tmp_path / "other", config=told)
    assert not (tmp_path / "other").exists()


def test_tensorboard_shows_a_step_once_after_a_crash(data, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    real, config = Trainee.update, CONFIG.replace(tracker="tensorboard", log_every=1, checkpoint_every=4)

    def update(self, **options):
        if self.step == 11:
            raise InterruptedError
        return real(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainee, "update", update)
        with pytest.raises(InterruptedError):
            train(plan_of(), data=data, out=tmp_path / "run", config=config)
    record = resume(tmp_path / "run")  # from step 8
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    step, loss = record.curve(split="train")
    shown = events.Scalars("train/loss")
    assert [event.step for event in shown] == step.tolist()
    assert [event.value for event in shown] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services_get_each_step_once(name, data, tmp_path, monkeypatch):
    """Against a stand-in with their three functions: the accounts are other people's."""
    calls = []
    fake = types.SimpleNamespace(
        init=lambda **k: calls.append(("init", k)), log=lambda d, step: calls.append((step, d)),
        finish=lambda: calls.append(("finish", {})),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, name, fake)
    plan = plan_of()
    train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(tracker=name))
    assert calls[0][0] == "init"
    assert calls[0][1]["config"]["plan"] == plan.digest
    steps = [step for step, _ in calls[1:-1]]
    assert steps == sorted(set(steps))
    assert "val/loss" in calls[-2][1]
    began = calls[0][1]
    calls.clear()
    resume(tmp_path / "run")  # in the service's run, not a second one
    assert calls[0] == ("init", began) and began["resume"] == "allow"
    calls.clear()
    train(plan, data=data, out=tmp_path / "again" / "run", config=CONFIG.replace(tracker=name))
    assert calls[0][1] != began  # another run of the same name
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"tracker = '{name}': is not installed"):
        train(plan, data=data, out=tmp_path / "other", config=CONFIG.replace(tracker=name))
