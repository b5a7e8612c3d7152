"""Growing a model in depth: which blocks are added, where, how they begin, and what the optimizer remembers of them.

Works on any model that keeps identical blocks in an ``nn.ModuleList``; what each initialisation, order and optimizer
state means stands in :mod:`latebloom.theory.expansion`. Old blocks keep their weights; ``placement`` says where they
stand afterwards, and by it the optimizer's state follows them, by name.

:mod:`latebloom.train.experiments.growth_table` measures the initialisations, and how much of a feature each learns. The
paper (arXiv 2511.04981) does not say which tensors its 'zero' operators zero. Here ``zero_last`` zeroes weight and bias
of the last linear map of each residual branch, found by its name (:data:`LAST_LINEAR`); ``zero_norm`` every vector of
the block (gains and biases: with the gains alone, biases would still reach the stream), but not the gains of queries
and keys, which would leave a saddle. Whether such a block keeps the function is tried on noise before anything changes:
in a post-norm model, or if a branch ends in a name that is not known here, it does not, and growth is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import (
    INITS,
    STATE_POLICIES,
    Init,
    Order,
    StatePolicy,
    Weights,
    Zeroed,
    check_init,
    placement,
    sources,
)
from latebloom.theory.plan import Stage
from latebloom.train.growth.foreign import check_growable, check_keeps, copy_block, find_blocks, own_init, renumber
from latebloom.train.growth.optimizer_state import extend_optimizer
from latebloom.train.model.tensors import describe, is_vector, matrices_of

__all__ = ["find_blocks", "grow", "grow_blocks"]

# Names, or ends of dotted names, of the maps that end a residual branch: GPT-2, Llama, timm, torch, NeoX, BERT, ours.
LAST_LINEAR = (
    "proj", "c_proj", "o_proj", "down_proj", "out_proj", "fc_out", "wo", "w2", "fc2", "linear2", "attention.dense",
    "dense_4h_to_h", "output.dense",
)  # fmt: skip
KEPT_GAINS = ("q_norm.weight", "k_norm.weight")


def grow(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    depth: int,
    init: Init = "random",
    order: Order = "stack",
    optimizer_state: StatePolicy = "keep",
    blocks: str | None = None,
    init_block: Callable[[nn.Module, int], None] | None = None,
    make_block: Callable[[], nn.Module] | None = None,
    last_linear: tuple[str, ...] = LAST_LINEAR,
) -> dict[str, str]:
    """Grow anyone's ``model`` in place, and its ``optimizer`` with it.

    New parameters join the group of the parameter of the same name in the block that they continue, so that learning
    rates, decay and schedulers hold for them; old parameters stay the same objects and keep their state. Numbers and
    counts of layers that the model keeps (``layer_idx``, ``config.n_layer``) follow.

    Args:
        model: Any module with a ``ModuleList`` or ``Sequential`` of like blocks, not wrapped for several devices. If
            blocks were compiled one by one, compile the new ones afterwards.
        optimizer: Any torch optimizer over its parameters.
        depth: Blocks afterwards.
        init: How new blocks begin; with ``init_block`` given, ``random`` means that. ``copy_zero_norm`` never trains an
            MLP that multiplies two maps of its norm (SwiGLU): in models of this trainer it is refused, of others it is
            not known.
        order: Where they come from and stand.
        optimizer_state: ``keep``, ``keep_copied`` or ``reset``.
        blocks: Attribute path of the list of blocks; the only one there is by default.
        init_block: Initialises a fresh block at an index, in place; by default ``make_block`` if given, else each
            module's ``reset_parameters``, and then the model's ``_init_weights`` on each.
        make_block: Makes a block: needed if the model has none to take the form of, or if blocks have parameters that
            neither of those two initialises.
        last_linear: Names, or ends of dotted names, of the maps or parameters that end a residual branch.

    Returns:
        New name of every parameter that was there before, by its old name.

    Raises:
        InputError: before anything has changed, if there is not one list of blocks, it is as deep already, has nothing
            to copy, blocks are unlike or share parameters, nobody initialises a parameter, ``last_linear`` names none,
            or ``init`` would not keep this model's function although it should.
    """
    stage = Stage(start_step=1, depth=depth, init=init, order=order, optimizer_state=optimizer_state)
    if STATE_POLICIES[optimizer_state].new == "warmed":
        rule = "needs batches, which only the loop has"
        raise InputError("optimizer_state", optimizer_state, rule, "use keep_copied")
    path = blocks or find_blocks(model)
    modules = check_growable(model, path)
    old = len(modules)
    if STATE_POLICIES[optimizer_state].new == "copied" and old == 0:
        raise InputError("optimizer_state", optimizer_state, "has no block to copy from", "use keep")
    like = next(model.parameters())
    renamed = grow_blocks(
        model, stage, init_block=init_block or own_init(model, path, make_block), blocks=path, last_linear=last_linear,
        make_block=make_block and (lambda: make_block().to(like.device, like.dtype)),
    )  # fmt: skip
    renumber(model, path, modules, sources(order, old, depth) if old else [0] * depth, old)
    if optimizer is not None:
        extend_optimizer(optimizer, model, renamed, stage, old, blocks=path)
    return renamed


@torch.no_grad()
def grow_blocks(
    model: nn.Module,
    stage: Stage,
    *,
    init_block: Callable[[nn.Module, int], None],
    make_block: Callable[[], nn.Module] | None = None,
    blocks: str = "blocks",
    last_linear: tuple[str, ...] = LAST_LINEAR,
) -> dict[str, str]:
    """Grow ``model`` in place to ``stage.depth`` blocks; the optimizer is the caller's affair.

    Args:
        model: With a list of blocks at ``blocks``.
        stage: Depth, initialisation and order.
        init_block: Initialises a fresh block at an index, in place.
        make_block: Makes a block; needed if the model has none.
        blocks: Attribute path of the blocks.
        last_linear: Names, or ends of dotted names, of the maps or parameters that end a residual branch.

    Returns:
        New name of every parameter that was there before, by its old name.

    Raises:
        InputError: before anything has changed, as :func:`grow`.
    """
    modules = model.get_submodule(blocks)
    assert isinstance(modules, nn.ModuleList | nn.Sequential)
    old, new = len(modules), stage.depth
    if new <= old:
        raise InputError("depth", new, f"is not deeper than the model's {old} blocks", "grow to more blocks")
    rule = INITS[stage.init]
    if isinstance(shape := getattr(model, "shape", None), GPT2Shape):
        check_init(stage.init, shape.family)
    if old == 0 and rule.copies:
        raise InputError("init", stage.init, "cannot copy from a model without blocks", "use 'random' or 'zero_last'")
    if old == 0 and make_block is None:
        raise InputError("make_block", None, "is needed to grow a model without blocks", "give a block's constructor")
    described = describe(model)
    places = placement(stage.order, old, new)
    continued = sources(stage.order, old, new) if old else [0] * new
    grown, first = [], min(set(range(new)) - set(places))
    for j in range(new):
        if j in places:
            grown.append(modules[places.index(j)])
            continue
        block = copy_block(modules[continued[j]]) if old else make_block()  # type: ignore[misc]
        place = f"{blocks}.{j}."
        names = [name for name, _ in block.named_parameters()]
        vectors = {n for n in names if is_vector(described, place + n, block.get_parameter(n))}
        _begin(block, j, rule.weights, init_block)
        if rule.weights == "identity":
            for name in names:
                if name not in vectors:
                    tensor = block.get_parameter(name)
                    for matrix in matrices_of(tensor, described(place + name, tensor).matrices):
                        _tile_identity_(matrix)
        zeroed = [
            name
            for name in names
            if rule.weights == "zero" or _is_zeroed(name, name in vectors, rule.zeroed, last_linear)
        ]
        for name in zeroed:
            block.get_parameter(name).zero_()
        if j == first and rule.keeps_function:
            if not zeroed:
                unnamed = f"name none of {', '.join(n for n in names if n not in vectors)}"
                raise InputError("last_linear", list(last_linear), unnamed, "name the last map of each residual branch")
            check_keeps(block, stage.init, zeroed)
        block.zero_grad(set_to_none=True)
        grown.append(block)
    before = {id(p): name for name, p in model.named_parameters()}
    del modules[:]
    modules.extend(grown)
    return {before[id(p)]: name for name, p in model.named_parameters() if id(p) in before}


def _begin(block: nn.Module, index: int, weights: Weights, init_block: Callable[[nn.Module, int], None]) -> None:
    """Give ``block``, a copy of the one that it continues, the weights to begin with."""
    match weights:
        case "copied" | "zero":
            pass
        case "fresh" | "identity":  # whose matrices are then overwritten
            init_block(block, index)
        case _:
            assert_never(weights)


def _is_zeroed(name: str, vector: bool, zeroed: Zeroed, last_linear: tuple[str, ...]) -> bool:
    match zeroed:
        case "nothing":
            return False
        case "norms":
            return vector and not name.endswith(KEPT_GAINS)
        case "last_maps":
            module = name.removesuffix(".weight").removesuffix(".bias")
            return any(f".{n}".endswith(f".{end}") for n in (name, module) for end in last_linear)
        case _:
            assert_never(zeroed)


def _tile_identity_(matrix: Tensor) -> None:
    """Identity matrices side by side or on top of each other until ``matrix`` is full."""
    rows, columns = matrix.shape
    small = min(rows, columns)
    places = torch.arange(max(rows, columns), device=matrix.device)
    matrix.zero_()
    matrix[(places, places % small) if rows >= columns else (places % small, places)] = 1.0
