"""What a plan will take, before anything is loaded: parameters, FLOPs, memory, time. Needs no torch.

Memory of one process in bytes, N parameters at full depth, B x n tokens in a micro-batch, L blocks of width D with H
heads, V words; e bytes a value in matrix products, 4 or under bfloat16 2; the residual stream is float32 either way:

    weights 4 N + gradients 4 N + optimizer state 4 N (Muon-NSGD, momentum SGD), 4 more a value of the embeddings
                                  (Muon with AdamW) or 8 N (AdamW)
    activations, a token and GPT-2 block   keep       (8 + 14 e) D + 4 H + 16
                                           selective  (4 + 9 e) D + 4 H
                                           recompute  4 D
    before the head                        4 D + 8 a token
    head and loss, plain (bfloat16)        e D and up to 12 V a token
    head and loss, fused (float32)         8 D (tokens + V), or half of it, LOGITS_AT_ONCE and 4 V D; before torch 2.13
                                           float32 is plain too
    bfloat16 copies of the matrices        2 N under ``keep``, else 2 V D for the head

and while the backward pass is in a block, what ``keep`` would keep there, the gradient of the stream, 4 D, and that
inside the MLP, 4 e D; in float32 twice that, for the GELU of :mod:`latebloom.train.model.transformer` on a CPU.
Counted from what each operation saves and held against the allocator in the tests; attention scores are never stored.
With the blocks of :mod:`latebloom.train.model.llama` the count is that of the CPU, whose RMSNorm saves its result too;
a fused one saves 4 D less. Not counted: what the update needs when no activation is live, up to 3 GiB under Muon.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import get_args

from latebloom.theory.cost import flops_per_token, parameters, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import GPT2Shape, Plan
from latebloom.train.config import LOGITS_AT_ONCE, Activations, DType

__all__ = ["DryRun", "PhaseCost", "activation_bytes", "dry_run", "has_fused_loss", "head_bytes", "state_bytes"]

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """One stage of a plan."""

    start_step: int
    depth: int
    steps: int
    parameters: int
    flops_per_token: int
    head_share: float
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The whole plan; memory in bytes at full depth on one device.

    ``activations`` holds what each mode keeps for the backward pass, without the head; ``memory`` is the peak under
    ``mode``: states, its activations, copies of weights, and the most that the head or a block's backward pass needs.
    """

    phases: tuple[PhaseCost, ...]
    flops: float
    fixed_depth_flops: float
    seconds: float
    weights: int
    gradients: int
    optimizer_state: int
    dtype: str
    mode: str
    activations: dict[str, int]
    bfloat16_weights: int
    head: int
    memory: int
    peak_tflops: float
    mfu: float
    devices: int
    micro_tokens: int

    def as_dict(self) -> dict:
        """Plain data, for ``--json``."""
        return asdict(self)

    def text(self) -> str:
        """A page to read."""
        lines = []
        for p in self.phases:
            lines.append(
                f"from step {p.start_step}: depth {p.depth}, {p.steps} steps, parameters {p.parameters / 1e9:.3f}B, "
                f"FLOPs per token {p.flops_per_token / 1e9:.2f} G (head {p.head_share:.0%}), {_time(p.seconds)}"
            )
        full = self.phases[-1]
        states = self.weights + self.gradients + self.optimizer_state
        lines += [
            f"full depth: parameters {full.parameters / 1e9:.3f}B, FLOPs per token {full.flops_per_token / 1e9:.2f} G",
            f"total: {self.flops:.4g} FLOPs, {1 - self.flops / self.fixed_depth_flops:.1%} less than fixed depth",
            f"memory on one device: {self.memory / GIB:.1f} GiB = {states / GIB:.1f} GiB (weights "
            f"{self.weights / GIB:.1f}, gradients {self.gradients / GIB:.1f}, optimizer "
            f"{self.optimizer_state / GIB:.1f}) + {(self.memory - states) / GIB:.1f} GiB for {self.micro_tokens} "
            f"tokens in {self.dtype} under --activations {self.mode}",
            "activations: "
            + ", ".join(f"{mode} {size / GIB:.1f} GiB" for mode, size in self.activations.items())
            + f"; head {self.head / GIB:.1f} GiB, bfloat16 weights {self.bfloat16_weights / GIB:.1f} GiB",
            f"time: {_time(self.seconds)} on {self.devices} device(s) at {self.mfu:.0%} of {self.peak_tflops:g} "
            "TFLOP/s",
        ]
        return "\n".join(lines)


def activation_bytes(model: GPT2Shape, mode: Activations, dtype: DType) -> int:
    """What one block keeps of one token for the backward pass; see above."""
    width, heads, size = model.width, model.heads, 2 if dtype == "bfloat16" else 4
    if mode == "recompute":
        return 4 * width
    block = model.block
    if block is None:
        if mode == "selective":
            return (4 + 9 * size) * width + 4 * heads
        return (8 + 14 * size) * width + 4 * heads + 16
    inner, hidden = width // heads * block.kv_heads, block.hidden
    if mode == "selective":  # input; q, k, v, attention, its projection, gate, up
        return 4 * width + size * (3 * width + 2 * inner + 2 * hidden) + 4 * heads
    copies = 5 if dtype == "bfloat16" else 2  # of normed streams: each product under autocast makes its own
    kept = 16 * width + size * ((copies + 3) * width + 2 * inner + 4 * hidden) + 4 * heads + 8
    return kept + (8 * (width + inner) + 4 * (heads + block.kv_heads) if block.qk_norm else 0)


def head_bytes(model: GPT2Shape, tokens: int, dtype: DType) -> tuple[int, int]:
    """The most that head and loss hold in the forward and in the backward pass, by
    :func:`latebloom.train.model.transformer.head_loss`.
    """
    width, vocab = model.width, model.vocab_size
    if dtype == "float32" and tokens >= width and vocab > width and has_fused_loss():  # makes both gradients forward
        gradients, rows = 4 * width * (tokens + vocab), min(tokens, max(1, LOGITS_AT_ONCE // vocab))
        return 4 * tokens * width + gradients + 4 * rows * vocab, 2 * gradients
    features = (4 if dtype == "float32" else 2) * tokens * width  # then logits, their logarithms, their gradients
    return features + 10 * tokens * vocab, features + 12 * tokens * vocab


def has_fused_loss() -> bool:
    """Whether the torch that is installed has the fused loss of :func:`latebloom.train.model.transformer.head_loss`;
    where none is, yes.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        major, minor = version("torch").split(".")[:2]
    except PackageNotFoundError:
        return True
    return (int(major), int(minor)) >= (2, 13)


def state_bytes(plan: Plan) -> int:
    """Weights, gradients and optimizer state at full depth."""
    second = {"adamw": plan.depth, "muon_adamw": 0}  # of two moments; a block's vectors are few
    more = 4 * parameters(plan.model, second[plan.optimizer.name]) if plan.optimizer.name in second else 0
    return 12 * parameters(plan.model, plan.depth) + more


def dry_run(
    plan: Plan,
    *,
    peak_tflops: float = 790.0,
    mfu: float = 0.5,
    devices: int = 1,
    micro_sequences: int = 8,
    activations: Activations = "keep",
    dtype: DType = "bfloat16",
) -> DryRun:
    """Predict what ``plan`` takes.

    Args:
        plan: What to train.
        peak_tflops: Peak of one device, 1e12 FLOP/s; 790 is a measured bfloat16 matrix product on an H200.
        mfu: Share of it that training reaches.
        devices: Number of devices, for the time only.
        micro_sequences: Sequences in a micro-batch, for the activations.
        activations: What blocks keep, see :mod:`latebloom.train.model.activations`.
        dtype: Of matrix products.

    Raises:
        InputError: for a share or a rate out of range.
    """
    for name, value, good in (
        ("--peak-tflops", peak_tflops, 0 < peak_tflops < 1e9),
        ("--mfu", mfu, 0 < mfu <= 1),
        ("--devices", devices, devices >= 1),
        ("--microbatch", micro_sequences, micro_sequences >= 1),
    ):
        if not good:
            raise InputError(name, value, "is out of range", "give a positive number (mfu at most 1)")
    rate = peak_tflops * 1e12 * mfu * devices
    model = plan.model
    ends = [stage.start_step for stage in plan.stages[1:]] + [plan.steps]
    phases = []
    for stage, end in zip(plan.stages, ends, strict=True):
        per_token = flops_per_token(model, stage.depth)
        flops = float(per_token) * plan.batch_tokens * (end - stage.start_step)
        phases.append(
            PhaseCost(
                start_step=stage.start_step,
                depth=stage.depth,
                steps=end - stage.start_step,
                parameters=parameters(model, stage.depth),
                flops_per_token=per_token,
                head_share=flops_per_token(model, 0) / per_token,
                flops=flops,
                seconds=flops / rate,
            )
        )
    n, tokens = parameters(model, plan.depth), micro_sequences * model.context
    by_mode = {mode: tokens * activation_bytes(model, mode, dtype) for mode in get_args(Activations)}
    kept = {mode: plan.depth * block + tokens * (4 * model.width + 8) for mode, block in by_mode.items()}
    head = head_bytes(model, tokens, dtype)
    positions = 0 if model.block else model.context * model.width
    copied = n - positions if activations == "keep" else model.vocab_size * model.width
    copies = 2 * copied if dtype == "bfloat16" else 0
    states = state_bytes(plan)
    wide = model.block.hidden if model.block else 4 * model.width
    within = 2 if dtype == "bfloat16" else 4 if model.block else 8
    working = tokens * (4 * model.width + within * wide)
    if dtype == "bfloat16" and activations != "keep":
        working += 2 * (parameters(model, 1) - parameters(model, 0))  # copies of this block's
    again = (by_mode["keep"] - by_mode[activations] + working) * (plan.depth > 0)
    return DryRun(
        phases=tuple(phases),
        flops=plan_flops(plan),
        fixed_depth_flops=float(flops_per_token(model, plan.depth)) * plan.batch_tokens * plan.steps,
        seconds=plan_flops(plan) / rate,
        weights=4 * n,
        gradients=4 * n,
        optimizer_state=states - 8 * n,
        dtype=dtype,
        mode=activations,
        activations=kept,
        bfloat16_weights=copies,
        head=max(head),
        memory=states + kept[activations] + copies + max(*head, again),
        peak_tflops=peak_tflops,
        mfu=mfu,
        devices=devices,
        micro_tokens=tokens,
    )


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
