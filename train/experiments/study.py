r"""A study: a declared grid of runs that asks, at equal compute, whether growing beats every run that does not grow.

One TOML file declares shapes, depths, amounts of compute, ways of growing and seeds. With c_d the FLOPs of a step at
depth d, C an amount of compute in steps of the full depth L, and n = c_l/c_L, the arms of one C are

    fixed d        for each depth d:  T = C c_L/c_d steps
    grown l -> L   at x = tau/T:      T = C/(n x + 1 - x) steps, of which tau = x T at depth l
    recipe         any stages:        T = C/sum_i (x_{i+1} - x_i) c_i/c_L, c_i of the blocks that a token passes

all of one schedule shape (warmup-stable-decay, warm-up in steps, decay as a share of the run), one seed, one order of
data, and the same FLOPs to within one step of the full depth. The constant part of a schedule does not depend on the
horizon, so that an arm is a branch (:mod:`latebloom.train.run.branch`) of another, its *trunk*: a fixed run of the next
shorter fixed run of its depth, which repeats only that one's decay; a grown run of the shortest fixed run of its first
depth that was still at the constant rate at the expansion, so that it costs only what follows. Small amounts of compute
are finished first.

Seeds are replicates. Differences are taken within a seed, where initialisation and order of data are common.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from rich.console import Console

from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, Init, Order, StatePolicy
from latebloom.theory.limits import transfer_efficiency
from latebloom.theory.plan import GPT2Shape, Optimizer, Plan, Stage
from latebloom.theory.record import Record
from latebloom.theory.schedules import WSD, Piecewise
from latebloom.theory.spec import Count, Fraction, Positive, Spec, finite_plain, from_plain
from latebloom.theory.verdict import resolution_of_seeds
from latebloom.theory.words import amount_text
from latebloom.train.config import LaunchConfig, TrainConfig
from latebloom.train.run.branch import agree_until
from latebloom.train.run.several import run_all

__all__ = [
    "GrowthGrid",
    "Recipe",
    "RecipeStage",
    "Study",
    "StudyArm",
    "StudyRow",
    "price",
    "read_study",
    "run_study",
    "study_arms",
    "study_table",
    "study_text",
]

CHECKPOINTS = 64  # of the longest trunk of a depth: a branch repeats at most a 64th of it
KEPT = 10_000  # all checkpoints of a trunk


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


class RecipeStage(Spec, frozen=True, kw_only=True):
    """A stage of a recipe; see :class:`latebloom.theory.plan.Stage`.

    Attributes:
        at: Share of the run at which it begins.
        depth: Number of blocks.
        replayed_to: Blocks that a token passes, if more: with shared weights.
        init: How the blocks that this stage adds begin.
        order: Where they stand, or in which order blocks are passed again.
        optimizer_state: What the optimizer remembers.
        new_rate: Factor of the learning rate of the blocks that this stage adds.
    """

    at: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    depth: Count
    replayed_to: Count | None = None
    init: Init = "random"
    order: Order = "stack"
    optimizer_state: StatePolicy = "keep"
    new_rate: Positive | None = None


class Recipe(Spec, frozen=True, kw_only=True):
    """A way of growing, stage by stage.

    Attributes:
        name: In the names of its arms.
        stages: The first at 0.
        rewarm_steps: Steps over which the learning rate rises again from 0 after each expansion.
        computes: Amounts of compute at which to run it; None for all of the study's.
    """

    name: Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[\w.-]+$")]
    stages: Annotated[tuple[RecipeStage, ...], Meta(min_length=2)]
    rewarm_steps: Count = 0
    computes: tuple[Count, ...] | None = None

    def check(self) -> None:
        shares = [stage.at for stage in self.stages]
        if shares[0] != 0 or any(b <= a for a, b in itertools.pairwise(shares)):
            raise InputError(f"{self.name}: at", shares, "must begin at 0 and increase", "sort the stages")


class Study(Spec, frozen=True, kw_only=True):
    """What a study's file declares.

    Attributes:
        name: Of the study.
        width: Of the model.
        heads: Attention heads.
        context: Tokens of a sequence.
        vocab_size: Of the data.
        tied_head: Whether the token table is the head as well.
        batch_tokens: Tokens a step.
        peak_lr: Of every run.
        warmup_steps: Of every run, whatever its horizon.
        decay: Share of the run over which the learning rate falls to zero.
        depths: Depths of the fixed runs; the largest is the full depth, the unit of compute.
        computes: Amounts of compute C, in steps of the full depth.
        growth: Ways of growing once, as grids.
        recipes: Ways of growing, stage by stage.
        seeds: Seeds of initialisation and order of data.
        optimizer: Update rule.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[\w.-]+$")]
    width: Annotated[int, Meta(ge=1)]
    heads: Annotated[int, Meta(ge=1)]
    context: Annotated[int, Meta(ge=1)]
    vocab_size: Annotated[int, Meta(ge=1)]
    tied_head: bool = True
    batch_tokens: Annotated[int, Meta(ge=1)]
    peak_lr: Positive
    warmup_steps: Count = 16
    decay: Fraction = 0.1
    depths: Annotated[tuple[Count, ...], Meta(min_length=1)]
    computes: Annotated[tuple[Annotated[int, Meta(ge=2)], ...], Meta(min_length=1)]
    growth: tuple[GrowthGrid, ...] = ()
    recipes: tuple[Recipe, ...] = ()
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
        for recipe in self.recipes:
            if recipe.stages[0].depth not in self.depths:
                rule = f"is not among the depths {self.depths}: its fixed run is a control, and the trunk"
                raise InputError(f"{recipe.name}: depth", recipe.stages[0].depth, rule, "add it to depths")
            unknown = set(recipe.computes or ()) - set(self.computes)
            if unknown:
                raise InputError(f"{recipe.name}: computes", sorted(unknown), f"are not among {self.computes}", "add")

    @property
    def full_depth(self) -> int:
        """L, the largest depth."""
        return max(self.depths)

    @property
    def shape(self) -> GPT2Shape:
        """Of the model, without its depth."""
        return GPT2Shape(
            name=self.name, width=self.width, heads=self.heads, vocab_size=self.vocab_size, context=self.context,
            tied_head=self.tied_head,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """One way to spend an amount of compute.

    Attributes:
        name: Unique in the study.
        compute: C, in steps of the full depth.
        plan: Of the run, its name the arm's.
        trunk: Name of the arm whose run it is a branch of; None if it is trained from the start.
    """

    name: str
    compute: int
    plan: Plan
    trunk: str | None

    @property
    def grown(self) -> bool:
        """Whether the run grows."""
        return self.plan.tau is not None


def read_study(path: Path) -> Study:
    """The study that a TOML file declares.

    Args:
        path: The file.

    Raises:
        InputError: naming the file and the field, the value, the rule and the fix.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("study", str(path), "is not there", "name the TOML file that declares it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("study", str(path), f"is not TOML ({error})", "correct it there") from None
    try:
        return from_plain(finite_plain(plain), Study)
    except InputError as error:
        raise error.within(path) from None


def study_arms(study: Study) -> list[StudyArm]:
    """Every arm of ``study``: small amounts of compute first, trunks before their branches.

    Args:
        study: The study.
    """
    made: dict[str, StudyArm] = {}
    computes = sorted(study.computes)
    for compute, shorter in zip(computes, [None, *computes], strict=False):
        for depth in sorted(study.depths):
            name = f"fixed-{depth}-C{compute}"
            trunk = None if shorter is None else f"fixed-{depth}-C{shorter}"
            stages: tuple[Stage, ...] = (Stage(start_step=0, depth=depth),)
            steps = max(2, round(compute * _price(study, study.full_depth) / _price(study, depth)))
            made[name] = StudyArm(name=name, compute=compute, plan=_plan(study, name, steps, stages), trunk=trunk)
    for grid in study.growth:
        for compute in sorted(grid.computes or computes):
            for name, steps, grown in _growths(study, grid, compute):
                plan = _plan(study, name, steps, grown)
                made[name] = StudyArm(name=name, compute=compute, plan=plan, trunk=_trunk_of(plan, made))
    for recipe in study.recipes:
        for compute in sorted(recipe.computes or computes):
            name = f"{recipe.name}-C{compute}"
            plan = _recipe_plan(study, recipe, name, compute)
            made[name] = StudyArm(name=name, compute=compute, plan=plan, trunk=_trunk_of(plan, made))
    return sorted(made.values(), key=lambda arm: (arm.compute, arm.grown))


def _trunk_of(plan: Plan, made: dict[str, StudyArm]) -> str:
    """Name of the shortest fixed run that is the same up to the first expansion of ``plan``, or for longest."""
    fixed = [arm for arm in made.values() if not arm.grown and arm.plan.depth == plan.stages[0].depth]
    tau = plan.stages[1].start_step
    return max(fixed, key=lambda arm: (min(agree_until(arm.plan, plan), tau), -arm.compute)).name


def _recipe_plan(study: Study, recipe: Recipe, name: str, compute: int) -> Plan:
    """The plan of a recipe at one amount of compute, its last stage as long as the rest allows."""
    budget = compute * _price(study, study.full_depth)
    prices = [_price(study, stage.replayed_to or stage.depth) for stage in recipe.stages]
    ends = [*(stage.at for stage in recipe.stages[1:]), 1.0]
    horizon = budget / sum(
        (end - stage.at) * price for stage, end, price in zip(recipe.stages, ends, prices, strict=True)
    )
    every = _checkpoint_every(study, recipe.stages[0].depth)
    starts = [0, max(1, round(recipe.stages[1].at * horizon / every)) * every]
    starts += [round(stage.at * horizon) for stage in recipe.stages[2:]]
    spent = sum((end - start) * price for start, end, price in zip(starts, starts[1:], prices, strict=False))
    steps = starts[-1] + max(1, round((budget - spent) / prices[-1]))
    stages = [
        Stage(
            start_step=start, depth=stage.depth, init=stage.init, order=stage.order,
            optimizer_state=stage.optimizer_state, replayed_to=stage.replayed_to, new_rate=stage.new_rate,
        )
        for start, stage in zip(starts, recipe.stages, strict=True)
    ]  # fmt: skip
    plan = _plan(study, name, steps, stages)
    return plan.replace(schedule=_rewarmed(plan, recipe.rewarm_steps)) if recipe.rewarm_steps else plan


def _rewarmed(plan: Plan, steps: int) -> Piecewise:
    """The plan's schedule, but that after each expansion the learning rate rises from 0 again over ``steps``."""
    schedule = plan.schedule
    assert isinstance(schedule, WSD)
    at = list(range(schedule.warmup_steps + 1))
    rate = [float(schedule.lr(step)) for step in at]
    for stage in plan.stages[1:]:
        at += [stage.start_step, stage.start_step, stage.start_step + steps]
        rate += [schedule.peak_lr, 0.0, schedule.peak_lr]
    at += [schedule.steps - schedule.decay_steps, schedule.steps]
    return Piecewise(at=tuple(at), rate=(*rate, schedule.peak_lr, 0.0))


def _growths(study: Study, grid: GrowthGrid, compute: int) -> Iterator[tuple[str, int, tuple[Stage, Stage]]]:
    """(name, horizon, stages) of each way of growing that ``grid`` declares, at one amount of compute.

    Expansions are moved to the nearest checkpoint of the trunk's spacing; shares that meet at one are one arm.
    """
    taus = set()
    full = study.full_depth if grid.full is None else grid.full
    budget = compute * _price(study, study.full_depth)
    small_price, full_price = _price(study, grid.small), _price(study, full)
    every = _checkpoint_every(study, grid.small)
    for share in grid.at:
        horizon = budget / (small_price * share + full_price * (1 - share))
        tau = max(1, round(share * horizon / every)) * every
        if tau in taus:
            continue
        taus.add(tau)
        steps = tau + max(1, round((budget - tau * small_price) / full_price))
        for init in grid.init:
            if grid.small == 0 and INITS[init].copies:
                continue
            for order in grid.order if grid.small > 1 else grid.order[:1]:
                name = f"grown-{grid.small}-{full}-x{share:g}-{init}-{order}-C{compute}"
                grow = Stage(
                    start_step=tau, depth=full, init=init, order=order, optimizer_state=grid.optimizer_state
                )  # fmt: skip
                yield name, steps, (Stage(start_step=0, depth=grid.small), grow)


def _checkpoint_every(study: Study, depth: int) -> int:
    """Steps between checkpoints of the trunk of ``depth``."""
    longest = max(study.computes) * _price(study, study.full_depth) / _price(study, depth)
    return max(1, round(longest / CHECKPOINTS))


def price(study: Study) -> float:
    """FLOPs of the whole study, trunks shared.

    Args:
        study: The study.
    """
    arms = {arm.name: arm for arm in study_arms(study)}
    total = 0.0
    for arm in arms.values():
        total += plan_flops(arm.plan)
        if arm.trunk is not None:
            every = _checkpoint_every(study, arm.plan.stages[0].depth)
            shared = agree_until(arms[arm.trunk].plan, arm.plan) // every * every
            total -= plan_flops(arm.plan, shared)
    return len(study.seeds) * total


def run_study(
    study: Study,
    *,
    data: Path,
    out: Path,
    config: TrainConfig | None = None,
    launch: LaunchConfig | None = None,
    console: Console | None = None,
) -> dict[str, Record]:
    """Train every arm in ``out/ARM-sSEED``; interrupted, the same call goes on.

    Args:
        study: What to train.
        data: Directory of token shards.
        out: Directory of the runs.
        config: How to run; the seeds are the study's.
        launch: Where, and how many at once.
        console: Where progress is shown.

    Returns:
        Records by arm and seed, as ``ARM-sSEED``.

    Raises:
        InputError: if a run stands in ``out`` under the name of one of these and is of another plan, data or seed.
    """
    config, console = config or TrainConfig(quiet=True), console or Console(quiet=True)
    every = min(_checkpoint_every(study, depth) for depth in study.depths)
    runs = [(arm, seed) for seed in study.seeds for arm in study_arms(study)]
    plans = [arm.plan.replace(name=f"{arm.name}-s{seed}") for arm, seed in runs]
    records = run_all(
        plans, data, out, config=config, console=console, launch=launch, cheapest_first=True,
        trunks={f"{arm.name}-s{seed}": out / f"{arm.trunk}-s{seed}" for arm, seed in runs if arm.trunk},
        trunk_config=config.replace(checkpoint_every=every, keep_checkpoints=KEPT),
        seeds={f"{arm.name}-s{seed}": seed for arm, seed in runs},
    )  # fmt: skip
    return {plan.name: record for plan, record in zip(plans, records, strict=True)}


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """What one arm ended at, beside the best run of equal compute that does not grow.

    Attributes:
        compute: C, in steps of the full depth.
        arm: Its name.
        grown: Whether it grows.
        steps: Its horizon.
        flops: What it takes.
        losses: Final losses, nats a token, one a seed.
        seeds: Theirs.
        above_best_fixed: Mean over seeds of its loss minus that of the fixed depth whose mean is lowest at C, nats.
        standard_error: Of that mean, over seeds; nan with one.
        rho: Transfer efficiency: it ends where the full depth ends after (T - tau) + rho tau steps; nan for runs that
            do not grow just once, and outside the full depth's measured range. Growing beats the full depth where
            rho > n.
        n: Price of a step of the small depth, in steps of the depth it grows to; nan for such runs too.
    """

    compute: int
    arm: str
    grown: bool
    steps: int
    flops: float
    losses: tuple[float, ...]
    seeds: tuple[int, ...]
    above_best_fixed: float
    standard_error: float
    rho: float
    n: float

    @property
    def mean(self) -> float:
        """Mean final loss over seeds."""
        return float(np.mean(self.losses))


def study_table(study: Study, finals: Mapping[str, float]) -> list[StudyRow]:
    """One row an arm of which a run is there, by compute and mean loss.

    The best fixed depth of a C is the one of lowest mean among those with most seeds; differences from it are taken
    over the seeds that both have, and are nan without one.

    Args:
        study: The study.
        finals: Final losses by ``ARM-sSEED``, nats a token, of all runs or some.
    """
    losses = {
        arm.name: {seed: finals[f"{arm.name}-s{seed}"] for seed in study.seeds if f"{arm.name}-s{seed}" in finals}
        for arm in study_arms(study)
    }
    means = {name: float(np.mean(list(by_seed.values()))) for name, by_seed in losses.items() if by_seed}
    rows: list[StudyRow] = []
    for compute in sorted(study.computes):
        here = [arm for arm in study_arms(study) if arm.compute == compute and arm.name in means]
        fixed = [arm.name for arm in here if not arm.grown]
        best = min(fixed, key=lambda name: (-len(losses[name]), means[name]), default=None)
        for arm in here:
            against = {} if best is None else losses[best]
            both = [seed for seed in losses[arm.name] if seed in against]
            differences = np.array([losses[arm.name][seed] - against[seed] for seed in both])
            rho, n = _transfer_efficiency(study, arm, means)
            rows.append(
                StudyRow(
                    compute=compute, arm=arm.name, grown=arm.grown, steps=arm.plan.steps,
                    flops=float(plan_flops(arm.plan)), losses=tuple(losses[arm.name].values()),
                    seeds=tuple(losses[arm.name]),
                    above_best_fixed=float(differences.mean()) if both else math.nan,
                    standard_error=_standard_error(differences), rho=rho, n=n,
                )
            )  # fmt: skip
    return sorted(rows, key=lambda row: (row.compute, row.mean))


def study_text(rows: Sequence[StudyRow]) -> list[str]:
    """A sentence for each amount of compute: whether what grows ends below every fixed depth, and how sure that is.

    It does where it ends below each of them by more than seeds explain
    (:func:`latebloom.theory.verdict.resolution_of_seeds`).

    Args:
        rows: Of :func:`study_table`.
    """
    told = []
    for _, group in itertools.groupby(rows, key=lambda row: row.compute):
        here = sorted(group, key=lambda row: row.mean)
        grown, fixed = ([row for row in here if row.grown is grows] for grows in (True, False))
        if grown and fixed:
            told.append(_won_or_lost(grown[0], fixed))
    return told


def _won_or_lost(grown: StudyRow, fixed: Sequence[StudyRow]) -> str:
    """The lowest of what grows beside every fixed depth, the lowest of which comes first."""
    beside = []
    for row in fixed:
        ends, others = (dict(zip(r.seeds, r.losses, strict=True)) for r in (grown, row))
        beside.append(np.array([ends[seed] - others[seed] for seed in ends if seed in others]))
    where = f"At {amount_text(grown.flops)} FLOPs {grown.arm} ends at {grown.mean:.4f}"
    least = beside[0]
    if not len(least):
        return f"{where}; {fixed[0].arm}, the best fixed depth, was not trained on its seeds."
    error = _standard_error(least)
    spread = "one seed" if math.isnan(error) else f"± {error:.4f}, {len(least)} seeds"
    far = f"{abs(least.mean()):.4f} {'below' if least.mean() < 0 else 'above'} {fixed[0].arm} ({spread})"
    sure = [
        len(each) > 1 and abs(each.mean()) > resolution_of_seeds(_standard_error(each), len(each)) for each in beside
    ]
    if all(each.mean() < 0 for each in beside) and all(sure):
        return f"Growing wins. {where}, {far}, and below every other fixed depth."
    if least.mean() > 0 and sure[0]:
        return f"Growing does not win. {where}, {far}."
    return f"Not decided. {where}, {far}: not told apart from every fixed depth."


def _transfer_efficiency(study: Study, arm: StudyArm, means: Mapping[str, float]) -> tuple[float, float]:
    """(rho, n) of a grown arm, the full depth's loss interpolated in the logarithm of its steps."""
    if len(arm.plan.stages) != 2 or arm.plan.depth not in study.depths:
        return math.nan, math.nan
    tau, depth = arm.plan.stages[1].start_step, arm.plan.depth
    n = _price(study, arm.plan.stages[0].depth) / _price(study, depth)
    computes = np.array([compute for compute in sorted(study.computes) if f"fixed-{depth}-C{compute}" in means])
    if len(computes) < 2:
        return math.nan, n
    rho = transfer_efficiency(
        means[arm.name], steps=arm.plan.steps, tau=tau,
        fixed_losses=np.array([means[f"fixed-{depth}-C{compute}"] for compute in computes]),
        fixed_steps=computes * _price(study, study.full_depth) / _price(study, depth),
    )  # fmt: skip
    return rho, n


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


def _price(study: Study, depth: int) -> float:
    """FLOPs of a token at ``depth``."""
    return float(flops_per_token(study.shape, depth))
