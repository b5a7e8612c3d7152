"""The Plan: what theory predicts and the simulator and the trainer execute, as frozen plain data.

A Plan is JSON with a schema version, a published JSON Schema (``latebloom plan schema``), a canonical form and a
SHA-256 digest that stands in every checkpoint, record and figure made from it. Controls
(:mod:`latebloom.theory.controls`) and pilots are Plans too, with one stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from latebloom.theory import checks, spec
from latebloom.theory.architectures.shape import BlockVariant, GPT2Shape
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, STATE_POLICIES, Init, Order, StatePolicy, sources
from latebloom.theory.files import write_whole
from latebloom.theory.optimizers import Base, Optimizer
from latebloom.theory.prediction import SECOND_VERSION, Curve, Interval, Prediction
from latebloom.theory.schedules import AnySchedule
from latebloom.theory.spec import Count, Positive, Spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "SCHEMA_VERSION",
    "Base",
    "BlockVariant",
    "Curve",
    "GPT2Shape",
    "Interval",
    "Optimizer",
    "Plan",
    "Prediction",
    "Provenance",
    "Stage",
    "diff",
    "read_plan",
    "write_plan",
]

SCHEMA_VERSION: Final = 2  # the newest; a plan that needs nothing of version 2 stays one of version 1, digest included

Depth = Annotated[int, Meta(ge=0, le=10_000)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Stage(Spec, frozen=True, kw_only=True):
    """From ``start_step`` on the model has ``depth`` blocks.

    :mod:`latebloom.theory.expansion` says what each choice does.

    Attributes:
        start_step: First update of this stage.
        depth: Number of blocks.
        replayed_to: Blocks that a token passes, if more than ``depth``: with shared weights the stage's blocks are
            passed again in ``order``, as a later stage of that many blocks, copied, begins. None: each once.
        new_rate: Factor of the learning rate of the blocks that this stage adds, while it lasts. None: 1.
        init: How the blocks that this stage adds begin: fresh or copied, and what of them is zero.
        order: Where blocks come from and stand: ``stack`` (abab), ``inter`` (aabb), ``last`` (abbb), ``first`` (aaab),
            ``middle`` (abbc).
        optimizer_state: What the optimizer remembers of old blocks, embedding and head, and knows of new ones.
    """

    start_step: Count
    depth: Depth
    init: Init = "random"
    order: Order = "stack"
    optimizer_state: StatePolicy = "keep"
    replayed_to: Depth | None = None
    new_rate: Positive | None = None

    def check(self) -> None:
        if self.replayed_to is not None and not 0 < self.depth < self.replayed_to:
            rule = f"must be larger than the stage's depth {self.depth}, and that at least 1"
            raise InputError("replayed_to", self.replayed_to, rule, "replay a block or more, or drop it")

    @property
    def passes(self) -> int:
        """Blocks that a token passes, replayed ones counted each time."""
        return self.replayed_to or self.depth

    @property
    def replayed(self) -> tuple[int, ...] | None:
        """Numbers of the blocks that a token passes, in order; None: each once."""
        return None if self.replayed_to is None else tuple(sources(self.order, self.depth, self.replayed_to))


class Provenance(Spec, frozen=True, kw_only=True):
    """Where the plan came from.

    Attributes:
        landscape: Name of the law.
        parameters: Its fitted parameters by name.
        pilots: SHA-256 of the records that it was fitted to.
        data: SHA-256 of the shards that those runs read.
        reason: Why the plan is what it is, in words.
    """

    landscape: str | None = None
    parameters: dict[str, Number] = {}
    pilots: tuple[Sha256, ...] = ()
    data: tuple[Sha256, ...] = ()
    reason: str | None = None


class Plan(Spec, frozen=True, kw_only=True):
    """A training run, complete but for the data and the machine.

    Args:
        schema_version: Version of this format: 2 for predictions with a menu, 1 otherwise.
        name: For people.
        model: Shape of the network without its depth.
        batch_tokens: Tokens per optimizer step.
        schedule: Learning rate of every step; its ``steps`` are the horizon.
        stages: Depth from which step on, the first from step 0; one stage is a fixed-depth run.
        optimizer: Update rule.
        predicted: What theory expects.
        provenance: Where it came from.

    Raises:
        InputError: if stages do not start at 0, increase in step and in depth and end before the horizon, if blocks are
            copied from a model that has none, or if the batch is not a whole number of sequences.
    """

    schema_version: Literal[1, 2] = 1
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    model: GPT2Shape
    batch_tokens: Annotated[int, Meta(ge=1, le=10**10)]
    schedule: AnySchedule
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=100)]
    optimizer: Optimizer = Optimizer()
    predicted: Prediction = Prediction()
    provenance: Provenance = Provenance()

    def check(self) -> None:
        if self.schema_version == 1:
            for name in SECOND_VERSION:
                if getattr(self.predicted, name) is not None:
                    rule = f"has no field predicted.{name}"
                    raise InputError("schema_version", 1, rule, f"say schema_version {SCHEMA_VERSION}")
        if self.optimizer.base is not None and not self.model.tied_head:
            rule = "has no rule for a head that is not tied: its logits would need a factor from width to width"
            raise InputError(
                "optimizer.base", f"width {self.optimizer.base.width}", rule, "tie the head, or drop the base"
            )
        context = self.model.context
        if self.batch_tokens % context:
            near = max(1, round(self.batch_tokens / context)) * context
            rule = f"is not a multiple of the context {context}"
            raise InputError("batch_tokens", self.batch_tokens, rule, f"use {near}")
        for i, stage in enumerate(self.stages):
            if stage.replayed_to is not None and stage.replayed_to > self.depth:
                rule = f"must not exceed the last stage's {self.depth} blocks of their own"
                raise InputError(f"stages[{i}].replayed_to", stage.replayed_to, rule, "grow further, or replay less")
        if self.stages[0].new_rate is not None:
            rule = "has no blocks that are newer than others"
            raise InputError("stages[0].new_rate", self.stages[0].new_rate, rule, "drop it, or lower the schedule")
        first = self.stages[0]
        if first.start_step != 0:
            raise InputError("stages[0].start_step", first.start_step, "must be 0", "start the first stage at 0")
        if first.init != "random":
            raise InputError("stages[0].init", first.init, "must be 'random'", "only later stages have blocks to copy")
        for i in range(1, len(self.stages)):
            before, stage, here = self.stages[i - 1], self.stages[i], f"stages[{i}]"
            if stage.start_step <= before.start_step:
                rule = f"must come after the stage before it, at {before.start_step}"
                raise InputError(f"{here}.start_step", stage.start_step, rule, "order the stages by step")
            if stage.start_step >= self.steps:
                rule = f"must lie before the horizon of {self.steps} steps"
                raise InputError(f"{here}.start_step", stage.start_step, rule, f"give at most {self.steps - 1}")
            begins_replay = stage.replayed_to is not None and before.replayed_to is None
            if stage.depth < before.depth or (stage.depth == before.depth and not begins_replay):
                rule = f"must be larger than the depth before it, {before.depth}"
                raise InputError(f"{here}.depth", stage.depth, rule, "grow, or drop the stage")
            if before.depth == 0 and INITS[stage.init].copies:
                rule = "cannot copy from a model without blocks"
                raise InputError(f"{here}.init", stage.init, rule, "use 'random' or 'zero_last', or start from 1 block")
            if before.depth == 0 and STATE_POLICIES[stage.optimizer_state].new == "copied":
                rule = "cannot copy the state of a model without blocks"
                raise InputError(f"{here}.optimizer_state", stage.optimizer_state, rule, "use 'keep' or 'keep_warmed'")

    @property
    def steps(self) -> int:
        """Horizon T in optimizer steps."""
        return self.schedule.horizon

    @property
    def depth(self) -> int:
        """Full depth, that of the last stage."""
        return self.stages[-1].depth

    def refuse_special_stages(self, who: str) -> None:
        """Refuse a plan of which some stage passes blocks again, or gives new ones a rate of their own.

        Args:
            who: Does not know of it, such as ``the simulator``.

        Raises:
            InputError: naming the stage.
        """
        for i, stage in enumerate(self.stages):
            if stage.replayed_to is not None:
                rule = f"passes blocks again, which {who} does not know"
                raise InputError(f"stages[{i}].replayed_to", stage.replayed_to, rule, "drop it")
            if stage.new_rate is not None:
                rule = f"gives new blocks a rate of their own, which {who} does not know"
                raise InputError(f"stages[{i}].new_rate", stage.new_rate, rule, "drop it")

    @property
    def tau(self) -> int | None:
        """Step of the (last) expansion, None for a fixed-depth run."""
        return self.stages[-1].start_step if len(self.stages) > 1 else None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return spec.digest(self)

    def stage_at(self, step: int) -> int:
        """Index of the stage that executes update ``step``.

        Raises:
            InputError: if ``step`` is negative or no number.
        """
        checks.non_negative("step", step, fix="count updates from 0")
        return max(i for i, stage in enumerate(self.stages) if stage.start_step <= step)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the learning rate, and where the model grows (:func:`latebloom.theory.display.plot_plan`).

        Args:
            axes: Where to draw; a new figure by default.
        """
        from latebloom.theory import display

        return display.plot_plan(self, axes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from latebloom.theory import display

        return display.plan_html(self)


def read_plan(path: str | Path) -> Plan:
    """Read and validate a plan file.

    Args:
        path: The file.

    Raises:
        InputError: naming the file and the JSON path, the value, the rule and the fix.
    """
    return spec.read_spec(path, Plan)


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write ``plan`` as JSON, whole or not at all.

    Args:
        plan: What to write.
        path: File to write; what it held is replaced.

    Raises:
        InputError: if the path names no file.
    """
    path = Path(path)
    if not path.name:
        raise InputError("path", str(path), "is not a file", "name one, such as plan.json")
    write_whole(path, plan.to_json())


def diff(a: Plan, b: Plan) -> list[tuple[str, object, object]]:
    """Fields in which two plans differ, as (JSON path, value in ``a``, value in ``b``).

    Args:
        a: One plan.
        b: The other.
    """
    flat_a, flat_b = spec.flatten(a), spec.flatten(b)
    paths = list(flat_a) + [path for path in flat_b if path not in flat_a]
    return [(p, flat_a.get(p), flat_b.get(p)) for p in paths if flat_a.get(p) != flat_b.get(p)]
