"""Loss laws under Muon with two learning rates a run and weight decay: 36 public configurations, clean pairs.

    python -m tests.benchmarks.track3 --data DIR [--pairs "6->12; 1,3,6->12"] [--laws two_valleys,river_valley] [--json]

DIR holds ``points.csv.gz`` and ``runs.csv`` of the track's logs, or of any others in this format. A pair fits the seed
means of some configurations and predicts those of others, raw readouts only, from step 250 on; steps that fewer than
four fifths of the seeds logged are left out. All runs read the same batches in the same order. A configuration goes by
its name or by what stands there before the first underscore. Pairs that cannot be had are named on stderr and left out.

    error   mean relative error of what was not fitted, predicted by the law and what the fitted runs miss it by at the
            same steps (:func:`latebloom.theory.fitting.laws.carried_losses`)
    alone   that of the law by itself
    same    mean difference of the losses themselves before the learning rates of the predicted and of the only fitted
            run differ: no law of the schedule can predict it; nan where they differ from the start
    floor   what those points make of ``error``, whatever the law; 0 where there are none
    shape   ``error`` were the predictions of each run multiplied by the factor that suits it best: what is left where
            an optimiser has one and the same gain throughout
    noise   standard error of the predicted seed means; nan where no configuration has two

all as shares of the loss. ``differ`` names columns of ``runs.csv`` that laws do not see and in which the configurations
of a pair differ (:data:`UNSEEN`); the errors include what that does.

``two_valleys`` sees both learning rates, and in place of the matrices' how far they turn, where decay acts in a run of
the pair (:mod:`latebloom.theory.landscapes.effective_rate`). Laws with one learning rate see the matrices'. That
turning rates are used in runs with decay alone was decided after 11 and 29, which have none, had got worse by them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from latebloom.theory.errors import InputError, nearest
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
SCHEDULE = ("end", "cooldown_steps", "power", "floor")
PEAKS = ("embed_peak", "head_peak", "oned_peak")
DECIDES = (
    "family", "matrix_peak", "weight_decay", *(f"matrix_{key}" for key in SCHEDULE),
    "warmup_steps", "warmup_kind", "aux_warmup_steps",
)  # fmt: skip
AUX = tuple(f"aux_{key}" for key in SCHEDULE)  # not there, or blank: the rest follows the matrices
NONE_IF_BLANK = ("weight_decay", "warmup_steps", "aux_warmup_steps")
UNSEEN = ("family", "optimizer", "changes", "batch_tokens", "aux_weight_decay")


class Row(TypedDict):
    """Scores of a law on a pair, see the module."""

    error: float
    alone: float
    same: float
    floor: float
    shape: float
    noise: float
    differ: list[str]


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
        others_peak: Peak of the rest: geometric mean over embedding, head and vectors.
        weight_decay: Of the matrices.
        orthogonal: Whether it is Muon or something like it: updates of one size, in units of which turning is told.
        unseen: What laws do not see of it, by column.
    """

    name: str
    step: np.ndarray
    loss: np.ndarray
    standard_error: np.ndarray
    matrices: np.ndarray
    others: np.ndarray
    others_peak: float
    weight_decay: float
    orthogonal: bool
    unseen: dict[str, str]

    def equal_rates(self, other: Configuration) -> tuple[np.ndarray, np.ndarray]:
        """Relative differences of the losses at common steps, and which of them stand before the learning rates differ.

        Args:
            other: Compared with this one.
        """
        count = min(len(self.matrices), len(other.matrices))
        differ = ~np.isclose(self.matrices[:count], other.matrices[:count], rtol=1e-9)
        differ |= ~np.isclose(self.others[:count], other.others[:count], rtol=1e-9)
        alike = int(np.argmax(differ)) if differ.any() else count
        if (self.weight_decay, self.others_peak) != (other.weight_decay, other.others_peak):
            alike = 0
        steps, mine, theirs = np.intersect1d(self.step, other.step, return_indices=True)
        return np.abs(self.loss[mine] / other.loss[theirs] - 1), steps <= alike


def configurations(data: Path, wanted: set[str]) -> dict[str, Configuration]:
    """By the names that were asked for; those that the tables do not hold are left out.

    Args:
        data: Folder of the tables.
        wanted: Names, or what stands before their first underscore.

    Raises:
        InputError: if a table or a column is not there, a short name stands for several configurations, runs of one
            configuration differ in what decides their losses, or a value is no number.
    """
    points = _table(data / "points.csv.gz", ("config", "run", "step", "loss", "readout"))
    runs = _table(data / "runs.csv", ("config", "steps", *DECIDES))
    points = points[points.readout.isna() | (points.readout == "raw")]
    groups = {str(name): table for name, table in runs.groupby("config")}
    found = {}
    for short in wanted:
        names = [short] if short in groups else [name for name in groups if name.partition("_")[0] == short]
        if len(names) > 1:
            rule = f"stands for {len(names)} configurations of runs.csv"
            raise InputError("--pairs", short, rule, f"give the whole name: {', '.join(names)}")
        for name in names:
            found[short] = _configuration(groups[name], points[points.config == name])
    return found


def _table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError("--data", str(path), "is not there", "name the folder that holds points.csv.gz and runs.csv")
    table = pd.read_csv(path, dtype={"config": str})
    missing = [column for column in needed if column not in table]
    if missing:
        raise InputError(f"{path.name}: columns", missing, "are not there", f"it has {', '.join(table.columns)}")
    return table


def _configuration(runs: pd.DataFrame, points: pd.DataFrame) -> Configuration:
    """Of its rows of both tables."""
    for column in (*DECIDES, *AUX, *PEAKS):
        values = runs[column].unique().tolist() if column in runs else []
        if len(values) > 1:
            fix = "give each its own configuration"
            raise InputError(f"runs.csv: {runs.config.iloc[0]}.{column}", values, "differs between its runs", fix)
    run = runs.iloc[0]
    table = points[points.step >= FIRST_STEP].groupby("step").loss.agg(["mean", "std", "count"])
    table = table[table["count"] >= SEEDS_LOGGED * points.run.nunique()]
    steps = int(runs.steps.max())
    others = "aux" if all(not pd.isna(run.get(column)) for column in AUX) else "matrix"
    peaks = [_number(run, column) for column in PEAKS if not pd.isna(run.get(column))]
    return Configuration(
        name=str(run.config), step=table.index.to_numpy(), loss=table["mean"].to_numpy(),
        standard_error=(table["std"] / np.sqrt(table["count"])).to_numpy(),
        matrices=_number(run, "matrix_peak") * _shape(run, "matrix", _number(run, "warmup_steps"), steps),
        others=_shape(run, others, _number(run, "aux_warmup_steps"), steps),
        others_peak=float(np.exp(np.mean(np.log(peaks)))) if peaks else 1.0,
        weight_decay=_number(run, "weight_decay"), orthogonal=run.family in ORTHOGONAL,
        unseen={column: "" if pd.isna(run.get(column)) else str(run[column]) for column in UNSEEN},
    )  # fmt: skip


def _number(run: pd.Series, column: str) -> float:
    """Mean of the values, where kinds of matrices have their own."""
    if column in NONE_IF_BLANK and pd.isna(run[column]):
        return 0.0
    try:
        value = float(np.mean([float(number) for number in str(run[column]).split()]))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"runs.csv: {run.config}.{column}", run[column], "is no number", "correct the table")
    return value


def _shape(run: pd.Series, group: str, warmup: float, steps: int) -> np.ndarray:
    """A learning rate over its peak at each update: 1, then down to the floor by a power of what is left."""
    end, count, power, floor = (_number(run, f"{group}_{key}") for key in SCHEDULE)
    left = end - np.arange(steps)
    shape = np.where(left > count, 1.0, floor + (1 - floor) * (np.maximum(0, left) / max(count, 1)) ** power)
    first = 1 if run.warmup_kind == "k+1" else 0
    return shape * np.minimum(1, (np.arange(steps) + first) / warmup) if warmup else shape


def curves(kind: type[Law], configurations: list[Configuration]) -> list[LossCurve]:
    """Configurations of a pair as a law sees them, in units that are the same for all.

    Args:
        kind: The law.
        configurations: All of them; peaks of the rest are told in that of the first.
    """
    decay = any(one.weight_decay > 0 and one.orthogonal for one in configurations)
    found = []
    for one in configurations:
        schedule: np.ndarray | GroupRates = one.matrices
        if "other" in kind.scales.values():
            turns = decay and one.orthogonal
            matrices = one.matrices
            if turns:
                matrices = turning_rates(matrices, weight_decay=one.weight_decay, initial_size=INITIAL_SIZE)
            others = one.others * (one.others_peak / configurations[0].others_peak)
            schedule = GroupRates(matrices=matrices, others=others, angles=turns)
        found.append(LossCurve(name=one.name, schedule=schedule, step=one.step, loss=one.loss))
    return found


def score(kind: type[Law], fitted: list[Configuration], predicted: list[Configuration]) -> Row:
    """One row: errors, noise, and what the law did not see.

    Args:
        kind: Law.
        fitted: Configurations that it sees.
        predicted: Those that it does not.
    """
    seen = curves(kind, [*fitted, *predicted])
    found, unseen = fit_law(kind, seen[: len(fitted)]), seen[len(fitted) :]
    carried = [carried_losses(found, one.schedule, one.step) / one.loss for one in unseen]
    alone = [found.law.loss(one.schedule, one.step) / one.loss for one in unseen]
    noise = np.concatenate([one.standard_error / one.loss for one in predicted])
    alike = [one.equal_rates(fitted[0]) for one in predicted] if len(fitted) == 1 else []
    same = np.concatenate([np.empty(0), *(difference[where] for difference, where in alike)])
    everyone = [*fitted, *predicted]
    return {
        "error": _error(carried),
        "alone": _error(alone),
        "same": _finite_mean(same),
        "floor": float(np.sum(same)) / sum(len(one.loss) for one in predicted),
        "shape": _error([ratio / np.median(ratio) for ratio in carried]),
        "noise": _finite_mean(noise),
        "differ": [column for column in UNSEEN if len({one.unseen[column] for one in everyone}) > 1],
    }


def _error(ratios: list[np.ndarray]) -> float:
    return float(np.mean(np.abs(np.concatenate(ratios) - 1)))


def _finite_mean(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def read_pairs(text: str) -> list[list[list[str]]]:
    """FITTED->PREDICTED, separated by semicolons, as names.

    Args:
        text: Such as :data:`PAIRS`.

    Raises:
        InputError: for anything else.
    """
    pairs = [[side.replace(" ", "").split(",") for side in pair.split("->")] for pair in text.split(";")]
    if any(len(pair) != 2 or not all(name for side in pair for name in side) for pair in pairs):
        raise InputError("--pairs", text, "must be FITTED->PREDICTED", 'write "6->1,3,12; 11a->11b", in quotes')
    return pairs


def named(pair: list[list[str]]) -> str:
    """A pair as it is written.

    Args:
        pair: Of :func:`read_pairs`.
    """
    return "->".join(",".join(side) for side in pair)


def scores(data: Path, kind: type[Law], pairs: list[list[list[str]]]) -> dict[str, Row]:
    """Rows of one law by pair; pairs of which a configuration is not there are left out.

    Args:
        data: Folder of the tables.
        kind: Law.
        pairs: Of :func:`read_pairs`.
    """
    return score_pairs(configurations(data, _names(pairs)), kind, pairs)


def score_pairs(found: dict[str, Configuration], kind: type[Law], pairs: list[list[list[str]]]) -> dict[str, Row]:
    """Rows of one law by pair; a pair that the law cannot be fitted to is named on stderr.

    Args:
        found: Configurations by name.
        kind: Law.
        pairs: Of :func:`read_pairs`.
    """
    rows = {}
    for pair in pairs:
        if not _names([pair]) <= found.keys():
            continue
        fitted, predicted = ([found[name] for name in side] for side in pair)
        try:
            rows[named(pair)] = score(kind, fitted, predicted)
        except InputError as error:
            _say(f"{kind.__struct_config__.tag} {named(pair)}: left out, {error}")
    return rows


def _names(pairs: list[list[list[str]]]) -> set[str]:
    return {name for pair in pairs for side in pair for name in side}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _shown(value: float) -> str:
    return f"{value:.3%}" if np.isfinite(value) else "-"


def unseen_differences(found: dict[str, Configuration], pairs: list[list[list[str]]]) -> list[str]:
    """A line for each pair whose configurations differ in what laws do not see.

    Args:
        found: Configurations by name.
        pairs: Of :func:`read_pairs`.
    """
    lines = []
    for pair in pairs:
        names = [name for side in pair for name in side if name in found]
        told = []
        for column in UNSEEN:
            values = {name: found[name].unseen[column] or "none" for name in names}
            if len(set(values.values())) > 1:
                told.append(f"{column} " + ", ".join(f"{name}: {value!r}" for name, value in values.items()))
        if told:
            lines.append(f"{named(pair)} differ in what no law of the schedule sees: " + "; ".join(told))
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", default=PAIRS, help="FITTED->PREDICTED, separated by semicolons, in quotes")
    parser.add_argument("--laws", default=",".join(DEFAULT), help="separated by commas")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        laws = given.laws.replace(" ", "").split(",")
        for law in laws:
            if law not in LAWS:
                raise InputError("--laws", law, "is no law of schedules", nearest(law, LAWS))
        pairs = read_pairs(given.pairs)
        found = configurations(given.data, _names(pairs))
        if not any(_names([pair]) <= found.keys() for pair in pairs):
            fix = "name configurations of runs.csv, or what stands before their first underscore"
            raise InputError("--pairs", given.pairs, "none of these pairs is there", fix)
    except InputError as error:
        parser.error(str(error))
    for pair in pairs:
        if absent := sorted(_names([pair]) - found.keys()):
            _say(f"{named(pair)}: left out, runs.csv has no {', '.join(absent)}")
    rows = {law: score_pairs(found, LAWS[law], pairs) for law in laws}
    if given.json:
        print(json.dumps({law: {pair: _plain(row) for pair, row in by.items()} for law, by in rows.items()}))
        return
    width = max(14, *(len(named(pair)) + 2 for pair in pairs))
    for law, by_pair in rows.items():
        for label, row in by_pair.items():
            numbers = "  ".join(f"{key} {_shown(value)}" for key, value in row.items() if isinstance(value, float))
            print(
                f"{law:<14}{label:<{width}}{numbers}"
                + (f"  differ {', '.join(row['differ'])}" if row["differ"] else "")
            )
    for line in unseen_differences(found, pairs):
        print(line)


def _plain(row: Row) -> dict[str, object]:
    """As JSON has it: null for what is not known."""
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}


if __name__ == "__main__":
    main()
