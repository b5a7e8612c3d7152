"""Figure 9: where old blocks stand in the grown model. Grown from 2 to 4 blocks in every order.

Source: arXiv 2511.04981 finds 'last' (abbb) worse than 'stack' (abab) and 'inter' (aabb). Records: `latebloom ablate`,
see figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.corpora import told_corpus
from latebloom.paper_figures.seeds import above, records_of_seeds, runs_of, told_mean
from latebloom.paper_figures.tables import Table
from latebloom.theory.expansion import INITS, Init, sources
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.expansion import Order
    from latebloom.theory.record import Record

CORPORA = ("shakespeare", "eltec")  # begin the names of records; the second is shown where it is there
ORDERS: dict[Order, str] = {"stack": "#0072B2", "inter": "#D55E00", "last": "#009E73"}
COPIES: tuple[Init, ...] = ("copy", "copy_zero_last")
ARMS = ("fixed", "small_2", *(f"grown_2_{i}_{o}" for i in COPIES for o in ORDERS))
RECORDS = [*records_of_seeds(f"{CORPORA[0]}_{arm}" for arm in ARMS), *(f"{CORPORA[1]}_{arm}_s*" for arm in ARMS)]


def _corpora(records: Mapping[str, Record]) -> dict[str, tuple[str, int]]:
    """By how records are called: the data in words, and how many seeds."""
    seeds = {corpus: runs_of(records, f"{corpus}_fixed") for corpus in CORPORA}
    return {corpus: (told_corpus(next(iter(runs.values()))), len(runs)) for corpus, runs in seeds.items() if runs}


def _above(records: Mapping[str, Record], corpus: str, arm: str) -> np.ndarray:
    return above(records, f"{corpus}_{arm}", f"{corpus}_fixed")


def _letters(order: Order, full: int) -> str:
    return "".join("ab"[source] for source in sources(order, 2, full))


def make(records: Mapping[str, Record]) -> Figure:
    """One panel a corpus: final losses above the fixed depth, by initialisation and order."""
    corpora, full = _corpora(records), records[f"{CORPORA[0]}_fixed_s0"].plan.depth
    figure, panels = plt.subplots(1, len(corpora), sharey=True, figsize=(7.0, 2.6), squeeze=False)
    for axes, (corpus, (title, seeds)) in zip(panels[0], corpora.items(), strict=True):
        for group, init in enumerate(COPIES):
            for shift, (order, color) in zip((-0.22, 0, 0.22), ORDERS.items(), strict=True):
                apart = _above(records, corpus, f"grown_2_{init}_{order}")
                label = f"{order} ({_letters(order, full)})"
                axes.plot([group + shift], [apart.mean()], "o", color=color, label=label if not group else f"_{label}")
                axes.plot([group + shift] * len(apart), apart, "_", color=color, markersize=9, label="_seeds")
        never = _above(records, corpus, "small_2").mean()
        axes.axhline(never, color="#777777", linestyle="--", linewidth=0.9, label="2 blocks, never grown")
        axes.axhline(0, color="#000000", linewidth=0.9, label=f"{blocks_text(full)} from the start")
        axes.set_xticks(range(len(COPIES)), [INITS[init].label for init in COPIES])
        axes.set(title=f"{title}, n = {seeds}", xlim=(-0.6, 1.6))
    panels[0][0].set_ylabel("final loss − fixed depth\n(nats/token)")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, columnspacing=1)
    return figure


def data(records: Mapping[str, Record]) -> Table:
    """Every run."""
    rows = [
        (title, INITS[init].label, order, seed, float(value))
        for corpus, (title, _) in _corpora(records).items()
        for init in COPIES
        for order in ORDERS
        for seed, value in zip(
            runs_of(records, f"{corpus}_fixed"), _above(records, corpus, f"grown_2_{init}_{order}"), strict=True
        )
    ]
    return Table(("corpus", "initialisation", "order", "seed", "above fixed depth (nats)"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = []
    for corpus, (title, seeds) in _corpora(records).items():
        means = {o: np.mean([_above(records, corpus, f"grown_2_{i}_{o}") for i in COPIES], axis=0) for o in ORDERS}
        ends = ", ".join(f"{o} {told_mean(v)}" for o, v in means.items())
        told.append(f"{title} (n = {seeds}): {ends}")
    plan = records[f"{CORPORA[0]}_grown_2_copy_stack_s0"].plan
    return (
        f"Orders of blocks when a GPT-2 of width {plan.model.width} grows from 2 blocks (a, b) to {plan.depth} at step "
        f"{plan.tau} of {plan.steps}: final loss above {blocks_text(plan.depth)} from the start, mean of both "
        f"initialisations in nats (± standard error over n seeds; dashes are seeds). {'; '.join(told)}. The paper "
        "finds 'last' worse than the others."
    )
