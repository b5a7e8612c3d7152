"""GPT-2 (Radford et al. 2019): attention with one matrix for query, key and value, a GELU MLP, LayerNorms, biases.

Logits equal those of Hugging Face's ``GPT2LMHeadModel`` with the same weights, which it keeps under the names of
:data:`MODULES`, matrices inside blocks transposed.

Shapes: B batch, T tokens, D width, H heads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.train.model.family import HuggingFace, Modules, Required

__all__ = ["MLP", "MODULES", "Attention", "gelu"]


class Attention(nn.Module):
    """Causal self-attention with one matrix for query, key and value.

    Args:
        shape: Width and heads.
    """

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2) for t in self.qkv(x_BTD).split(D, dim=-1))
        y_BHTE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y_BHTE.transpose(1, 2).reshape(B, T, D))


def gelu(x: Tensor) -> Tensor:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), GPT-2's; on a CPU by the sigmoid, which is twice as fast there.

    Args:
        x: Any shape.
    """
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
    """Two matrices with a tanh-approximated GELU between them.

    Args:
        shape: Width; the inner one is four times as large.
    """

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        width = shape.width
        self.fc = nn.Linear(width, 4 * width)
        self.proj = nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.proj(gelu(self.fc(x_BTD)))


class LayerNorm(nn.LayerNorm):
    """torch's, in the precision of its input, whatever its gains were gathered in."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def make_norm(shape: GPT2Shape) -> nn.Module:
    """LayerNorm over the width."""
    return LayerNorm(shape.width)


def hf_config(shape: GPT2Shape, depth: int) -> dict[str, Any]:
    """What a GPT-2's config.json holds beside what all do."""
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_positions": shape.context,
        "n_ctx": shape.context, "n_embd": shape.width, "n_layer": depth, "n_head": shape.heads, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    }  # fmt: skip


def with_prefix(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under today's names: checkpoints of the first release have no prefix."""
    if "transformer.wte.weight" in theirs:
        return theirs
    return {f"transformer.{name}": tensor for name, tensor in theirs.items()}


MODULES = Modules(
    attention=Attention,
    mlp=MLP,
    norm=make_norm,
    hugging_face=HuggingFace(
        outer={
            "tokens.weight": "transformer.wte.weight", "positions.weight": "transformer.wpe.weight",
            "norm.weight": "transformer.ln_f.weight", "norm.bias": "transformer.ln_f.bias",
            "head.weight": "lm_head.weight",
        },
        blocks="transformer.h",
        inner={
            "norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn", "attention.proj": "attn.c_proj",
            "mlp.fc": "mlp.c_fc", "mlp.proj": "mlp.c_proj",
        },
        transposed=True,
        required={
            "gpt2": {
                "activation_function": Required(("gelu_new", "gelu_pytorch_tanh"), "the tanh-approximated GELU"),
                "layer_norm_epsilon": Required((1e-5,), "1e-5"),
                "scale_attn_weights": Required((True,), "scaled attention"),
                "scale_attn_by_inverse_layer_idx": Required((False,), "the same scale in every layer"),
                "add_cross_attention": Required((False,), "no cross-attention"),
            },
        },
        config=hf_config,
        todays_names=with_prefix,
    ),
)  # fmt: skip
