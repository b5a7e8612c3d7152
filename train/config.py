"""Every setting of the trainer and its experiments: their options, files and defaults all come from here."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from latebloom.theory.errors import InputError
from latebloom.theory.expansion import Init, Order
from latebloom.theory.spec import Count, Positive, Spec

__all__ = [
    "LOGITS_AT_ONCE",
    "AblationConfig",
    "Activations",
    "DType",
    "DemoConfig",
    "JobConfig",
    "LRTransferConfig",
    "LaunchConfig",
    "TrainConfig",
    "shown_settings",
]

LOGITS_AT_ONCE = 1 << 24  # 64 MiB of float32

Activations = Literal["keep", "selective", "recompute"]
AtLeastOne = Annotated[int, Meta(ge=1)]
DType = Literal["float32", "bfloat16"]


class TrainConfig(Spec, frozen=True, kw_only=True):
    """How a plan is run on a machine; but for ``seed`` and ``init_from`` nothing here changes more than rounding.

    Attributes:
        seed: Of initialisation and data order.
        device: ``cpu``, ``cuda``, or ``auto``: the GPU if there is one.
        microbatch: Sequences per forward pass. None: the whole batch.
        dtype: ``bfloat16`` runs the forward pass under autocast; weights and optimizer stay float32.
        compile: Compile each block: one graph for all, so that growth makes no new one. Validation is eager.
        activations: What blocks keep for the backward pass: all, products and attention, or only their input.
        evals: Validation points, half of them logarithmic, besides those at 0, at expansions and at the end.
        eval_tokens: Tokens of each validation point.
        log_every: Steps between rows of training loss.
        checkpoint_every: Steps between checkpoints; expansions and the end have their own.
        keep_checkpoints: How many stay, the newest ones.
        save_behind: Write checkpoints beside the training, from a copy in the host's memory.
        repeat_data: Allow more than one epoch.
        quiet: Show nothing while training.
        init_from: Directory of a Hugging Face model of the plan's shape and first depth to start from.
        diagnostics: Log the RMS of updates and weights, by kind of parameter, with the training loss.
        peak_tflops: Peak of one device, for the MFU; `latebloom doctor` measures it. None: no MFU; 790 in a dry run.
        tracker: Where rows are mirrored to, besides the record.
        prompt: Text that the model goes on with after each validation, to be read. None: no samples.
        shard: Devices among which tensors are divided; other groups of as many hold replicas (HSDP). None: all.
        gather: Of the weights of blocks that devices send one another; bfloat16 halves it, under --dtype bfloat16.
        rank_timeout: Seconds that a rank waits for another one, checkpoints included, before it is given up for lost.
    """

    seed: Count = 0
    device: str = "auto"
    microbatch: AtLeastOne | None = None
    dtype: DType = "float32"
    compile: bool = False
    evals: Count = 24
    eval_tokens: AtLeastOne = 16384
    log_every: AtLeastOne = 10
    checkpoint_every: AtLeastOne = 200
    keep_checkpoints: AtLeastOne = 2
    save_behind: bool = False
    repeat_data: bool = False
    quiet: bool = False
    activations: Activations = "keep"
    init_from: Annotated[str, Meta(min_length=1)] | None = None
    diagnostics: bool = False
    peak_tflops: Positive | None = None
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    prompt: Annotated[str, Meta(min_length=1)] | None = None
    shard: AtLeastOne | None = None
    gather: DType = "float32"
    rank_timeout: Positive = 300.0

    def check(self) -> None:
        if self.gather == "bfloat16" and self.dtype == "float32":
            rule = "rounds the weights, and --dtype is float32"
            raise InputError("--gather", self.gather, rule, "give --dtype bfloat16, too")


def shown_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings as records and trackers show them: of a path its last part only, which says nothing of the machine.

    Args:
        config: How a run is run.
    """
    shown = msgspec.to_builtins(config)
    if config.init_from is not None:
        shown["init_from"] = PurePath(config.init_from).name
    return shown


class DemoConfig(Spec, frozen=True, kw_only=True):
    """Size of the demo. The defaults take three to five minutes on two cores.

    Attributes:
        steps: Horizon of the full depth, whose compute ``budget`` is a share of; pilots take an eighth to all of it.
        batch_tokens: Tokens per step.
        peak_lr: Peak learning rate of every run, Muon-NSGD.
        small_depth: Depth before the expansion.
        budget: Compute of every run that decides, as a share of the full depth's for ``steps``. None: 0.8.
        tokenizer: ``bpe`` (trained on the spot) or ``bytes``.
        init: How new blocks begin; those with zero in their name, and identity, keep the function.
        order: Where new blocks stand: on top (stack, last), between the old (inter, middle) or below (first).
    """

    steps: Annotated[int, Meta(ge=160, le=10**6)] = 800
    batch_tokens: AtLeastOne = 768
    peak_lr: Positive = 0.015
    small_depth: Annotated[int, Meta(ge=0)] = 1
    budget: Annotated[float, Meta(gt=0, le=1)] | None = None
    tokenizer: Literal["bpe", "bytes"] = "bpe"
    init: Init = "random"
    order: Order = "stack"


class JobConfig(Spec, frozen=True, kw_only=True):
    """How sure the main job is to be.

    Attributes:
        seeds: On which the runs that decide are trained; --seed is the first, and the one of the pilots.
    """

    seeds: AtLeastOne = 1


class AblationConfig(Spec, frozen=True, kw_only=True):
    """The ways of growing that `latebloom ablate` compares.

    Attributes:
        small: Depths before the expansion, separated by commas.
        init: Ways for new blocks to begin, separated by commas.
        order: Ways for new blocks to stand, separated by commas.
        seeds: Number of seeds; --seed is the first.
    """

    small: tuple[Annotated[int, Meta(ge=0)], ...] = (0, 1, 2)
    init: tuple[Init, ...] = ("random", "copy", "copy_zero_last")
    order: tuple[Order, ...] = ("stack", "inter", "last")
    seeds: AtLeastOne = 1


class LaunchConfig(Spec, frozen=True, kw_only=True):
    """Where the runs of a study are executed.

    Attributes:
        launcher: ``processes`` of this one, or jobs of submitit: ``local`` here, ``slurm`` on a cluster.
        at_once: Runs at the same time. None: as many as cores, one on a GPU; under Slurm all.
        partition: Of Slurm; None for its default.
        minutes: Time limit of a job of submitit; a run that it stops goes on when the study is called again.
        gpus: Of each job of Slurm.
    """

    launcher: Literal["processes", "local", "slurm"] = "processes"
    at_once: AtLeastOne | None = None
    partition: Annotated[str, Meta(min_length=1)] | None = None
    minutes: AtLeastOne = 600
    gpus: Count = 0


class LRTransferConfig(Spec, frozen=True, kw_only=True):
    """The sweep of `latebloom lr-transfer` and the size that it predicts for.

    Attributes:
        lrs: Peak learning rates to sweep at the small size, such as 0.005,0.01,0.02,0.04.
        width: Of the target.
        depth: Of the target, in blocks.
        steps: Of the target.
        horizons: Further steps at which the small size is swept too, for the horizon's exponent. None: 1/2 is assumed.
    """

    lrs: tuple[float, ...]
    width: AtLeastOne
    depth: AtLeastOne
    steps: AtLeastOne
    horizons: tuple[AtLeastOne, ...] | None = None
