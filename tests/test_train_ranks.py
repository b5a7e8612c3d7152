"""Two ranks against one: the same run bit for bit, what they say to each other, their checkpoints, and faults."""

import os
import signal
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latebloom.theory import Optimizer, Stage, read_record
from latebloom.theory.plan import BlockVariant
from latebloom.train.ranks import joined
from latebloom.train.run import checkpoint
from latebloom.train.run.loop import TrainConfig, make_trainee, resume, train
from latebloom.train.run.trainee import Trainee
from tests.helpers import tiny_plan
from tests.ranks import on_ranks

# A micro-batch is half of the batch of four sequences: two ranks sum what one accumulates, in the same order.
CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=160, log_every=4, checkpoint_every=5, keep_checkpoints=9, repeat_data=True,
    device="cpu", microbatch=2, diagnostics=True,
)  # fmt: skip


def plan_of(*, steps=12, tau=6, small=1, full=3, optimizer="muon_nsgd", **stage):
    plan = tiny_plan(steps=steps, tau=tau, small=small, full=full)
    stages = (plan.stages[0], Stage(start_step=tau, depth=full, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=optimizer))


LLAMA = plan_of().model.replace(
    width=48, heads=4, vocab_size=259, block=BlockVariant(kv_heads=2, hidden=80, qk_norm=True)
)


def run(plan, data, out, config=CONFIG):
    return train(plan, data=data, out=out, config=config).final()


def go_on(out):
    return resume(out).final()


def held(out, index=-1):
    """State, weights and optimizer state of a run's checkpoint, whole."""
    return checkpoint.load(checkpoint.checkpoints(out)[index])


def assert_same(one, two):
    """Of weights and optimizer state, to the last bit."""
    assert one[1].keys() == two[1].keys() and one[2].keys() == two[2].keys()
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])
    for name, state in one[2].items():
        assert state.keys() == two[2][name].keys(), name
        assert all(torch.equal(state[key], two[2][name][key]) for key in state), name


@pytest.mark.parametrize(
    "plan",
    [
        plan_of(small=0),
        plan_of(init="copy", optimizer_state="keep_copied"),
        plan_of(init="copy_zero_last", order="inter", small=2, full=5, optimizer="muon_adamw"),
        plan_of(init="identity", optimizer="adamw", optimizer_state="keep_warmed"),
        plan_of(optimizer="sgd", optimizer_state="reset", init="zero"),
        plan_of(init="copy_zero_norm").replace(model=LLAMA),
    ],
    ids=["zero", "copy", "inter", "identity", "sgd", "llama"],
)
def test_two_ranks_are_one_bit_for_bit(plan, data, tmp_path):
    """Through growth, with the optimizer's state, validation losses and the record's rows; uneven rows, too."""
    run(plan, data, tmp_path / "one")
    on_ranks(run, 2, plan, data, tmp_path / "two")
    for index in (0, 1, -1):
        assert_same(held(tmp_path / "one", index), held(tmp_path / "two", index))
    one, two = (read_record(tmp_path / name).columns for name in ("one", "two"))
    kept = [i for i, metric in enumerate(one["metric"]) if metric not in ("tokens_per_s", "gradient_norm")]
    exact = [i for i in kept if "rms" not in one["metric"][i]]
    assert (one["metric"] == two["metric"]).all() and (one["step"] == two["step"]).all()
    assert one["value"][exact].tolist() == two["value"][exact].tolist()
    assert two["value"][kept] == pytest.approx(one["value"][kept], rel=1e-5)  # sums over rows in another order


def test_more_ranks_than_rows_of_a_tensor(data, tmp_path):
    """Four ranks, some of which hold no row of the positions; sums are taken in another order than by one."""
    plan = plan_of(steps=6, tau=3)
    plan = plan.replace(model=plan.model.replace(context=2), batch_tokens=8)
    config = CONFIG.replace(microbatch=1)
    finals = on_ranks(run, 4, plan, data, tmp_path / "four", config)
    assert finals == pytest.approx([run(plan, data, tmp_path / "one", config)] * 4, abs=1e-4)


class Calls(TorchDispatchMode):
    """Counts collective operations and the bytes that a rank hands in."""

    def __init__(self):
        super().__init__()
        self.count, self.bytes = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::")
            self.count[name] += 1
            given = args[0] if name == "allreduce_" else args[1]
            tensors = given if isinstance(given, list | tuple) else [given]
            self.bytes[name] += sum(t.nbytes for t in tensors)
        return func(*args, **(kwargs or {}))


def counted(plan, data, config):
    """Collectives of a step and of the growth after it, full_tensor's and warnings being errors."""
    import warnings

    from torch.distributed.tensor import DTensor

    def refused(*_):
        raise AssertionError("a tensor was gathered")

    DTensor.full_tensor = refused
    warnings.simplefilter("error")
    with joined("cpu") as ranks:
        made = make_trainee(plan, data, config, ranks)
        made.begin()
        for _ in range(plan.stages[1].start_step - 1):
            made.update()
        with Calls() as step:
            made.update()
        with Calls() as growth:
            made.grow()
        made.update()
        made.close()
        return dict(step.count), dict(step.bytes), dict(growth.count), made.depth


@pytest.mark.parametrize("passes", [1, 2])
def test_collectives_of_a_step_are_counted_and_growth_has_none(passes, data):
    plan, blocks = plan_of(small=2, tau=3), 2
    steps, sizes, growth, depth = on_ranks(counted, 2, plan, data, CONFIG.replace(microbatch=2 // passes))[0]
    assert steps == {
        "_allgather_base_": passes * (2 * blocks + 1),
        "_reduce_scatter_base_": passes * (blocks + 1),
        "alltoall_base_": 2,
        "allreduce_": 1,
    }
    assert growth == {} and depth == 3
    weights = 4 * plan_of().model.width * 256  # the embedding alone
    assert sizes["allreduce_"] == 16 and sizes["alltoall_base_"] > weights


@pytest.mark.parametrize(("wrote", "reads"), [(1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("steps", [5, 7])
def test_a_checkpoint_is_read_by_any_number_of_ranks(wrote, reads, steps, data, tmp_path):
    """Before and after growth: bit for bit what was written, and the run ends as if it had not been stopped."""
    plan, whole, cut = plan_of(optimizer="muon_adamw"), tmp_path / "whole", tmp_path / "cut"
    final = run(plan, data, whole)
    on_ranks(stopped_at, wrote, plan, data, cut, steps)
    path, passed_over = checkpoint.newest(cut)
    assert passed_over == [] and checkpoint.verify(path).step == steps
    assert (path / "manifest.json").read_text().startswith(f'{{\n  "checkpoint_version": {wrote}')
    results = on_ranks(go_on, reads, cut)
    assert results == [final] * reads
    assert_same(held(whole), held(cut))


def stopped_at(plan, data, out, step):
    """A run that gets a signal on its last rank during the update that makes ``step`` steps."""
    real = Trainee.update

    def update(self, **options):
        if self.step == step - 1 and self.ranks.rank == self.ranks.world - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(self, **options)

    Trainee.update = update
    try:
        train(plan, data=data, out=out, config=CONFIG.replace(checkpoint_every=50))
    except SystemExit as stop:
        return stop.code
    finally:
        Trainee.update = real
