"""Blocks of LLAMA3 and Qwen3 for the same skeleton: rotary positions, grouped queries, QK-norm, SwiGLU, no biases.

They keep the interface of :class:`latebloom.train.model.transformer.Block`: one tensor in, one out, no index, ``proj``
ends each branch. Logits equal those of Hugging Face's ``LlamaForCausalLM`` and ``Qwen3ForCausalLM`` with the same
weights.

Shapes: B batch, T tokens, D width, H heads, K key-value heads, E = D/H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latebloom.theory.plan import GPT2Shape

__all__ = ["Attention", "SwiGLU", "rotate"]


class Attention(nn.Module):
    """Causal self-attention with rotary positions; each of K key-value heads serves H/K query heads.

    Query, key and value are matrices of their own, as they differ in shape; Muon takes them apart anyway.
    """

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        assert shape.block is not None
        self.head_size, self.theta = shape.width // shape.heads, shape.block.rope_theta
        self.grouped = shape.block.kv_heads != shape.heads
        inner = shape.block.kv_heads * self.head_size
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, inner, bias=False)
        self.v = nn.Linear(shape.width, inner, bias=False)
        self.proj = nn.Linear(shape.width, shape.width, bias=False)
        norm = RMSNorm if shape.block.qk_norm else None
        self.q_norm = norm(self.head_size, eps=shape.block.norm_eps) if norm else nn.Identity()
        self.k_norm = norm(self.head_size, eps=shape.block.norm_eps) if norm else nn.Identity()

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (f(x_BTD).view(B, T, -1, self.head_size) for f in (self.q, self.k, self.v))
        q, k = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2)
        q, k = rotate(q, self.theta), rotate(k, self.theta)
        y_BHTE = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=self.grouped)
        return self.proj(y_BHTE.transpose(1, 2).reshape(B, T, D))


class RMSNorm(nn.RMSNorm):
    """torch's, in the precision of its gains: on a GPU its one kernel takes no other values than those."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class SwiGLU(nn.Module):
    """proj(silu(gate x) * up x)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.proj(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


def rotate(x_BHTE: Tensor, theta: float) -> Tensor:
    """Rotary position embedding (Su et al., arXiv 2104.09864): pair (i, i + E/2) at position t by t theta^(-2 i/E).

    The angles are made on the spot, T E/2 of them in float32: no buffer that a grown, moved or meta model could lose.
    """
    T, E = x_BHTE.shape[-2:]
    rates_E = theta ** (-torch.arange(0, E, 2, device=x_BHTE.device, dtype=torch.float32) / E)
    angles_TE = torch.arange(T, device=x_BHTE.device, dtype=torch.float32)[:, None] * rates_E
    cos, sin = angles_TE.cos(), angles_TE.sin()
    a, b = x_BHTE.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_BHTE.dtype)
