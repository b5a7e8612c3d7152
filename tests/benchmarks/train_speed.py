"""Speed of the loop against a nanoGPT checkout, in one run.

    python -m tests.benchmarks.train_speed [--peer DIR] [--json FILE] [--device cpu] [--threads 1]

Both trainers run nanoGPT's own CPU configuration (4 blocks of width 128, 12 sequences of 64) with AdamW, gradient norm
included, no evaluation, each in a process of its own, in alternate turns of ``STEPS`` steps. Speeds are those of the
median turn, the ratio is the median over pairs of turns, and on a CPU seconds are the process's own, of all its
threads, so that other load on the machine matters little. The peer's loop does what its train.py does in a step: batch
from a memory map, forward, backward, clip, update. Its GELU is the exact one, ours GPT-2's tanh form.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from latebloom.theory.plan import GPT2Shape, Optimizer, Plan, Stage
from latebloom.theory.schedules import wsd
from latebloom.train.run.loop import TrainConfig, _Run

STEPS, TURNS = 10, 21
SHAPE = GPT2Shape(name="nano", width=128, heads=4, vocab_size=256, context=64)
DEPTH, SEQUENCES = 4, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a nanoGPT checkout")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = speed(Path(folder), args.peer, args.device)
    text = json.dumps({key: value if value is None else round(value, 3) for key, value in result.items()})
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def speed(folder: Path, peer: Path | None, device: str) -> dict[str, float | None]:
    """Tokens per second of our loop and of the peer's, and their ratio."""
    rng = np.random.default_rng(0)
    for split, size in (("train", 1_000_000), ("val", 100_000)):
        rng.integers(0, 256, size, dtype=np.uint16).tofile(folder / f"{split}.bin")
    trainers = {"ours": (our_turn, (folder, device))}
    if peer is not None:
        trainers["theirs"] = (peer_turn, (peer, folder, device))
    with contextlib.ExitStack() as closing:
        turns = [closing.enter_context(in_a_process(*trainer)) for trainer in trainers.values()]
        seconds = times(turns, TURNS)
    ours, *theirs = STEPS * SEQUENCES * SHAPE.context / np.median(seconds, axis=0)
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0])) if theirs else None
    return {"tokens_per_s": ours, "peer_tokens_per_s": theirs[0] if theirs else None, "ratio": ratio}


@contextlib.contextmanager
def in_a_process(make: Callable[..., Callable[[], float]], args: tuple) -> Iterator[Callable[[], float]]:
    """A turn that is taken in a process of its own, as both trainers run in practice."""
    here, there = get_context("spawn").Pipe()
    worker = get_context("spawn").Process(target=_serve, args=(there, torch.get_num_threads(), make, args), daemon=True)
    worker.start()

    def turn() -> float:
        here.send("turn")
        return here.recv()

    try:
        yield turn
    finally:
        worker.terminate()


def _serve(pipe: Connection, threads: int, make: Callable[..., Callable[[], float]], args: tuple) -> None:
    torch.set_num_threads(threads)
    turn = make(*args)
    while pipe.recv():
        pipe.send(turn())


def timed(turn: Callable[[], None], device: str) -> Callable[[], float]:
    """``turn``, saying how many seconds it took: on a CPU this process's own."""
    clock = time.process_time if device == "cpu" else time.perf_counter

    def measured() -> float:
        start = clock()
        turn()
        if device != "cpu":
            torch.cuda.synchronize(device)
        return clock() - start

    return measured


def our_turn(folder: Path, device: str) -> Callable[[], float]:
    """STEPS updates of the loop."""
    plan = Plan(
        name="speed", model=SHAPE, batch_tokens=SEQUENCES * SHAPE.context, schedule=wsd(steps=10_000, peak_lr=1e-3),
        stages=(Stage(start_step=0, depth=DEPTH),), optimizer=Optimizer(name="adamw", weight_decay=0.1),
    )  # fmt: skip
    run = _Run(plan, folder, folder / "run", TrainConfig(device=device, quiet=True, repeat_data=True))
    run.start_prefetch()

    def turn() -> None:
        for _ in range(STEPS):
            run.update()

    return timed(turn, device)


def load_model(peer: Path) -> ModuleType:
    """The peer's model.py, under a name of its own."""
    spec = importlib.util.spec_from_file_location("peer_model", peer / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer_turn(peer: Path, folder: Path, device: str) -> Callable[[], float]:
    """STEPS updates of nanoGPT's model in a plain loop, loss looked at every ten steps as in its train.py."""
    module = load_model(peer)
    torch.manual_seed(1337)
    config = module.GPTConfig(
        block_size=SHAPE.context, vocab_size=SHAPE.vocab_size, n_layer=DEPTH, n_head=SHAPE.heads, n_embd=SHAPE.width,
        dropout=0.0, bias=True,
    )  # fmt: skip
    model = module.GPT(config).to(device)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), torch.device(device).type)
    data_path, n = folder / "train.bin", SHAPE.context

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        data = np.memmap(data_path, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - n, (SEQUENCES,))
        windows = np.stack([data[i : i + n + 1].astype(np.int64) for i in starts])
        x, y = torch.from_numpy(windows[:, :-1].copy()), torch.from_numpy(windows[:, 1:].copy())
        if device != "cpu":
            return tuple(t.pin_memory().to(device, non_blocking=True) for t in (x, y))  # type: ignore[return-value]
        return x, y

    held = [batch()]

    def turn() -> None:
        for step in range(STEPS):
            _, loss = model(*held[0])
            held[0] = batch()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 10 == 0:
                loss.item()

    return timed(turn, device)


def times(turns: list[Callable[[], float]], repeats: int) -> np.ndarray:
    """Seconds (repeats, turns), the turns taken alternately, after a round that does not count."""
    return np.array([[turn() for turn in turns] for _ in range(repeats + 1)])[1:]


if __name__ == "__main__":
    main()
