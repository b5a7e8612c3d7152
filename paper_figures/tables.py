"""Tables: plain rows, as CSV text and as a picture in the look of the figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table", "csv_text", "draw_table", "line_points"]

WIDTH = 7.0  # inches, that of the figures
ROW = 0.21  # inches a line of text
PADDING = 0.15  # inches between columns


class Table(NamedTuple):
    """Columns with names, and rows of plain values.

    Attributes:
        columns: Names; several lines are separated by newlines.
        rows: One value a column each.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def csv_text(table: Table) -> str:
    """The table as CSV, numbers to nine digits.

    Args:
        table: Any.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name.replace("\n", " ") for name in table.columns])
    writer.writerows([[_plain(value) for value in row] for row in table.rows])
    return out.getvalue()


def draw_table(table: Table) -> Figure:
    """The table as a picture: names above a rule, letters shrunk where the columns would not fit.

    Args:
        table: Its values are shown as they are: format numbers before.
    """
    import matplotlib.pyplot as plt

    cells = [[str(value) for value in row] for row in table.rows]
    heads = max(name.count("\n") for name in table.columns) + 1
    lines = [max(cell.count("\n") for cell in row) + 1 for row in cells]
    height = ROW * (heads + sum(lines) + 1)
    figure = plt.figure(figsize=(WIDTH, height))
    figure.set_layout_engine("none")  # every text has its place
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    size = plt.rcParams["font.size"]
    columns = zip(table.columns, zip(*cells, strict=True), strict=True)
    widths = np.array([_width(figure, [name, *column], size) for name, column in columns])
    room = WIDTH - 2 * PADDING - PADDING * (len(widths) - 1)
    scale = min(1.0, room / widths.sum())
    spare = min(max(0.0, room - widths.sum()) / max(len(widths) - 1, 1), 0.4)
    left = PADDING + np.concatenate([[0.0], np.cumsum(widths[:-1] * scale + PADDING + spare)])
    right = left[-1] + widths[-1] * scale + PADDING / 2
    y = ROW * 0.5
    for x, name in zip(left, table.columns, strict=True):
        axes.text(x, y + 0.85 * ROW * heads, name, fontsize=size * scale, fontweight="bold", va="bottom")
    y += ROW * heads
    rule = plt.rcParams["axes.edgecolor"]
    axes.plot([left[0], right], [y, y], color=rule, linewidth=0.8, label="_rule")
    y += ROW * 0.25
    for row, count in zip(cells, lines, strict=True):
        for x, cell in zip(left, row, strict=True):
            axes.text(x, y, cell, fontsize=size * scale, va="top")
        y += ROW * count
    axes.plot([left[0], right], [y, y], color=rule, linewidth=0.8, label="_rule")
    return figure


def line_points(figure: Figure) -> Table:
    """The points of every line of a figure that has a label.

    Args:
        figure: Drawn already.
    """
    rows = []
    for panel, axes in enumerate(figure.axes):
        for line in axes.lines:
            label = str(line.get_label())
            if not label.startswith("_"):
                points = np.stack([np.asarray(axis, dtype=float) for axis in line.get_data()], axis=1)
                rows += [(panel, label, float(x), float(y)) for x, y in points]
    return Table(("panel", "line", "x", "y"), rows)


def _width(figure: Figure, texts: Sequence[str], size: float) -> float:
    """Inches that the widest of ``texts`` takes, the first one, the name, in bold."""
    weights = ["bold", *["normal"] * (len(texts) - 1)]
    drawn = [figure.text(0, 0, t, fontsize=size, fontweight=w) for t, w in zip(texts, weights, strict=True)]
    widths = [text.get_window_extent().width / figure.dpi for text in drawn]
    for text in drawn:
        text.remove()
    return max(widths)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9g}"
    return value.replace("\n", " ") if isinstance(value, str) else value
