"""Closed forms of the dynamics against the simulator, each on the smallest net that has it."""

from __future__ import annotations

import numpy as np
import scipy.integrate
import torch

from latebloom.sim.chain import FullRank, PlainDeep
from latebloom.sim.claims import Claim, claim
from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.family import Blocks
from latebloom.sim.lowrank import LowRank
from latebloom.sim.mapping import SGD
from latebloom.sim.optimizers import initial_state, update_blocks_
from latebloom.sim.stability import sharpness
from latebloom.theory.landscapes.normalised import hit_area
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import Constant

__all__ = ["edge_of_stability", "muon_hits", "noise_floors", "saxe", "time_scaling"]

POLAR = Optimizer(name="muon", momentum=0.0, nesterov=False, weight_decay=0.0, transfer="none")


def saxe(*, quick: bool) -> list[Claim]:
    """p' = N p^{2 - 2/N} (sigma - p) for the product p of N equal factors; Euler's error halves with eta.

    Tolerance 1 % at 800 steps (measured .1 to .5 %), and 5 % on the ratio 2 (its next order in eta).

    Args:
        quick: The small version.
    """
    claims = []
    for factors in (2, 3) if quick else (2, 3, 5):
        family = PlainDeep(width=1, symmetric=True, dtype="float64")  # teacher 1 + 1 = 2
        p0, sigma, errors = 0.05, 2.0, []
        time, _ = scipy.integrate.quad(lambda p, n=factors: 1 / (n * p ** (2 - 2 / n) * (2 - p)), p0, 1.0)  # halfway
        exact = _solve(lambda p, n=factors, sigma=sigma: n * p ** (2 - 2 / n) * (sigma - p), p0, time)
        for steps in (800, 1600):
            w = torch.full((1, factors, 1, 1), p0 ** (1 / factors), dtype=torch.float64)
            lr, data = torch.tensor([time / steps], dtype=torch.float64), family.population(1)
            step = family.descent((w,), columns=1)
            for _ in range(steps):
                step(data, lr)
            errors.append(float(w.prod()) - exact)
        name = f"Saxe, {factors} factors"
        claims.append(_one(f"{name}: product", exact, exact + errors[0], 0.01 * exact))
        claims.append(_one(f"{name}: error halves with eta", 2.0, errors[0] / errors[1], 0.1, unit="ratio"))
    return claims


def time_scaling(*, quick: bool) -> list[Claim]:
    """Residual net from the identity, symmetric teacher: p' = L s^2 p^{2 - 2/L} (t - p); half-time within 1 %.

    The time is depth-free at alpha = 1/2 and grows as L at alpha = 1, up to p^{2 - 2/L}, which theory has exactly.

    Args:
        quick: The small version.
    """
    claims = []
    for alpha in (0.5, 1.0):
        for depth in (4, 16) if quick else (2, 4, 8, 16, 32):
            family = FullRank(width=4, alpha=alpha, symmetric=True, dtype="float64")
            s, goal = family.multiplier(depth), 1.5  # halfway to the top mode, 2
            rate = depth * s**2
            expected, _ = scipy.integrate.quad(lambda p, r=rate, n=depth: 1 / (r * p ** (2 - 2 / n) * (2 - p)), 1, goal)
            eta = expected / 400
            w, before = torch.zeros(1, depth, 4, 4, dtype=torch.float64), 1.0
            lr, data, steps = torch.tensor([eta], dtype=torch.float64), family.population(1), 0
            step = family.descent((w,), columns=4)
            while (p := float((1 + s * w[0, :, 0, 0]).prod())) < goal:
                step(data, lr)
                before, steps = p, steps + 1
            reached = (steps - 1 + (goal - before) / (p - before)) * eta
            claims.append(_one(f"half-time, L = {depth}, alpha = {alpha:g}", expected, reached, 0.01 * expected))
    return claims


def edge_of_stability(*, quick: bool) -> list[Claim]:
    """eta_c = 2/(L s^2 t_max^{2 - 2/L}) against 2/lambda_max of the Hessian at the minimum: 1 %.

    Args:
        quick: The small version.
    """
    claims = []
    for alpha in (0.5, 1.0):
        for depth in (2, 8) if quick else (1, 2, 4, 8, 16):
            family = FullRank(width=6, alpha=alpha, symmetric=True, dtype="float64")
            top = family.teacher()
            root = torch.diag(torch.diag(top) ** (1 / depth)) - torch.eye(6, dtype=torch.float64)
            blocks = ((root / family.multiplier(depth)).expand(1, depth, 6, 6).contiguous(),)
            measured = 2 / float(sharpness(family, blocks, family.population(1), iterations=300)[0])
            limit = family.step_limit(depth)
            claims.append(_one(f"eta_c, L = {depth}, alpha = {alpha:g}", limit, measured, 0.01 * limit, unit="lr"))
    return claims


def muon_hits(*, quick: bool) -> list[Claim]:
    """Aligned plain net under Muon: every singular value moves by eta a step until sigma^{1/N}; hit step +- 2.

    With decoupled decay lambda no factor exceeds 1/lambda: sigma_max(P) <= (1 + s/lambda)^L, checked on a residual net.

    Args:
        quick: The small version.
    """
    claims, eps, eta = [], 0.05, 2e-3
    for factors in (2, 4):
        family = PlainDeep(width=4, symmetric=True, teacher_exponent=0.7, dtype="float64")
        sigma = torch.diag(family.teacher())
        blocks = (torch.eye(4, dtype=torch.float64).mul(eps).expand(1, factors, 4, 4).contiguous(),)
        hits = np.full(4, np.nan)
        for k in range(int(1.7 / eta)):
            _descend(family, POLAR, blocks, eta)
            p = torch.diag(torch.linalg.multi_dot(list(blocks[0][0]))) if factors > 1 else torch.diag(blocks[0][0, 0])
            new = ((p >= sigma - 1e-12) | (k * eta > 1.69)).numpy() & np.isnan(hits)
            hits[new] = k + 1
        expected = hit_area(sigma.numpy(), start=eps, factors=factors) / eta
        for mode in range(4):
            name = f"Muon hit step, {factors} factors, mode {mode + 1}"
            claims.append(_one(name, float(expected[mode]), float(hits[mode]), 2.0, unit="steps", rule="muon"))
    decay, depth = 2.0, 4
    residual = FullRank(width=4, symmetric=True, teacher_exponent=0.0, alpha=1.0, dtype="float64")
    rule = POLAR.replace(weight_decay=decay)
    weights = residual.fresh([0], range(depth))
    top = 0.0
    for _ in range(600 if quick else 3000):
        _descend(residual, rule, weights, 0.02)
        top = max(top, float(torch.linalg.svdvals(torch.linalg.multi_dot(list(residual.maps(weights)[0].flip(0))))[0]))
    bound = (1 + residual.multiplier(depth) / decay) ** depth
    claims.append(_one("Muon with decay: share of (1 + s/lambda)^L", 1.0, top / bound, 1e-3, unit="share", rule="muon"))
    return claims


def noise_floors(*, quick: bool) -> list[Claim]:
    """Stationary losses on minibatches.

    One square map, white inputs: d^2/2 V, V = (eta sigma^2/B)/(2 - eta - eta (d + 1)/B), exact; 3 % is four standard
    errors. Its edge eta_c = 2/(1 + (d + 1)/B): above it the mean square leaves. Low-rank nets, all modes fitted:
    eta sigma^2 s d sum_{k <= r L} sigma_k/(2 B), first order in eta: 8 %. Muon with momentum: proportional to eta,
    slope 1 within .1.

    Args:
        quick: The small version.
    """
    claims = []
    d, batch, sigma = 8, 32, 0.5
    steps, seeds = (600, 6) if quick else (3000, 8)
    family = PlainDeep(width=d, noise=sigma, batch=batch, dtype="float64")
    for eta in (0.2, 0.8):
        values = _stationary(family, SGD, depth=1, lr=eta, steps=steps, seeds=seeds)
        v = (eta * sigma**2 / batch) / (2 - eta - eta * (d + 1) / batch)
        exact = d * d / 2 * v
        claims.append(
            claim(
                f"online SGD, V_inf at eta = {eta:g}",
                optimizer="sgd",
                theory=[exact] * seeds,
                values=values,
                tolerance=0.03 * exact,
                unit="loss",
            )
        )
    limit = 2 / (1 + (d + 1) / batch)
    growth = _mean_square_growth(family, limit)
    claims.append(_one("online SGD, growth of the mean square at eta_c", 1.0, growth, 0.02, unit="a step"))
    low_rank = LowRank(width=16, rank=2, noise=1.0, batch=64, init_std=1.0)
    depth, eta = 8, 0.16
    ready = _trained(low_rank, depth, seeds=4)
    values = _continued(low_rank, ready, lr=eta, steps=1500 if quick else 6000)
    k = np.arange(1, 17)
    expected = eta * low_rank.noise**2 * low_rank.multiplier(depth) * 16 * np.sum(1.0 / k) / (2 * low_rank.batch)
    claims.append(
        claim(
            "low-rank noise floor",
            optimizer="sgd",
            theory=[expected] * len(values),
            values=values,
            tolerance=0.08 * expected,
            unit="loss",
        )
    )
    if not quick:
        muon = Optimizer(name="muon", momentum=0.95, weight_decay=0.0, transfer="none")
        low_rank = LowRank(noise=0.3, batch=32)
        lrs = np.array([0.0025, 0.005, 0.01, 0.02])
        area = 10.0
        floors = [
            np.mean(_stationary(low_rank, muon, depth=8, lr=float(lr), steps=round(area / lr), seeds=2)) for lr in lrs
        ]
        slope = np.polyfit(np.log(lrs), np.log(np.array(floors) - low_rank.floor(8)), 1)[0]
        claims.append(
            _one("noise floor under Muon, slope over eta", 1.0, float(slope), 0.1, unit="exponent", rule="muon")
        )
    return claims


def _solve(slope, start: float, time: float) -> float:
    found = scipy.integrate.solve_ivp(lambda _, p: slope(p), (0, time), [start], rtol=1e-10, atol=1e-12)
    return float(found.y[0, -1])


def _one(name: str, theory: float, value: float, tolerance: float, *, unit: str = "value", rule: str = "sgd") -> Claim:
    """A claim about one deterministic number."""
    return claim(name, optimizer=rule, theory=[theory], values=[value], tolerance=tolerance, unit=unit)


def _descend(family: FullRank, optimizer: Optimizer, blocks: Blocks, lr: float) -> None:
    _, gradient = family.gradient(blocks, family.population(1))
    state = initial_state(optimizer, blocks)
    update_blocks_(optimizer, blocks, gradient, state, lr=torch.tensor([lr]).to(blocks[0]), polar=True)


def _stationary(family: LowRank, optimizer: Optimizer, *, depth: int, lr: float, steps: int, seeds: int) -> list[float]:
    """Mean population loss over the last two thirds of a constant-rate run, one a seed."""
    schedule = Constant(steps=steps, peak_lr=lr)
    arms = [Arm(name="a", seed=s, schedule=schedule, stages=(Stage(start_step=0, depth=depth),)) for s in range(seeds)]
    curves = run_arms(family, arms, optimizer=optimizer, measure=range(steps // 3, steps + 1))
    return [float(np.mean(c.loss[c.step >= steps // 3])) for c in curves]


def _mean_square_growth(family: PlainDeep, lr: float) -> float:
    """E|delta'|^2/|delta|^2 of one step without target noise, mean of 8000 minibatches from one large error: .6 %."""
    quiet = PlainDeep(width=family.width, noise=0.0, batch=family.batch, dtype="float64")
    runs = 8000
    start = quiet.teacher() + 100 * quiet.fresh([0], range(1))[0][0, 0]
    w = start.expand(runs, 1, -1, -1).clone()
    x, y = quiet.sample([torch.Generator().manual_seed(i) for i in range(runs)])
    quiet.descend_((w,), (x, y), torch.full((runs,), lr, dtype=torch.float64))
    before, after = (start - quiet.teacher()).square().sum(), (w[:, 0] - quiet.teacher()).square().sum((1, 2)).mean()
    return float(after / before)


def _trained(family: LowRank, depth: int, *, seeds: int) -> Blocks:
    """Blocks near the minimum, by noiseless descent."""
    schedule = Constant(steps=2500, peak_lr=0.5 * family.step_limit(depth))
    arms = [Arm(name="a", seed=s, schedule=schedule, stages=(Stage(start_step=0, depth=depth),)) for s in range(seeds)]
    curves = run_arms(family, arms, optimizer=SGD, noisy=False)
    return tuple(torch.cat(parts) for parts in zip(*(c.blocks for c in curves), strict=True))


def _continued(family: LowRank, blocks: Blocks, *, lr: float, steps: int) -> list[float]:
    """Mean loss over the last two thirds of noisy descent from ``blocks``, above where it starts, one a run."""
    runs = blocks[0].shape[0]
    blocks, data = tuple(b.clone() for b in blocks), family.population(runs)
    start, streams = family.loss(blocks, data), [torch.Generator().manual_seed(i) for i in range(runs)]
    rate, total, count = torch.full((runs,), lr).to(blocks[0]), torch.zeros(runs), 0
    for k in range(steps):
        _, gradient = family.gradient(blocks, family.sample(streams))
        update_blocks_(SGD, blocks, gradient, initial_state(SGD, blocks), lr=rate)
        if 3 * k >= steps:
            total, count = total + family.loss(blocks, data), count + 1
    return (total / count - start).tolist()
