"""Learning rates over depth and width: exponents fitted and compared with theory."""

from __future__ import annotations

import numpy as np

from sim.chain import FullRank
from sim.claims import Claim, claim
from sim.engine import Arm, run_arms
from sim.mapping import SGD
from sim.stability import sharpness
from sim.validation.expansions import rules
from theory.plan import Optimizer, Stage
from theory.schedules import Constant

__all__ = ["depth_slopes", "width_slopes"]

SLOPE = 0.05


def depth_slopes(*, quick: bool) -> list[Claim]:
    """Largest rate over depth: gradient descent L^(2 alpha - 1), where it leaves the minimum it found; Muon, NSGD and
    Adam L^(alpha - 1), where the stationary loss of their oscillation reaches a given size. Slopes within .05.

    Full-rank residual nets. Of the closed forms' p^{2 - 2/L} (curvature) and p^{1 - 1/L} (size of a step) the limits
    L -> oo are kept in the exponent, the rest is divided out; all modes are p = 2 under the normalised rules.
    """
    claims, depths = [], (4, 8, 16) if quick else (4, 8, 16, 32)
    for alpha in (0.5, 1.0):
        limits = []
        for depth in depths:
            family = FullRank(width=6, alpha=alpha, symmetric=True, init_std=0.05, dtype="float64")
            schedule = Constant(steps=400, peak_lr=0.5 * family.step_limit(depth))
            arm = Arm(name="a", seed=0, schedule=schedule, stages=(Stage(start_step=0, depth=depth),))
            (curve,) = run_arms(family, [arm], optimizer=SGD, noisy=False)
            measured = 2 / float(sharpness(family, curve.blocks, family.population(1))[0])
            limits.append(measured * 2.0 ** (-2 / depth))
        label = f"over depth, alpha = {alpha:g}"
        claims.append(_slope(f"max stable lr {label}", "sgd", depths, limits, 2 * alpha - 1))
        for name in ("muon",) if quick else ("muon", "nsgd", "adamw"):
            family = FullRank(width=6, alpha=alpha, symmetric=True, init_std=0.05, teacher_exponent=0.0)
            rates = [_rate_of_loss(family, rules(name, 0.0), n) * 2.0 ** (-1 / n) for n in depths]
            claims.append(_slope(f"lr of equal floor {label}", name, depths, rates, alpha - 1))
    return claims


def width_slopes(*, quick: bool) -> list[Claim]:
    """Muon's steps move every singular value by eta, whatever the width: the rate of an equal floor per output does
    not depend on it, slope 0 within .05."""
    widths = (8, 16, 32)
    families = [FullRank(width=d, symmetric=True, init_std=0.05, teacher_exponent=0.0) for d in widths]
    rates = [_rate_of_loss(family, rules("muon", 0.0), 4) for family in families]
    return [_slope("lr of equal floor over width", "muon", widths, rates, 0.0)]


def _rate_of_loss(family: FullRank, optimizer: Optimizer, depth: int) -> float:
    """Learning rate at which the stationary loss is 1e-3 of each output: power-law fit over four rates."""
    base = 0.02 / (depth * family.multiplier(depth))
    if optimizer.name == "adamw":
        base /= family.width**0.5
    rates = base * 2.0 ** np.arange(4)
    losses = []
    for rate in rates:
        steps = round(3.0 * 2.0 / (depth * family.multiplier(depth)) / rate * (1 if optimizer.name != "nsgd" else 3))
        steps = max(steps, 200)
        arm = Arm(name="a", seed=0, schedule=Constant(steps=steps, peak_lr=float(rate)),
                  stages=(Stage(start_step=0, depth=depth),))  # fmt: skip
        (curve,) = run_arms(family, [arm], optimizer=optimizer, noisy=False, measure=range(3 * steps // 4, steps))
        losses.append(float(np.mean(curve.loss[curve.step >= 3 * steps // 4])))
    goal = 1e-3 * family.width
    slope, shift = np.polyfit(np.log(rates), np.log(losses), 1)
    return float(np.exp((np.log(goal) - shift) / slope))


def _slope(name: str, rule: str, sizes, rates: list[float], theory: float) -> Claim:
    measured = float(np.polyfit(np.log(sizes), np.log(rates), 1)[0])
    return claim(name, optimizer=rule, theory=[theory], values=[measured], tolerance=SLOPE, unit="exponent")
