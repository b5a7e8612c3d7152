"""How anyone's model begins a block: by its own code, at the depth that the model has afterwards.

A constructor that was given comes first. Else a whole fresh model is made by the model's own class from its own
configuration, if that is all it asks for, and its blocks are taken: whatever it does to blocks, in an initialiser or
after (GPT-2 divides the ends of residual branches by sqrt(2 depth)), is done for the new depth. Else each module's
``reset_parameters`` and the model's ``_init_weights``.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from latebloom.theory.errors import InputError
from latebloom.train.growth.foreign import COUNT, ancestors, block_list, config_of, ends_branch

__all__ = ["own_init"]

UNLIKE = (
    1.5  # a fresh model whose branch ends differ from the model's by more than this factor is not a fresh one of it
)


def own_init(
    model: nn.Module, path: str, make_block: Callable[[], nn.Module] | None, last_linear: Sequence[str]
) -> Callable[[nn.Module, int], None]:
    """How the model's own code begins a block.

    Args:
        model: Anyone's, which counts its blocks as they will be afterwards.
        path: Attribute path of the blocks.
        make_block: Constructor of a block, if the caller gave one.
        last_linear: Names, or ends of dotted names, of the maps that end a residual branch.

    Returns:
        A function of a block, which it initialises in place, and its index.
    """
    around = [m for m in reversed(ancestors(model, path)) if hasattr(m, "_init_weights")]
    made: list[list[nn.Module]] = []  # blocks of a fresh model, made when the first block asks for them

    def initialise(block: nn.Module, index: int) -> None:
        if make_block is None and not made:
            made.append(_fresh_blocks(model, path, last_linear))
        if make_block is not None:
            fresh = make_block()
            if around:
                fresh.apply(around[0]._init_weights)  # type: ignore[arg-type]
            _take(block, fresh)
        elif index < len(made[0]) and _shapes(made[0][index]) == _shapes(block):
            _take(block, made[0][index])
        else:
            for p in block.parameters():
                p.fill_(torch.nan)  # what nobody initialises must not stay a copy unnoticed
            for module in block.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()  # type: ignore[operator]
            if around:
                block.apply(around[0]._init_weights)  # type: ignore[arg-type]
        left = [name for name, p in block.named_parameters() if bool(p.isnan().any())]
        if left:
            rule = f"is needed: neither reset_parameters nor _init_weights begins {', '.join(left[:3])}"
            raise InputError("make_block", None, rule, "give the block's constructor: make_block=lambda: Block(config)")

    return initialise


def _fresh_blocks(model: nn.Module, path: str, last_linear: Sequence[str]) -> list[nn.Module]:
    """Blocks of a fresh model of the new depth; none if the model's class asks for more than a configuration.

    A class may have switches that the model does not remember (``GPT(config, scaled=True)``). Of the fresh models that
    they give, the one whose branch ends are most like the model's, against its other matrices, is taken.
    """
    parts = path.split(".")
    for i in reversed(range(len(parts))):
        owner, inner = model.get_submodule(".".join(parts[:i])), ".".join(parts[i:])
        config = config_of(owner)
        if config is None or (switches := _switches(type(owner))) is None:
            continue
        depth = len(block_list(model.get_submodule(path)))
        made = [b for on in switches if (b := _blocks_of(type(owner), config, on, inner))]
        like = model.get_submodule(path)
        made = [blocks for blocks in made if depth == 0 or _shapes(blocks[0]) == _shapes(block_list(like)[0])]
        if len(made) <= 1 or depth == 0:
            return made[0] if made else []
        # at the old depth, as the model was begun
        then = [_ends(b, last_linear) for on in switches if (b := _blocks_of(type(owner), config, on, inner, depth))]
        now = _ends(block_list(like), last_linear)
        off = [abs(math.log(ratio / now)) if ratio > 0 < now else 0.0 for ratio in then]
        if min(off, default=0.0) > math.log(UNLIKE):
            rule = f"begins as its class makes it, but {type(owner).__name__} has switches that the model does not keep"
            raise InputError("init", "random", rule, "say how a block begins: init_block=... or make_block=...")
        return made[off.index(min(off))]
    return []


def _switches(cls: type[nn.Module]) -> list[dict[str, bool]] | None:
    """Arguments beside the configuration to try: none, each switch turned; None if a configuration is not enough."""
    parameters = list(inspect.signature(cls).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not named or any(p.default is p.empty for p in named[1:]):
        return None
    if len(named[0].name) > 1 and not any(word in named[0].name for word in ("conf", "cfg", "args", "param")):
        return None
    return [{}, *({p.name: not p.default} for p in named[1:] if isinstance(p.default, bool))]


def _blocks_of(
    cls: type[nn.Module], config: Any, switches: dict[str, bool], path: str, depth: int | None = None
) -> list[nn.Module]:
    config = copy.copy(config)
    try:
        if depth is not None:
            _set_depth(config, len(block_list(cls(copy.copy(config), **switches).get_submodule(path))), depth)
        return block_list(cls(config, **switches).get_submodule(path))
    except Exception:  # its class wants something else: not a way to make one
        return []


def _set_depth(config: Any, new: int, old: int) -> None:
    for name, value in list(vars(config).items()):
        if type(value) is int and value == new and COUNT.fullmatch(name):
            object.__setattr__(config, name, old)


def _ends(blocks: Sequence[nn.Module], last_linear: Sequence[str]) -> float:
    """Root mean square of the matrices that end branches, over that of the others; 0 if either is none."""
    squares: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for block in blocks:
        for name, p in block.named_parameters():
            if p.ndim == 2:
                squares[ends_branch(name, last_linear)].append(p.detach().float().square().mean())
    if not squares[True] or not squares[False]:
        return 0.0
    ends, others = (float(torch.stack(squares[key]).mean()) for key in (True, False))
    return math.sqrt(ends / others) if others > 0 else 0.0


def _shapes(block: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in block.named_parameters()}


def _take(block: nn.Module, fresh: nn.Module) -> None:
    """Values of ``fresh`` into ``block``."""
    theirs = dict(fresh.named_parameters())
    if _shapes(block) != _shapes(fresh):
        unlike = sorted(set(_shapes(block)) ^ set(theirs) or _shapes(block))[0]
        raise InputError("make_block", unlike, "is not as in the blocks there are", "make a block like them")
    for name, p in block.named_parameters():
        p.copy_(theirs[name])
