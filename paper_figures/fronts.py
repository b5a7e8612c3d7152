"""Ends of finished runs: what each spent and reached, what the best fixed depth reaches for as much.

A *fixed front* is the loss of the best fixed depth over compute, of one seed and one kind of model: for each depth the
final losses of runs of different horizons, interpolated in the logarithm of FLOPs, of which the lowest counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latebloom.theory.cost import depth_cost_ratio, parameters, plan_flops
from latebloom.theory.expansion import INITS, StatePolicy
from latebloom.theory.limits import loss_equal_efficiency, transfer_efficiency
from latebloom.theory.plan import Stage
from latebloom.theory.schedules import Piecewise

if TYPE_CHECKING:
    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

__all__ = [
    "DEMO",
    "STUDIES",
    "End",
    "Front",
    "GrownArm",
    "depths_passed",
    "finished_ends",
    "fronts_of",
    "grown_arms",
    "told_model",
    "way_of_growing",
]

DEMO = tuple(f"demo_scale/s?_{name}-*" for name in ("full", "small", "two", "grown", "grown200", "grown400"))
STUDIES = ("studies/*/*",)  # whatever stands there; `latebloom study` makes them
COMPUTE = re.compile(r"-C(\d+)-s\d+$")  # how a study names the compute of an arm
STATES: dict[StatePolicy, str] = {
    "keep_copied": "state copied", "keep_warmed": "state warmed", "reset": "state reset"
}  # fmt: skip
OF_PYTHON = ("python", "demo_growing")  # how their names begin
EQUAL = 0.03  # relative: FLOPs that differ by less are the same amount of compute


class End(NamedTuple):
    """The end of one finished run.

    Attributes:
        group: Runs of one group are compared: a study, a corpus.
        name: Of its record.
        plan: What it did.
        seed: Of weights and batches.
        flops: What it spent.
        loss: Final validation loss, nats a token.
    """

    group: str
    name: str
    plan: Plan
    seed: int
    flops: float
    loss: float

    @property
    def grown(self) -> bool:
        """Whether it grew."""
        return self.plan.tau is not None

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens that the full depth would see for these FLOPs, over its parameters."""
        plan = self.plan
        full = plan_flops(plan.replace(stages=(Stage(start_step=0, depth=plan.depth),))) / plan.steps
        return self.flops / full * plan.batch_tokens / parameters(plan.model, plan.depth)


def finished_ends(records: Mapping[str, Record], *, peak_lr: float | None = None) -> list[End]:
    """The ends of those ``records`` that reached their horizon; the folder of each is its group.

    Args:
        records: By name, as ``GROUP/NAME``.
        peak_lr: Leave out runs of another peak learning rate.
    """
    ends = []
    for name, record in records.items():
        step, loss = record.curve()
        plan = record.plan
        if len(step) == 0 or step[-1] != plan.steps or not math.isfinite(loss[-1]):
            continue
        if peak_lr is None or plan.schedule.peak == peak_lr:
            group = name.rpartition("/")[0].rpartition("/")[2]
            ends.append(End(group, name, plan, record.header.seed, float(plan_flops(plan)), float(loss[-1])))
    return ends


class Front:
    """Fixed depths of one group and seed.

    Args:
        ends: Of runs of one depth each, two or more of some depth.
    """

    def __init__(self, ends: Iterable[End]):
        by_depth: dict[int, dict[float, float]] = {}
        for end in ends:
            by_depth.setdefault(end.plan.depth, {})[end.flops] = end.loss
        self.curves = {
            depth: (np.array(sorted(runs)), np.array([runs[c] for c in sorted(runs)]))
            for depth, runs in sorted(by_depth.items())
        }

    def loss_at(self, flops: float, depth: int | None = None) -> float:
        """Lowest loss for ``flops``; nan where no run is near, or between two.

        Args:
            flops: What is spent.
            depth: Of this depth alone; None for the best.
        """
        losses = []
        for curve_depth, (cost, loss) in self.curves.items():
            inside = cost[0] * (1 - EQUAL) <= flops <= cost[-1] * (1 + EQUAL)
            if inside and depth in (None, curve_depth):
                losses.append(float(np.interp(math.log(flops), np.log(cost), loss)))
        return min(losses, default=math.nan)

    def judges(self, run: End) -> bool:
        """Whether both the first and the last depth of a grown ``run`` were measured at its compute.

        Args:
            run: That grew.
        """
        depths = (run.plan.stages[0].depth, run.plan.depth)
        return not any(math.isnan(self.loss_at(run.flops, depth)) for depth in depths)

    def cost_of(self, loss: float) -> float:
        """Least FLOPs with which a fixed depth reaches ``loss``; nan where none was measured there, or where some depth
        is below it in all its runs, the cheapest of which costs less.

        Args:
            loss: To be reached.
        """
        costs, beyond = [math.inf], [math.inf]
        for cost, losses in self.curves.values():
            falling = np.minimum.accumulate(losses)
            if falling[0] < loss:
                beyond.append(float(cost[0]))
            elif len(cost) > 1 and falling[-1] <= loss:
                costs.append(math.exp(float(np.interp(-loss, -falling, np.log(cost)))))
        return min(costs) if min(costs) < min(beyond) else math.nan


def fronts_of(ends: Sequence[End]) -> dict[tuple[str, int], Front]:
    """The fixed front of every group and seed.

    Args:
        ends: Of any runs; those that grew are left out.
    """
    keys = dict.fromkeys((end.group, end.seed) for end in ends)
    return {key: Front(e for e in ends if (e.group, e.seed) == key and not e.grown) for key in keys}


def told_model(plan: Plan) -> str:
    """The model and data of a study in words: 'width 32, bytes', 'width 24, BPE 1024', 'width 16, bytes of Python'.

    Args:
        plan: Of any of its runs; :data:`OF_PYTHON` names the studies of the text of Python's library.
    """
    text = "bytes" if plan.model.vocab_size == 256 else f"BPE {plan.model.vocab_size}"
    text += " of Python" if plan.model.name.startswith(OF_PYTHON) else ""
    return f"width {plan.model.width}, {text}" + ("" if plan.model.tied_head else ", head untied")


def depths_passed(plan: Plan) -> str:
    """The depths of a plan's stages: '1 → 12', '2 → 6 tied → 6' where blocks are passed again.

    Args:
        plan: The plan.
    """
    return " → ".join(f"{stage.passes} tied" if stage.replayed_to else str(stage.depth) for stage in plan.stages)


def way_of_growing(plan: Plan) -> str:
    """How a plan grows, without its horizon: '1 → 12 at 50 %, random', '2 → 6 tied → 6 at 40 %, 65 %, copied'.

    Args:
        plan: That grows.
    """
    shares = ", ".join(f"{round(20 * stage.start_step / plan.steps) * 5} %" for stage in plan.stages[1:])
    last = plan.stages[-1]
    said = [f"{depths_passed(plan)} at {shares}", INITS[last.init].label]
    if plan.stages[-2].depth > 1 and last.order != "stack":
        said.append(last.order)
    if last.optimizer_state != "keep":
        said.append(STATES[last.optimizer_state])
    if last.new_rate is not None:
        said.append(f"new blocks at {last.new_rate:g} x the rate")
    if isinstance(plan.schedule, Piecewise):
        said.append("rate re-warmed")
    return ", ".join(said)


class GrownArm(NamedTuple):
    """One grown arm of a study at one amount of compute, over its seeds.

    Attributes:
        group: The study.
        way: How it grows, see :func:`way_of_growing`.
        compute: Amount of compute, as its study calls it; FLOPs where nothing does.
        plan: Of one of its runs.
        tokens_per_parameter: At its compute, of the full depth.
        above_best: Loss above the best fixed depth of equal compute, nats, one a seed.
        share: The same as a share of the loss.
        rho: Transfer efficiency, one a seed; nan outside the full depth's measured range.
        loss_equal: rho of loss-equal growth, one a seed.
        price: n, of a step of the small depth.
    """

    group: str
    way: str
    compute: str
    plan: Plan
    tokens_per_parameter: float
    above_best: np.ndarray
    share: np.ndarray
    rho: np.ndarray
    loss_equal: np.ndarray
    price: float


def grown_arms(ends: Sequence[End]) -> list[GrownArm]:
    """Every grown arm of every study beside the fixed depths of its seed and compute, its own two among them.

    Args:
        ends: Of studies' runs, grown and fixed.
    """
    fronts = fronts_of(ends)
    arms: dict[tuple[str, str, str], list[End]] = {}
    for end in ends:
        if end.grown and fronts[end.group, end.seed].judges(end):
            named = COMPUTE.search(end.name)
            key = (end.group, way_of_growing(end.plan), named[1] if named else f"{end.flops:.2g}")
            arms.setdefault(key, []).append(end)
    made = []
    for (group, way, compute), runs in arms.items():
        found = [(run, fronts[group, run.seed]) for run in runs]
        best = np.array([front.loss_at(run.flops) for run, front in found])
        losses = np.array([run.loss for run in runs])
        plan = runs[0].plan
        made.append(
            GrownArm(
                group=group, way=way, compute=compute, plan=plan, tokens_per_parameter=runs[0].tokens_per_parameter,
                above_best=losses - best, share=losses / best - 1,
                rho=np.array([_rho(run, front) for run, front in found]),
                loss_equal=np.array([_loss_equal(run, front) for run, front in found]),
                price=depth_cost_ratio(plan.model, plan.stages[0].depth, plan.depth),
            )
        )  # fmt: skip
    return sorted(made, key=lambda arm: (arm.group, arm.tokens_per_parameter, arm.way))


def _steps(front: Front, run: End, depth: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(horizons, final losses) of one fixed depth; None with fewer than two."""
    if depth not in front.curves or len(front.curves[depth][0]) < 2:
        return None
    cost, losses = front.curves[depth]
    fixed = run.plan.replace(stages=(run.plan.stages[0].replace(depth=depth),))
    return cost / (plan_flops(fixed) / run.plan.steps), losses


def _rho(run: End, front: Front) -> float:
    full = _steps(front, run, run.plan.depth)
    if full is None or len(run.plan.stages) != 2:
        return math.nan
    tau = float(run.plan.stages[1].start_step)
    return transfer_efficiency(
        run.loss, steps=run.plan.steps, tau=tau, fixed_steps=full[0], fixed_losses=full[1]
    )  # fmt: skip


def _loss_equal(run: End, front: Front) -> float:
    full, small = _steps(front, run, run.plan.depth), _steps(front, run, run.plan.stages[0].depth)
    if full is None or small is None or len(run.plan.stages) != 2:
        return math.nan
    return loss_equal_efficiency(
        float(run.plan.stages[1].start_step), small_steps=small[0], small_losses=small[1], full_steps=full[0],
        full_losses=full[1],
    )  # fmt: skip
