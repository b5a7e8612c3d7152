r"""The edge of stability: the learning rate above which gradient descent leaves every minimum.

    eta_c = 2/lambda_max(H),  H the Hessian of the loss at the minimum

Closed forms belong to the families (:meth:`latebloom.sim.family.NetworkFamily.step_limit`); here lambda_max is computed
for any net by power iteration on central differences of the hand gradient,

    H w = (g(theta + h w) - g(theta - h w))/(2 h).

References: Cohen et al., arXiv 2103.00065 (edge of stability).
"""

from __future__ import annotations

import torch

from latebloom.sim.family import Blocks, NetworkFamily
from latebloom.theory import checks

__all__ = ["sharpness"]


def sharpness(
    family: NetworkFamily, blocks: Blocks, data: tuple[torch.Tensor, torch.Tensor], *, iterations: int = 100
) -> torch.Tensor:
    """lambda_max(H) of every run, (runs,): the Hessian's eigenvalue of largest magnitude.

    Args:
        family: The architecture; float64 gives about 8 digits, float32 about 3.
        blocks: Weights.
        data: The loss is taken on these inputs and targets.
        iterations: Of the power method, at least 1; its error falls as (lambda_2/lambda_1)^(2 iterations).

    Raises:
        InputError: if ``iterations`` is not a whole number >= 1.
    """
    checks.whole("iterations", iterations, 1)
    generator = torch.Generator().manual_seed(0)
    w = tuple(torch.randn(b.shape, generator=generator, dtype=torch.float64).to(b) for b in blocks)
    h = torch.finfo(blocks[0].dtype).eps ** (1 / 3)
    value = blocks[0].new_zeros(blocks[0].shape[0])
    for _ in range(iterations):
        norm = sum(t.square().sum((1, 2, 3)) for t in w) ** 0.5
        w = tuple(t / norm[:, None, None, None] for t in w)
        up = family.gradient(tuple(b + h * t for b, t in zip(blocks, w, strict=True)), data)[1]
        down = family.gradient(tuple(b - h * t for b, t in zip(blocks, w, strict=True)), data)[1]
        hw = tuple((p - m) / (2 * h) for p, m in zip(up, down, strict=True))
        value = sum((t * q).sum((1, 2, 3)) for t, q in zip(w, hw, strict=True))
        w = hw
    return value
