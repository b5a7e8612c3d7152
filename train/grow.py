"""Growing a model in depth: which blocks are added, where, and how they begin.

Works on any model that keeps identical blocks in an ``nn.ModuleList``. Old blocks keep their weights; ``placement``
says where they stand afterwards, and by it the optimizer's state follows them, by name.

    order   new block j of L comes from old block   old block i stands at   example, l = 2 -> L = 6
    stack   j mod l                                 i                       a b a b a b
    inter   floor(j l / L)                          ceil(i L / l)           a a a b b b
    last    min(j, l - 1)                           i                       a b b b b b

    init             keeps the function   gradient reaches the new block's matrices
    random           no                   yes
    copy             no                   yes
    zero             yes                  no (only the last biases move)
    zero_last        yes                  yes, its last matrices first
    copy_zero_last   yes                  yes, its last matrices first

The paper (arXiv 2511.04981) does not say which tensors its 'zero' operators zero; here ``zero_last`` zeroes weight and
bias of the last linear map of each residual branch, those whose names end in ``proj``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from theory.errors import InputError
from theory.plan import Stage

__all__ = ["grow", "placement", "source"]


def source(order: str, old: int, new: int) -> list[int]:
    """For each of ``new`` blocks, the old block that it continues or copies."""
    if order == "stack":
        return [j % old for j in range(new)]
    if order == "inter":
        return [j * old // new for j in range(new)]
    if order == "last":
        return [min(j, old - 1) for j in range(new)]
    raise InputError("order", order, "is unknown", "valid: stack, inter, last")


def placement(order: str, old: int, new: int) -> list[int]:
    """Where old block i stands among the ``new`` ones: the first place whose source it is."""
    if old == 0:
        return []
    sources = source(order, old, new)
    return [sources.index(i) for i in range(old)]


@torch.no_grad()
def grow(
    model: nn.Module,
    stage: Stage,
    *,
    init_block: Callable[[nn.Module, int], None],
    make_block: Callable[[], nn.Module] | None = None,
    blocks: str = "blocks",
    last_linear: tuple[str, ...] = ("proj.weight", "proj.bias"),
) -> dict[str, str]:
    """Grow ``model`` in place to ``stage.depth`` blocks.

    Args:
        model: Any module with a ``ModuleList`` of identical blocks.
        stage: Depth, init and order of the new blocks.
        init_block: Initialises a fresh block at an index, in place (for ``random`` and ``zero_last``).
        make_block: Makes a block when the model has none to take the form of.
        blocks: Attribute path of the ``ModuleList``.
        last_linear: Endings of the parameters that end a residual branch.

    Returns:
        New name of every parameter that was there before, by its old name.

    Raises:
        InputError: if the model is as deep already, or has nothing to copy.
    """
    modules = model.get_submodule(blocks)
    assert isinstance(modules, nn.ModuleList)
    old, new = len(modules), stage.depth
    if new <= old:
        raise InputError("depth", new, f"is not deeper than the model's {old} blocks", "grow to more blocks")
    if old == 0 and stage.init.startswith("copy"):
        raise InputError("init", stage.init, "cannot copy from a model without blocks", "use 'random' or 'zero_last'")
    if old == 0 and make_block is None:
        raise InputError("make_block", None, "is needed to grow a model without blocks", "give a block's constructor")
    places = placement(stage.order, old, new)
    sources = source(stage.order, old, new) if old else [0] * new
    grown = []
    for j in range(new):
        if j in places:
            grown.append(modules[places.index(j)])
            continue
        block = copy.deepcopy(modules[sources[j]]) if old else make_block()  # type: ignore[misc]
        if not stage.init.startswith("copy"):
            init_block(block, j)
        for name, parameter in block.named_parameters():
            if stage.init == "zero" or (stage.init.endswith("zero_last") and name.endswith(last_linear)):
                parameter.zero_()
        grown.append(block)
    before = {id(p): name for name, p in model.named_parameters()}
    del modules[:]
    modules.extend(grown)
    return {before[id(p)]: name for name, p in model.named_parameters() if id(p) in before}
