"""Table 1: what initialisations of new blocks promise, and what they do to a small model.

Records: `python -m latebloom.train.experiments.growth_table FILE.parquet`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latebloom.paper_figures.tables import Table, draw_table
from latebloom.theory.expansion import INITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["growth_operators"]
ORDER = "stack"
LEARNS = 0.25  # of random's feature: at least so much at both widths counts as learning


def _measured(records: Mapping[str, Record]) -> dict[str, dict[str, float]]:
    columns = records["growth_operators"].columns
    found: dict[str, dict[str, float]] = {}
    for split, metric, value in zip(columns["split"], columns["metric"], columns["value"], strict=True):
        init, order = metric.split("/")
        if order == ORDER:
            found.setdefault(init, {})[split] = float(value)
    return found


def data(records: Mapping[str, Record]) -> Table:
    """One row an initialisation."""
    measured = _measured(records)
    random = measured["random"]
    rows = []
    for init, row in INITS.items():
        m = measured[init]
        learns = all(m[k] >= LEARNS * random[k] for k in ("feature narrow", "feature wide"))
        rows.append(
            (
                init, row.weights, row.zeroed.replace("_", " "), "yes" if row.keeps_function else "no",
                f"{m['change']:.3f}", f"{m['reached at first']:.0%}, {m['reached at second']:.0%}",
                f"{m['feature narrow']:.3f}, {m['feature wide']:.3f}", "yes" if learns else "no",
            )
        )  # fmt: skip
    columns = (
        "initialisation", "new weights", "then zeroed", "keeps the\nfunction", "change of\nthe logits",
        "matrices with a gradient\nat updates 1, 2", "feature learnt,\nwidth 32, 128", "learns",
    )  # fmt: skip
    return Table(columns, rows)


def make(records: Mapping[str, Record]) -> Figure:
    """The table."""
    return draw_table(data(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption."""
    measured = _measured(records)
    return (
        f"{len(INITS)} initialisations of new blocks of a GPT-2 grown from 2 to 4 blocks (order stack, one seed). "
        "'Change' is the "
        "change of the logits at the expansion over their size: 0 keeps the function exactly. 'Feature' is how far 8 "
        "updates of "
        "Muon-NSGD move what the new blocks add to the residual stream, over the stream; it counts as learnt from a "
        "quarter of "
        f"random's ({measured['random']['feature narrow']:.3f} and {measured['random']['feature wide']:.3f}) on at "
        "both widths."
    )
