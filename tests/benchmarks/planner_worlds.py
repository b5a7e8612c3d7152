"""Deep linear nets for the planner's calibration: annealed ends of fixed, grown and never grown runs, as one table.

    python -m tests.benchmarks.planner_worlds     (writes tests/golden/planner_worlds*.parquet; needs torch, minutes)

Each world is one family of low-rank residual networks under one optimizer (:mod:`latebloom.sim`), depth 1 or 2 grown to
8, with one depth between trained too. All arms of a seed see the same minibatches. The schedules are those of the GPT
runs in ``paper_figures/data/demo_scale``: WSD, 16 steps of warm-up, a tenth of linear decay; a growth trunk, grown
half-way, is annealed over at most all that follows the expansion. Rows hold what a run ends with; those that are not
``annealed`` are the small depth's run to the horizon after ``steps`` updates, before it decays.
``tuned`` marks the worlds on which the field's hyperparameters were chosen; the others judge them. :data:`MORE_WORLDS`,
eight drawn at random for each of three optimizers, one seed, were used for choosing too.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import WSD

if TYPE_CHECKING:
    from latebloom.sim.lowrank import LowRank

TABLE = Path(__file__).resolve().parents[1] / "golden" / "planner_worlds.parquet"
MORE_TABLE = TABLE.with_name("planner_worlds_more.parquet")
HORIZON = 800
WARMUP = 16
FULL = 8
WIDTH = 24
SEEDS = 3
COLUMNS = ["world", "tuned", "small", "seed", "steps", "depth", "tau", "loss", "annealed"]
CURVE_STEPS = sorted({round(float(step)) for step in np.geomspace(WARMUP, 0.9 * HORIZON, 48)})


@dataclass(frozen=True, kw_only=True)
class World:
    """One family and optimizer. ``reach``: peak rate of SGD over its stability limit; else area over distance."""

    optimizer: str
    small: int
    alpha: float
    teacher_exponent: float
    reach: float
    tuned: bool


WORLDS = (
    World(optimizer="muon", small=1, alpha=1.0, teacher_exponent=1.0, reach=1.5, tuned=True),
    World(optimizer="muon", small=1, alpha=0.5, teacher_exponent=0.6, reach=2.0, tuned=False),
    World(optimizer="muon", small=2, alpha=1.0, teacher_exponent=1.0, reach=1.5, tuned=False),
    World(optimizer="sgd", small=1, alpha=1.0, teacher_exponent=1.0, reach=0.3, tuned=True),
    World(optimizer="sgd", small=1, alpha=0.5, teacher_exponent=0.6, reach=0.1, tuned=False),
    World(optimizer="sgd", small=2, alpha=1.0, teacher_exponent=1.0, reach=0.05, tuned=True),
    World(optimizer="adamw", small=1, alpha=1.0, teacher_exponent=1.0, reach=1.5, tuned=False),
    World(optimizer="adamw", small=2, alpha=0.5, teacher_exponent=0.6, reach=2.0, tuned=True),
    World(optimizer="muon", small=2, alpha=0.5, teacher_exponent=1.0, reach=3.0, tuned=True),
)


def _more_worlds() -> tuple[World, ...]:
    """Eight worlds for each optimizer, at random."""
    generator, made = np.random.default_rng(77), []
    for optimizer in ("muon", "adamw", "sgd"):
        low, high = np.log((0.05, 0.5) if optimizer == "sgd" else (1.0, 3.5))
        for _ in range(8):
            small, alpha = int(generator.integers(1, 3)), float(generator.choice([0.5, 1.0]))
            exponent = float(generator.choice([0.6, 1.0, 1.4]))
            reach = float(np.exp(generator.uniform(low, high)))
            made.append(
                World(optimizer=optimizer, small=small, alpha=alpha, teacher_exponent=exponent, reach=reach, tuned=True)
            )
    return tuple(made)


MORE_WORLDS = _more_worlds()


def schedule(steps: int, peak_lr: float, *, tail: int | None = None) -> WSD:
    """WSD of ``steps``; a run grown ``tail`` steps before its end does not decay before it grows."""
    decay = round(0.1 * steps) if tail is None else min(round(0.1 * steps), tail)
    return WSD(steps=steps, peak_lr=peak_lr, warmup_steps=WARMUP, decay_steps=decay, decay="linear", final=0.0)


def between(small: int) -> int:
    """The depth between that is trained as well."""
    return 3 if small == 1 else 4


def programme(small: int) -> list[tuple[int, int, int]]:
    """(steps, first depth, tau) of every arm; tau = 0 for a run of one depth."""
    fixed = [(steps, FULL, 0) for steps in (100, 200, 400, 550, 650, 800)]
    never = [(steps, small, 0) for steps in (100, 200, 400, 550, 650, 800, 942, 1115, 1372)]
    middle = [(steps, between(small), 0) for steps in (100, 200, 400, 800, 1100)]
    late = [(HORIZON, small, tau) for tau in (80, 160, 360, 480, 600, 680)]
    short = [(400, small, 180), (200, small, 90)]
    trunk = [(HORIZON // 2 + tail, small, HORIZON // 2) for tail in (24, 48, 96)]
    return fixed + never + middle + late + short + trunk


def setting(world: World) -> tuple[LowRank, Optimizer, float]:
    """Family, optimizer and peak rate of ``world``."""
    from latebloom.sim.lowrank import LowRank
    from latebloom.sim.mapping import SGD

    family = LowRank(width=WIDTH, alpha=world.alpha, teacher_exponent=world.teacher_exponent, noise=0.3, batch=64)
    if world.optimizer == "sgd":
        optimizer = SGD
        peak = world.reach * min(family.step_limit(world.small), family.step_limit(FULL))
    else:
        momentum = 0.9 if world.optimizer == "adamw" else 0.95
        optimizer = Optimizer(name=world.optimizer, momentum=momentum, weight_decay=0.0, transfer="none")
        area = world.reach * (FULL * family.multiplier(FULL)) ** -0.5
        area /= WIDTH**0.5 if world.optimizer == "adamw" else 1.0
        peak = area / schedule(HORIZON, 1.0).total_area
    return family, optimizer, peak


def simulate(world: World, index: int, seeds: int) -> pd.DataFrame:
    """Every arm of ``world`` at every seed: its ``index``, seed, steps, depth, tau, loss (in units of the toy)."""
    from latebloom.sim.engine import Arm, run_arms

    family, optimizer, peak = setting(world)
    rows = []
    by_horizon: dict[int, list[tuple[int, int, int]]] = {}
    for arm in programme(world.small):
        by_horizon.setdefault(arm[0], []).append(arm)
    for steps, arms in by_horizon.items():
        runs = []
        for _, depth, tau in arms:
            stages = (Stage(start_step=0, depth=depth),)
            if tau:
                stages += (Stage(start_step=tau, depth=FULL),)
            rates = schedule(steps, peak, tail=steps - tau if tau else None)
            runs += [Arm(name="", seed=seed, schedule=rates, stages=stages) for seed in range(seeds)]
        curves = run_arms(family, runs, optimizer=optimizer, measure=[steps])
        for curve, (arm, seed) in zip(curves, [(a, s) for a in arms for s in range(seeds)], strict=True):
            loss = curve.final if curve.diverged_at is None else np.nan
            rows.append((index, world.tuned, world.small, seed, arm[0], arm[1], arm[2], loss, True))
    return pd.DataFrame(rows, columns=COLUMNS)


def trunk_curves(world: World, index: int, seeds: int) -> pd.DataFrame:
    """The small depth's run to the horizon at :data:`CURVE_STEPS`, every seed; columns as of :func:`simulate`."""
    from latebloom.sim.engine import Arm, run_arms

    family, optimizer, peak = setting(world)
    stages = (Stage(start_step=0, depth=world.small),)
    runs = [Arm(name="", seed=seed, schedule=schedule(HORIZON, peak), stages=stages) for seed in range(seeds)]
    rows = []
    for seed, curve in enumerate(run_arms(family, runs, optimizer=optimizer, measure=CURVE_STEPS)):
        losses = dict(zip(curve.step.tolist(), curve.loss.tolist(), strict=True))
        first = (index, world.tuned, world.small, seed)
        rows += [(*first, step, world.small, 0, losses[step], False) for step in CURVE_STEPS]
    return pd.DataFrame(rows, columns=COLUMNS)


def main() -> None:
    """Simulate every world and write the table."""
    import torch

    torch.set_num_threads(1)
    TABLE.parent.mkdir(exist_ok=True)
    for path, worlds, seeds in ((TABLE, WORLDS, SEEDS), (MORE_TABLE, MORE_WORLDS, 1)):
        tables = []
        for index, world in enumerate(worlds):
            ends = simulate(world, index, seeds)
            tables += [ends, trunk_curves(world, index, seeds)]
            mean = ends.groupby(["depth", "tau", "steps"]).loss.mean()
            gap = mean[(world.small, 0, HORIZON)] - mean[(FULL, 0, HORIZON)]
            print(f"{index + 1} of {len(worlds)}: {world}, depth gap {gap:.4g}", file=sys.stderr, flush=True)
        pd.concat(tables, ignore_index=True).to_parquet(path, compression="zstd", index=False)


if __name__ == "__main__":
    main()
