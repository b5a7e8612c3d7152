"""Figure 9: where old blocks stand in the grown model. Grown from 2 to 4 blocks in every order.

Source: arXiv 2511.04981 finds 'last' (abbb) worse than 'stack' (abab) and 'inter' (aabb). Records: `latebloom ablate`,
see figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.seeds import told_mean
from latebloom.paper_figures.tables import Table
from latebloom.theory.expansion import INITS, Init, sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.expansion import Order
    from latebloom.theory.record import Record

CORPORA = {"shakespeare": ("tinyshakespeare", (0, 1, 2)), "eltec": ("ELTeC novels", (0,))}
ORDERS: dict[Order, str] = {"stack": "#0072B2", "inter": "#D55E00", "last": "#009E73"}
COPIES: tuple[Init, ...] = ("copy", "copy_zero_last")
RECORDS = [
    f"{corpus}_{arm}_s{seed}"
    for corpus, (_, seeds) in CORPORA.items()
    for arm in ("fixed", "small_2", *(f"grown_2_{i}_{o}" for i in COPIES for o in ORDERS))
    for seed in seeds
]


def _above(records: Mapping[str, Record], corpus: str, arm: str) -> np.ndarray:
    seeds = CORPORA[corpus][1]
    return np.array([records[f"{corpus}_{arm}_s{s}"].final() - records[f"{corpus}_fixed_s{s}"].final() for s in seeds])


def _letters(order: Order) -> str:
    return "".join("ab"[source] for source in sources(order, 2, 4))


def make(records: Mapping[str, Record]) -> Figure:
    """One panel a corpus: final losses above the fixed depth, by initialisation and order."""
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(7.0, 2.6))
    for axes, (corpus, (title, seeds)) in zip(panels, CORPORA.items(), strict=True):
        for group, init in enumerate(COPIES):
            for shift, (order, color) in zip((-0.22, 0, 0.22), ORDERS.items(), strict=True):
                above = _above(records, corpus, f"grown_2_{init}_{order}")
                label = f"{order} ({_letters(order)})"
                axes.plot([group + shift], [above.mean()], "o", color=color, label=label if not group else f"_{label}")
                axes.plot([group + shift] * len(above), above, "_", color=color, markersize=9, label="_seeds")
        never = _above(records, corpus, "small_2").mean()
        axes.axhline(never, color="#777777", linestyle="--", linewidth=0.9, label="2 blocks, never grown")
        axes.axhline(0, color="#000000", linewidth=0.9, label="4 blocks from the start")
        axes.set_xticks(range(len(COPIES)), [INITS[init].label for init in COPIES])
        axes.set(title=f"{title}, n = {len(seeds)}", xlim=(-0.6, 1.6))
    panels[0].set_ylabel("final loss − fixed depth\n(nats/token)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, columnspacing=1)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every run."""
    rows = [
        (title, INITS[init].label, order, seed, float(value))
        for corpus, (title, seeds) in CORPORA.items()
        for init in COPIES
        for order in ORDERS
        for seed, value in zip(seeds, _above(records, corpus, f"grown_2_{init}_{order}"), strict=True)
    ]
    return Table(("corpus", "initialisation", "order", "seed", "above fixed depth (nats)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = []
    for corpus, (title, seeds) in CORPORA.items():
        means = {o: np.mean([_above(records, corpus, f"grown_2_{i}_{o}") for i in COPIES], axis=0) for o in ORDERS}
        ends = ", ".join(f"{o} {told_mean(v)}" for o, v in means.items())
        told.append(f"{title} (n = {len(seeds)}): {ends}")
    plan = records["shakespeare_grown_2_copy_stack_s0"].plan
    return (
        f"Orders of blocks when a GPT-2 of width {plan.model.width} grows from 2 blocks (a, b) to 4 at step "
        f"{plan.tau} of "
        f"{plan.steps}: final loss above four blocks from the start, mean of both initialisations in nats (± standard "
        f"error over n seeds; dashes are seeds). {'; '.join(told)}. No order is worse than the others here, against "
        "the "
        "paper's finding that 'last' is."
    )
