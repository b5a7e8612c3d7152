"""An architecture family without torch: its tensors, and the bytes that its blocks hold in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from latebloom.theory.architectures.tensors import TensorSpec
from latebloom.theory.spec import Spec

if TYPE_CHECKING:
    from latebloom.theory.architectures.shape import GPT2Shape

__all__ = ["Family", "KeptBytes", "Size"]

Size = Annotated[int, Meta(ge=1, le=10**7)]  # a width, a number of heads, a vocabulary


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """Bytes of one token that a block holds for its backward pass.

    Attributes:
        keep: Under ``--activations keep``.
        selective: Under ``--activations selective``.
        recompute: Under ``--activations recompute``.
        in_mlp: Gradients inside the MLP, while the backward pass is there.
    """

    keep: int
    selective: int
    recompute: int
    in_mlp: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """What all models of a family have in common, as functions of a shape.

    Attributes:
        name: As in the registries of theory and trainer.
        field: The field of :class:`latebloom.theory.architectures.shape.GPT2Shape` that holds the family's settings;
            None: it has none.
        check: Refuses settings that do not fit the shape (InputError).
        outer_tensors: Tensors outside blocks, by their names in the model.
        block_tensors: Tensors of one block, by their names in it.
        kept_bytes: What a block holds in training; the second argument is the number of bytes of a value in matrix
            products, 4 or under bfloat16 2.
        example: Settings of a small model of width 32 with 4 heads, on which the trainer's part is tried; None: none.
        gated: Whether its MLP multiplies two linear maps of one norm, without biases (SwiGLU).
    """

    name: str
    field: str | None
    check: Callable[[GPT2Shape], None]
    outer_tensors: Callable[[GPT2Shape], tuple[TensorSpec, ...]]
    block_tensors: Callable[[GPT2Shape], tuple[TensorSpec, ...]]
    kept_bytes: Callable[[GPT2Shape, int], KeptBytes]
    example: Spec | None
    gated: bool = False
