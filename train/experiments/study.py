r"""A study: a declared grid of runs that asks, at equal compute, whether a run that grows beats every run that does not.

One TOML file declares shapes, depths, amounts of compute, ways of growing and seeds. With c_d the FLOPs of a step at
depth d, C an amount of compute in steps of the full depth L, and n = c_l/c_L, the arms of one C are

    fixed d        for each depth d:  T = C c_L/c_d steps
    grown l -> L   at x = tau/T:      T = C/(n x + 1 - x) steps, of which tau = x T at depth l

all of one schedule shape (warmup-stable-decay, warm-up in steps, decay as a share of the run), one seed, one order of
data, and the same FLOPs to within one step of the full depth. The constant part of a schedule does not depend on the
horizon, so that every arm is a branch (:mod:`latebloom.train.run.branch`) of the longest fixed run of its first depth,
its *trunk*: a horizon costs only its decay, a way of growing only what follows the expansion.

Seeds are replicates. Differences are taken within a seed, where initialisation and order of data are common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from rich.console import Console

from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import GPT2Shape, Init, Optimizer, Order, Plan, Stage, StatePolicy
from latebloom.theory.record import Record
from latebloom.theory.schedules import WSD
from latebloom.theory.spec import Count, Fraction, Positive, Spec
from latebloom.train.config import TrainConfig
from latebloom.train.run.several import run_all

__all__ = ["Arm", "GrowthGrid", "Study", "arms", "price", "run_study", "table"]

CHECKPOINTS = 64  # of a trunk: a branch repeats at most a 64th of it


class GrowthGrid(Spec, frozen=True, kw_only=True):
    """Ways of growing once from ``small`` to ``full`` blocks: every combination of the lists.

    Attributes:
        small: Depth l before the expansion.
        full: Depth L after it; None for the study's largest.
        at: Expansion steps as shares x = tau/T.
        init: How new blocks begin, see :class:`latebloom.theory.plan.Stage`.
        order: Where they stand.
        optimizer_state: What the optimizer remembers.
        computes: Amounts of compute at which to grow; None for all of the study's.
    """

    small: Count
    full: Count | None = None
    at: Annotated[tuple[Fraction, ...], Meta(min_length=1)]
    init: Annotated[tuple[Init, ...], Meta(min_length=1)] = ("random",)
    order: Annotated[tuple[Order, ...], Meta(min_length=1)] = ("stack",)
    optimizer_state: StatePolicy = "keep"
    computes: tuple[Count, ...] | None = None


class Study(Spec, frozen=True, kw_only=True):
    """What a study's file declares.

    Attributes:
        name: Of the study.
        width: Of the model.
        heads: Attention heads.
        context: Tokens of a sequence.
        vocab_size: Of the data.
        batch_tokens: Tokens a step.
        peak_lr: Of every run.
        warmup_steps: Of every run, whatever its horizon.
        decay: Share of the run over which the learning rate falls to zero.
        depths: Depths of the fixed runs; the largest is the full depth, the unit of compute.
        computes: Amounts of compute C, in steps of the full depth.
        growth: Ways of growing.
        seeds: Seeds of initialisation and order of data.
        optimizer: Update rule.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[\w.-]+$")]
    width: Annotated[int, Meta(ge=1)]
    heads: Annotated[int, Meta(ge=1)]
    context: Annotated[int, Meta(ge=1)]
    vocab_size: Annotated[int, Meta(ge=1)]
    batch_tokens: Annotated[int, Meta(ge=1)]
    peak_lr: Positive
    warmup_steps: Count = 16
    decay: Fraction = 0.1
    depths: Annotated[tuple[Count, ...], Meta(min_length=1)]
    computes: Annotated[tuple[Annotated[int, Meta(ge=2)], ...], Meta(min_length=1)]
    growth: tuple[GrowthGrid, ...] = ()
    seeds: Annotated[tuple[Count, ...], Meta(min_length=1)] = (0,)
    optimizer: Optimizer = Optimizer()

    def check(self) -> None:
        for grid in self.growth:
            full = self.full_depth if grid.full is None else grid.full
            if not grid.small < full <= self.full_depth:
                rule = f"must lie below {full}, and that not above the largest depth {self.full_depth}"
                raise InputError("growth.small", grid.small, rule, "start shallower, or add the depth")
            if grid.small not in self.depths:
                rule = f"is not among the depths {self.depths}: its fixed run is a control, and the trunk"
                raise InputError("growth.small", grid.small, rule, "add it to depths")
            unknown = set(grid.computes or ()) - set(self.computes)
            if unknown:
                raise InputError("growth.computes", sorted(unknown), f"are not among {self.computes}", "add them")

    @property
    def full_depth(self) -> int:
        """L, the largest depth."""
        return max(self.depths)

    @property
    def shape(self) -> GPT2Shape:
        """Of the model, without its depth."""
        return GPT2Shape(
            name=self.name, width=self.width, heads=self.heads, vocab_size=self.vocab_size, context=self.context
        )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to spend an amount of compute.

    Attributes:
        name: Unique in the study.
        compute: C, in steps of the full depth.
        plan: Of the run, its name the arm's.
        trunk: Name of the arm whose run it is a branch of; None for a trunk.
    """

    name: str
    compute: int
    plan: Plan
    trunk: str | None

    @property
    def grown(self) -> bool:
        """Whether the run grows."""
        return self.plan.tau is not None

    def own_flops(self, trunk_every: int) -> float:
        """FLOPs of what this run trains itself, its trunk's part left out."""
        total = float(plan_flops(self.plan))
        if self.trunk is None:
            return total
        shared = self.plan.stages[1].start_step if self.grown else self.plan.steps - _decay_steps(self.plan)
        return total - float(plan_flops(self.plan, shared // trunk_every * trunk_every))


def arms(study: Study) -> list[Arm]:
    """Every arm of ``study``, trunks first."""
    made: dict[str, Arm] = {}
    longest = max(study.computes)
    for compute in sorted(study.computes, reverse=True):
        for depth in sorted(study.depths):
            name = f"fixed-{depth}-C{compute}"
            trunk = None if compute == longest else f"fixed-{depth}-C{longest}"
            stages = (Stage(start_step=0, depth=depth),)
            steps = max(2, round(compute * _price(study, study.full_depth) / _price(study, depth)))
            made[name] = Arm(name=name, compute=compute, plan=_plan(study, name, steps, stages), trunk=trunk)
    for grid in study.growth:
        for compute in sorted(grid.computes or study.computes, reverse=True):
            for name, steps, stages in _growths(study, grid, compute):
                trunk = f"fixed-{grid.small}-C{longest}"
                made[name] = Arm(name=name, compute=compute, plan=_plan(study, name, steps, stages), trunk=trunk)
    return sorted(made.values(), key=lambda arm: arm.trunk is not None)


def _growths(study: Study, grid: GrowthGrid, compute: int) -> Iterator[tuple[str, int, tuple[Stage, Stage]]]:
    """(name, horizon, stages) of each way of growing that ``grid`` declares, at one amount of compute."""
    full = study.full_depth if grid.full is None else grid.full
    budget = compute * _price(study, study.full_depth)
    small_price, full_price = _price(study, grid.small), _price(study, full)
    every = checkpoint_every(study, grid.small)
    for share in grid.at:
        horizon = budget / (small_price * share + full_price * (1 - share))
        tau = max(1, round(share * horizon / every)) * every  # where the trunk has a checkpoint
        steps = tau + max(1, round((budget - tau * small_price) / full_price))
        for init in grid.init:
            if grid.small == 0 and init.startswith("copy"):
                continue
            for order in grid.order if grid.small > 1 else grid.order[:1]:
                name = f"grown-{grid.small}-{full}-x{share:g}-{init}-{order}-C{compute}"
                grow = Stage(
                    start_step=tau, depth=full, init=init, order=order, optimizer_state=grid.optimizer_state
                )  # fmt: skip
                yield name, steps, (Stage(start_step=0, depth=grid.small), grow)


def checkpoint_every(study: Study, depth: int) -> int:
    """Steps between checkpoints of the trunk of ``depth``."""
    longest = max(study.computes) * _price(study, study.full_depth) / _price(study, depth)
    return max(1, round(longest / CHECKPOINTS))


def price(study: Study) -> float:
    """FLOPs of the whole study, trunks shared."""
    every = {depth: checkpoint_every(study, depth) for depth in study.depths}
    return len(study.seeds) * sum(arm.own_flops(every[arm.plan.stages[0].depth]) for arm in arms(study))


def run_study(
    study: Study,
    *,
    data: Path,
    out: Path,
    config: TrainConfig | None = None,
    console: Console | None = None,
) -> dict[str, Record]:
    """Train every arm in ``out/ARM-sSEED``; interrupted, the same call goes on.

    Args:
        study: What to train.
        data: Directory of token shards.
        out: Directory of the runs.
        config: How to run; the seeds are the study's.
        console: Where progress is shown.

    Returns:
        Records by arm and seed, as ``ARM-sSEED``.
    """
    config, console = config or TrainConfig(quiet=True), console or Console(quiet=True)
    records: dict[str, Record] = {}
    for seed in study.seeds:
        for depth in sorted(study.depths):
            every = checkpoint_every(study, depth)
            here = config.replace(seed=seed, checkpoint_every=every, keep_checkpoints=2 * CHECKPOINTS)
            mine = [arm for arm in arms(study) if arm.plan.stages[0].depth == depth]
            for part in ([arm for arm in mine if arm.trunk is None], [arm for arm in mine if arm.trunk is not None]):
                plans = [arm.plan.replace(name=f"{arm.name}-s{seed}") for arm in part]
                trunks = {f"{arm.name}-s{seed}": out / f"{arm.trunk}-s{seed}" for arm in part if arm.trunk}
                done = run_all(plans, data, out, config=here, console=console, trunks=trunks)
                records |= {plan.name: record for plan, record in zip(plans, done, strict=True)}
    return records


def table(study: Study, finals: dict[str, float]) -> list[dict[str, object]]:
    """One row an arm: its loss, and its paired distance from the best fixed depth of equal compute.

    Args:
        study: The study.
        finals: Final losses by ``ARM-sSEED``, nats a token.

    Returns:
        Rows with ``compute``, ``arm``, ``losses`` by seed, ``mean``, and ``above_best_fixed``: mean and standard error
        over seeds of the loss minus that of the fixed depth whose mean is lowest at that compute.
    """
    rows: list[dict[str, object]] = []
    every_arm = arms(study)
    losses = {arm.name: np.array([finals[f"{arm.name}-s{seed}"] for seed in study.seeds]) for arm in every_arm}
    for compute in sorted(study.computes):
        here = [arm for arm in every_arm if arm.compute == compute]
        best = min((arm.name for arm in here if not arm.grown), key=lambda name: losses[name].mean())
        for arm in sorted(here, key=lambda arm: losses[arm.name].mean()):
            differences = losses[arm.name] - losses[best]
            rows.append(
                {
                    "compute": compute,
                    "arm": arm.name,
                    "steps": arm.plan.steps,
                    "losses": losses[arm.name].tolist(),
                    "mean": float(losses[arm.name].mean()),
                    "above_best_fixed": (float(differences.mean()), _standard_error(differences)),
                }
            )
    return rows


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _plan(study: Study, name: str, steps: int, stages: Sequence[Stage]) -> Plan:
    schedule = WSD(
        steps=steps, peak_lr=study.peak_lr, warmup_steps=study.warmup_steps,
        decay_steps=max(1, round(study.decay * steps)),
    )  # fmt: skip
    return Plan(
        name=name, model=study.shape, batch_tokens=study.batch_tokens, schedule=schedule, stages=tuple(stages),
        optimizer=study.optimizer,
    )  # fmt: skip


def _decay_steps(plan: Plan) -> int:
    schedule = plan.schedule
    assert isinstance(schedule, WSD)
    return schedule.decay_steps


def _price(study: Study, depth: int) -> float:
    """FLOPs of a token at ``depth``."""
    return float(flops_per_token(study.shape, depth))
