"""Speed of the loop against a nanoGPT checkout, and of Muon-NSGD against torch.optim.Muon, each in one run.

    python -m tests.benchmarks.train_speed [--peer DIR] [--json FILE] [--device cpu] [--threads 1]

Both trainers run nanoGPT's own CPU configuration (4 blocks of width 128, 12 sequences of 64) with AdamW, gradient norm
included, no evaluation, in turns of ``STEPS`` steps; the best turn of each counts, and on a CPU seconds are the CPU's
own, of all threads of this process, so that other load on the machine matters little. The peer's loop does what its
train.py does in a step: batch from a memory map, forward, backward, clip, update. Its GELU is the exact one, ours
GPT-2's tanh form, which is slower on a CPU. Muon steps are timed on the matrices of ``--muon-layers`` blocks of 124M
(12 x 768: the same shapes).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from theory.plan import GPT2Shape, Optimizer, Plan, Stage
from theory.schedules import wsd
from train.loop import TrainConfig, _Run
from train.optim import MuonNSGD

STEPS, TURNS = 10, 16
SHAPE = GPT2Shape(name="nano", width=128, heads=4, vocab_size=256, context=64)
DEPTH, SEQUENCES = 4, 12
MUON_SHAPES = {
    "qkv.weight": (2304, 768), "proj.weight": (768, 768), "fc.weight": (3072, 768), "out.weight": (768, 3072),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a nanoGPT checkout")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--muon-layers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = speed(Path(folder), args.peer, args.device)
    result["muon_speedup"] = muon_speedup(args.device, args.muon_layers)
    text = json.dumps({key: value if value is None else round(value, 3) for key, value in result.items()})
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def speed(folder: Path, peer: Path | None, device: str) -> dict[str, float | None]:
    """Tokens per second of our loop and of the peer's, and their ratio."""
    rng = np.random.default_rng(0)
    for split, size in (("train", 1_000_000), ("val", 100_000)):
        rng.integers(0, 256, size, dtype=np.uint16).tofile(folder / f"{split}.bin")
    turns = [our_turn(folder, device)]
    if peer is not None:
        turns.append(peer_turn(load_model(peer), folder, device))
    best = best_times(turns, TURNS, device)
    ours, *theirs = [STEPS * SEQUENCES * SHAPE.context / seconds for seconds in best]
    their_speed = theirs[0] if theirs else None
    return {
        "tokens_per_s": ours, "peer_tokens_per_s": their_speed, "ratio": ours / their_speed if their_speed else None,
    }  # fmt: skip


def our_turn(folder: Path, device: str) -> Callable[[], None]:
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

    return turn


def load_model(peer: Path) -> ModuleType:
    """The peer's model.py, under a name of its own."""
    spec = importlib.util.spec_from_file_location("peer_model", peer / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer_turn(module: ModuleType, folder: Path, device: str) -> Callable[[], None]:
    """STEPS updates of nanoGPT's model in a plain loop, loss looked at every ten steps as in its train.py."""
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

    return turn


def muon_speedup(device: str, layers: int) -> float:
    """Time of a step of torch.optim.Muon over that of MuonNSGD, on the same matrices."""

    def parameters() -> list[tuple[str, nn.Parameter]]:
        generator = torch.Generator().manual_seed(0)
        made = []
        for layer in range(layers):
            for name, shape in MUON_SHAPES.items():
                p = nn.Parameter(0.02 * torch.randn(shape, generator=generator).to(device))
                p.grad = torch.randn(shape, generator=generator).to(device)
                made.append((f"blocks.{layer}.{name}", p))
        return made

    ours = MuonNSGD(parameters(), lr=0.01)
    theirs = torch.optim.Muon([p for _, p in parameters()], lr=0.01)
    best = best_times([ours.step, theirs.step], 4, device)
    return best[1] / best[0]


def best_times(turns: list[Callable[[], None]], repeats: int, device: str) -> list[float]:
    """Shortest time of each turn, the turns taken alternately after one that does not count."""
    best = [float("inf")] * len(turns)
    clock = time.perf_counter if device == "cuda" else time.process_time
    for repeat in range(repeats + 1):
        for i, turn in enumerate(turns):
            start = clock()
            turn()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                best[i] = min(best[i], clock() - start)
    return best


if __name__ == "__main__":
    main()
