r"""Update rules, batched over runs and blocks: SGD, momentum, normalised SGD, Adam, Muon.

Each rule turns the gradient g of a matrix into a direction D; the step is  w <- w - eta (D + weight_decay w).

    momentum    m <- mu m + (1 - mu) g;  g is replaced by m, or by (1 - mu) g + mu m with ``nesterov``
    sgd         D = g
    nsgd        D = g/|g|_F, matrix by matrix
    adamw       D = m_hat/(sqrt(v_hat) + eps), with each block's own step count
    muon        D = c UV' for g = U S V', by five Newton-Schulz steps or exactly (``polar``)
    muon_nsgd   Muon on matrices, normalised SGD on vectors. These networks have matrices only, so it is muon here.
    muon_adamw  refused: what it is tuned by, AdamW on embeddings, head and vectors, has no counterpart here

c = sqrt(rows/columns) under the plan's ``transfer`` 'spectral', 1 under 'none'. The factor 1 - mu on the gradient keeps
the meaning of learning-rate area: a constant gradient moves the weights by eta a step with momentum as without.

A zero gradient gives a zero direction under every rule.

References: Jordan et al. (2024), Muon (kellerjordan.github.io/posts/muon); Kingma & Ba, arXiv 1412.6980.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from latebloom.sim.family import Blocks
from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import Optimizer, OptimizerName

__all__ = [
    "TOY_RULES",
    "OptimizerState",
    "ToyRule",
    "initial_state",
    "newton_schulz",
    "polar_factor",
    "toy_rule",
    "update_blocks_",
]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # borrowed: Jordan et al. 2024
NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class ToyRule:
    """How the toy runs one of a plan's optimizers.

    Attributes:
        direction: What becomes of the average gradient: ``gradient`` as it is, ``normalised`` matrix by matrix,
            ``polar`` its polar factor, ``adam`` over the root of its average square.
    """

    direction: Literal["gradient", "normalised", "polar", "adam"]

    @property
    def is_descent(self) -> bool:
        """Whether a step is as long as the gradient, so that its largest stable rate is known."""
        return self.direction == "gradient"

    @property
    def moves_entries(self) -> bool:
        """Whether every entry, not the matrix, moves by the learning rate."""
        return self.direction == "adam"


TOY_RULES: Final[dict[OptimizerName, ToyRule | None]] = {
    "sgd": ToyRule(direction="gradient"),
    "nsgd": ToyRule(direction="normalised"),
    "adamw": ToyRule(direction="adam"),
    "muon": ToyRule(direction="polar"),
    "muon_nsgd": ToyRule(direction="polar"),
    "muon_adamw": None,
}


def toy_rule(optimizer: Optimizer) -> ToyRule:
    """How the toy runs ``optimizer``.

    Args:
        optimizer: Of a plan.

    Raises:
        InputError: if it has no counterpart there.
    """
    rule = TOY_RULES[optimizer.name]
    if rule is None:
        reason = "has no counterpart in the simulator, whose networks are hidden matrices alone"
        fix = "simulate the plan with another, such as muon_nsgd, which is Muon on every matrix there"
        raise InputError("optimizer", optimizer.name, reason, fix)
    return rule


@dataclass(frozen=True, kw_only=True)
class OptimizerState:
    """What an optimizer remembers; its tensors are changed in place.

    Args:
        first: Average gradient of each tensor in ``Blocks``; empty without momentum.
        second: Average square of it (Adam); else empty.
        count: Updates done on each block of each run, for each tensor (runs, second axis).
    """

    first: Blocks
    second: Blocks
    count: Blocks

    def select(self, runs: Tensor) -> OptimizerState:
        """The state of some runs.

        Args:
            runs: Their indices.
        """
        return OptimizerState(
            first=tuple(t[runs] for t in self.first),
            second=tuple(t[runs] for t in self.second),
            count=tuple(t[runs] for t in self.count),
        )


def initial_state(optimizer: Optimizer, blocks: Blocks) -> OptimizerState:
    """The state before the first update.

    Args:
        optimizer: The rule.
        blocks: Weights, each (runs, depth, rows, columns).

    Raises:
        InputError: if the toy has no counterpart of the optimizer.
    """
    adam = toy_rule(optimizer).direction == "adam"
    first = tuple(torch.zeros_like(b) for b in blocks) if adam or optimizer.momentum > 0 else ()
    second = tuple(torch.zeros_like(b) for b in blocks) if adam else ()
    return OptimizerState(first=first, second=second, count=tuple(b.new_zeros(b.shape[:2]) for b in blocks))


def update_blocks_(
    optimizer: Optimizer, blocks: Blocks, gradient: Blocks, state: OptimizerState, *, lr: Tensor, polar: bool = False
) -> None:
    """One update in place.

    Args:
        optimizer: The rule.
        blocks: Weights, each (runs, depth, rows, columns).
        gradient: Of the same shapes; used up.
        state: From :func:`initial_state`.
        lr: Learning rate of every run, (runs,).
        polar: Muon's orthogonalisation by SVD, not by Newton-Schulz.
    """
    rule, eta = toy_rule(optimizer).direction, -lr[:, None, None, None]
    for i, (w, g) in enumerate(zip(blocks, gradient, strict=True)):
        if not w.shape[1]:
            continue
        state.count[i].add_(1)
        direction = _adam(optimizer, g, state, i) if rule == "adam" else _momentum(optimizer, g, state, i)
        if rule == "normalised":
            direction = _normalised(direction)
        elif rule == "polar":
            direction = polar_factor(direction) if polar else newton_schulz(direction)
            if optimizer.transfer == "spectral":
                direction = direction * (w.shape[-2] / w.shape[-1]) ** 0.5
        if optimizer.weight_decay:
            w.mul_(1 + eta * optimizer.weight_decay)
        w.addcmul_(direction, eta)


def newton_schulz(matrices: Tensor) -> Tensor:
    """UV' of each matrix USV', roughly: singular values end in about [0.7, 1.2] (quintic of Jordan et al.).

    Args:
        matrices: (..., m, n).
    """
    a, b, c = NEWTON_SCHULZ
    m, n = matrices.shape[-2:]
    x = matrices.reshape(-1, m, n)
    x = x.mT if m > n else x
    x = _normalised(x)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return (x.mT if m > n else x).reshape(matrices.shape)


def polar_factor(matrices: Tensor) -> Tensor:
    """UV' of each matrix USV', exact; directions with no singular value to speak of stay zero.

    Args:
        matrices: (..., m, n).
    """
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    tiny = torch.finfo(s.dtype).eps * max(matrices.shape[-2:])
    return (u * (s > tiny * s[..., :1]).to(s.dtype)[..., None, :]) @ vh


def _normalised(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return x / torch.where(norm > 0, norm, torch.ones_like(norm))


def _momentum(optimizer: Optimizer, g: Tensor, state: OptimizerState, i: int) -> Tensor:
    mu = optimizer.momentum
    if mu == 0:
        return g
    m = state.first[i].lerp_(g, 1 - mu)
    return g.lerp(m, mu) if optimizer.nesterov else m.clone()


def _adam(optimizer: Optimizer, g: Tensor, state: OptimizerState, i: int) -> Tensor:
    count = state.count[i][..., None, None]
    m = state.first[i].lerp_(g, 1 - optimizer.momentum)
    v = state.second[i].lerp_(g.square(), 1 - optimizer.beta2)
    m_hat = m / (1 - optimizer.momentum**count)
    v_hat = v / (1 - optimizer.beta2**count)
    return m_hat / (v_hat.sqrt() + optimizer.eps)
