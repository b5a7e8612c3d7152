"""Every figure of the project: its name, the module that makes it, and the committed Records that it reads.

A figure module declares ``RECORDS`` (names below ``data/``) and ``make(records) -> Figure``; it never simulates. The
CSV beside each figure holds what its lines show.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from latebloom.paper_figures.paths import DATA, STYLE
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.record import Record, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw", "load_records", "save_figure"]

FIGURES = {
    "fig01": "latebloom.paper_figures.figures.fig01_fixed_against_progressive",
    "fig02": "latebloom.paper_figures.figures.fig02_theory_against_simulation",
    "fig03": "latebloom.paper_figures.figures.fig03_initialisations_and_orders",
    "fig04": "latebloom.paper_figures.figures.fig04_predicted_gaps",
    "kills": "latebloom.paper_figures.figures.kills",
}


def module(name: str) -> ModuleType:
    """The module that makes figure ``name``."""
    if name not in FIGURES:
        raise InputError("figure", name, "is not a figure", nearest(name, FIGURES))
    return importlib.import_module(FIGURES[name])


def load_records(names: Sequence[str], folder: Path = DATA) -> dict[str, Record]:
    """Read committed records by name.

    Args:
        names: Of files below ``folder``, without their suffix.
        folder: Where the records are.

    Raises:
        InputError: naming the record that is missing; a figure is never drawn from less.
    """
    for name in names:
        if not (folder / f"{name}.parquet").exists():
            rule = "is a record that this figure needs and is not there"
            raise InputError("record", str(folder / f"{name}.parquet"), rule, "restore it from git")
    return {name: read_record(folder / f"{name}.parquet") for name in names}


def draw(name: str, folder: Path = DATA) -> Figure:
    """Make figure ``name`` from its records.

    Args:
        name: Of the figure, such as 'fig01'.
        folder: Where the records are.
    """
    import matplotlib as mpl

    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    made = module(name)
    with plt.style.context(STYLE):
        return made.make(load_records(made.RECORDS, folder))


def save_figure(name: str, output: Path, folder: Path = DATA) -> list[Path]:
    """Draw figure ``name`` and write it as PDF, SVG, PNG and CSV, byte for byte the same on one environment.

    Args:
        name: Of the figure, such as 'fig01'.
        output: Directory to write to; it is made if need be.
        folder: Where the records are.

    Returns:
        The files written.
    """
    import matplotlib.pyplot as plt

    figure = draw(name, folder)
    output.mkdir(parents=True, exist_ok=True)
    stem = FIGURES[name].rpartition(".")[2]
    paths = [output / f"{stem}.{suffix}" for suffix in ("pdf", "svg", "png", "csv")]
    with plt.style.context(STYLE):
        figure.savefig(paths[0], metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
        figure.savefig(paths[2], metadata={"Software": None})
    paths[3].write_text(_csv(figure), encoding="utf-8")
    plt.close(figure)
    return paths


def _csv(figure: Figure) -> str:
    """The points of every labelled line."""
    lines = ["panel,line,x,y"]
    for panel, axes in enumerate(figure.axes):
        for line in axes.lines:
            label = str(line.get_label())
            if label.startswith("_"):
                continue
            quoted = '"' + label.replace('"', '""') + '"'
            points = np.stack([np.asarray(axis) for axis in line.get_data()], axis=1)
            lines += [f"{panel},{quoted},{x:.9g},{y:.9g}" for x, y in points]
    return "\n".join(lines) + "\n"
