r"""Growing in depth: where old blocks stand, how new blocks begin, what becomes of the optimizer's memory.

Orders are those of :mod:`latebloom.theory.expansion`. Its initialisations mean here

    init             new blocks                       function kept?     trainable at once?
    random           U, V fresh                       no                 yes
    zero             U = V = 0                        yes                no: a saddle, its gradient is exactly zero
    zero_last        V fresh, U = 0                   yes                yes, through U
    copy             U, V of their source             iff L s_L = l s_l  yes
    copy_zero_last   V of their source, U = 0         yes                yes, through U

and those with other weights or other zeros are refused.

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

from latebloom.sim.family import Blocks, NetworkFamily
from latebloom.sim.optimizers import OptimizerState
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, STATE_POLICIES, Initialisation, placement, sources
from latebloom.theory.plan import Stage

__all__ = ["add_blocks"]


def add_blocks(
    family: NetworkFamily, blocks: Blocks, state: OptimizerState, *, stage: Stage, seeds: Sequence[int]
) -> tuple[Blocks, OptimizerState]:
    """Weights and optimizer state at the start of ``stage``.

    Args:
        family: The architecture.
        blocks: Weights before, each (runs, l, ...).
        state: Optimizer state before.
        stage: Depth, init, order and what happens to the optimizer state.
        seeds: Of each run; new blocks take the draws with the lowest numbers that the run has not used, so that 0 -> L
            starts exactly as a fresh run of depth L does.

    Raises:
        InputError: if blocks are to be copied and there are none, if the net would not grow, or if its init or its
            optimizer state has no counterpart here.
    """
    old_depth = blocks[0].shape[1]
    rule = INITS[stage.init]
    _check(stage, rule, old_depth)
    old = placement(stage.order, old_depth, stage.depth)
    new = [place for place in range(stage.depth) if place not in old]
    raw = rule.copies and rule.zeroed == "nothing"
    kept, factor = (blocks, 1.0) if raw or not old_depth else family.absorbed(blocks, old_depth, stage.depth)
    fresh = family.fresh(seeds, range(old_depth, stage.depth))
    if rule.copies:
        continued = sources(stage.order, old_depth, stage.depth)
        copied = [continued[place] for place in new]
        added = tuple(t if i in family.shared else t[:, copied] for i, t in enumerate(kept))
    else:
        added = fresh if rule.weights == "fresh" else tuple(torch.zeros_like(t) for t in fresh)
    if rule.zeroed == "last_maps":
        added = tuple(torch.zeros_like(t) if i == family.last else t for i, t in enumerate(added))
    grown = tuple(
        k if i in family.shared else _placed(k, old, a, new)
        for i, (k, a) in enumerate(zip(kept, added, strict=True))
    )  # fmt: skip

    def remembered(tensors: Blocks, scale: float) -> Blocks:
        out = []
        for i, tensor in enumerate(tensors):
            keep = tensor if STATE_POLICIES[stage.optimizer_state].keeps_old else torch.zeros_like(tensor)
            if i not in family.shared:
                empty = tensor.new_zeros(tensor.shape[0], len(new), *tensor.shape[2:])
                keep = _placed(keep * scale, old, empty, new)
            out.append(keep)
        return tuple(out)

    return grown, OptimizerState(
        first=remembered(state.first, 1 / factor),
        second=remembered(state.second, 1 / factor**2),
        count=remembered(state.count, 1.0),
    )


def _check(stage: Stage, rule: Initialisation, old_depth: int) -> None:
    """Refuse what has no counterpart in nets of two matrices a block."""
    if rule.zeroed == "norms" or rule.weights == "identity":
        reason = "is for transformers: these blocks have no norms or biases"
        raise InputError("init", stage.init, reason, "use zero_last or copy_zero_last")
    if rule.weights not in ("fresh", "copied", "zero") or rule.zeroed not in ("nothing", "last_maps"):
        reason = f"has no counterpart in deep linear networks: {rule.weights} weights, {rule.zeroed} zeroed"
        raise InputError("init", stage.init, reason, "use zero_last or copy_zero_last")
    if STATE_POLICIES[stage.optimizer_state].new != "none":
        raise InputError("optimizer_state", stage.optimizer_state, "is only the trainer's", "use keep or reset")
    if rule.copies and not old_depth:
        raise InputError("init", stage.init, "cannot copy from a model without blocks", "use 'random' or 'zero_last'")
    if stage.depth <= old_depth:
        raise InputError("depth", stage.depth, f"must be larger than the depth before it, {old_depth}", "grow more")


def _placed(old: torch.Tensor, at_old: list[int], new: torch.Tensor, at_new: list[int]) -> torch.Tensor:
    out = new.new_empty(new.shape[0], len(at_old) + len(at_new), *new.shape[2:])
    out[:, at_old], out[:, at_new] = old, new
    return out
