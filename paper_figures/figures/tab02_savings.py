"""Table 2: what growing saves at most, by model: against as many steps, and against equal compute.

Costs are counted from tensors (:mod:`latebloom.theory.cost`), head and attention included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.architectures.presets import PRESETS, preset
from latebloom.theory.cost import depth_cost_ratio, flops_per_token
from latebloom.theory.limits import loss_equal_limit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS: list[str] = []
SHARE = 0.8  # tau/T, the paper's limit under warmup-stable-decay
EXPONENTS = (0.348, 0.366)  # of size and tokens, Besiroglu et al. 2024


def data(records: Mapping[str, Record]) -> Table:
    """One row a preset."""
    rows = []
    for name in PRESETS:
        shape, depth = preset(name)
        zero, one = (depth_cost_ratio(shape, small, depth) for small in (0, 1))
        blocks = depth_cost_ratio(shape, 1, depth, head=False)
        costs = [n * SHARE + 1 - SHARE for n in (zero, one)]
        rows.append(
            (
                name, depth, f"{flops_per_token(shape, depth) / 1e9:.3g}", f"{zero:.3f}", f"{one:.3f}", f"{blocks:.3f}",
                *(f"{1 - cost:.0%} ({1 / cost:.1f}x)" for cost in costs), f"{1 / one:.1f}x",
            )
        )  # fmt: skip
    columns = (
        "model", "blocks", "GFLOPs\na token", "price n\nof 0 blocks", "price n\nof 1 block", "the same,\nno head",
        f"saved at {SHARE} T\nfrom 0 blocks", f"saved at {SHARE} T\nfrom 1 block", "at most,\ngrown at T",
    )  # fmt: skip
    return Table(columns, rows)


def make(records: Mapping[str, Record]) -> Figure:
    """The table."""
    return draw_table(data(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    limit = loss_equal_limit(*EXPONENTS)
    return (
        f"Training FLOPs saved against the full depth for as many steps if the run grows at {SHARE} of them (in "
        "brackets the ratio of "
        "compute). n is what a step of the small model costs in steps of the full one; the vocabulary's projection is "
        "in it, "
        "which most published counts leave out. Against the best fixed size of equal compute growth that keeps its "
        "loss saves "
        f"at most {limit - 1:.0%} (exponents {EXPONENTS[0]} and {EXPONENTS[1]}), whatever this table says."
    )
