"""The shape of a model without its depth, and the registry of architecture families.

A family is a row of :data:`FAMILIES` and, where it has settings, a field of :class:`GPT2Shape`; its torch part is the
module of its name in ``latebloom.train.model``.
"""

from __future__ import annotations

import functools
from typing import Annotated, Final

from msgspec import Meta

from latebloom.theory.architectures import gpt2, llama
from latebloom.theory.architectures.family import Family, Size
from latebloom.theory.architectures.llama import BlockVariant
from latebloom.theory.architectures.tensors import TensorSpec
from latebloom.theory.errors import InputError
from latebloom.theory.spec import Spec

__all__ = ["FAMILIES", "BlockVariant", "GPT2Shape", "block_tensors", "outer_tensors", "tensor_of"]

FAMILIES: Final[dict[str, Family]] = {family.name: family for family in (gpt2.FAMILY, llama.FAMILY)}


class GPT2Shape(Spec, frozen=True, kw_only=True, omit_defaults=True):
    """A GPT-2 without its depth, which belongs to the stages; with ``block`` the same skeleton around other blocks.

    A field that came later is absent from JSON where it has its default, so that plans from before keep their digests.

    Attributes:
        name: For people.
        width: Of the residual stream.
        heads: Of each attention.
        vocab_size: Rows of the token table and of the head.
        context: Tokens of a sequence.
        tied_head: Whether the token table is the head as well; untied, V d parameters more for the same FLOPs.
        block: Settings of the family ``llama``; None: another family.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    width: Size
    heads: Size
    vocab_size: Size
    context: Size
    tied_head: bool = True
    block: BlockVariant | None = None

    def check(self) -> None:
        given = [family.field for family in FAMILIES.values() if family.field and getattr(self, family.field)]
        if len(given) > 1:
            raise InputError("model", given, "are settings of different families", f"give {given[0]} alone")
        self.family.check(self)
        if self.width % self.heads:
            rule = f"does not divide the width {self.width}"
            raise InputError("heads", self.heads, rule, "choose a divisor of the width")

    @property
    def family(self) -> Family:
        """The family whose settings are given; GPT-2 where none are."""
        given = [family for family in FAMILIES.values() if family.field and getattr(self, family.field) is not None]
        return given[0] if given else FAMILIES["gpt2"]


@functools.lru_cache(maxsize=64)
def outer_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    """Every tensor outside blocks, by its name in the model.

    Args:
        shape: Of the model.
    """
    return shape.family.outer_tensors(shape)


@functools.lru_cache(maxsize=64)
def block_tensors(shape: GPT2Shape) -> tuple[TensorSpec, ...]:
    """Every tensor of one block, by its name in the block.

    Args:
        shape: Of the model.
    """
    return shape.family.block_tensors(shape)


def tensor_of(shape: GPT2Shape, name: str) -> TensorSpec:
    """What the family says of one tensor.

    Args:
        shape: Of the model.
        name: In the model, such as ``blocks.3.mlp.fc.weight``.

    Raises:
        InputError: if the family does not state it; its kind is never guessed.
    """
    stated = _by_name(shape)
    parts = name.split(".", 2)
    own = f"blocks.{parts[2]}" if parts[0] == "blocks" and len(parts) == 3 else name
    if own not in stated:
        rule = f"is a tensor that the family {shape.family.name} does not state: its kind is not known"
        raise InputError("parameter", name, rule, "state it in the family's tensors")
    return stated[own]


@functools.lru_cache(maxsize=64)
def _by_name(shape: GPT2Shape) -> dict[str, TensorSpec]:
    outer = {tensor.name: tensor for tensor in outer_tensors(shape)}
    return outer | {f"blocks.{tensor.name}": tensor for tensor in block_tensors(shape)}
