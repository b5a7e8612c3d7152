"""Loss laws under Muon with two learning rates a run and weight decay: 36 public configurations, clean pairs.

    python -m tests.benchmarks.track3 --data DIR [--pairs "6->12; 1,3,6->12"] [--laws two_valleys,river_valley] [--json]

DIR holds ``points.csv.gz`` and ``runs.csv`` of the track's logs. A pair fits the seed means of some configurations and
predicts those of others, raw readouts only, from step 250 on; steps that fewer than four fifths of the seeds logged are
left out. All runs read the same batches in the same order.

    error   mean relative error of what was not fitted, predicted by the law and what the fitted runs miss it by at the
            same steps (:func:`latebloom.theory.fitting.laws.carried_losses`)
    alone   that of the law by itself
    same    mean difference of the losses themselves before the learning rates of the predicted and of the only fitted
            run differ: no law of the schedule can predict it; nan where they differ from the start
    noise   standard error of the predicted seed means

all as shares of the loss. ``two_valleys`` sees both learning rates, and in place of the matrices' where decay acts how
far they turn (:mod:`latebloom.theory.landscapes.effective_rate`). Laws with one learning rate see the matrices'. That
turning rates are used in runs with decay alone was decided after 11 and 29, which have none, had got worse by them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.laws import carried_losses, fit_law
from latebloom.theory.landscapes import LAWS
from latebloom.theory.landscapes.effective_rate import INITIAL_SIZE, turning_rates
from latebloom.theory.landscapes.law import Law
from latebloom.theory.landscapes.lr_history import GroupRates

PAIRS = "6->1,3,12; 1,3,6->12; 6->12; 11a->11b; 19->25; 25->19; 29->30"
DEFAULT = ("two_valleys", "river_valley", "multi_power", "functional", "quadratic", "momentum")
FIRST_STEP = 250
ORTHOGONAL = ("plain", "variant")  # families of the table; "hyperball" has no decay, Adam and Shampoo other sizes
SEEDS_LOGGED = 0.8  # share of the seeds that a step needs


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One configuration's seed means, and what decides them.

    Attributes:
        name: In the tables.
        step: Updates done, (points,).
        loss: Mean over seeds, nats, (points,).
        standard_error: Of it, nats, nan with one seed, (points,).
        matrices: Learning rate of the matrices, (steps,).
        others: Of the rest, over its peak, (steps,).
        weight_decay: Of the matrices.
        orthogonal: Whether it is Muon or something like it: updates of one size, in units of which turning is told.
    """

    name: str
    step: np.ndarray
    loss: np.ndarray
    standard_error: np.ndarray
    matrices: np.ndarray
    others: np.ndarray
    weight_decay: float
    orthogonal: bool

    def curve(self, kind: type[Law]) -> LossCurve:
        """As a law sees it.

        Args:
            kind: The law.
        """
        schedule: np.ndarray | GroupRates = self.matrices
        if "other" in kind.scales.values():
            turned = self.matrices
            if self.weight_decay > 0 and self.orthogonal:
                turned = turning_rates(turned, weight_decay=self.weight_decay, initial_size=INITIAL_SIZE)
            schedule = GroupRates(matrices=turned, others=self.others)
        return LossCurve(name=self.name, schedule=schedule, step=self.step, loss=self.loss)

    def at_equal_rates(self, other: Configuration) -> float:
        """Mean relative difference of the losses at common steps before the learning rates differ.

        Args:
            other: Compared with this one.
        """
        count = min(len(self.matrices), len(other.matrices))
        differ = ~np.isclose(self.matrices[:count], other.matrices[:count], rtol=1e-9)
        differ |= ~np.isclose(self.others[:count], other.others[:count], rtol=1e-9)
        alike = int(np.argmax(differ)) if differ.any() else count
        if self.weight_decay != other.weight_decay:
            alike = 0
        steps, mine, theirs = np.intersect1d(self.step, other.step, return_indices=True)
        both = np.abs(self.loss[mine] / other.loss[theirs] - 1)[steps <= alike]
        return float(np.mean(both)) if len(both) else float("nan")


def configurations(data: Path, wanted: set[str]) -> dict[str, Configuration]:
    """By what stands before the first underscore of their names.

    Args:
        data: Folder of the tables.
        wanted: Which.
    """
    points, runs = pd.read_csv(data / "points.csv.gz"), pd.read_csv(data / "runs.csv")
    points = points[points.readout.isna() | (points.readout == "raw")]
    found = {}
    for name, run in runs.groupby("config").first().iterrows():
        if str(name).partition("_")[0] not in wanted:
            continue
        mine = points[(points.config == name) & (points.step >= FIRST_STEP)]
        table = mine.groupby("step").loss.agg(["mean", "std", "count"])
        table = table[table["count"] >= SEEDS_LOGGED * mine.run.nunique()]
        found[str(name).partition("_")[0]] = Configuration(
            name=str(name), step=table.index.to_numpy(), loss=table["mean"].to_numpy(),
            standard_error=(table["std"] / np.sqrt(table["count"])).to_numpy(),
            matrices=_mean(run.matrix_peak) * _shape(run, "matrix"), others=_shape(run, "aux"),
            weight_decay=_mean(run.weight_decay), orthogonal=run.family in ORTHOGONAL,
        )  # fmt: skip
    return found


def _mean(numbers: float | str) -> float:
    """Of the matrices' peaks, or decays, where kinds of matrices have their own."""
    return float(np.mean([float(number) for number in str(numbers).split()]))


def _shape(run: pd.Series, group: str) -> np.ndarray:
    """A learning rate over its peak at each update: 1, then down to the floor by a power of what is left."""
    end, count, power, floor = (float(run[f"{group}_{key}"]) for key in ("end", "cooldown_steps", "power", "floor"))
    left = end - np.arange(int(run.steps))
    shape = np.where(left > count, 1.0, floor + (1 - floor) * (np.maximum(0, left) / count) ** power)
    warmup = int(run["warmup_steps" if group == "matrix" else "aux_warmup_steps"])
    first = 1 if run.warmup_kind == "k+1" else 0
    return shape * np.minimum(1, (np.arange(len(shape)) + first) / warmup) if warmup else shape


def score(kind: type[Law], fitted: list[Configuration], predicted: list[Configuration]) -> dict[str, float]:
    """One row: errors and noise.

    Args:
        kind: Law.
        fitted: Configurations that it sees.
        predicted: Those that it does not.
    """
    found = fit_law(kind, [one.curve(kind) for one in fitted])
    curves = [one.curve(kind) for one in predicted]
    carried = [np.abs(carried_losses(found, one.schedule, one.step) / one.loss - 1) for one in curves]
    alone = [np.abs(found.law.loss(one.schedule, one.step) / one.loss - 1) for one in curves]
    noise = np.concatenate([one.standard_error / one.loss for one in predicted])
    same = [one.at_equal_rates(fitted[0]) for one in predicted] if len(fitted) == 1 else []
    return {
        "error": float(np.mean(np.concatenate(carried))),
        "alone": float(np.mean(np.concatenate(alone))),
        "same": _finite_mean(np.array(same)),
        "noise": _finite_mean(noise),
    }


def _finite_mean(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def read_pairs(text: str) -> list[list[list[str]]]:
    """FITTED->PREDICTED, separated by semicolons, as names.

    Args:
        text: Such as :data:`PAIRS`.
    """
    return [[side.replace(" ", "").split(",") for side in pair.split("->")] for pair in text.split(";")]


def scores(data: Path, kind: type[Law], pairs: list[list[list[str]]]) -> dict[str, dict[str, float]]:
    """Rows of one law by pair; pairs of which a configuration is not there are left out.

    Args:
        data: Folder of the tables.
        kind: Law.
        pairs: Of :func:`read_pairs`.
    """
    found = configurations(data, {name for pair in pairs for side in pair for name in side})
    rows = {}
    for pair in pairs:
        if all(name in found for side in pair for name in side):
            fitted, predicted = ([found[name] for name in side] for side in pair)
            rows["->".join(",".join(side) for side in pair)] = score(kind, fitted, predicted)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", default=PAIRS, help="FITTED->PREDICTED, separated by semicolons")
    parser.add_argument("--laws", default=",".join(DEFAULT), help="separated by commas")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pairs = read_pairs(given.pairs)
    rows = {law: scores(given.data, LAWS[law], pairs) for law in given.laws.split(",")}
    if given.json:
        print(json.dumps(rows))
        return
    for law, by_pair in rows.items():
        for label, row in by_pair.items():
            print(f"{law:<14}{label:<14}" + "  ".join(f"{key} {row[key]:.3%}" for key in row))


if __name__ == "__main__":
    main()
