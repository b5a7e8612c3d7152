"""The torch parts of architecture families: of the family NAME, what the module NAME of this package says."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from latebloom.theory.architectures.shape import FAMILIES, GPT2Shape
from latebloom.train.model.family import Modules

__all__ = ["MODULES", "modules_of"]

MODULES: Final[dict[str, Modules]] = {name: import_module(f"latebloom.train.model.{name}").MODULES for name in FAMILIES}


def modules_of(shape: GPT2Shape) -> Modules:
    """The torch part of the family of ``shape``.

    Args:
        shape: Of a model.
    """
    return MODULES[shape.family.name]
