"""Figure 2: what theory says against what deep linear networks do (``latebloom validate``).

Left: final loss of runs that grow, simulated against predicted from fixed-depth pilots (and one grown one from one
layer): schedules, expansion steps, rules and multipliers as they come. Right: every claim's distance from theory in
units of its tolerance, by what the claim is about; the line at 1 is where it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = ["sim_validation"]
COLORS = {"sgd": "#000000", "muon": "#0072B2", "nsgd": "#009E73", "adamw": "#E69F00"}
NAMES = {"sgd": "gradient descent", "muon": "Muon", "nsgd": "NSGD", "adamw": "Adam"}
GROUPS = {  # what each check of the programme is about, in words
    "area_law": "gradient descent: final loss of grown runs",
    "normalised_law": "Muon, NSGD, Adam: final loss of grown runs",
    "sgd_regret": "gradient descent: theory's step to grow against the best",
    "muon_regret": "Muon: theory's step to grow against the best",
    "adam_regret": "Adam: theory's step to grow against the best",
    "cold_starts": "worth of the small phase over a cold start",
    "stages": "gain of a second expansion",
    "initialisations": "what each initialisation does to the loss",
    "copies": "copied blocks: how fast noise makes them differ",
    "memory": "optimizer state reset or carried over",
    "coupled_kappa": "old and new layers that share curvature",
    "saxe": "chains of maps: exact learning curves",
    "muon_hits": "Muon: step at which each mode is learnt",
    "time_scaling": "time to learn over depth",
    "edge_of_stability": "largest stable learning rate",
    "noise_floors": "loss floor of gradient noise",
    "depth_slopes": "learning rate over depth: exponent",
    "width_slopes": "learning rate over width: exponent",
    "one_step_optima": "best single step over width",
}
NEAR = 1e-3  # smallest share of a tolerance that is drawn


def claims(record: Record) -> list[dict]:
    """Every claim: check, rule, name, theory, simulated, low, high, tolerance, holds."""
    found: dict[str, dict] = {}
    for split, metric, value in zip(*(record.columns[c] for c in ("split", "metric", "value")), strict=True):
        check, rule, name = metric.split("/", 2)
        found.setdefault(metric, {"check": check, "rule": rule, "name": name})[split] = float(value)
    return list(found.values())


def make(records: dict[str, Record]) -> Figure:
    """Two panels."""
    table = claims(records["sim_validation"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.7))
    grown = [c for c in table if c["check"] in ("area_law", "normalised_law")]
    for rule, color in COLORS.items():
        for noisy, marker in ((False, "o"), (True, "^")):
            points = [c for c in grown if c["rule"] == rule and ("noise = 0," not in c["name"]) == noisy]
            if points:
                label = NAMES[rule] + (", noisy" if noisy else "")
                x, error = [c["theory"] for c in points], [100 * (c["simulated"] / c["theory"] - 1) for c in points]
                left.plot(x, error, marker, color=color, markersize=3, alpha=0.7, markeredgewidth=0, label=label)
    left.axhspan(-5, 5, color="#999999", alpha=0.2, linewidth=0)
    left.set(
        xscale="log",
        xlabel="predicted final loss",
        ylabel="simulated above predicted (%)",
        title="runs that grow, band 5 %",
    )
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks([], minor=True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=7, columnspacing=0.8,
                  handletextpad=0.2)  # fmt: skip
    there = list(dict.fromkeys(c["check"] for c in table))
    checks = [check for check in GROUPS if check in there] + [check for check in there if check not in GROUPS]
    for at, check in enumerate(checks):
        mine = [c for c in table if c["check"] == check and np.isfinite(c["theory"]) and np.isfinite(c["simulated"])]
        share = [max(abs(c["simulated"] - c["theory"]) / max(c["tolerance"], 1e-12), NEAR) for c in mine]
        spread = at + (np.linspace(-0.25, 0.25, len(mine)) if len(mine) > 1 else np.zeros(len(mine)))
        right.plot(
            share, spread, "o", color="#0072B2", markersize=2.5, alpha=0.7, markeredgewidth=0, label=_group(check)
        )
    right.axvline(1.0, color="#D55E00", linewidth=0.9)
    right.set(
        xscale="log",
        xlim=(NEAR * 0.7, 10),
        xlabel="|simulated − theory| / tolerance",
        title=f"{sum(int(c['holds']) for c in table)} of {len(table)} claims hold",
    )
    right.set_yticks(range(len(checks)), [_group(check) for check in checks], fontsize=6.5)
    right.invert_yaxis()
    return figure


def _group(check: str) -> str:
    return GROUPS.get(check, check.replace("_", " "))


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    table = claims(records["sim_validation"])
    grown = [c for c in table if c["check"] in ("area_law", "normalised_law")]
    errors = {
        rule: [abs(c["simulated"] / c["theory"] - 1) for c in grown if c["rule"] == rule and "noise = 0," in c["name"]]
        for rule in COLORS
    }
    worst = ", ".join(f"{NAMES[rule]} {max(e):.1%} of {len(e)}" for rule, e in errors.items() if e)
    failed = [
        f"{c['name'].replace('->', '→').replace('wsd', 'WSD')} ({NAMES[c['rule']]})" for c in table if not c["holds"]
    ]
    return (
        "Theory against deep linear networks, one row a kind of claim. Left: runs that grow; worst error of the final "
        f"loss without gradient noise: {worst}. Right: how far simulation is from theory, over what the check "
        f"tolerates; right of the line a claim fails. {len(table) - len(failed)} of {len(table)} claims hold"
        + (f"; these do not: {'; '.join(failed)}." if failed else ".")
    )
