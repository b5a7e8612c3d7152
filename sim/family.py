"""What a family of deep linear networks must offer so that the engine can train, grow and judge it.

A network's trainable part is a tuple of tensors, ``Blocks``, each of shape (runs, depth, rows, columns): one batched
product serves all runs, and growing in depth inserts along the second axis.

Families: :class:`latebloom.sim.lowrank.LowRank`; full-rank residual, plain deep and coupled ones in
:mod:`latebloom.sim.chain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

__all__ = ["Blocks", "NetworkFamily"]

Blocks = tuple[torch.Tensor, ...]


class NetworkFamily(Protocol):
    """Deep networks of one architecture with one teacher; a frozen value whose methods are pure.

    Attributes:
        name: For tables and records.
        last: Index in ``Blocks`` of each block's last linear map, the one that ``zero_last`` sets to zero.
        shared: Indices in ``Blocks`` of tensors that belong to no block (embedding, readout), of second axis 1.
    """

    @property
    def name(self) -> str: ...

    @property
    def last(self) -> int: ...

    @property
    def shared(self) -> tuple[int, ...]: ...

    def max_depth(self) -> int:
        """Largest depth at which every further block still lowers the floor."""
        ...

    def fresh(self, seeds: Sequence[int], blocks: range) -> Blocks:
        """Freshly initialised blocks; block j of a seed is the same tensor whatever else is asked for."""
        ...

    def absorbed(self, blocks: Blocks, old_depth: int, new_depth: int) -> tuple[Blocks, float]:
        """The same functions written with the multiplier of ``new_depth``; second, the factor on each tensor."""
        ...

    def floor(self, depth: int) -> float:
        """Exact least population loss at ``depth``."""
        ...

    def step_limit(self, depth: int) -> float:
        """eta_c, estimate of the largest stable learning rate of gradient descent at ``depth``."""
        ...

    def population(self, runs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs x and targets y, (runs, d, n), whose mean loss is the population loss without irreducible noise."""
        ...

    def sample(self, generators: Sequence[torch.Generator]) -> tuple[torch.Tensor, torch.Tensor]:
        """One fresh noisy minibatch (x, y) for each generator, (len(generators), d, B)."""
        ...

    def loss(self, blocks: Blocks, data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Loss of every run, (runs,)."""
        ...

    def gradient(self, blocks: Blocks, data: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, Blocks]:
        """Loss of every run and its gradient with respect to ``blocks``."""
        ...
