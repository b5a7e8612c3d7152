"""Anyone's model: where its blocks are, and what else counts them.

Blocks stand in an ``nn.ModuleList``, an ``nn.Sequential`` or an ``nn.ModuleDict`` keyed by number. Beside them a model
may count them (``config.n_layer``, ``self.num_layers``), number them (``layer_idx``, by which Hugging Face's attention
finds its cache) or list their kinds (``config.layer_types``); a count that stays behind leaves new blocks out of the
forward pass without a word. What else is as long as the list of blocks (a scale for each layer, a second list) is named
by :func:`leftovers`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError

__all__ = [
    "ancestors", "block_list", "check_growable", "check_keeps", "config_of", "copy_block", "ends_branch", "find_blocks",
    "hooked_parameters", "leftovers", "put_blocks", "recount", "renumber", "undo",
]  # fmt: skip

# Names under which models keep their number of blocks, and lists with an entry for each.
COUNT = re.compile(
    r"(?:n|num|no|number)_?(?:of_)?(?:hidden_|transformer_|decoder_|attn_|attention_)?(?:layers?|blocks?)|depth|layers|L"
)
KIND = re.compile(r"\w*(?:layer|block)s?_?\w*|\w*(?:types|windows|window_sizes)")
NUMBERS = ("layer_idx", "layer_id", "layer_index", "layer_number", "layer_num", "block_idx", "block_id", "block_index")
CONFIGS = ("config", "cfg", "args")
WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
# What stands around the module whose last map ends a branch in a model with adapters (peft).
ADAPTER = re.compile(r"\.(?:base_layer|lora_B\.\w+)$")
# The size of a weight whose direction is kept apart (weight_norm): zero, the weight is, and still learns.
SIZE = re.compile(r"\.parametrizations\.(\w+)\.original0$|\.(\w+)_g$")

Blocks = nn.ModuleList | nn.Sequential | nn.ModuleDict
Change = tuple[Any, str, Any]  # an object, the name of its attribute, what it was


def find_blocks(model: nn.Module) -> str:
    """Path of the only outermost ``ModuleList`` (or ``ModuleDict`` by number) of modules of one class, else of the only
    such ``Sequential``.

    Args:
        model: Anyone's.

    Raises:
        InputError: if there is none, or more than one.
    """
    candidates = {
        name: module
        for name, module in model.named_modules()
        if name and isinstance(module, Blocks) and len({type(m) for m in block_list(module)}) == 1
        and (not isinstance(module, nn.ModuleDict) or _is_numbered(module))
        and (not isinstance(module, nn.Sequential) or any(True for _ in module[0].children()))
    }  # fmt: skip
    outermost = [name for name in candidates if not any(name.startswith(f"{other}.") for other in candidates)]
    lists = [name for name in outermost if not isinstance(candidates[name], nn.Sequential)] or outermost
    if len(lists) == 1 and isinstance(candidates[lists[0]], nn.Sequential) and len(candidates[lists[0]]) == 1:
        # one block with a list of heads inside, or a wrapper around the list of blocks: nobody can tell
        inner = [name for name in candidates if name.startswith(f"{lists[0]}.")]
        lists += [name for name in inner if isinstance(candidates[name], nn.ModuleList)]
    if len(lists) != 1:
        raise InputError("blocks", lists or None, "must be one ModuleList of like blocks", "name it: blocks='...'")
    return lists[0]


def block_list(modules: nn.Module) -> list[nn.Module]:
    """The blocks in order.

    Args:
        modules: What holds them.
    """
    return list(modules.values()) if isinstance(modules, nn.ModuleDict) else list(modules)  # type: ignore[call-overload]


def put_blocks(modules: Blocks, blocks: Sequence[nn.Module]) -> None:
    """Let ``modules`` hold ``blocks`` and nothing else.

    Args:
        modules: Changed in place.
        blocks: In order.
    """
    if isinstance(modules, nn.ModuleDict):
        modules.clear()
        modules.update({str(i): block for i, block in enumerate(blocks)})
    else:
        del modules[:]
        modules.extend(blocks)


def check_growable(model: nn.Module, path: str) -> Blocks:
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
        raise InputError("model", "DTensor", "is sharded", "gather it, grow, shard anew, or grow before fully_shard")
    try:
        modules = model.get_submodule(path)
    except AttributeError:
        modules = None
    if not isinstance(modules, Blocks):
        rule = "names no ModuleList, Sequential or ModuleDict"
        raise InputError("blocks", path, rule, "give the attribute path of the blocks")
    if not _is_numbered(modules):
        keys = [name for name, _ in modules.named_children()]
        raise InputError("blocks", keys, "are not numbered from 0", "keep blocks in a ModuleList")
    inside = set(modules.modules())
    owner = {id(p): -1 for m in model.modules() if m not in inside for p in m.parameters(recurse=False)}
    form = None
    for i, block in enumerate(block_list(modules)):
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

    Raises:
        InputError: if it holds something that cannot be copied.
    """
    held = [c for m in block.modules() if (c := vars(m).get("config")) is not None]
    try:
        return copy.deepcopy(block, {id(c): c for c in held})
    except (RuntimeError, TypeError) as error:
        rule = f"cannot be copied ({str(error).splitlines()[0][:100]})"
        fix = "take out what cannot; torch.nn.utils.parametrizations.weight_norm can, the older weight_norm cannot"
        raise InputError("blocks", type(block).__name__, rule, fix) from error


def config_of(module: nn.Module) -> Any:
    """The configuration that a module keeps under a usual name; None if it keeps none.

    Args:
        module: Anyone's.
    """
    held = (vars(module).get(name) for name in CONFIGS)
    return next((c for c in held if hasattr(c, "__dict__") and not isinstance(c, nn.Module)), None)


def ends_branch(name: str, last_linear: Sequence[str]) -> bool:
    """Whether a parameter of a block belongs to a map that ends a residual branch; adapters on such a map do.

    Args:
        name: In its block.
        last_linear: Names, or ends of dotted names, of such maps or parameters.
    """
    name = SIZE.sub(lambda found: f".{found[1] or found[2]}", name)
    module = ADAPTER.sub("", name.removesuffix(".weight").removesuffix(".bias"))
    return any(f".{n}".endswith(f".{end}") for n in (name, module) for end in last_linear)


def check_keeps(block: nn.Module, init: str, zeroed: Sequence[str]) -> bool:
    """Run ``block`` on noise, if it runs on that alone: added with an ``init`` that keeps the function, it must.

    It must return its input, or zeros where the model itself adds.

    Args:
        block: As it would stand in the grown model.
        init: How it began.
        zeroed: Names of its parameters that were set to zero.

    Returns:
        Whether it could be tried.

    Raises:
        InputError: if it does not.
    """
    parameters = list(block.parameters())
    if any(p.is_meta or type(p).__name__ == "DTensor" for p in parameters):
        return False
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
            return True
    return False


def recount(model: nn.Module, path: str, sources: Sequence[int], old: int) -> list[Change]:
    """Bring counts and kinds of blocks, on the modules around them and in configurations, up to date.

    Args:
        model: Anyone's.
        path: Attribute path of the blocks.
        sources: For each block afterwards, the old block that it is or continues.
        old: Number of blocks before.

    Returns:
        What was changed, for :func:`undo`.
    """
    changes: list[Change] = []
    frozen: dict[int, Any] = {}
    seen: set[int] = set()
    for module in [*ancestors(model, path), *model.get_submodule(path).modules()]:
        for key in CONFIGS:
            config = vars(module).get(key)
            if config is None or not hasattr(config, "__dict__") or isinstance(config, nn.Module):
                continue
            dataclass_options = getattr(config, "__dataclass_params__", None)
            if dataclass_options is not None and dataclass_options.frozen:
                _set(module, key, frozen.setdefault(id(config), copy.copy(config)), changes)
                config = frozen[id(config)]
            if id(config) not in seen:
                seen.add(id(config))
                _recount(config, path, sources, old, changes)
    for module in ancestors(model, path):
        _recount(module, path, sources, old, changes)
    return changes


def renumber(modules: nn.Module, sources: Sequence[int]) -> list[Change]:
    """Bring the numbers that blocks keep of themselves up to date.

    Args:
        modules: The blocks, already grown.
        sources: For each block, the old block that it is or continues.

    Returns:
        What was changed, for :func:`undo`.
    """
    changes: list[Change] = []
    for j, block in enumerate(block_list(modules)):
        for module in block.modules():
            for name in NUMBERS:
                if _is_int(module, name, sources[j]):
                    _set(module, name, j, changes)
    return changes


def undo(changes: Sequence[Change]) -> None:
    """Set back what :func:`recount` and :func:`renumber` changed.

    Args:
        changes: As they returned them.
    """
    for holder, name, value in reversed(changes):
        object.__setattr__(holder, name, value)


def hooked_parameters(model: nn.Module, path: str) -> list[str]:
    """Names of parameters of blocks with hooks on their gradients (clipping, an optimizer within backward).

    A copy of a parameter has none of its hooks.

    Args:
        model: Anyone's.
        path: Attribute path of the blocks.
    """
    hooks = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return [
        f"{path}.{name}"
        for name, p in model.get_submodule(path).named_parameters()
        if any(getattr(p, kind, None) for kind in hooks)
    ]


def leftovers(model: nn.Module, path: str, old: int) -> list[str]:
    """What stands beside the blocks and is as long as their list was: very likely something for each layer.

    Parameters and buffers with as many rows, lists of modules or parameters, modules in a dictionary by number, plain
    lists; on the modules around the blocks alone. With a single block only those that nothing else has one of.

    Args:
        model: Anyone's, before or after it has grown.
        path: Attribute path of the blocks.
        old: Number of blocks before.
    """
    blocks, found = model.get_submodule(path), []
    for module in ancestors(model, path):
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.ndim >= 1 and len(tensor) == old and (old > 1 or tensor.ndim == 1):
                found.append(f"{name} {tuple(tensor.shape)}")
        for name, child in module.named_children():
            if child is blocks or isinstance(child, nn.Sequential):
                continue
            count = len(list(child)) if isinstance(child, nn.ModuleList | nn.ParameterList) else None
            keys = list(child.keys()) if isinstance(child, nn.ModuleDict | nn.ParameterDict) else []
            if count == old or (keys and all(key.isdigit() for key in keys)):
                found.append(f"{name} ({type(child).__name__} of {count or len(keys)})")
        for name, held in vars(module).items():
            if old > 1 and isinstance(held, list | tuple) and len(held) == old and not name.startswith("_"):
                found.append(f"{name} ({type(held).__name__} of {old})")
    return found


def ancestors(model: nn.Module, path: str) -> list[nn.Module]:
    """``model`` and the modules on the way to ``path``, the list itself left out.

    Args:
        model: Anyone's.
        path: Attribute path of the blocks.
    """
    parts = path.split(".")
    return [model.get_submodule(".".join(parts[:i])) for i in range(len(parts))]


def _recount(holder: Any, path: str, sources: Sequence[int], old: int, changes: list[Change]) -> None:
    side = next((s for s in ("decoder", "encoder") if s in path), None)
    own = [n for n in (f"{side}_layers", f"num_{side}_layers") if n in vars(holder)] if side else []
    for name in own or [n for n in vars(holder) if COUNT.fullmatch(n)]:
        if _is_int(holder, name, old):
            _set(holder, name, len(sources), changes)
    for name in [n for n in vars(holder) if KIND.fullmatch(n.lower())] if old else ():
        kinds = vars(holder).get(name)
        if _are_places(name, kinds, old):  # of layers of one kind, as Llama 4's moe_layers
            _set(holder, name, type(kinds)([j for j, i in enumerate(sources) if i in kinds]), changes)
        elif isinstance(kinds, list | tuple) and len(kinds) == old and not any(isinstance(k, nn.Module) for k in kinds):
            _set(holder, name, type(kinds)([kinds[i] for i in sources]), changes)


def _are_places(name: str, held: Any, old: int) -> bool:
    """Whether a list says which layers are of a kind, not the kind of each."""
    if not name.lower().endswith("layers") or not isinstance(held, list | tuple) or not held:
        return False
    numbers = all(type(i) is int and 0 <= i < old for i in held) and list(held) == sorted(set(held))
    return numbers and (len(held) < old or old > 1)


def _set(holder: Any, name: str, value: Any, changes: list[Change]) -> None:
    changes.append((holder, name, vars(holder)[name]))
    object.__setattr__(holder, name, value)


def _is_numbered(modules: nn.Module) -> bool:
    keys = [name for name, _ in modules.named_children()]
    return keys == [str(i) for i in range(len(keys))]


def _is_int(holder: Any, name: str, value: int) -> bool:
    held = vars(holder).get(name)
    return type(held) is int and held == value
