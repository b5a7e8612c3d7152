"""Registry of the torch parts of architecture families, under the names of their torch-free parts."""

from __future__ import annotations

from typing import Final

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.train.model import gpt2, llama
from latebloom.train.model.family import Modules

__all__ = ["MODULES", "modules_of"]

MODULES: Final[dict[str, Modules]] = {"gpt2": gpt2.MODULES, "llama": llama.MODULES}


def modules_of(shape: GPT2Shape) -> Modules:
    """The torch part of the family of ``shape``.

    Args:
        shape: Of a model.
    """
    return MODULES[shape.family.name]
