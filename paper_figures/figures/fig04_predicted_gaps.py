"""Figure 4: gaps between grown and fixed runs as predicted from pilots, beside what was measured.

For each of three seeds the recovery field is fitted to pilots that cost less than the run: the small depth annealed at
a quarter, half and all of the horizon, the full depth at a quarter, and one growth of a quarter of the horizon. It is
then asked for every gap between a grown run and a control that was trained. Left: predicted medians and 90 % intervals
against measured gaps. Right: the probability integral transforms of the measured gaps, which lie on the diagonal if
the predictions are honest.

Records: runs of the demo's corpus and model, 1 -> 4 blocks, branches of constant-rate trunks of one seed each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import CONTROL_STYLES, told_depths
from latebloom.paper_figures.seeds import told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.controls import control
from latebloom.theory.fitting.recovery_field import field_of_records
from latebloom.theory.scoring import draws_of, gap_draws, pit, quantiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

PILOTS = ("small-200", "small-400", "small-800", "full-200", "grown200-90")
GAPS = {  # by grown run, its controls that were trained; seeds 1 and 2 have theirs of 1115 steps as small-trunk
    "grown-160": {"fixed": "full-800", "small": "small-800"},
    "grown-360": {
        "fixed": "full-800", "small": "small-800", "equal_compute": "full-650", "small_equal_compute": "small-1115",
        "depth_equal_compute-2": "two-900",
    },
    "grown-600": {
        "fixed": "full-800", "small": "small-800", "equal_compute": "full-550", "small_equal_compute": "small-942",
        "depth_equal_compute-2": "two-760",
    },
}  # fmt: skip
LONGEST = "small-1115"  # of seeds 1 and 2 it is their trunk, called so
DRAWS = 1000


def record_of(seed: int, name: str) -> str:
    """Name of the record of run ``name``; the longest small run of seeds 1 and 2 is their trunk."""
    return f"demo_scale/s{seed}_{'small-trunk' if seed and name == LONGEST else name}"


def records_of(names: Iterable[str]) -> list[str]:
    """Records for ``RECORDS``: those of seed 0, which must be there, and what other seeds have of them.

    Args:
        names: Of runs.
    """
    both = [(record_of(0, name), record_of(1, name).replace("/s1_", "/s[1-9]*_")) for name in dict.fromkeys(names)]
    return [record for pair in both for record in pair]


def seeds_of(records: Mapping[str, Record], run: str) -> list[int]:
    """The seeds of which there is a run.

    Args:
        records: By name.
        run: Its name, without the seed.
    """
    return sorted({r.header.seed for name, r in records.items() if name == record_of(r.header.seed, run)})


RECORDS = records_of([*PILOTS, *GAPS, *(run for controls in GAPS.values() for run in controls.values())])


class Gap(NamedTuple):
    """One gap: its control's row, predicted quantiles, what was measured and where that fell; whose gap it is."""

    row: str
    low: float
    median: float
    high: float
    measured: float
    pit: float
    plan: Plan
    seed: int


def prepare(records: dict[str, Record]) -> list[Gap]:
    """Every gap of every seed whose pilots are there."""
    gaps = []
    for seed in seeds_of(records, PILOTS[-1]):
        runs = {name: records[record_of(seed, name)] for name in (*PILOTS, *GAPS)}
        small, full = (runs[name].plan for name in PILOTS[2:4])
        pilots = [runs[name] for name in PILOTS]
        field = field_of_records(
            pilots, small_depth=small.depth, full_depth=full.depth, reference=small.schedule.total_area
        )
        wanted = [
            (grown, each, run)
            for grown, controls in GAPS.items()
            for each, run in controls.items()
            if record_of(seed, run) in records
        ]
        controls = {run: records[record_of(seed, run)] for _, _, run in wanted}
        asked = {name: runs[name].plan for name in GAPS} | {name: record.plan for name, record in controls.items()}
        draws = draws_of(field, asked, number=DRAWS, seed=seed)
        for grown, each, run in wanted:
            drawn = gap_draws(draws, grown, run)
            measured = runs[grown].final() / controls[run].final() - 1
            row = control(each).row
            q = quantiles(drawn)
            gaps.append(Gap(row, q.low, q.median, q.high, measured, pit(drawn, measured), runs[grown].plan, seed))
    return gaps


def make(gaps: list[Gap]) -> Figure:
    """Left: predicted against measured. Right: the distribution of the transforms."""
    figure, (left, right) = plt.subplots(1, 2)
    for row in dict.fromkeys(gap.row for gap in gaps):
        here = [gap for gap in gaps if gap.row == row]
        color = CONTROL_STYLES[row][0] if row != "small" else "#CC79A7"
        label = control("depth_equal_compute-2" if row == "depth_equal_compute" else row).label
        measured = 100 * np.array([gap.measured for gap in here])
        low, median, high = (100 * np.array([gap[i] for gap in here]) for i in (1, 2, 3))
        left.vlines(measured, low, high, color=color, linewidth=0.9, alpha=0.6)
        left.plot(measured, median, "o", color=color, markersize=3, label=label)
    ends = [100 * f(min(g.low, g.measured) if f is min else max(g.high, g.measured) for g in gaps) for f in (min, max)]
    left.plot(ends, ends, color="#999999", linewidth=0.7, zorder=0, label="_equal")
    left.set(xlabel="measured gap (%)", ylabel="predicted gap (%)", title="grown against controls")
    transforms = np.sort([gap.pit for gap in gaps])
    share = np.arange(1, len(gaps) + 1) / len(gaps)
    right.step(transforms, share, where="post", color="#D55E00", label="gaps")
    right.plot([0, 1], [0, 1], color="#999999", linewidth=0.7, zorder=0, label="_honest")
    right.set(
        xlabel="predicted chance of a smaller gap",
        ylabel="share of the gaps",
        title="on the diagonal if the intervals are right",
    )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def data(gaps: list[Gap]) -> Table:
    """Every gap, shares of the control's loss."""
    return Table(
        ("control", "low", "median", "high", "measured", "predicted chance of a smaller gap"), [gap[:6] for gap in gaps]
    )


def caption(gaps: list[Gap]) -> str:
    """The caption, its numbers computed."""
    covered = sum(gap.low <= gap.measured <= gap.high for gap in gaps)
    error = np.median([abs(gap.median - gap.measured) for gap in gaps])
    plan, taus = gaps[0].plan, ", ".join(map(str, sorted({gap.plan.tau for gap in gaps if gap.plan.tau})))
    seeds = told_seeds([len({gap.seed for gap in gaps})])
    return (
        f"{len(gaps)} gaps between grown runs ({told_depths(plan)} at step {taus} of {plan.steps}) and their controls, "
        f"{seeds}, each predicted from {len(PILOTS)} pilots of its seed: {covered} lie in their 90 % intervals, the "
        f"median error is {error:.2%} of the loss. Right: how probable a smaller gap than the measured one was called, "
        "in order; below the diagonal the gaps come out larger than predicted. Gaps of one seed share runs and are not "
        "independent."
    )
