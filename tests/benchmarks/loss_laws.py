"""The league of loss laws: every law fits some runs and predicts others, from measured curves.

    python -m tests.benchmarks.loss_laws --data DIR [--json FILE] [--parquet FILE] [--laws river_valley,functional]

DIR holds ``mpl/csv_*``, ``lr_scheduling``, ``gpt_100m``, ``track3`` (columns as their publishers give them). Splits:

    mpl_*               fit cosine_24000, constant_24000, wsdcon_9; predict every other curve of the folder. R2 and mean
                        error are means over curves. The data begin after a linear warm-up of 2160 updates to 3e-4,
                        whose area counts for every law.
    lr_horizon          final losses of annealed 124M runs on one data set: up to 25k updates -> longer
    lr_peak             peak learning rates 5e-4 and 1e-3 -> 1e-4 and 2e-3
    lr_schedule         WSD -> cosine
    gpt_811_to_cosine   one 100M run, training loss averaged over 101 updates, from update 1000 on, and back
    gpt_cosine_to_811
    track3_*            pairs of runs with two learning rates, see tests/benchmarks/track3.py; ``alone`` is the law's
                        own error, ``noise`` the standard error of what is predicted

``best_lr_rate`` is the share of (schedule, horizon) cells of a split in which the law's best learning rate is the best
one measured; ``regret`` the mean relative loss from using the law's choice. ``settled`` is the worst error once the
first tenth of the steps is over: MPL's runs with identical learning rates differ by up to 0.7 % right after their
warm-up. Nothing depends on the data set but the protocols above. ``status`` names the parameters that the fitted
curves leave open.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from latebloom.theory.architectures.presets import gpt2_124m
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.laws import fit_law
from latebloom.theory.fitting.readers import rates_from_log, read_curves
from latebloom.theory.landscapes import LAWS
from latebloom.theory.landscapes.law import Law
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.record import Record, header, values_record, write_parquet
from latebloom.theory.schedules import Constant
from tests.benchmarks import scaling_laws, track3

MPL_FIT = ("cosine_24000", "constant_24000", "wsdcon_9")
MPL_WARMUP = 2160
GPT_WINDOW, GPT_START = 101, 1000
DIVERGED = 0.005  # the learning rate of the one run that did


@dataclass(frozen=True, kw_only=True)
class Split:
    """What is fitted, what is predicted; ``pooled``: R2 over all predicted points instead of a mean over curves.

    ``cells`` are groups of (curve, learning rate) among which the best learning rate is looked for.
    """

    fit: list[LossCurve]
    predict: list[LossCurve]
    pooled: bool = False
    cells: tuple[tuple[tuple[LossCurve, float], ...], ...] = ()


def mpl_splits(data: Path) -> dict[str, Split]:
    splits = {}
    for folder in sorted((data / "mpl").glob("csv_*")):
        curves = {c.name: c for c in read_curves(sorted(folder.glob("*.csv")), warmup=MPL_WARMUP, points=10**6)}
        if not set(MPL_FIT) < set(curves):
            say(f"mpl/{folder.name}: skipped, needs {', '.join(MPL_FIT)} and others")
            continue
        fit = [curves.pop(name) for name in MPL_FIT]
        splits[f"mpl_{folder.name.removeprefix('csv_')}"] = Split(fit=fit, predict=list(curves.values()))
    return splits


def lr_splits(data: Path) -> dict[str, Split]:
    folder = data / "lr_scheduling"
    runs = pd.read_csv(folder / "runs.csv")
    annealed = (runs.scheduler == "cos") | (runs.fract_decay > 0)
    one_model = (runs.dataset == "slimpajama") & (runs.n_layer == 12) & (runs.n_embd == 768) & (runs.group == "main")
    runs = runs[annealed & one_model & (runs.lr != DIVERGED)]
    logged = pd.read_csv(folder / "curves.csv.gz")
    logged = logged[logged.split == "train"].groupby(["run_id", "iter"]).lr.min()
    curves = {
        r.run_id: LossCurve(
            name=f"{r.scheduler}-{r.fract_decay:g}-{r.decay_type}-{r.lr:g}-{r.iters}",
            schedule=_sweep_rates(r, float(logged[r.run_id, r.iters])),
            step=np.array([r.iters]),
            loss=np.array([r.final_val_loss]),
        )
        for r in runs.itertuples()
    }
    # cosines that end at a tenth and at zero are different schedules
    final = pd.Series({i: c.schedule[-1] / np.max(c.schedule) > 0.05 for i, c in curves.items()})
    runs = runs.assign(warm_end=runs.run_id.map(final))
    shape = runs.decay_type.where(runs.scheduler == "wsd", "").fillna("linear")
    groups = runs.groupby(["scheduler", "fract_decay", shape, "warm_end", "iters"])

    def split(fitted: pd.Series, predicted: pd.Series) -> Split:
        held = set(runs.run_id[predicted])
        cells = []
        for _, cell in groups:
            if cell.lr.nunique() > 1 and held & set(cell.run_id):
                cells.append(tuple((curves[r.run_id], r.lr) for r in cell.itertuples()))
        return Split(
            fit=[curves[i] for i in runs.run_id[fitted]],
            predict=[curves[i] for i in runs.run_id[predicted]],
            pooled=True,
            cells=tuple(cells),
        )

    middle = runs.lr.isin([5e-4, 1e-3])
    return {
        "lr_horizon": split(runs.iters <= 25_000, runs.iters > 25_000),
        "lr_peak": split(middle, ~middle),
        "lr_schedule": split(runs.scheduler == "wsd", runs.scheduler == "cos"),
    }


def _sweep_rates(run, last: float) -> np.ndarray:
    """Learning rates of a run of the sweep; its table does not say where a cosine ends, its log (``last``) does."""
    step, after = np.arange(run.iters), np.arange(run.iters) - run.warmup
    if run.scheduler == "cos":
        end = last / run.lr
        shape = end + (1 - end) * (1 + np.cos(np.pi * after / (run.iters - run.warmup))) / 2
    else:
        decay = int(run.fract_decay * run.iters)
        fallen = np.clip((step - (run.iters - decay)) / decay, 0, 1)
        shape = 1 - (np.sqrt(fallen) if run.decay_type == "sqrt" else fallen)
    return run.lr * np.where(step < run.warmup, (step + 1) / run.warmup, shape)


def gpt_splits(data: Path) -> dict[str, Split]:
    curves = {}
    for name in ("811", "cosine"):
        table = pd.read_csv(data / "gpt_100m" / f"{name}.csv.gz")
        step, loss = table.step.to_numpy(), table.loss.to_numpy()
        count = len(loss) // GPT_WINDOW
        middle = step[: count * GPT_WINDOW].reshape(count, GPT_WINDOW)[:, GPT_WINDOW // 2] + 1  # updates done
        mean = loss[: count * GPT_WINDOW].reshape(count, GPT_WINDOW).mean(axis=1)
        rates = rates_from_log(step, table.lr.to_numpy(), updates=int(step[-1]) + 1)
        late = middle >= GPT_START
        curves[name] = LossCurve(name=name, schedule=rates, step=middle[late], loss=mean[late])
    return {
        "gpt_811_to_cosine": Split(fit=[curves["811"]], predict=[curves["cosine"]]),
        "gpt_cosine_to_811": Split(fit=[curves["cosine"]], predict=[curves["811"]]),
    }


def score(kind: type[Law], split: Split) -> dict:
    """One row of the league."""
    start = time.perf_counter()
    fit = fit_law(kind, split.fit)
    seconds = time.perf_counter() - start
    law = fit.law
    predicted = [law.loss(c.schedule, c.step) for c in split.predict]
    measured = [np.asarray(c.loss, dtype=float) for c in split.predict]
    errors = [np.abs(p / y - 1) for p, y in zip(predicted, measured, strict=True)]
    late = [e[c.step > 0.1 * c.step[-1]] for e, c in zip(errors, split.predict, strict=True)]
    pairs = (
        [(np.concatenate(predicted), np.concatenate(measured))]
        if split.pooled
        else zip(predicted, measured, strict=True)
    )
    row = {
        "r2": float(np.mean([1 - np.sum((p - y) ** 2) / np.sum((y - y.mean()) ** 2) for p, y in pairs])),
        "mean_rel_error": float(np.mean([e.mean() for e in errors])),
        "worst_rel_error": float(max(e.max() for e in errors)),
        "settled": float(max(e.max() for e in late)),
        "best_lr_rate": None,
        "regret": None,
        "seconds": seconds,
        "status": fit.status,
    }
    if split.cells:
        hits, regrets = [], []
        for cell in split.cells:
            chosen = min(cell, key=lambda one: float(law.loss(one[0].schedule, one[0].step)[0]))
            best = min(float(c.loss[0]) for c, _ in cell)
            regrets.append(float(chosen[0].loss[0]) / best - 1)
            hits.append(chosen[1] in {lr for c, lr in cell if c.loss[0] == best})
        row |= {"best_lr_rate": float(np.mean(hits)), "regret": float(np.mean(regrets)), "cells": len(hits)}
    return row


def schedule_leagues(data: Path, laws: dict[str, type[Law]]) -> dict[str, dict[str, dict]]:
    """{law: {split: row}} for the splits of this module whose files are there."""
    splits: dict[str, Split] = {}
    sources: list[tuple[str, Callable[[Path], dict[str, Split]]]] = [
        ("mpl", mpl_splits), ("lr_scheduling", lr_splits), ("gpt_100m", gpt_splits),
    ]  # fmt: skip
    for folder, make in sources:
        try:
            found = make(data) if (data / folder).is_dir() else {}
        except FileNotFoundError as error:
            say(f"{folder}: skipped, {error.filename} is not there")
            continue
        if not found:
            say(f"{folder}: skipped, {data / folder} holds no curves")
        splits |= found
    league: dict[str, dict[str, dict]] = {}
    for name, law in laws.items():
        for split_name, split in splits.items():
            league.setdefault(name, {})[split_name] = row = score(law, split)
            best = f" best LR {row['best_lr_rate']:.0%} regret {row['regret']:.3%}" if split.cells else ""
            error = f"error {row['mean_rel_error']:.3%} worst {row['worst_rel_error']:.2%} settled {row['settled']:.2%}"
            print(f"{name:<13}{split_name:<18} R2 {row['r2']:8.5f} {error}{best} {row['seconds']:.1f} s", flush=True)
        if (data / "track3").is_dir():
            league.setdefault(name, {}).update(_two_rates(data / "track3", name, law))
    return league


def _two_rates(folder: Path, name: str, law: type[Law]) -> dict[str, dict]:
    """A law's rows for the pairs of track3."""
    rows = {}
    for pair, row in track3.scores(folder, law, track3.read_pairs(track3.PAIRS)).items():
        rows[f"track3_{pair}"] = {"mean_rel_error": row["error"], "alone": row["alone"], "noise": row["noise"]}
        print(f"{name:<13}track3 {pair:<11} error {row['error']:.3%} alone {row['alone']:.3%}", flush=True)
    return rows


def league_record(league: dict[str, dict[str, dict]]) -> Record:
    """The schedules' league as a Record, which figures read: metric = law/split of the data, split = the score."""
    scores = (
        "r2",
        "mean_rel_error",
        "worst_rel_error",
        "settled",
        "best_lr_rate",
        "regret",
        "seconds",
        "alone",
        "noise",
    )
    plan = Plan(
        name="league of loss laws", model=gpt2_124m(), batch_tokens=1024, schedule=Constant(steps=1, peak_lr=1.0),
        stages=(Stage(start_step=0, depth=12),),
    )  # fmt: skip
    rows = [
        (key, f"{law}/{split}", score.get(key))
        for law, splits in league.items()
        for split, score in splits.items()
        for key in scores
    ]
    return values_record(header(plan, seed=0), rows)


def say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parquet", type=Path, help="write the schedules' league as a Record")
    parser.add_argument("--laws", default=",".join(LAWS), help="comma-separated names")
    args = parser.parse_args()
    if unknown := set(args.laws.split(",")) - set(LAWS):
        parser.error(f"--laws {sorted(unknown)}: valid are {', '.join(LAWS)}")
    start = time.perf_counter()
    league = schedule_leagues(args.data, {name: LAWS[name] for name in args.laws.split(",")})
    sizes = scaling_laws.leagues(args.data)
    scaling_laws.show(sizes)
    print(f"{time.perf_counter() - start:.0f} s in total")
    if args.parquet:
        write_parquet(league_record(league), args.parquet)
    if args.json:
        args.json.write_text(json.dumps({"laws": league | sizes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
