r"""Parameters and floating-point operations of GPT-2 at any depth, embedding, head and attention included.

Notation: d = ``width``, V = ``vocab_size``, n = ``context`` (tokens), L = ``depth``.

    parameters      N(L) = (V + n) d + 2 d + L (12 d^2 + 13 d)          tied head, biases, LayerNorms; V d more untied
    FLOPs per token c_L  = 6 (V d + 12 L d^2) + 12 L n d                forward and backward, 2 + 4 FLOPs a weight

Both are counted from the tensors that the architecture family states (:mod:`latebloom.theory.architectures.family`).
For the family ``llama`` (h heads, k key-value heads, hidden width f, RMSNorm, no biases, no positions) a block has
2 d^2 (1 + k/h) + 3 d f matrix weights instead of 12 d^2, and 2 d norm weights (2 d/h more with QK-norm) instead of 13 d
vectors. Of stacked matrices, experts, FLOPs count those that a token passes through.

The token embedding is a look-up and costs nothing; the head, tied to it or not, is a matrix product with V d weights,
all of a zero-layer model's cost. Attention is counted as the full n x n products (Chowdhery et al., arXiv 2204.02311,
appendix B), without the causal half. ``tests/test_train_model.py`` checks c_L against torch's own FLOP counter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latebloom.theory.architectures.shape import GPT2Shape, block_tensors, outer_tensors
from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from latebloom.theory.plan import Plan, Stage

__all__ = [
    "active_parameters",
    "depth_cost_ratio",
    "flops_per_token",
    "parameters",
    "plan_flops",
    "stage_flops",
]


def parameters(model: GPT2Shape, depth: int, *, embeddings: bool = True) -> int:
    """Number of parameters N at ``depth`` blocks.

    Args:
        model: Width d, vocabulary V and context n.
        depth: Number of blocks, >= 0.
        embeddings: Count token and position embeddings and the head (tied, it is the same matrix).

    Raises:
        InputError: if the depth is not a whole number >= 0.

    >>> from latebloom.theory.architectures.presets import gpt2_124m
    >>> parameters(gpt2_124m(), 12)
    124475904
    """
    _check_depth(depth)
    outer = sum(tensor.size for tensor in outer_tensors(model) if embeddings or tensor.kind not in MATRIX_KINDS)
    return outer + depth * sum(tensor.size for tensor in block_tensors(model))


def active_parameters(model: GPT2Shape, depth: int) -> int:
    """Number of parameters that one token passes through at ``depth`` blocks: all, but for experts not chosen.

    Args:
        model: The shape.
        depth: Number of blocks, >= 0.

    Raises:
        InputError: if the depth is not a whole number >= 0.
    """
    _check_depth(depth)
    outer = sum(tensor.active_size for tensor in outer_tensors(model))
    return outer + depth * sum(tensor.active_size for tensor in block_tensors(model))


def flops_per_token(model: GPT2Shape, depth: int, *, head: bool = True) -> int:
    """Training FLOPs per token c_L (forward and backward) at ``depth`` blocks.

    Args:
        model: Width, vocabulary and context.
        depth: Number of blocks, >= 0.
        head: Count the vocabulary projection; without it the 'non-embedding' count of most papers remains.

    Raises:
        InputError: if the depth is not a whole number >= 0.
    """
    _check_depth(depth)
    head_weights = sum(tensor.active_size for tensor in outer_tensors(model) if tensor.kind == "head")
    block_weights = sum(tensor.active_size for tensor in block_tensors(model) if tensor.kind in MATRIX_KINDS)
    return 6 * (head_weights * head + depth * block_weights) + 12 * depth * model.context * model.width


def depth_cost_ratio(model: GPT2Shape, small: int, full: int, *, head: bool = True) -> float:
    """c_l / c_L, the price of a small-model step in full-model steps.

    Args:
        model: The shape.
        small: Blocks l of the small model.
        full: Blocks L of the full model.
        head: See :func:`flops_per_token`.
    """
    return flops_per_token(model, small, head=head) / flops_per_token(model, full, head=head)


def stage_flops(plan: Plan, stage: Stage, *, head: bool = True) -> float:
    """FLOPs per optimizer step in ``stage``.

    Args:
        plan: Gives model and batch.
        stage: Gives the number of blocks that a token passes.
        head: See :func:`flops_per_token`.
    """
    return float(plan.batch_tokens) * flops_per_token(plan.model, stage.passes, head=head)


def plan_flops(plan: Plan, step: float | None = None, *, head: bool = True) -> float:
    """Training FLOPs of ``plan`` after ``step`` updates.

    Args:
        plan: The run.
        step: Updates done, in [0, T]; None: all T of them.
        head: See :func:`flops_per_token`.

    Raises:
        InputError: if the step does not lie in the plan.
    """
    done = plan.steps if step is None else step
    if not 0 <= done <= plan.steps:
        rule = f"must lie in [0, {plan.steps}], the plan's updates"
        raise InputError("step", step, rule, "give the number of updates done")
    ends = [stage.start_step for stage in plan.stages[1:]] + [plan.steps]
    return sum(
        stage_flops(plan, stage, head=head) * max(0, min(done, end) - stage.start_step)
        for stage, end in zip(plan.stages, ends, strict=True)
    )


def _check_depth(depth: float) -> None:
    if not (0 <= depth < math.inf and depth == int(depth)):
        raise InputError("depth", depth, "must be a whole number >= 0", "give the number of blocks")
