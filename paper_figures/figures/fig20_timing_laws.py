"""Figure 20: which law tells what growing costs? Laws fitted to the same pilots, against runs that they did not see.

Each law is fitted to pilots of one seed that cost less than the run (:mod:`latebloom.theory.landscapes.registry`), and
asked for the gap between a grown run and the fixed depth of as many steps. Two rules that know nothing stand beside
them: growing costs nothing ("data-equal"), and growing gains nothing over the small depth ("never"). Left and middle:
the demo's model. Right: the league of the studies, where the planner's word was written down before the runs.

Records: of the demo's corpus and model, see figure 4; `python -m tests.benchmarks.timing_laws --parquet FILE` for the
league.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.figures.fig05_mixing_after_expansion import FIXED, SEEDS, SMALL
from latebloom.paper_figures.tables import Table
from latebloom.theory.fitting.recovery_field import ends_of, fit_recovery_field, trunk_curve_of
from latebloom.theory.landscapes.registry import fit_landscape
from latebloom.theory.scoring import draws_of, loss_draws

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

PILOTS = ("small-200", "small-400", "small-800", "full-200", "full-400", "grown200-90", "grown400-180")
LAWS = {  # name of the landscape -> label, color
    "field": ("recovery field", "#D55E00"),
    "area": ("area law", "#0072B2"),
    "pair": ("pair of loss laws", "#009E73"),
    "data_equal": ("costs nothing", "#999999"),
    "never": ("gains nothing", "#CC79A7"),
}
LEAGUE = "timing_laws"
LEAGUE_NAMES = {  # of the benchmark's laws
    "field": "field, before the runs",
    "field_now": "recovery field today",
    "area": "area law",
    "pair": "pair of loss laws",
    "normalised": "normalised law",
    "reuse": "law of reuse",
    "another_seed": "another seed, measured",
}
RECORDS = [
    LEAGUE,
    *dict.fromkeys(
        [f"demo_scale/s{seed}_{name}" for seed in (0, 1, 2) for name in (*PILOTS, FIXED, SMALL)]
        + [f"demo_scale/s{seed}_grown-{tau}" for tau in sorted(SEEDS) for seed in SEEDS[tau]]
    ),
]


class Case(NamedTuple):
    """One law's word on one run: gap to the fixed depth in per cent of its loss."""

    law: str
    seed: int
    tau: int
    predicted: float
    measured: float


class Content(NamedTuple):
    """Every law on every grown run of the demo's model; and by law its error in each case of the studies, per cent."""

    cases: list[Case]
    studies: dict[str, np.ndarray]


def prepare(records: Mapping[str, Record]) -> Content:
    """Every law on every grown run of every seed, and the league of the studies."""
    return Content(_cases(records), _studies(records[LEAGUE]))


def _studies(record: Record) -> dict[str, np.ndarray]:
    laws, errors = record.columns["split"], record.columns["value"]
    return {law: errors[laws == law] for law in dict.fromkeys(laws.tolist())}


def _cases(records: Mapping[str, Record]) -> list[Case]:
    cases = []
    for seed in (0, 1, 2):
        runs = {tau: records[f"demo_scale/s{seed}_grown-{tau}"] for tau in sorted(SEEDS) if seed in SEEDS[tau]}
        fixed, small = records[f"demo_scale/s{seed}_{FIXED}"], records[f"demo_scale/s{seed}_{SMALL}"]
        pilots = [records[f"demo_scale/s{seed}_{name}"] for name in PILOTS]
        plans = {str(tau): run.plan for tau, run in runs.items()} | {"fixed": fixed.plan}
        told = {name: _landscape(name, pilots, plans) for name in ("area", "pair")} | {"field": _field(pilots, plans)}
        for tau, run in runs.items():
            measured = 100 * (run.final() / fixed.final() - 1)
            for law, losses in told.items():
                cases.append(Case(law, seed, tau, 100 * (losses[str(tau)] / losses["fixed"] - 1), measured))
            never = 100 * (small.final() / losses["fixed"] - 1)  # the small depth is a pilot, the full depth predicted
            cases += [Case("data_equal", seed, tau, 0.0, measured), Case("never", seed, tau, never, measured)]
    return cases


def _landscape(name: str, pilots: list[Record], plans: Mapping[str, Plan]) -> dict[str, float]:
    law = fit_landscape(name, pilots).law
    return {key: float(law.loss(plan, plan.steps)) for key, plan in plans.items()}


def _field(pilots: list[Record], plans: Mapping[str, Plan]) -> dict[str, float]:
    ends = ends_of(pilots, small_depth=1, full_depth=4)
    area = plans["fixed"].schedule.total_area
    curve = trunk_curve_of(pilots, small_depth=1)
    field = fit_recovery_field(ends, full_depth=4, reference=area, trunk_curve=curve)
    draws = draws_of(field, plans, number=1000)
    return {key: float(np.median(loss_draws(draws, key))) for key in plans}


def _errors(cases: list[Case], law: str) -> np.ndarray:
    return np.array([abs(case.predicted - case.measured) for case in cases if case.law == law])


def _draw_league(axes: Axes, errors: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, str]]) -> None:
    """The laws by their median error, the lowest on top; a tick for each of its errors."""
    order = sorted(errors, key=lambda law: float(np.median(errors[law])), reverse=True)
    for place, law in enumerate(order):
        label, color = names[law]
        axes.plot(errors[law], [place] * len(errors[law]), "|", color=color, label=f"_{label}")
        axes.plot([np.median(errors[law])], [place], "o", color=color, label=label)
    axes.set_yticks(range(len(order)), [names[law][0] for law in order], fontsize=6.8)
    axes.set(xlabel="error of the gap (%)", ylim=(-0.6, len(order) - 0.4))


def make(content: Content) -> Figure:
    """Predicted against measured; the laws by their median error, on the demo's model and in the studies."""
    cases = content.cases
    figure, (left, middle, right) = plt.subplots(1, 3, width_ratios=(1.2, 1, 1), figsize=(7.6, 2.9))
    for law, (label, color) in LAWS.items():
        here = [case for case in cases if case.law == law]
        left.plot([c.measured for c in here], [c.predicted for c in here], "o", color=color, label=label,
                  markersize=3.5, alpha=0.8, markeredgewidth=0)  # fmt: skip
    span = [min(c.measured for c in cases) - 0.2, max(c.measured for c in cases) + 0.2]
    left.plot(span, span, color="#999999", linewidth=0.7, zorder=0)
    left.set(xlabel="measured gap (%)", ylabel="predicted gap (%)", title="grown against fixed depth")
    left.legend(fontsize=6.8)
    _draw_league(middle, {law: _errors(cases, law) for law in LAWS}, LAWS)
    middle.set(title="the demo's model", xlim=(0, None))
    colors = {law: LAWS[law][1] if law in LAWS else "#000000" for law in content.studies}
    names = {law: (LEAGUE_NAMES.get(law, law), colors[law]) for law in content.studies}
    _draw_league(right, content.studies, names)
    right.set(title="studies, a tick a case", xscale="log")
    return figure


def data(content: Content) -> Table:
    """Every case of the demo's model."""
    return Table(("law", "seed", "expansion step", "predicted gap (%)", "measured gap (%)"), content.cases)


def caption(content: Content) -> str:
    """The caption, its numbers computed."""
    cases, studies = content
    apart = sorted(studies, key=lambda law: float(np.median(studies[law])))
    in_studies = "; ".join(
        f"{LEAGUE_NAMES.get(law, law)} {np.median(studies[law]):.2f} ({len(studies[law])} cases)" for law in apart
    )
    league = sorted(LAWS, key=lambda law: np.median(_errors(cases, law)))
    told = "; ".join(f"{LAWS[law][0]} {np.median(_errors(cases, law)):.2f}" for law in league)
    count = len(_errors(cases, league[0]))
    return (
        f"Laws fitted to the same {len(PILOTS)} pilots of a seed (up to half of the full depth's horizon), then asked "
        "for the gap "
        f"of {count} runs grown from 1 to 4 blocks at steps {min(SEEDS)} to {max(SEEDS)} of 800, three seeds. Median "
        "absolute "
        f"error in per cent of the loss: {told} ('costs nothing': as if the run ended where the full depth does; "
        "'gains nothing': where the small depth does). Right, studies at equal compute, pilots of smaller compute, "
        f"median over cases: {in_studies}. Runs of one seed share pilots and are not independent."
    )
