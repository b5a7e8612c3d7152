"""Random kills: when work of every kind was ended by kill -9, and whether it then ended as work that was left alone.

``python -m tests.faults.kills --out DIR``, then the same with ``--record paper_figures/data/kills.parquet``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["kills"]
KINDS = {
    "train": "a run that grows twice", "online": "an expansion decided online", "branch": "a branch",
    "data": "data preparation", "study": "a study of several runs",
}  # fmt: skip
WAYS = {"file": ("o", "before a file operation"), "time": ("^", "at a time")}


def kills(record: Record) -> list[dict]:
    """Every kill: kind, way, share of the work, whether the end was the same, difference of the final losses."""
    found: dict[int, dict] = {}
    for step, split, metric, value in zip(
        *(record.columns[c] for c in ("step", "split", "metric", "value")), strict=True
    ):
        kind, way = split.split("/")
        found.setdefault(int(step), {"kind": kind, "way": way})[metric] = float(value)
    return list(found.values())


def make(records: dict[str, Record]) -> Figure:
    """One panel, a point a kill."""
    table = kills(records["kills"])
    figure, axes = plt.subplots(figsize=(7.2, 2.8))
    kinds = list(KINDS)
    for way, (marker, label) in WAYS.items():
        mine = [kill for kill in table if kill["way"] == way]
        counts = {kind: sum(kill["kind"] == kind for kill in mine) for kind in kinds}
        placed = dict.fromkeys(kinds, 0)
        points: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for kill in mine:
            kind = kill["kind"]
            place = (placed[kind] + 0.5) / max(counts[kind], 1) - 0.5  # in the order of the trials
            placed[kind] += 1
            points[kill["same"] == 1].append((100 * kill["share"], kinds.index(kind) + 0.6 * place))
        for same, color in ((True, "#0072B2"), (False, "#D55E00")):
            if points[same]:
                x, y = zip(*points[same], strict=True)
                end = "same end" if same else "another end"
                axes.plot(
                    x, y, marker, color=color, markersize=3, alpha=0.75, markeredgewidth=0, label=f"{label}: {end}"
                )
    axes.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set(xlim=(0, 100), xlabel="share of the work when it was killed (%)", title=_said(table))
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2, frameon=False)
    return figure


def _said(table: list[dict]) -> str:
    same = sum(kill["same"] == 1 for kill in table)
    return f"{len(table)} random kills -9, {same} with the same end bit for bit"


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    table = kills(records["kills"])
    counts = ", ".join(f"{KINDS[kind]} {sum(kill['kind'] == kind for kill in table)}" for kind in KINDS)
    worst = np.nanmax([kill["loss_difference"] for kill in table])
    lost = sum(not np.isfinite(kill["loss_difference"]) for kill in table)
    trials = records["kills"].header.config["trials"]
    return (
        f"{_said(table)}, in {trials} trials of one or two kills each ({counts}); {lost} could not be taken up again. "
        f"Largest difference of a final loss: {worst:g}."
    )
