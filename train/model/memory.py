"""Bytes that a model holds while it trains, and which loss of the head it has. Needs no torch.

With e bytes a value in matrix products, 4 or under bfloat16 2, V words, width D:

    before the head                        4 D + 8 a token
    head and loss, plain (bfloat16)        e D and up to 12 V a token
    head and loss, fused (float32)         8 D (tokens + V), or half of it and LOGITS_AT_ONCE; before torch 2.13 float32
                                           is plain too

What a block keeps its family says (:class:`latebloom.theory.architectures.family.KeptBytes`); attention scores are
never stored. Counted from what each operation saves and held against the allocator in the tests.
"""

from __future__ import annotations

import importlib.metadata

from latebloom.theory.architectures.family import KeptBytes
from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.train.config import LOGITS_AT_ONCE, Activations, DType

__all__ = ["activation_bytes", "has_fused_loss", "head_bytes", "kept_bytes"]


def kept_bytes(model: GPT2Shape, dtype: DType) -> KeptBytes:
    """What one block holds of one token for the backward pass.

    Args:
        model: The shape.
        dtype: Of matrix products.
    """
    return model.family.kept_bytes(model, 2 if dtype == "bfloat16" else 4)


def activation_bytes(model: GPT2Shape, mode: Activations, dtype: DType) -> int:
    """What one block keeps of one token for the backward pass under ``mode``.

    Args:
        model: The shape.
        mode: See :mod:`latebloom.train.model.activations`.
        dtype: Of matrix products.
    """
    kept = kept_bytes(model, dtype)
    return {"keep": kept.keep, "selective": kept.selective, "recompute": kept.recompute}[mode]


def head_bytes(model: GPT2Shape, tokens: int, dtype: DType) -> tuple[int, int]:
    """The most that head and loss hold in the forward and in the backward pass, by
    :func:`latebloom.train.model.transformer.head_loss`.

    Args:
        model: The shape.
        tokens: In a micro-batch.
        dtype: Of matrix products.
    """
    width, vocab = model.width, model.vocab_size
    if dtype == "float32" and tokens >= width and vocab > width and has_fused_loss():  # makes both gradients forward
        gradients, rows = 4 * width * (tokens + vocab), min(tokens, max(1, LOGITS_AT_ONCE // vocab))
        return 4 * tokens * width + gradients + 4 * rows * vocab, 2 * gradients
    features = (4 if dtype == "float32" else 2) * tokens * width  # then logits, their logarithms, their gradients
    return features + 10 * tokens * vocab, features + 12 * tokens * vocab


def has_fused_loss() -> bool:
    """Whether the torch that is installed has the fused loss of :func:`latebloom.train.model.transformer.head_loss`:
    from 2.13 on; where no torch is installed, yes.
    """
    try:
        major, minor = importlib.metadata.version("torch").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return True
    return (int(major), int(minor)) >= (2, 13)
