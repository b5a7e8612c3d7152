"""Figure 2: what theory says against what deep linear networks do (``latebloom validate``).

Left: final loss of runs that grow, simulated against predicted from fixed-depth pilots (and one grown one from one
layer): schedules, expansion steps, rules and multipliers as they come. Right: every claim's distance from theory in
units of its tolerance.
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
    figure, (left, right) = plt.subplots(1, 2, width_ratios=(1, 1.15))
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
        ylabel="simulated over predicted, less 1 (%)",
        title="runs that grow, band 5 %",
    )
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks([], minor=True)
    left.set_ylim(top=left.get_ylim()[1] + 8)  # room for the legend
    left.legend(loc="upper left", ncols=2, columnspacing=0.8, handletextpad=0.2)
    checks = list(dict.fromkeys(c["check"] for c in table))
    for at, check in enumerate(checks):
        mine = [c for c in table if c["check"] == check and np.isfinite(c["theory"]) and np.isfinite(c["simulated"])]
        share = [max(abs(c["simulated"] - c["theory"]) / max(c["tolerance"], 1e-12), NEAR) for c in mine]
        spread = at + (np.linspace(-0.25, 0.25, len(mine)) if len(mine) > 1 else np.zeros(len(mine)))
        right.plot(share, spread, "o", color="#0072B2", markersize=2.5, alpha=0.7, markeredgewidth=0, label=check)
    right.axvline(1.0, color="#D55E00", linewidth=0.9)
    right.set(
        xscale="log",
        xlim=(NEAR * 0.7, 10),
        xlabel="|simulated - theory| / tolerance",
        title=f"{sum(int(c['holds']) for c in table)} of {len(table)} claims hold",
    )
    right.set_yticks(range(len(checks)), [check.replace("_", " ") for check in checks])
    right.invert_yaxis()
    return figure


def caption(records: dict[str, Record]) -> str:
    """The caption, its numbers computed."""
    table = claims(records["sim_validation"])
    grown = [c for c in table if c["check"] in ("area_law", "normalised_law")]
    errors = {
        rule: [abs(c["simulated"] / c["theory"] - 1) for c in grown if c["rule"] == rule and "noise = 0," in c["name"]]
        for rule in COLORS
    }
    worst = ", ".join(f"{NAMES[rule]} {max(e):.1%} of {len(e)}" for rule, e in errors.items() if e)
    failed = [f"{c['name']} ({c['rule']})" for c in table if not c["holds"]]
    return (
        f"Theory against deep linear networks. Worst error of the final loss without gradient noise: {worst}. "
        f"{len(table) - len(failed)} of {len(table)} claims hold"
        + (f"; these do not: {'; '.join(failed)}." if failed else ".")
    )
