"""Learning rates over depth and width: exponents fitted and compared with theory."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from latebloom.sim.chain import FullRank
from latebloom.sim.claims import Claim, claim
from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.mapping import SGD
from latebloom.sim.stability import sharpness
from latebloom.sim.validation.expansions import rules
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import Constant
from latebloom.theory.transfer import Size, transfer

__all__ = ["depth_slopes", "one_step_optima", "width_slopes"]

SLOPE = 0.05


def depth_slopes(*, quick: bool) -> list[Claim]:
    """Largest rate over depth: gradient descent L^(2 alpha - 1), where it leaves the minimum it found; Muon, NSGD and
    Adam L^(alpha - 1), where the stationary loss of their oscillation reaches a given size. Slopes within .05.

    Full-rank residual nets. Of the closed forms' p^{2 - 2/L} (curvature) and p^{1 - 1/L} (size of a step) the limits
    L -> oo are kept in the exponent, the rest is divided out; all modes are p = 2 under the normalised rules.

    Args:
        quick: The small version.
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
    not depend on it, slope 0 within .05.

    Args:
        quick: The small version.
    """
    widths = (8, 16, 32)
    families = [FullRank(width=d, symmetric=True, init_std=0.05, teacher_exponent=0.0) for d in widths]
    rates = [_rate_of_loss(family, rules("muon", 0.0), 4) for family in families]
    return [_slope("lr of equal floor over width", "muon", widths, rates, 0.0)]


def one_step_optima(*, quick: bool) -> list[Claim]:
    """Best learning rate of one step of gradient descent over width: flat under theory's transfer rules (muP), 1/width
    under the standard parametrisation. Three matrices, f = m v W U x, tuned at width 16, the loss averaged over seeds.
    Slopes within .05, and .1 for the standard one, where what the first matrix learns adds a share of 16/width.

    Args:
        quick: The small version.
    """
    widths = (64, 128, 256) if quick else (64, 128, 256, 512)
    claims = []
    for name, expected, tolerance in (("transfer rules", 0.0, SLOPE), ("standard", -1.0, 2 * SLOPE)):
        best = [_one_step_optimum(width, 16, name == "standard", seeds=16) for width in widths]
        claims.append(_slope(f"one-step optimum over width, {name}", "sgd", widths, best, expected, tolerance))
    return claims


def _one_step_optimum(width: int, base: int, standard: bool, *, seeds: int) -> float:
    """argmin over eta of the mean loss after one step from a fresh network of ``width``, tuned at ``base``."""
    inputs, samples = 16, 32
    sizes = [Size(width=w, depth=1, steps=1, batch=1) for w in (base, width)]
    rows = transfer(sizes[0], sizes[1], "sgd")
    factor = {(row.quantity, row.group): row.factor for row in rows}
    if standard:  # every matrix starts at 1/sqrt(fan_in), one rate for all
        factor = dict.fromkeys(factor, 1.0) | {("init_std", g): (base / width) ** 0.5 for g in ("hidden", "head")}
    nets = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)  # the same data at every width
        x = rng.standard_normal((inputs, samples))
        y = rng.standard_normal(inputs) @ x / inputs**0.5
        u = rng.standard_normal((width, inputs)) / inputs**0.5 * factor["init_std", "embedding"]
        w = rng.standard_normal((width, width)) / base**0.5 * factor["init_std", "hidden"]
        v = rng.standard_normal(width) / base**0.5 * factor["init_std", "head"]
        m, h = factor["multiplier", "head"], w @ u @ x
        error = (m * v @ h - y) / samples
        back = m * np.outer(v, error)
        steps = (
            factor["lr", "embedding"] * w.T @ back @ x.T,
            factor["lr", "hidden"] * back @ (u @ x).T,
            factor["lr", "head"] * m * h @ error,
        )
        nets.append((x, y, m, (u, w, v), steps))

    def loss(log_rate: float) -> float:
        eta, total = np.exp(log_rate), 0.0
        for x, y, m, weights, steps in nets:
            u, w, v = (weight - eta * step for weight, step in zip(weights, steps, strict=True))
            total += 0.5 * float(np.mean((m * v @ w @ u @ x - y) ** 2))
        return total

    grid = np.linspace(-9, 3, 49)
    start = grid[np.argmin([loss(r) for r in grid])]
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(start - 0.25, start + 0.25), method="bounded").x))


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
        arm = Arm(
            name="a",
            seed=0,
            schedule=Constant(steps=steps, peak_lr=float(rate)),
            stages=(Stage(start_step=0, depth=depth),),
        )
        (curve,) = run_arms(family, [arm], optimizer=optimizer, noisy=False, measure=range(3 * steps // 4, steps))
        losses.append(float(np.mean(curve.loss[curve.step >= 3 * steps // 4])))
    goal = 1e-3 * family.width
    slope, shift = np.polyfit(np.log(rates), np.log(losses), 1)
    return float(np.exp((np.log(goal) - shift) / slope))


def _slope(name: str, rule: str, sizes, rates: list[float], theory: float, tolerance: float = SLOPE) -> Claim:
    measured = float(np.polyfit(np.log(sizes), np.log(rates), 1)[0])
    return claim(name, optimizer=rule, theory=[theory], values=[measured], tolerance=tolerance, unit="exponent")
