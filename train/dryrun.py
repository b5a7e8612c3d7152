"""What a plan will take, before anything is loaded: parameters, FLOPs, memory, time. Needs no torch.

Memory of one process in bytes, N parameters at full depth, B x n tokens in a micro-batch, L blocks of width D, V words:

    weights 4 N + gradients 4 N + optimizer state 4 N (Muon-NSGD, momentum SGD) or 8 N (AdamW)
    activations, full checkpointing   2 B n D (L + 1), the input of each block in bfloat16
    activations, none                 34 B n D L + 2 B n V                          Korthikanti et al., arXiv 2205.05198

(attention scores are never stored: scaled_dot_product_attention recomputes them). Under checkpointing one block's
activations and the logits come on top while they are live; they are stated apart by ``activations`` at depth 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from theory.cost import flops_per_token, parameters, plan_flops
from theory.errors import InputError
from theory.plan import Plan

__all__ = ["DryRun", "PhaseCost", "dry_run"]

GIB = 2**30
ACTIVATION_BYTES = 34  # per token, width and block, in bfloat16


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
    """The whole plan; memory in bytes at full depth on one device."""

    phases: tuple[PhaseCost, ...]
    flops: float
    fixed_depth_flops: float
    seconds: float
    weights: int
    gradients: int
    optimizer_state: int
    activations_checkpointed: int
    activations: int
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
            f"memory on one device: {states / GIB:.1f} GiB (weights {self.weights / GIB:.1f}, gradients "
            f"{self.gradients / GIB:.1f}, optimizer {self.optimizer_state / GIB:.1f}) + activations of "
            f"{self.micro_tokens} tokens {self.activations_checkpointed / GIB:.1f} GiB with full checkpointing, "
            f"{self.activations / GIB:.1f} GiB without",
            f"time: {_time(self.seconds)} on {self.devices} device(s) at {self.mfu:.0%} of {self.peak_tflops:g} "
            "TFLOP/s",
        ]
        return "\n".join(lines)


def dry_run(
    plan: Plan, *, peak_tflops: float = 790.0, mfu: float = 0.5, devices: int = 1, micro_sequences: int = 8
) -> DryRun:
    """Predict what ``plan`` takes.

    Args:
        plan: What to train.
        peak_tflops: Peak of one device, 1e12 FLOP/s; 790 is a measured bfloat16 matrix product on an H200.
        mfu: Share of it that training reaches.
        devices: Number of devices, for the time only.
        micro_sequences: Sequences in a micro-batch, for the activations.

    Raises:
        InputError: for a share or a rate out of range.
    """
    for name, value, good in (
        ("--peak-tflops", peak_tflops, peak_tflops > 0),
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
    block = ACTIVATION_BYTES * tokens * model.width
    logits = 2 * tokens * model.vocab_size
    return DryRun(
        phases=tuple(phases),
        flops=plan_flops(plan),
        fixed_depth_flops=float(flops_per_token(model, plan.depth)) * plan.batch_tokens * plan.steps,
        seconds=plan_flops(plan) / rate,
        weights=4 * n,
        gradients=4 * n,
        optimizer_state=(8 if plan.optimizer.name == "adamw" else 4) * n,
        activations_checkpointed=2 * tokens * model.width * (plan.depth + 1),
        activations=plan.depth * block + logits,
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
