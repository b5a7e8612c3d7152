r"""Records of runs that other trainers made: their loss curves, and what the curves do not say.

A curve says losses by step, and perhaps the learning rate. What else a Record needs stands in a small file, a list of
runs, of which everything at the top holds for all of them::

    batch_tokens = 8192
    peak_lr = 1e-3
    warmup_steps = 100
    decay_steps = 200          # of each run; or a share of it: decay = 0.1

    [[run]]
    curve = "small/log.csv"
    depths = [1]

    [[run]]
    curve = "grown/log.csv"
    depths = [1, 12]
    expanded_at = [4000]
    init = "copy_zero_last"

The schedule is what is declared, held against the logged rates where there are any; or it is found in them. It is a
validation loss that counts, by the usual names or as named; a training loss only where there is no other, averaged over
blocks. What is assumed stands in the record's ``config``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.expansion import Init, Order, StatePolicy
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.readers import NAMES, Series, block_means, is_record, rates_from_log, read_series
from latebloom.theory.optimizers import Optimizer
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.record import COLUMNS, RECORD_FILE, Header, Record, read_record
from latebloom.theory.schedules import WSD, AnySchedule, Constant, Cosine, Linear, Piecewise, Tail
from latebloom.theory.spec import Count, Fraction, Positive, Spec, from_plain
from latebloom.theory.words import blocks_text

__all__ = [
    "RunDescription",
    "curve_text",
    "is_run_list",
    "read_run_list",
    "read_runs",
    "record_of_curve",
    "schedule_of_rates",
]

RUN_LISTS = (".toml", ".yaml", ".yml")
CURVES = (".csv", ".tsv", ".json", ".parquet", ".log", ".txt", ".wandb", ".gz")  # of records only by their content
VALIDATION = {"val", "valid", "validation", "eval", "test", "dev"}  # words in the name of a validation loss
NO_LOSS = {"ppl", "perplexity", "samples", "gigaflos", "vs", "scale"}  # words beside "loss" in names of something else
TRAINING_POINTS = 100  # blocks over which a training loss is averaged where it has to stand in
WORSE_THAN_GUESSING = 1.0  # nats: a trained model is not so much worse than the uniform distribution
RATE_TOLERANCE = 0.02  # of the peak, between declared and logged learning rates, as by a step more or less

Blocks = Annotated[int, Meta(ge=0, le=10_000)]


class RunDescription(Spec, frozen=True, kw_only=True):
    """What a loss curve does not say about its run; rules between the fields stand where they are used.

    Attributes:
        depths: Blocks; of a run that grows, those before and after each expansion, such as 1,12.
        expanded_at: Updates before each expansion. None: the run keeps its depth.
        steps: Horizon, updates. None: where the curve ends.
        batch_tokens: Tokens a step. None: the plan's.
        schedule: Shape of the learning rate. None: wsd where its numbers are given, else as the logged rates say.
        peak_lr: Peak learning rate. None: the largest that was logged.
        warmup_steps: Updates of linear warm-up. None: as the logged rates say.
        decay_steps: Updates of the decay at the end (wsd). None: as ``decay`` says.
        decay: The same as a share of the steps (wsd). None: as the logged rates say.
        decay_shape: Shape of that decay.
        final: Last learning rate over the peak.
        skipped_steps: First updates of the schedule that the run leaves out, as a cold start does.
        seed: Of weights and order of data.
        data: A name for the data; runs of different data are not compared. None: all are of one.
        name: Of the run. None: the curve's file.
        init: How the blocks that were added began.
        order: Where they stand.
        optimizer_state: Of old blocks at the expansion.
        loss: Column or tag of the loss. None: a validation loss by its usual name.
        lr: Column or tag of the learning rate. None: by its usual name.
        step: Column of the step. None: by its usual name.
    """

    depths: Annotated[tuple[Blocks, ...], Meta(min_length=1)]
    expanded_at: tuple[Count, ...] | None = None
    steps: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    batch_tokens: Annotated[int, Meta(ge=1, le=10**10)] | None = None
    schedule: Literal["wsd", "cosine", "linear", "constant"] | None = None
    peak_lr: Positive | None = None
    warmup_steps: Count | None = None
    decay_steps: Count | None = None
    decay: Fraction | None = None
    decay_shape: Literal["linear", "cosine", "sqrt", "exponential"] = "linear"
    final: Fraction = 0.0
    skipped_steps: Count = 0
    seed: Count = 0
    data: str | None = None
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    init: Init = "random"
    order: Order = "stack"
    optimizer_state: StatePolicy = "keep"
    loss: str | None = None
    lr: str | None = None
    step: str | None = None


def is_run_list(path: Path) -> bool:
    """Whether ``path`` is a list of runs: by its name, a settings file.

    Args:
        path: Any.
    """
    return path.suffix in RUN_LISTS


def read_run_list(path: Path, base: Plan | None = None) -> list[Record]:
    """Records of the runs that a file lists.

    Args:
        path: TOML or YAML; curves are looked for beside it.
        base: Of the experiment: model, batch and optimizer where the file does not say them.

    Raises:
        InputError: naming the file, the run and the key, value, rule and fix.
    """
    from latebloom.theory.options import read_config

    plain = read_config(path)
    runs = plain.pop("run", None)
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise InputError(f"{path}: run", None, "lists no runs", "write a table [[run]] with curve and depths for each")
    of_model = {key: plain.pop(key) for key in list(plain) if key in ModelConfig.__struct_fields__}
    optimizer = {"name": plain.pop("optimizer")} if "optimizer" in plain else None
    records: list[Record] = []
    try:
        model = from_plain(of_model, ModelConfig)
        target = _target(model, optimizer, base)
    except InputError as error:
        raise error.within(path) from None
    for i, run in enumerate(runs):
        here = f"{path}: run[{i}]"
        told = plain | run
        curve = told.pop("curve", None)
        files = [curve] if isinstance(curve, str) else curve
        if not isinstance(files, list) or not files or not all(isinstance(file, str) for file in files):
            raise InputError(f"{here}.curve", curve, "is required", "name the file of its losses, or a list of files")
        unknown = [key for key in told if key not in RunDescription.__struct_fields__]
        if unknown:
            fix = nearest(unknown[0], RunDescription.__struct_fields__)
            raise InputError(f"{here}.{unknown[0]}", told[unknown[0]], "is not said of a run", fix)
        try:
            curves = [path.parent / file for file in files]
            records.append(record_of_curve(curves, from_plain(told, RunDescription), target))
        except InputError as error:
            name = error.name.removeprefix("$.")
            raise InputError(f"{here}: {name}", error.value, error.rule, error.fix) from None
    names = [record.header.name for record in records]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{path}: name", twice[0], "stands for several runs", "give each a name of its own")
    return records


def record_of_curve(curves: Sequence[Path], run: RunDescription, base: Plan) -> Record:
    """The Record of a run that another trainer made.

    Args:
        curves: Files of its losses, see :mod:`latebloom.theory.fitting.log_formats`, one for all or one a column; or
            TensorBoard's directory.
        run: What the curve does not say.
        base: Model, optimizer, and tokens a step where ``run`` does not say them.

    Returns:
        Validation losses as rows, with FLOPs and tokens from the model's shape; wall time is 0: not known.

    Raises:
        InputError: if the curve has no loss, ends before the horizon, or its rates are not the declared schedule's.
    """
    if len(run.expanded_at or ()) != len(run.depths) - 1:
        rule = f"needs one step for each of {len(run.depths) - 1} expansions"
        raise InputError("expanded_at", run.expanded_at, rule, f"say where depths {list(run.depths)} begin")
    if run.decay is not None and run.decay_steps is not None:
        raise InputError("decay", run.decay, "stands beside decay_steps", "give one of them")
    series: Series = {}
    for curve in curves:
        series |= _series_of(curve, run)
    first = curves[0]
    name = run.name or (first.name if first.is_dir() else first.name.split(".")[0])
    step, loss, about = _losses(series, run)
    tokens = base.batch_tokens if run.batch_tokens is None else run.batch_tokens
    _check_units(step, loss, tokens, base.model.vocab_size)
    interval = int(np.max(np.diff(step), initial=1))
    horizon = int(step[-1]) if run.steps is None else run.steps
    if not 0 <= horizon - step[-1] <= interval:
        rule = f"is the horizon, but the losses end at step {step[-1]}: the run did not finish"
        raise InputError("steps", horizon, rule, "give the whole curve, or leave the run out")
    if horizon != step[-1]:
        about["end"] = f"the loss at step {step[-1]} is taken for that at {horizon}"
    step = np.append(step[:-1], horizon)
    schedule = _schedule(run, horizon, _rates(series, run), about)
    stages = [Stage(start_step=0, depth=run.depths[0])]
    for at, depth in zip(run.expanded_at or (), run.depths[1:], strict=True):
        stages.append(
            Stage(start_step=at, depth=depth, init=run.init, order=run.order, optimizer_state=run.optimizer_state)
        )
    plan = Plan(
        name=name,
        model=base.model,
        batch_tokens=tokens,
        schedule=schedule,
        stages=tuple(stages),
        optimizer=base.optimizer,
    )
    head = Header(
        name=name, plan=plan, plan_digest=plan.digest, seed=run.seed, data_digest=run.data,
        config={"curve": [curve.name for curve in curves]} | about,
    )  # fmt: skip
    return Record(header=head, columns=_columns(plan, step, loss))


def _target(model: ModelConfig, optimizer: dict[str, Any] | None, base: Plan | None) -> Plan:
    """A plan that stands for the experiment: ``base`` with what the file says of model and optimizer."""
    rule = Optimizer() if base is None else base.optimizer
    if optimizer is not None:
        rule = from_plain(optimizer, Optimizer)
    if model == ModelConfig():
        if base is None:
            sizes = "is not said: FLOPs follow from its sizes"
            raise InputError("model", None, sizes, "write model, or width, heads, context and vocab_size")
        return base.replace(optimizer=rule)
    depth = 1 if model.depth is None and model.model is None else model.depth  # the runs say their depths
    shape, full = model_of(model.replace(depth=depth))
    tokens = shape.context if base is None else base.batch_tokens
    schedule = Constant(steps=1, peak_lr=1.0) if base is None else base.schedule
    stages = (Stage(start_step=0, depth=max(full, 1)),)
    return Plan(name=shape.name, model=shape, batch_tokens=tokens, schedule=schedule, stages=stages, optimizer=rule)


def _series_of(curve: Path, run: RunDescription) -> Series:
    if not curve.exists():
        raise InputError("curve", str(curve), "is not there", "name the file, beside this list")
    tables = read_series(curve, loss=run.loss, lr=run.lr, step=run.step)
    if len(tables) > 1:
        named = [name for name in tables if name == run.name]
        if not named:
            rule = f"holds several runs: {', '.join(tables)}"
            raise InputError("curve", str(curve), rule, "choose one with name")
        return tables[named[0]]
    return next(iter(tables.values()))


def _losses(series: Series, run: RunDescription) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(steps, losses, what they are)."""
    losses = [name for name in series if "loss" in _words(_plain(name)) and not set(_words(_plain(name))) & NO_LOSS]
    if run.loss is not None:
        chosen = [name for name in series if run.loss in (name, _plain(name))]
    else:
        chosen = [name for name in losses if set(_words(name)) & VALIDATION]
        if not chosen:
            usual = sorted(
                (NAMES["loss"].index(_plain(name)), name) for name in losses if _plain(name) in NAMES["loss"]
            )
            chosen = [name for _, name in usual][:1]
    if not chosen:
        rule = f"is not found among {', '.join(sorted(series)) or 'no numeric columns'}"
        raise InputError("loss", run.loss, rule, "name its column with loss")
    if len(chosen) > 1:
        raise InputError("loss", run.loss, f"may be any of {', '.join(chosen)}", "name its column with loss")
    step, loss = series[chosen[0]]
    if not np.isfinite(loss[-1]):
        rule = f"is the last loss, at step {step[-1]}: the run diverged"
        raise InputError("loss", float(loss[-1]), rule, "leave the run out, or say steps up to which it is meant")
    kept = np.isfinite(loss) & (step >= 0)
    step, loss = step[kept], loss[kept]
    if not np.any(step > 0):
        raise InputError("loss", None, "has no value after an update", "give the run's curve")
    about: dict[str, Any] = {"loss": chosen[0]}
    if run.loss is None and not set(_words(chosen[0])) & VALIDATION:
        curve = LossCurve(name=chosen[0], schedule=np.ones(int(step[-1])), step=step[step > 0], loss=loss[step > 0])
        width = -(-len(curve.step) // TRAINING_POINTS)
        curve = block_means(curve, points=TRAINING_POINTS)
        about["loss"] = f"{chosen[0]}, a training loss, as means of {width} points: there is no validation loss"
        return np.append(curve.step[:-1], step[-1]), curve.loss, about
    return step, loss, about


def _check_units(step: np.ndarray, loss: np.ndarray, batch_tokens: int, vocab_size: int) -> None:
    """Refuse steps that count tokens, and losses that are not nats a token."""
    if len(step) > 2 and batch_tokens > 1 and step[-1] >= len(step) * batch_tokens and not np.any(step % batch_tokens):
        rule = f"are all multiples of the {batch_tokens} tokens of a step: they count tokens"
        raise InputError("step", int(step[-1]), rule, "divide the column by the tokens of a step")
    if loss[-1] > (guessing := np.log(vocab_size)) + WORSE_THAN_GUESSING:
        rule = f"is the last loss, above {guessing:.2f} = ln(vocabulary), which guessing gives: not nats a token"
        fix = "give the logarithm of a perplexity, the mean of a sum"
        raise InputError("loss", float(f"{loss[-1]:.4g}"), rule, fix)


def _plain(name: str) -> str:
    return name.lower().strip().rsplit("/", 1)[-1]


def _words(name: str) -> Sequence[str]:
    return name.lower().replace("/", "_").replace(" ", "_").replace("-", "_").split("_")


def _rates(series: Series, run: RunDescription) -> tuple[np.ndarray, np.ndarray] | None:
    """Logged learning rates, if there are any."""
    if run.lr is not None:
        chosen = [name for name in series if run.lr in (name, _plain(name))]
        if not chosen:
            raise InputError("lr", run.lr, f"is not found among {', '.join(sorted(series))}", "name its column with lr")
    else:
        chosen = [name for name in series if _plain(name) in NAMES["lr"]]
        chosen = chosen or [name for name in series if "lr" in _words(name)]  # lr-AdamW/pg1
    if not chosen:
        return None
    if any(not np.array_equal(series[name][1], series[chosen[0]][1]) for name in chosen[1:]):
        rule = f"may be any of {', '.join(chosen)}, which differ"
        raise InputError("lr", None, rule, "name the column of the matrices' rate with lr")
    step, rate = series[chosen[0]]
    kept = np.isfinite(rate) & (step >= 0)
    return (step[kept], rate[kept]) if np.any(kept) else None


def _schedule(
    run: RunDescription, horizon: int, logged: tuple[np.ndarray, np.ndarray] | None, about: dict[str, Any]
) -> AnySchedule:
    """The declared schedule, which the logged rates must bear out; or the one found in them."""
    told = (run.schedule, run.peak_lr, run.warmup_steps, run.decay_steps, run.decay)
    whole = horizon + run.skipped_steps
    if all(value is None for value in told):
        if logged is None:
            rule, fix = "is neither logged nor declared", "say peak_lr, warmup_steps, and decay_steps or decay"
            raise InputError("peak_lr", None, rule, fix)
        if run.skipped_steps:
            rule, fix = "needs the schedule of which they are the first", "say peak_lr, warmup_steps and decay_steps"
            raise InputError("skipped_steps", run.skipped_steps, rule, fix)
        found = schedule_of_rates(*logged, steps=horizon)
        about["schedule"] = f"{found.__struct_config__.tag}, from {len(logged[0])} logged rates"
        if logged[0][0] > 0 and not getattr(found, "warmup_steps", 1):
            about["schedule"] += f"; none is logged before step {logged[0][0]}, and no warm-up is assumed"
        return found
    peak = run.peak_lr
    if peak is None:
        if logged is None:
            raise InputError("peak_lr", None, "is neither logged nor declared", "say it")
        peak = float(np.max(logged[1]))
    if run.warmup_steps is None:
        raise InputError("warmup_steps", None, "is not declared", "say it beside the peak: 0 where there is none")
    kind = run.schedule or "wsd"
    schedule: AnySchedule
    if kind == "wsd":
        if run.decay_steps is None and run.decay is None:
            rule = "is not declared, nor is decay"
            raise InputError("decay_steps", None, rule, "say it: 0 for a run that was not annealed")
        tail = run.decay_steps if run.decay_steps is not None else round((run.decay or 0.0) * whole)
        schedule = WSD(
            steps=whole, peak_lr=peak, warmup_steps=run.warmup_steps, decay_steps=tail, decay=run.decay_shape,
            final=run.final,
        )  # fmt: skip
    elif kind == "constant":
        schedule = Constant(steps=whole, peak_lr=peak, warmup_steps=run.warmup_steps)
    elif kind == "cosine":
        schedule = Cosine(steps=whole, peak_lr=peak, warmup_steps=run.warmup_steps, final=run.final)
    else:
        schedule = Linear(steps=whole, peak_lr=peak, warmup_steps=run.warmup_steps, final=run.final)
    if run.skipped_steps:
        schedule = Tail(base=schedule, start_step=run.skipped_steps)
    if logged is not None:
        _check_rates(schedule, *logged)
    return schedule


def _check_rates(schedule: AnySchedule, step: np.ndarray, rate: np.ndarray) -> None:
    """Refuse logged rates that are not the schedule's, an update more or less."""
    inside = step < schedule.horizon
    at, rate = step[inside], rate[inside]
    near = [schedule.lrs()[np.clip(at + shift, 0, schedule.horizon - 1)] for shift in (-1, 0, 1)]
    off = np.min([np.abs(each - rate) for each in near], axis=0) > RATE_TOLERANCE * schedule.peak
    if np.any(off):
        first = int(np.argmax(off))
        rule = f"was logged at step {at[first]}, where the declared schedule has {near[1][first]:.4g}"
        raise InputError("lr", float(f"{rate[first]:.4g}"), rule, "correct what is declared, or leave it to the log")


def schedule_of_rates(step: np.ndarray, lr: np.ndarray, *, steps: int) -> AnySchedule:
    """The schedule that logged learning rates follow: warm-up, stable, linear decay; or straight lines through them.

    Warm-up and decay are straight: each logged rate on one of them says where it begins or ends.

    Args:
        step: Increasing, shape (points,); ``lr`` [i] is the rate of the update after ``step[i]``.
        lr: Logged rates, >= 0, shape (points,).
        steps: T, the horizon.

    Raises:
        InputError: for rates that are not finite or negative, or end before the horizon.
    """
    done = bool(step[-1] >= steps and step[0] > 0)  # no update comes after the last one: rates are of the update done
    rates = rates_from_log(np.asarray(step) - done, lr, updates=steps)  # checks them
    peak = float(np.max(lr))
    top = np.flatnonzero(lr >= (1 - 1e-6) * peak)
    before, after = slice(0, int(top[0])), slice(int(top[-1]) + 1, len(lr))
    for late in (0, 1):  # some trainers log the rate of the update that is done
        at = np.asarray(step) - late
        positive = lr[before] > 0
        warmups = (at[before][positive] + 1) * peak / lr[before][positive]
        warmup = min(round(float(np.median(warmups))) if len(warmups) else 0, steps)
        inside = (at >= 0) & (at < steps)
        falling = inside[after]
        for schedule in _candidates(steps, peak, warmup, at[after][falling], lr[after][falling]):
            exact = schedule.lrs()[at[inside]]
            if np.all(np.abs(lr[inside] - exact) <= RATE_TOLERANCE * peak):
                return schedule
    table = np.unique(np.append(np.round(np.linspace(0, steps, min(steps + 1, 5000))), steps)).astype(int)
    values = np.append(rates, rates[-1])[table]
    return Piecewise(at=tuple(table.tolist()), rate=tuple(values.tolist()))


def _candidates(steps: int, peak: float, warmup: int, at: np.ndarray, lr: np.ndarray) -> list[AnySchedule]:
    """Schedules that may have these rates after the peak."""
    if len(at) == 0:
        return [WSD(steps=steps, peak_lr=peak, warmup_steps=warmup, decay_steps=0)]
    found: list[AnySchedule] = []
    if len(at) >= 2:
        slope, origin = np.polyfit(at, lr / peak, 1)
    else:
        slope = -float(lr[0]) / peak / max(steps - int(at[0]), 1)  # down to 0
        origin = lr[0] / peak - slope * at[0]
    if slope < 0:
        begin = (1 - origin) / slope
        tail = int(np.clip(round(steps - begin), 1, steps - warmup))
        final = float(np.clip(round(1 + slope * tail, 4), 0.0, 1.0))
        found.append(WSD(steps=steps, peak_lr=peak, warmup_steps=warmup, decay_steps=tail, final=final))
    for final in (0.0, 0.1):
        found.append(Cosine(steps=steps, peak_lr=peak, warmup_steps=warmup, final=final))
    return found


def _columns(plan: Plan, step: np.ndarray, loss: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a record: one validation loss a step."""
    phases = [plan.stage_at(max(int(at) - 1, 0)) for at in step]
    columns: dict[str, np.ndarray] = {
        "step": np.asarray(step, dtype=np.int64),
        "tokens": np.asarray(step, dtype=np.int64) * plan.batch_tokens,
        "flops": np.array([float(plan_flops(plan, int(at))) for at in step]),
        "wall_s": np.zeros(len(step)),
        "depth": np.array([plan.stages[phase].depth for phase in phases]),
        "phase": np.array(phases),
        "split": np.full(len(step), "val", dtype=object),
        "metric": np.full(len(step), "loss", dtype=object),
        "value": np.asarray(loss, dtype=float),
    }
    return {name: columns[name] for name in COLUMNS}


def read_runs(paths: Sequence[Path], base: Plan | None = None) -> list[tuple[Path, Record]]:
    """Records of runs, ours or anybody's, each with the path that it came from.

    Args:
        paths: Run directories, record files, and lists of runs that other trainers made.
        base: Of the experiment, where a list does not say model and batch.

    Raises:
        InputError: naming what is not there, damaged, or a curve that does not say what it is of.
    """
    found: list[tuple[Path, Record]] = []
    for path in paths:
        if not path.exists():
            raise InputError("record", str(path), "is not there", "name a run directory, a record or a list of runs")
        if is_run_list(path):
            found += [(path, record) for record in read_run_list(path, base)]
        elif path.is_dir() and not (path / RECORD_FILE).exists():
            rule = f"is a directory without {RECORD_FILE}"
            raise InputError("record", str(path), rule, "name runs' directories, such as runs/*")
        elif path.suffix in CURVES and not is_record(path):
            rule = "is a loss curve, which says neither depth nor schedule"
            fix = "list it in a TOML file, see `latebloom import list --help`"
            raise InputError("record", str(path), rule, fix)
        else:
            found.append((path, read_record(path)))
    return found


def curve_text(record: Record) -> list[str]:
    """What was read of another trainer's run, and what was assumed, a line each.

    Args:
        record: Made by :func:`record_of_curve`.
    """
    plan, config = record.plan, record.header.config
    depths = blocks_text(*(stage.depth for stage in plan.stages))
    lines = [f"{record.header.name}: {depths}, {plan.steps} steps, loss {record.final():.4f} ({config['loss']})"]
    shape = plan.schedule.__struct_config__.tag
    found = config.get("schedule", f"{shape}, as declared")
    lines.append(f"  peak learning rate {plan.schedule.peak:.4g}; schedule {found}")
    if "end" in config:
        lines.append(f"  {config['end']}")
    return lines
