r"""The engine: many runs of one family and one optimizer in step, each with its own schedule, stages and seed.

Runs of equal depth share one batched product. Arms that are the same until they grow (same seed, schedule, past
stages) are one run until then: the trunk is trained once and branches at every tau. Every arm lives on one global
clock: an arm with ``begin`` = 600 sees the minibatches 600, 601, ... that the other arms of its seed see then (common
random numbers), which is what a cold start at tau is to be compared on.

A run whose loss is not finite keeps its place, is reported in ``diverged_at`` and is never averaged with others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from latebloom.sim.chain import Descent, FullRank
from latebloom.sim.family import Blocks, NetworkFamily
from latebloom.sim.growth import add_blocks
from latebloom.sim.optimizers import OptimizerState, initial_state, update_blocks_
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import Schedule

__all__ = ["Arm", "SimulatedCurve", "run_arms"]

CHUNK = 64  # runs per batched product: large enough to hide Python, small enough for the cache
CHAIN_ENTRIES = 6 * 2**12  # runs x width^2 of a batched chain: 6 runs at d = 64, 96 at d = 16; measured best


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One run.

    Args:
        name: For people.
        seed: Draws its weights and its minibatches.
        schedule: Learning rate of each of its updates; its horizon is the run's.
        stages: Depth from which of its updates on, as in a Plan.
        begin: Global step at which it starts.
    """

    name: str
    seed: int
    schedule: Schedule
    stages: tuple[Stage, ...]
    begin: int = 0

    @property
    def end(self) -> int:
        """Global step after its last update."""
        return self.begin + self.schedule.horizon


@dataclass(frozen=True, kw_only=True)
class SimulatedCurve:
    """Population loss of one arm.

    Args:
        arm: Whose.
        step: Updates the arm has done, (points,).
        loss: Loss after them, (points,); at an expansion the last value of the small net.
        depth: Blocks of the net at each point, (points,).
        phase: Index of the stage at each point, (points,).
        blocks: Weights at the end, of one run.
        diverged_at: First measured step with a loss that is not finite; None for a healthy run.
    """

    arm: Arm
    step: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    depth: np.ndarray = field(repr=False)
    phase: np.ndarray = field(repr=False)
    blocks: Blocks = field(repr=False)
    diverged_at: int | None = None

    @property
    def final(self) -> float:
        """Last loss."""
        return float(self.loss[-1])


@dataclass(kw_only=True)
class _Group:
    """Lanes of one depth in one batch."""

    keys: list[tuple]
    arms: list[Arm]  # one representative of each lane
    seed_index: torch.Tensor | None  # whose minibatch each run sees; None: all of them, in order
    blocks: Blocks
    state: OptimizerState
    population: tuple[torch.Tensor, torch.Tensor]
    step: Descent
    rates: torch.Tensor | list[float]  # of each step of the segment: (steps, runs), or one number for all runs


def run_arms(
    family: NetworkFamily,
    arms: Sequence[Arm],
    *,
    optimizer: Optimizer,
    measure: Iterable[int] = (),
    noisy: bool = True,
    polar: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> tuple[SimulatedCurve, ...]:
    """Train all arms and return their curves, in the order given.

    Args:
        family: Architecture, teacher and data.
        arms: What to run.
        optimizer: Update rule of all arms.
        measure: Global steps after which the population loss is measured, besides every start, expansion and end.
        noisy: Train on fresh noisy minibatches; otherwise on the population (full batch).
        polar: Muon's orthogonalisation by SVD.
        on_step: Called with the global step now and then, for a progress bar.

    Raises:
        InputError: if an arm is deeper than the family allows.
    """
    for arm in arms:
        if arm.stages[-1].depth > family.max_depth():
            rule = f"is deeper than {family.name} can use: its floor is 0 from {family.max_depth()} blocks on"
            raise InputError("depth", arm.stages[-1].depth, rule, "use a larger width or a smaller rank")
    end = max(arm.end for arm in arms)
    events = sorted({t for a in arms for t in (a.begin, a.end, *(a.begin + s.start_step for s in a.stages[1:]))} | {0})
    points = sorted({t for t in measure if 0 <= t <= end} | set(events))
    seeds = sorted({arm.seed for arm in arms})
    streams = [torch.Generator().manual_seed(7_000_003 * (seed + 1)) for seed in seeds] if noisy else []
    lanes: dict[tuple, tuple[Blocks, OptimizerState]] = {}  # weights and memory of every lane when it was last trained
    curves: dict[tuple, list[tuple[int, float, int, int]]] = {}
    for start, stop in itertools.pairwise(events):
        alive = _lanes_at(family, optimizer, arms, lanes, start)
        groups = _grouped(family, optimizer, arms, alive, seeds, start, stop, noisy=noisy, polar=polar)
        for group in groups:  # an arm's first value; later starts are measured as ends
            if any(key not in curves and len(key[3]) == 1 for key in group.keys):
                values = family.loss(group.blocks, group.population).tolist()
                for key, value in zip(group.keys, values, strict=True):
                    if key not in curves and len(key[3]) == 1:
                        curves[key] = [(start, value, group.blocks[0].shape[1], 0)]
        for now, due in itertools.pairwise([start, *(t for t in points if start < t <= stop)]):
            _advance(family, groups, streams, range(now - start, due - start))
            for group in groups:
                values = family.loss(group.blocks, group.population).tolist()
                depth = group.blocks[0].shape[1]
                for key, value in zip(group.keys, values, strict=True):
                    curves.setdefault(key, []).append((due, value, depth, len(key[3]) - 1))
            if on_step is not None:
                on_step(due)
        lanes |= {
            key: (tuple(b[i : i + 1] for b in group.blocks), group.state.select(torch.tensor([i])))
            for group in groups
            for i, key in enumerate(group.keys)
        }
    return tuple(_assembled(arm, curves, lanes) for arm in arms)


def _key(arm: Arm, stages: int) -> tuple:
    """Arms with equal keys are the same run so far."""
    return arm.seed, arm.begin, arm.schedule, arm.stages[:stages]


def _lanes_at(
    family: NetworkFamily,
    optimizer: Optimizer,
    arms: Sequence[Arm],
    lanes: dict[tuple, tuple[Blocks, OptimizerState]],
    now: int,
) -> dict[tuple, tuple[Blocks, OptimizerState]]:
    """Lanes that live after global step ``now``: those that go on, those that grow now, those that begin now."""
    alive: dict[tuple, tuple[Blocks, OptimizerState]] = {}
    for arm in arms:
        if not arm.begin <= now < arm.end:
            continue
        count = sum(stage.start_step <= now - arm.begin for stage in arm.stages)
        key = _key(arm, count)
        if key in alive:
            continue
        stage = arm.stages[count - 1]
        if now - arm.begin > stage.start_step:
            alive[key] = lanes[key]
        elif count > 1:
            alive[key] = add_blocks(family, *lanes[_key(arm, count - 1)], stage=stage, seeds=[arm.seed])
        else:
            blocks = family.fresh([arm.seed], range(stage.depth))
            alive[key] = blocks, initial_state(optimizer, blocks)
    return alive


def _grouped(
    family: NetworkFamily,
    optimizer: Optimizer,
    arms: Sequence[Arm],
    lanes: dict[tuple, tuple[Blocks, OptimizerState]],
    seeds: list[int],
    start: int,
    stop: int,
    *,
    noisy: bool,
    polar: bool,
) -> list[_Group]:
    """Lanes batched by depth, in chunks."""
    rates = {
        (schedule, begin): schedule.lr(np.arange(start - begin, stop - begin))
        for schedule, begin in {(a.schedule, a.begin) for a in arms if a.begin <= start < a.end}
    }
    owner = {_key(arm, n): arm for arm in arms for n in range(1, len(arm.stages) + 1)}
    by_depth: dict[int, list[tuple]] = {}
    for key, (blocks, _) in lanes.items():
        by_depth.setdefault(blocks[0].shape[1], []).append(key)
    groups = []
    chain = isinstance(family, FullRank)
    chunk = max(1, CHAIN_ENTRIES // family.width**2) if isinstance(family, FullRank) else CHUNK
    for keys_of_depth in by_depth.values():
        for first in range(0, len(keys_of_depth), chunk):
            keys = keys_of_depth[first : first + chunk]
            members = [lanes[key] for key in keys]
            blocks = tuple(torch.cat(parts) for parts in zip(*(m[0] for m in members), strict=True))
            if chain:  # each block's matrices of all runs side by side in memory, which batched products want
                blocks = tuple(b.transpose(0, 1).contiguous().transpose(0, 1) for b in blocks)
            state = OptimizerState(
                first=tuple(torch.cat(parts) for parts in zip(*(m[1].first for m in members), strict=True)),
                second=tuple(torch.cat(parts) for parts in zip(*(m[1].second for m in members), strict=True)),
                count=tuple(torch.cat(parts) for parts in zip(*(m[1].count for m in members), strict=True)),
            )
            chosen = [owner[key] for key in keys]
            at = [seeds.index(a.seed) for a in chosen]
            lr = np.stack([rates[a.schedule, a.begin] for a in chosen], axis=1)
            shared = _fused(family, optimizer) and bool((lr == lr[:, :1]).all())
            groups.append(
                _Group(
                    keys=keys,
                    arms=chosen,
                    seed_index=None if at == list(range(len(seeds))) else torch.tensor(at, device=blocks[0].device),
                    blocks=blocks,
                    state=state,
                    population=family.population(len(keys)),
                    step=_step(family, optimizer, blocks, state, noisy=noisy, polar=polar),
                    rates=lr[:, 0].tolist() if shared else torch.tensor(lr).to(blocks[0]),
                )
            )
    return groups


def _step(
    family: NetworkFamily, optimizer: Optimizer, blocks: Blocks, state: OptimizerState, *, noisy: bool, polar: bool
) -> Descent:
    """One update of a group's runs, as a function of data and rates."""
    if not any(block.shape[1] for block in blocks):
        return lambda data, lr: None
    if isinstance(family, FullRank) and _fused(family, optimizer):
        return family.descent(blocks, columns=family.batch if noisy else family.width, population=not noisy)

    def step(data: tuple[torch.Tensor, torch.Tensor], lr: torch.Tensor | float) -> None:
        assert isinstance(lr, torch.Tensor)  # one number for all runs is for fused steps alone
        _, gradient = family.gradient(blocks, data)
        update_blocks_(optimizer, blocks, gradient, state, lr=lr, polar=polar)

    return step


@torch.inference_mode()
def _advance(family: NetworkFamily, groups: list[_Group], streams: list[torch.Generator], span: range) -> None:
    """Do the segment's steps in ``span``; on the population group by group, so that each stays in the cache."""
    if not streams:
        for group in groups:
            for at in span:
                group.step(group.population, group.rates[at])
        return
    for at in span:
        x, y = family.sample(streams)
        for group in groups:
            index = group.seed_index
            group.step((x, y) if index is None else (x[index], y[index]), group.rates[at])


def _fused(family: NetworkFamily, optimizer: Optimizer) -> bool:
    plain = optimizer.name == "sgd" and optimizer.momentum == 0 and optimizer.weight_decay == 0
    return plain and isinstance(family, FullRank)


def _assembled(
    arm: Arm, curves: dict[tuple, list[tuple[int, float, int, int]]], lanes: dict[tuple, tuple[Blocks, OptimizerState]]
) -> SimulatedCurve:
    rows: list[tuple[int, float, int, int]] = []
    ends = [arm.begin + stage.start_step for stage in arm.stages[1:]] + [arm.end]
    for count, stop in enumerate(ends, start=1):
        since = rows[-1][0] if rows else -1
        rows += [row for row in curves.get(_key(arm, count), []) if since < row[0] <= stop]
    step, loss, depth, phase = (np.array(column) for column in zip(*rows, strict=True))
    bad = np.flatnonzero(~np.isfinite(loss))
    return SimulatedCurve(
        arm=arm,
        step=step - arm.begin,
        loss=loss.astype(float),
        depth=depth,
        phase=phase,
        blocks=lanes[_key(arm, len(arm.stages))][0],
        diverged_at=int(step[bad[0]] - arm.begin) if bad.size else None,
    )
