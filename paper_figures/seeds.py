"""Runs that differ by their seed alone: their records, and values over them as figures tell them.

The record of seed N of a run is called RUN_sN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory.words import count_text

if TYPE_CHECKING:
    from latebloom.theory.record import Record

__all__ = ["above", "finals", "records_of_seeds", "runs_of", "told_mean", "told_seeds"]


def records_of_seeds(names: Iterable[str]) -> list[str]:
    """The records of runs, for ``RECORDS`` of a figure: seed 0, which must be there, and what other seeds there are.

    Args:
        names: Of runs, without their seed.
    """
    return [record for name in names for record in (f"{name}_s0", f"{name}_s[1-9]*")]


def runs_of(records: Mapping[str, Record], name: str) -> dict[int, Record]:
    """The runs of one name, by seed.

    Args:
        records: By name, with their seed.
        name: Without it.
    """
    found = {key.rpartition("_s")[2]: record for key, record in records.items() if key.rpartition("_s")[0] == name}
    return {int(seed): found[seed] for seed in sorted(found, key=int)}


def finals(records: Mapping[str, Record], name: str) -> np.ndarray:
    """Final losses of the runs of one name, nats, (seeds,).

    Args:
        records: By name, with their seed.
        name: Without it.
    """
    return np.array([record.final() for record in runs_of(records, name).values()])


def above(records: Mapping[str, Record], name: str, reference: str) -> np.ndarray:
    """Final losses above those of other runs of the same seeds, nats, (seeds that both have,).

    Args:
        records: By name, with their seed.
        name: Of the runs, without it.
        reference: Of the others, without it.
    """
    runs, others = runs_of(records, name), runs_of(records, reference)
    return np.array([run.final() - others[seed].final() for seed, run in runs.items() if seed in others])


def told_mean(values: np.ndarray, form: str = "+.3f", unit: str = "") -> str:
    """The mean over seeds and its standard error, if there are seeds: '+0.103 ± 0.012'.

    Args:
        values: One a seed.
        form: Of the mean; the error has no sign.
        unit: Written behind both.
    """
    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{error}{unit}"


def told_seeds(counts: Iterable[int]) -> str:
    """How many seeds there are: 'n = 1 seed', 'n = 3 seeds', 'n = 1 to 3 seeds'.

    Args:
        counts: Of each mean that is told.
    """
    fewest, most = min(counts := sorted(counts)), max(counts)
    return f"n = {fewest} to {most} seeds" if fewest < most else f"n = {count_text(most, 'seed')}"
