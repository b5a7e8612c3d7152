"""What a plan will take, before anything is loaded: parameters, FLOPs, memory, time. Needs no torch.

Memory of one process in bytes, N parameters at full depth, B x n tokens in a micro-batch, L blocks of width D, V words;
e bytes a value in matrix products, 4 or under bfloat16 2; the residual stream is float32 either way:

    weights 4 N + gradients 4 N + optimizer state 4 N (Muon-NSGD, momentum SGD), 8 N (AdamW), or 8 for each value that
                                  AdamW takes and 4 for the others (Muon with AdamW)
    activations                            what each block keeps, as its family says, and the head:
                                           :mod:`latebloom.train.model.memory`
    bfloat16 copies of the matrices        2 N under ``keep``, else 2 V D for the head

and while the backward pass is in a block, what ``keep`` would keep there, the gradient of the stream, 4 D, and that
inside the MLP. Not counted: what the update needs when no activation is live, up to 3 GiB under Muon.

Of W devices each has 1/S of the states, where tensors are divided among S of them (all, or groups that hold replicas),
and a micro-batch of its own. With b values a block, r in embeddings and norm,
all gathered in float32, the peak has besides activations and copies of weights

    4 r + the larger of    4 b + the head,    4 V D + 12 b + the backward pass of a block

(a block is fetched while the head is at work; later the head's gradient waits for the embedding's, and there are a
block, the next one, and a gradient). Where blocks are gathered in bfloat16, b is fetched in 2 b bytes, and no other
bfloat16 copy is made. Held against an account of every storage under a fake process group in the tests.

Time of an update: computing at ``mfu`` of the peak, or fetching rows and summing gradients where that takes longer
(they overlap), and then Muon's exchange. A group of at most :data:`MACHINE` devices talks at ``link``, all that goes
between machines at ``network``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple, get_args

from latebloom.theory.architectures.shape import block_tensors, outer_tensors
from latebloom.theory.cost import flops_per_token, parameters, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import UPDATE_RULES, rule_of
from latebloom.theory.plan import Plan
from latebloom.theory.words import amount_text, blocks_text, count_text
from latebloom.train.config import Activations, DType
from latebloom.train.model.memory import activation_bytes, head_bytes, kept_bytes

__all__ = ["DryRun", "PhaseCost", "checkpoint_bytes", "dry_run", "duration", "fit_text"]

GIB = 2**30
MACHINE = 8  # devices of one machine


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """One stage of a plan.

    Attributes:
        start_step: First update.
        depth: Number of blocks.
        steps: Updates.
        parameters: At this depth.
        flops_per_token: Of training, with the head.
        head_share: Share of the head in them.
        flops: Of the whole stage.
        seconds: It takes.
    """

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

    Attributes:
        phases: One a stage.
        flops: Of the plan.
        fixed_depth_flops: Of the full depth for the same number of steps.
        seconds: It takes.
        weights: Bytes.
        gradients: Bytes.
        optimizer_state: Bytes.
        dtype: Of matrix products.
        mode: What blocks keep.
        activations: Bytes that each mode keeps for the backward pass, without the head.
        bfloat16_weights: Bytes of copies.
        head: Bytes of head and loss.
        memory: Peak of one device under ``mode``: states, its activations, copies of weights, and the most that the
            head or a block's backward pass needs.
        gathered: Bytes at the peak of other devices' rows and of whole gradients, beyond what one device takes.
        communication: Bytes that a device sends in one update.
        communication_seconds: Sending takes in one update at full depth, hidden behind computing or not.
        computing_seconds: Computing takes in it.
        checkpoint: Bytes of weights and optimizer state.
        disk: Bytes of the checkpoints that are kept and of the one that is being written.
        peak_tflops: Of one device.
        mfu: Share of it that training reaches.
        devices: Number of them.
        micro_tokens: Tokens in a micro-batch.
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
    gathered: int
    communication: int
    communication_seconds: float
    computing_seconds: float
    checkpoint: int
    disk: int
    peak_tflops: float
    mfu: float
    devices: int
    micro_tokens: int

    @property
    def states(self) -> int:
        """Bytes of weights, gradients and optimizer state on one device: the least that a run takes."""
        return self.weights + self.gradients + self.optimizer_state

    def as_dict(self) -> dict:
        """Plain data, for ``--json``."""
        return asdict(self)

    def text(self) -> str:
        """A page to read."""
        lines = []
        for p in self.phases:
            lines.append(
                f"from step {p.start_step}: {blocks_text(p.depth)}, {p.steps} steps, parameters "
                f"{_parameters(p.parameters)}, FLOPs per token {_flops(p.flops_per_token)} (head {p.head_share:.0%}), "
                f"{duration(p.seconds)}"
            )
        full = self.phases[-1]
        where = "one device" if self.devices == 1 else f"each of {self.devices} devices"
        lines += [
            f"full depth: parameters {_parameters(full.parameters)}, FLOPs per token {_flops(full.flops_per_token)}",
            f"total: {amount_text(self.flops)} FLOPs, {1 - self.flops / self.fixed_depth_flops:.1%} less than fixed "
            "depth",
            f"memory on {where}: {_bytes(self.memory)}",
            f"  of them {_bytes(self.states)} of weights ({_bytes(self.weights)}), "
            f"gradients ({_bytes(self.gradients)}) and optimizer state ({_bytes(self.optimizer_state)}), "
            f"and {_bytes(self.memory - self.states)} for "
            f"{self.micro_tokens} tokens in {self.dtype} under --activations {self.mode}",
            "activations: "
            + ", ".join(f"{mode} {_bytes(size)}" for mode, size in self.activations.items())
            + f"; head {_bytes(self.head)}, bfloat16 weights {_bytes(self.bfloat16_weights)}",
            f"time: {duration(self.seconds)} on {count_text(self.devices, 'device')} at {self.mfu:.0%} of "
            f"{self.peak_tflops:g} TFLOP/s",
        ]
        if self.devices > 1:
            lines.insert(
                -1,
                f"rows and gradients of other devices at the peak: {_bytes(self.gathered)}; each device sends "
                f"{_bytes(self.communication)} in an update, {duration(self.communication_seconds)} beside "
                f"{duration(self.computing_seconds)} of computing",
            )
        lines.append(f"disk: a checkpoint of {_bytes(self.checkpoint)}, {_bytes(self.disk)} while one is written")
        return "\n".join(lines)


def checkpoint_bytes(plan: Plan) -> int:
    """A checkpoint at full depth: weights and optimizer state, float32 each.

    Args:
        plan: Gives model, depth and optimizer.
    """
    return _state_bytes(plan) - 4 * parameters(plan.model, plan.depth)  # without gradients


def _state_bytes(plan: Plan) -> int:
    """Weights, gradients and optimizer state at full depth: float32 each, as many moments as the update rule keeps."""
    tensors = [*outer_tensors(plan.model), *(plan.depth * block_tensors(plan.model))]
    rules = (UPDATE_RULES[rule_of(plan.optimizer.name, tensor.kind)] for tensor in tensors)
    return sum(4 * (2 + rule.moments) * tensor.size for rule, tensor in zip(rules, tensors, strict=True))


def dry_run(
    plan: Plan,
    *,
    peak_tflops: float = 790.0,
    mfu: float = 0.5,
    devices: int = 1,
    shard: int | None = None,
    gather: DType = "float32",
    micro_sequences: int = 8,
    activations: Activations = "keep",
    dtype: DType = "bfloat16",
    link: float = 300.0,
    network: float = 50.0,
    keep: int = 2,
) -> DryRun:
    """Predict what ``plan`` takes.

    Args:
        plan: What to train.
        peak_tflops: Peak of one device, 1e12 FLOP/s; 790 is a measured bfloat16 matrix product on an H200.
        mfu: Share of it that training reaches.
        devices: Number of devices; each has rows of every tensor, and a micro-batch of its own.
        shard: S, devices among which tensors are divided; None: all.
        gather: Of the blocks' weights that devices fetch from one another.
        micro_sequences: Sequences in a micro-batch of one device.
        activations: What blocks keep, see :mod:`latebloom.train.model.activations`.
        dtype: Of matrix products.
        link: 1e9 bytes a second that a device sends to others of its machine; 300 is NVLink's order.
        network: The same to other machines; 50 is one 400 Gbit/s port a device.
        keep: Checkpoints that stay.

    Raises:
        InputError: for a share or a rate out of range, or an optimizer without an update rule for a kind of tensor.
    """
    for name, value, good in (
        ("--peak-tflops", peak_tflops, 0 < peak_tflops < 1e9),
        ("--mfu", mfu, 0 < mfu <= 1),
        ("--devices", devices, devices >= 1),
        ("--microbatch", micro_sequences, micro_sequences >= 1),
        ("--link", link, 0 < link < 1e9),
        ("--network", network, 0 < network < 1e9),
    ):
        if not good:
            raise InputError(name, value, "is out of range", "give a positive number (mfu at most 1)")
    shard = devices if shard is None else shard
    if shard < 1 or devices % shard:
        raise InputError("--shard", shard, f"does not divide the {devices} devices", "give a divisor, or leave it out")
    rate = peak_tflops * 1e12 * mfu * devices
    model = plan.model
    outer = parameters(model, 0)
    passes = max(1, plan.batch_tokens // (micro_sequences * model.context * devices))

    def sending(depth: int) -> _Sending:
        return _sending(parameters(model, depth), outer, devices, shard, passes, gather)

    def seconds_of_update(depth: int) -> tuple[float, float, float]:
        """(computing, fetching and summing, exchanging updates)"""
        sent = sending(depth)
        in_group = 1e9 * (link if shard <= MACHINE else network)
        among_all = 1e9 * (link if devices <= MACHINE else network)
        computing = float(flops_per_token(model, depth)) * plan.batch_tokens / rate
        return computing, sent.in_group / in_group + sent.over_replicas / among_all, sent.updates / among_all

    ends = [stage.start_step for stage in plan.stages[1:]] + [plan.steps]
    phases = []
    for stage, end in zip(plan.stages, ends, strict=True):
        per_token = flops_per_token(model, stage.passes)
        flops = float(per_token) * plan.batch_tokens * (end - stage.start_step)
        computing, fetching, exchanging = seconds_of_update(stage.depth)
        phases.append(
            PhaseCost(
                start_step=stage.start_step,
                depth=stage.depth,
                steps=end - stage.start_step,
                parameters=parameters(model, stage.depth),
                flops_per_token=per_token,
                head_share=flops_per_token(model, 0) / per_token,
                flops=flops,
                seconds=(end - stage.start_step) * (max(computing, fetching) + exchanging),
            )
        )
    n, tokens = parameters(model, plan.depth), micro_sequences * model.context
    by_mode = {mode: tokens * activation_bytes(model, mode, dtype) for mode in get_args(Activations)}
    kept = {mode: plan.depth * block + tokens * (4 * model.width + 8) for mode, block in by_mode.items()}
    head = head_bytes(model, tokens, dtype)
    looked_up = sum(tensor.size for tensor in outer_tensors(model) if tensor.kind == "embedding")  # never multiplied
    cast = activations == "keep" and (
        gather == "float32" or devices == 1
    )  # gathered in bfloat16: no other copy is made
    copied = n - looked_up if cast else model.vocab_size * model.width
    copies = 2 * copied if dtype == "bfloat16" else 0
    states = _state_bytes(plan)
    working = tokens * (4 * model.width + kept_bytes(model, dtype).in_mlp)
    if dtype == "bfloat16" and activations != "keep" and (gather == "float32" or devices == 1):
        working += 2 * (parameters(model, 1) - parameters(model, 0))  # copies of this block's
    again = (by_mode["keep"] - by_mode[activations] + working) * (plan.depth > 0)
    block = parameters(model, 1) - outer
    working_peak = alone_peak = max(*head, again)
    if devices > 1:
        fetched = (2 if gather == "bfloat16" else 4) * block * (plan.depth > 0)
        waiting = 4 * model.vocab_size * model.width * (plan.depth > 0)
        working_peak = 4 * outer + max(fetched + max(head), waiting + 3 * fetched + again)
    computing, fetching, exchanging = seconds_of_update(plan.depth)
    checkpoint = checkpoint_bytes(plan)
    return DryRun(
        phases=tuple(phases),
        flops=plan_flops(plan),
        fixed_depth_flops=float(flops_per_token(model, plan.depth)) * plan.batch_tokens * plan.steps,
        seconds=sum(phase.seconds for phase in phases),
        weights=4 * n // shard,
        gradients=4 * n // shard,
        optimizer_state=(states - 8 * n) // shard,
        dtype=dtype,
        mode=activations,
        activations=kept,
        bfloat16_weights=copies,
        head=max(head),
        memory=-(-states // shard) + kept[activations] + copies + working_peak,
        gathered=working_peak - alone_peak,
        communication=round(sum(sending(plan.depth))),
        communication_seconds=fetching + exchanging,
        computing_seconds=computing,
        checkpoint=checkpoint,
        disk=(keep + 1) * checkpoint,
        peak_tflops=peak_tflops,
        mfu=mfu,
        devices=devices,
        micro_tokens=tokens,
    )


KNOWN_DEVICES = {139.0: "H200"}  # by memory, GiB


def fit_text(
    plan: Plan,
    *,
    memory_gib: float = 139.0,
    devices: int = 1,
    shard: int | None = None,
    gather: DType = "float32",
    micro_sequences: int = 8,
    activations: Activations = "keep",
    dtype: DType = "bfloat16",
) -> str:
    """Whether ``plan`` fits the memory of a device, and if not, the options that cost least time and make it fit.

    Tried are bfloat16, then blocks that keep less, then smaller micro-batches.

    Args:
        plan: What to train.
        memory_gib: Of one device, GiB; 139 is an H200's.
        devices: Number of devices.
        shard: S, devices among which tensors are divided; None: all.
        gather: Of the blocks' weights that devices fetch from one another.
        micro_sequences: Sequences in a micro-batch of one device.
        activations: What blocks keep.
        dtype: Of matrix products.

    Raises:
        InputError: if the memory is not positive, or as :func:`dry_run` says.
    """
    if not 0 < memory_gib < 1e6:
        raise InputError("--device-memory", memory_gib, "is out of range", "give GiB, such as 139 for an H200")

    def needed(dtype: DType, activations: Activations, sequences: int) -> float:
        run = dry_run(
            plan, devices=devices, shard=shard, gather=gather, micro_sequences=sequences, activations=activations,
            dtype=dtype,
        )  # fmt: skip
        return run.memory / GIB

    kind = KNOWN_DEVICES.get(memory_gib, "device")
    device = f"{f'one {kind}' if devices == 1 else f'each of {devices} {kind}s'} ({memory_gib:g} GiB)"
    asked = needed(dtype, activations, micro_sequences)
    if asked <= memory_gib:
        return f"Fits {device}: {_bytes(asked * GIB)}."
    modes: tuple[Activations, ...] = get_args(Activations)
    halved = [micro_sequences >> i for i in range(micro_sequences.bit_length())]
    for sequences in halved:
        for mode in modes[modes.index(activations) :]:
            memory = needed("bfloat16", mode, sequences)
            if memory <= memory_gib:
                options = f"--dtype bfloat16 --activations {mode} --microbatch {sequences}"
                return f"Does not fit {device}: it takes {asked:.1f} GiB. Fits with {options}: {memory:.1f} GiB."
    return f"Does not fit {device}: it takes {asked:.1f} GiB, and no other options make it fit. Train on more devices."


class _Sending(NamedTuple):
    """Bytes that one device hands to others in an update."""

    in_group: float  # rows of blocks, twice a pass, and of the rest once; a gradient a pass
    over_replicas: float  # its rows of the gradient, once, by a ring
    updates: float  # Muon's directions in bfloat16 to their owners, and updates to every group


def _sending(parameters: int, outer: int, devices: int, shard: int, passes: int, gather: DType) -> _Sending:
    """See the module's text."""
    blocks, replicas = parameters - outer, devices // shard
    fetched = 2 * blocks * (2 if gather == "bfloat16" else 4) + 4 * outer
    return _Sending(
        in_group=(shard - 1) / shard * passes * (fetched + 4 * parameters),
        over_replicas=2 * (replicas - 1) / replicas * 4 * parameters / shard,
        updates=(devices - 1) / devices * 2 * (parameters / devices + parameters * replicas / devices),
    )


def duration(seconds: float) -> str:
    """In the unit in which a person says it.

    Args:
        seconds: How many.
    """
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds" if seconds >= 0.1 else "under 0.1 seconds"


def _bytes(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"


def _parameters(number: int) -> str:
    return f"{number / 1e9:.3f}B" if number >= 1e8 else f"{number / 1e6:.3f}M"


def _flops(number: float) -> str:
    return f"{number / 1e9:.2f} G" if number >= 1e8 else f"{number / 1e6:.2f} M"
