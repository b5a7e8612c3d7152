r"""Growing in depth: where old blocks stand, how new blocks begin, what becomes of the optimizer's memory.

``order`` as in :class:`latebloom.theory.plan.Stage`, from blocks a, b to four: ``stack`` abab, ``inter`` aabb,
``last`` abbb. The first of each letter is the old block, every other is new.

    init             new blocks                       function kept?     trainable at once?
    random           U, V fresh                       no                 yes
    zero             U = V = 0                        yes                no: a saddle, its gradient is exactly zero
    zero_last        V fresh, U = 0                   yes                yes, through U
    copy             U, V of their letter             iff L s_L = l s_l  yes
    copy_zero_last   V of their letter, U = 0         yes                yes, through U

The residual multiplier s = L^-alpha falls when the depth grows. Two rules, our choice:

- **absorbed** (all but ``copy``): old U and V are each multiplied by (s_l/s_L)^(1/2), so that every old block keeps
  its function s U V; remembered gradients scale by the inverse, squares by the inverse squared, as gradients do.
- **raw** (``copy``): weights are taken over as they are, as a transformer's would be. The sum of the blocks
  s sum_i U_i V_i, the network to first order, is then kept if and only if L s_L = l s_l, for all l and L only at
  alpha = 1; products of blocks change it at second order in any case.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latebloom.sim.family import Blocks, Family
from latebloom.sim.optimizers import State
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Stage

__all__ = ["grow", "sources"]


def sources(old_depth: int, new_depth: int, order: str) -> tuple[list[int], list[bool]]:
    """For each position in the grown net: the old block it comes from, and whether it is that block itself.

    >>> sources(2, 4, "inter")
    ([0, 0, 1, 1], [True, False, True, False])
    >>> sources(2, 5, "last")
    ([0, 1, 1, 1, 1], [True, True, False, False, False])
    """
    if new_depth <= old_depth:
        raise InputError("depth", new_depth, f"must be larger than the depth before it, {old_depth}", "grow more")
    if old_depth == 0:
        return [0] * new_depth, [False] * new_depth
    rules = {
        "stack": lambda i: i % old_depth,
        "inter": lambda i: i * old_depth // new_depth,
        "last": lambda i: min(i, old_depth - 1),
    }
    if order not in rules:
        raise InputError("order", order, "is unknown", f"valid: {', '.join(rules)}")
    source = [rules[order](i) for i in range(new_depth)]
    return source, [s not in source[:i] for i, s in enumerate(source)]


def grow(family: Family, blocks: Blocks, state: State, *, stage: Stage, seeds: Sequence[int]) -> tuple[Blocks, State]:
    """Weights and optimizer state at the start of ``stage``.

    Args:
        family: The architecture.
        blocks: Weights before, each (runs, l, ...).
        state: Optimizer state before.
        stage: Depth, init, order and what happens to the optimizer state.
        seeds: Of each run; new blocks take the draws with the lowest numbers that the run has not used, so that 0 -> L
            starts exactly as a fresh run of depth L does.

    Raises:
        InputError: if blocks are to be copied and there are none, or the net would not grow.
    """
    old_depth = blocks[0].shape[1]
    if stage.init in ("copy_zero_norm", "identity"):
        rule = "is for transformers: these blocks have no norms or biases"
        raise InputError("init", stage.init, rule, "use zero_last or copy_zero_last")
    if stage.optimizer_state in ("keep_copied", "keep_warmed"):
        raise InputError("optimizer_state", stage.optimizer_state, "is only the trainer's", "use keep or reset")
    if stage.init.startswith("copy") and not old_depth:
        raise InputError("init", stage.init, "cannot copy from a model without blocks", "use 'random' or 'zero_last'")
    source, is_old = sources(old_depth, stage.depth, stage.order)
    old = [i for i, yes in enumerate(is_old) if yes]
    new = [i for i, yes in enumerate(is_old) if not yes]
    letters = [source[i] for i in new]
    absorb = stage.init != "copy" and old_depth > 0
    kept, factor = family.absorbed(blocks, old_depth, stage.depth) if absorb else (blocks, 1.0)
    fresh = family.fresh(seeds, range(old_depth, stage.depth))
    if stage.init in ("random", "zero_last"):
        added = fresh
    elif stage.init == "zero":
        added = tuple(torch.zeros_like(t) for t in fresh)
    else:
        added = tuple(t if i in family.shared else t[:, letters] for i, t in enumerate(kept))
    if stage.init.endswith("zero_last"):
        added = tuple(torch.zeros_like(t) if i == family.last else t for i, t in enumerate(added))
    grown = tuple(
        k if i in family.shared else _placed(k, old, a, new)
        for i, (k, a) in enumerate(zip(kept, added, strict=True))
    )  # fmt: skip

    def remembered(tensors: Blocks, scale: float) -> Blocks:
        out = []
        for i, tensor in enumerate(tensors):
            keep = tensor if stage.optimizer_state == "keep" else torch.zeros_like(tensor)
            if i not in family.shared:
                empty = tensor.new_zeros(tensor.shape[0], len(new), *tensor.shape[2:])
                keep = _placed(keep * scale, old, empty, new)
            out.append(keep)
        return tuple(out)

    return grown, State(
        first=remembered(state.first, 1 / factor),
        second=remembered(state.second, 1 / factor**2),
        count=remembered(state.count, 1.0),
    )


def _placed(old: torch.Tensor, at_old: list[int], new: torch.Tensor, at_new: list[int]) -> torch.Tensor:
    out = new.new_empty(new.shape[0], len(at_old) + len(at_new), *new.shape[2:])
    out[:, at_old], out[:, at_new] = old, new
    return out
