"""A toy model, one batch, and what its blocks do to the residual stream: what feature-learning checks are made on.

Works for GPT-2's blocks and for LLAMA3-like ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latebloom.theory.plan import BlockVariant, GPT2Shape
from latebloom.train.model.transformer import GPT2

__all__ = ["BlockKind", "probe_batch", "probe_shape", "residual_stream", "update_"]

BlockKind = Literal["gpt2", "llama"]


def probe_shape(width: int, *, heads: int, blocks: BlockKind = "gpt2") -> GPT2Shape:
    """A small transformer of vocabulary 64 and context 32.

    Args:
        width: D.
        heads: Of the attention.
        blocks: ``gpt2``, or ``llama``: RMSNorm, rotary positions, SwiGLU of width 2 D, norms of queries and keys.
    """
    variant = BlockVariant(kv_heads=heads, hidden=2 * width, qk_norm=True) if blocks == "llama" else None
    return GPT2Shape(name="probe", width=width, heads=heads, vocab_size=64, context=32, block=variant)


def probe_batch(seed: int) -> Tensor:
    """Random tokens (4, 33) of that vocabulary: inputs are all but the last, targets all but the first.

    Args:
        seed: Of the draw.
    """
    return torch.randint(0, 64, (4, 33), generator=torch.Generator().manual_seed(seed))


def update_(model: GPT2, optimizer: torch.optim.Optimizer, ids: Tensor, count: int) -> None:
    """Take ``count`` updates on one batch, in place.

    Args:
        model: The model.
        optimizer: Over its parameters, learning rates set.
        ids: The batch, as of :func:`probe_batch`.
        count: Number of updates.
    """
    for _ in range(count):
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()


@torch.no_grad()
def residual_stream(model: GPT2, inputs: Tensor) -> list[Tensor]:
    """The residual stream before each block, and what reaches the final norm: depth + 1 tensors (B, T, D).

    Block i adds ``stream[i + 1] - stream[i]``.

    Args:
        model: Of any kind of blocks.
        inputs: Token numbers (B, T).
    """
    stream: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments: stream.append(arguments[0]))
        for module in (*model.blocks, model.norm)
    ]
    model.features(inputs)
    for hook in hooks:
        hook.remove()
    return stream
