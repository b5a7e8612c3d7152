r"""A study: a declared grid of runs that asks, at equal compute, whether growing beats every run that does not grow.

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
import tomllib
from collections.abc import Iterator, Sequence
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
from latebloom.theory.schedules import WSD
from latebloom.theory.spec import Count, Fraction, Positive, Spec, finite_plain, from_plain
from latebloom.train.config import TrainConfig
from latebloom.train.run.several import run_all

__all__ = [
    "GrowthGrid",
    "Study",
    "StudyArm",
    "StudyRow",
    "price",
    "read_study",
    "run_study",
    "study_arms",
    "study_table",
]

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
class StudyArm:
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
        """FLOPs of what this run trains itself, its trunk's part left out.

        Args:
            trunk_every: Steps between the trunk's checkpoints.
        """
        total = float(plan_flops(self.plan))
        if self.trunk is None:
            return total
        shared = self.plan.stages[1].start_step if self.grown else self.plan.steps - _decay_steps(self.plan)
        return total - float(plan_flops(self.plan, shared // trunk_every * trunk_every))


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
    """Every arm of ``study``, trunks first.

    Args:
        study: The study.
    """
    made: dict[str, StudyArm] = {}
    longest = max(study.computes)
    for compute in sorted(study.computes, reverse=True):
        for depth in sorted(study.depths):
            name = f"fixed-{depth}-C{compute}"
            trunk = None if compute == longest else f"fixed-{depth}-C{longest}"
            stages: tuple[Stage, ...] = (Stage(start_step=0, depth=depth),)
            steps = max(2, round(compute * _price(study, study.full_depth) / _price(study, depth)))
            made[name] = StudyArm(name=name, compute=compute, plan=_plan(study, name, steps, stages), trunk=trunk)
    for grid in study.growth:
        for compute in sorted(grid.computes or study.computes, reverse=True):
            for name, steps, grown in _growths(study, grid, compute):
                trunk = f"fixed-{grid.small}-C{longest}"
                made[name] = StudyArm(name=name, compute=compute, plan=_plan(study, name, steps, grown), trunk=trunk)
    return sorted(made.values(), key=lambda arm: arm.trunk is not None)


def _growths(study: Study, grid: GrowthGrid, compute: int) -> Iterator[tuple[str, int, tuple[Stage, Stage]]]:
    """(name, horizon, stages) of each way of growing that ``grid`` declares, at one amount of compute."""
    full = study.full_depth if grid.full is None else grid.full
    budget = compute * _price(study, study.full_depth)
    small_price, full_price = _price(study, grid.small), _price(study, full)
    every = _checkpoint_every(study, grid.small)
    for share in grid.at:
        horizon = budget / (small_price * share + full_price * (1 - share))
        tau = max(1, round(share * horizon / every)) * every  # where the trunk has a checkpoint
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
    every = {depth: _checkpoint_every(study, depth) for depth in study.depths}
    return len(study.seeds) * sum(arm.own_flops(every[arm.plan.stages[0].depth]) for arm in study_arms(study))


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

    Raises:
        InputError: if a run stands in ``out`` under the name of one of these and is of another plan, data or seed.
    """
    config, console = config or TrainConfig(quiet=True), console or Console(quiet=True)
    records: dict[str, Record] = {}
    for seed in study.seeds:
        for depth in sorted(study.depths):
            every = _checkpoint_every(study, depth)
            here = config.replace(seed=seed, checkpoint_every=every, keep_checkpoints=2 * CHECKPOINTS)
            mine = [arm for arm in study_arms(study) if arm.plan.stages[0].depth == depth]
            for part in ([arm for arm in mine if arm.trunk is None], [arm for arm in mine if arm.trunk is not None]):
                plans = [arm.plan.replace(name=f"{arm.name}-s{seed}") for arm in part]
                trunks = {f"{arm.name}-s{seed}": out / f"{arm.trunk}-s{seed}" for arm in part if arm.trunk}
                done = run_all(plans, data, out, config=here, console=console, trunks=trunks)
                records |= {plan.name: record for plan, record in zip(plans, done, strict=True)}
    return records


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """What one arm ended at, beside the best run of equal compute that does not grow.

    Attributes:
        compute: C, in steps of the full depth.
        arm: Its name.
        grown: Whether it grows.
        steps: Its horizon.
        flops: What it takes.
        losses: Final losses by seed, nats a token.
        above_best_fixed: Mean over seeds of its loss minus that of the fixed depth whose mean is lowest at C, nats.
        standard_error: Of that mean, over seeds; nan with one.
        rho: Transfer efficiency: it ends where the full depth ends after (T - tau) + rho tau steps; nan for fixed runs
            and outside the full depth's measured range. Growing beats the full depth where rho > n.
        n: Price of a step of the small depth, in steps of the depth it grows to; nan for fixed runs.
    """

    compute: int
    arm: str
    grown: bool
    steps: int
    flops: float
    losses: tuple[float, ...]
    above_best_fixed: float
    standard_error: float
    rho: float
    n: float

    @property
    def mean(self) -> float:
        """Mean final loss over seeds."""
        return float(np.mean(self.losses))


def study_table(study: Study, finals: dict[str, float]) -> list[StudyRow]:
    """One row an arm, by compute and mean loss.

    Args:
        study: The study.
        finals: Final losses by ``ARM-sSEED``, nats a token.
    """
    every_arm = study_arms(study)
    losses = {arm.name: np.array([finals[f"{arm.name}-s{seed}"] for seed in study.seeds]) for arm in every_arm}
    rows: list[StudyRow] = []
    for compute in sorted(study.computes):
        here = [arm for arm in every_arm if arm.compute == compute]
        best = min((arm.name for arm in here if not arm.grown), key=lambda name: losses[name].mean())
        for arm in here:
            differences = losses[arm.name] - losses[best]
            rho, n = _transfer_efficiency(study, arm, losses)
            rows.append(
                StudyRow(
                    compute=compute, arm=arm.name, grown=arm.grown, steps=arm.plan.steps,
                    flops=float(plan_flops(arm.plan)), losses=tuple(losses[arm.name].tolist()),
                    above_best_fixed=float(differences.mean()), standard_error=_standard_error(differences),
                    rho=rho, n=n,
                )
            )  # fmt: skip
    return sorted(rows, key=lambda row: (row.compute, row.mean))


def _transfer_efficiency(study: Study, arm: StudyArm, losses: dict[str, np.ndarray]) -> tuple[float, float]:
    """(rho, n) of a grown arm, the full depth's loss interpolated in the logarithm of its steps."""
    if not arm.grown:
        return math.nan, math.nan
    tau, depth = arm.plan.stages[1].start_step, arm.plan.depth
    n = _price(study, arm.plan.stages[0].depth) / _price(study, depth)
    computes = np.array(sorted(study.computes))
    fixed = np.array([losses[f"fixed-{depth}-C{compute}"].mean() for compute in computes])
    rho = transfer_efficiency(
        float(losses[arm.name].mean()), steps=arm.plan.steps, tau=tau, fixed_losses=fixed,
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


def _decay_steps(plan: Plan) -> int:
    schedule = plan.schedule
    assert isinstance(schedule, WSD)
    return schedule.decay_steps


def _price(study: Study, depth: int) -> float:
    """FLOPs of a token at ``depth``."""
    return float(flops_per_token(study.shape, depth))
