"""Figure 22: laws of the loss over learning-rate schedules, on curves of other people.

Every law is fitted in the same way to some runs and predicts others (docs/accuracy.md): other schedules, longer runs,
other learning rates. Shown is the mean relative error of what was predicted. Below: runs with two learning rates under
Muon, every law with what it misses of the fitted runs carried over.

Records: `python -m tests.benchmarks.loss_laws --data DIR --parquet FILE` on public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["loss_laws"]
OURS = ("river_valley", "two_valleys")
LAWS = {
    "two_valleys": ("river and two valleys (this project)", "#000000"),
    "river_valley": ("river and valley (this project)", "#D55E00"),
    "functional": ("functional scaling law", "#0072B2"),
    "quadratic": ("quadratic", "#56B4E9"),
    "multi_power": ("multi-power law", "#009E73"),
    "momentum": ("momentum law", "#E69F00"),
    "convex": ("convex bound", "#CC79A7"),
    "power": ("power law of steps", "#777777"),
}
SPLITS = {  # by what has to be predicted from what
    "mpl_25": "other schedules\n25M",
    "mpl_100": "other schedules\n100M",
    "lr_horizon": "longer runs\n124M",
    "lr_peak": "other rates\n124M",
    "lr_schedule": "cosine from WSD\n124M",
    "gpt_811_to_cosine": "cosine from steps\n100M",
    "gpt_cosine_to_811": "steps from cosine\n100M",
}
TWO_RATES = {
    "track3_6->1,3,12": "peak, decay,\nhorizon",
    "track3_1,3,6->12": "the same,\nfrom three",
    "track3_6->12": "peak",
    "track3_11a->11b": "peak,\nno decay",
    "track3_19->25": "shape",
    "track3_25->19": "shape,\nback",
    "track3_29->30": "end, and the\noptimiser",
}


def prepare(records: Mapping[str, Record]) -> dict[tuple[str, str], dict[str, float]]:
    """By law and split: every score."""
    columns = records["loss_laws"].columns
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score, metric, value in zip(columns["split"], columns["metric"], columns["value"], strict=True):
        law, split = metric.split("/")
        found.setdefault((law, split), {})[score] = float(value)
    return found


def make(scores: dict[tuple[str, str], dict[str, float]]) -> Figure:
    """Two rows, one column a split, one mark a law."""
    figure, (one, two) = plt.subplots(2, 1, figsize=(7.0, 5.4))
    for axes, splits in ((one, SPLITS), (two, TWO_RATES)):
        _plot(axes, splits, scores)
    one.set_title("one learning rate a run; what the predicted runs have otherwise than the fitted")
    two.set_title("two learning rates a run: GPT-2 of 124M under Muon; what differs, as above")
    noise = [100 * scores["two_valleys", split]["noise"] for split in TWO_RATES]
    two.plot(range(len(noise)), noise, "_", color="#999999", markersize=22, label="standard error of the seeds' mean")
    figure.legend(*two.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _plot(axes: Axes, splits: dict[str, str], scores: dict[tuple[str, str], dict[str, float]]) -> None:
    for place, (law, (label, color)) in enumerate(LAWS.items()):
        points = [(i, scores[law, split]["mean_rel_error"]) for i, split in enumerate(splits) if (law, split) in scores]
        x, error = np.array(points).T
        marker = "D" if law in OURS else "o"
        axes.plot(x + 0.06 * (place - 3.5), 100 * error, marker, color=color, label=label, markersize=5)
    axes.set_xticks(range(len(splits)), list(splits.values()), fontsize=6.8)
    axes.set(yscale="log", ylabel="mean error of the prediction (%)")
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def data(scores: dict[tuple[str, str], dict[str, float]]) -> Table:
    """Every score."""
    keys = sorted({key for row in scores.values() for key in row})
    rows = [(*key, *(row.get(k, float("nan")) for k in keys)) for key, row in scores.items()]
    return Table(("law", "split", *keys), rows)


def caption(scores: dict[tuple[str, str], dict[str, float]]) -> str:
    """The caption, its numbers computed."""
    return (
        "Mean relative error of held-out losses of public runs of other people, by what they have "
        "otherwise than the runs that the law was fitted to; this "
        f"project's law and in brackets the best published one: {_told(SPLITS, 'river_valley', scores)}. Runs with two "
        f"learning rates: {_told(TWO_RATES, 'two_valleys', scores)}. The laws' forms were chosen with these curves in "
        "sight (docs/accuracy.md says what is blind and what is not)."
    )


def _told(splits: dict[str, str], ours: str, scores: dict[tuple[str, str], dict[str, float]]) -> str:
    told = []
    for split, words in splits.items():
        here = {law: scores[law, split]["mean_rel_error"] for law in LAWS if (law, split) in scores}
        other = min((law for law in here if law not in OURS), key=lambda law: here[law])
        title = words.replace(",\n", ", ").replace("\n", ", " if split in SPLITS else " ")
        told.append(f"{title} {here[ours]:.3%} ({LAWS[other][0]} {here[other]:.3%})")
    return "; ".join(told)
