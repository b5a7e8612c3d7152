"""Running a model before and after it grows: what was promised of a new block must hold in the whole model.

A block alone does not tell whether a model runs it, divides by the number of blocks, or treats every other one
differently. So the whole model is run on an example, the caller's or, for a model that takes token numbers alone, a few
tokens: a function that was promised to stay stays, and every new block takes part and has a gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, Init
from latebloom.train.growth.foreign import ancestors

__all__ = ["Probe", "make_probe"]

TOKENS = (2, 4)  # batch and length of the example of a model that takes token numbers
ROUNDING = 8  # a kept output may move by so many roundings of its largest value


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A model's run on an example, and what came out before it grew.

    Attributes:
        run: Runs the model in evaluation mode, with the same random numbers each time.
        before: Its outputs then.
        given: Whether the caller gave the example.
        old_blocks_learn: Whether a gradient reached a block before: it does not where a head is still zero.
    """

    run: Callable[[], list[Tensor]]
    before: list[Tensor]
    given: bool
    old_blocks_learn: bool

    def check(self, model: nn.Module, new: Mapping[int, nn.Module], init: Init, leftovers: Sequence[str]) -> None:
        """Refuse a grown model that breaks what ``init`` promises.

        Args:
            model: Grown.
            new: Its new blocks by index.
            init: How they began.
            leftovers: What may be the cause, for the message.

        Raises:
            InputError: if it does not run, a kept function changed, or a new block takes no part or has no gradient.
        """
        cause = f"; look at {', '.join(leftovers[:3])}" if leftovers else ""
        fix = f"the model's own code must follow the new depth{cause}"
        try:
            with _called(new) as called:
                after = self.run()
        except Exception as error:
            rule = f"breaks the model: {type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
            raise InputError("depth", _depth(new), rule, fix) from error
        if INITS[init].keeps_function and (change := _largest_change(self.before, after)) > 0:
            rule = f"should keep the function, but the whole model's output changes by {change:.3g}"
            why = "it depends on its depth or on a block's place, or a new block is not silent"
            if INITS[init].zeroed == "last_maps":
                why += " (is a map that ends a branch missing in last_linear?)"
            raise InputError("init", init, f"{rule}: {why}", fix)
        gradients = _gradients(self.run, new)
        if gradients is None:
            return
        for index, held in gradients.items():
            # where no block's gradients can be had this way (reentrant checkpoints, quantised maps), a call must do
            seen = not self.old_blocks_learn and index in called
            if held and all(g is None for g in held.values()) and not seen:
                raise InputError("blocks", index, "takes no part in the grown model", fix)
            known = any(g is not None for g in held.values())
            moved = any(g is not None and bool(g.any()) for g in held.values())
            if known and INITS[init].trainable and self.old_blocks_learn and not moved:
                raise InputError("blocks", index, "has no gradient in the grown model: it would never train", fix)


@contextlib.contextmanager
def _called(blocks: Mapping[int, nn.Module]) -> Iterator[set[int]]:
    """Indices of the blocks of which something is called meanwhile."""
    called: set[int] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, index=index: called.add(index))
        for index, block in blocks.items()
        for module in block.modules()
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def make_probe(model: nn.Module, path: str, example: Any) -> Probe | None:
    """How to run ``model``; None if no example was given and it does not run on token numbers alone.

    Args:
        model: Not grown yet.
        path: Attribute path of the blocks.
        example: A tensor, a tuple of arguments, a mapping of keyword arguments, or None.

    Raises:
        InputError: if the model does not run on the example given.
    """
    if any(p.is_meta or type(p).__name__ == "DTensor" for p in model.parameters()):
        return None
    if example is not None:
        run = _runner(model, model, example)
        try:
            before = run()
        except Exception as error:
            rule = f"is nothing that the model runs on ({type(error).__name__}: {str(error)[:100]})"
            fix = "give what you call it with: a tensor, a tuple of arguments, or a dict of keyword arguments"
            raise InputError("example", type(example).__name__, rule, fix) from error
        if not before:
            raise InputError("example", type(example).__name__, "gives no tensor of numbers", "give a batch")
        return Probe(run=run, before=before, given=True, old_blocks_learn=_learns(run, model, path))
    ids = _token_numbers(model)
    for module in ancestors(model, path) if ids is not None else []:
        run = _runner(model, module, ids)
        try:
            before = run()
        except Exception:  # it wants something else
            continue
        if before and before[0].ndim >= 2:
            return Probe(run=run, before=before, given=False, old_blocks_learn=_learns(run, model, path))
    return None


def _runner(model: nn.Module, called: nn.Module, example: Any) -> Callable[[], list[Tensor]]:
    """``called`` on the example, with ``model`` in evaluation mode and random numbers that are always the same."""

    def run() -> list[Tensor]:
        modes = {module: module.training for module in model.modules()}
        devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
        try:
            model.eval()
            with (
                torch.random.fork_rng(devices=[d.index or 0 for d in devices]),
                torch.compiler.set_stance("force_eager"),
            ):
                torch.manual_seed(0)
                if isinstance(example, Mapping):
                    return _outputs(called(**example))
                return _outputs(called(*example) if isinstance(example, tuple) else called(example))
        finally:
            for module, mode in modes.items():
                module.training = mode

    return run


def _outputs(result: Any) -> list[Tensor]:
    """Tensors of numbers in what a model returns: its loss and logits where it names them."""
    if isinstance(result, Mapping):
        named = [result[key] for key in ("logits", "loss", "last_hidden_state") if result.get(key) is not None]
        result = named or list(result.values())
    items = result if isinstance(result, list | tuple) else [result]
    return [t for t in items if isinstance(t, Tensor) and t.is_floating_point()]


def _token_numbers(model: nn.Module) -> Tensor | None:
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    if not tables:
        return None
    vocabulary = max(table.num_embeddings for table in tables)
    batch, length = TOKENS
    return (torch.arange(batch * length, device=tables[0].weight.device) % vocabulary).reshape(batch, length)


def _largest_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Largest difference of two runs; 0 within rounding; infinite where they are not alike."""
    largest = 0.0
    if len(before) != len(after) or any(a.shape != b.shape for a, b in zip(before, after, strict=True)):
        return float("inf")
    for a, b in zip(before, after, strict=True):
        finite = torch.isfinite(a)
        change = (a - b)[finite].abs().max().item() if bool(finite.any()) else 0.0
        if not torch.equal(torch.isfinite(b), finite):
            return float("inf")
        if change > ROUNDING * torch.finfo(a.dtype).eps * float(a[finite].abs().max() if bool(finite.any()) else 0):
            largest = max(largest, change)
    return largest


def _gradients(
    run: Callable[[], list[Tensor]], blocks: Mapping[int, nn.Module]
) -> dict[int, dict[str, Tensor | None]] | None:
    """Gradients of a random projection of the outputs, by block and name; None where there are none to be had."""
    wanted = [(i, n, p) for i, block in blocks.items() for n, p in block.named_parameters() if p.requires_grad]
    if not wanted:
        return None
    with torch.enable_grad():
        outputs = [t for t in run() if t.requires_grad]
        if not outputs:
            return None
        total = torch.zeros((), device=outputs[0].device)
        for t in outputs:
            draws = torch.randn(t.shape, generator=torch.Generator().manual_seed(0)).to(t.device)
            total = total + (draws * t.float().masked_fill(~torch.isfinite(t), 0.0)).sum().to(total.device)
        try:
            found = torch.autograd.grad(total, [p for _, _, p in wanted], allow_unused=True)
        except RuntimeError:  # something in it has no derivative in evaluation mode
            return None
    gradients: dict[int, dict[str, Tensor | None]] = {i: {} for i in blocks}
    for (i, name, _), gradient in zip(wanted, found, strict=True):
        gradients[i][name] = gradient
    return gradients


def _learns(run: Callable[[], list[Tensor]], model: nn.Module, path: str) -> bool:
    blocks = dict(enumerate(model.get_submodule(path).children()))
    gradients = _gradients(run, blocks) if blocks else None
    return gradients is not None and any(
        g is not None and bool(g.any()) for h in gradients.values() for g in h.values()
    )


def _depth(new: Mapping[int, nn.Module]) -> int:
    return max(new) + 1
