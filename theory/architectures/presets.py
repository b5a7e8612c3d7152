"""Presets: GPT-2 shapes and their usual depths, with the vocabulary padded to 50304 as in nanoGPT; LLAMA3-like ones."""

from __future__ import annotations

from collections.abc import Callable

from latebloom.theory.architectures.shape import BlockVariant, GPT2Shape
from latebloom.theory.errors import InputError, nearest

__all__ = ["PRESETS", "gpt2_124m", "llama3_1b", "preset"]


def _gpt2(name: str, width: int, heads: int) -> GPT2Shape:
    return GPT2Shape(name=name, width=width, heads=heads, vocab_size=50304, context=1024)


def gpt2_124m() -> GPT2Shape:
    """12 blocks of width 768."""
    return _gpt2("gpt2-124m", 768, 12)


def gpt2_350m() -> GPT2Shape:
    """24 blocks of width 1024."""
    return _gpt2("gpt2-350m", 1024, 16)


def gpt2_774m() -> GPT2Shape:
    """36 blocks of width 1280."""
    return _gpt2("gpt2-774m", 1280, 20)


def gpt2_1_5b() -> GPT2Shape:
    """48 blocks of width 1600."""
    return _gpt2("gpt2-1.5b", 1600, 25)


def gpt2_7b() -> GPT2Shape:
    """60 blocks of width 3072: 6.955 B parameters (arXiv 2511.04981)."""
    return _gpt2("gpt2-7b", 3072, 24)


def gpt2_65b() -> GPT2Shape:
    """80 blocks of width 8192: 64.9 B parameters, for plans on hundreds of devices."""
    return _gpt2("gpt2-65b", 8192, 64).replace(context=4096)


def gpt2_tiny() -> GPT2Shape:
    """The embedded default of the demo: a few minutes on a laptop."""
    return GPT2Shape(name="gpt2-tiny", width=96, heads=4, vocab_size=4096, context=64)


def llama3_1b() -> GPT2Shape:
    """LLAMA3's smallest shape, 16 blocks of width 2048 with a tied head, and a context to train with."""
    block = BlockVariant(kv_heads=8, hidden=8192, rope_theta=500_000.0, norm_eps=1e-5)
    return GPT2Shape(name="llama3-1b", width=2048, heads=32, vocab_size=128_256, context=4096, block=block)


def llama3_tiny() -> GPT2Shape:
    """:func:`gpt2_tiny` with LLAMA3's blocks, of nearly the same size."""
    block = BlockVariant(kv_heads=2, hidden=256, rope_theta=10_000.0, norm_eps=1e-5)
    return GPT2Shape(name="llama3-tiny", width=96, heads=4, vocab_size=2048, context=256, block=block)


PRESETS: dict[str, tuple[Callable[[], GPT2Shape], int]] = {
    "gpt2-tiny": (gpt2_tiny, 4),
    "gpt2-124m": (gpt2_124m, 12),
    "gpt2-350m": (gpt2_350m, 24),
    "gpt2-774m": (gpt2_774m, 36),
    "gpt2-1.5b": (gpt2_1_5b, 48),
    "gpt2-7b": (gpt2_7b, 60),
    "gpt2-65b": (gpt2_65b, 80),
    "llama3-tiny": (llama3_tiny, 4),
    "llama3-1b": (llama3_1b, 16),
}


def preset(name: str) -> tuple[GPT2Shape, int]:
    """Shape and usual depth of a named model.

    Args:
        name: One of :data:`PRESETS`.

    Raises:
        InputError: with the nearest known name.
    """
    if name not in PRESETS:
        raise InputError("model", name, "is not a known preset", nearest(name, PRESETS))
    make, depth = PRESETS[name]
    return make(), depth
