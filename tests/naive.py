"""The network as it is written on paper, one run and one block after the other, trained by autograd: slow, readable."""

from __future__ import annotations

import torch

__all__ = ["naive_descent"]


def naive_descent(weights: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, *, s: float, lrs: list[float]) -> None:
    """Gradient descent in place on 1/2 |P x - y|^2, P = (I + s W_L) ... (I + s W_1), a step for each of ``lrs``.

    Args:
        weights: W_l, (d, d), leaves that require a gradient. x, y: (d, n). s: Residual multiplier.
    """
    optimizer = torch.optim.SGD(weights, lr=0.0)
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        h = x
        for w in weights:
            h = h + s * (w @ h)
        loss = 0.5 * (h - y).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
