"""Table 5: is one learning rate right before and after an expansion?

What :func:`latebloom.theory.transfer.across_expansion` says for growing from 1 to 12 and from 0 to 12 blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latebloom.paper_figures.curves import OPTIMIZER_NAMES
from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.transfer import across_expansion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.optimizers import OptimizerName
    from latebloom.theory.record import Record

RECORDS: list[str] = []
OPTIMIZERS: tuple[OptimizerName, ...] = ("muon_nsgd", "muon_adamw", "adamw", "nsgd", "sgd")
ALPHAS = (0.0, 0.5, 1.0)
SMALL, FULL = (0, 1), 12


def data(records: Mapping[str, Record]) -> Table:
    """One row an optimizer and start."""
    rows = []
    for optimizer in OPTIMIZERS:
        for small in SMALL:
            cells = []
            for alpha in ALPHAS:
                found = across_expansion(small, FULL, optimizer, alpha=alpha)
                cost = "" if found.same_is_right else f", costs {found.cost:.0%}"
                cells.append("the same" if found.same_is_right else f"× {found.trunk:.3g}{cost}")
            rows.append((OPTIMIZER_NAMES[optimizer], f"{small} → {FULL}", *cells))
    return Table(("optimizer", "depths", *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)


def make(records: Mapping[str, Record]) -> Figure:
    """The table."""
    return draw_table(data(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    return (
        "Theory (deep linear networks): what to multiply the learning rate of blocks by at the expansion to "
        f"{FULL} blocks, for residual branches multiplied by L^-α, and the share of the loss above the floor that "
        "keeping the small model's rate costs the rest of the run. From no block the small model has no block whose "
        "rate could be wrong. GPT-2 as it is has α = 0."
    )
