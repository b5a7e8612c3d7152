r"""The polar factor U V' of a matrix X = U S V', approximately: what Muon takes as its update.

Both ways map each singular value s, a share of the Frobenius norm, near 1 and keep the singular vectors:

    polar_express   five odd quintics, one after another (Amsel et al., arXiv 2505.16932): matrix products of a batch
    zolotarev       one odd rational function, Zolotarev's best of type (5, 4) for sign(s) on 1e-3 <= |s| <= 1
                    (Nakatsukasa & Freund, SIAM Review 58, 2016, doi 10.1137/140990334):

                        f(s) = C s (1 + sum_j a_j/(s^2 + c_{2j-1})),
                        c_i  = l^2 sn^2(i K/5)/cn^2(i K/5),    elliptic modulus sqrt(1 - l^2), l = 1e-3,

                    so that U f(S) V' = C (I + sum_j a_j (X X' + c_{2j-1} I)^{-1}) X: two Cholesky inverses of the
                    small Gram matrix, whatever the long side. 1 -+ 0.203 for s >= 1e-3; the quintics keep 1 -+ 0.3.

In units of n^3 multiply-adds for an n x n matrix the quintics cost 15 and the rational function 4 (Gram matrix 1,
inverses 1 each, last product 1); for n x 4n, 45 and 10. The inverses need float32. GPUs are slow at Cholesky and have
bfloat16 at sixteen times the rate: they take the quintics.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

__all__ = ["polar_express", "rational", "zolotarev"]

# Minimax-optimal odd quintics for singular values in [1e-3, 1], Amsel et al., arXiv 2505.16932, table 1; borrowed.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
# In bfloat16 rounding pushes singular values beyond the interval, where the next polynomial would blow them up: each
# step but the last is taken at x/1.01 (the paper's own remedy and factor).
HALF_POLAR_EXPRESS = tuple((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in POLAR_EXPRESS[:-1]) + POLAR_EXPRESS[-1:]
SMALLEST = 1e-3  # singular value, as a share of the Frobenius norm, from which on it is mapped near 1
POLES = 2


def polar_express(x: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Approximate polar factor of each matrix in ``x`` (..., rows, columns), in its dtype, by five quintics.

    Singular values above 1e-3 of the Frobenius norm come out within 0.7 ... 1.3, in bfloat16 those above 1e-2.

    Args:
        x: (..., rows, columns), of any scale.
        eps: Added to the norm, so that a zero matrix stays zero.
    """
    transposed = x.shape[-2] > x.shape[-1]
    x = x.mT if transposed else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * 1.01 + eps)
    stack = x.reshape(-1, *x.shape[-2:])
    for a, b, c in POLAR_EXPRESS if x.dtype.itemsize >= 4 else HALF_POLAR_EXPRESS:  # sums in the products' epilogues
        gram = stack @ stack.mT
        stack = torch.baddbmm(stack, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), stack, beta=a)
    x = stack.view(x.shape)
    return x.mT if transposed else x


@functools.cache
def rational(poles: int = POLES, smallest: float = SMALLEST) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Zolotarev's best odd rational function of type (2 ``poles`` + 1, 2 ``poles``) for the sign.

    Args:
        poles: Number of terms a_j/(s^2 + c_{2j-1}).
        smallest: l, lower end of the interval on which it is best.

    Returns:
        (C, a_j, c_{2j-1}, error): f(s) = C s (1 + sum_j a_j/(s^2 + c_{2j-1})), and its largest distance from 1 on
        [``smallest``, 1], which it takes 2 poles + 2 times with alternating signs.
    """
    from scipy.special import ellipj, ellipk

    modulus = 1 - smallest**2
    sn, cn, _, _ = ellipj(np.arange(1, 2 * poles + 1) * ellipk(modulus) / (2 * poles + 1), modulus)
    c = (smallest * sn / cn) ** 2
    zeros, at = c[1::2], c[0::2]
    weights = np.array([-np.prod(p - zeros) / np.prod(np.delete(p - at, j)) for j, p in enumerate(at)])
    # Both ends of the interval are extrema, a minimum and a maximum: they give C and the error.
    low = smallest * np.prod((smallest**2 + zeros) / (smallest**2 + at))
    high = np.prod((1 + zeros) / (1 + at))
    return 2 / (low + high), weights, at, (high - low) / (high + low)


def zolotarev(x: Tensor) -> Tensor:
    """Approximate polar factor of each matrix in ``x`` by Zolotarev's rational function, see :func:`rational`.

    Args:
        x: (..., rows, columns), float32 or float64, of any scale.

    Returns:
        As ``x``. Singular values above 1e-3 of the Frobenius norm come out within 0.797 ... 1.203; a zero matrix stays
        zero.
    """
    transposed = x.shape[-2] > x.shape[-1]
    x = x.mT if transposed else x
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)  # squares may leave the dtype's range
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    scale, weights, poles, _ = rational()
    total = identity
    for weight, pole in zip(weights.tolist(), poles.tolist(), strict=True):
        total = total + weight * torch.cholesky_inverse(torch.linalg.cholesky(gram + pole * identity))
    polar = scale * (total @ x)
    return polar.mT if transposed else polar
