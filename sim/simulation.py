"""``simulate``: a plan on the toy, with its controls, judged against what theory predicts from fixed-depth runs alone.

For every update rule and seed these runs, on common random numbers:

    progressive                        the plan
    fixed, equal_compute, cold_start,  controls (:mod:`latebloom.theory.controls`); costs are those of the plan's model
    small_equal_compute
    pilot                              ``fixed`` without noise
    tau-P                              the plan with its last expansion where P % of the learning-rate mass are left
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np

from latebloom.sim.claims import Claim, Landscape, claim, simulated_tau_star
from latebloom.sim.engine import Arm, SimulatedCurve, run_arms
from latebloom.sim.lowrank import LowRank
from latebloom.sim.mapping import SGD, Toy, rule_name, toy_plan
from latebloom.sim.stability import sharpness
from latebloom.theory.controls import control, fixed_depth
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Optimizer, Plan
from latebloom.theory.record import Record, header
from latebloom.theory.timing import mixing_step

__all__ = ["Simulation", "simulate"]

CONTROLS = ("fixed", "equal_compute", "cold_start", "small_equal_compute")  # claims are about all but the last
POINTS = 400  # measured steps a run
REMAINING = (90, 80, 70, 60, 50, 40, 30, 25, 20, 15, 10, 5, 2)  # percent of the mass left at the taus tried
LOSS_TOLERANCE = 0.05  # of the loss: accuracy of the area law without noise, alpha = 1 (tests/test_sim_area_law.py)
STEP_TOLERANCE = 0.05  # of the horizon, for tau* and mixing steps: as far as 5 % of the loss moves them


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What :func:`simulate` found.

    Args:
        plan: As given.
        toys: The plan as executed, one an update rule.
        records: Every run; its header holds the executed plan, the digest of the plan given stands in its config.
        claims: Theory against simulation.
        notes: How the plan was mapped and what else should be known, in sentences.
        diverged: Runs that were not finite, left out of every mean: (run, seed, step).
        wall_s: Seconds it took.
    """

    plan: Plan
    toys: tuple[Toy, ...]
    records: tuple[Record, ...] = field(repr=False)
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]
    diverged: tuple[tuple[str, int, int], ...]
    wall_s: float


def simulate(
    plan: Plan,
    *,
    seeds: int = 4,
    family: LowRank | None = None,
    steps: int = 2000,
    max_depth: int = 8,
    tolerance: float = 0.05,
    optimizers: tuple[Optimizer, ...] | None = None,
    peak_lr: float | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Simulation:
    """Run ``plan`` on deep linear networks and compare with what theory predicts.

    Args:
        plan: A progressive plan, the same that is trained.
        seeds: Number of seeds, 0 ... seeds - 1.
        family: The toy, :class:`latebloom.sim.lowrank.LowRank` with its defaults if not given.
        steps: Horizon of the toy.
        max_depth: Deepest toy; deeper plans are scaled down to it.
        tolerance: Mixed means a loss within this share of the fixed-depth run's.
        optimizers: Update rules; by default gradient descent, where the theory is meant to hold, and the plan's own.
        peak_lr: Of the toy, for all ``optimizers``; chosen by :mod:`latebloom.sim.mapping` if not given.
        on_progress: Called with (rule, steps done, steps in all).

    Takes seconds on one core. Small products thrash on several threads: ``torch.set_num_threads(1)`` first, as the
    command does; a library leaves that to its caller.

    Raises:
        InputError: if the plan, the learning rate or a size does not fit the toy.
    """
    if seeds < 1:
        raise InputError("seeds", seeds, "must be at least 1", "give a number of seeds")
    if not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "must lie in (0, 1)", "give a share of the loss such as 0.05")
    family = family or LowRank()
    if optimizers is None:
        optimizers = (SGD,) if rule_name(plan.optimizer) == "sgd" else (SGD, plan.optimizer)
    names = [rule_name(o) for o in optimizers]
    if not names or len(set(names)) < len(names):
        raise InputError("optimizers", names, "must be different rules, at least one", "run them one by one")
    start = time.perf_counter()
    toys = [toy_plan(plan, family, steps=steps, max_depth=max_depth, optimizer=o, peak_lr=peak_lr) for o in optimizers]
    records, claims, diverged = [], [], []
    notes = list(dict.fromkeys(note for toy in toys for note in toy.notes))
    for toy in toys:
        report = (lambda done, toy=toy: on_progress(_rule(toy), done, steps)) if on_progress else None
        curves = _run(toy, family, seeds, report)
        claims += _claims(toy, curves, seeds, tolerance)
        notes += _tau_note(toy, claims)
        notes += _lowest_note(toy, curves)
        if _rule(toy) == "sgd":
            notes.append(_sharpness_note(toy, family, curves["pilot", 0][1]))
        diverged += [
            (f"{_rule(toy)}/{run}", seed, curve.diverged_at)
            for (run, seed), (_, curve) in curves.items()
            if curve.diverged_at is not None
        ]
        records += _records(toy, family, curves)
    return Simulation(
        plan=plan,
        toys=tuple(toys),
        records=tuple(records),
        claims=tuple(claims),
        notes=tuple(notes),
        diverged=tuple(diverged),
        wall_s=time.perf_counter() - start,
    )


Curves = dict[tuple[str, int], tuple[Plan, SimulatedCurve]]


def _rule(toy: Toy) -> str:
    return rule_name(toy.plan.optimizer)


def _run(toy: Toy, family: LowRank, seeds: int, on_step: Callable[[int], None] | None) -> Curves:
    """All runs of one update rule, by (run, seed)."""
    plan, tau = toy.plan, toy.plan.tau
    assert tau is not None
    runs: dict[str, tuple[Plan, int]] = {"progressive": (plan, 0)}
    for each in map(control, CONTROLS):
        executed = each.plan(plan)
        if each.at_equal_compute:  # at the costs of the plan's depths, not of the toy's
            schedule = plan.schedule.with_steps(toy.equal_compute_steps(executed.depth))
            executed = fixed_depth(plan, name=each.name, depth=executed.depth, schedule=schedule)
        runs[each.name] = executed, tau if each.starts_at_expansion else 0
    for percent in REMAINING:
        at = round(float(plan.schedule.area_inverse((1 - percent / 100) * plan.schedule.total_area)))
        if plan.stages[-2].start_step < at < plan.steps:
            stages = (*plan.stages[:-1], plan.stages[-1].replace(start_step=at))
            runs[f"tau-{percent}"] = plan.replace(name=f"tau-{percent}", stages=stages), 0
    measure = {round(i * plan.steps / POINTS) for i in range(POINTS + 1)}
    measure |= {begin + t for p, begin in runs.values() for t in (p.steps, *(s.start_step for s in p.stages))}
    curves: Curves = {}
    for noisy, names in ((True, list(runs)), (False, ["fixed"])):
        keys = [(name, seed) for name in names for seed in range(seeds)]
        arms = [
            Arm(name=name, seed=seed, schedule=runs[name][0].schedule, stages=runs[name][0].stages, begin=runs[name][1])
            for name, seed in keys
        ]
        done = run_arms(
            family, arms, optimizer=plan.optimizer, measure=measure, noisy=noisy, on_step=on_step if noisy else None
        )
        for (name, seed), curve in zip(keys, done, strict=True):
            curves[name if noisy else "pilot", seed] = runs[name][0], curve
    return curves


def _claims(toy: Toy, curves: Curves, seeds: int, eps: float) -> list[Claim]:
    plan, schedule, rule = toy.plan, toy.plan.schedule, _rule(toy)
    tau, horizon = plan.tau, plan.steps
    assert tau is not None
    healthy = [
        seed for seed in range(seeds) if all(c.diverged_at is None for (_, s), (_, c) in curves.items() if s == seed)
    ]
    bad = seeds - len(healthy)

    def final(run: str) -> list[float]:
        return [curves[run, seed][1].final for seed in healthy]

    judged = functools.partial(claim, optimizer=rule, diverged=bad)
    if not healthy:
        return [judged("all claims", theory=[], values=[], tolerance=0.0, unit="loss")]
    noise = float(np.mean(final("fixed")) - np.mean(final("pilot")))
    lands = [
        Landscape(
            schedule=schedule,
            step=curves["fixed", s][1].step,
            signal=curves["pilot", s][1].loss,
            loss=curves["fixed", s][1].loss,
            noise=noise,
        )
        for s in healthy
    ]
    left = schedule.total_area - float(schedule.area(tau))
    equal_area = curves["equal_compute", healthy[0]][0].schedule.total_area
    grown = [land.final_loss(left) for land in lands]
    equal = [land.final_loss(equal_area) for land in lands]
    tried = sorted(
        (p.tau, run)
        for (run, s), (p, _) in curves.items()
        if p.tau is not None and run.startswith("tau-") and s == healthy[0]
    )
    stars = [
        simulated_tau_star(
            [t for t, _ in tried], [curves[run, s][1].final / curves["fixed", s][1].final - 1 for _, run in tried], eps
        )
        for s in healthy
    ]
    mixed = [_mixing_step(curves["progressive", s][1], curves["fixed", s][1], tau, eps) for s in healthy]
    near, far = LOSS_TOLERANCE * float(np.mean(grown)), LOSS_TOLERANCE * float(np.mean(equal))
    of_loss = functools.partial(judged, unit="loss")
    of_step = functools.partial(judged, unit="steps", tolerance=STEP_TOLERANCE * horizon)
    gaps = [p / e - 1 for p, e in zip(final("progressive"), final("equal_compute"), strict=True)]
    expected_gaps = [p / e - 1 for p, e in zip(grown, equal, strict=True)]
    kept = [c - p for c, p in zip(final("cold_start"), final("progressive"), strict=True)]
    stars_expected = [land.tau_star(eps) for land in lands]
    mixed_expected = [land.mixing_step(tau, eps) for land in lands]
    return [
        of_loss("final loss, area law", theory=grown, values=final("progressive"), tolerance=near),
        of_step(f"tau* (mixes within {eps:.0%})", theory=stars_expected, values=stars),
        of_step("step at which growing has caught up", theory=mixed_expected, values=mixed),
        of_loss("final loss, equal compute", theory=equal, values=final("equal_compute"), tolerance=far),
        of_loss("final loss, cold start", theory=grown, values=final("cold_start"), tolerance=near),
        of_loss("retention over cold start", theory=[0.0] * len(kept), values=kept, tolerance=near),
        judged(
            "gap to equal compute",
            theory=expected_gaps,
            values=gaps,
            unit="relative",
            tolerance=LOSS_TOLERANCE * (1 + float(np.mean(expected_gaps))),
        ),
    ]


def _mixing_step(grown: SimulatedCurve, fixed: SimulatedCurve, tau: int, eps: float) -> float | None:
    steps, i, j = np.intersect1d(grown.step, fixed.step, return_indices=True)
    return mixing_step(steps, grown.loss[i], fixed.loss[j], tolerance=eps, start=tau)


def _tau_note(toy: Toy, claims: list[Claim]) -> list[str]:
    """Where the toy's tau* stands against the plan's, which is about another landscape."""
    expected = toy.original.predicted.tau_star
    found = [
        c.theory for c in claims if c.optimizer == _rule(toy) and c.name.startswith("tau*") and c.theory is not None
    ]
    if expected is None or not found:
        return []
    here, there = found[0] / toy.plan.steps, expected / toy.original.steps
    return [
        f"{_rule(toy)}: tau* is {here:.2f} T here and {there:.2f} T by the plan's own landscape: "
        "the toy's horizon is another multiple of its mixing area; more steps move it later"
    ]


def _lowest_note(toy: Toy, curves: Curves) -> list[str]:
    """Which way to spend the plan's compute ends lowest here, mean over the seeds in which none diverged."""
    ways = ["progressive", *(each.name for each in map(control, CONTROLS) if each.at_equal_compute)]
    seeds = {seed for _, seed in curves}
    healthy = [seed for seed in seeds if all(curves[way, seed][1].diverged_at is None for way in ways)]
    if not healthy:
        return []
    final = {way: float(np.mean([curves[way, seed][1].final for seed in healthy])) for way in ways}
    lowest = min(final, key=lambda way: final[way])
    labels = {each.name: each.label.removesuffix(", equal compute") for each in map(control, CONTROLS)}
    labels["progressive"] = "the run that grows"
    others = ", ".join(f"{labels[way]} {final[way]:.4g}" for way in ways if way != lowest)
    return [f"{_rule(toy)}: of all that cost the same, {labels[lowest]} ends lowest, at {final[lowest]:.4g} ({others})"]


def _sharpness_note(toy: Toy, family: LowRank, pilot: SimulatedCurve) -> str:
    """eta_c by formula against 2/lambda_max where the noiseless full-depth run ends."""
    if pilot.diverged_at is not None:
        return f"the noiseless full-depth run diverged at step {pilot.diverged_at}: lower the learning rate"
    value = 2.0 / float(sharpness(family, pilot.blocks, family.population(1))[0])
    formula = family.step_limit(toy.plan.depth)
    note = f"eta_c at depth {toy.plan.depth}: {formula:.3g} by formula, {value:.3g} by the Hessian where the pilot ends"
    if toy.plan.schedule.peak >= value:
        note += f"; the peak lr {toy.plan.schedule.peak:.3g} is above it"
    return note


def _records(toy: Toy, family: LowRank, curves: Curves) -> list[Record]:
    """One record a run: population loss on split 'val', costs in the plan's own model."""
    config = {
        "family": family.name,
        **{f.name: getattr(family, f.name) for f in fields(family)},
        "original_plan_digest": toy.original.digest,
        "original_plan_name": toy.original.name,
        "notes": list(toy.notes),
    }
    plans = {run: plan for (run, _), (plan, _) in curves.items()}
    heads = {run: header(plan, seed=0, config=config | {"run": run}) for run, plan in plans.items()}
    records = []
    for (run, seed), (plan, curve) in curves.items():
        count = len(curve.step)
        columns = {
            "step": curve.step,
            "tokens": np.array([round(plan.batch_tokens * int(t) * toy.stretch) for t in curve.step]),
            "flops": np.array([toy.flops(plan, int(t)) for t in curve.step]),
            "wall_s": np.zeros(count),  # runs share one batch: no run has a wall time of its own
            "depth": curve.depth,
            "phase": curve.phase,
            "split": np.array(["val"] * count, dtype=object),
            "metric": np.array(["loss"] * count, dtype=object),
            "value": np.where(np.isfinite(curve.loss), curve.loss, np.nan),
        }
        head = heads[run].replace(seed=seed, name=f"{_rule(toy)}/{run}/seed-{seed}")
        records.append(Record(header=head, columns=columns))
    return records
