"""How fast the simulator is: against naive autograd loops, and against what the processor can do.

    python -m tests.benchmarks.sim_speed [--json out.json]

Full-rank residual nets, L = 8, on the population (n = d columns), plain descent, float32, one thread. A net-step is one
update of one net. Useful FLOPs of one: 3 (L - 1) products of d x d matrices, 2 d^3 each (the first block's inputs are
diagonal: nothing to multiply; every other block has a forward, a backward and a gradient product); additions and the
update are not counted. The peak is that of one 1024 x 1024 product in the same run. The naive side is tests/naive.py,
a loop over blocks, autograd and torch.optim.SGD.

Processor seconds are counted, not wall time, so that a busy machine does not decide; each side is measured in turns and
its best of the rounds stands. On a GPU (taken when there is one) wall seconds between synchronisations.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from latebloom.sim.chain import FullRank
from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.mapping import SGD
from latebloom.theory.plan import Stage
from latebloom.theory.schedules import Constant
from tests.naive import naive_descent

DEPTH, ROUNDS = 8, 7
WIDTHS = {64: (6, 600), 32: (24, 600), 16: (96, 600)}  # width: (nets, steps)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="Write the result here.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best: dict[str, float] = {}
    for _ in range(options.rounds):  # in turns: the machine is the same for all
        _keep(best, "peak", 2 * 1024**3 * 8 / _seconds(_products(device), device))
        for width, (nets, steps) in WIDTHS.items():
            _keep(best, f"naive-{width}", 20 / _seconds(_naive(width, 20), device="cpu"))
            _keep(best, f"engine-{width}", nets * steps / _seconds(_engine(width, nets, steps, device), device))
    flops = {width: 3 * (DEPTH - 1) * 2 * width**3 for width in WIDTHS}
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu, one thread",
        "gemm_peak_gflops": best["peak"] / 1e9,
        "gemm_peak_fraction": best["engine-64"] * flops[64] / best["peak"],
        "fraction": {str(w): best[f"engine-{w}"] * flops[w] / best["peak"] for w in WIDTHS},
        "speedup": {str(w): best[f"engine-{w}"] / best[f"naive-{w}"] for w in WIDTHS},
        "net_steps_per_s": {str(w): best[f"engine-{w}"] for w in WIDTHS},
        "naive_net_steps_per_s": {str(w): best[f"naive-{w}"] for w in WIDTHS},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return result


def _keep(best: dict[str, float], name: str, value: float) -> None:
    best[name] = max(best.get(name, 0.0), value)


def _seconds(work, device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _products(device: str):
    a, b = torch.randn(1024, 1024, device=device), torch.randn(1024, 1024, device=device)
    out = torch.empty_like(a)
    return lambda: [torch.mm(a, b, out=out) for _ in range(8)]


def _naive(width: int, steps: int):
    family = FullRank(width=width)
    weights = [w.clone().requires_grad_() for w in family.fresh([0], range(DEPTH))[0][0]]
    x, y = (t[0] for t in family.population(1))
    return lambda: naive_descent(weights, x, y, s=family.multiplier(DEPTH), lrs=[1e-3] * steps)


def _engine(width: int, nets: int, steps: int, device: str):
    """The whole engine as it is used, its set-up and measurements included, but for drawing the weights."""
    family = _Drawn(width=width, device=device)
    family.fresh(range(1), range(DEPTH))
    schedule = Constant(steps=steps, peak_lr=1e-3)
    arms = [
        Arm(name="a", seed=seed, schedule=schedule, stages=(Stage(start_step=0, depth=DEPTH),)) for seed in range(nets)
    ]
    return lambda: run_arms(family, arms, optimizer=SGD, noisy=False)


class _Drawn(FullRank):
    """All seeds begin with the same weights, drawn once."""

    def fresh(self, seeds, blocks):
        key = (self.width, len(blocks), self.device)
        if key not in _CACHE:
            _CACHE[key] = super().fresh([0], blocks)[0]
        return (_CACHE[key].expand(len(seeds), -1, -1, -1).clone(),)


_CACHE: dict[tuple, torch.Tensor] = {}

if __name__ == "__main__":
    main()
