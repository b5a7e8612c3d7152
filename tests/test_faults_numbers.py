"""Extreme numbers: right or refused, and never a weight that is no number."""

import numpy as np
import pytest
import torch

from latebloom.theory import InputError, Optimizer, Plan, Stage, read_record, wsd
from latebloom.theory.plan import GPT2Shape
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, train
from latebloom.train.run.trainee import NonFiniteLoss, Trainee
from tests.helpers import tiny_plan

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=64, log_every=1, checkpoint_every=1, keep_checkpoints=99, repeat_data=True,
    device="cpu",
)  # fmt: skip
OPTIMIZERS = ("muon_nsgd", "muon_adamw", "adamw", "sgd")


def plan_of(*, steps=4, tau=2, vocab_size=256, context=16, peak_lr=0.02, optimizer="muon_nsgd", **stage):
    shape = GPT2Shape(name="tiny", width=16, heads=2, vocab_size=vocab_size, context=context)
    stages = [Stage(start_step=0, depth=1)] + ([] if tau is None else [Stage(start_step=tau, depth=3, **stage)])
    return Plan(
        name="tiny", model=shape, batch_tokens=4 * context, schedule=wsd(steps=steps, peak_lr=peak_lr),
        stages=tuple(stages), optimizer=Optimizer(name=optimizer),
    )  # fmt: skip


def shards(folder, tokens):
    folder.mkdir()
    for split in ("train", "val"):
        np.resize(np.asarray(tokens, dtype="<u2"), 4000).tofile(folder / f"{split}.bin")
    return folder


def well(out):
    """Whether every weight and state of every checkpoint of a run is a number."""
    for path in RunDirectory(out).checkpoints():
        _, weights, moments = checkpoint.load(path)
        held = [*weights.values(), *(tensor for state in moments.values() for tensor in state.values())]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in held):
            return False
    return True


def trained(plan, data, out, config=CONFIG):
    """The losses of a run, or its refusal; whatever happened, what was saved is well."""
    try:
        train(plan, data=data, out=out, config=config)
        return read_record(out).curve()[1]
    except (InputError, NonFiniteLoss, checkpoint.NonFiniteWeights) as error:
        assert "\n" not in str(error)
        return type(error).__name__
    finally:
        assert well(out)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30, 1e38])
def test_extreme_gradients(factor, optimizer, data, tmp_path, monkeypatch):
    """A loss times a number; its gradients are that number times theirs, in float32."""
    real = Trainee._loss
    monkeypatch.setattr(Trainee, "_loss", lambda self, *batch: real(self, *batch) * factor)
    ended = trained(plan_of(optimizer=optimizer), data, tmp_path / "run")
    if factor <= 1:
        assert np.all(np.isfinite(ended)) and ended[-1] <= factor * 10
    else:
        assert isinstance(ended, str) or np.all(np.isfinite(ended))


CASES = {
    "constant corpus": (dict(), [7]),
    "vocabulary of 1": (dict(vocab_size=1), [0]),
    "vocabulary of 2": (dict(vocab_size=2), [0, 1]),
    "context of 1": (dict(context=1), [1, 2, 3]),
    "horizon of 1": (dict(steps=1, tau=None), [1, 2, 3]),
    "horizon of 2, growing between": (dict(steps=2, tau=1), [1, 2, 3]),
    "growing after the first step": (dict(tau=1), [1, 2, 3]),
    "growing before the last step": (dict(tau=3), [1, 2, 3]),
    "warmed after one step": (dict(tau=1, optimizer_state="keep_warmed", optimizer="adamw"), [1, 2, 3]),
    "a tiny learning rate": (dict(peak_lr=1e-30), [1, 2, 3]),
    "constant corpus, AdamW": (dict(optimizer="adamw"), [7]),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_extreme_numbers_are_right_or_refused(case, dtype, tmp_path):
    options, tokens = CASES[case]
    plan = plan_of(**options)
    losses = trained(plan, shards(tmp_path / "data", tokens), tmp_path / "run", CONFIG.replace(dtype=dtype))
    assert not isinstance(losses, str), losses
    assert np.all(np.isfinite(losses)) and np.all(losses >= 0)
    if case == "vocabulary of 1":
        assert np.all(losses == 0)
    elif case == "a tiny learning rate":
        assert losses[-1] == pytest.approx(losses[0], abs=0.05)  # new blocks alone change it


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("peak_lr", [1e3, 1e20, 1e29])
def test_a_huge_learning_rate_ends_in_one_line(peak_lr, optimizer, data, tmp_path):
    ended = trained(plan_of(peak_lr=peak_lr, optimizer=optimizer), data, tmp_path / "run")
    assert isinstance(ended, str) or np.all(np.isfinite(ended))


def test_a_learning_rate_of_zero_and_growth_at_the_ends_are_refused():
    with pytest.raises(InputError, match="peak_lr = 0"):
        plan_of(peak_lr=0.0)
    for tau in (0, 4):
        with pytest.raises(InputError, match="start_step"):
            plan_of(tau=tau)
    with pytest.raises(InputError, match="steps = 0"):
        tiny_plan(steps=0, tau=None)
