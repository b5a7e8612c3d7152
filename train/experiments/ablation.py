"""How should this model be grown? Starting depths, initialisations and orders side by side, with every control.

From one progressive plan follow, at the same expansion step,

    fixed, equal_compute, cold_start, small-l   controls (:mod:`latebloom.theory.controls`); small-l stays at depth l
    small_equal_compute-l                       depth l for the compute of growing from it
    depth_equal_compute-d                       the depths between for the compute of the plan
    grown-l-INIT-ORDER                          every way of growing from each depth l that is asked for

all on the same batches. The runs that never grow are the trunks of those that do (:mod:`latebloom.train.run.branch`),
so that a way of growing costs only the steps after the expansion. Differences between arms of one seed are free of the
noise that seeds and batches make in the trunk; the seeds say how much of a difference is not noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from latebloom.theory.controls import compared, control, depths_between
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, Init, Order, placement, sources
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.record import Record
from latebloom.theory.words import count_text
from latebloom.train.config import AblationConfig, TrainConfig
from latebloom.train.run.several import run_all

__all__ = ["AblationArm", "Ranking", "ablate", "growths", "lowest_of_each_start"]

USUAL = AblationConfig()
TRUNK = "small"  # the control that a grown run shares everything before the expansion with
COMPUTE_TOLERANCE = 0.02  # relative: arms whose FLOPs differ by less spend the same
LONGEST = 200  # steps between a trunk's checkpoints


@dataclass(frozen=True, kw_only=True)
class AblationArm:
    """One way of training, over the seeds.

    Attributes:
        name: Of the control or the way of growing.
        losses: Final validation loss of each seed, nats per token.
        flops: Of one run.
    """

    name: str
    losses: tuple[float, ...]
    flops: float

    @property
    def mean(self) -> float:
        """Mean final loss over the seeds."""
        return float(np.mean(self.losses))


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The arms, best mean final loss first.

    Attributes:
        arms: Of equal seeds.
        records: By arm and seed, as ``ARM-sSEED``.
    """

    arms: tuple[AblationArm, ...]
    records: dict[str, Record]

    @property
    def fixed(self) -> AblationArm:
        """The full depth from the start."""
        return next(arm for arm in self.arms if arm.name == "fixed")

    def lowest_beside(self, arm: AblationArm) -> AblationArm:
        """The lowest of the arms that cost what ``arm`` does, within 2 %, growing or not.

        Args:
            arm: Any of them.
        """
        return next(other for other in self.arms if abs(other.flops / arm.flops - 1) <= COMPUTE_TOLERANCE)

    def against(self, arm: AblationArm) -> tuple[float, float]:
        """(mean, standard error) over seeds of the loss of ``arm`` minus that of ``fixed``; nan with one seed."""
        differences = np.subtract(arm.losses, self.fixed.losses)
        n = len(differences)
        return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def lowest_of_each_start(ranking: Ranking) -> list[str]:
    """For each starting depth, the best way of growing beside the lowest arm of its compute, a sentence each.

    Args:
        ranking: Of :func:`ablate`.
    """
    best_grown: dict[str, AblationArm] = {}
    for arm in ranking.arms:
        if arm.name.startswith("grown-"):
            best_grown.setdefault(arm.name.split("-")[1], arm)
    sentences = []
    for start, grown in sorted(best_grown.items(), key=lambda item: int(item[0])):
        lowest = ranking.lowest_beside(grown)
        beside = "no arm of its compute ends lower"
        if lowest is not grown:
            beside = f"of its compute {lowest.name} ends lowest, at {lowest.mean:.4f}"
        sentences.append(f"Growing from {start} ends at {grown.mean:.4f} ({grown.name}); {beside}.")
    return sentences


def growths(plan: Plan, small: int, inits: Sequence[Init], orders: Sequence[Order]) -> list[Plan]:
    """The plans that grow from depth ``small`` as ``plan`` does, one for each way that differs from the others.

    Nothing can be copied from depth 0; below two blocks all orders but ``first`` are one, and where nothing is copied
    those that put the old blocks to the same places.

    Args:
        plan: One expansion; its second stage is every way's but for initialisation and order.
        small: Depth before the expansion.
        inits: How new blocks begin.
        orders: Where blocks come from and stand.
    """
    ways = []
    for init in inits:
        copies = INITS[init].copies
        if small == 0 and copies:
            continue
        different: dict[tuple[int, ...], Order] = {}
        for order in orders if small > 1 else orders[:1]:
            what_differs = sources if copies else placement
            different.setdefault(tuple(what_differs(order, small, plan.depth)), order)
        for order in different.values():
            stages = (Stage(start_step=0, depth=small), plan.stages[1].replace(init=init, order=order))
            name = f"grown-{small}-{init}" + (f"-{order}" if small > 1 else "")
            ways.append(plan.replace(name=name, stages=stages))
    return ways


def ablate(
    plan: Plan,
    *,
    data: Path,
    out: Path,
    small: Sequence[int] = USUAL.small,
    inits: Sequence[Init] = USUAL.init,
    orders: Sequence[Order] = USUAL.order,
    seeds: int = USUAL.seeds,
    config: TrainConfig | None = None,
    console: Console | None = None,
) -> Ranking:
    """Train every arm in ``out/ARM-sSEED``; interrupted, the same call goes on.

    Args:
        plan: One expansion; its step, full depth, schedule and optimizer are every arm's.
        data: Directory of token shards.
        out: Directory of the runs.
        small: Starting depths, below the full one.
        inits: How new blocks begin.
        orders: Where blocks come from and stand.
        seeds: Number of seeds of initialisation and data order.
        config: How to run; its seed is the first.
        console: Where progress is shown.

    Raises:
        InputError: if the plan has not one expansion, a starting depth is not below the full one, or a run stands in
            ``out`` under the name of one of these and is of another plan, other data or another seed.
    """
    config, console = config or TrainConfig(quiet=True), console or Console(quiet=True)
    if len(plan.stages) != 2:
        raise InputError("stages", len(plan.stages), "must be two to compare ways of growing", "plan one expansion")
    for depth in small:
        if not 0 <= depth < plan.depth:
            raise InputError("--small", depth, f"must lie below the full depth {plan.depth}", "start shallower")
    tau = plan.tau
    assert tau is not None
    every = tau // next(k for k in range(math.ceil(tau / LONGEST), tau + 1) if tau % k == 0)
    arms = _control_plans(plan, small)
    grown = {branch.name: branch for depth in small for branch in growths(plan, depth, inits, orders)}
    records: dict[str, Record] = {}
    numbers = range(config.seed, config.seed + seeds)
    for seed in numbers:
        trunk = config.replace(seed=seed, checkpoint_every=every, keep_checkpoints=math.ceil(plan.steps / every) + 1)
        console.print(
            f"[bold]seed {seed}[/]  {count_text(len(arms), 'control')}, then {count_text(len(grown), 'grown run')}"
        )
        for plans, trunks in ((arms, {}), (grown, {n: f"{TRUNK}-{p.stages[0].depth}" for n, p in grown.items()})):
            named = [p.replace(name=f"{name}-s{seed}") for name, p in plans.items()]
            places = {f"{name}-s{seed}": out / f"{of}-s{seed}" for name, of in trunks.items()}
            finished = run_all(named, data, out, config=trunk, console=console, trunks=places)
            records |= {p.name: record for p, record in zip(named, finished, strict=True)}
    ranked = [
        AblationArm(
            name=name, flops=plan_flops(p),
            losses=tuple(records[f"{name}-s{seed}"].final() for seed in numbers),
        )
        for name, p in (arms | grown).items()
    ]  # fmt: skip
    return Ranking(arms=tuple(sorted(ranked, key=lambda arm: arm.mean)), records=records)


def _control_plans(plan: Plan, starts: Sequence[int]) -> dict[str, Plan]:
    """Plans of the controls by name; those of the small depth are there for every starting depth, as ``NAME-DEPTH``."""
    plans = {}
    between = depths_between(plan.stages[0].depth, plan.depth)
    for each in dict.fromkeys((*compared(between), control(TRUNK))):
        if each.depth != "small":
            plans[each.name] = each.plan(plan)
            continue
        for depth in starts:
            expansion = plan.stages[1].replace(init="random", optimizer_state="keep")  # any: controls never reach it
            grown = plan.replace(stages=(Stage(start_step=0, depth=depth), expansion))
            member = each.at(depth)
            plans[member.name] = member.plan(grown)
    return plans
