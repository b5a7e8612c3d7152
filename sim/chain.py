r"""Chains of square maps: full-rank residual, plain deep and coupled (embedding and readout) networks.

Notation as in :mod:`latebloom.sim.lowrank`; all inherit its teacher, its data and its loss, and differ in what a block
is:

    family       network                                            floor(0)                    floor(l >= 1)
    FullRank     P = (I + s W_L) ... (I + s W_1)                    1/2 |(T - I) X|^2           0
    PlainDeep    P = W_L ... W_1                                    1/2 |(T - I) X|^2           0
    Coupled      P = R (I + s W_L) ... (I + s W_1) E, R = E' tied   tied: distance of T to PSD  0
                                                                    free: 0

A zero-layer tied net is P = E'E, symmetric and positive semi-definite, as GPT-2's tied head is; its floor is Higham's
distance.

Gradient. With A_l the l-th map, h_l = A_l h_{l-1}, g_L = P X - Y, g_{l-1} = A_l' g_l:  dA_l = g_l h_{l-1}'. Two batched
products a block and one for all gradients; :meth:`FullRank.descent` fuses the last with the update.

References: Saxe, McClelland & Ganguli, arXiv 1312.6120. Hardt & Ma, arXiv 1611.04231 (linear residual networks).
Higham (1988), Linear Algebra Appl. 103, 103 (nearest PSD matrix).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latebloom.sim.family import Blocks
from latebloom.sim.lowrank import LowRank, draws, input_std, tensor_dtype

__all__ = ["Coupled", "FullRank", "PlainDeep", "chain_gradient"]

Descent = Callable[[tuple[Tensor, Tensor], Tensor | float], None]  # one step on (X, Y) at the rates of the runs


@dataclass(frozen=True, kw_only=True)
class FullRank(LowRank):
    """Residual blocks I + s W with W (R, L, d, d).

    Args:
        rank: Has no meaning here.
    """

    rank: int = 1

    @property
    def name(self) -> str:
        return f"fullrank-d{self.width}"

    def max_depth(self) -> int:
        """No limit: the floor is zero from one block on, more depth only changes the way there."""
        return 10_000

    def fresh(self, seeds: Sequence[int], blocks: range) -> Blocks:
        """W (R, L, d, d), normal with standard deviation ``init_std``/sqrt(d)."""
        d = self.width
        w = draws(seeds, blocks, d * d).mul_(self.init_std / d**0.5)
        return (w.reshape(len(seeds), len(blocks), d, d).to(dtype=tensor_dtype(self), device=self.device),)

    def absorbed(self, blocks: Blocks, old_depth: int, new_depth: int) -> tuple[Blocks, float]:
        """W times s_l/s_L, so that s W stays as it is."""
        factor = self.multiplier(old_depth) / self.multiplier(new_depth)
        return (blocks[0] * factor, *blocks[1:]), factor

    def floor(self, depth: int) -> float:
        """Exact floor: zero from one block on."""
        return super().floor(0) if depth == 0 else 0.0

    def step_limit(self, depth: int) -> float:
        r"""eta_c = 2/(L s^2 max_k sv_k(T)^{2 - 2/L} lambda_k): gradient descent at the minimum A_l = T^{1/L}.

        Exact for a symmetric positive definite teacher and white inputs (curvature of the top mode's L equal factors).
        """
        top = float(torch.linalg.svdvals(self.teacher().double())[0])
        k = max(depth, 1)
        return 2.0 / (k * self.multiplier(depth) ** 2 * top ** (2 - 2 / k))

    def maps(self, blocks: Blocks) -> Tensor:
        """A (R, L, d, d)."""
        w = blocks[0]
        eye = torch.eye(self.width, dtype=w.dtype, device=w.device)
        return eye + self.multiplier(w.shape[1]) * w

    def loss(self, blocks: Blocks, data: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of every run, (R,)."""
        x, y = data
        maps = self.maps(blocks)
        for i in range(maps.shape[1]):
            x = torch.bmm(maps[:, i], x)
        return 0.5 * (x - y).square().sum((1, 2))

    def gradient(self, blocks: Blocks, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Blocks]:
        """Loss (R,) and gradient of every run."""
        value, da = chain_gradient(self.maps(blocks), data)
        return value, (da.mul_(self.multiplier(blocks[0].shape[1])),)

    def descent(self, blocks: Blocks, *, columns: int, population: bool = False) -> Descent:
        """Plain gradient descent in place, W <- W - lr dW, without temporaries: returns ``step(data, lr)``.

        The error is scaled by each run's rate at once (the gradient is linear in it); s, and a rate that all runs
        share, go into the products: 3 L - 1 of them, 3 L - 3 on the population, whose inputs are diagonal. Room for
        the activations and all views are made here, once for many steps. The error walks back through two buffers,
        the last activation's one of them: what a run touches in a step, 2 L + 1 matrices, should stay in the cache.

        Args:
            blocks: W (R, L, d, d) with L >= 1, fastest if W[:, l] is contiguous.
            columns: n.
            population: The data of all steps are :meth:`population`, held once for all runs.

        Returns:
            A function of X, Y (R, d, n) and of the rates, (R,) or one number for all runs.
        """
        (w,) = blocks
        runs, depth, d, _ = w.shape
        s = self.multiplier(depth)
        scale, shared = (input_std(self), self.population(1)) if population else (None, None)
        maps = w.unbind(1)
        transposed = [m.mT for m in maps]
        *h, spare = [w.new_empty(runs, d, columns) for _ in range(depth + 1)]  # h[l] goes out of block l
        forward = list(zip(h, maps[1:], h[1:], strict=False))
        backward = list(zip(maps[1:], transposed[1:], [t.mT for t in h], strict=False))[::-1]

        def step(data: tuple[Tensor, Tensor], lr: Tensor | float) -> None:
            x, y = shared or data
            if scale is not None:
                torch.addcmul(x, maps[0], scale, value=s, out=h[0])
            else:
                torch.baddbmm(x, maps[0], x, alpha=s, out=h[0])
            for before, m, after in forward:
                torch.baddbmm(before, m, before, alpha=s, out=after)
            g, other, by = h[-1].sub_(y), spare, -s
            if isinstance(lr, Tensor):
                g.mul_(lr.view(-1, 1, 1))
            else:
                by *= lr
            for m, mt, ht in backward:
                torch.baddbmm(g, mt, g, alpha=s, out=other)
                m.baddbmm_(g, ht, alpha=by)
                g, other = other, g
            if scale is not None:
                maps[0].addcmul_(g, scale, value=by)
            else:
                maps[0].baddbmm_(g, x.mT, alpha=by)

        return step

    def descend_(self, blocks: Blocks, data: tuple[Tensor, Tensor], lr: Tensor, *, population: bool = False) -> None:
        """One step of :meth:`descent`."""
        self.descent(blocks, columns=data[0].shape[-1], population=population)(data, lr)


@dataclass(frozen=True, kw_only=True)
class PlainDeep(FullRank):
    """No residual: P = W_L ... W_1 (Saxe's nets); growing does not keep the function unless the new maps do."""

    @property
    def name(self) -> str:
        return f"plain-d{self.width}"

    def multiplier(self, depth: int) -> float:
        """1: there is no residual branch to scale."""
        return 1.0

    def maps(self, blocks: Blocks) -> Tensor:
        """A = W."""
        return blocks[0]

    def descent(self, blocks: Blocks, *, columns: int, population: bool = False) -> Descent:
        """Plain gradient descent in place."""
        return _by_gradient(self, blocks)


@dataclass(frozen=True, kw_only=True)
class Coupled(FullRank):
    """P = R (I + s W_L) ... (I + s W_1) E with trainable E (R, 1, d, d) and R = E' (``tied``) or R (R, 1, d, d).

    Embedding and readout stand in ``Blocks`` behind W; growing leaves them alone. They start at I plus a normal of
    standard deviation ``init_std``/sqrt(d).

    Args:
        tied: R is E'; otherwise R is trained by itself.
    """

    tied: bool = True

    @property
    def name(self) -> str:
        return f"coupled-{'tied' if self.tied else 'free'}-d{self.width}"

    @property
    def shared(self) -> tuple[int, ...]:
        """Tensors that belong to no block."""
        return (1,) if self.tied else (1, 2)

    def fresh(self, seeds: Sequence[int], blocks: range) -> Blocks:
        """W, E and, if it is free, R."""
        d = self.width
        ends = draws(seeds, range(-2, 0), d * d).mul_(self.init_std / d**0.5).reshape(len(seeds), 2, d, d)
        ends = (ends + torch.eye(d, dtype=torch.float64)).to(dtype=tensor_dtype(self), device=self.device)
        parts = (ends[:, :1],) if self.tied else (ends[:, :1], ends[:, 1:])
        return (*super().fresh(seeds, blocks), *(part.contiguous() for part in parts))

    def floor(self, depth: int) -> float:
        """Zero but for a tied net without blocks: distance of T to the positive semi-definite (white inputs)."""
        if depth or not self.tied:
            return 0.0
        t = self.teacher().double()
        symmetric = (t + t.mT) / 2
        negative = torch.linalg.eigvalsh(symmetric).clamp(max=0)
        return 0.5 * float((t - symmetric).square().sum() + negative.square().sum())

    def step_limit(self, depth: int) -> float:
        """eta_c = 2/((L s^2 + c) sv_1(T)^{2 - 2/(L + 2)}), c = 4 tied, 2 free: an estimate, factors shared evenly."""
        top = float(torch.linalg.svdvals(self.teacher().double())[0])
        inner = depth * self.multiplier(depth) ** 2
        return 2.0 / ((inner + (4 if self.tied else 2)) * top ** (2 - 2 / (depth + 2)))

    def maps(self, blocks: Blocks) -> Tensor:
        """E, the blocks, R, as one chain."""
        inner = super().maps(blocks[:1])
        return torch.cat([blocks[1], inner, blocks[1].mT if self.tied else blocks[2]], dim=1)

    def gradient(self, blocks: Blocks, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Blocks]:
        """Loss (R,) and gradient of every run."""
        value, da = chain_gradient(self.maps(blocks), data)
        dw = da[:, 1:-1] * self.multiplier(blocks[0].shape[1])
        first, last = da[:, :1].clone(), da[:, -1:].clone()
        return value, (dw, first + last.mT) if self.tied else (dw, first, last)

    def descent(self, blocks: Blocks, *, columns: int, population: bool = False) -> Descent:
        """Plain gradient descent in place."""
        return _by_gradient(self, blocks)


def chain_gradient(maps: Tensor, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Loss of a product of maps and its gradient with respect to each of them.

    Args:
        maps: A, (R, L, d, d).
        data: X and Y, each (R, d, n).

    Returns:
        Loss (R,) and gradient (R, L, d, d).
    """
    x, y = data
    h = [x]
    for i in range(maps.shape[1]):
        h.append(torch.bmm(maps[:, i], h[-1]))
    g = h[-1] - y
    value = 0.5 * g.square().sum((1, 2))
    da = torch.empty_like(maps)
    for i in range(maps.shape[1] - 1, -1, -1):
        da[:, i] = torch.bmm(g, h[i].mT)
        g = torch.bmm(maps[:, i].mT, g) if i else g
    return value, da


def _by_gradient(family: FullRank, blocks: Blocks) -> Descent:
    def step(data: tuple[Tensor, Tensor], lr: Tensor | float) -> None:
        for w, g in zip(blocks, family.gradient(blocks, data)[1], strict=True):
            if isinstance(lr, Tensor):
                w.addcmul_(g, -lr[:, None, None, None])
            else:
                w.add_(g, alpha=-lr)

    return step
