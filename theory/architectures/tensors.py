"""What a tensor of a model is, said once: from its kind follow update rule, decay, initialisation and transfer.

kind           parameters
embedding      position table; token table where the head is not tied to it
head           the head; tied, it is the token table as well: one matrix cannot obey two rows, it takes the head's
hidden         matrices in blocks, alone, side by side (query, key and value) or stacked (experts)
vector         gains and biases in blocks
final_vector   gain and bias after the last block
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from latebloom.theory import checks

__all__ = ["KINDS", "MATRIX_KINDS", "Kind", "TensorSpec", "bias", "gain", "matrix", "token_matrices"]

Kind = Literal["embedding", "hidden", "vector", "final_vector", "head"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MATRIX_KINDS: frozenset[Kind] = frozenset({"embedding", "hidden", "head"})  # those under weight decay


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor of a model.

    Attributes:
        name: In the model, or within its block (``attention.qkv.weight``).
        shape: Lengths of its axes; the last two are rows and columns of a matrix.
        kind: See above.
        matrices: Number of matrices of one shape that it holds, along its first axis: side by side (3 d, d) or stacked
            (experts, rows, columns).
        used: How many of them a token passes through; None: all.
        ends_branch: Whether it is the last matrix of a residual branch.
        initial: Value that it is filled with; None: random.
        transposed: Whether it is stored as (columns, rows), as in Hugging Face's Conv1D; several along its second axis.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    matrices: int = 1
    used: int | None = None
    ends_branch: bool = False
    initial: float | None = None
    transposed: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def active_size(self) -> int:
        """Number of values that a token passes through."""
        return self.size if self.used is None else self.size // self.matrices * self.used


def matrix(
    name: str,
    *shape: int,
    kind: Kind = "hidden",
    matrices: int = 1,
    used: int | None = None,
    ends_branch: bool = False,
) -> TensorSpec:
    """A matrix or several, initialised at random.

    Args:
        name: See :class:`TensorSpec`.
        shape: See :class:`TensorSpec`.
        kind: See :class:`TensorSpec`.
        matrices: See :class:`TensorSpec`.
        used: See :class:`TensorSpec`.
        ends_branch: See :class:`TensorSpec`.
    """
    return TensorSpec(name=name, shape=shape, kind=kind, matrices=matrices, used=used, ends_branch=ends_branch)


def token_matrices(vocab_size: int, width: int, *, tied: bool) -> tuple[TensorSpec, ...]:
    """Token table and head: one matrix if they are tied, else two.

    Args:
        vocab_size: Rows V.
        width: Columns d.
        tied: Whether the table is the head as well.
    """
    checks.whole("vocab_size", vocab_size, 1)
    checks.whole("width", width, 1)
    if tied:
        return (matrix("tokens.weight", vocab_size, width, kind="head"),)
    table = matrix("tokens.weight", vocab_size, width, kind="embedding")
    return (table, matrix("head.weight", vocab_size, width, kind="head"))


def gain(name: str, size: int, *, kind: Kind = "vector") -> TensorSpec:
    """The gain of a norm, at first 1.

    Args:
        name: See :class:`TensorSpec`.
        size: Number of values.
        kind: ``vector`` or ``final_vector``.
    """
    checks.whole("size", size, 1)
    return TensorSpec(name=name, shape=(size,), kind=kind, initial=1.0)


def bias(name: str, size: int, *, kind: Kind = "vector") -> TensorSpec:
    """A bias, at first 0.

    Args:
        name: See :class:`TensorSpec`.
        size: Number of values.
        kind: ``vector`` or ``final_vector``.
    """
    checks.whole("size", size, 1)
    return TensorSpec(name=name, shape=(size,), kind=kind, initial=0.0)
