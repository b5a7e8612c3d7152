"""Annealed ends of finished runs, and the small trunk's validation curve: what a recovery field is fitted to.

A loss counts at the end of a whole schedule, never inside one. Runs of one seed and data order are paired: they share
most of their error, which cancels in every difference. Runs that are one run until they decay or grow share a trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

__all__ = ["FEWEST_SMALL_ENDS", "AnnealedEnd", "TrunkCurve", "check_ends", "ends_of", "falls", "trunk_curve_of"]

Kind = Literal["small", "between", "full", "grown"]
FEWEST_SMALL_ENDS = 3  # a power law has three numbers
APART = 1.25  # ratio of areas from which two ends show a share an e-fold: those of nearer ones show their noise
CURVE_BEGIN = 0.1  # of the trunk's area: earlier, the curve of a steep power law is worse conditioned than the ends
CURVE_POINTS = 12
FEWEST_CURVE_POINTS = 5


@dataclass(frozen=True, kw_only=True)
class AnnealedEnd:
    """The end of one finished run, and what it shares with others.

    Attributes:
        name: Of the run.
        kind: ``small``, ``full`` or a depth ``between``, never grown; or ``grown`` from the small to the full depth.
        depth: Blocks at the end.
        steps: Horizon T.
        tau: Expansion step, 0 for a run of one depth.
        area: Learning-rate area of the whole schedule, learning rate x steps.
        area_before: Area before the expansion: 0 for a run of one depth, all of it for the small one.
        loss: Validation loss at the horizon, nats per token.
        seed: Of weights and data order.
        data: Digest of the data, None if it was not recorded.
        trunk: Equal for runs that are one run until they decay or grow.
        recipe: How the new blocks begin, '' for a run of one depth.
        peak_lr: Peak learning rate.
        warmup_steps: Steps until it is reached.
        flops: Training FLOPs of the run alone, its trunk included.
        digest: SHA-256 of its plan, '' if there is none.
        stable_steps: Step up to which a branch with another decay is the same run, 0 if none can be.
        optimizer: Name of the optimizer, '' if it is not known.
    """

    name: str
    kind: Kind
    depth: int
    steps: int
    tau: int
    area: float
    area_before: float
    loss: float
    seed: int
    data: str | None
    trunk: str
    recipe: str
    peak_lr: float
    warmup_steps: int
    flops: float = 0.0
    digest: str = ""
    stable_steps: int = 0
    optimizer: str = ""


@dataclass(frozen=True, kw_only=True)
class TrunkCurve:
    """Validation losses of the small depth's trunk at its constant learning rate.

    Attributes:
        area: Learning-rate area up to each point, learning rate x steps, (points,).
        loss: Validation loss, nats per token, (points,).
        noise: Standard deviation of a point about a smooth curve, nats per token.
    """

    area: tuple[float, ...]
    loss: tuple[float, ...]
    noise: float

    def __len__(self) -> int:
        return len(self.loss)

    @classmethod
    def thinned(cls, area: np.ndarray, loss: np.ndarray) -> TrunkCurve | None:
        """At most :data:`CURVE_POINTS` points equally spaced in ln area, from a tenth of the last area on.

        ``noise`` is the scatter of all points there about the straight line in ln area between their neighbours, the
        median absolute one x 1.4826, divided by what independent errors of the three points make of it.

        Args:
            area: Learning-rate area up to each point, increasing, learning rate x steps, (all points,).
            loss: Validation loss, nats per token, (all points,).

        Returns:
            The curve; None if there are fewer than :data:`FEWEST_CURVE_POINTS` points.
        """
        late = area >= CURVE_BEGIN * area.max(initial=0.0)
        area, loss = area[late], loss[late]
        if len(area) < FEWEST_CURVE_POINTS:
            return None
        log_area = np.log(area)
        share = (log_area[1:-1] - log_area[:-2]) / (log_area[2:] - log_area[:-2])
        apart = loss[1:-1] - (1 - share) * loss[:-2] - share * loss[2:]
        noise = 1.4826 * np.median(np.abs(apart) / np.sqrt(1 + share**2 + (1 - share) ** 2))
        wanted = np.linspace(log_area[0], log_area[-1], CURVE_POINTS)
        kept = np.unique(np.abs(log_area[:, None] - wanted).argmin(axis=0))
        return cls(area=tuple(area[kept].tolist()), loss=tuple(loss[kept].tolist()), noise=float(noise))


def ends_of(records: Sequence[Record], *, small_depth: int, full_depth: int) -> tuple[AnnealedEnd, ...]:
    """The annealed ends of finished runs.

    Args:
        records: Finished runs of one experiment.
        small_depth: l.
        full_depth: L.

    Raises:
        InputError: if a run did not finish, or is none of: one depth from l to L, or l grown once to L.
    """
    return tuple(_end(record, small_depth, full_depth) for record in records)


def trunk_curve_of(records: Sequence[Record], *, small_depth: int) -> TrunkCurve | None:
    """The small depth's validation curve at constant learning rate, of its longest run.

    Args:
        records: Finished runs of one experiment and one seed.
        small_depth: l.

    Returns:
        The curve; None if no run of the small depth has a phase of constant rate with points enough.
    """
    small = [record for record in records if [stage.depth for stage in record.plan.stages] == [small_depth]]
    if not small:
        return None
    trunk = max(small, key=lambda record: record.plan.steps)
    schedule = trunk.plan.schedule
    at_peak = np.flatnonzero(np.isclose(schedule.lrs(), schedule.peak))
    steps, loss = trunk.curve(split="val")
    constant = (steps > 0) & (steps >= at_peak[0]) & (steps <= at_peak[-1] + 1) & np.isfinite(loss)
    area = np.array([float(schedule.area(int(step))) for step in steps[constant]])
    return TrunkCurve.thinned(area, loss[constant])


def _end(record: Record, small_depth: int, full_depth: int) -> AnnealedEnd:
    plan, header = record.plan, record.header
    plan.refuse_special_stages("the field")
    depths = [stage.depth for stage in plan.stages]
    rule = f"is neither one depth from {small_depth} to {full_depth} nor one growth {small_depth} -> {full_depth}"
    if depths[0] < small_depth or depths[-1] > full_depth or len(depths) > 2:
        raise InputError(f"{header.name}: depths", depths, rule, "leave it out")
    kind: Kind = "between"
    if len(depths) == 2:
        if depths != [small_depth, full_depth]:
            fix = f"leave it out; to plan {depths[0]} -> {depths[1]}, fit a field of those two depths"
            raise InputError(f"{header.name}: depths", depths, rule, fix)
        kind = "grown"
    elif depths[0] in (small_depth, full_depth):
        kind = "small" if depths[0] == small_depth else "full"
    total = plan.schedule.total_area
    before = {"grown": float(plan.schedule.area(plan.tau or 0)), "small": total}.get(kind, 0.0)
    last = plan.stages[-1]
    return AnnealedEnd(
        name=header.name,
        kind=kind,
        depth=depths[-1],
        steps=plan.steps,
        tau=plan.tau or 0,
        area=total,
        area_before=before,
        loss=record.final(),
        seed=header.seed,
        data=header.data_digest,
        trunk=_trunk(plan),
        recipe=f"{last.init} {last.order} {last.optimizer_state}" if kind == "grown" else "",
        peak_lr=plan.schedule.peak,
        warmup_steps=_warmup_steps(plan),
        flops=plan_flops(plan),
        digest=header.plan_digest,
        stable_steps=_stable_steps(plan),
        optimizer=plan.optimizer.name,
    )


def _warmup_steps(plan: Plan) -> int:
    """Updates until the learning rate is at its peak, of whatever shape."""
    return int(np.argmax(plan.schedule.lrs())) + 1


def _has_trunk(plan: Plan) -> bool:
    """Whether the rate is constant between warm-up and decay, so that branches can leave it anywhere."""
    return type(plan.schedule).__name__ in ("WSD", "Constant")


def _stable_steps(plan: Plan) -> int:
    """Updates at the constant rate or before it."""
    return plan.steps - int(getattr(plan.schedule, "decay_steps", 0)) if _has_trunk(plan) else 0


def _trunk(plan: Plan) -> str:
    """Runs that begin at one depth, with one optimizer and one constant rate after one warm-up, are one run so far."""
    schedule = plan.schedule
    start = f"{schedule.peak} {_warmup_steps(plan)}" if _has_trunk(plan) else plan.digest
    return f"depth {plan.stages[0].depth}, {plan.batch_tokens} tokens, {plan.optimizer}, {start}"


def falls(ends: Sequence[AnnealedEnd], kind: Kind) -> tuple[list[AnnealedEnd], np.ndarray]:
    """What a fixed depth loses of its loss an e-fold of area, -d ln loss/d ln area, from each horizon to the next.

    Args:
        ends: Of pilots.
        kind: ``small`` or ``full``.

    Returns:
        One end of each horizon, shortest first, counted from the longest down and each well below the next; and the
        shares between them, over seeds of a horizon their mean, one fewer.
    """
    alike = sorted((end for end in ends if end.kind == kind), key=lambda end: -end.area)
    chosen: list[AnnealedEnd] = []
    for end in alike:
        if not chosen or end.area * APART <= chosen[-1].area:
            chosen.append(end)
    chosen = chosen[::-1]
    logs = [np.mean([np.log(other.loss) for other in alike if other.area == end.area]) for end in chosen]
    return chosen, -np.diff(logs) / np.diff(np.log([end.area for end in chosen]))


def check_ends(ends: Sequence[AnnealedEnd]) -> None:
    """Refuse what no field can be fitted to, and name the pilot that would mend it.

    Args:
        ends: Of pilots.

    Raises:
        InputError: for too few annealed ends, unpaired runs, different warm-ups or peak rates, growth of different
            recipes, diverged runs, or losses that are not positive.
    """
    small = [end for end in ends if end.kind == "small"]
    others = [end for end in ends if end.kind != "small"]
    if not small:
        fix = "train the small depth to the horizon and anneal it at an eighth, a quarter, a half and all of it"
        raise InputError("pilots", [end.name for end in ends], "hold no run of the small depth alone", fix)
    horizons = sorted({end.steps for end in small})
    if len(horizons) < FEWEST_SMALL_ENDS:
        missing = [t for t in (horizons[-1] // 4, horizons[-1] // 2, horizons[-1] // 8) if t not in horizons]
        wanted = " and ".join(str(t) for t in missing[: FEWEST_SMALL_ENDS - len(horizons)])
        rule = f"too few annealed ends of the small depth: its slope needs {FEWEST_SMALL_ENDS} horizons"
        raise InputError("pilots", horizons, rule, f"anneal the small depth's trunk at step {wanted} too")
    pairs = {(end.seed, end.data) for end in small}
    for end in others:
        if (end.seed, end.data) not in pairs:
            rule = f"is unpaired: no run of the small depth has its seed {end.seed} and its data order"
            raise InputError(f"{end.name}: seed", end.seed, rule, f"train the small depth with seed {end.seed}")
    common = max({end.warmup_steps for end in small}, key=[end.warmup_steps for end in small].count)
    for end in ends:
        if end.warmup_steps != common:
            rule = f"differs from the warm-up of the other runs, {common} steps"
            fix = f"train it again with a warm-up of {common} steps: pilots keep the warm-up in steps"
            raise InputError(f"{end.name}: warmup_steps", end.warmup_steps, rule, fix)
        if not np.isclose(end.peak_lr, small[0].peak_lr):
            rule = f"differs from the peak learning rate of the other runs, {small[0].peak_lr:g}"
            raise InputError(f"{end.name}: peak_lr", end.peak_lr, rule, "leave it out, or train it at that rate")
        if not np.isfinite(end.loss):
            raise InputError(f"{end.name}: loss", end.loss, "is not a number: the run diverged", "leave it out")
        if end.loss <= 0:
            rule = "must be positive: a cross-entropy of text is"
            raise InputError(f"{end.name}: loss", end.loss, rule, "give validation losses in nats per token")
    grown = [end for end in ends if end.kind == "grown"]
    for end in grown:
        if end.recipe != grown[0].recipe:
            rule = f"is a growth of another recipe than {grown[0].name}: {grown[0].recipe}"
            fix = f"grow it again by {grown[0].recipe}, or plan each recipe with its own pilots"
            raise InputError(f"{end.name}: recipe", end.recipe, rule, fix)
