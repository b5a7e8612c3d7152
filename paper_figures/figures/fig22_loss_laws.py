"""Figure 22: laws of the loss over learning-rate schedules, on curves of other people.

Every law is fitted in the same way to some runs and predicts others (docs/accuracy.md): other schedules, longer runs,
other learning rates. Shown is the mean relative error of what was predicted.

Records: `python -m tests.benchmarks.loss_laws --data DIR --parquet FILE` on public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["loss_laws"]
LAWS = {
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


def prepare(records: Mapping[str, Record]) -> dict[tuple[str, str], dict[str, float]]:
    """By law and split: every score."""
    columns = records["loss_laws"].columns
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score, metric, value in zip(columns["split"], columns["metric"], columns["value"], strict=True):
        law, split = metric.split("/")
        found.setdefault((law, split), {})[score] = float(value)
    return found


def make(scores: dict[tuple[str, str], dict[str, float]]) -> Figure:
    """One column a split, one mark a law."""
    figure, axes = plt.subplots(figsize=(7.0, 3.1))
    splits = [split for split in SPLITS if any(key[1] == split for key in scores)]
    for place, (law, (label, color)) in enumerate(LAWS.items()):
        points = [(i, scores[law, split]["mean_rel_error"]) for i, split in enumerate(splits) if (law, split) in scores]
        if points:
            x, error = np.array(points).T
            marker = "D" if law == "river_valley" else "o"
            axes.plot(x + 0.06 * (place - 3), 100 * error, marker, color=color, label=label, markersize=5)
    axes.set_xticks(range(len(splits)), [SPLITS[split] for split in splits], fontsize=6.8)
    axes.set(yscale="log", ylabel="mean error of the prediction (%)")
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def data(scores: dict[tuple[str, str], dict[str, float]]) -> Table:
    """Every score."""
    keys = list(next(iter(scores.values())))
    return Table(("law", "split", *keys), [(*key, *(row[k] for k in keys)) for key, row in scores.items()])


def caption(scores: dict[tuple[str, str], dict[str, float]]) -> str:
    """The caption, its numbers computed."""
    told = []
    for split, words in SPLITS.items():
        here = {law: scores[law, split]["mean_rel_error"] for law in LAWS if (law, split) in scores}
        if here:
            other = min((law for law in here if law != "river_valley"), key=lambda law: here[law])
            title = words.replace("\n", ", ")
            told.append(f"{title} {here['river_valley']:.2%} ({LAWS[other][0]} {here[other]:.2%})")
    return (
        "Mean relative error of held-out losses of public runs of other people, by what had to be predicted; this "
        "project's law "
        f"and in brackets the best published one: {'; '.join(told)}. The law's form was chosen with these curves in "
        "sight "
        "(docs/accuracy.md says what is blind and what is not)."
    )
