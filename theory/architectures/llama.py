"""LLAMA3 and Qwen3: RMSNorm before each branch, rotary positions, grouped queries, SwiGLU, no biases.

The bytes that a block keeps are those of the CPU, whose RMSNorm saves its result too; a fused one saves 4 d less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latebloom.theory.architectures.family import Family, KeptBytes, Size
from latebloom.theory.architectures.tensors import TensorSpec, gain, matrix, token_matrices
from latebloom.theory.errors import InputError
from latebloom.theory.spec import Positive, Spec

if TYPE_CHECKING:
    from latebloom.theory.architectures.shape import GPT2Shape

__all__ = ["FAMILY", "BlockVariant"]


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


def _check(shape: GPT2Shape) -> None:
    block = _block(shape)
    if shape.heads % block.kv_heads:
        rule = f"does not divide the {shape.heads} heads"
        raise InputError("block.kv_heads", block.kv_heads, rule, "choose a divisor of the heads")
    if shape.width % shape.heads == 0 and shape.width // shape.heads % 2:
        rule = f"gives heads of odd size {shape.width // shape.heads}, which cannot be rotated"
        raise InputError("heads", shape.heads, rule, "choose heads of even size")


def _block(shape: GPT2Shape) -> BlockVariant:
    assert shape.block is not None, "the shape of another family"
    return shape.block


def _outer_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    d = shape.width
    tokens = token_matrices(shape.vocab_size, d, tied=shape.tied_head)
    return (*tokens, gain("norm.weight", d, kind="final_vector"))


def _block_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    d, head_size, block = shape.width, shape.width // shape.heads, _block(shape)
    kv_width = head_size * block.kv_heads
    head_norms = (gain("attention.q_norm.weight", head_size), gain("attention.k_norm.weight", head_size))
    return (
        gain("norm1.weight", d),
        matrix("attention.q.weight", d, d),
        matrix("attention.k.weight", kv_width, d),
        matrix("attention.v.weight", kv_width, d),
        matrix("attention.proj.weight", d, d, ends_branch=True),
        *(head_norms if block.qk_norm else ()),
        gain("norm2.weight", d),
        matrix("mlp.gate.weight", block.hidden, d),
        matrix("mlp.up.weight", block.hidden, d),
        matrix("mlp.proj.weight", d, block.hidden, ends_branch=True),
    )


def _kept_bytes(shape: GPT2Shape, value_bytes: int) -> KeptBytes:
    d, h, e, block = shape.width, shape.heads, value_bytes, _block(shape)
    kv_width, hidden = d // h * block.kv_heads, block.hidden
    copies = 5 if e == 2 else 2  # of normed streams: each product under autocast makes its own
    head_norms = 8 * (d + kv_width) + 4 * (h + block.kv_heads)
    return KeptBytes(
        keep=16 * d + e * ((copies + 3) * d + 2 * kv_width + 4 * hidden) + 4 * h + 8 + head_norms * block.qk_norm,
        # its input; q, k, v, attention, its projection, gate, up
        selective=4 * d + e * (3 * d + 2 * kv_width + 2 * hidden) + 4 * h,
        recompute=4 * d,
        in_mlp=e * hidden,
    )


FAMILY = Family(
    name="llama",
    field="block",
    check=_check,
    outer_tensors=_outer_tensors,
    block_tensors=_block_tensors,
    kept_bytes=_kept_bytes,
    example=BlockVariant(kv_heads=2, hidden=48),
    gated=True,
)
