"""explorer.html: one page on which a plan can be moved about: horizon, shape, depths, schedule, price of compute.

The page computes in JavaScript (``web/theory.js``) what :mod:`latebloom.theory` computes here. It carries golden
numbers made by Python when it is written, and compares itself with them whenever it is opened.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from latebloom.paper_figures.page import render_page
from latebloom.paper_figures.paths import DATA
from latebloom.theory.architectures.presets import PRESETS, preset
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, Kind, TrunkCurve
from latebloom.theory.fitting.field_kernel import FieldPrior
from latebloom.theory.fitting.recovery_field import RecoveryField, field_of_records, fit_recovery_field
from latebloom.theory.landscapes.area import AreaLaw, Signal
from latebloom.theory.menu import MenuArm, equal_compute_menu, points_of, schedule_for
from latebloom.theory.menu_plan import plan_from_menu
from latebloom.theory.plan import Plan, Stage, read_plan
from latebloom.theory.prediction import FieldSummary
from latebloom.theory.record import Record, read_record
from latebloom.theory.schedules import WSD, Cosine, Linear

if TYPE_CHECKING:
    from latebloom.theory.schedules import AnySchedule

__all__ = ["example_field", "example_plan", "explorer_page", "golden_numbers", "posterior_of", "write_explorer"]

EXAMPLE_PILOTS = ("full-200", "grown200-90", "small-200", "small-400", "small-800")  # those of figure 4, seed 0
BUDGET = 0.8  # of the example, as the demo's


def write_explorer(path: str | Path, plan: str | Path | None = None) -> Path:
    """Write the explorer as one file that opens without a server and asks nothing of the network.

    Args:
        path: Where to.
        plan: File of the plan that it opens with; None: one of the demo's scale, from committed pilots.

    Raises:
        InputError: if the plan cannot be read, or has no landscape that the page knows.
    """
    path = Path(path)
    write_whole(path, explorer_page(example_plan() if plan is None else read_plan(plan)))
    return path


def explorer_page(plan: Plan) -> str:
    """The page, opened with ``plan``.

    Args:
        plan: Made with the recovery field or the area law.

    Raises:
        InputError: if it has no landscape that the page knows.
    """
    if not _has_fit(plan):
        rule = "has no fit that the explorer knows: a recovery field with its pilots' ends, or an area law"
        raise InputError("plan", plan.name, rule, "make it with `latebloom plan --pilot` or `--law area`")
    models = {name: {"shape": msgspec.to_builtins(make()), "depth": depth} for name, (make, depth) in PRESETS.items()}
    data = {
        "plan": msgspec.to_builtins(plan),
        "models": models,
        "prior": msgspec.to_builtins(FieldPrior()),
        "golden": golden_numbers(plan),
    }
    scripts = ("plot.min.js", "theory.js", "charts.js", "explorer.js")
    return render_page("explorer.html", {"data": data}, scripts=scripts)


def _has_fit(plan: Plan) -> bool:
    field = plan.predicted.field
    return (field is not None and field.ends is not None) or plan.provenance.landscape == "area"


@functools.cache
def example_plan() -> Plan:
    """1 -> 4 blocks of the demo's model, from committed pilots of seed 0."""
    base = _pilots()[-1].plan.replace(name="example", stages=(Stage(start_step=0, depth=4),))
    growth = Stage(start_step=1, depth=4)
    return plan_from_menu(example_field(), base, budget=BUDGET * plan_flops(base), growth=growth, depths=(2,)).best


@functools.cache
def example_field() -> RecoveryField:
    """The posterior of its pilots."""
    pilots = _pilots()
    reference = pilots[-1].plan.schedule.total_area
    return field_of_records(pilots, small_depth=1, full_depth=4, reference=reference)


def _pilots() -> list[Record]:
    return [read_record(DATA / "demo_scale" / f"s0_{name}.parquet") for name in EXAMPLE_PILOTS]


# --- golden numbers ---------------------------------------------------------------------------------------------------


def golden_numbers(plan: Plan, *, settings: int = 8, seed: int = 0) -> dict[str, Any]:
    """Settings as the page reads them, and what theory computes for each: arms, areas, prices, losses, tau*.

    Args:
        plan: Whose fit is tried too, at a few budgets.
        settings: Number of random ones, under random area laws.
        seed: Of them.
    """
    generator = np.random.default_rng(seed)
    golden = [_area_setting(generator) for _ in range(settings)]
    field = plan.predicted.field
    if field is None or field.ends is None:
        return {"settings": golden, "field": None}
    posterior = posterior_of(field)
    golden += [_field_setting(plan, posterior, factor) for factor in (0.5, 1.0, 2.0)]
    return {"settings": golden, "field": msgspec.to_builtins(field)}


def _area_setting(generator: np.random.Generator) -> dict[str, Any]:
    """Any schedule, shape and law."""
    steps, peak = int(generator.integers(200, 40_000)), float(10 ** generator.uniform(-3, 0))
    warmup_steps, decay_steps = int(steps * generator.uniform(0, 0.02)), int(steps * generator.uniform(0.02, 0.5))
    decay = ("linear", "cosine", "sqrt", "exponential")[int(generator.integers(4))]
    final = float(generator.uniform(0.01, 0.2))
    kind = int(generator.integers(4))
    schedule: AnySchedule
    if kind < 2:
        smooth = (Cosine, Linear)[kind]
        schedule = smooth(steps=steps, peak_lr=peak, warmup_steps=warmup_steps, final=final)
    else:
        schedule = WSD(
            steps=steps, peak_lr=peak, warmup_steps=warmup_steps, decay_steps=decay_steps, decay=decay,  # type: ignore[arg-type]
            final=final,
        )  # fmt: skip
    reference = schedule.total_area

    def signal(amplitude: float) -> Signal:
        exponent = float(generator.uniform(0.05, 1))
        return Signal(amplitude=amplitude, exponent=exponent, onset=1e-3 * reference, reference=reference)

    full = int(generator.integers(2, 61))
    law = AreaLaw(
        small_depth=int(generator.integers(0, full)),
        full_depth=full,
        floor=float(generator.uniform(1, 3)),
        small_gap=float(generator.uniform(0, 0.5)),
        trunk=signal(float(generator.uniform(0.5, 3))),
        fresh=signal(float(generator.uniform(0.05, 0.5))),
        kappa=float(generator.uniform(0.5, 1.5)),
        noise=float(generator.uniform(0, 0.2)) / peak,
        noise_rate=float(10 ** generator.uniform(-1, 2)) / reference,
    )
    names = list(PRESETS)
    model, _ = preset(names[int(generator.integers(len(names)))])
    plan = Plan(
        name="golden", model=model, batch_tokens=int(generator.integers(1, 500)) * model.context, schedule=schedule,
        stages=(Stage(start_step=0, depth=full),),
    )  # fmt: skip
    budget = float(generator.uniform(0.3, 1.0)) * plan_flops(plan)
    menu = equal_compute_menu(plan, small_depth=law.small_depth, full_depth=full, budget=budget)
    horizons = [schedule_for(schedule, arm.steps) for arm in menu]
    losses = [
        law.fixed(rates, arm.steps, depth=arm.depths[0])
        if arm.tau is None
        else law.grown(rates, arm.steps, tau=arm.tau)
        for arm, rates in zip(menu, horizons, strict=True)
    ]
    tolerance = float(generator.uniform(0.002, 0.05)) * float(law.loss(plan))
    return _setting(plan, law.small_depth, budget, menu, losses) | {
        "law": msgspec.to_builtins(law),
        "tolerance": tolerance,
        "tau_star": law.tau_star(schedule, tolerance),
    }


def _field_setting(plan: Plan, posterior: RecoveryField, factor: float) -> dict[str, Any]:
    """The plan's own fit at a multiple of its budget."""
    small, full = posterior.small_depth, posterior.full_depth
    budget = factor * plan_flops(plan)
    menu = equal_compute_menu(plan, small_depth=small, full_depth=full, budget=budget)
    _, covariance = posterior.moments(points_of(posterior, menu))  # of logarithms
    expected = posterior.expected(points_of(posterior, menu)).tolist()
    base = plan.replace(stages=(Stage(start_step=0, depth=full),))
    return _setting(base, small, budget, menu, expected) | {
        "law": None,
        "deviations": np.sqrt(np.diag(covariance)).tolist(),
    }


def _setting(plan: Plan, small: int, budget: float, menu: Sequence[MenuArm], losses: Sequence[Any]) -> dict[str, Any]:
    return {
        "model": msgspec.to_builtins(plan.model),
        "batch_tokens": plan.batch_tokens,
        "schedule": msgspec.to_builtins(plan.schedule),
        "small": small,
        "full": plan.depth,
        "budget": budget,
        "flops_per_token": [flops_per_token(plan.model, small), flops_per_token(plan.model, plan.depth)],
        "total_area": plan.schedule.total_area,
        "arms": [
            {
                "tau": arm.tau,
                "steps": arm.steps,
                "flops": arm.flops,
                "before": arm.area_before,
                "after": arm.area_after,
                "loss": float(loss),
            }
            for arm, loss in zip(menu, losses, strict=True)
        ],
    }


def posterior_of(field: FieldSummary) -> RecoveryField:
    """The posterior that a plan's field states, from its pilots' ends.

    Args:
        field: Of a plan, with its ends.
    """
    assert field.ends is not None
    longest = max(end.area for end in field.ends)
    kinds: dict[int, Kind] = {field.small_depth: "small", field.full_depth: "full"}
    ends = []
    for i, end in enumerate(field.ends):
        grown = 0 < end.area_before < end.area
        ends.append(
            AnnealedEnd(
                name=str(i),
                kind="grown" if grown else kinds.get(end.depth, "between"),
                depth=end.depth,
                steps=round(1e6 * end.area / longest),  # any number that orders runs as their areas do
                tau=0,
                area=end.area,
                area_before=end.area_before,
                loss=end.loss,
                seed=end.seed,
                data=None,
                trunk=str(end.trunk),
                recipe="",
                peak_lr=1.0,
                warmup_steps=1,
            )
        )
    curve = None
    if field.curve is not None:
        curve = TrunkCurve(area=field.curve.area, loss=field.curve.loss, noise=field.curve.noise)
    known = {name: value for name, value in field.prior.items() if hasattr(FieldPrior(), name)}
    known.setdefault("half_retained", known["p0"])  # older plans have one name for both
    known.setdefault("fall", 0.0)  # older plans took no heed of it
    prior = dataclasses.replace(FieldPrior(), **known)  # type: ignore[arg-type]  # numbers all of them
    return fit_recovery_field(
        ends, full_depth=field.full_depth, reference=field.reference, prior=prior, trunk_curve=curve
    )
