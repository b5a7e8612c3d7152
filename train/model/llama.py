"""Blocks of LLAMA3 and Qwen3 for the same skeleton: rotary positions, grouped queries, QK-norm, SwiGLU, no biases.

They keep the interface of :class:`latebloom.train.model.transformer.Block`: one tensor in, one out, no index, ``proj``
ends each branch. Logits equal those of Hugging Face's ``LlamaForCausalLM`` and ``Qwen3ForCausalLM`` with the same
weights.

Shapes: B batch, T tokens, D width, H heads, K key-value heads, E = D/H.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.train.model.family import HuggingFace, Modules, Required

__all__ = ["MODULES", "GroupedQueryAttention", "SwiGLU", "rotate"]


class GroupedQueryAttention(nn.Module):
    """Causal self-attention with rotary positions; each of K key-value heads serves H/K query heads.

    Query, key and value are matrices of their own, as they differ in shape; Muon takes them apart anyway.

    Args:
        shape: Width, heads and the family's settings.
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
    """torch's, in the wider precision of its input and its gains: on a GPU its one kernel takes no mixture."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, self.weight.dtype)
        return F.rms_norm(x.to(wide), self.normalized_shape, self.weight.to(wide), self.eps).to(x.dtype)


class SwiGLU(nn.Module):
    """proj(silu(gate x) * up x).

    Args:
        shape: Width and, in the family's settings, the inner width.
    """

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        assert shape.block is not None
        width, hidden = shape.width, shape.block.hidden
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.proj(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


def rotate(x_BHTE: Tensor, theta: float) -> Tensor:
    """Rotary position embedding (Su et al., arXiv 2104.09864): pair (i, i + E/2) at position t by t theta^(-2 i/E).

    The angles are made on the spot, T E/2 of them in float32: no buffer that a grown, moved or meta model could lose.

    Args:
        x_BHTE: Queries or keys.
        theta: Base of the frequencies.
    """
    T, E = x_BHTE.shape[-2:]
    rates_E = theta ** (-torch.arange(0, E, 2, device=x_BHTE.device, dtype=torch.float32) / E)
    angles_TE = torch.arange(T, device=x_BHTE.device, dtype=torch.float32)[:, None] * rates_E
    cos, sin = angles_TE.cos(), angles_TE.sin()
    a, b = x_BHTE.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_BHTE.dtype)


def make_norm(shape: GPT2Shape) -> nn.Module:
    """RMSNorm over the width."""
    assert shape.block is not None
    return RMSNorm(shape.width, eps=shape.block.norm_eps)


def hf_config(shape: GPT2Shape, depth: int) -> dict[str, Any]:
    """What the config.json of a LLAMA3 or Qwen3 holds beside what all do."""
    block = shape.block
    assert block is not None
    model_type, architecture = ("qwen3", "Qwen3ForCausalLM") if block.qk_norm else ("llama", "LlamaForCausalLM")
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_size": shape.width,
        "num_hidden_layers": depth, "num_attention_heads": shape.heads, "num_key_value_heads": block.kv_heads,
        "intermediate_size": block.hidden, "head_dim": shape.width // shape.heads,
        "max_position_embeddings": shape.context, "hidden_act": "silu", "rms_norm_eps": block.norm_eps,
        "rope_theta": block.rope_theta, "attention_bias": False, "attention_dropout": 0.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": block.rope_theta},
    }  # fmt: skip


REQUIRED = {
    "hidden_act": Required(("silu",), "SiLU"),
    "attention_bias": Required((False,), "no biases"),
    "mlp_bias": Required((False,), "no biases"),
    "rope_scaling": Required((None,), "unscaled rotary positions"),
}

MODULES = Modules(
    attention=GroupedQueryAttention,
    mlp=SwiGLU,
    norm=make_norm,
    hugging_face=HuggingFace(
        outer={
            "tokens.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
            "head.weight": "lm_head.weight",
        },
        blocks="model.layers",
        inner={
            "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "attention.q": "self_attn.q_proj",
            "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj", "attention.proj": "self_attn.o_proj",
            "attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm",
            "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.proj": "mlp.down_proj",
        },
        transposed=False,
        required={
            "llama": REQUIRED,
            "qwen3": REQUIRED | {"use_sliding_window": Required((False,), "full attention")},
        },
        config=hf_config,
    ),
)  # fmt: skip
