"""GPT-2 (Radford et al. 2019): LayerNorms, biases, learned positions. d width, V vocabulary, n context.

A block keeps of each token, with e bytes a value in matrix products and the residual stream in float32:

    keep       (8 + 14 e) d + 4 h + 16          selective  (4 + 9 e) d + 4 h          recompute  4 d
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latebloom.theory.architectures.family import Family, KeptBytes
from latebloom.theory.architectures.tensors import TensorSpec, bias, gain, matrix, token_matrices

if TYPE_CHECKING:
    from latebloom.theory.architectures.shape import GPT2Shape

__all__ = ["FAMILY"]


def _check(shape: GPT2Shape) -> None:
    """Every shape will do."""


def _outer_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    d = shape.width
    return (
        *token_matrices(shape.vocab_size, d, tied=shape.tied_head),
        matrix("positions.weight", shape.context, d, kind="embedding"),
        gain("norm.weight", d, kind="final_vector"),
        bias("norm.bias", d, kind="final_vector"),
    )


def _block_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    d = shape.width
    return (
        gain("norm1.weight", d),
        bias("norm1.bias", d),
        matrix("attention.qkv.weight", 3 * d, d, matrices=3),
        bias("attention.qkv.bias", 3 * d),
        matrix("attention.proj.weight", d, d, ends_branch=True),
        bias("attention.proj.bias", d),
        gain("norm2.weight", d),
        bias("norm2.bias", d),
        matrix("mlp.fc.weight", 4 * d, d),
        bias("mlp.fc.bias", 4 * d),
        matrix("mlp.proj.weight", d, 4 * d, ends_branch=True),
        bias("mlp.proj.bias", d),
    )


def _kept_bytes(shape: GPT2Shape, value_bytes: int) -> KeptBytes:
    d, h, e = shape.width, shape.heads, value_bytes
    return KeptBytes(
        keep=(8 + 14 * e) * d + 4 * h + 16,
        selective=(4 + 9 * e) * d + 4 * h,
        recompute=4 * d,
        in_mlp=4 * d * (2 if e == 2 else 8),  # in float32 twice its value, for the GELU of the trainer on a CPU
    )


FAMILY = Family(
    name="gpt2",
    field=None,
    check=_check,
    outer_tensors=_outer_tensors,
    block_tensors=_block_tensors,
    kept_bytes=_kept_bytes,
    example=None,
)
