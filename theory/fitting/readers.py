r"""Loss curves from the files that people have: Records, TensorBoard's, and those of
:mod:`latebloom.theory.fitting.log_formats`.

A curve needs three series: step (updates done), loss, and the learning rate of the update that comes next at that
step; a fourth, the learning rate of the parameters that are no matrices, where they have one of their own. Columns and
tags are found by their usual names (the last part of ``train/loss`` or ``run - loss``), or named by the caller. A W&B
export with several runs, or one export for the loss and one for the learning rate, is told apart by run name. Learning
rates between logged steps are joined by straight lines, or held where both sides are flat (a jump); before the first
logged step they are a linear warm-up of ``warmup`` updates, then the first logged value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.log_formats import log_rows
from latebloom.theory.landscapes.effective_rate import INITIAL_SIZE, turning_rates
from latebloom.theory.landscapes.lr_history import GroupRates
from latebloom.theory.record import FIRST_LINE, RECORD_FILE, Record, read_record
from latebloom.theory.schedules import Schedule

__all__ = ["block_means", "curve_from_record", "is_record", "rates_from_log", "read_curves", "read_series"]

NAMES = {
    "step": ("step", "_step", "global_step", "iter", "iteration", "iterations", "update", "updates"),
    "loss": ("loss", "train_loss", "training_loss", "val_loss", "valid_loss", "eval_loss", "lm loss", "ce_loss"),
    "other_lr": ("other_lr", "aux_lr", "aux_shape"),
    "lr": ("lr", "learning_rate", "learning rate", "learning-rate", "learningrate", "train_lr", "lr-adamw", "lr-muon"),
}  # fmt: skip
LARGEST_STEP = 10**7  # a longer log counts something else, tokens perhaps; every update is held in memory
TOKENS_OF_A_STEP = 4096  # steps that are all multiples of so many are tokens
RATES = 1e-30, 1e30  # what the largest learning rate may be: sums over a run stay numbers
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")  # 12,000 in quotes
JUMP = 0.02  # of the largest learning rate: a larger change between flat stretches is a jump

Series = dict[str, tuple[np.ndarray, np.ndarray]]  # (step, value) by column or tag


def read_curves(
    paths: Sequence[str | Path],
    *,
    loss: str | None = None,
    lr: str | None = None,
    step: str | None = None,
    other_lr: str | None = None,
    two_rates: bool = False,
    weight_decay: float = 0.0,
    warmup: int = 0,
    burn_in: float = 0.0,
    points: int = 500,
) -> list[LossCurve]:
    """Curves of all runs in ``paths``.

    Args:
        paths: Record files or run directories, CSV, JSONL, TensorBoard files or directories, W&B exports.
        loss: Column or tag of the loss, where the usual names do not find it.
        lr: Column or tag of the learning rate, likewise.
        step: Column of the step, likewise.
        other_lr: Column or tag of the other parameters' learning rate, likewise; in one unit for all curves.
        two_rates: Read that column where every curve has it, and give curves :class:`.lr_history.GroupRates`.
        weight_decay: Of matrices whose updates have a size of their own, as Muon's have: curves get how far matrices
            turn (:func:`.effective_rate.turning_rates`) in place of the learning rate.
        warmup: Updates of linear warm-up before the first logged learning rate.
        burn_in: Share of each run's steps at the start that is left out, in [0, 1).
        points: Longer curves are averaged over blocks to at most so many points.

    Raises:
        InputError: for files without a usable curve, naming what is missing or damaged.
    """
    for name, value, good in (("burn_in", burn_in, 0 <= burn_in < 1), ("points", points, points >= 8)):
        if not good:
            raise InputError(name, value, "is out of range", "give burn_in in [0, 1) and points >= 8")
    curves: list[LossCurve] = []
    tables: dict[str, Series] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError("curve", str(path), "is not there", "name a file or a run directory")
        if is_record(path):
            curves.append(curve_from_record(read_record(path)))
            continue
        for run, series in read_series(path, loss=loss, lr=lr, step=step).items():
            known = tables.setdefault(run, {})
            if set(known) & set(series):
                run = next(f"{run}#{i}" for i in range(2, 10**6) if f"{run}#{i}" not in tables)
                known = tables.setdefault(run, {})
            known.update(series)
    curves += [_curve(run, series, loss, lr, warmup) for run, series in tables.items()]
    if weight_decay:
        curves = [replace(curve, schedule=_turned(curve, weight_decay)) for curve in curves]
    has_other = [any(_last(name) in NAMES["other_lr"] for name in tables.get(c.name, {})) for c in curves]
    if other_lr is not None or (two_rates and curves and all(has_other)):
        curves = [
            _with_other_lr(curve, tables.get(curve.name, {}), other_lr, warmup, weight_decay > 0) for curve in curves
        ]
    return [block_means(_late(curve, burn_in), points=points) for curve in curves]


def curve_from_record(record: Record) -> LossCurve:
    """The validation losses of a run that keeps its depth, or its training losses if it has no others.

    Args:
        record: Of a fixed-depth run.

    Raises:
        InputError: if the run grows.
    """
    plan = record.plan
    if plan.tau is not None:
        raise InputError(record.header.name, plan.tau, "grows: a loss law knows one depth", "use --law area")
    step, value = record.curve(split="val")
    if len(step) == 0:
        step, value = record.curve(split="train")
    keep = step > 0
    return LossCurve(name=record.header.name, schedule=plan.schedule, step=step[keep], loss=value[keep])


def block_means(curve: LossCurve, *, points: int) -> LossCurve:
    """The curve as means of equal blocks; a remainder at the start is left out.

    Args:
        curve: Of any length.
        points: Most blocks that there may be.
    """
    checks.whole("points", points, 1)
    width = -(-len(curve.step) // points)
    if width == 1:
        return curve
    count = len(curve.step) // width
    step, loss = (np.asarray(x[len(x) - count * width :], dtype=float) for x in (curve.step, curve.loss))
    middle = step.reshape(count, width).mean(axis=1).round().astype(np.int64)
    mean = loss.reshape(count, width).mean(axis=1)
    return LossCurve(name=curve.name, schedule=curve.schedule, step=middle, loss=mean)


def rates_from_log(step: np.ndarray, lr: np.ndarray, *, updates: int, warmup: int = 0) -> np.ndarray:
    """Learning rate of each of ``updates`` updates from logged values.

    Args:
        step: Increasing; ``lr`` [i] is the rate of the update that takes ``step[i]`` to ``step[i] + 1``.
        lr: Logged rates, >= 0.
        updates: T, how many are wanted.
        warmup: Updates of a linear warm-up up to the first logged rate, at most the first logged step (or 0).

    Raises:
        InputError: for rates that are negative or not finite, a warm-up that overlaps the log, and a log that ends
            before the last update by more than one logging interval.
    """
    checks.whole("step", step, -math.inf)
    checks.whole("updates", updates, 1)
    step, lr = np.asarray(step), np.asarray(lr, dtype=float)
    bad = ~np.isfinite(lr) | (lr < 0)
    if np.any(bad):
        rule = f"is not a learning rate (step {step[bad][0]})"
        raise InputError("lr", lr[bad][0].item(), rule, "give finite values >= 0")
    if (largest := float(np.max(lr))) > 0 and not RATES[0] <= largest <= RATES[1]:
        rule = f"is the largest learning rate, and not in {RATES[0]:g} ... {RATES[1]:g}"
        raise InputError("lr", largest, rule, "check the column's unit")
    if not 0 <= warmup <= max(int(step[0]), 0) and warmup != 0:
        raise InputError("warmup", warmup, f"overlaps the log, which begins at step {step[0]}", "shorten it")
    interval = int(np.max(np.diff(step), initial=1))
    if updates > step[-1] + 1 + interval:
        rule = f"lie beyond the learning rates, which end at step {step[-1]}"
        raise InputError("losses", updates, rule, "give the whole schedule")
    at = np.arange(updates)
    rates = np.interp(at, step, lr)
    flat = np.concatenate([[True], np.isclose(np.diff(lr), 0, atol=1e-9 * np.max(lr)), [True]])
    jumps = np.flatnonzero((np.abs(np.diff(lr)) > JUMP * np.max(lr)) & flat[:-2] & flat[2:])
    for i in jumps:
        rates[step[i] : step[i + 1]] = lr[i]
    rates[:warmup] = lr[0] * (np.arange(warmup) + 1.0) / max(warmup, 1)
    return rates


def _curve(run: str, series: Series, loss: str | None, lr: str | None, warmup: int) -> LossCurve:
    step, value = series[_choose(run, series, "loss", loss)]
    lr_step, rates = series[_choose(run, series, "lr", lr)]
    keep = step > 0
    if not np.any(keep):
        raise InputError(f"{run}: step", step[-1:].tolist(), "has no update done", "log after updates, too")
    step, value = step[keep], value[keep]
    schedule = rates_from_log(lr_step, rates, updates=int(step[-1]), warmup=warmup)
    return LossCurve(name=run, schedule=schedule, step=step, loss=value)


def _turned(curve: LossCurve, weight_decay: float) -> np.ndarray:
    rates = curve.schedule.lrs() if isinstance(curve.schedule, Schedule) else curve.schedule
    return turning_rates(rates, weight_decay=weight_decay, initial_size=INITIAL_SIZE)


def _with_other_lr(curve: LossCurve, series: Series, named: str | None, warmup: int, turned: bool) -> LossCurve:
    step, rates = series[_choose(curve.name, series, "other_lr", named)]
    matrices = curve.schedule.lrs() if isinstance(curve.schedule, Schedule) else curve.schedule
    others = rates_from_log(step, rates, updates=len(matrices), warmup=warmup)
    return replace(curve, schedule=GroupRates(matrices=matrices, others=others, angles=turned))


def _late(curve: LossCurve, burn_in: float) -> LossCurve:
    keep = np.asarray(curve.step) > burn_in * curve.step[-1]
    return LossCurve(name=curve.name, schedule=curve.schedule, step=curve.step[keep], loss=curve.loss[keep])


def _choose(run: str, series: Series, what: str, named: str | None) -> str:
    """The column that holds ``what``: the named one, else the first that has one of the usual names."""
    if named is not None:
        found = [name for name in series if name == named] or [name for name in series if _last(name) == named.lower()]
        rule = f"is not among {', '.join(sorted(series))}"
    else:
        ranked = [(NAMES[what].index(_last(name)), name) for name in series if _last(name) in NAMES[what]]
        found = [name for rank, name in ranked if rank == min(ranked)[0]]
        rule = f"is not found among {', '.join(sorted(series)) or 'no numeric columns'}"
    if what == "lr" and named is None and not found:  # lr-AdamW/pg1, a column a group
        found = [name for name in series if "lr" in re.split(r"[-_/ ]", name.lower())]
        if found and all(np.array_equal(series[name][1], series[found[0]][1]) for name in found):
            return found[0]
    if len(found) == 1:
        return found[0]
    if found:
        rule = f"may be any of {', '.join(found)}"
    fix = f"name it with --{what.replace('_', '-')}"
    if what == "lr" and named is None and not found:
        fix += ", or declare it: `latebloom import --peak-lr ...` writes a record to be fitted"
    raise InputError(f"{run}: {what} column", named, rule, fix)


def _last(name: str) -> str:
    return name.lower().strip().rsplit("/", 1)[-1]


def is_record(path: Path) -> bool:
    """Whether ``path`` is a record file or the directory of a run that has one.

    Args:
        path: A file or a directory that is there.
    """
    if path.is_dir():
        return (path / RECORD_FILE).exists()
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            return b"record" in (pq.read_schema(path).metadata or {})
        except (OSError, ValueError):  # damaged: the reader of records says how
            return True
    with path.open("rb") as file:
        return file.read(len(FIRST_LINE)) == FIRST_LINE


def read_series(
    path: Path, *, loss: str | None = None, lr: str | None = None, step: str | None = None
) -> dict[str, Series]:
    """Every column or tag of numbers in a file, by run and name: (steps, values), empty places left out.

    Args:
        path: A file of :mod:`latebloom.theory.fitting.log_formats`, or TensorBoard's file or directory.
        loss: Column or tag of the loss: one with damaged values is refused where others are left out.
        lr: The same of the learning rate.
        step: Column of the step.

    Raises:
        InputError: naming file, line and column, if the file or a column that is asked for is damaged.
    """
    if path.is_dir() or "tfevents" in path.name:
        return {path.name if path.is_dir() else path.parent.name or path.name: _tensorboard(path)}
    name, rows = log_rows(path)
    if not rows:
        raise InputError("curve", str(path), "holds no rows", "give a curve")
    columns = list(dict.fromkeys(name for _, row in rows for name in row if name))
    at = _step_column(path, columns, step)
    runs: dict[str, Series] = {}
    for column in columns:
        if column == at or column.endswith(("__MIN", "__MAX")):
            continue
        run, _, metric = column.rpartition(" - ")
        meant = _is_meant(metric, "loss", loss) or _is_meant(metric, "lr", lr)
        full = [(n, row) for n, row in rows if row.get(column) not in (None, "") and row.get(at) not in (None, "")]
        values = [_number(row[column]) for _, row in full]
        if None in values:
            line, row = full[values.index(None)]
            if not meant:
                continue  # a column of words is not ours
            raise InputError(f"{path.name}:{line}: {column}", row[column], "is not a number", "correct or empty it")
        at_steps = [_number(row[at]) for _, row in full]
        if None in at_steps:
            line, row = full[at_steps.index(None)]
            raise InputError(f"{path.name}:{line}: {at}", row[at], "is not a number of updates", "correct it")
        numbers = _tidied(np.array([at_steps, values], dtype=float).T)
        steps = numbers[:, 0]
        wrong_at = (np.diff(steps, prepend=-1e300) <= 0) | (steps != np.floor(steps)) | ~(np.abs(steps) <= LARGEST_STEP)
        if np.any(wrong_at):
            if not meant:
                continue
            wrong = int(np.argmax(wrong_at))
            value = steps[wrong].item()
            lines = [n for n, row in full if _number(row[at]) == steps[wrong]]  # the last repeats the one before
            where = f"{path.name}:{lines[-1]}: {at}"
            counts = abs(value) <= LARGEST_STEP and value == math.floor(value)
            rule = f"must increase, in whole updates up to {LARGEST_STEP}"
            fix = "sort the rows; keep one for each step" if counts else "give updates: tokens over those of a step"
            raise InputError(where, value, rule, fix)
        common = int(np.gcd.reduce(steps.astype(np.int64))) if len(steps) > 2 else 1
        if meant and common >= TOKENS_OF_A_STEP and common % 1024 == 0:
            rule = f"counts tokens, it seems, not updates: every one is a multiple of {common}"
            raise InputError(f"{path.name}: {at}", int(steps[-1]), rule, "divide the column by the tokens of a step")
        if len(steps):
            runs.setdefault(run or name, {})[metric] = (steps.astype(np.int64), numbers[:, 1])
    return runs


def _tidied(numbers: np.ndarray) -> np.ndarray:
    """Rows (step, value) as the run went: loggers leave NaN where a row is for another column, write the newest row
    first, and a run that was resumed repeats steps, of which the last ones count."""
    steps, empty = numbers[:, 0], np.isnan(numbers[:, 1])
    numbers = numbers[~(empty & np.isin(steps, steps[~empty]))]
    steps = numbers[:, 0]
    if len(steps) > 2 and np.all(np.diff(steps) < 0):
        return numbers[::-1]
    latest_from_here = np.minimum.accumulate(steps[::-1])[::-1]
    back = np.flatnonzero(np.diff(steps) < 0)  # the last row before each restart
    if all(steps[i + 1 :].max() > steps[: i + 1].max() for i in back):
        numbers = numbers[np.append(steps[:-1] < latest_from_here[1:], True)] if len(back) else numbers
    return numbers


def _step_column(path: Path, columns: list[str], named: str | None) -> str:
    if named is not None:
        if named not in columns:
            raise InputError(f"{path.name}: step column", named, f"is not among {', '.join(columns)}", "name another")
        return named
    for name in NAMES["step"]:
        for column in columns:
            if name in (column.lower().strip(), _last(column)):
                return column
    rule = f"is not found among {', '.join(columns)}"
    raise InputError(f"{path.name}: step column", None, rule, "name it with --step")


def _number(value: Any) -> float | None:
    """``value`` as a number, or None if it is none; "NaN" and "Infinity" are numbers."""
    if isinstance(value, str) and THOUSANDS.fullmatch(value.strip()):
        value = value.replace(",", "")
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_meant(metric: str, what: str, named: str | None) -> bool:
    return _last(metric) in NAMES[what] if named is None else _last(metric) == _last(named)


def _tensorboard(path: Path) -> Series:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        rule = "needs the tensorboard package"
        raise InputError("curve", str(path), rule, "pip install 'latebloom[tensorboard]'") from None
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    series: Series = {}
    for tag in events.Tags()["scalars"]:
        last = {event.step: event.value for event in events.Scalars(tag)}  # of a resumed run the last
        steps = np.array(sorted(last), dtype=np.int64)
        series[tag] = (steps, np.array([last[s] for s in steps.tolist()], dtype=float))
    for tag, tensors in ((t, events.Tensors(t)) for t in events.Tags().get("tensors", [])):  # TensorFlow 2 writers
        last = {event.step: _scalar(event.tensor_proto) for event in tensors}
        if None not in last.values():
            steps = np.array(sorted(last), dtype=np.int64)
            series[tag] = (steps, np.array([last[s] for s in steps.tolist()], dtype=float))
    if not series:
        raise InputError("curve", str(path), "holds no scalars", "name the directory of the event files")
    return series


def _scalar(tensor: Any) -> float | None:
    """The number that TensorBoard's ``tensor`` is; None if it is not one number: it is not made to find out."""
    from tensorboard.util.tensor_util import make_ndarray

    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    try:
        value = make_ndarray(tensor)
    except (TypeError, ValueError, KeyError):
        return None
    return float(value.reshape(())) if value.size == 1 and value.dtype.kind in "fiu" else None
