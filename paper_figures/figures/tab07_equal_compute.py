"""Table 7: the ways to spend one amount of compute side by side: the best fixed depth, the best growth, the full depth.

Every model at every amount of compute at which a grown run stands beside the fixed depths of its seed; of the ways of
growing the one of the lowest mean.

Records: of the demo's corpus and model (see figure 4), and every study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from latebloom.paper_figures.figures.fig18_map_of_transfer import MADE_BY, RECORDS
from latebloom.paper_figures.fronts import EQUAL, End, Front, finished_ends, fronts_of, told_model, way_of_growing
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.seeds import told_mean
from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

__all__ = ["MADE_BY", "RECORDS"]


def prepare(records: Mapping[str, Record]) -> list[tuple[str, ...]]:
    """One row a model and amount of compute, by model and compute."""
    ends = finished_ends(records)
    fronts = fronts_of(ends)
    cells: dict[tuple[str, float, float], list[End]] = {}
    for end in ends:
        if end.grown and fronts[end.group, end.seed].judges(end):
            same = (key for key in cells if key[:2] == _kind(end) and abs(end.flops / key[2] - 1) < EQUAL)
            cells.setdefault(next(same, (*_kind(end), end.flops)), []).append(end)
    rows = [_row(runs, fronts) for runs in sorted(cells.values(), key=_place)]
    require(rows, "grown runs beside fixed depths of equal compute", MADE_BY)
    return rows


def _kind(end: End) -> tuple[str, float]:
    """What runs have in common that are compared: their set, and their peak learning rate."""
    return end.group, end.plan.schedule.peak


def _place(runs: list[End]) -> tuple[float, ...]:
    """Models beside those that differ least from them, then by compute."""
    plan = runs[0].plan
    return plan.model.width, plan.model.vocab_size, plan.schedule.peak, plan.batch_tokens, runs[0].flops


def _row(runs: list[End], fronts: Mapping[tuple[str, int], Front]) -> tuple[str, ...]:
    by_way: dict[str, list[End]] = {}
    for run in runs:
        by_way.setdefault(way_of_growing(run.plan), []).append(run)
    above = {
        way: np.array([run.loss - fronts[run.group, run.seed].loss_at(run.flops) for run in its])
        for way, its in by_way.items()
    }
    way = min(above, key=lambda name: above[name].mean())
    its = by_way[way]
    found = [(fronts[run.group, run.seed], run) for run in its]
    best = Counter(_best_depth(front, run.flops) for front, run in found).most_common(1)[0][0]
    full = np.array([front.loss_at(run.flops, run.plan.depth) for front, run in found])
    return (
        f"{told_model(its[0].plan)}, rate {its[0].plan.schedule.peak:g}",
        str(its[0].plan.batch_tokens),
        f"{float(f'{its[0].tokens_per_parameter:.2g}'):g}",
        amount_text(its[0].flops),
        f"{blocks_text(best)}: {np.mean([front.loss_at(run.flops) for front, run in found]):.3f}",
        f"{way}: {np.mean([run.loss for run in its]):.3f}",
        f"{blocks_text(its[0].plan.depth)}: {full.mean():.3f}",
        told_mean(above[way]),
        str(len(its)),
    )


def _best_depth(front: Front, flops: float) -> int:
    return min(front.curves, key=lambda depth: np.nan_to_num(front.loss_at(flops, depth), nan=np.inf))


def data(rows: list[tuple[str, ...]]) -> Table:
    """The table."""
    columns = (
        "model", "tokens\na step", "tokens a\nparameter", "FLOPs", "best fixed\ndepth", "best growth", "full depth",
        "growth −\nbest fixed", "seeds",
    )  # fmt: skip
    return Table(columns, rows)


def make(rows: list[tuple[str, ...]]) -> Figure:
    """The table."""
    return draw_table(data(rows))


def caption(rows: list[tuple[str, ...]]) -> str:
    """The caption."""
    below = sum(row[7].startswith("-") for row in rows)
    return (
        f"Final losses in nats for the same compute, {len(rows)} models and amounts of it (tokens a parameter are "
        "those of the full depth): the best fixed depth, interpolated between horizons, the way of growing of the "
        "lowest mean (chosen after the runs, which favours it), and that way's full depth from the start. The "
        "difference is the mean over seeds and its standard error, each against the best depth of its seed; "
        f"growth ends below the best fixed depth in {below} of {len(rows)}."
    )
