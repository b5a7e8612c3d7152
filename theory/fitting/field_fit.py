"""The recovery field as the fit of a landscape: for `latebloom fit --law field`, its file, `ask` and the online rule.

The other fits have bootstrap replicas; this one has a posterior, and its intervals are the posterior's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latebloom.theory.fitting.annealed_ends import ends_of, trunk_curve_of
from latebloom.theory.fitting.bootstrap import LEVEL
from latebloom.theory.fitting.curves import LossCurve, Role, check_alike
from latebloom.theory.fitting.landscape_fit import LandscapeFit, curve_of
from latebloom.theory.fitting.recovery_field import COLUMNS
from latebloom.theory.landscapes.field import FieldLaw
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.prediction import Quantiles
from latebloom.theory.record import Record

__all__ = ["FieldFit", "fit_field"]

OPEN = 0.01  # chosen: half an interval, as a share of the loss, up to which it counts as known


@dataclass(frozen=True, kw_only=True)
class FieldFit(LandscapeFit):
    """A fitted :class:`FieldLaw`; see :class:`LandscapeFit`.

    Attributes:
        law: The fitted landscape.
    """

    law: FieldLaw

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> FieldLaw:
        """The law of the ends of ``runs``, with other ``losses``.

        Args:
            runs: Some of this fit's runs, or all.
            losses: Nats at their points, one array a run.
            seed: Not used: nothing is drawn.
        """
        known = {run.name: float(loss[-1]) for run, loss in zip(runs, losses, strict=True)}
        ends = tuple(replace(end, loss=known[end.name]) for end in self.law.ends if end.name in known)
        return self.law.replace(ends=ends)

    def bootstrap(self, *, replicas: int = 60, seed: int = 0) -> tuple[GrowthLandscape, ...]:
        """None: the posterior has intervals of its own.

        Args:
            replicas: Not used.
            seed: Not used.
        """
        return ()

    def report(self, replicas: Sequence[GrowthLandscape], *, level: float = LEVEL) -> dict[str, Any]:
        """As :meth:`LandscapeFit.report`, with the posterior's 90 % intervals.

        Args:
            replicas: Of :meth:`bootstrap`, none.
            level: Of intervals of replicas, of which there are none.
        """
        table = super().report(replicas, level=level)
        quantiles = {name: self.law.field.parameter(name) for name in COLUMNS} | self.final_losses()
        rows = {name: {"value": q.median, "low": q.low, "high": q.high} for name, q in quantiles.items()}
        return table | {"parameters": rows}

    def final_losses(self) -> dict[str, Quantiles]:
        """Expected losses of the small and the full depth after the reference area, nats per token."""
        law = self.law
        depths = {"small depth ends at": law.small_depth, "full depth ends at": law.full_depth}
        out = {}
        for name, depth in depths.items():
            small = depth == law.small_depth
            at = law.field.points([law.reference * small], [law.reference * (not small)], [depth])
            low, median, high = np.quantile(law.field.draws(at, number=1000)[:, 0], [0.05, 0.5, 0.95])
            out[name] = Quantiles(low=float(low), median=float(median), high=float(high))
        return out


def fit_field(records: Sequence[Record]) -> FieldFit:
    """The recovery field of pilots, as a landscape; its reference is the largest learning-rate area among them.

    Args:
        records: Finished runs of one experiment and one seed: the small depth annealed at three horizons or more, and
            runs of the full depth or grown to it.

    Returns:
        The fit.

    Raises:
        InputError: as :func:`~latebloom.theory.fitting.recovery_field.fit_recovery_field`.
    """
    check_alike(records)
    depths = {stage.depth for record in records for stage in record.plan.stages}
    small, full = min(depths), max(depths)
    ends = ends_of(records, small_depth=small, full_depth=full)
    law = FieldLaw(
        small_depth=small,
        full_depth=full,
        ends=ends,
        reference=max(end.area for end in ends),
        trunk_curve=trunk_curve_of(records, small_depth=small),
    )
    law.field  # noqa: B018  (refuses what cannot be fitted, before anything else does)
    runs = tuple(_run(record, end.kind) for record, end in zip(records, ends, strict=True) if end.kind != "between")
    fit = FieldFit(
        law=law,
        runs=runs,
        predicted=tuple(curve_of(law, run) for run in runs),
        identifiability=(),
        digests=tuple(dict.fromkeys(end.digest for end in ends)),
    )
    lines = [
        f"{name} anything from {q.low:.4g} to {q.high:.4g}: train that depth for longer."
        for name, q in fit.final_losses().items()
        if q.high - q.low > 2 * OPEN * q.median
    ]
    return replace(fit, identifiability=tuple(lines))


def _run(record: Record, role: Role) -> LossCurve:
    """The end of a run, which is all that the field knows of it."""
    plan = record.plan
    return LossCurve(
        name=record.header.name,
        schedule=plan.schedule,
        step=np.array([plan.steps]),
        loss=np.array([record.final()]),
        role=role,
        tau=plan.tau,
    )
