r"""Parameters and floating-point operations of GPT-2 at any depth, embedding, head and attention included.

Notation: d = ``width``, V = ``vocab_size``, n = ``context`` (tokens), L = ``depth``.

    parameters      N(L) = (V + n) d + 2 d + L (12 d^2 + 13 d)          tied head, biases, LayerNorms
    FLOPs per token c_L  = 6 (V d + 12 L d^2) + 12 L n d                forward and backward, 2 + 4 FLOPs a weight

With a :class:`~latebloom.theory.plan.BlockVariant` (h heads, k key-value heads, hidden width f, RMSNorm, no biases, no
positions) a block has 2 d^2 (1 + k/h) + 3 d f matrix weights instead of 12 d^2, and 2 d norm weights (2 d/h more with
QK-norm) instead of 13 d vectors.

The token embedding is a look-up and costs nothing; the tied head is a matrix product with V d weights, all of a
zero-layer model's cost. Attention is counted as the full n x n products (Chowdhery et al., arXiv 2204.02311,
appendix B), without the causal half. ``tests/test_train_model.py`` checks c_L against torch's own FLOP counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from latebloom.theory.plan import GPT2Shape, Plan, Stage

__all__ = ["depth_cost_ratio", "flops_per_token", "parameters", "plan_flops", "stage_flops"]


def parameters(model: GPT2Shape, depth: int, *, embeddings: bool = True) -> int:
    """Number of parameters N at ``depth`` blocks.

    Args:
        model: Width d, vocabulary V and context n.
        depth: Number of blocks, >= 0.
        embeddings: Count token and position embeddings (the tied head is the same matrix).

    >>> from latebloom.theory.architectures.presets import gpt2_124m
    >>> parameters(gpt2_124m(), 12)
    124475904
    """
    _check_depth(depth)
    d, block = model.width, model.block
    if block:
        norms = 2 * d + 2 * (d // model.heads) * block.qk_norm
        return d + depth * (_matrix_weights(model) + norms) + model.vocab_size * d * embeddings
    trunk = 2 * d + depth * (_matrix_weights(model) + 13 * d)
    return trunk + (model.vocab_size + model.context) * d * embeddings


def flops_per_token(model: GPT2Shape, depth: int, *, head: bool = True) -> int:
    """Training FLOPs per token c_L (forward and backward) at ``depth`` blocks.

    Args:
        model: Width, vocabulary and context.
        depth: Number of blocks, >= 0.
        head: Count the vocabulary projection; without it the 'non-embedding' count of most papers remains.
    """
    _check_depth(depth)
    d = model.width
    return 6 * (model.vocab_size * d * head + depth * _matrix_weights(model)) + 12 * depth * model.context * d


def depth_cost_ratio(model: GPT2Shape, small: int, full: int, *, head: bool = True) -> float:
    """c_l / c_L, the price of a small-model step in full-model steps."""
    return flops_per_token(model, small, head=head) / flops_per_token(model, full, head=head)


def stage_flops(plan: Plan, stage: Stage, *, head: bool = True) -> float:
    """FLOPs per optimizer step in ``stage``."""
    return float(plan.batch_tokens) * flops_per_token(plan.model, stage.depth, head=head)


def plan_flops(plan: Plan, step: int | None = None, *, head: bool = True) -> float:
    """Training FLOPs of ``plan`` after ``step`` updates (all of them by default)."""
    step = plan.steps if step is None else step
    ends = [stage.start_step for stage in plan.stages[1:]] + [plan.steps]
    return sum(
        stage_flops(plan, stage, head=head) * max(0, min(step, end) - stage.start_step)
        for stage, end in zip(plan.stages, ends, strict=True)
    )


def _matrix_weights(model: GPT2Shape) -> int:
    """Weights of a block's matrices."""
    d, block = model.width, model.block
    if block is None:
        return 12 * d * d
    return 2 * d * d + 2 * d * d * block.kv_heads // model.heads + 3 * d * block.hidden


def _check_depth(depth: int) -> None:
    if depth < 0 or depth != int(depth):
        raise InputError("depth", depth, "must be a whole number >= 0", "give the number of blocks")
