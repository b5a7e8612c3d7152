r"""How a Plan for a transformer becomes a run of the toy: depths, horizon, tau, learning rate, costs.

depths      kept while the full depth is at most ``max_depth``; else l -> round(l max_depth/L), at least 1 for
            l >= 1. Stages that would fall together are refused, and so are nets with rank x depth above the width.
horizon     T steps of the plan -> ``steps``; the schedule keeps its shape, warm-up and decay their shares
tau         the step that leaves the same share of the learning-rate mass (with equal shapes: of the steps too)
peak lr     that of the toy, since learning rates do not carry over: ``share`` of eta_c for gradient descent; for
            normalised rules (Muon, NSGD, Adam), whose steps have fixed length, such that the whole area is
            ``REACH`` times the way to the teacher, (L s)^(-1/2) in each factor
cost        one toy step stands for T/steps steps of the plan's own model: tokens, FLOPs and the equal-compute
            horizon are the transformer's, not the toy's
"""

from __future__ import annotations

from dataclasses import dataclass

from latebloom.sim.lowrank import LowRank
from latebloom.sim.optimizers import toy_rule
from latebloom.theory.controls import fixed_depth
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Optimizer, Plan, Prediction, Provenance, Stage
from latebloom.theory.schedules import AnySchedule, Tail

__all__ = ["SGD", "Toy", "rule_name", "toy_plan"]

SGD = Optimizer(name="sgd", momentum=0.0, nesterov=False, weight_decay=0.0, transfer="none")
STABLE_SHARE = 0.3  # chosen: of eta_c; small enough that a step is close to gradient flow
REACH = 10.0  # chosen: learning-rate area of normalised rules in units of the way to the teacher


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A plan as the toy executes it.

    Args:
        plan: Toy horizon, depths, learning rate and optimizer; the plan's own model and batch, for costs.
        original: The plan as given.
        depths: Original depth of each toy depth.
        eta_c: Largest stable learning rate among the stages (closed form); None for rules other than gradient descent.
        notes: What was mapped, in sentences.
    """

    plan: Plan
    original: Plan
    depths: dict[int, int]
    eta_c: float | None
    notes: tuple[str, ...]

    @property
    def stretch(self) -> float:
        """Steps of the original plan that one toy step stands for."""
        return self.original.steps / self.plan.steps

    def equal_compute_steps(self, depth: int) -> int:
        """Toy steps of a fixed depth that cost what the plan costs, by the cost of the plan's own model.

        Args:
            depth: Of the toy, one of its stages'.
        """
        full = plan_flops(fixed_depth(self.original, name="fixed", depth=self.depths[depth]))
        return max(1, round(self.plan.steps * plan_flops(self.original) / full))

    def flops(self, executed: Plan, step: int) -> float:
        """FLOPs of the original model over the share of training that ``step`` toy steps of ``executed`` are."""
        ends = [stage.start_step for stage in executed.stages[1:]] + [executed.steps]
        per_token = sum(
            flops_per_token(executed.model, self.depths[stage.depth]) * max(0, min(step, end) - stage.start_step)
            for stage, end in zip(executed.stages, ends, strict=True)
        )
        return float(executed.batch_tokens * per_token * self.stretch)


def toy_plan(
    plan: Plan, family: LowRank, *, steps: int, max_depth: int, optimizer: Optimizer, peak_lr: float | None = None
) -> Toy:
    """Map ``plan`` on ``family`` by the rules above.

    Args:
        plan: A progressive plan, with any depths and horizon.
        family: The toy.
        steps: Its horizon.
        max_depth: Its largest depth.
        optimizer: What it is trained with.
        peak_lr: Instead of the rule above.

    Raises:
        InputError: for a fixed-depth plan, an optimizer without counterpart in the toy, for depths, steps or ranks that
            do not fit, for a learning rate above eta_c.
    """
    if len(plan.stages) < 2:
        rule = "is a fixed-depth plan: there is nothing to grow"
        raise InputError("stages", len(plan.stages), rule, "give a plan with an expansion")
    plan.refuse_special_stages("the simulator")
    if isinstance(plan.schedule, Tail):
        raise InputError("schedule", "tail", "has no shape to stretch", "give a plan with its whole schedule")
    is_descent = toy_rule(optimizer).is_descent
    depths = _toy_depths(plan, family, max_depth)
    if steps < 10:
        raise InputError("steps", steps, "are too few to see anything", "give at least 10 toy steps")
    shape = plan.schedule.with_steps(steps)
    descent = min(family.step_limit(depth) for depth in depths if depth) if is_descent else None
    eta_c = descent * _momentum_limit(optimizer) if descent is not None else None
    chosen = _peak_lr(family, max(depths), shape.total_area / shape.peak, optimizer, descent)
    lr = chosen if peak_lr is None else peak_lr
    if not 0 < lr < float("inf"):
        raise InputError("lr", lr, "must be finite and positive", f"give a learning rate such as {chosen:.2g}")
    if eta_c is not None and lr >= eta_c:
        rule = f"is at or above the edge of stability eta_c = {eta_c:.4g} of the toy's depths {sorted(depths)}"
        raise InputError("lr", lr, rule, f"give less than {eta_c:.3g}")
    schedule = shape.replace(peak_lr=float(lr))
    stages = _toy_stages(plan, schedule, {old: new for new, old in depths.items()})
    own = optimizer.replace(base=None)  # the toy's learning rate was not tuned at another size
    toy = plan.replace(schedule=schedule, stages=stages, optimizer=own, predicted=Prediction(), provenance=Provenance())
    taus = ", ".join(f"{stage.start_step}" for stage in stages[1:])
    notes = (
        f"horizon {plan.steps} -> {steps} steps, {plan.schedule.__struct_config__.tag} schedule of the same shape; "
        f"tau -> {taus}, the same share of the learning-rate mass",
        "depths "
        + ", ".join(f"{old} -> {new}" for new, old in depths.items())
        + f" in {family.name}: {family.rank} of {family.width} modes a block",
        f"peak lr {plan.schedule.peak:.3g} -> {lr:.3g}, "
        + ("given" if peak_lr is not None else "the toy's own")
        + (f"; {lr / eta_c:.0%} of eta_c = {eta_c:.3g}" if eta_c is not None else ""),
        f"costs are those of {plan.model.name} at the plan's depths",
    )
    return Toy(plan=toy, original=plan, depths=depths, eta_c=eta_c, notes=notes)


def _toy_depths(plan: Plan, family: LowRank, max_depth: int) -> dict[int, int]:
    if max_depth < 1:
        raise InputError("max-depth", max_depth, "must be at least 1", "give a positive depth")
    full = plan.depth
    kept = full <= max_depth
    depths: dict[int, int] = {}
    for i, stage in enumerate(plan.stages):
        depth = stage.depth if kept or stage.depth == 0 else max(1, round(stage.depth * max_depth / full))
        if depth in depths:
            rule = f"and {depths[depth]} both become {depth} of at most {max_depth} toy blocks"
            raise InputError(f"stages[{i}].depth", stage.depth, rule, "raise --max-depth and --width, or drop it")
        depths[depth] = stage.depth
    deepest = max(depths)
    if deepest > family.max_depth():
        rule = f"blocks of rank {family.rank} exceed the {family.width} modes of a width-{family.width} toy"
        raise InputError(
            "depth", deepest, rule, f"use --width {deepest * family.rank} or --max-depth {family.max_depth()}"
        )
    return depths


def _toy_stages(plan: Plan, schedule: AnySchedule, depth_of: dict[int, int]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for i, stage in enumerate(plan.stages):
        done = 1.0 - float(plan.schedule.remaining(stage.start_step))
        start = round(float(schedule.area_inverse(min(done, 1.0) * schedule.total_area))) if i else 0
        if i and not stages[-1].start_step < start < schedule.horizon:
            rule = f"falls on step {start} of {schedule.horizon} toy steps, together with another stage or the end"
            raise InputError(f"stages[{i}].start_step", stage.start_step, rule, "give more --steps")
        stages.append(stage.replace(start_step=start, depth=depth_of[stage.depth]))
    return tuple(stages)


def rule_name(optimizer: Optimizer) -> str:
    """Name of an update rule in tables and records: ``sgd`` is plain gradient descent, ``sgd_own`` a plan's variant.

    Args:
        optimizer: Of a plan.
    """
    plain = optimizer.momentum == 0 and optimizer.weight_decay == 0
    return "sgd_own" if optimizer.name == "sgd" and not plain else optimizer.name


def _momentum_limit(optimizer: Optimizer) -> float:
    """eta_c with averaged momentum over eta_c without: (1 + mu)/(1 - mu), with Nesterov that over 1 + 2 mu.

    Roots of the characteristic polynomial of the two-term recursion on a quadratic leave the unit circle at -1.
    """
    mu = optimizer.momentum
    return (1 + mu) / (1 - mu) / (1 + 2 * mu if optimizer.nesterov else 1)


def _peak_lr(family: LowRank, depth: int, unit_area: float, optimizer: Optimizer, descent: float | None) -> float:
    if descent is not None:
        return STABLE_SHARE * descent  # without momentum's larger limit: close to gradient flow in any case
    way = (depth * family.multiplier(depth)) ** -0.5
    entries = family.width**0.5 if toy_rule(optimizer).moves_entries else 1.0
    return REACH * way / entries / unit_area
