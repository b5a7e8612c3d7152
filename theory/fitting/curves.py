"""A measured run as fits see it, and pilots' records as such runs with their roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.lr_history import history
from latebloom.theory.record import Record

__all__ = ["LossCurve", "Pilots", "Role", "check_alike", "pilots"]

BURN_IN = 0.1  # share of a run's area, and of the area since an expansion, that is not fitted: warm-up transients
Role = Literal["small", "full", "grown"]


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Losses of one run, and every learning rate that led to them.

    Attributes:
        name: Of the run.
        schedule: A schedule, or one learning rate for each update from the first, warm-up included.
        step: Updates done when the losses were measured, increasing, shape (points,).
        loss: Nats, shape (points,).
        role: What it is to a landscape of two depths; None where depth does not matter.
        tau: Updates before its expansion; None for a run that keeps its depth.

    Raises:
        InputError: for losses that are not positive numbers, steps that do not increase or go beyond the schedule.
    """

    name: str
    schedule: Any  # a Schedule or an array of rates; fits of landscapes take schedules only
    step: np.ndarray
    loss: np.ndarray
    role: Role | None = None
    tau: int | None = None

    def __post_init__(self) -> None:
        step, loss = np.asarray(self.step), np.asarray(self.loss, dtype=float)
        if len(step.ravel()) == 0 == len(loss.ravel()):
            raise InputError(
                f"{self.name}: points", 0, "none has been logged yet", "let the run go on, or leave it out"
            )
        if step.shape != loss.shape or step.ndim != 1:
            rule = f"needs one value for each of {step.shape} steps"
            raise InputError(f"{self.name}: loss", loss.shape, rule, "match them")
        if np.any(np.diff(step) <= 0):
            first = int(np.argmax(np.diff(step) <= 0)) + 1
            raise InputError(f"{self.name}: step", step[first].item(), "does not increase", "sort the curve")
        bad = ~(np.isfinite(loss) & (loss > 0))
        if np.any(bad):
            rule = f"must be a positive number (step {step[bad][0]})"
            raise InputError(f"{self.name}: loss", loss[bad][0].item(), rule, "drop diverged points")
        try:
            history(self.schedule, step)
        except InputError as error:
            raise InputError(f"{self.name}: {error.name}", error.value, error.rule, error.fix) from None


@dataclass(frozen=True, kw_only=True)
class Pilots:
    """Pilots of one expansion.

    Attributes:
        small_depth: l.
        full_depth: L.
        runs: The points that are fitted, a run an entry, in the order of the records.
        digests: Plan digests of the pilots.
    """

    small_depth: int
    full_depth: int
    runs: tuple[LossCurve, ...]
    digests: tuple[str, ...]

    def of_role(self, role: Role) -> tuple[LossCurve, ...]:
        """The runs that play ``role``."""
        return tuple(run for run in self.runs if run.role == role)

    @property
    def largest_area(self) -> float:
        """Largest learning-rate area of a pilot, in whose units laws are fitted."""
        return max(run.schedule.total_area for run in self.runs)

    def check_points(self, fewest: int, *, parameters: int) -> None:
        """Refuse too few points.

        Args:
            fewest: Points that there must be.
            parameters: Of the law that is to be fitted.

        Raises:
            InputError: if there are fewer, or for numbers that are not whole and positive.
        """
        checks.whole("fewest", fewest, low=1)
        checks.whole("parameters", parameters, low=1)
        points = sum(len(run.step) for run in self.runs)
        if points < fewest:
            rule = f"are too few for {parameters} parameters"
            raise InputError("points", points, rule, f"evaluate pilots more often ({fewest} at least)")


def check_alike(records: Sequence[Record]) -> None:
    """Refuse records of different models, batches or optimizers.

    Args:
        records: At least one.

    Raises:
        InputError: naming the record and what differs.
    """
    first = records[0].plan
    for record in records:
        for name in ("model", "batch_tokens", "optimizer"):
            if getattr(record.plan, name) != getattr(first, name):
                rule = f"differs from that of {records[0].header.name!r}"
                where = f"{name} of {record.header.name}"
                raise InputError(where, getattr(record.plan, name), rule, "fit runs together that are alike")


def pilots(records: Sequence[Record], *, split: str = "val", burn_in: float = BURN_IN) -> Pilots:
    """Roles and fitted points of pilots' records: the smallest depth alone, the largest, runs that grow between them.

    Args:
        records: At least one run of the small depth, alone or before an expansion, and one of the full depth.
        split: Which loss.
        burn_in: Share of each run's area, and of the area since an expansion, that is left out, in [0, 1).

    Returns:
        The runs.

    Raises:
        InputError: if runs differ in more than depth and schedule, diverged, or a role is missing.
    """
    checks.within("burn_in", burn_in, 0, 1)
    depths = sorted({stage.depth for record in records for stage in record.plan.stages})
    if len(depths) != 2:
        rule = "must be two: the small one and the full one"
        raise InputError("depths", depths, rule, "give pilots of exactly one small and one full depth")
    small, full = depths
    growths = {(s.init, s.order) for record in records for s in record.plan.stages[1:]}
    if len(growths) > 1:
        rule = "are the ways in which these pilots grow: they make different laws"
        raise InputError("init, order", sorted(growths), rule, "give pilots that grow alike")
    check_alike(records)
    runs = []
    for record in records:
        plan = record.plan
        plan.refuse_special_stages("this law")
        step, loss = record.curve(split=split)
        if not np.all(np.isfinite(loss)):
            diverged = int(step[~np.isfinite(loss)][0])
            rule = f"at step {diverged} of pilot {record.header.name!r}: it diverged"
            raise InputError("loss", None, rule, "leave it out, or run it at a lower learning rate")
        area = plan.schedule.area(step)
        keep = area >= burn_in * plan.schedule.total_area
        if plan.tau is not None:
            start = float(plan.schedule.area(plan.tau))
            keep &= (step <= plan.tau) | (area - start >= burn_in * (plan.schedule.total_area - start))
        role: Role = "grown" if plan.tau is not None else "small" if plan.depth == small else "full"
        runs.append(
            LossCurve(
                name=record.header.name,
                schedule=plan.schedule,
                step=step[keep],
                loss=loss[keep],
                role=role,
                tau=plan.tau,
            )
        )
    roles = {run.role for run in runs}
    if "full" not in roles:
        raise InputError(
            "pilots", sorted(map(str, roles)), f"need one of the full depth {full} alone", "run that pilot"
        )
    if not roles & {"small", "grown"}:
        raise InputError("pilots", sorted(map(str, roles)), f"need one of the small depth {small}", "run that pilot")
    return Pilots(
        small_depth=small,
        full_depth=full,
        runs=tuple(runs),
        digests=tuple(record.header.plan_digest for record in records),
    )
