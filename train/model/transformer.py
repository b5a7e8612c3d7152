"""GPT-2 at any depth, zero included; the same skeleton carries the blocks of :mod:`latebloom.train.model.llama`.

Zero layers: token and position embeddings, final LayerNorm, tied head. Each block adds pre-LayerNorm causal attention
and a GELU MLP (Radford et al. 2019); blocks are identical in code, so that depth is data. Logits equal those of
Hugging Face's ``GPT2LMHeadModel`` with the same weights.

Shapes: B batch, T tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from latebloom.theory.plan import GPT2Shape
from latebloom.train.config import LOGITS_AT_ONCE, Activations
from latebloom.train.model import llama as variants
from latebloom.train.model.activations import checkpointed

__all__ = ["GPT2", "Block", "gelu", "generator", "head_loss", "init_block_", "init_gpt2_", "make_norm"]


FUSED = hasattr(torch.nn, "LinearCrossEntropyOptions")


class Attention(nn.Module):
    """Causal self-attention with one matrix for query, key and value."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2) for t in self.qkv(x_BTD).split(D, dim=-1))
        y_BHTE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y_BHTE.transpose(1, 2).reshape(B, T, D))


def gelu(x: Tensor) -> Tensor:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), GPT-2's; on a CPU by the sigmoid, which is twice as fast there."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling():
        return _SigmoidGELU.apply(x)
    return F.gelu(x, approximate="tanh")


class _SigmoidGELU(torch.autograd.Function):
    """x s with s = sigmoid(x (a + b x^2)); its derivative s + x s (1 - s) (a + 3 b x^2) is what is kept."""

    A = 2 * math.sqrt(2 / math.pi)
    B = 0.044715 * A

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        a = x.new_tensor(_SigmoidGELU.A)
        s = torch.addcmul(a, x, x, value=_SigmoidGELU.B).mul_(x).sigmoid_()
        y = x * s
        if ctx.needs_input_grad[0]:
            slope = torch.addcmul(a, x, x, value=3 * _SigmoidGELU.B).mul_(y)
            ctx.save_for_backward(slope.addcmul_(slope, s, value=-1).add_(s))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


class MLP(nn.Module):
    """Two matrices with a tanh-approximated GELU between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc = nn.Linear(width, 4 * width)
        self.proj = nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.proj(gelu(self.fc(x_BTD)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    activations: Activations = "keep"  # for the backward pass; the loop sets it

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        self.norm1 = make_norm(shape)
        self.attention = variants.Attention(shape) if shape.block else Attention(shape.width, shape.heads)
        self.norm2 = make_norm(shape)
        self.mlp = variants.SwiGLU(shape.width, shape.block.hidden) if shape.block else MLP(shape.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return checkpointed(self, self.branches, x_BTD, self.activations)

    def branches(self, x_BTD: Tensor) -> Tensor:
        """The block itself."""
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD))
        return x_BTD + self.mlp(self.norm2(x_BTD))


def make_norm(shape: GPT2Shape) -> nn.Module:
    """LayerNorm, or the variant's RMSNorm."""
    return nn.RMSNorm(shape.width, eps=shape.block.norm_eps) if shape.block else nn.LayerNorm(shape.width)


class GPT2(nn.Module):
    """GPT-2 of ``depth`` blocks.

    Args:
        shape: Width, heads, vocabulary, context.
        depth: Number of blocks, >= 0.
        seed: Of the initialisation, see :func:`init_gpt2_`.
    """

    def __init__(self, shape: GPT2Shape, depth: int, *, seed: int = 0):
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.positions = None if shape.block else nn.Embedding(shape.context, shape.width)  # else rotary
        self.blocks = nn.ModuleList(Block(shape) for _ in range(depth))
        self.norm = make_norm(shape)
        if not self.tokens.weight.is_meta:
            init_gpt2_(self, seed=seed)

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def features(self, ids_BT: Tensor) -> Tensor:
        """What the head sees, (B, T, D)."""
        x_BTD = self.tokens(ids_BT)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.norm(x_BTD)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return F.linear(self.features(ids_BT), self.tokens.weight)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy of ``targets_BT``, nats per token."""
        return head_loss(self.features(ids_BT).flatten(0, 1), self.tokens.weight, targets_BT.flatten())


def head_loss(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy of the head; in float32 by torch's fused loss, which never holds more than some logits.

    At GPT-2's vocabulary it takes half the time of the plain one on a CPU. Below float32 it returns the loss itself
    rounded to the low precision, so that is left to the plain one, as is torch before 2.13.
    """
    n, width = x_ND.shape
    full_precision = x_ND.dtype == torch.float32 and not torch.is_autocast_enabled(x_ND.device.type)
    if FUSED and full_precision and n >= width and len(weight_VD) > width:
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=max(1, min(n, LOGITS_AT_ONCE // len(weight_VD))))
        return F.linear_cross_entropy(x_ND, weight_VD, targets_N, options=options)
    return F.cross_entropy(F.linear(x_ND, weight_VD).float(), targets_N)


@torch.no_grad()
def init_gpt2_(model: GPT2, *, seed: int) -> None:
    """Initialise in place, each tensor from a generator of its own, so that the trunk does not depend on the depth.

    GPT-2's scheme: normal, standard deviation 0.02 for the embeddings and 0.02 sqrt(768/D) for matrices (GPT-2's at
    124M, and a spectral norm that does not depend on the width), zero biases; the last matrix of each residual branch
    is divided by sqrt(2 L).
    """
    for name in ("tokens", "positions"):
        if getattr(model, name) is None:
            continue
        table = getattr(model, name).weight
        table.normal_(0.0, 0.02, generator=generator(seed, name, table.device))
    for index, block in enumerate(model.blocks):
        init_block_(block, depth=model.depth, seed=seed, name=f"blocks.{index}")


@torch.no_grad()
def init_block_(block: nn.Module, *, depth: int, seed: int, name: str) -> None:
    """Initialise one block of a model of ``depth`` as :func:`init_gpt2_` does; LayerNorms become the identity."""
    for key, parameter in block.named_parameters():
        if parameter.ndim == 2:
            std = 0.02 * math.sqrt(768 / min(parameter.shape))
            if key.endswith("proj.weight"):
                std /= math.sqrt(2 * max(depth, 1))
            parameter.normal_(0.0, std, generator=generator(seed, f"{name}.{key}", parameter.device))
        elif key.endswith("weight"):
            parameter.fill_(1.0)
        else:
            parameter.zero_()


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on ``seed`` and ``name`` only."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little") >> 1
    return torch.Generator(device).manual_seed(number)
