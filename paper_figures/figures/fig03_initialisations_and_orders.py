"""Figure 3: how new blocks begin and where they stand, on two corpora, beside every control.

Source: arXiv 2511.04981 finds copying slightly better than random from one layer, and the order 'last' worse than
'stack' and 'inter'. Here at the size of a laptop: tinyshakespeare and ELTeC's English novels in GPT-2's BPE, GPT-2 of 4
blocks of width 96, Muon-NSGD, WSD, 400 steps of 1024 tokens, grown at .7 of them.

Records, for CORPUS in shakespeare, eltec:
`latebloom data prepare FILES --tokenizer gpt2 --bpe-dir DIR --out data/CORPUS`,
`latebloom plan --model gpt2-tiny --vocab-size 50257 --steps 400 --batch-tokens 1024 --peak-lr 0.015 --u-mix 0.25`,
`latebloom ablate plan.json --data data/CORPUS --out CORPUS --repeat-data --eval-tokens 8192 --parquet DIR`, with
`--seeds 3` for tinyshakespeare. Differences are those of runs of one seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, look, mark_expansion, plot_run
from latebloom.paper_figures.seeds import told_mean
from latebloom.theory.expansion import INITS, Init

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

CORPORA = {"shakespeare": "tinyshakespeare", "eltec": "ELTeC novels"}
STARTS = {"0": "#0072B2", "1": "#D55E00", "2": "#CC79A7"}
COMPARED: tuple[Init, ...] = ("random", "copy", "copy_zero_last")
LABELS = {init: INITS[init].label for init in COMPARED}
ORDERS = ("stack", "inter", "last")
CONTROLS = {
    name.replace("-", "_"): look(name)
    for name in ("fixed", "equal_compute", "cold_start", *(f"small-{l}" for l in STARTS))
}
GROWN = {
    "grown_0_random": Look("0 → 4, random", STARTS["0"]),
    **{f"grown_1_{i}": Look(f"1 → 4, {text}", STARTS["1"]) for i, text in LABELS.items()},
    **{
        f"grown_2_{i}_{o}": Look(f"2 → 4, {t}, {o}", STARTS["2"])
        for i, t in LABELS.items()
        for o in ORDERS
        if (i, o) != ("random", "last")
    },  # the same run as "stack"
}
ARMS = CONTROLS | GROWN
SEEDS = {"shakespeare": (0, 1, 2), "eltec": (0,)}
RECORDS = [f"{corpus}_{arm}_s{seed}" for corpus in CORPORA for arm in ARMS for seed in SEEDS[corpus]]


def make(records: dict[str, Record]) -> Figure:
    """Above the curves of some arms, below every arm's final loss against that of the fixed depth."""
    figure, axes = plt.subplots(2, 2, height_ratios=(1, 1.9), figsize=(7.2, 6.4))
    for corpus, curves, finals in zip(CORPORA, axes[0], axes[1], strict=True):
        _curves(curves, {arm: records[f"{corpus}_{arm}_s0"] for arm in ARMS})
        _finals(finals, _final_losses(records, corpus))
        curves.set_title(CORPORA[corpus])
    axes[0][0].set_ylabel("validation loss (nats/token)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=6.5)
    axes[1][1].set_yticklabels([])
    return figure


def _final_losses(records: dict[str, Record], corpus: str) -> dict[str, np.ndarray]:
    """Final losses of each arm, one a seed."""
    return {arm: np.array([records[f"{corpus}_{arm}_s{seed}"].final() for seed in SEEDS[corpus]]) for arm in ARMS}


def _curves(axes: Axes, runs: dict[str, Record]) -> None:
    shown = ("fixed", "equal_compute", "small_1", "grown_0_random", "grown_1_random", "grown_1_copy")
    for arm in shown:
        shown_as = Look(ARMS[arm].label, ARMS[arm].color, "--") if arm == "grown_1_copy" else ARMS[arm]
        plot_run(axes, runs[arm], shown_as, against="step")
    tau = runs["grown_1_random"].plan.tau
    assert tau is not None
    mark_expansion(axes, tau, "")
    best = min(runs[arm].final() for arm in shown)
    axes.annotate("grow ", (tau, best), ha="right", va="center", fontsize=7, color="#555555")
    axes.set(xlabel="steps", ylim=(best - 0.05, best + 0.9))


def _finals(axes: Axes, final: dict[str, np.ndarray]) -> None:
    """Each seed's difference to its own fixed run as a point, the mean over seeds as a marker."""
    axes.axvline(0, color="#999999", linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
    above = {arm: losses - final["fixed"] for arm, losses in final.items()}
    near = np.concatenate([above[arm] for arm in ARMS if arm not in ("cold_start", "small_0", "grown_0_random")])
    low, high = near.min() - 0.1 * np.ptp(near), near.max() + 0.1 * np.ptp(near)
    for place, arm in enumerate(reversed(ARMS)):
        marker, color, mean = "s" if arm in CONTROLS else "o", ARMS[arm].color, above[arm].mean()
        axes.plot([mean], [place], marker, color=color, label=ARMS[arm].label, markersize=4)
        if len(above[arm]) > 1:
            axes.plot(above[arm], np.full(len(above[arm]), place), "|", color=color, label="_seeds", markersize=7)
        if mean > high:
            axes.annotate(f"{mean:+.2f} →", (0.99, place), xycoords=("axes fraction", "data"), fontsize=6.5,
                          ha="right", va="center", color=color)  # fmt: skip
    axes.set_yticks(range(len(ARMS)), [arm.label for arm in reversed(ARMS.values())], fontsize=6.5)
    axes.set(xlim=(low, high), xlabel="final loss − fixed depth (nats/token)")


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    plan = records["shakespeare_grown_1_random_s0"].plan
    told = [
        f"Grown at step {plan.tau} of {plan.steps}, {plan.steps * plan.batch_tokens:,} tokens in GPT-2's BPE; "
        "arms that start at one depth share everything before it. Numbers are losses above the fixed depth's of the "
        "same seed."
    ]
    for corpus, title in CORPORA.items():
        final = _final_losses(records, corpus)
        above = {arm: losses - final["fixed"] for arm, losses in final.items()}
        both = {o: np.mean([above[f"grown_2_{i}_{o}"] for i in ("copy", "copy_zero_last")], axis=0) for o in ORDERS}
        controls = "; ".join(f"{CONTROLS[arm].label} {told_mean(above[arm])}" for arm in CONTROLS if arm != "fixed")
        ones = ", ".join(f"{text} {told_mean(above[f'grown_1_{i}'])}" for i, text in LABELS.items())
        orders = ", ".join(f"{order} {told_mean(values)}" for order, values in both.items())
        seeds = len(SEEDS[corpus])
        over = f"{seeds} seeds, mean and standard error" if seeds > 1 else "one seed"
        told.append(
            f"{title} ({over}; fixed {final['fixed'].mean():.3f}): {controls}. From no block "
            f"{told_mean(above['grown_0_random'])}; from one block {ones}; from two, both ways of copying, {orders}."
        )
    return " ".join(told)
