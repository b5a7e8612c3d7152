"""The Plan: what theory predicts and the simulator and the trainer execute, as frozen plain data.

A Plan is JSON with a schema version, a published JSON Schema (``latebloom plan schema``), a canonical form and a
SHA-256 digest that stands in every checkpoint, record and figure made from it. Fixed-depth baselines, the cold-start
control and pilots are Plans too, with one stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from latebloom.theory import checks, spec
from latebloom.theory.errors import InputError
from latebloom.theory.schedules import AnySchedule, Tail
from latebloom.theory.spec import Count, Fraction, NonNegative, Positive, Spec

__all__ = [
    "SCHEMA_VERSION",
    "Base",
    "BlockVariant",
    "Curve",
    "GPT2Shape",
    "Init",
    "Interval",
    "Optimizer",
    "Order",
    "Plan",
    "Prediction",
    "Provenance",
    "Stage",
    "StatePolicy",
    "cold_start",
    "diff",
    "fixed_depth",
    "read_plan",
    "write_plan",
]

SCHEMA_VERSION: Final = 1

Size = Annotated[int, Meta(ge=1, le=10**7)]
Depth = Annotated[int, Meta(ge=0, le=10_000)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

Init = Literal["random", "copy", "zero", "zero_last", "copy_zero_last", "copy_zero_norm", "identity"]
Order = Literal["stack", "inter", "last", "first"]
StatePolicy = Literal["keep", "keep_copied", "keep_warmed", "reset"]


class BlockVariant(Spec, frozen=True, kw_only=True):
    """A block that is not GPT-2's: RMSNorm before each branch, rotary positions, SwiGLU, no biases (LLAMA3, Qwen3).

    Attributes:
        kv_heads: Heads of key and value; each serves heads/kv_heads query heads (grouped-query attention).
        hidden: Width inside the SwiGLU.
        rope_theta: Base of the rotary frequencies.
        norm_eps: Epsilon of every RMSNorm.
        qk_norm: RMSNorm on each query and key head (Qwen3).
    """

    kv_heads: Size
    hidden: Size
    rope_theta: Positive = 10_000.0
    norm_eps: Positive = 1e-6
    qk_norm: bool = False


class GPT2Shape(Spec, frozen=True, kw_only=True, omit_defaults=True):
    """A GPT-2 without its depth, which belongs to the stages; with ``block`` the same skeleton around other blocks.

    Without ``block`` the field is absent from JSON, so that plans from before it keep their digests.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    width: Size
    heads: Size
    vocab_size: Size
    context: Size
    block: BlockVariant | None = None

    def check(self) -> None:
        if self.block and self.heads % self.block.kv_heads:
            rule = f"does not divide the {self.heads} heads"
            raise InputError("block.kv_heads", self.block.kv_heads, rule, "choose a divisor of the heads")
        if self.block and self.width % self.heads == 0 and (self.width // self.heads) % 2:
            rule = f"gives heads of odd size {self.width // self.heads}, which cannot be rotated"
            raise InputError("heads", self.heads, rule, "choose heads of even size")
        if self.width % self.heads:
            rule = f"does not divide the width {self.width}"
            raise InputError("heads", self.heads, rule, "choose a divisor of the width")


class Stage(Spec, frozen=True, kw_only=True):
    """From ``start_step`` on the model has ``depth`` blocks.

    ``init`` says how blocks that this stage adds begin:
        random          as in a fresh model
        copy            as copies of the trained blocks
        zero            all zero
        zero_last       random, the last linear map of each residual branch zero (keeps the function)
        copy_zero_last  copies, the last linear map of each residual branch zero (keeps the function)
        copy_zero_norm  copies, every norm and bias zero (keeps the function)
        identity        tiled identity matrices, the last linear map of each branch zero (keeps the function)
    ``order`` says where blocks come from and stand: ``stack`` (abab), ``inter`` (aabb), ``last`` (abbb), ``first``
    (aaab); new blocks are on top under stack and last, between the old under inter, at the bottom under first.
    ``optimizer_state`` of the old blocks, embedding and head is kept or reset. New blocks start without one; with the
    state of the block that they continue (``keep_copied``); or with one that gradients alone have warmed, at the
    weights of the expansion (``keep_warmed``).
    """

    start_step: Count
    depth: Depth
    init: Init = "random"
    order: Order = "stack"
    optimizer_state: StatePolicy = "keep"


class Base(Spec, frozen=True, kw_only=True):
    """The size at which a schedule's learning rate was tuned; see :mod:`latebloom.theory.plan_transfer` for what
    follows from it.

    Attributes:
        width: Of that model.
        depth: Its blocks. None: the rate is the same at every depth, as in arXiv 2511.04981.
    """

    width: Size
    depth: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class Optimizer(Spec, frozen=True, kw_only=True):
    """The update rule. ``transfer`` names the learning-rate rule of ``latebloom.theory.transfer`` between widths and
    depths.

    ``base`` is the size at which the schedule's learning rate was tuned: the trainer then gives each kind of parameter
    its factor of :mod:`latebloom.theory.plan_transfer`. Without it the rate is taken as tuned for this very model, the
    same for all.

    ``muon_nsgd``: Muon on matrices, normalised SGD on vectors, one learning rate. ``muon_adamw``: Muon on the blocks'
    matrices, AdamW on the rest. ``muon``: the simulator's all-matrix networks. ``momentum`` is Muon's and SGD's, and
    Adam's first beta; ``beta2`` and ``eps`` are Adam's.
    """

    name: Literal["muon_nsgd", "muon_adamw", "muon", "adamw", "sgd", "nsgd"] = "muon_nsgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    nesterov: bool = True
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    transfer: Literal["spectral", "none"] = "spectral"
    base: Base | None = None

    def check(self) -> None:
        if self.base is not None and self.transfer == "none":
            rule = "has no rule to go by: transfer is 'none'"
            raise InputError("base", f"width {self.base.width}", rule, "set transfer to 'spectral', or drop the base")


class Interval(Spec, frozen=True, kw_only=True):
    """A bootstrap interval that holds with probability ``level``."""

    low: Number
    high: Number
    level: Fraction = 0.9

    def check(self) -> None:
        if self.low > self.high:
            raise InputError("low", self.low, f"is above high = {self.high}", "swap them")


class Curve(Spec, frozen=True, kw_only=True):
    """Predicted validation loss (nats per token) after ``step`` updates."""

    step: tuple[Count, ...]
    loss: tuple[Number, ...]

    def check(self) -> None:
        if len(self.step) != len(self.loss):
            raise InputError(
                "loss", len(self.loss), f"needs one value for each of {len(self.step)} steps", "match them"
            )
        if any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise InputError("step", self.step[:5], "must increase", "sort the points")


class Prediction(Spec, frozen=True, kw_only=True):
    """What the plan promises; ``None`` where no landscape was given that could say.

    Attributes:
        mixing_area: u_mix, learning-rate area that must be left after the expansion.
        tau_star: Expansion step that leaves it, with ``tau_interval``.
        final_loss: Loss of this plan, with ``final_loss_interval``, and ``curve``.
        fixed_final_loss: Loss of the full depth for the same number of steps.
        equal_compute_steps: Steps of the full depth that cost what this plan costs.
        equal_compute_final_loss: Loss of that run, with its own horizon and schedule.
        small_final_loss: Loss of the small depth for the same number of steps: not growing at all.
        retention: Loss of a cold start minus ``final_loss``: what the small phase is worth.
        flops, fixed_flops: Training FLOPs of this plan and of the full depth for the same number of steps.
        saving_same_horizon: 1 - flops/fixed_flops.
        saving_equal_compute: 1 - flops/(FLOPs at which the full depth alone reaches ``final_loss``).
        verdict: One sentence.
    """

    mixing_area: Positive | None = None
    tau_star: Number | None = None
    tau_interval: Interval | None = None
    final_loss: Number | None = None
    final_loss_interval: Interval | None = None
    fixed_final_loss: Number | None = None
    equal_compute_steps: Number | None = None
    equal_compute_final_loss: Number | None = None
    small_final_loss: Number | None = None
    retention: Number | None = None
    flops: NonNegative | None = None
    fixed_flops: NonNegative | None = None
    saving_same_horizon: Number | None = None
    saving_equal_compute: Number | None = None
    verdict: str | None = None
    curve: Curve | None = None


class Provenance(Spec, frozen=True, kw_only=True):
    """Where the plan came from: the landscape, its fitted parameters, digests of the pilots and of the data."""

    landscape: str | None = None
    parameters: dict[str, Number] = {}
    pilots: tuple[Sha256, ...] = ()
    data: tuple[Sha256, ...] = ()
    reason: str | None = None


class Plan(Spec, frozen=True, kw_only=True):
    """A training run, complete but for the data and the machine.

    Args:
        schema_version: Version of this format, 1.
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

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    model: GPT2Shape
    batch_tokens: Annotated[int, Meta(ge=1, le=10**10)]
    schedule: AnySchedule
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=100)]
    optimizer: Optimizer = Optimizer()
    predicted: Prediction = Prediction()
    provenance: Provenance = Provenance()

    def check(self) -> None:
        context = self.model.context
        if self.batch_tokens % context:
            near = max(1, round(self.batch_tokens / context)) * context
            rule = f"is not a multiple of the context {context}"
            raise InputError("batch_tokens", self.batch_tokens, rule, f"use {near}")
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
            if stage.depth <= before.depth:
                rule = f"must be larger than the depth before it, {before.depth}"
                raise InputError(f"{here}.depth", stage.depth, rule, "grow, or drop the stage")
            if before.depth == 0 and stage.init.startswith("copy"):
                rule = "cannot copy from a model without blocks"
                raise InputError(f"{here}.init", stage.init, rule, "use 'random' or 'zero_last', or start from 1 block")
            if before.depth == 0 and stage.optimizer_state == "keep_copied":
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


def fixed_depth(plan: Plan, *, name: str, depth: int | None = None, schedule: AnySchedule | None = None) -> Plan:
    """The run of ``plan`` at one ``depth`` (the full one by default), without predictions."""
    stage = Stage(start_step=0, depth=plan.depth if depth is None else depth)
    changes = {"stages": (stage,), "predicted": Prediction(), "provenance": Provenance()}
    return plan.replace(name=name, schedule=schedule or plan.schedule, **changes)


def cold_start(plan: Plan, *, name: str) -> Plan:
    """Full depth from scratch for just the steps after the expansion, with the same tail of the schedule."""
    if plan.tau is None:
        raise InputError("stages", len(plan.stages), "a fixed-depth plan has no expansion", "give a progressive plan")
    return fixed_depth(plan, name=name, schedule=Tail(base=plan.schedule, start_step=plan.tau))


def read_plan(path: str | Path) -> Plan:
    """Read and validate a plan file.

    Raises:
        InputError: naming the file and the JSON path, the value, the rule and the fix.
    """
    return spec.read_spec(path, Plan)


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write ``plan`` as JSON, whole or not at all."""
    path = Path(path)
    if not path.name:
        raise InputError("path", str(path), "is not a file", "name one, such as plan.json")
    part = path.with_name(path.name + ".part")
    part.write_text(plan.to_json(), encoding="utf-8")
    part.replace(path)


def diff(a: Plan, b: Plan) -> list[tuple[str, object, object]]:
    """Fields in which two plans differ, as (JSON path, value in ``a``, value in ``b``)."""
    flat_a, flat_b = spec.flatten(a), spec.flatten(b)
    paths = list(flat_a) + [path for path in flat_b if path not in flat_a]
    return [(p, flat_a.get(p), flat_b.get(p)) for p in paths if flat_a.get(p) != flat_b.get(p)]
