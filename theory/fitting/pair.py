"""Fitting a pair of loss laws to pilot runs: each depth's law from its own runs, then kappa from those that grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.fitting.curves import LossCurve, pilots
from latebloom.theory.fitting.landscape_fit import LandscapeFit, curve_of
from latebloom.theory.fitting.laws import LawFit, fit_law
from latebloom.theory.landscapes.functional import FunctionalLaw
from latebloom.theory.landscapes.law import Law
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.landscapes.lr_history import history
from latebloom.theory.record import Record

__all__ = ["PairFit", "fit_law_pair"]


@dataclass(frozen=True, kw_only=True)
class PairFit(LandscapeFit):
    """A fitted :class:`LawPair`; see :class:`LandscapeFit`.

    Attributes:
        law: The fitted landscape.
    """

    law: LawPair

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> LawPair:
        """The pair fitted to other ``losses`` of ``runs``, from this fit's shape parameters."""
        changed = [replace(run, loss=loss) for run, loss in zip(runs, losses, strict=True)]
        start: dict[str, Law] = {"small": self.law.small, "full": self.law.full}
        fits = _fit_depths(changed, type(self.law.full), seed, start)
        return _pair(changed, fits, self.law.small_depth, self.law.full_depth)

    def can_do_without(self, others: Sequence[LossCurve], run: LossCurve) -> bool:
        """Whether ``others`` fill its role with more points than the law of a depth has parameters."""
        kind = type(self.law.full)
        enough = len(kind.linear) + len(kind.shapes)
        points = {"small": _small_curves(others), "full": [other for other in others if other.role == "full"]}
        return super().can_do_without(others, run) and all(
            sum(len(curve.step) for curve in curves) > enough for curves in points.values()
        )


def fit_law_pair(
    records: Sequence[Record], *, kind: type[Law] = FunctionalLaw, split: str = "val", seed: int = 0
) -> PairFit:
    """Fit one loss law to each depth, and the distance kappa of new layers to the runs that grow.

    Args:
        records: Runs of the small depth, alone or before an expansion, and of the full depth.
        kind: The law of both depths, a class of :mod:`latebloom.theory.landscapes`.
        split: Which loss.
        seed: Of the Sobol multistarts.

    Returns:
        The fit.

    Raises:
        InputError: if roles are missing, or a depth has no more points than its law has parameters.
    """
    measured = pilots(records, split=split)
    fits = _fit_depths(measured.runs, kind, seed, {})
    law = _pair(measured.runs, fits, measured.small_depth, measured.full_depth)
    lines = [f"{depth} {line}" for depth, fit in fits.items() for line in fit.identifiability]
    if not measured.of_role("grown"):
        lines.append("kappa is taken as 1: no pilot grows. A pilot that grows at half its steps would measure it.")
    return PairFit(
        law=law,
        runs=measured.runs,
        predicted=tuple(curve_of(law, run) for run in measured.runs),
        identifiability=tuple(lines),
        digests=measured.digests,
    )


def _small_curves(runs: Sequence[LossCurve]) -> list[LossCurve]:
    """Runs of the small depth, those that grow up to their expansion among them."""
    curves = [run for run in runs if run.role == "small"]
    for run in runs:
        if run.tau is not None and np.any(before := run.step <= run.tau):
            curves.append(replace(run, step=run.step[before], loss=run.loss[before], role="small", tau=None))
    return curves


def _fit_depths(runs: Sequence[LossCurve], kind: type[Law], seed: int, start: dict[str, Law]) -> dict[str, LawFit]:
    """The law of each depth, from the shape parameters of ``start`` where there is one."""
    curves = {"small": _small_curves(runs), "full": [run for run in runs if run.role == "full"]}
    return {
        depth: fit_law(kind, of_depth, seed=seed, start=start[depth].shape if depth in start else None)
        for depth, of_depth in curves.items()
    }


def _pair(runs: Sequence[LossCurve], fits: dict[str, LawFit], small_depth: int, full_depth: int) -> LawPair:
    """The two laws with kappa >= 0 of least squared relative residuals over what runs show after they grew."""
    pair = LawPair(
        small_depth=small_depth,
        full_depth=full_depth,
        small=fits["small"].law,  # type: ignore[arg-type]
        full=fits["full"].law,  # type: ignore[arg-type]
    )
    slopes, rests = [], []
    for run in runs:
        if run.tau is None or not np.any(after := run.step > run.tau):
            continue
        whole = history(run.schedule, run.step[after])
        tail = history(run.schedule.lrs()[run.tau :], run.step[after] - run.tau)
        slopes.append(pair.fresh(tail) / run.loss[after])
        rests.append(1.0 - (pair.full.predict(whole) - pair.fresh(whole)) / run.loss[after])
    if not slopes:
        return pair
    slope, rest = np.concatenate(slopes), np.concatenate(rests)
    if not np.any(slope != 0):
        raise InputError("pilots", None, "show no modes that only the full depth learns", "run longer pilots")
    return pair.replace(kappa=max(0.0, float(slope @ rest / (slope @ slope))))
