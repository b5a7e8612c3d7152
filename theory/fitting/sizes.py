"""Laws over model size from final losses of many runs: the table of runs, the fit by name, the report."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory.cost import parameters
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.fitting.readers import is_record
from latebloom.theory.fitting.scaling import fit_noisy_quadratic, fit_shape_law, fit_size_law
from latebloom.theory.landscapes.nqs import COSINE
from latebloom.theory.landscapes.scaling import FLOPS_PER_PARAMETER_TOKEN, SizeLaw
from latebloom.theory.record import read_record
from latebloom.theory.spec import Spec
from latebloom.theory.words import amount_text, count_text

__all__ = ["SIZE_LAWS", "SizeLawKind", "fit_sizes", "read_sizes"]

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class SizeLawKind:
    """One law over model size.

    Attributes:
        columns: What a table of runs must hold, one value a run, beside ``loss``.
        fit: Columns and seed to the law and its losses at the runs.
    """

    columns: tuple[str, ...]
    fit: Callable[[Columns, int], tuple[Spec, np.ndarray]]


def _size(runs: Columns, seed: int) -> tuple[Spec, np.ndarray]:
    law = fit_size_law(runs["parameters"], runs["tokens"], runs["loss"], seed=seed)
    return law, law.loss(runs["parameters"], runs["tokens"])


def _shape(runs: Columns, seed: int) -> tuple[Spec, np.ndarray]:
    lr = runs.get("lr")
    lr = None if lr is None or np.ptp(np.log(lr)) < 1e-9 else lr  # the same everywhere: its effect cannot be told
    law = fit_shape_law(runs["width"], runs["depth"], runs["tokens"], runs["loss"], lr=lr, seed=seed)
    return law, law.loss(runs["width"], runs["depth"], runs["tokens"], lr)


def _noisy_quadratic(runs: Columns, seed: int) -> tuple[Spec, np.ndarray]:
    law = fit_noisy_quadratic(runs["parameters"], runs["batch"], runs["steps"], runs["loss"], seed=seed)
    return law, law.loss(runs["parameters"], runs["batch"], runs["steps"], shape=COSINE)


SIZE_LAWS: dict[str, SizeLawKind] = {
    "size": SizeLawKind(columns=("parameters", "tokens"), fit=_size),
    "shape": SizeLawKind(columns=("width", "depth", "tokens"), fit=_shape),
    "noisy_quadratic": SizeLawKind(columns=("parameters", "batch", "steps"), fit=_noisy_quadratic),
}


def read_sizes(paths: Sequence[str | Path], wanted: Sequence[str]) -> tuple[list[str], Columns]:
    """One row a run: from records of fixed-depth runs, or from CSV files with the columns named.

    Records give parameters, width, depth, tokens, batch, steps, lr and the last validation loss.

    Args:
        paths: Records, run directories, CSV files.
        wanted: Columns that must be there.

    Returns:
        Names of the runs, and the columns that every row has.

    Raises:
        InputError: for a missing file or column, a value that is no number, and runs that grow.
    """
    names, rows = [], []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError("curve", str(path), "is not there", "name a file or a run directory")
        if is_record(path):
            record = read_record(path)
            plan = record.plan
            if plan.tau is not None:
                raise InputError(record.header.name, plan.tau, "grows: a law of sizes knows one depth", "leave it out")
            _, loss = record.curve()
            if len(loss) == 0:
                raise InputError(record.header.name, None, "has no validation loss", "leave it out")
            names.append(record.header.name)
            rows.append(
                {
                    "parameters": float(parameters(plan.model, plan.depth)),
                    "width": float(plan.model.width),
                    "depth": float(plan.depth),
                    "tokens": float(plan.steps * plan.batch_tokens),
                    "batch": float(plan.batch_tokens),
                    "steps": float(plan.steps),
                    "lr": plan.schedule.peak,
                    "loss": float(loss[-1]),
                }
            )
            continue
        for name, row in _csv_rows(path).items():
            names.append(name)
            rows.append(row)
    shared = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    for name in (*wanted, "loss"):
        if name not in shared:
            raise InputError("column", name, "is needed of every run and is not there", nearest(name, shared))
    return names, {name: np.array([row[name] for row in rows]) for name in shared}


def _csv_rows(path: Path) -> dict[str, dict[str, float]]:
    """By file, line and what stands in a column ``name``: the numbers of a row."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("curve", str(path), f"cannot be read as CSV ({error})", "give a table with a header") from None
    rows: dict[str, dict[str, float]] = {}
    for line, row in enumerate(table, start=2):
        values: dict[str, float] = {}
        for name, text in row.items():
            try:
                values[str(name).strip()] = float(text)
            except (TypeError, ValueError):
                continue  # a column of words, such as a run's name
        rows[f"{path.name}:{line} {row.get('name') or ''}".strip()] = values
        if "loss" not in values:
            raise InputError(f"{path.name}:{line}: loss", row.get("loss"), "is not a number", "correct the table")
    return rows


def fit_sizes(name: str, paths: Sequence[str | Path], *, seed: int = 0) -> dict[str, Any]:
    """Fit a law over model size to final losses, and report it as plain data.

    Args:
        name: One of :data:`SIZE_LAWS`.
        paths: As in :func:`read_sizes`.
        seed: Of the multistart.

    Returns:
        ``law``, ``parameters``, ``runs`` with errors, and ``answers``: for the size law, what it would train at the
        largest compute of the runs, and at ten and a hundred times that.

    Raises:
        InputError: for tables that lack something, and too few runs.
    """
    kind = SIZE_LAWS[name]
    names, runs = read_sizes(paths, kind.columns)
    law, predicted = kind.fit(runs, seed)
    errors = np.abs(predicted / runs["loss"] - 1)
    answers = []
    if isinstance(law, SizeLaw):
        largest = float(np.max(FLOPS_PER_PARAMETER_TOKEN * runs["parameters"] * runs["tokens"]))
        for factor in (1, 10, 100):
            best = law.optimum(factor * largest)
            answers.append(
                f"at {amount_text(factor * largest)} FLOPs ({factor} x the largest run): "
                f"{amount_text(best.parameters)} parameters on {amount_text(best.tokens)} tokens, loss {best.loss:.4f}"
            )
    return {
        "law": name,
        "status": f"fitted to {count_text(len(names), 'run')}",
        "parameters": {
            field: {"value": float(getattr(law, field)), "low": None, "high": None} for field in law.__struct_fields__
        },
        "runs": {
            run: {"points": 1, "mean": float(error), "worst": float(error)}
            for run, error in zip(names, errors, strict=True)
        },
        "identifiability": [],
        "answers": answers,
    }
