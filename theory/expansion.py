"""How a model is grown, as data: initialisations of new blocks, orders of blocks, optimizer state.

One row a way of growing. The plan's schema admits these names, the trainer and the simulator do what the rows say (or
refuse what they have no counterpart for), and the measured table
(:mod:`latebloom.train.experiments.growth_table`) is held against ``keeps_function`` and ``trainable``.

Initialisations:

    init             weights    then zeroed     keeps the function   gradient reaches the new block's matrices
    random           fresh      nothing         no                   yes
    copy             copied     nothing         no                   yes
    zero             zero       nothing         yes                  no (only the last biases move)
    zero_last        fresh      last maps       yes                  yes, its last matrices first
    copy_zero_last   copied     last maps       yes                  yes, its last matrices first
    copy_zero_norm   copied     norms, biases   yes                  after its norms have moved; in SwiGLU refused
    identity         identity   last maps       yes                  yes, its last matrices first

A SwiGLU without biases whose norm is zero is a product of two zeros: neither factor ever has a gradient, and
:func:`check_init` refuses it.

Orders, with l old blocks and L in all:

    order   new block j comes from old block   old block i stands at   example, l = 2 -> L = 6   new blocks
    stack   j mod l                            i                       a b a b a b               on top
    inter   floor(j l / L)                     ceil(i L / l)           a a a b b b               interleaved
    last    min(j, l - 1)                      i                       a b b b b b               on top
    first   max(j - L + l, 0)                  i + L - l               a a a a a b               at the bottom
    middle  max(min(j, m), j - L + l),         i up to m, then         a a a a a b               after the middle one
            m = floor((l - 1)/2)               i + L - l               (l = 3: a b b b b c)

Optimizer state:

    policy        old blocks, embedding, head   new blocks
    keep          kept                          none
    keep_copied   kept                          a copy of that of the block that they continue
    keep_warmed   kept                          warmed by gradients alone, at the weights of the expansion
    reset         none                          none
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from latebloom.theory import checks
from latebloom.theory.architectures.family import Family
from latebloom.theory.errors import InputError

__all__ = [
    "BEGINS_AS",
    "INITS",
    "ORDERS",
    "STATE_POLICIES",
    "BlockOrder",
    "Init",
    "Initialisation",
    "Order",
    "StatePolicy",
    "StateRule",
    "Weights",
    "Zeroed",
    "check_init",
    "placement",
    "sources",
]

Init = Literal["random", "copy", "zero", "zero_last", "copy_zero_last", "copy_zero_norm", "identity"]
Order = Literal["stack", "inter", "last", "first", "middle"]
StatePolicy = Literal["keep", "keep_copied", "keep_warmed", "reset"]

Weights = Literal["fresh", "copied", "zero", "identity"]
Zeroed = Literal["nothing", "last_maps", "norms"]

# What each kind of weights is made from: a block as in a fresh model, a copy of the one that it continues, or nothing
BEGINS_AS: Final[dict[Weights, Literal["fresh", "copied", "nothing"]]] = {
    "fresh": "fresh",
    "copied": "copied",
    "zero": "nothing",
    "identity": "fresh",
}


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """How a new block begins.

    Attributes:
        label: For people.
        weights: ``fresh`` as in a fresh model, ``copied`` from the block that it continues, ``zero``, or ``identity``:
            fresh, then every matrix a tiling of identity matrices.
        zeroed: What is then set to zero: ``nothing``, the ``last_maps`` (the last linear map of each residual branch),
            or the ``norms`` (every gain and bias).
        keeps_function: The grown model computes what the model before it computed.
        trainable: Every matrix of a new block of GPT-2 has a gradient by the second update.
        trainable_gated: The same of a block whose MLP is a product of two maps of one norm (SwiGLU).
    """

    label: str
    weights: Weights
    zeroed: Zeroed
    keeps_function: bool
    trainable: bool = True
    trainable_gated: bool = True

    @property
    def copies(self) -> bool:
        """Whether it needs old blocks to copy from."""
        return BEGINS_AS[self.weights] == "copied"

    @property
    def fresh(self) -> bool:
        """Whether a new block is initialised anew, whichever block it continues."""
        return BEGINS_AS[self.weights] == "fresh"


INITS: Final[dict[Init, Initialisation]] = {
    "random": Initialisation(label="random", weights="fresh", zeroed="nothing", keeps_function=False),
    "copy": Initialisation(label="copied", weights="copied", zeroed="nothing", keeps_function=False),
    "zero": Initialisation(
        label="zero", weights="zero", zeroed="nothing", keeps_function=True, trainable=False, trainable_gated=False
    ),
    "zero_last": Initialisation(label="random, last zeroed", weights="fresh", zeroed="last_maps", keeps_function=True),
    "copy_zero_last": Initialisation(
        label="copied, last zeroed", weights="copied", zeroed="last_maps", keeps_function=True
    ),
    "copy_zero_norm": Initialisation(
        label="copied, norms zeroed", weights="copied", zeroed="norms", keeps_function=True, trainable_gated=False
    ),
    "identity": Initialisation(
        label="identity, last zeroed", weights="identity", zeroed="last_maps", keeps_function=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class BlockOrder:
    """Where blocks come from and stand.

    Attributes:
        source: Old block that the new block at a place continues, called as ``source(place, old, new)``.
        old_block: Which of the places that continue an old block it takes itself, the ``first`` or the ``last``.
    """

    source: Callable[[int, int, int], int]
    old_block: Literal["first", "last"] = "first"


ORDERS: Final[dict[Order, BlockOrder]] = {
    "stack": BlockOrder(source=lambda place, old, new: place % old),
    "inter": BlockOrder(source=lambda place, old, new: place * old // new),
    "last": BlockOrder(source=lambda place, old, new: min(place, old - 1)),
    "first": BlockOrder(source=lambda place, old, new: max(place - new + old, 0), old_block="last"),
    "middle": BlockOrder(source=lambda place, old, new: max(min(place, (old - 1) // 2), place - new + old)),
}


@dataclass(frozen=True, kw_only=True)
class StateRule:
    """What the optimizer remembers after an expansion.

    Attributes:
        keeps_old: Old blocks, embedding and head keep their state.
        new: State of new blocks: ``none``, ``copied`` from the block that they continue, or ``warmed`` by gradients.
    """

    keeps_old: bool
    new: Literal["none", "copied", "warmed"]


STATE_POLICIES: Final[dict[StatePolicy, StateRule]] = {
    "keep": StateRule(keeps_old=True, new="none"),
    "keep_copied": StateRule(keeps_old=True, new="copied"),
    "keep_warmed": StateRule(keeps_old=True, new="warmed"),
    "reset": StateRule(keeps_old=False, new="none"),
}


def check_init(init: Init, family: Family) -> None:
    """Refuse an initialisation that promises to train and in this family never would.

    Args:
        init: One of :data:`INITS`.
        family: Of the model that grows.

    Raises:
        InputError: if new blocks of the family would have matrices without a gradient for ever.
    """
    rule = INITS[init]
    if family.gated and rule.trainable and not rule.trainable_gated:
        why = f"leaves the new MLPs of the family {family.name} without a gradient: both factors of a product are zero"
        raise InputError("init", init, why, "use copy_zero_last")


def sources(order: Order, old: int, new: int) -> list[int]:
    """For each of ``new`` blocks, the old block that it is or continues.

    >>> sources("inter", 2, 6)
    [0, 0, 0, 1, 1, 1]

    Args:
        order: One of :data:`ORDERS`.
        old: Number of blocks before, l >= 1.
        new: Number of blocks afterwards, L.

    Returns:
        Numbers of old blocks, L of them.

    Raises:
        InputError: if the order is unknown or a number of blocks is none.
    """
    rule = _order(order)
    checks.whole("old", old, 1, fix="give the number of blocks")
    checks.whole("new", new, 1, fix="give the number of blocks")
    return [rule.source(place, old, new) for place in range(new)]


def placement(order: Order, old: int, new: int) -> list[int]:
    """Where each old block stands among the ``new`` ones.

    >>> placement("inter", 2, 6), placement("first", 2, 6)
    ([0, 3], [4, 5])

    Args:
        order: One of :data:`ORDERS`.
        old: Number of blocks before, l >= 0.
        new: Number of blocks afterwards, L.

    Returns:
        Places, l of them, increasing.

    Raises:
        InputError: if the order is unknown, a number of blocks is none, or there are fewer blocks afterwards.
    """
    rule = _order(order)
    checks.whole("old", old, 0, fix="give the number of blocks")
    checks.whole("new", new, max(old, 1), fix="give the number of blocks")
    if old == 0:
        return []
    continued = sources(order, old, new)
    if rule.old_block == "last":
        return [new - 1 - continued[::-1].index(block) for block in range(old)]
    return [continued.index(block) for block in range(old)]


def _order(order: Order) -> BlockOrder:
    if order not in ORDERS:
        raise InputError("order", order, "is unknown", f"valid: {', '.join(ORDERS)}")
    return ORDERS[order]
