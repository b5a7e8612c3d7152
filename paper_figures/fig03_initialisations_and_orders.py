"""Figure 3: how new blocks begin and where they stand, on two corpora, beside every control.

Source: arXiv 2511.04981 finds copying slightly better than random from one layer, and the order 'last' worse than
'stack' and 'inter'. Here at the size of a laptop: tinyshakespeare and ELTeC's English novels in GPT-2's BPE, GPT-2 of 4
blocks of width 96, Muon-NSGD, WSD, 400 steps of 1024 tokens, grown at .7 of them.

Records, for CORPUS in shakespeare, eltec:
`latebloom data prepare FILES --tokenizer gpt2 --bpe-dir DIR --out data/CORPUS`,
`latebloom plan --model gpt2-tiny --vocab-size 50257 --steps 400 --batch-tokens 1024 --peak-lr 0.015 --u-mix 0.25`,
`latebloom ablate plan.json --data data/CORPUS --out CORPUS --repeat-data --eval-tokens 8192 --parquet DIR`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from paper_figures.curves import LOOKS, Look, mark_expansion, plot_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from theory.record import Record

CORPORA = {"shakespeare": "tinyshakespeare", "eltec": "ELTeC novels"}
STARTS = {"0": "#0072B2", "1": "#D55E00", "2": "#CC79A7"}
INITS = {"random": "random", "copy": "copied", "copy_zero_last": "copied, last zeroed"}
ORDERS = ("stack", "inter", "last")
CONTROLS = {
    "fixed": LOOKS["fixed"], "equal_compute": LOOKS["equal_compute"], "cold_start": LOOKS["cold_start"],
    **{f"small_{l}": Look(f"depth {l}, never grown", "#009E73", "-.") for l in STARTS},
}  # fmt: skip
GROWN = {
    "grown_0_random": Look("0 → 4, random", STARTS["0"]),
    **{f"grown_1_{i}": Look(f"1 → 4, {text}", STARTS["1"]) for i, text in INITS.items()},
    **{
        f"grown_2_{i}_{o}": Look(f"2 → 4, {t}, {o}", STARTS["2"])
        for i, t in INITS.items()
        for o in ORDERS
        if (i, o) != ("random", "last")
    },  # the same run as "stack"
}
ARMS = CONTROLS | GROWN
SEED = "s0"
RECORDS = [f"{corpus}_{arm}_{SEED}" for corpus in CORPORA for arm in ARMS]


def make(records: dict[str, Record]) -> Figure:
    """Above the curves of some arms, below every arm's final loss against that of the fixed depth."""
    figure, axes = plt.subplots(2, 2, height_ratios=(1, 1.9), figsize=(7.2, 6.4))
    for corpus, curves, finals in zip(CORPORA, axes[0], axes[1], strict=True):
        runs = {arm: records[f"{corpus}_{arm}_{SEED}"] for arm in ARMS}
        _curves(curves, runs)
        _finals(finals, runs)
        curves.set_title(CORPORA[corpus])
    axes[0][0].set_ylabel("validation loss (nats/token)")
    axes[0][0].legend(loc="lower left", fontsize=6)
    axes[1][1].set_yticklabels([])
    return figure


def _curves(axes: Axes, runs: dict[str, Record]) -> None:
    shown = ("fixed", "equal_compute", "small_1", "grown_0_random", "grown_1_random", "grown_1_copy")
    for arm in shown:
        look = Look(ARMS[arm].label, ARMS[arm].color, "--") if arm == "grown_1_copy" else ARMS[arm]
        plot_run(axes, runs[arm], look, against="step")
    tau = runs["grown_1_random"].plan.tau
    assert tau is not None
    mark_expansion(axes, tau, "grow")
    best = min(runs[arm].final() for arm in shown)
    axes.set(xlabel="iterations", ylim=(best - 0.05, best + 0.9))


def _finals(axes: Axes, runs: dict[str, Record]) -> None:
    fixed = runs["fixed"].final()
    axes.axvline(0, color="#999999", linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
    for place, arm in enumerate(reversed(ARMS)):
        marker = "s" if arm in CONTROLS else "o"
        axes.plot(
            [runs[arm].final() - fixed], [place], marker, color=ARMS[arm].color, label=ARMS[arm].label, markersize=4
        )
    axes.set_yticks(range(len(ARMS)), [look.label for look in reversed(ARMS.values())], fontsize=6.5)
    within = sorted(runs[arm].final() - fixed for arm in ARMS if arm not in ("cold_start", "small_0", "grown_0_random"))
    room = within[-1] - within[0]
    axes.set_xlim(within[0] - 0.1 * room, within[-1] + 0.1 * room)
    for place, arm in enumerate(reversed(ARMS)):
        beyond = runs[arm].final() - fixed
        if beyond > within[-1] + 0.1 * room:
            axes.annotate(f"{beyond:+.2f} →", (0.99, place), xycoords=("axes fraction", "data"), fontsize=6.5,
                          ha="right", va="center", color=ARMS[arm].color)  # fmt: skip
    axes.set_xlabel("final loss − fixed depth (nats/token)")


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    plan = records[f"shakespeare_grown_1_random_{SEED}"].plan
    told = [
        f"Grown at step {plan.tau} of {plan.steps}, {plan.steps * plan.batch_tokens:,} tokens in GPT-2's BPE, one "
        "seed; arms that start at one depth share everything before it."
    ]
    for corpus, title in CORPORA.items():
        final = {arm: records[f"{corpus}_{arm}_{SEED}"].final() for arm in ARMS}
        ones = ", ".join(f"{text} {final[f'grown_1_{i}']:.3f}" for i, text in INITS.items())
        orders = ", ".join(
            f"{order} {sum(final[f'grown_2_{i}_{order}'] for i in ('copy', 'copy_zero_last')) / 2:.3f}"
            for order in ORDERS
        )
        controls = ", ".join(f"{CONTROLS[arm].label} {final[arm]:.3f}" for arm in CONTROLS)
        told.append(
            f"{title}: {controls}. From no block {final['grown_0_random']:.3f}; from one block {ones}; from two, "
            f"both ways of copying, {orders}."
        )
    return " ".join(told)
