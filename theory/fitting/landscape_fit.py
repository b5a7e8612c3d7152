"""What every fit of a landscape to pilots gives: the law, its replicas, errors by run, and what pilots leave open.

A fit of one law subclasses :class:`LandscapeFit` and says how to fit it again (:meth:`LandscapeFit.refit`); residuals,
bootstrap, report and provenance are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latebloom.theory import checks
from latebloom.theory.fitting.bootstrap import LEVEL, interval, resampled_losses
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.plan import Provenance
from latebloom.theory.schedules import AnySchedule
from latebloom.theory.words import blocks_text

__all__ = ["LandscapeFit", "curve_of"]

KNOWN = 0.01  # chosen: half a final loss's interval, as a share of it, up to which it counts as known
COVERED = 0.9  # chosen: share of a horizon's area from which on a run counts as having seen it
AHEAD = 3  # chosen: horizons of the longest pilot at which a report without a plan looks


@dataclass(frozen=True, kw_only=True)
class LandscapeFit:
    """A landscape fitted to pilots.

    Attributes:
        law: The fitted landscape.
        runs: The fitted points, a run an entry.
        predicted: The law's losses at them, one array a run.
        identifiability: One line for each parameter that these pilots leave open, and the pilot that would fix it.
        digests: Plan digests of the pilots.
    """

    law: GrowthLandscape
    runs: tuple[LossCurve, ...]
    predicted: tuple[np.ndarray, ...]
    identifiability: tuple[str, ...]
    digests: tuple[str, ...]

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> GrowthLandscape:
        """The law fitted to other ``losses`` of ``runs``, from this fit's optimum where the law has a search.

        Args:
            runs: Some of this fit's runs, or all.
            losses: Nats at their points, one array a run.
            seed: Of the search.

        Returns:
            The law.
        """
        raise NotImplementedError

    def bootstrap(self, *, replicas: int = 60, seed: int = 0) -> tuple[GrowthLandscape, ...]:
        """Replicas of the law by wild cluster bootstrap with held-out residuals; see :mod:`...fitting.bootstrap`.

        Args:
            replicas: How many.
            seed: Of the weights and the searches.

        Returns:
            One law a replica.
        """
        residuals = self._held_out_residuals(seed)
        return tuple(
            self.refit(self.runs, losses, seed=seed)
            for losses in resampled_losses(self.predicted, residuals, replicas=replicas, seed=seed)
        )

    def can_do_without(self, others: Sequence[LossCurve], run: LossCurve) -> bool:
        """Whether the law can be fitted to ``others`` alone: here, whether another run has the role of ``run``.

        Args:
            others: All runs but ``run``.
            run: The one that would be held out.
        """
        return run.role in {other.role for other in others}

    def _held_out_residuals(self, seed: int) -> list[np.ndarray]:
        """log(loss/prediction) of each run, predicted without it where another run has its role."""
        residuals = []
        for run, predicted in zip(self.runs, self.predicted, strict=True):
            others = [other for other in self.runs if other is not run]
            if self.can_do_without(others, run):
                predicted = curve_of(self.refit(others, [other.loss for other in others], seed=seed), run)
            residuals.append(np.log(run.loss / np.maximum(predicted, 1e-9)))
        return residuals

    def provenance(self) -> Provenance:
        """What a plan made from this fit says of its origin."""
        name = str(self.law.__struct_config__.tag)
        return Provenance(landscape=name, parameters=self.law.parameters, pilots=self.digests)

    def report(self, replicas: Sequence[GrowthLandscape], *, level: float = LEVEL) -> dict[str, Any]:
        """Parameters with intervals, errors by run, and what the pilots leave open, as plain data.

        Args:
            replicas: Of :meth:`bootstrap`; without any there are no intervals.
            level: Of the intervals.

        Returns:
            ``parameters``, ``runs`` and ``identifiability``.
        """
        parameters = {}
        tables = [replica.parameters for replica in replicas]
        for name, value in self.law.parameters.items():
            values = [table[name] for table in tables if name in table]
            spread = interval(values, level=level, estimate=value) if values else None
            parameters[name] = {
                "value": value,
                "low": spread.low if spread else None,
                "high": spread.high if spread else None,
            }
        errors = [np.abs(p / run.loss - 1) for p, run in zip(self.predicted, self.runs, strict=True)]
        return {
            "parameters": parameters,
            "runs": {
                run.name: {"role": run.role, "points": len(run.step), "mean": float(e.mean()), "worst": float(e.max())}
                for run, e in zip(self.runs, errors, strict=True)
            },
            "identifiability": [*self.identifiability, *self.left_open(replicas, self._ahead(), level=level)],
        }

    def left_open(
        self, replicas: Sequence[GrowthLandscape], schedule: AnySchedule, *, level: float = LEVEL
    ) -> list[str]:
        """What the pilots cannot say of the full depth's final loss on ``schedule``, in words; empty if known to 1 %.

        Short pilots see one falling curve: a low floor with a small exponent and a high floor with a large one fit it
        alike and part beyond it. The small depth alone for the whole horizon, the cheapest run that long, tells them
        apart.

        Args:
            replicas: Of :meth:`bootstrap`.
            schedule: Of the run that is asked about.
            level: Of the intervals.

        Returns:
            Lines for people.
        """
        checks.inside("level", level, 0, 1, fix="give a share such as 0.9")
        area, steps = schedule.total_area, schedule.horizon
        small = [float(r.schedule.area(r.tau or r.schedule.horizon)) for r in self.runs if r.role != "full"]
        if len(replicas) < 2 or max(small) >= COVERED * area:
            return []
        final = float(self.law.fixed(schedule, steps, depth=self.law.full_depth))
        losses = interval([float(law.fixed(schedule, steps, depth=law.full_depth)) for law in replicas], level=level)
        half = (losses.high - losses.low) / 2
        if losses.high - losses.low <= 2 * KNOWN * final:
            return []
        return [
            f"{self._confounded(replicas, level)}: the small depth is seen for {max(small) / area:.0%} of the "
            f"learning-rate area of {steps} steps, so the full depth's final loss there may be anything from "
            f"{losses.low:.4g} to {losses.high:.4g} (+-{half / final:.1%}). A pilot of "
            f"{blocks_text(self.law.small_depth)} alone for all {steps} steps would tell."
        ]

    def _confounded(self, replicas: Sequence[GrowthLandscape], level: float) -> str:
        """Which parameters stand for each other where the final loss is open."""
        return "the final loss is not known"

    def _ahead(self) -> AnySchedule:
        """The schedule of the longest pilot, three times as long."""
        longest = max((run.schedule for run in self.runs), key=lambda schedule: schedule.total_area)
        return longest.with_steps(AHEAD * longest.horizon)


def curve_of(law: GrowthLandscape, run: LossCurve) -> np.ndarray:
    """What ``law`` says of a run at its points, by the run's role.

    Args:
        law: A landscape.
        run: One with a role.

    Returns:
        Nats, shape (points,).
    """
    if run.tau is not None:
        return law.grown(run.schedule, run.step, tau=run.tau)
    return law.fixed(run.schedule, run.step, depth=law.small_depth if run.role == "small" else law.full_depth)
