"""The settings of `latebloom simulate`: its options, files and defaults come from here."""

from __future__ import annotations

from latebloom.theory.spec import Spec

__all__ = ["SimulationConfig"]


class SimulationConfig(Spec, frozen=True, kw_only=True):
    """Size of the toy that stands for the plan's model, and how its runs are judged.

    Attributes:
        seeds: Number of seeds.
        steps: Horizon of the toy.
        width: Width of the toy.
        rank: Rank of each block.
        max_depth: Deepest toy; deeper plans are scaled down to it.
        alpha: Residual multiplier L^-alpha.
        noise: Standard deviation of the targets' noise.
        batch: Samples a minibatch.
        tolerance: Mixed means a loss within this share of the fixed-depth run's.
        peak_lr: Peak learning rate of the toy. None: its own.
    """

    seeds: int = 4
    steps: int = 2000
    width: int = 32
    rank: int = 2
    max_depth: int = 8
    alpha: float = 1.0
    noise: float = 0.1
    batch: int = 64
    tolerance: float = 0.05
    peak_lr: float | None = None
