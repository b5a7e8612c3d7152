"""Fitting the law of reuse to pilot runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latebloom.theory.fitting.curves import LossCurve, pilots
from latebloom.theory.fitting.engine import project
from latebloom.theory.fitting.landscape_fit import LandscapeFit, curve_of
from latebloom.theory.landscapes.reuse import ReuseLaw
from latebloom.theory.record import Record

__all__ = ["ReuseFit", "fit_reuse_law"]

# small exponent, alpha1, alpha2, alpha3 and the logarithms of both onsets, of areas relative to the largest
BOX = np.array([[0.05, 3.0], [0.0, 2.0], [0.05, 3.0], [0.0, 1.0], [np.log(1e-3), 0.0], [np.log(1e-3), 0.0]])
THRESHOLD = 0.005  # of pilots, see the engine
FEWEST_POINTS = 12  # one more than numbers


@dataclass(frozen=True, kw_only=True)
class ReuseFit(LandscapeFit):
    """A fitted :class:`ReuseLaw`; see :class:`LandscapeFit`.

    Attributes:
        law: The fitted landscape.
        reference: Largest learning-rate area of the pilots.
    """

    law: ReuseLaw
    reference: float

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> ReuseLaw:
        """The law fitted to other ``losses`` of ``runs``."""
        law = self.law
        return _solve(runs, losses, self.reference, law.small_depth, law.full_depth, seed=seed, starts=2)


def fit_reuse_law(records: Sequence[Record], *, split: str = "val", seed: int = 0, starts: int = 8) -> ReuseFit:
    """Fit the law of reuse to pilot records.

    Args:
        records: Runs of the small depth, alone or before an expansion, of the full depth, and some that grow.
        split: Which loss.
        seed: Of the Sobol multistart.
        starts: Of the Sobol multistart; a power of 2.

    Returns:
        The fit.

    Raises:
        InputError: if roles are missing, or there are fewer points than parameters.
    """
    measured = pilots(records, split=split)
    runs = measured.runs
    measured.check_points(FEWEST_POINTS, parameters=11)
    reference = measured.largest_area
    depths = (measured.small_depth, measured.full_depth)
    law = _solve(runs, [run.loss for run in runs], reference, *depths, seed=seed, starts=starts)
    lines = []
    if not measured.of_role("grown"):
        lines.append("alpha1 and alpha3 are not seen: no pilot grows. Pilots that grow at two steps would show them.")
    return ReuseFit(
        law=law,
        runs=runs,
        predicted=tuple(curve_of(law, run) for run in runs),
        reference=reference,
        identifiability=tuple(lines),
        digests=measured.digests,
    )


def _solve(
    runs: Sequence[LossCurve],
    losses: Sequence[np.ndarray],
    reference: float,
    small_depth: int,
    full_depth: int,
    *,
    seed: int,
    starts: int,
) -> ReuseLaw:
    """The law of least Huber cost; floor, gap, amplitudes and noise are projected out, not below 0."""
    small, before, after, rate = (np.concatenate(column) for column in zip(*map(_areas, runs), strict=True))
    before, after = before / reference, after / reference

    def columns(nonlinear: np.ndarray) -> np.ndarray:
        s, alpha1, alpha2, alpha3, log_trunk_onset, log_onset = nonlinear
        x, y = np.log1p(before / np.exp(log_trunk_onset)), np.log1p(after / np.exp(log_onset))
        alone = np.where(small, np.exp(-s * x), 0.0)
        deep = np.where(small, 0.0, np.exp(-alpha1 * x - alpha2 * y + alpha3 * x * y))
        return np.column_stack([np.ones(len(x)), small.astype(float), alone, deep, rate])

    best = project(columns, np.concatenate(losses), BOX, threshold=THRESHOLD, starts=starts, seed=seed)
    s, alpha1, alpha2, alpha3, log_trunk_onset, log_onset = best.nonlinear.tolist()
    floor, gap, alone, deep, noise = best.linear.tolist()
    return ReuseLaw(
        small_depth=small_depth, full_depth=full_depth, floor=floor, small_gap=gap, small_amplitude=alone,
        small_exponent=s, amplitude=deep, trunk_exponent=alpha1, exponent=alpha2, saturation=alpha3,
        trunk_onset=reference * float(np.exp(log_trunk_onset)), onset=reference * float(np.exp(log_onset)), noise=noise,
    )  # fmt: skip


def _areas(run: LossCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each point: small depth or not, area before and after the expansion, rate of the last update."""
    area = np.asarray(run.schedule.area(run.step), float)
    rate = np.asarray(run.schedule.lr(run.step - 1), float)
    small = np.full(len(area), run.role == "small") if run.tau is None else run.step <= run.tau
    begun = 0.0 if run.tau is None else float(run.schedule.area(run.tau))
    before = np.where(small, area, begun)
    return small, before, area - before, rate
