r"""Low-rank residual networks: deep, linear, strictly better with depth, and with an exact floor.

Notation (L depth, R runs, d width, r rank, n columns of the batch)
    P = (I + s U_L V_L) ... (I + s U_1 V_1)     the network, s = L^-alpha the residual multiplier
    T = I + sum_k sigma_k u_k v_k'              the teacher, sigma_k = k^-a, v_k = e_k, u_k a random orthonormal set
    Sigma = diag(k^-b)                          covariance of the inputs x
    y = T x + sigma xi                          targets, xi standard normal

    loss      L(P) = 1/2 tr (P - T) Sigma (P - T)' = 1/2 |P X - Y|^2,  X = Sigma^(1/2), Y = T X     (population)
    minibatch                                        1/(2B) sum_i |P x_i - y_i|^2, the same form with X = [x_i]/sqrt(B)
    floor     L(w*_l) = 1/2 sum_{k > r l} sv_k((T - I) Sigma^(1/2))^2

The irreducible d sigma^2/2 is left out of the population loss. The floor is the Eckart-Young-Mirsky theorem: P - I has
rank at most r l, and any matrix of that rank is reached. A plain deep linear network has no gap between depths at all.

Gradient. Block l sees h_{l-1}, reads a_l = V_l h_{l-1} and passes on h_l = h_{l-1} + s U_l a_l; with the error
g = P X - Y, c_l = U_l' g_l and g_{l-1} = g_l + s V_l' c_l it gets dU_l = s g_l a_l' and dV_l = s c_l h_{l-1}'. Depth
need not be walked: with all V_l stacked to V (r L, d), all U_l side by side to U (d, r L) and M the part of V U that
lies below the block diagonal,

    a = (1 - s M)^-1 V X,   g = X + s U a - Y,   c = (1 - s M')^-1 U' g,   and with C = c a' below the block diagonal
    dU = s (g a' + s V' C),   dV = s (c X' + s C U'),

eleven batched products and one triangular inverse, whatever the depth, and no activation but the last is stored.

References: Eckart & Young (1936), Psychometrika 1, 211. Saxe, McClelland & Ganguli, arXiv 1312.6120 (dynamics of deep
linear networks).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latebloom.sim.family import Blocks
from latebloom.theory import checks
from latebloom.theory.errors import InputError

__all__ = ["LowRank", "draws", "input_std", "loss", "loss_and_gradient", "product", "tensor_dtype"]


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """The low-rank family with its teacher and its data.

    Args:
        width: d.
        rank: r of each block.
        alpha: Exponent of the residual multiplier s = L^-alpha.
        teacher_exponent: a, sigma_k = k^-a.
        input_exponent: b, variance of input k is k^-b.
        init_std: Fresh U and V have entries of standard deviation ``init_std``/sqrt(d).
        noise: sigma, standard deviation of the targets' noise.
        batch: B, samples per minibatch.
        teacher_seed: Draws the u_k; one teacher for all runs.
        symmetric: u_k = v_k instead: T is symmetric and positive definite.
        dtype: Of every tensor.
        device: Of every tensor.

    Raises:
        InputError: for sizes that are not whole and positive, a rank above the width, exponents or noise that are
            negative or not finite, or another dtype.
    """

    width: int = 32
    rank: int = 2
    alpha: float = 1.0
    teacher_exponent: float = 1.0
    input_exponent: float = 0.0
    init_std: float = 0.5
    noise: float = 0.1
    batch: int = 64
    teacher_seed: int = 0
    symmetric: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("width", "rank", "batch"):
            checks.whole(name, getattr(self, name), 1, fix="give a positive size")
        if self.rank > self.width:
            raise InputError("rank", self.rank, f"is above the width {self.width}", "give a smaller rank")
        for name in ("alpha", "teacher_exponent", "input_exponent", "noise"):
            checks.non_negative(name, getattr(self, name), fix="give such a number")
        rule, fix = "must be finite and > 0", "use init 'zero' for dead blocks"
        checks.positive("init_std", self.init_std, rule=rule, fix=fix)
        if self.dtype not in ("float32", "float64"):
            raise InputError("dtype", self.dtype, "is not float32 or float64", "give one of them")

    @property
    def name(self) -> str:
        return f"lowrank-d{self.width}-r{self.rank}"

    @property
    def last(self) -> int:
        return 0  # U stands last in I + s U V

    @property
    def shared(self) -> tuple[int, ...]:
        return ()

    def max_depth(self) -> int:
        """floor(d/r), from where on the floor is zero."""
        return self.width // self.rank

    def multiplier(self, depth: int) -> float:
        """s = L^-alpha; 1 for a network without blocks."""
        return float(max(depth, 1)) ** -self.alpha

    def teacher(self) -> Tensor:
        """T, (d, d)."""
        return _teacher(self)

    def fresh(self, seeds: Sequence[int], blocks: range) -> Blocks:
        """U (R, L, d, r) and V (R, L, r, d), normal with standard deviation ``init_std``/sqrt(d).

        Every block of every seed has its own stream, so that a run grown from nothing starts its blocks exactly where
        a fixed-depth run of the same seed starts them (common random numbers).
        """
        d, r = self.width, self.rank
        drawn = draws(seeds, blocks, 2 * d * r).mul_(self.init_std / d**0.5)
        u, v = drawn.to(dtype=tensor_dtype(self), device=self.device).split(d * r, dim=-1)
        return u.reshape(*u.shape[:2], d, r).contiguous(), v.reshape(*v.shape[:2], r, d).contiguous()

    def absorbed(self, blocks: Blocks, old_depth: int, new_depth: int) -> tuple[Blocks, float]:
        """s_l/s_L split evenly between U and V: each is multiplied by (s_l/s_L)^(1/2), so s U V stays as it is.

        The even split keeps balanced blocks (U'U = VV') balanced, as a network trained at the new depth has them.
        """
        factor = (self.multiplier(old_depth) / self.multiplier(new_depth)) ** 0.5
        return tuple(block * factor for block in blocks), factor

    def floor(self, depth: int) -> float:
        """Eckart-Young floor at ``depth`` blocks, exact."""
        return 0.5 * float(_singular_values(self)[self.rank * depth :].square().sum())

    def step_limit(self, depth: int) -> float:
        r"""eta_c = 1/(s max_k sigma_k lambda_k), lambda_k = k^-b: gradient descent on balanced blocks.

        A mode p = s u v has loss lambda (p - sigma)^2/2 and at its minimum curvature lambda s^2 (u^2 + v^2) =
        2 lambda s sigma, however many blocks share it; eta_c = 2/curvature. Exact for one block; products of blocks
        add terms of relative order sigma/L. :func:`latebloom.sim.stability.sharpness` computes it for any net.
        """
        k = torch.arange(1, self.width + 1, dtype=torch.float64)
        top = float((k**-self.teacher_exponent * k**-self.input_exponent).max())
        return 1.0 / (self.multiplier(depth) * top)

    def population(self, runs: int) -> tuple[Tensor, Tensor]:
        """X = Sigma^(1/2) and Y = T X for ``runs`` runs."""
        x = torch.diag(input_std(self))
        y = self.teacher() @ x
        return x.expand(runs, -1, -1).contiguous(), y.expand(runs, -1, -1).contiguous()

    def sample(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """X = [x_i]/sqrt(B) and Y = T X + sigma [xi_i]/sqrt(B), one minibatch a generator."""
        d, n = self.width, self.batch
        draws = torch.empty(len(generators), 2, d, n, dtype=tensor_dtype(self))
        for draw, generator in zip(draws, generators, strict=True):
            draw.normal_(generator=generator)
        draws = draws.mul_(n**-0.5).to(self.device)
        x = draws[:, 0] * input_std(self)[:, None]
        return x, self.teacher() @ x + self.noise * draws[:, 1]

    def loss(self, blocks: Blocks, data: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of every run, (R,)."""
        return loss(blocks, data, s=self.multiplier(blocks[0].shape[1]))

    def gradient(self, blocks: Blocks, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Blocks]:
        """Loss (R,) and gradient of every run."""
        return loss_and_gradient(blocks, data, s=self.multiplier(blocks[0].shape[1]))


def draws(seeds: Sequence[int], blocks: range, size: int) -> Tensor:
    """Standard normals; each block of each seed has its own stream.

    Args:
        seeds: Of the runs.
        blocks: Indices of the blocks.
        size: Numbers for each block.

    Returns:
        Float64, (seeds, blocks, size).
    """
    out = torch.empty(len(seeds), len(blocks), size, dtype=torch.float64)
    for i, block in enumerate(blocks):
        for j, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + block)
            out[j, i] = torch.randn(size, generator=generator, dtype=torch.float64)
    return out


def product(blocks: Blocks, *, s: float) -> Tensor:
    """P, (R, d, d): the network as one matrix.

    Args:
        blocks: U (R, L, d, r) and V (R, L, r, d).
        s: Residual multiplier.
    """
    u, _ = blocks
    eye = torch.eye(u.shape[2], dtype=u.dtype, device=u.device).expand(u.shape[0], -1, -1)
    return _outputs(blocks, eye, s)


def loss(blocks: Blocks, data: tuple[Tensor, Tensor], *, s: float) -> Tensor:
    """1/2 |P X - Y|^2 of every run.

    Args:
        blocks: U (R, L, d, r) and V (R, L, r, d).
        data: X and Y, each (R, d, n).
        s: Residual multiplier.
    """
    x, y = data
    return 0.5 * (_outputs(blocks, x, s) - y).square().sum((1, 2))


def loss_and_gradient(blocks: Blocks, data: tuple[Tensor, Tensor], *, s: float) -> tuple[Tensor, Blocks]:
    """Loss (R,) and its gradient (dU, dV) in the stacked form above.

    Args:
        blocks: U (R, L, d, r) and V (R, L, r, d).
        data: X and Y, each (R, d, n).
        s: Residual multiplier.
    """
    u, v = blocks
    x, y = data
    runs, depth, d, r = u.shape
    if depth == 0:
        return 0.5 * (x - y).square().sum((1, 2)), (torch.empty_like(u), torch.empty_like(v))
    ut, vv = u.mT.reshape(runs, depth * r, d), v.reshape(runs, depth * r, d)
    later, eye = _later(depth, r, s, u.dtype, u.device)
    inverse = torch.linalg.solve_triangular(
        torch.bmm(vv, ut.mT).mul_(-later).add_(eye), eye.expand(runs, -1, -1), upper=False, unitriangular=True
    )
    a = torch.bmm(inverse, torch.bmm(vv, x))
    g = torch.baddbmm(x, ut.mT, a, alpha=s).sub_(y)
    value = 0.5 * g.square().sum((1, 2))
    c = torch.bmm(inverse.mT, torch.bmm(ut, g))
    ca = torch.bmm(c, a.mT).mul_(later)
    du = torch.bmm(a, g.mT).baddbmm_(ca.mT, vv).mul_(s)  # transposed, as ut
    dv = torch.bmm(c, x.mT).baddbmm_(ca, ut).mul_(s)
    return value, (du.view(runs, depth, r, d).mT, dv.view(runs, depth, r, d))


def _outputs(blocks: Blocks, x: Tensor, s: float) -> Tensor:
    u, v = blocks
    for i in range(u.shape[1]):
        x = torch.baddbmm(x, u[:, i], torch.bmm(v[:, i], x), alpha=s)
    return x


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # kept for callers outside the engine too
def _later(depth: int, r: int, s: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """s where the row's block stands after the column's, else 0; and the identity; both (L r, L r)."""
    block = torch.arange(depth * r, device=device) // r
    later = (block[:, None] > block[None, :]).to(dtype) * s
    return later, torch.eye(depth * r, dtype=dtype, device=device)


def tensor_dtype(family: LowRank) -> torch.dtype:
    """The dtype of every tensor of ``family``.

    Args:
        family: Any family of :mod:`latebloom.sim`.
    """
    return torch.float32 if family.dtype == "float32" else torch.float64


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def input_std(family: LowRank) -> Tensor:
    """Standard deviation of each input, k^(-b/2), (d,).

    Args:
        family: Any family of :mod:`latebloom.sim`.
    """
    k = torch.arange(1, family.width + 1, dtype=torch.float64)
    return (k ** (-family.input_exponent / 2)).to(dtype=tensor_dtype(family), device=family.device)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _teacher64(family: LowRank) -> Tensor:
    d = family.width
    generator = torch.Generator().manual_seed(family.teacher_seed)
    eye = torch.eye(d, dtype=torch.float64)
    u = eye if family.symmetric else torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    sigma = torch.arange(1, d + 1, dtype=torch.float64) ** -family.teacher_exponent
    return eye + u * sigma  # v_k = e_k: column k is sigma_k u_k


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _teacher(family: LowRank) -> Tensor:
    return _teacher64(family).to(dtype=tensor_dtype(family), device=family.device)


@functools.lru_cache(maxsize=64)
def _singular_values(family: LowRank) -> Tensor:
    k = torch.arange(1, family.width + 1, dtype=torch.float64)
    residual = _teacher64(family) - torch.eye(family.width, dtype=torch.float64)
    return torch.linalg.svdvals(residual * k ** (-family.input_exponent / 2))
