"""Anyone's model: where its blocks are, how its own code initialises one, and what else counts them.

Blocks stand in an ``nn.ModuleList`` or an ``nn.Sequential``. Beside them a model may count them (``config.n_layer``,
``self.num_layers``), number them (``layer_idx``, by which Hugging Face's attention finds its cache) or list their kinds
(``config.layer_types``); a count that stays behind leaves new blocks out of the forward pass without a word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError

__all__ = ["check_growable", "check_keeps", "copy_block", "find_blocks", "own_init", "renumber"]

COUNTS = ("n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth")
KINDS = ("layer_types", "mlp_layer_types", "no_rope_layers")
NUMBERS = ("layer_idx", "layer_id", "layer_index", "block_idx")
CONFIGS = ("config", "cfg", "args")
WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def find_blocks(model: nn.Module) -> str:
    """Path of the only outermost ``ModuleList`` of modules of one class, else of the only such ``Sequential``.

    Args:
        model: Anyone's.

    Raises:
        InputError: if there is none, or more than one.
    """
    candidates = {
        name: module
        for name, module in model.named_modules()
        if name and isinstance(module, nn.ModuleList | nn.Sequential) and len({type(m) for m in module}) == 1
        and (isinstance(module, nn.ModuleList) or any(True for _ in module[0].children()))
    }  # fmt: skip
    outermost = [name for name in candidates if not any(name.startswith(f"{other}.") for other in candidates)]
    lists = [name for name in outermost if isinstance(candidates[name], nn.ModuleList)] or outermost
    if len(lists) == 1 and isinstance(candidates[lists[0]], nn.Sequential) and len(candidates[lists[0]]) == 1:
        # one block with a list of heads inside, or a wrapper around the list of blocks: nobody can tell
        inner = [name for name in candidates if name.startswith(f"{lists[0]}.")]
        lists += [name for name in inner if isinstance(candidates[name], nn.ModuleList)]
    if len(lists) != 1:
        raise InputError("blocks", lists or None, "must be one ModuleList of like blocks", "name it: blocks='...'")
    return lists[0]


def check_growable(model: nn.Module, path: str) -> nn.ModuleList | nn.Sequential:
    """The list of blocks at ``path``, if copies of its blocks can stand beside them.

    Args:
        model: Anyone's.
        path: Attribute path of the blocks.

    Raises:
        InputError: if the model is wrapped or sharded, the list is none, or blocks differ or share parameters.
    """
    for module in model.modules():
        if type(module).__name__ in WRAPPERS:
            rule = "would not know the new parameters"
            raise InputError("model", type(module).__name__, rule, "grow model.module, then wrap it again")
    if any(type(p).__name__ == "DTensor" for p in model.parameters()):
        raise InputError("model", "DTensor", "is sharded", "grow before fully_shard, or train with latebloom")
    try:
        modules = model.get_submodule(path)
    except AttributeError:
        modules = None
    if not isinstance(modules, nn.ModuleList | nn.Sequential):
        raise InputError("blocks", path, "names no ModuleList or Sequential", "give the attribute path of the blocks")
    keys = [name for name, _ in modules.named_children()]
    if keys != [str(i) for i in range(len(keys))]:
        raise InputError("blocks", keys, "are not numbered from 0", "keep blocks in a ModuleList")
    inside = set(modules.modules())
    owner = {id(p): -1 for m in model.modules() if m not in inside for p in m.parameters(recurse=False)}
    form = None
    for i, block in enumerate(modules):
        for name, p in block.named_parameters():
            if owner.setdefault(id(p), i) != i:
                rule = "is shared with another block or the rest of the model: a copy would not be"
                raise InputError("blocks", f"{path}.{i}.{name}", rule, "grow before sharing")
        shapes = {name: tuple(p.shape) for name, p in block.named_parameters()}
        if shapes != (form := form or shapes):
            unlike = sorted(set(shapes.items()) ^ set(form.items()))[0][0]
            raise InputError(
                "blocks", f"{path}.{i}.{unlike}", f"is not as in {path}.0", "only like blocks can be grown"
            )
    return modules


def copy_block(block: nn.Module) -> nn.Module:
    """A copy with tensors of its own that still shares the model's configuration.

    Args:
        block: To be copied.
    """
    held = [c for m in block.modules() if (c := vars(m).get("config")) is not None]
    return copy.deepcopy(block, {id(c): c for c in held})


def own_init(
    model: nn.Module, path: str, make_block: Callable[[], nn.Module] | None
) -> Callable[[nn.Module, int], None]:
    """How the model's own code begins a block: its constructor if given, else ``reset_parameters``; ``_init_weights``.

    ``_init_weights`` is looked for on the modules around the blocks, the nearest first.

    Args:
        model: Anyone's.
        path: Attribute path of the blocks.
        make_block: Constructor of a block, if the caller gave one.

    Returns:
        A function of a block, which it initialises in place, and its index.
    """
    around = [m for m in reversed(_ancestors(model, path)) if hasattr(m, "_init_weights")]

    def initialise(block: nn.Module, _: int) -> None:
        fresh = make_block() if make_block else block
        if fresh is block:
            for p in block.parameters():
                p.fill_(torch.nan)  # what nobody initialises must not stay a copy unnoticed
            for module in block.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()  # type: ignore[operator]
        if around:
            fresh.apply(around[0]._init_weights)  # type: ignore[arg-type]
        if fresh is not block:
            _take(block, fresh)
        left = [name for name, p in block.named_parameters() if bool(p.isnan().any())]
        if left:
            rule = f"is needed: neither reset_parameters nor _init_weights begins {', '.join(left[:3])}"
            raise InputError("make_block", None, rule, "give the block's constructor: make_block=lambda: Block(config)")

    return initialise


def check_keeps(block: nn.Module, init: str, zeroed: Sequence[str]) -> None:
    """Run ``block`` on noise, if it runs on that alone: added with an ``init`` that keeps the function, it must.

    It must return its input, or zeros where the model itself adds.

    Args:
        block: As it would stand in the grown model.
        init: How it began.
        zeroed: Names of its parameters that were set to zero.

    Raises:
        InputError: if it does not.
    """
    parameters = list(block.parameters())
    if any(p.is_meta or type(p).__name__ == "DTensor" for p in parameters):
        return
    block = copy_block(getattr(block, "_orig_mod", block)).eval()
    noise = torch.Generator().manual_seed(0)
    sizes = [size for p in parameters for size in p.shape]
    for width in sorted(set(sizes), key=sizes.count, reverse=True):
        x = torch.randn(2, 4, width, generator=noise).to(parameters[0])
        try:
            y: Any = block(x)
            y = y[0] if isinstance(y, tuple) else y
        except Exception:  # another width, or it needs more than this
            continue
        if isinstance(y, Tensor) and y.shape == x.shape:
            if not torch.equal(y, x) and bool(y.any()):
                rule = f"does not keep the function here: a new block changes its input with {list(zeroed)} zeroed"
                fix = "name the last map of every branch in last_linear, or use another init"
                raise InputError("init", init, rule, fix)
            return


def renumber(model: nn.Module, path: str, modules: nn.Module, sources: Sequence[int], old: int) -> None:
    """Bring counts, numbers and kinds of blocks up to date.

    Args:
        model: Already grown.
        path: Attribute path of the blocks.
        modules: The blocks there.
        sources: For each block, the old block that it is or continues.
        old: Number of blocks before.
    """
    for j, block in enumerate(modules.children()):
        for module in block.modules():
            for name in NUMBERS:
                if _is_int(module, name, sources[j]):
                    setattr(module, name, j)
    holders = [*_ancestors(model, path), *modules.modules()]
    frozen: dict[int, Any] = {}
    seen: set[int] = set()
    for module in holders:
        for key in CONFIGS:
            config = vars(module).get(key)
            if config is None or not hasattr(config, "__dict__") or isinstance(config, nn.Module):
                continue
            dataclass_options = getattr(config, "__dataclass_params__", None)
            if dataclass_options is not None and dataclass_options.frozen:
                config = frozen.setdefault(id(config), copy.copy(config))
                setattr(module, key, config)
            if id(config) not in seen:
                seen.add(id(config))
                _recount(config, path, sources, old)
    for module in _ancestors(model, path):
        _recount(module, path, sources, old)


def _recount(holder: Any, path: str, sources: Sequence[int], old: int) -> None:
    side = next((s for s in ("decoder", "encoder") if s in path), None)
    own = [n for n in (f"{side}_layers", f"num_{side}_layers") if n in vars(holder)] if side else []
    for name in own or COUNTS:
        if _is_int(holder, name, old):
            object.__setattr__(holder, name, len(sources))
    for name in KINDS if old else ():
        kinds = vars(holder).get(name)
        if isinstance(kinds, list | tuple) and len(kinds) == old:
            object.__setattr__(holder, name, type(kinds)([kinds[i] for i in sources]))


def _ancestors(model: nn.Module, path: str) -> list[nn.Module]:
    """``model`` and the modules on the way to ``path``, the list itself left out."""
    parts = path.split(".")
    return [model.get_submodule(".".join(parts[:i])) for i in range(len(parts))]


def _is_int(holder: Any, name: str, value: int) -> bool:
    held = vars(holder).get(name)
    return type(held) is int and held == value


def _take(block: nn.Module, fresh: nn.Module) -> None:
    """Values of ``fresh`` into ``block``."""
    theirs = dict(fresh.named_parameters())
    shapes = {name: tuple(p.shape) for name, p in block.named_parameters()}
    if shapes != {name: tuple(p.shape) for name, p in theirs.items()}:
        unlike = sorted(set(shapes) ^ set(theirs) or shapes)[0]
        raise InputError("make_block", unlike, "is not as in the blocks there are", "make a block like them")
    for name, p in block.named_parameters():
        p.copy_(theirs[name])
