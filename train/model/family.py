"""The torch part of an architecture family: its modules, and how Hugging Face names and configures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape

__all__ = ["HuggingFace", "Modules", "Required"]


class Required(NamedTuple):
    """What a configuration may say for its logits to be ours.

    Attributes:
        accepted: Values.
        ours: What ours does, in words.
    """

    accepted: tuple[Any, ...]
    ours: str


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """How Hugging Face keeps a model of the family.

    Attributes:
        outer: Their name of each tensor outside blocks, by ours.
        blocks: Path of their blocks.
        inner: Their name of each module inside a block, by ours.
        transposed: Whether matrices inside blocks are stored transposed there.
        required: By each of their model types that is of this family, what its configuration may say.
        config: The family's part of config.json for a shape and a depth.
        todays_names: Tensors of a checkpoint by today's names.
    """

    outer: Mapping[str, str]
    blocks: str
    inner: Mapping[str, str]
    transposed: bool
    required: Mapping[str, Mapping[str, Required]]
    config: Callable[[GPT2Shape, int], dict[str, Any]]
    todays_names: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def name_of(self, name: str) -> str:
        """Their name of a tensor.

        Args:
            name: Ours.
        """
        if name in self.outer:
            return self.outer[name]
        _, index, rest = name.split(".", 2)
        module, _, role = rest.rpartition(".")
        return f"{self.blocks}.{index}.{self.inner[module]}.{role}"


@dataclass(frozen=True, kw_only=True)
class Modules:
    """What the skeleton :class:`latebloom.train.model.transformer.GPT2` is filled with, each made for a shape.

    The tensors of these modules are those that the family states without torch
    (:mod:`latebloom.theory.architectures.family`), name by name.

    Attributes:
        attention: One tensor in, one out.
        mlp: One tensor in, one out.
        norm: Before each branch and after the last block.
        hugging_face: Names and configuration there.
    """

    attention: Callable[[GPT2Shape], nn.Module]
    mlp: Callable[[GPT2Shape], nn.Module]
    norm: Callable[[GPT2Shape], nn.Module]
    hugging_face: HuggingFace
