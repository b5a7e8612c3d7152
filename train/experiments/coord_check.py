"""Coordinate check: do features move as much in a wide or deep model as in a narrow or shallow one?

A few small updates on one batch at several sizes; for each size the RMS of the change of what all blocks together add
to the residual stream, relative to the RMS of the stream at the start. Under a parametrisation that transfers it is a
power of the size with exponent 0; the check passes if the fitted exponent is within ``TOLERANCE``, in width and in
depth. Learning rates go from size to size by :mod:`latebloom.theory.plan_transfer`, as under a plan whose
``optimizer.base`` is the smallest; ``rule="none"`` leaves the factors out, which fails, and shows that the check can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import OptimizerName
from latebloom.theory.plan import Base, Optimizer
from latebloom.theory.plan_transfer import size_factors
from latebloom.train.experiments.feature_probe import BlockKind, probe_batch, probe_shape, residual_stream, update_
from latebloom.train.model.transformer import GPT2
from latebloom.train.optim.build import build_optimizer

__all__ = ["CoordCheck", "check_text", "coord_check"]

LARGEST_LR = 10.0  # far beyond it weights overflow
TOLERANCE = 0.15  # a tenfold wider model moves at most 1.4 times more or less
WIDTHS, DEPTHS = (64, 128, 256, 512), (2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class CoordCheck:
    """Relative change of the features by size, and the exponents fitted to it.

    Attributes:
        optimizer: Of the updates.
        rule: ``transfer`` or ``none``.
        widths: Sizes at the smallest depth.
        width_change: RMS of the change of what the blocks add, over the RMS of the stream, by width.
        width_exponent: Slope of its logarithm over the logarithm of the width.
        depths: Sizes at the smallest width.
        depth_change: The same by depth.
        depth_exponent: Its slope.
    """

    optimizer: str
    rule: str
    widths: tuple[int, ...]
    width_change: tuple[float, ...]
    width_exponent: float
    depths: tuple[int, ...]
    depth_change: tuple[float, ...]
    depth_exponent: float

    @property
    def passed(self) -> bool:
        """Both exponents are 0 within the tolerance."""
        return abs(self.width_exponent) <= TOLERANCE and abs(self.depth_exponent) <= TOLERANCE


def coord_check(
    *,
    optimizer: OptimizerName = "muon_nsgd",
    rule: str = "transfer",
    lr: float = 0.002,
    updates: int = 2,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    seeds: int = 2,
    blocks: BlockKind = "gpt2",
) -> CoordCheck:
    """Measure both exponents.

    Args:
        optimizer: One of the trainer's.
        rule: ``transfer``: each kind of parameter at its factor from the smallest size; ``none``: all at ``lr``.
        lr: At the smallest size.
        updates: Number of them.
        widths: At the smallest depth; multiples of 16.
        depths: At the smallest width.
        seeds: Averaged over.
        blocks: Kind of the blocks, ``gpt2`` or ``llama``.

    Raises:
        InputError: if the learning rate is out of range, or the rule or the optimizer unknown.
    """
    if not 0 < lr <= LARGEST_LR:
        raise InputError("--lr", lr, f"must lie in (0, {LARGEST_LR:g}]", "give such as 0.002")
    if rule not in ("transfer", "none"):
        raise InputError("--rule", rule, "is unknown", "valid: transfer, none")

    base = Base(width=widths[0], depth=depths[0]) if rule == "transfer" else None
    spec = Optimizer(name=optimizer, base=base)

    def change(width: int, depth: int) -> float:
        return float(np.mean([_change(width, depth, spec, lr, updates, seed, blocks) for seed in range(seeds)]))

    by_width, by_depth = [change(w, depths[0]) for w in widths], [change(widths[0], d) for d in depths]
    return CoordCheck(
        optimizer=optimizer, rule=rule, widths=tuple(widths), width_change=tuple(by_width),
        width_exponent=_exponent(widths, by_width), depths=tuple(depths), depth_change=tuple(by_depth),
        depth_exponent=_exponent(depths, by_depth),
    )  # fmt: skip


def check_text(check: CoordCheck) -> str:
    """The result as text.

    Args:
        check: What was measured.
    """
    lines = [f"{check.optimizer}, rule {check.rule}: change of what the blocks add to the stream, over the stream"]
    for name in ("width", "depth"):
        sizes, changes = getattr(check, f"{name}s"), getattr(check, f"{name}_change")
        exponent = getattr(check, f"{name}_exponent")
        lines.append(f"  {name} " + ", ".join(f"{s}: {c:.3f}" for s, c in zip(sizes, changes, strict=True)))
        verdict = "pass" if abs(exponent) <= TOLERANCE else "FAIL"
        lines.append(f"  {name} exponent {exponent:+.3f} (0 +- {TOLERANCE}): {verdict}")
    return "\n".join(lines)


def _change(width: int, depth: int, spec: Optimizer, lr: float, updates: int, seed: int, blocks: BlockKind) -> float:
    """RMS of the change of what the blocks add to the stream, over that of the stream that comes out before."""
    model = GPT2(probe_shape(width, heads=width // 16, blocks=blocks), depth, seed=seed)
    ids = probe_batch(seed)
    before = residual_stream(model, ids[:, :-1])
    optimizer = build_optimizer(model, spec)
    factors = size_factors(spec, width=width, depth=depth)
    for group in optimizer.param_groups:
        kind_factor = factors[group["kind"]] if group.get("kind") in factors else 1.0
        group["lr"] = lr * group.get("lr_factor", 1.0) * kind_factor
    update_(model, optimizer, ids, updates)
    after = residual_stream(model, ids[:, :-1])
    added_before, added_after = before[-1] - before[0], after[-1] - after[0]
    return float((added_after - added_before).norm() / before[-1].norm())


def _exponent(sizes: Sequence[int], changes: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(changes), 1)[0])
