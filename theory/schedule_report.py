"""What theory says of a plan's schedule: the qualifying exam, the convex bound, the best schedule of a fitted law."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory import checks
from latebloom.theory.bounds import last_iterate, last_iterate_curve, meeting_step
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.plan import Plan
from latebloom.theory.qualifying_exam import examine

__all__ = ["report", "report_text"]

KEPT_DISTANCES = (0.25, 0.5, 0.75)  # rho: squared distance to the optimum at the expansion over that at the start
CURVE_POINTS = 6
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # of the steps, at which the best schedule is printed
LARGEST_BOUND = 1_000_000  # updates up to which the bound's curve is summed


def report(
    plan: Plan, curves: Sequence[str | Path] = (), *, law: str = "functional", warmup: int = 0
) -> dict[str, Any]:
    """Exam, bound and best schedule, as plain data.

    Args:
        plan: Its schedule is examined; tau is compared with where restarted bounds meet the fixed one.
        curves: Loss curves to fit ``law`` to; none for no best schedule.
        law: Name of a loss law over schedules.
        warmup: Updates of warm-up before the first logged learning rate of the curves.

    Returns:
        ``exam``, ``bound``, and with curves ``best``.

    Raises:
        InputError: for a tail, which cannot be examined, too long a schedule, an unknown law, unusable curves.
    """
    checks.whole("warmup", warmup, 0, fix="give a number of updates")
    schedule = plan.schedule
    if schedule.horizon > LARGEST_BOUND:
        rule = f"are more updates than the bound is summed for, {LARGEST_BOUND}"
        raise InputError("steps", schedule.horizon, rule, "ask about the same shape with fewer steps")
    exam = examine(schedule)
    rates = schedule.lrs()
    bound = last_iterate(rates / schedule.peak, distance=1.0, gradient=1.0)
    scaled = rates / schedule.peak * bound.best_scale
    values = last_iterate_curve(scaled, distance=1.0, gradient=1.0).value
    steps = np.unique(np.geomspace(1, schedule.horizon, CURVE_POINTS).round().astype(int))
    table: dict[str, Any] = {
        "schedule": str(schedule.__struct_config__.tag),
        "steps": schedule.horizon,
        "tau": plan.tau,
        "exam": {"passes": exam.passes, "q1": exam.q1, "q2": exam.q2, "method": exam.method, "reason": exam.reason},
        "bound": {
            "best_peak": bound.best_scale,
            "best_value": bound.best_value,
            "times_sqrt_steps": bound.best_value * schedule.horizon**0.5,
            "curve": {"step": steps.tolist(), "value": values[steps - 1].tolist()},
            "meeting_step": {
                f"{rho:g}": meeting_step(scaled, rho=rho, distance=1.0, gradient=1.0) for rho in KEPT_DISTANCES
            },
        },
    }
    if curves:
        table["best"] = _best_schedule(plan, curves, law, warmup)
    return table


def _best_schedule(plan: Plan, curves: Sequence[str | Path], name: str, warmup: int) -> dict[str, Any]:
    """The learning rates that a law fitted to ``curves`` likes best within the plan's horizon and peak."""
    from latebloom.theory.fitting.laws import fit_law
    from latebloom.theory.fitting.readers import read_curves
    from latebloom.theory.landscapes import LAWS, FunctionalLaw
    from latebloom.theory.landscapes.functional import best_functional_schedule
    from latebloom.theory.landscapes.law import best_schedule

    if name not in LAWS:
        raise InputError("--law", name, "is not a law over schedules", nearest(name, LAWS))
    fit = fit_law(LAWS[name], read_curves(curves, warmup=warmup))
    schedule = plan.schedule
    if isinstance(fit.law, FunctionalLaw):
        best = best_functional_schedule(fit.law, steps=schedule.horizon, peak_lr=schedule.peak)
    else:
        best = best_schedule(fit.law, steps=schedule.horizon, peak_lr=schedule.peak)
    ends = np.cumsum(best.steps)
    at_share = np.minimum(np.searchsorted(ends, np.array(SHARES) * ends[-1], side="right"), len(ends) - 1)
    return {
        "law": name,
        "status": fit.status,
        "loss": best.loss,
        "loss_of_plan": float(fit.law.loss(schedule, schedule.horizon)[0]),
        "lr": {f"{share:.0%}": float(best.lr[i]) for share, i in zip(SHARES, at_share, strict=True)},
        "pieces": {"steps": best.steps.tolist(), "lr": best.lr.tolist()},
    }


def report_text(table: dict[str, Any]) -> str:
    """The report on one screen.

    Args:
        table: Of :func:`report`.

    Returns:
        Lines for people.
    """
    exam, bound = table["exam"], table["bound"]
    word = "passes" if exam["passes"] else "fails"
    lines = [f"{table['schedule']}, {table['steps']} steps: {word} the qualifying exam ({exam['reason']})."]
    if exam["q1"] is not None:
        product = 2 * exam["q1"] * exam["q2"]
        lines.append(
            f"  in the limit of many steps the worst convex loss ends within {product:.3f} D G/sqrt(T) of its minimum"
        )
        lines.append(f"  (linear decay: 2), at the peak {exam['q1'] / exam['q2']:.3f} D/(G sqrt(T))")
    lines.append(
        f"Convex bound of the last iterate at its best peak: {bound['times_sqrt_steps']:.3f} D G/sqrt(T) at "
        f"T = {table['steps']}"
    )
    curve = zip(bound["curve"]["step"], bound["curve"]["value"], strict=True)
    lines.append("  after " + ", ".join(f"{step}: {value:.3g}" for step, value in curve))
    lines.append("Growing costs nothing in this bound up to the step at which it meets the fixed depth's:")
    for rho, step in bound["meeting_step"].items():
        lines.append(f"  {rho} of the squared distance left: step {step} ({step / table['steps']:.0%})")
    if table["tau"] is not None:
        lines.append(
            f"  the plan expands at {table['tau']} ({table['tau'] / table['steps']:.0%}); bounds place nothing"
        )
    if "best" in table:
        best = table["best"]
        lines.append(
            f"Best schedule of the {best['law']} law ({best['status']}) within this horizon and peak: loss "
            f"{best['loss']:.4f}, the plan's {best['loss_of_plan']:.4f}"
        )
        lines.append("  learning rate after " + ", ".join(f"{share}: {lr:.3g}" for share, lr in best["lr"].items()))
    return "\n".join(lines)
