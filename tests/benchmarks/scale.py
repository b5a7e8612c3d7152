"""Training on several ranks against one: equality, communication, memory, and what the dry run says of it.

    python -m tests.benchmarks.scale --json out.json

Two gloo ranks on two cores, a width of 128; the dry run is held against an account of every storage of a 7B model
(60 x 3072) under a fake process group of 8 and of 64 ranks. Takes about three minutes.

    world1_bit_equal           a run of one process against a loop of a few lines, all weights
    world1_overhead            CPU time of its updates against that loop's, minus 1; median of pairs
    loss_difference_2_ranks    largest up to steps 10, 20 and 30: equal micro-batches (0), another micro-batch, and what
                               the last bit of every initial weight changes in one process; other micro-batches are
                               promised to stay within 8 times that, in loss and in gradient norm, at every step, and
                               within 1e-4 of the loss for 20 steps
    growth_peak_over_step_peak bytes of a rank of 8 while 124M grows 0 -> 12 and 1 -> 12, over those of its step
    reshard_bit_equal          weights and optimizer state, 2 -> 1 and 1 -> 2 ranks, before and after growth
    dry_run_error_N            |predicted / accounted - 1| of the peak of a rank
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latebloom.theory import preset, wsd
from latebloom.theory.plan import GPT2Shape, Plan, Stage
from latebloom.train.config import TrainConfig
from latebloom.train.data.corpus import prepare
from latebloom.train.growth.rows import grown_rows
from latebloom.train.model.sharding import OwnRows, empty_block, local, sharded_model
from latebloom.train.model.tensors import describe
from latebloom.train.model.transformer import GPT2, init_block_
from latebloom.train.optim.build import build_optimizer
from latebloom.train.optim.plan_lr import PlanLR
from latebloom.train.ranks import joined
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.dryrun import dry_run
from latebloom.train.run.loop import make_trainee, train
from tests.fake_ranks import Bytes, fake_rank, peak_bytes
from tests.ranks import on_ranks
from tests.rounding import allowed, apart, updates

STEPS, WIDTH = 30, 128
CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=512, checkpoint_every=1000, keep_checkpoints=9, repeat_data=True, device="cpu",
    microbatch=8,
)  # fmt: skip


def plan_of(*, steps: int = STEPS, small: int = 1, full: int = 4) -> Plan:
    """A plan of 16 sequences a step that grows half-way."""
    shape = GPT2Shape(name="bench", width=WIDTH, heads=4, vocab_size=256, context=64)
    stages = (Stage(start_step=0, depth=small), Stage(start_step=steps // 2, depth=full))
    return Plan(name="bench", model=shape, batch_tokens=1024, schedule=wsd(steps=steps, peak_lr=0.02), stages=stages)


def counted_losses(plan: Plan, data: Path, config: TrainConfig) -> dict[str, Any]:
    """Losses and gradient norms of all steps on this rank, and what the last one said to the others."""
    from torch.distributed.tensor import DTensor

    from tests.test_train_ranks import Calls

    gathered = 0
    real = DTensor.full_tensor

    def full_tensor(*args: Any, **options: Any) -> Any:
        nonlocal gathered
        gathered += 1
        return real(*args, **options)

    DTensor.full_tensor = full_tensor  # type: ignore[method-assign]
    try:
        with joined("cpu") as ranks:
            trainee = make_trainee(plan, data, config, ranks)
            trainee.begin()
            values, calls = [], Calls()
            while trainee.step < plan.steps:
                if trainee.growth_is_due:
                    trainee.grow()
                with calls if trainee.step == plan.steps - 1 else contextlib.nullcontext():
                    update = trainee.update()
                values.append((update.loss, update.gradient_norm))
            trainee.close()
            return {
                "updates": np.array(values), "calls": dict(calls.count), "bytes": dict(calls.bytes),
                "gathered": gathered,
            }  # fmt: skip
    finally:
        DTensor.full_tensor = real  # type: ignore[method-assign]


def world1(data: Path) -> dict[str, Any]:
    """One process against a loop of a few lines: weights and CPU time."""
    plan = plan_of(small=4, full=5).replace(stages=(Stage(start_step=0, depth=4),))
    trainee = make_trainee(plan, data, CONFIG)
    trainee.begin()
    model = GPT2(plan.model, 4, seed=CONFIG.seed)
    optimizer = build_optimizer(model, plan.optimizer)
    scheduler = PlanLR(optimizer, plan)
    ratios = []
    for step in range(plan.steps):
        batch = [torch.from_numpy(np.ascontiguousarray(part)) for part in trainee.batches.train(step)]

        def plain(batch: list[torch.Tensor] = batch) -> None:
            parts = list(zip(batch[0].split(8), batch[1].split(8), strict=True))
            for x, y in parts:
                (model.loss(x, y) / len(parts)).backward()
            torch.stack(torch._foreach_norm([p.grad for p in model.parameters()])).norm().item()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()

        seconds = {}
        for name in ("plain", "ours") if step % 2 else ("ours", "plain"):
            start = time.thread_time()
            plain() if name == "plain" else trainee.update()
            seconds[name] = time.thread_time() - start
        if step >= 4:
            ratios.append(seconds["ours"] / seconds["plain"])
    trainee.close()
    ours, theirs = trainee.weights(), model.state_dict()
    return {
        "world1_bit_equal": all(torch.equal(ours[name], theirs[name]) for name in theirs),
        "world1_overhead": statistics.median(ratios) - 1,
    }


def two_ranks(data: Path) -> dict[str, Any]:
    """Two ranks against one process, with the micro-batches of that one and with their own."""
    plan, whole = plan_of(), CONFIG.replace(microbatch=None)
    ranks = on_ranks(counted_losses, 2, plan, data, CONFIG, seconds=300)[0]
    same = np.abs(ranks["updates"] - updates(plan, data, CONFIG))
    other = np.maximum.accumulate(np.abs(ranks["updates"] - updates(plan, data, whole)))
    bits = apart(plan, data, whole)
    within = allowed(bits, ranks["updates"])
    steps = (10, 20, 30)

    def up_to(rows: np.ndarray) -> dict[str, float]:
        return {str(step): float(rows[step - 1, 0]) for step in steps}

    return {
        "loss_difference_2_ranks": {
            "same_micro_batches": float(same[:, 0].max()),
            "other_micro_batches": up_to(other),
            "last_bit_of_the_weights_in_one_process": up_to(bits),
            "stated": up_to(within),
            "within_stated": bool((other <= within).all() and other[19, 0] <= 1e-4),
        },
        "collectives_per_step": ranks["calls"],
        "bytes_per_step": ranks["bytes"],
        "full_tensor_calls": ranks["gathered"],
    }


def train_run(plan: Plan, data: Path, out: Path, every: int) -> None:
    """A run with checkpoints."""
    train(plan, data=data, out=out, config=CONFIG.replace(checkpoint_every=every))


def reread(path: Path) -> Any:
    """This rank's rows of a checkpoint, and which these are."""
    with joined("cpu") as ranks:
        _, weights, state = checkpoint.load(path, ranks=ranks)
        return (
            {name: tensor.numpy() for name, tensor in weights.items()},
            {name: {key: tensor.numpy() for key, tensor in held.items()} for name, held in state.items()},
        )


def reshard(data: Path, folder: Path) -> dict[str, Any]:
    """Every checkpoint of one and of two ranks, read by the other number."""
    plan = plan_of(steps=8)
    train_run(plan, data, folder / "one", 2)
    on_ranks(train_run, 2, plan, data, folder / "two", 2, seconds=300)
    equal = []
    for a, b in zip(*(RunDirectory(folder / name).checkpoints() for name in ("one", "two")), strict=True):
        _, weights, state = checkpoint.load(a)
        for path in (a, b):
            parts = on_ranks(reread, 2, path)
            for name, tensor in weights.items():
                equal.append(np.array_equal(np.concatenate([part[0][name] for part in parts]), tensor))
            for name, held in state.items():
                for key, tensor in held.items():
                    equal.append(np.array_equal(np.concatenate([part[1][name][key] for part in parts]), tensor))
        _, other, other_state = checkpoint.load(b)
        equal += [torch.equal(other[name], tensor) for name, tensor in weights.items()]
        equal += [torch.equal(other_state[n][key], t) for n, held in state.items() for key, t in held.items()]
    return {"reshard_bit_equal": all(equal), "reshard_tensors": len(equal)}


def growth_peak(small: int, world: int = 8) -> float:
    """Bytes of a rank while GPT-2 124M grows to its 12 blocks, over those of a step at 12, one sequence a rank."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    shape, depth = preset("gpt2-124m")
    device = torch.device("cpu")
    stage = Stage(start_step=1, depth=depth)
    plan = Plan(
        name="p", model=shape, batch_tokens=1024 * world, schedule=wsd(steps=2, peak_lr=0.1),
        stages=(Stage(start_step=0, depth=depth),),
    )  # fmt: skip
    step = peak_bytes(plan, world, sequences=1, activations="recompute", dtype="bfloat16")
    with fake_rank(world) as ranks, FakeTensorMode(), Bytes() as account:
        before = sharded_model(shape, small, ranks=ranks, device=device)
        rows = OwnRows(before).values()
        momenta = {name: torch.zeros_like(tensor) for name, tensor in rows.items()}
        account.peak = account.now
        after = OwnRows(sharded_model(shape, depth, ranks=ranks, device=device))
        grown_rows(
            rows, stage, small, described=describe(before), own=ranks.rows, fill=after.fill,
            new_block=lambda: empty_block(shape, device),
            init_block=lambda block, j: init_block_(block, depth=depth, seed=1, name=f"blocks.{j}"),
        )  # fmt: skip
        assert momenta and local(next(iter(rows.values()))) is not None
        return account.peak / step


def dry_run_error(world: int, sequences: int) -> dict[str, float]:
    """The dry run of a 7B model against an account of a rank's storages."""
    shape, depth = preset("gpt2-7b")
    plan = Plan(
        name="7b", model=shape, batch_tokens=524_288, schedule=wsd(steps=100, peak_lr=0.02),
        stages=(Stage(start_step=0, depth=depth),),
    )  # fmt: skip
    exact = peak_bytes(plan, world, sequences=sequences, activations="recompute", dtype="bfloat16")
    said = dry_run(plan, devices=world, micro_sequences=sequences, activations="recompute", dtype="bfloat16")
    return {
        f"dry_run_error_{world}": abs(said.memory / exact - 1), f"dry_run_gib_{world}": said.memory / 2**30,
        f"accounted_gib_{world}": exact / 2**30,
    }  # fmt: skip


def main() -> None:
    """Print the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write them here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        texts = [folder / f"{i}.txt" for i in range(60)]
        for path in texts:
            path.write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 500)))
        prepare(texts, folder / "data", tokenizer="bytes", val_share=0.2)
        data = folder / "data"
        result = world1(data) | two_ranks(data) | reshard(data, folder)
        result["growth_peak_over_step_peak"] = max(growth_peak(0), growth_peak(1))
        result |= dry_run_error(8, 8) | dry_run_error(64, 1)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
