"""How a plan is run on a machine."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from latebloom.theory.spec import Count, Positive, Spec

__all__ = ["LOGITS_AT_ONCE", "Activations", "DType", "TrainConfig"]

LOGITS_AT_ONCE = 1 << 24  # 64 MiB of float32

Activations = Literal["keep", "selective", "recompute"]
DType = Literal["float32", "bfloat16"]


class TrainConfig(Spec, frozen=True, kw_only=True):
    """How a plan is run on a machine; but for ``seed`` and ``init_from`` nothing here changes more than rounding.

    Attributes:
        seed: Of initialisation and data order.
        device: ``auto`` takes the GPU if there is one.
        microbatch: Sequences per forward pass; None: the whole batch.
        dtype: ``bfloat16`` runs the forward pass under autocast; weights and optimizer stay float32.
        compile: Compile each block: one graph for all of them, so that growth makes no new one. Validation is eager.
        activations: What blocks keep for the backward pass: all (``keep``), the results of products and attention
            (``selective``), or their input (``recompute``, full checkpointing). See
            :mod:`latebloom.train.model.activations`.
        evals: Number of validation points, half of them logarithmic, besides those at 0, at expansions and at the end.
        eval_tokens: Tokens of each.
        log_every: Steps between rows of training loss.
        checkpoint_every: Steps between checkpoints; expansions and the end have their own.
        keep_checkpoints: How many stay, the newest ones.
        repeat_data: Allow more than one epoch.
        init_from: Directory of a Hugging Face model of the plan's shape and first depth to start from.
        diagnostics: Log the RMS of updates and of weights, by kind of parameter, with the training loss.
        peak_tflops: Peak of the device, for the MFU of each phase; `latebloom doctor` measures it.
        tracker: Where rows are mirrored to, besides the record.
        quiet: Show nothing.
    """

    seed: Count = 0
    device: str = "auto"
    microbatch: Annotated[int, Meta(ge=1)] | None = None
    dtype: DType = "float32"
    compile: bool = False
    evals: Count = 24
    eval_tokens: Annotated[int, Meta(ge=1)] = 16384
    log_every: Annotated[int, Meta(ge=1)] = 10
    checkpoint_every: Annotated[int, Meta(ge=1)] = 200
    keep_checkpoints: Annotated[int, Meta(ge=1)] = 2
    repeat_data: bool = False
    quiet: bool = False
    activations: Activations = "keep"
    init_from: str | None = None
    diagnostics: bool = False
    peak_tflops: Positive | None = None
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
