"""Table 4: how learning rates go from a small model to a large one, by optimizer and kind of parameter.

Exponents of width and depth as :data:`latebloom.theory.transfer.RULES` has them; `latebloom transfer` evaluates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latebloom.paper_figures.curves import OPTIMIZER_NAMES
from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.transfer import RULES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS: list[str] = []
ALPHAS = (0.0, 0.5, 1.0)  # of the residual multiplier L^-alpha
SHOWN = ("muon_nsgd", "adamw", "sgd")  # the CSV has all


def _signed(exponent: float) -> str:
    return f"{exponent:+g}" if exponent else "0"


def data(records: Mapping[str, Record]) -> Table:
    """One row an optimizer and kind."""
    rows = [
        (
            OPTIMIZER_NAMES[rule.optimizer], rule.group.replace("_", " "), _signed(rule.width),
            *(_signed(rule.depth[0] + rule.depth[1] * alpha) for alpha in ALPHAS),
            rule.source.replace("derived above", "derived here"),
        )
        for rule in RULES
        if rule.quantity == "lr"
    ]  # fmt: skip
    return Table(("optimizer", "parameters", "width", *(f"depth,\nα = {alpha:g}" for alpha in ALPHAS), "source"), rows)


def make(records: Mapping[str, Record]) -> Figure:
    """The table of three optimizers."""
    table = data(records)
    rows = [row for name in SHOWN for row in table.rows if row[0] == OPTIMIZER_NAMES[name]]
    return draw_table(Table(table.columns, rows))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    return (
        "Exponents with which the best learning rate changes with width and depth, for residual branches multiplied "
        "by L^-α: 0 "
        "leaves the rate alone, -1 divides it by the ratio of sizes. At α = 1 one rate serves all depths under every "
        "optimizer "
        f"but SGD, which wants α = 1/2; GPT-2 as it is has α = 0. {len(SHOWN)} optimizers; the CSV has all."
    )
