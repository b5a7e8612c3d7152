r"""The polar factor U V' of a matrix X = U S V', approximately: what Muon takes as its update.

Both ways map each singular value s, a share of the Frobenius norm, near 1 and keep the singular vectors:

    polar_express   five odd quintics, one after another (Amsel et al., arXiv 2505.16932): matrix products of a batch
    zolotarev_      one odd rational function, Zolotarev's best of type (5, 4) for sign(s) on 1e-3 <= |s| <= 1
                    (Nakatsukasa & Freund, SIAM Review 58, 2016, doi 10.1137/140990334):

                        f(s) = C s (1 + sum_j a_j/(s^2 + c_{2j-1})),
                        c_i  = l^2 sn^2(i K/5)/cn^2(i K/5),    elliptic modulus sqrt(1 - l^2), l = 1e-3,

                    so that U f(S) V' = C (I + sum_j a_j (X X' + c_{2j-1} I)^{-1}) X: two Cholesky inverses of the
                    small Gram matrix, whatever the long side. 1 -+ 0.203 for s >= 1e-3; the quintics keep 1 -+ 0.3.

In units of n^3 multiply-adds for an n x n matrix the quintics cost 15 and the rational function 2.5 (Gram matrix 0.5,
inverses 0.5 each, last product 1); for n x 4n, 45 and 7. The Gram matrix and its inverses need float32; the last
product is taken in bfloat16, twice as fast, where the CPU has it and the matrix is large (:func:`_product`). GPUs are
slow at Cholesky and have bfloat16 at sixteen times the rate: they take the quintics.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["polar_express", "rational", "zolotarev_"]

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
LAPACK_UP_TO = 48  # side of a block that LAPACK inverts; above, products of halves run at twice its rate
BFLOAT16_FROM = 384  # short side; below, the conversions take what the faster product saves
DIRECTIONS = 16  # of the largest singular values, in which a bfloat16 product is corrected


def polar_express(x: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Approximate polar factor of each matrix in ``x`` (..., rows, columns), in its dtype, by five quintics.

    Singular values above 1e-3 of the Frobenius norm come out within 0.7 ... 1.3, in bfloat16 those above 1e-2.
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


def zolotarev_(weight: Tensor, x: Tensor, *, alpha: float, beta: float) -> None:
    """``weight`` <- ``beta`` weight + ``alpha`` polar(``x``) in place, on the CPU, by :func:`rational`.

    Args:
        weight, x: (rows, columns), both float32 or both float64.
        alpha, beta: Of the sum. A zero ``x`` adds nothing.
    """
    syrk, symm, lauum = _routines(x.dtype, "syrk", "symm", "lauum")
    scale, shares, poles, _ = rational()
    rows, columns = x.shape
    tall, n = rows > columns, min(rows, columns)
    gram = x.new_empty(n, n)
    syrk(1.0, x.numpy().T, trans=not tall, c=gram.numpy().T, overwrite_c=1)  # column-major for BLAS: its upper triangle
    square = float(gram.diagonal().sum())  # of the Frobenius norm; the shifts are shares of it
    if not 1e-24 < square < 1e24:  # entries' squares leave float32's range
        norm = float(torch.linalg.matrix_norm(x.double()))
        if norm > 0:
            zolotarev_(weight, (x.double() / norm).to(x.dtype), alpha=alpha, beta=beta)
        else:
            weight.mul_(beta)
        return
    factor = alpha * scale / square**0.5
    terms = []
    for share, pole in zip(shares, poles, strict=True):
        term = gram.clone()
        term.diagonal().add_(pole * square)
        _inverse_factor_(term.numpy().T)
        lauum(term.numpy().T, overwrite_c=1)
        terms.append(term.mul_(factor * share * square))
    total = functools.reduce(Tensor.add_, terms)
    total.diagonal().add_(factor)
    if n >= BFLOAT16_FROM and x.dtype == torch.float32 and _has_bfloat16():
        torch.add(_product(x, total, gram), weight, alpha=beta, out=weight)
        return
    target = weight.detach().numpy().T
    found = symm(1.0, total.numpy().T, x.numpy().T, beta=beta, c=target, side=not tall, overwrite_c=1)
    if not np.shares_memory(found, target):  # a weight that is no contiguous block
        weight.copy_(torch.from_numpy(found.T))


def _inverse_factor_(a: np.ndarray) -> None:
    """Upper triangular V with V V' = ``a``^-1 in place of the upper triangle of ``a``, positive definite, column-major.

    Cholesky factor and inverse by halves: a = [[P, Q], [Q', S]] has V = [[V_P, -V_P K V_R], [0, V_R]] with
    K = V_P' Q and R = S - K' K.
    """
    potrf, trtri, trmm, syrk = _routines(a.dtype, "potrf", "trtri", "trmm", "syrk")
    if len(a) <= LAPACK_UP_TO:
        _, failed = potrf(a, clean=0, overwrite_a=1)
        assert not failed, "a Gram matrix plus a share of its trace is positive definite"
        trtri(a, overwrite_c=1)
        return
    half = len(a) // 2
    first, across, second = (np.array(t, order="F") for t in (a[:half, :half], a[:half, half:], a[half:, half:]))
    _inverse_factor_(first)
    trmm(1.0, first, across, trans_a=1, overwrite_b=1)
    syrk(-1.0, across, trans=1, beta=1.0, c=second, overwrite_c=1)
    _inverse_factor_(second)
    trmm(-1.0, first, across, overwrite_b=1)
    trmm(1.0, second, across, side=1, overwrite_b=1)
    a[:half, :half], a[:half, half:], a[half:, half:] = first, across, second


def _product(x: Tensor, m: Tensor, gram: Tensor) -> Tensor:
    """``x`` times the symmetric ``m``, on its short side, in bfloat16, corrected in the leading directions of ``x``.

    Small singular values make ``m`` large, and the error E of its rounding is multiplied by the large ones: of a
    spectrum 1, .0015, .0015, ... the first came out as -.66. So x Q Q'E is added, with Q the leading
    :data:`DIRECTIONS` of the Gram matrix after a power step, as more columns and rows of the factors: still one
    product. On spectra from flat to one large value it moves no singular value of the result by more than .2, and
    along its own pair of vectors by no more than .05.

    Args:
        x: (rows, columns).
        m, gram: (n, n), n the shorter side of ``x``; lower triangles. ``m`` is overwritten.

    Returns:
        bfloat16, (rows, columns).
    """
    (symm,) = _routines(x.dtype, "symm")
    _mirror_(m)
    start = _start(len(m), DIRECTIONS)
    q, _ = torch.linalg.qr(torch.from_numpy(symm(1.0, gram.numpy().T, start.numpy())))
    n, tall, q16 = len(m), len(x) > len(m), q.bfloat16()
    m16 = m.new_empty(n + DIRECTIONS, n, dtype=torch.bfloat16)
    m16[:n] = m
    m16[n:] = q.mT @ m.sub_(m16[:n])
    x16 = x.new_empty((len(x), n + DIRECTIONS) if tall else (n + DIRECTIONS, x.shape[1]), dtype=torch.bfloat16)
    if tall:
        x16[:, :n] = x
        x16[:, n:] = x16[:, :n] @ q16
        return x16 @ m16
    x16[:n] = x
    x16[n:] = q16.mT @ x16[:n]
    return m16.mT @ x16


def _mirror_(a: Tensor, block: int = 128) -> None:
    """Copy the lower triangle of ``a`` to the upper one, in blocks that stay in the cache."""
    for start in range(0, len(a), block):
        panel = a[start:, start : start + block]
        panel[:block] = panel[:block].tril() + panel[:block].tril(-1).mT
        a[start : start + block, start + block :] = panel[block:].mT


@functools.cache
def _start(n: int, directions: int) -> Tensor:
    """Random columns for the power step, the same at every call."""
    return torch.randn(n, directions, generator=torch.Generator().manual_seed(0))


@functools.cache
def _has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; torch before 2.13 is not asked."""
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False))


@functools.cache
def _routines(dtype: torch.dtype | np.dtype, *names: str) -> tuple[Any, ...]:
    from scipy.linalg import get_blas_funcs, get_lapack_funcs

    kind = (np.empty(0, dtype=str(dtype).removeprefix("torch.")),)
    blas = ("syrk", "symm", "trmm")
    return tuple((get_blas_funcs if name in blas else get_lapack_funcs)(name, kind) for name in names)
