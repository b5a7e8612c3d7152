"""Accuracy of the scaling laws on published suites of runs: what ``loss_laws`` prints of them.

    python -m tests.benchmarks.scaling_laws --data DIR [--json OUT]

Splits
    gemstones_depth     22 width x depth shapes at constant learning rate: fit the lowest 60 % of compute (6 N D),
                        predict the rest. Side by side: the size law in (N, D), the additive law in (w, L, D), the
                        shape law, whose clock is learning-rate area.
    gemstones_wrapped   the same with 6 N D in 64-bit integers, which overflow for most rows: the split that the
                        reference numbers (1.08 % and 0.79 %) turn out to come from; nearly a random one.
    gemstones_lr        the law fitted for gemstones_depth, on the same shapes at half the learning rate, same compute
                        range as its test part; no point of that learning rate is fitted.
    chinchilla_refit    240 points read off a figure; parameters beside the published refit.
    nqs_isoflop, nqs_isotoken   the published split of the noisy quadratic system.

Errors are shares of the measured loss: .005 is half a per cent. Seconds are those of the fit on one core (CPU time, so
that a busy machine does not change them).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from latebloom.theory.fitting.scaling import fit_noisy_quadratic, fit_shape_law, fit_size_law
from latebloom.theory.landscapes.nqs import COSINE
from latebloom.theory.landscapes.scaling import SizeLaw

__all__ = ["leagues", "show"]

TRAIN_SHARE = 0.6
FEWEST_TOKENS_DROPPED = 5  # Besiroglu et al. leave out the five shortest runs of the 245
REFIT = {  # Besiroglu et al., arXiv 2404.10102
    "size_amplitude": 482.01,
    "token_amplitude": 2085.43,
    "floor": 1.8172,
    "size_exponent": 0.3478,
    "token_exponent": 0.3658,
}

Table = dict[str, dict[str, dict]]


def leagues(data: Path) -> Table:
    """law -> split -> scores; splits whose files are absent are left out and named on stderr."""
    table: Table = {}
    for part in (_gemstones, _chinchilla, _noisy_quadratic):
        try:
            rows = part(data)
        except FileNotFoundError as error:
            print(f"{part.__name__.strip('_')}: skipped, {error.filename or data} is absent", file=sys.stderr)
            continue
        for law, splits in rows.items():
            table.setdefault(law, {}).update(splits)
    return table


def scores(predicted: np.ndarray, loss: np.ndarray, seconds: float) -> dict:
    """The league's row: R2, mean and worst relative error, seconds of the fit."""
    relative = np.abs(predicted / loss - 1)
    return {
        "r2": float(1 - np.sum((predicted - loss) ** 2) / np.sum((loss - loss.mean()) ** 2)),
        "mean_rel_error": float(relative.mean()),
        "worst_rel_error": float(relative.max()),
        "best_lr_rate": None,
        "seconds": seconds,
    }


def _gemstones(data: Path) -> Table:
    runs = _jsonl(data / "gemstones" / "hot.jsonl")
    table: Table = {"size": {}, "additive": {}, "shape": {}}
    for split, compute in {"gemstones_depth": _compute(runs), "gemstones_wrapped": _wrapped_compute(runs)}.items():
        order = np.argsort(compute, kind="stable")
        train, test = np.split(order, [int(TRAIN_SHARE * len(order))])
        for law, fit in {"size": _fit_size, "additive": _fit_additive, "shape": _fit_shape}.items():
            start = time.process_time()
            predict = fit(runs, train)
            seconds = time.process_time() - start
            table[law][split] = scores(predict(runs, test, 1.0), runs["final_loss"][test], seconds)
            ablation = data / "gemstones" / "lr_ablation_hot.jsonl"
            if split == "gemstones_depth" and ablation.exists():
                half = _jsonl(ablation)
                above = np.flatnonzero(_compute(half) > compute[train].max())
                row = scores(predict(half, above, 0.5), half["final_loss"][above], seconds)
                table[law]["gemstones_lr"] = row
    return table


def _fit_size(runs: dict[str, np.ndarray], rows: np.ndarray) -> Callable:
    law = fit_size_law(*[runs[name][rows] for name in ("params_active_precise", "tokens", "final_loss")])
    return lambda runs, rows, _: law.loss(runs["params_active_precise"][rows], runs["tokens"][rows])


def _fit_additive(runs: dict[str, np.ndarray], rows: np.ndarray) -> Callable:
    law = fit_shape_law(*[runs[name][rows] for name in ("width", "depth", "tokens", "final_loss")])
    return lambda runs, rows, _: law.loss(*_shape(runs, rows))


def _fit_shape(runs: dict[str, np.ndarray], rows: np.ndarray) -> Callable:
    columns = [runs[name][rows] for name in ("width", "depth", "tokens", "final_loss")]
    law = fit_shape_law(*columns, lr=_shape_lr(runs, rows))
    return lambda runs, rows, lr: law.loss(*_shape(runs, rows), lr * _shape_lr(runs, rows))


def _shape(runs: dict[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, ...]:
    return runs["width"][rows], runs["depth"][rows], runs["tokens"][rows]


def _shape_lr(runs: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The suite's own rule: learning rate over a base that all shapes share, 1/(w sqrt(L)) (arXiv 2502.06857)."""
    return 1 / (runs["width"][rows] * np.sqrt(runs["depth"][rows]))


def _compute(runs: dict[str, np.ndarray]) -> np.ndarray:
    return 6.0 * runs["params_active_precise"] * runs["tokens"]


def _wrapped_compute(runs: dict[str, np.ndarray]) -> np.ndarray:
    n, d = (runs[name].astype(np.int64) for name in ("params_active_precise", "tokens"))
    return n * np.int64(6) * d  # array products wrap without a warning


def _chinchilla(data: Path) -> Table:
    table = np.genfromtxt(data / "chinchilla" / "svg_extracted_data.csv", delimiter=",", names=True, comments=None)
    n, flops, loss = table["Model_Size"], table["Training_FLOP"], table["loss"]
    d = flops / (6 * n)
    keep = np.argsort(d)[FEWEST_TOKENS_DROPPED:]
    start = time.process_time()
    law = fit_size_law(n[keep], d[keep], loss[keep])
    row = scores(law.loss(n[keep], d[keep]), loss[keep], time.process_time() - start)
    row["parameters"] = {name: getattr(law, name) for name in REFIT}
    row["published"] = REFIT
    row["objective"] = {
        who: _objective(SizeLaw(**numbers), n[keep], d[keep], loss[keep])
        for who, numbers in {"ours": row["parameters"], "published": REFIT}.items()
    }
    return {"size": {"chinchilla_refit": row}}


def _objective(law: SizeLaw, n: np.ndarray, d: np.ndarray, loss: np.ndarray, delta: float = 1e-3) -> float:
    """Sum of Huber's function of the log residual: what both fits minimise."""
    r = np.abs(np.log(law.loss(n, d) / loss))
    return float(np.sum(np.where(r < delta, r**2 / 2, delta * (r - delta / 2))))


def _noisy_quadratic(data: Path) -> Table:
    path = data / "nqs" / "dataset.csv"
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    train = (table["split"] == "train") & (np.char.lower(table["filtered"].astype(str)) != "true")
    start = time.process_time()
    law = fit_noisy_quadratic(*[table[name][train].astype(float) for name in ("N", "B", "K", "loss")])
    seconds = time.process_time() - start
    rows = {}
    for kind in ("isoflop", "isotoken"):
        test = (table["split"] == "test") & (table["type"] == kind)
        predicted = law.loss(*[table[name][test].astype(float) for name in "NBK"], shape=COSINE)
        row = scores(predicted, table["loss"][test], seconds)
        row["rmsle"] = float(np.sqrt(np.mean(np.log(predicted / table["loss"][test]) ** 2)))
        rows[f"nqs_{kind}"] = row
    return {"noisy_quadratic": rows}


def _jsonl(path: Path) -> dict[str, np.ndarray]:
    """The numeric columns of a file of JSON lines, as floats."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    names = [name for name, value in rows[0].items() if isinstance(value, int | float)]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in names}


def show(table: Table) -> None:
    """Print a league."""
    for law, splits in table.items():
        for split, row in splits.items():
            extra = "".join(f"  {k} {v:.2%}" for k, v in row.items() if k == "rmsle")
            print(
                f"{law:<17}{split:<19}r2 {row['r2']:.4f}  mean {row['mean_rel_error']:.3%}  "
                f"worst {row['worst_rel_error']:.2%}{extra}  {row['seconds']:.2f} s"
            )
            for name, value in row.get("parameters", {}).items():
                print(f"{'':<17}{name:<19}{value:.6g}   published {row['published'][name]:.6g}")
            if "objective" in row:
                print(f"{'':<17}objective          " + "   ".join(f"{k} {v:.8f}" for k, v in row["objective"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    table = leagues(options.data)
    show(table)
    if options.json:
        options.json.write_text(json.dumps({"laws": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
