"""Matrix products on a CPU: float32 by oneDNN, where it is faster than torch's default and still float32.

On AMD its kernels take 4 to 23 % less time than MKL's. torch offers them only as a permission to multiply in bfloat16,
of which oneDNN makes use where there are AMX units; so one product is looked at, and where it is no longer a float32
one everything stays as it was. The permission is given for single calls: with it as a default, attention's many small
products would take seven times as long.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["ONEDNN", "Linear", "takes_onednn"]


class _OneDNN:
    """Within it float32 products go to oneDNN; after it as before. Not to be nested."""

    def __enter__(self) -> None:
        self.chosen = torch.backends.mkldnn.matmul.fp32_precision  # by who calls set_float32_matmul_precision, say
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"

    def __exit__(self, *_: object) -> None:
        torch.backends.mkldnn.matmul.fp32_precision = self.chosen


ONEDNN = _OneDNN()


def takes_onednn(x: Tensor) -> bool:
    """Whether products of ``x`` are float32 ones on a CPU, made now, whose precision nobody has chosen."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.matmul.fp32_precision == "none"
        and STAYS_FLOAT32
    )


def _stays_float32() -> bool:
    """Whether oneDNN's products keep what bfloat16 would round away, in all three forms that training takes."""
    x = torch.full((256, 256), 1 + 2.0**-12)
    with torch.no_grad(), ONEDNN:
        products = (x @ x, x.T @ x, torch.addmm(x[0], x, x.T) - x[0])
    exact = 256 * (1 + 2.0**-12) ** 2
    return all(float((product - exact).abs().max()) < 256 * 2.0**-20 for product in products)


STAYS_FLOAT32 = _stays_float32()  # here, where nobody counts products


class Linear(nn.Linear):
    """``nn.Linear``, forward and backward by oneDNN where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if takes_onednn(x):
            return _Product.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias).view(*x.shape[:-1], -1)
        return F.linear(x, self.weight, self.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        with ONEDNN:
            return torch.addmm(bias, x, weight.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        with ONEDNN:
            return gradient @ weight, gradient.T @ x, gradient.sum(0)
