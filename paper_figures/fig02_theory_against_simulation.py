"""Figure 2: what theory says against what deep linear networks do (``latebloom validate``).

Left: final loss of runs that grow, predicted from fixed-depth pilots (and one grown one from one layer), against
simulated: schedules, expansion steps, rules and multipliers as they come. Right: every claim's distance from theory in
units of its tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from theory.record import Record

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
                x, y = ([c[k] for c in points] for k in ("theory", "simulated"))
                left.plot(x, y, marker, color=color, markersize=3, alpha=0.7, markeredgewidth=0, label=label)
    ends = np.array([min(c["theory"] for c in grown) * 0.9, max(c["theory"] for c in grown) * 1.1])
    left.plot(ends, ends, "-", color="#999999", linewidth=0.7, label="_equal")
    left.fill_between(ends, 0.95 * ends, 1.05 * ends, color="#999999", alpha=0.25, linewidth=0)
    left.set(xscale="log", yscale="log", xlabel="predicted final loss", ylabel="simulated final loss",
             title="runs that grow, band 5 %")  # fmt: skip
    left.legend(loc="upper left")
    checks = list(dict.fromkeys(c["check"] for c in table))
    for at, check in enumerate(checks):
        mine = [c for c in table if c["check"] == check and np.isfinite(c["theory"]) and np.isfinite(c["simulated"])]
        share = [max(abs(c["simulated"] - c["theory"]) / max(c["tolerance"], 1e-12), NEAR) for c in mine]
        spread = at + (np.linspace(-0.25, 0.25, len(mine)) if len(mine) > 1 else np.zeros(len(mine)))
        right.plot(share, spread, "o", color="#0072B2", markersize=2.5, alpha=0.7, markeredgewidth=0, label=check)
    right.axvline(1.0, color="#D55E00", linewidth=0.9)
    right.set(xscale="log", xlim=(NEAR * 0.7, 10), xlabel="|simulated - theory| / tolerance",
              title=f"{sum(int(c['holds']) for c in table)} of {len(table)} claims hold")  # fmt: skip
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
