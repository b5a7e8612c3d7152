"""Table 3: the models that plans can name: sizes and costs, counted from the tensors of each family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.architectures.presets import PRESETS, preset
from latebloom.theory.architectures.shape import FAMILIES
from latebloom.theory.cost import active_parameters, flops_per_token, parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS: list[str] = []


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:g}"


def data(records: Mapping[str, Record]) -> Table:
    """One row a preset."""
    rows = []
    for name in PRESETS:
        shape, depth = preset(name)
        rows.append(
            (
                name, shape.family.name, depth, shape.width, shape.heads, shape.context, f"{shape.vocab_size:,}",
                _count(parameters(shape, depth)), _count(active_parameters(shape, depth)),
                _count(parameters(shape, 0)), _count(flops_per_token(shape, depth)),
            )
        )  # fmt: skip
    columns = (
        "model", "family", "blocks", "width", "heads", "context", "vocabulary", "parameters", "active\na token",
        "without\nblocks", "FLOPs\na token",
    )  # fmt: skip
    return Table(columns, rows)


def make(records: Mapping[str, Record]) -> Figure:
    """The table."""
    return draw_table(data(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    return (
        f"{len(PRESETS)} named models of {len(FAMILIES)} families of blocks. FLOPs are for training, forward and "
        "backward, with the "
        "vocabulary's projection and full attention; 'without blocks' is what a run that starts from no block trains."
    )
