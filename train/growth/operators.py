"""Growing a model in depth: which blocks are added, where, how they begin, and what the optimizer remembers of them.

Works on any model that keeps identical blocks in an ``nn.ModuleList``. Old blocks keep their weights; ``placement``
says where they stand afterwards, and by it the optimizer's state follows them, by name.

    order   new block j of L comes from old block   old block i stands at   example, l = 2 -> L = 6   new blocks
    stack   j mod l                                 i                       a b a b a b               on top
    inter   floor(j l / L)                          ceil(i L / l)           a a a b b b               interleaved
    last    min(j, l - 1)                           i                       a b b b b b               on top
    first   max(j - L + l, 0)                       i + L - l               a a a a a b               at the bottom

    init             keeps the function   gradient reaches the new block's matrices
    random           no                   yes
    copy             no                   yes
    zero             yes                  no (only the last biases move)
    zero_last        yes                  yes, its last matrices first
    copy_zero_last   yes                  yes, its last matrices first
    copy_zero_norm   yes                  after its norms have moved
    identity         yes                  yes, its last matrices first

:mod:`latebloom.train.experiments.growth_table` measures these, and how much of a feature each learns. The paper (arXiv
2511.04981) does not say which tensors its 'zero' operators zero. Here ``zero_last`` zeroes weight and bias of the last
linear map of each residual branch, found by its name (:data:`LAST_LINEAR`); ``zero_norm`` every vector of the block
(gains and biases: with the gains alone, biases would still reach the stream), but not the gains of queries and keys,
which would leave a saddle. Whether such a block keeps the function is tried on noise before anything changes: in a
post-norm model, or if a branch ends in a name that is not known here, it does not, and growth is refused.

``optimizer_state``: old parameters keep theirs (``keep``) or none does (``reset``); new ones start without, with a copy
of their source's (``keep_copied``), or with one warmed by gradients alone (``keep_warmed``, in the loop).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Init, Order, Stage, StatePolicy
from latebloom.train.growth.foreign import check_growable, check_keeps, copy_block, find_blocks, own_init, renumber
from latebloom.train.model.tensors import describe

__all__ = ["carried_state", "find_blocks", "grow", "grow_blocks", "placement", "source"]

# Names, or ends of dotted names, of the maps that end a residual branch: GPT-2, Llama, timm, torch, NeoX, BERT, ours.
LAST_LINEAR = (
    "proj", "c_proj", "o_proj", "down_proj", "out_proj", "fc_out", "wo", "w2", "fc2", "linear2", "attention.dense",
    "dense_4h_to_h", "output.dense",
)  # fmt: skip
KEPT_GAINS = ("q_norm.weight", "k_norm.weight")


def source(order: str, old: int, new: int) -> list[int]:
    """For each of ``new`` blocks, the old block that it continues or copies."""
    if order == "stack":
        return [j % old for j in range(new)]
    if order == "inter":
        return [j * old // new for j in range(new)]
    if order == "last":
        return [min(j, old - 1) for j in range(new)]
    if order == "first":
        return [max(j - new + old, 0) for j in range(new)]
    raise InputError("order", order, "is unknown", "valid: stack, inter, last, first")


def placement(order: str, old: int, new: int) -> list[int]:
    """Where old block i stands among the ``new`` ones: the first place whose source it is (``first``: the last)."""
    if old == 0:
        return []
    if order == "first":
        return [i + new - old for i in range(old)]
    sources = source(order, old, new)
    return [sources.index(i) for i in range(old)]


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
        init: How new blocks begin; with ``init_block`` given, ``random`` means that.
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
    if optimizer_state == "keep_warmed":
        rule = "needs batches, which only the loop has"
        raise InputError("optimizer_state", optimizer_state, rule, "use keep_copied")
    path = blocks or find_blocks(model)
    modules = check_growable(model, path)
    old = len(modules)
    if optimizer_state == "keep_copied" and old == 0:
        raise InputError("optimizer_state", optimizer_state, "has no block to copy from", "use keep")
    stage = Stage(start_step=1, depth=depth, init=init, order=order, optimizer_state=optimizer_state)
    like = next(model.parameters())
    renamed = grow_blocks(
        model, stage, init_block=init_block or own_init(model, path, make_block), blocks=path, last_linear=last_linear,
        make_block=make_block and (lambda: make_block().to(like.device, like.dtype)),
    )  # fmt: skip
    renumber(model, path, modules, source(order, old, depth) if old else [0] * depth, old)
    if optimizer is not None:
        _extend(optimizer, model, renamed, stage, old, path)
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

    Args and Raises as :func:`grow`. Returns the new name of every parameter that was there before, by its old name.
    """
    modules = model.get_submodule(blocks)
    assert isinstance(modules, nn.ModuleList | nn.Sequential)
    old, new = len(modules), stage.depth
    if new <= old:
        raise InputError("depth", new, f"is not deeper than the model's {old} blocks", "grow to more blocks")
    if old == 0 and stage.init.startswith("copy"):
        raise InputError("init", stage.init, "cannot copy from a model without blocks", "use 'random' or 'zero_last'")
    if old == 0 and make_block is None:
        raise InputError("make_block", None, "is needed to grow a model without blocks", "give a block's constructor")
    places = placement(stage.order, old, new)
    sources = source(stage.order, old, new) if old else [0] * new
    grown, first = [], min(set(range(new)) - set(places))
    for j in range(new):
        if j in places:
            grown.append(modules[places.index(j)])
            continue
        block = copy_block(modules[sources[j]]) if old else make_block()  # type: ignore[misc]
        if not stage.init.startswith("copy") and stage.init != "zero":
            init_block(block, j)
        zeroed = []
        for name, parameter in block.named_parameters():
            if stage.init == "identity" and parameter.ndim == 2:
                _tile_identity_(parameter)
            if _is_zeroed(name, parameter, stage.init, last_linear):
                parameter.zero_()
                zeroed.append(name)
        if j == first and stage.init not in ("random", "copy"):
            if not zeroed:
                rule = f"name none of {', '.join(n for n, p in block.named_parameters() if p.ndim > 1)}"
                raise InputError("last_linear", list(last_linear), rule, "name the last map of each residual branch")
            check_keeps(block, stage.init, zeroed)
        block.zero_grad(set_to_none=True)
        grown.append(block)
    before = {id(p): name for name, p in model.named_parameters()}
    del modules[:]
    modules.extend(grown)
    return {before[id(p)]: name for name, p in model.named_parameters() if id(p) in before}


def carried_state(
    held: dict[str, dict[str, Tensor]], renamed: dict[str, str], stage: Stage, old: int, *, blocks: str = "blocks"
) -> dict[str, dict[str, Tensor]]:
    """Optimizer state by name after growth, from ``held`` before it, as ``stage.optimizer_state`` says.

    Args:
        held: State by old name.
        renamed: New name by old name, as :func:`grow_blocks` returns.
        stage: The stage that was grown to.
        old: Blocks before.
        blocks: Attribute path of the blocks.
    """
    if stage.optimizer_state == "reset":
        return {}
    state = {new: held[name] for name, new in renamed.items() if name in held}
    if stage.optimizer_state == "keep_copied":
        for name, of in _sources_by_name(renamed, stage, old, blocks).items():
            state[name] = {key: value.clone() for key, value in held.get(of, {}).items()}
    return state


def _is_zeroed(name: str, parameter: Tensor, init: str, last_linear: tuple[str, ...]) -> bool:
    if init == "zero":
        return True
    if init == "copy_zero_norm":
        return parameter.ndim < 2 and not name.endswith(KEPT_GAINS)
    module = name.removesuffix(".weight").removesuffix(".bias")
    ends = any(f".{n}".endswith(f".{end}") for n in (name, module) for end in last_linear)
    return (init.endswith("zero_last") or init == "identity") and ends


def _tile_identity_(matrix: Tensor) -> None:
    """Identity matrices side by side or on top of each other until ``matrix`` is full."""
    rows, columns = matrix.shape
    small = min(rows, columns)
    places = torch.arange(max(rows, columns), device=matrix.device)
    matrix.zero_()
    matrix[(places, places % small) if rows >= columns else (places % small, places)] = 1.0


def _sources_by_name(renamed: dict[str, str], stage: Stage, old: int, blocks: str) -> dict[str, str]:
    """Old name of the parameter that each new parameter continues, by new name."""
    places, found = placement(stage.order, old, stage.depth), {}
    for j, i in enumerate(source(stage.order, old, stage.depth) if old else []):
        if j not in places:
            begins = f"{blocks}.{i}."
            found |= {f"{blocks}.{j}.{n[len(begins) :]}": n for n in renamed if n.startswith(begins)}
    return found


def _extend(
    optimizer: torch.optim.Optimizer, model: nn.Module, renamed: dict[str, str], stage: Stage, old: int, blocks: str
) -> None:
    """Give the new parameters their groups and states; old ones are the same objects as before."""
    if stage.optimizer_state == "reset":
        optimizer.state.clear()
    parameters = dict(model.named_parameters())
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    kin = {new: renamed[name] for new, name in _sources_by_name(renamed, stage, old, blocks).items()}
    for name, p in parameters.items():
        if id(p) in group_of:
            continue
        if name in renamed.values():
            continue  # was there, and not optimised: frozen by its owner
        like = parameters[kin[name]] if name in kin else _alike(p, optimizer, name)
        if id(like) not in group_of:
            p.requires_grad_(like.requires_grad)
            continue
        group = group_of[id(like)]
        if name not in kin and "kind" in group:
            group = _group_of_kind(optimizer, group, describe(model)(name, p).kind)
        group["params"].append(p)
        if "param_names" in group:
            group["param_names"].append(name)
        if stage.optimizer_state == "keep_copied" and like in optimizer.state:
            optimizer.state[p] = copy.deepcopy(optimizer.state[like])
    names = {id(p): name for name, p in parameters.items()}
    for group in optimizer.param_groups:
        if "param_names" in group:
            pairs = zip(group["params"], group["param_names"], strict=True)
            group["param_names"] = [names.get(id(p), name) for p, name in pairs]


def _group_of_kind(optimizer: torch.optim.Optimizer, like: dict[str, Any], kind: str) -> dict[str, Any]:
    """The group with the options of ``like`` but for ``kind``, appended if there is none; its names are kept if any."""
    for group in optimizer.param_groups:
        if group["kind"] == kind and group.get("rule") == like.get("rule"):
            return group
    empty: dict[str, Any] = {key: [] for key in ("params", "param_names") if key in like}
    optimizer.param_groups.append(like | {"kind": kind} | empty)
    return optimizer.param_groups[-1]


def _alike(p: Tensor, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    """A parameter of as many axes, when there was no block to look at."""
    for group in optimizer.param_groups:
        for other in group["params"]:
            if other.ndim == p.ndim:
                return other
    raise InputError("optimizer", name, "has no group with a parameter of as many axes", "start from one block or more")
