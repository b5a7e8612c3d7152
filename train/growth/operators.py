"""Growing a model in depth: which blocks are added, where, how they begin, and what the optimizer remembers of them.

Works on any model that keeps identical blocks in an ``nn.ModuleList``, a ``ModuleDict`` by number or a ``Sequential``;
what each initialisation, order and optimizer state means stands in :mod:`latebloom.theory.expansion`. Old blocks keep
their weights; ``placement`` says where they stand afterwards, and by it the optimizer's state follows them, by name.

:mod:`latebloom.train.experiments.growth_table` measures the initialisations, and how much of a feature each learns. The
paper (arXiv 2511.04981) does not say which tensors its 'zero' operators zero. Here ``zero_last`` zeroes weight and bias
of the last linear map of each residual branch, found by its name (:data:`LAST_LINEAR`); ``zero_norm`` every vector of
the block (gains and biases: with the gains alone, biases would still reach the stream), but not the gains of queries
and keys, which would leave a saddle. Whether such a block keeps the function is tried on noise, and whether the whole
model does by running it before and after (:mod:`latebloom.train.growth.probe`): in a post-norm model, if a branch ends
in a name that is not known here, or if the model divides by its depth, it does not, and growth is refused and undone.

To resume one's own loop past an expansion, either make the model deep, and an optimizer over it, and load the three
state dicts; or make it shallow, grow both, and load: parameters stand in the optimizer in the order of a model made
deep. :func:`latebloom.train.growth.loading.grow_on_load` does the second when weights are loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import (
    BEGINS_AS,
    INITS,
    STATE_POLICIES,
    Init,
    Initialisation,
    Order,
    StatePolicy,
    Weights,
    Zeroed,
    check_init,
    placement,
    sources,
)
from latebloom.theory.plan import Stage
from latebloom.train.growth.foreign import (
    Blocks,
    Change,
    block_list,
    check_growable,
    check_keeps,
    copy_block,
    ends_branch,
    find_blocks,
    hooked_parameters,
    leftovers,
    put_blocks,
    recount,
    renumber,
    undo,
)
from latebloom.train.growth.fresh import own_init
from latebloom.train.growth.optimizer_state import extend_optimizers, joins, torch_optimizers
from latebloom.train.growth.probe import make_probe
from latebloom.train.growth.wrappers import data_parallel_around, unwrapped, wrap_again
from latebloom.train.model.tensors import Describe, describe, is_vector, matrices_of

__all__ = ["begin_block", "changed_weights", "find_blocks", "grow", "grow_blocks", "is_zeroed"]

# Names, or ends of dotted names, of the maps that end a residual branch: GPT-2, Llama, timm, torch, NeoX, BERT, ours.
LAST_LINEAR = (
    "proj", "c_proj", "o_proj", "down_proj", "out_proj", "fc_out", "wo", "w2", "fc2", "linear2", "attention.dense",
    "self_attention.dense", "self_attn.dense", "dense_4h_to_h", "output.dense",
)  # fmt: skip
KEPT_GAINS = ("q_norm.weight", "k_norm.weight")


@torch.no_grad()
def grow(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    depth: int,
    init: Init = "random",
    order: Order = "stack",
    optimizer_state: StatePolicy = "keep",
    blocks: str | None = None,
    init_block: Callable[[nn.Module, int], None] | None = None,
    make_block: Callable[[], nn.Module] | None = None,
    last_linear: tuple[str, ...] = LAST_LINEAR,
    example: Any = None,
    seen_to: tuple[str, ...] = (),
    averages: Sequence[nn.Module] = (),
    caller_syncs: bool = False,
) -> dict[str, str]:
    """Grow anyone's ``model`` in place, and its optimizers with it; or leave both as they were and say why.

    New parameters join the group of the parameter of the same name in the block that they continue, whichever optimizer
    holds it, so that learning rates, decay and schedulers hold for them; old parameters stay the same objects and keep
    their state. Numbers and counts of layers that the model keeps (``layer_idx``, ``config.n_layer``) follow.

    Args:
        model: Any module with a list of like blocks; in DistributedDataParallel, too, which is then made anew in place.
        optimizer: The torch optimizer over its parameters, or all of them (Muon for matrices, AdamW for the rest).
        depth: Blocks afterwards.
        init: How new blocks begin; ``random``: as the model's own code begins them at the new depth. ``copy_zero_norm``
            never trains an MLP that multiplies two maps of its norm (SwiGLU) or has no slope at zero (ReLU).
        order: Where they come from and stand.
        optimizer_state: ``keep``, ``keep_copied`` or ``reset``.
        blocks: Attribute path of the list of blocks; the only one there is by default.
        init_block: Initialises a fresh block at an index, in place; by default the model's own code.
        make_block: Makes a block: needed if the model has none, or if nothing else initialises its parameters.
        last_linear: Names, or ends of dotted names, of the maps or parameters that end a residual branch.
        example: What the model is called with (tensor, tuple, dict): run before and after; else a few token numbers.
        seen_to: Names of what stands beside the blocks, is as long as they are, and needs no change or got it.
        averages: Averaged copies of the model (EMA), which grow with it: their new blocks begin as the model's.
        caller_syncs: Whether, among several processes, the caller wraps the model anew or reduces gradients itself.

    Returns:
        New name of every parameter that was there before, by its old name.

    Raises:
        InputError: if there is not one list of blocks, it is as deep already, has nothing to copy, blocks are unlike or
            share parameters; nobody initialises a parameter, or trains one of a new block; the grown model does not run
            on the example, does not keep a function that ``init`` promises, or leaves a new block without a gradient.
    """
    stage = Stage(start_step=1, depth=depth, init=init, order=order, optimizer_state=optimizer_state)
    if STATE_POLICIES[optimizer_state].new == "warmed":
        rule = "needs batches, which only the loop has"
        raise InputError("optimizer_state", optimizer_state, rule, "use keep_copied")
    if torch.is_inference_mode_enabled():
        raise InputError("inference_mode", True, "makes tensors that cannot be trained", "grow outside of it")
    model = unwrapped(model)
    optimizers = torch_optimizers(optimizer, model)
    path = blocks or find_blocks(model)
    modules = check_growable(model, path)
    old = len(modules)
    if depth <= old:
        raise InputError("depth", depth, f"is not deeper than the model's {old} blocks", "grow to more blocks")
    if STATE_POLICIES[optimizer_state].new == "copied" and old == 0:
        raise InputError("optimizer_state", optimizer_state, "has no block to copy from", "use keep")
    if hooked := sorted(set(hooked_parameters(model, path)) - set(seen_to)):
        rule = f"has hooks on its gradient ({len(hooked)} parameters of blocks do), which new ones would not have"
        fix = "register them after growing, or name them in seen_to and register those of new blocks yourself"
        raise InputError("parameters", hooked[0], rule, fix)
    copies = [(unwrapped(average), check_growable(unwrapped(average), path)) for average in averages]
    around = data_parallel_around(model, caller_syncs=caller_syncs)
    probe = make_probe(model, path, example)
    beside = [found for found in leftovers(model, path, old) if found.split(" ")[0] not in seen_to] if old else []
    if beside and probe is None:
        rule = f"is as long as the list of {old} blocks, and new blocks may have none of it"
        fix = "give example=batch, with which it is tried; or if it is right, name it in seen_to"
        raise InputError("model", beside[0], rule, fix)
    continued = sources(order, old, depth) if old else [0] * depth
    like = next(model.parameters())
    before = block_list(modules)
    changes: list[Change] = []
    with _left_as_it_was(modules, before, changes):
        changes += recount(model, path, continued, old)
        renamed = grow_blocks(
            model, stage, init_block=init_block or own_init(model, path, make_block, last_linear), blocks=path,
            last_linear=last_linear, make_block=make_block and (lambda: make_block().to(like.device, like.dtype)),
            tried=probe is not None,
        )  # fmt: skip
        changes += renumber(modules, continued)
        extension = joins(optimizers, model, renamed, stage, old, blocks=path)
        if probe:
            new = {j: block for j, block in enumerate(block_list(modules)) if not any(block is b for b in before)}
            probe.check(model, new, init, beside)
    extend_optimizers(optimizers, model, extension, stage)
    for ddp in around:
        wrap_again(ddp)  # the blocks of rank 0 go to all, and from there to the averages
    for average, theirs in copies:
        _grow_average(average, theirs, modules, before, path, continued)
    return renamed


@contextlib.contextmanager
def _left_as_it_was(modules: Blocks, blocks: list[nn.Module], changes: list[Change]) -> Any:
    """Put blocks and counts back if growing fails."""
    try:
        yield
    except BaseException:
        put_blocks(modules, blocks)
        undo(changes)
        raise


def _grow_average(
    average: nn.Module, theirs: Blocks, modules: nn.Module, before: list[nn.Module], path: str, continued: list[int]
) -> None:
    """Let an average of the model follow it: its own old blocks where the model's stand, copies of the new ones."""
    old = {id(block): own for block, own in zip(before, block_list(theirs), strict=True)}
    recount(average, path, continued, len(before))
    put_blocks(theirs, [old.get(id(block)) or copy_block(block) for block in block_list(modules)])
    renumber(theirs, continued)
    for p in average.parameters():
        p.grad = None


@torch.no_grad()
def grow_blocks(
    model: nn.Module,
    stage: Stage,
    *,
    init_block: Callable[[nn.Module, int], None],
    make_block: Callable[[], nn.Module] | None = None,
    blocks: str = "blocks",
    last_linear: tuple[str, ...] = LAST_LINEAR,
    tried: bool = True,
) -> dict[str, str]:
    """Grow ``model`` in place to ``stage.depth`` blocks; the optimizer is the caller's affair.

    Args:
        model: With a list of blocks at ``blocks``.
        stage: Depth, initialisation and order.
        init_block: Initialises a fresh block at an index, in place.
        make_block: Makes a block; needed if the model has none.
        blocks: Attribute path of the blocks.
        last_linear: Names, or ends of dotted names, of the maps or parameters that end a residual branch.
        tried: Whether the whole model is tried, or the block is known to run on its input alone.

    Returns:
        New name of every parameter that was there before, by its old name.

    Raises:
        InputError: before anything has changed, as :func:`grow`.
    """
    modules = model.get_submodule(blocks)
    assert isinstance(modules, Blocks)
    old_blocks = block_list(modules)
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
            grown.append(old_blocks[places.index(j)])
            continue
        block = copy_block(old_blocks[continued[j]]) if old else make_block()  # type: ignore[misc]
        place = f"{blocks}.{j}."
        names = [name for name, _ in block.named_parameters()]
        vectors = {n for n in names if is_vector(described, place + n, block.get_parameter(n))}
        begin_block(block, j, rule, init_block, described, place)
        zeroed = [name for name in names if is_zeroed(name, name in vectors, rule, last_linear)]
        for name in zeroed:
            block.get_parameter(name).zero_()
        if j == first and rule.keeps_function:
            if not zeroed:
                unnamed = f"name none of {', '.join(n for n in names if n not in vectors)}"
                raise InputError("last_linear", list(last_linear), unnamed, "name the last map of each residual branch")
            if not check_keeps(block, stage.init, zeroed) and not tried:
                untried = "should keep the function, and that cannot be tried: a block needs more than its input"
                raise InputError("init", stage.init, untried, "give example=batch, with which the whole model is run")
        block.zero_grad(set_to_none=True)
        grown.append(block)
    before = {id(p): name for name, p in model.named_parameters()}
    put_blocks(modules, grown)
    return {before[id(p)]: name for name, p in model.named_parameters() if id(p) in before}


def begin_block(
    block: nn.Module,
    index: int,
    rule: Initialisation,
    init_block: Callable[[nn.Module, int], None],
    described: Describe,
    place: str,
) -> None:
    """Give ``block``, a copy of the one that it continues, the weights to begin with.

    Args:
        block: Changed in place.
        index: Where it stands in the model.
        rule: Of an initialisation.
        init_block: Initialises a fresh block at an index.
        described: What a parameter of the model is.
        place: Of the block in the model, such as ``blocks.3.``.
    """
    if rule.fresh:
        init_block(block, index)
    parameters = dict(block.named_parameters())
    for name, tensor in changed_weights(parameters, rule, described, place).items():
        parameters[name].copy_(tensor)


def changed_weights(
    tensors: Mapping[str, Tensor], rule: Initialisation, described: Describe, place: str
) -> dict[str, Tensor]:
    """A new block's weights, once they are made or copied, as their kind asks for.

    Args:
        tensors: Of the block, by their names in it; of copied weights one rank's rows will do.
        rule: Of an initialisation.
        described: What a parameter of the model is.
        place: Of the block in the model, such as ``blocks.3.``.

    Returns:
        By the same names; what does not change is the same tensor.
    """
    change = CHANGES[rule.weights]
    return {name: change(described, place + name, tensor) for name, tensor in tensors.items()}


def is_zeroed(name: str, vector: bool, rule: Initialisation, last_linear: tuple[str, ...] = LAST_LINEAR) -> bool:
    """Whether a parameter of a new block begins at zero.

    Args:
        name: In its block.
        vector: Whether it is a gain, a bias or another vector.
        rule: Of an initialisation.
        last_linear: As in :func:`grow`.
    """
    return BEGINS_AS[rule.weights] == "nothing" or ZEROES[rule.zeroed](name, vector, last_linear)


def _unchanged(described: Describe, name: str, tensor: Tensor) -> Tensor:
    return tensor


def _identities(described: Describe, name: str, tensor: Tensor) -> Tensor:
    """Identities side by side, where it is a matrix or several."""
    if is_vector(described, name, tensor):
        return tensor
    spec, laid = described(name, tensor), tensor.clone()
    for matrix in matrices_of(laid, spec.matrices, transposed=spec.transposed):
        _tile_identity_(matrix)
    return laid


def _tile_identity_(matrix: Tensor) -> None:
    """Identity matrices side by side or on top of each other until ``matrix`` is full."""
    rows, columns = matrix.shape
    small = min(rows, columns)
    places = torch.arange(max(rows, columns), device=matrix.device)
    matrix.zero_()
    matrix[(places, places % small) if rows >= columns else (places % small, places)] = 1.0


# What becomes of a parameter (what it is, its name, itself) of each kind of weights, once it is made or copied
CHANGES: Final[dict[Weights, Callable[[Describe, str, Tensor], Tensor]]] = {
    "fresh": _unchanged,
    "copied": _unchanged,
    "zero": _unchanged,
    "identity": _identities,
}
# Whether a parameter (its name in the block, whether it is a vector, names of last maps) is then set to zero
ZEROES: Final[dict[Zeroed, Callable[[str, bool, tuple[str, ...]], bool]]] = {
    "nothing": lambda name, vector, last_linear: False,
    "norms": lambda name, vector, last_linear: vector and not name.endswith(KEPT_GAINS),
    "last_maps": lambda name, vector, last_linear: ends_branch(name, last_linear),
}
