"""What a run that grows ends at: the area law, the law of normalised steps, initialisations, memory, stages."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch

from latebloom.sim.claims import Claim, claim
from latebloom.sim.engine import Arm, SimulatedCurve, run_arms
from latebloom.sim.growth import add_blocks
from latebloom.sim.lowrank import LowRank
from latebloom.sim.mapping import SGD
from latebloom.sim.optimizers import initial_state, update_blocks_
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.normalised import fit_normalised
from latebloom.theory.landscapes.normalised import NormalisedLaw
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import AnySchedule, Cosine, Linear, wsd

__all__ = [
    "SHAPES",
    "area_law",
    "copies",
    "initialisations",
    "memory",
    "normalised_law",
    "normalised_pilots",
    "rules",
    "runs",
    "stages",
]

FULL = 8
AREA_LAW = 0.05  # of the loss; measured 1 % from zero layers without noise, 3 % with noise
NORMALISED = 0.05  # of the loss; measured 4 % without noise (tests/test_theory_normalised.py)
NORMALISED_NOISY = 0.08  # measured 7.4 %: under noise small modes no longer move at constant speed
TRAINED = 0.95
WAYS = 4.0  # whole area of normalised runs in units of the way to the largest mode


def rules(name: str, momentum: float = 0.95) -> Optimizer:
    """The update rule ``name`` without decay and transfer.

    Args:
        name: Of :class:`~latebloom.theory.plan.Optimizer`.
        momentum: Of every rule but gradient descent, which has none, and Adam, which has 0.9.
    """
    if name == "sgd":
        return SGD
    adam = {"momentum": 0.9, "beta2": 0.95} if name == "adamw" else {"momentum": momentum}
    return Optimizer(name=name, weight_decay=0.0, transfer="none", **adam)  # type: ignore[arg-type]


SHAPES: dict[str, Callable[[int], AnySchedule]] = {
    "wsd": lambda steps: wsd(steps=steps, peak_lr=1.0),
    "cosine": lambda steps: Cosine(steps=steps, peak_lr=1.0),
    "linear": lambda steps: Linear(steps=steps, peak_lr=1.0),
}


def runs(
    family: LowRank,
    optimizer: Optimizer,
    schedule: AnySchedule,
    plans: list[tuple[Stage, ...]],
    *,
    seeds: int = 1,
    noisy: bool = False,
    every: int = 0,
) -> list[list[SimulatedCurve]]:
    """All ``plans`` under one schedule on common random numbers.

    Args:
        family: Architecture, teacher and data.
        optimizer: Update rule of all runs.
        schedule: Learning rates of all runs.
        plans: Stages of each run.
        seeds: Runs of each plan, with seeds 0, 1, ...
        noisy: Train on fresh noisy minibatches; otherwise on the population.
        every: Steps between measurements; 0 for starts, expansions and ends alone.

    Returns:
        Loss curves as [plan][seed].
    """
    arms = [Arm(name="a", seed=seed, schedule=schedule, stages=stages) for stages in plans for seed in range(seeds)]
    measure = range(0, schedule.horizon + 1, every) if every else ()
    curves = run_arms(family, arms, optimizer=optimizer, noisy=noisy, measure=measure)
    return [list(curves[i : i + seeds]) for i in range(0, len(curves), seeds)]


def staged(*depths: tuple[int, int], **last) -> tuple[Stage, ...]:
    """Stages from (depth, start_step); further arguments belong to the last one."""
    made = [Stage(start_step=start, depth=depth) for depth, start in depths]
    return (*made[:-1], made[-1].replace(**last))


def area_law(*, quick: bool) -> list[Claim]:
    """Gradient descent from zero layers: P(T) = F(S_T - S_tau), with noise P(T) = signal(u) + noise(schedule).

    With noise at a tenth of eta_c, where what noise adds to the loss is still a sum; at half of eta_c, where it is half
    of the loss, the law is up to 10 % too high: modes that are not learnt yet have no noise.

    Args:
        quick: The small version.
    """
    claims = []
    cases = [("wsd", 1.0), ("cosine", 0.5)] if quick else itertools.product(SHAPES, (0.5, 1.0))
    for shape, alpha in cases:
        for noise in (0.0,) if quick else (0.0, 0.5):
            family, steps, seeds = (
                LowRank(alpha=alpha, noise=noise, batch=32),
                1500 if noise else 1000,
                4 if noise else 2,
            )
            share = 0.1 if noise else 0.5
            schedule = SHAPES[shape](steps).replace(peak_lr=share * family.step_limit(FULL))
            taus = [round(float(schedule.area_inverse(x * schedule.total_area))) for x in (0.4, 0.7, 0.85, 0.93)]
            plans = [staged((FULL, 0)), *(staged((0, 0), (FULL, tau)) for tau in taus)]
            pilot = runs(family, SGD, schedule, plans[:1], seeds=seeds, every=4)[0]
            fixed, *grown = (
                runs(family, SGD, schedule, plans, seeds=seeds, noisy=True)
                if noise
                else (pilot, *runs(family, SGD, schedule, plans[1:], seeds=seeds))
            )
            extra = np.mean([c.final for c in fixed]) - np.mean([c.final for c in pilot])
            for tau, curves in zip(taus, grown, strict=True):
                left = schedule.total_area - float(schedule.area(tau))
                theory = [float(np.interp(left, schedule.area(c.step), c.loss) + extra) for c in pilot]
                name = (
                    f"area law, 0 -> {FULL}, {shape}, alpha = {alpha:g}, noise = {noise:g}, tau = {tau / steps:.2f} T"
                )
                claims.append(_judged(name, "sgd", theory, curves, AREA_LAW))
    return claims


def normalised_pilots(
    family: LowRank, optimizer: Optimizer, *, steps: int, small: int, noisy: bool, seeds: int = 1
) -> tuple[NormalisedLaw, float]:
    """The normalised law fitted to fixed WSD pilots at two rates (for l >= 1 a small and a grown one too).

    Args:
        family: Architecture, teacher and data.
        optimizer: Update rule of the pilots.
        steps: Of the shorter pilot; the longer one has twice as many.
        small: l, depth to grow from.
        noisy: Train on fresh noisy minibatches; otherwise on the population.
        seeds: Runs of each pilot, averaged.

    Returns:
        The law, and the learning-rate area of each whole pilot.
    """
    total = WAYS * (FULL * family.multiplier(FULL)) ** -0.5
    if optimizer.name == "adamw":
        total /= family.width**0.5  # Adam moves entries
    fast, slow = (_scaled(SHAPES["wsd"](n), total) for n in (steps, 2 * steps))

    def pilot(schedule: AnySchedule, stages: tuple[Stage, ...], tau: int | None = None) -> LossCurve:
        every = max(1, schedule.horizon // 250)
        curves = runs(family, optimizer, schedule, [stages], seeds=seeds, noisy=noisy, every=every)[0]
        loss = np.mean([c.loss for c in curves if c.diverged_at is None], axis=0)
        return LossCurve(name="pilot", schedule=schedule, step=curves[0].step[1:], loss=loss[1:], tau=tau)

    long = wsd(steps=2 * steps, peak_lr=fast.peak)
    law = fit_normalised(
        [pilot(fast, staged((FULL, 0))), pilot(slow, staged((FULL, 0)))],
        small_depth=small,
        full_depth=FULL,
        small=[pilot(fast, staged((small, 0)))] if small else (),
        grown=[pilot(long, staged((small, 0), (FULL, steps)), tau=steps)] if small else (),
        noisy=noisy,
        floor=family.floor(FULL),
    )
    return law, total


def normalised_law(*, quick: bool) -> list[Claim]:
    """Muon, NSGD and Adam from WSD pilots alone: final losses under WSD, cosine and linear, where the trunk has learnt
    95 % of what it can (before, the law only interpolates).

    Args:
        quick: The small version.
    """
    claims = []
    cases = (
        [("muon", 1.0, 0, 0.0), ("nsgd", 0.5, 0, 0.0), ("nsgd", 1.0, 1, 0.0)]
        if quick
        else [
            *itertools.product(("muon", "nsgd"), (0.5, 1.0), (0, 1), (0.0,)),
            *itertools.product(("muon", "nsgd"), (0.5, 1.0), (0,), (0.3,)),
            ("adamw", 1.0, 0, 0.0),
            ("adamw", 0.5, 0, 0.0),
        ]
    )
    for name, alpha, small, noise in cases:
        family, steps = LowRank(alpha=alpha, noise=noise, batch=32), 500 if quick else 1000
        optimizer, seeds, noisy = rules(name, 0.9 if quick else 0.95), 4 if noise else 1, noise > 0
        law, total = normalised_pilots(family, optimizer, steps=steps, small=small, noisy=noisy, seeds=seeds)
        shares = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
        for shape in ("cosine", "wsd") if quick else SHAPES:
            schedule = _scaled(SHAPES[shape](steps), total)
            taus = [round(float(schedule.area_inverse(x * total))) for x in shares]
            taus = [tau for tau in taus if law.learnt(schedule, tau) > TRAINED]
            plans = [staged((small, 0), (FULL, tau)) for tau in taus]
            for tau, curves in zip(
                taus, runs(family, optimizer, schedule, plans, seeds=seeds, noisy=noisy), strict=True
            ):
                theory = [float(law.grown(schedule, steps, tau=tau))] * seeds
                label = (
                    f"normalised law, {small} -> {FULL}, {shape}, alpha = {alpha:g}, noise = {noise:g}, "
                    f"tau = {tau / steps:.2f} T"
                )
                claims.append(_judged(label, name, theory, curves, NORMALISED_NOISY if noise else NORMALISED))
    return claims


def initialisations(*, quick: bool) -> list[Claim]:
    """1 -> 8: zero never leaves the small floor, zero_last keeps the function, random ends as the fixed run.

    Args:
        quick: The small version.
    """
    family, steps, tau = LowRank(width=24, noise=0.0), 2000 if quick else 4000, 400
    schedule = wsd(steps=steps, peak_lr=0.5 * min(family.step_limit(1), family.step_limit(FULL)))
    plans = [
        staged((FULL, 0)),
        staged((1, 0)),
        *(staged((1, 0), (FULL, tau), init=init) for init in ("zero", "random")),
    ]
    fixed, before, zero, random = (c[0] for c in runs(family, SGD, schedule, plans, every=4))
    small, data = family.floor(1), family.population(1)
    claims = [
        _value("all-zero blocks are dead: final loss is the small floor", small, zero.final, 1e-3 * small),
        _value(
            "random: final loss by the area law",
            float(np.interp(schedule.total_area - schedule.area(tau), schedule.area(fixed.step), fixed.loss)),
            random.final,
            AREA_LAW * random.final,
        ),
    ]
    for init in ("zero_last", "copy_zero_last"):
        stage = Stage(start_step=tau, depth=FULL, init=init)
        after, _ = add_blocks(family, before.blocks, initial_state(SGD, before.blocks), stage=stage, seeds=[0])
        jump = float(family.loss(after, data)[0] - family.loss(before.blocks, data)[0])
        _, gradient = family.gradient(after, data)
        alive = float(gradient[family.last][:, 1:].abs().amax(dim=(2, 3)).min())
        claims.append(_value(f"{init} keeps the function: jump", 0.0, jump, 1e-5 * small))
        if init == "zero_last":
            claims.append(_value("zero_last: every new block has a gradient, share", 1.0, float(alive > 1e-6), 0.0))
    return claims


def copies(*, quick: bool) -> list[Claim]:
    """Copied blocks leave their saddle after c + ln(1/noise)/(eta s sigma_2 q): slope over ln(1/noise) within 3 %.

    Two equal symmetric blocks of rank 1 share mode 1, (1 + kappa)^2 = 1 + sigma_1 with kappa = s a^2; what tells them
    apart grows along mode 2. Without products of blocks the rate is s sigma_2. With them, first order of the error in
    both off-diagonal entries must vanish, which leaves (u_1, u_2) ~ (1 + kappa, -1), (v_1, v_2) ~ (1, -1 - kappa), and
    u_2 v_1 gains s kappa: q = (2 + kappa)/(1 + (1 + kappa)^2).

    Args:
        quick: The small version.
    """
    claims = []
    for alpha in (1.0,) if quick else (0.5, 1.0):
        family = LowRank(width=6, rank=1, alpha=alpha, symmetric=True, dtype="float64", init_std=0.5)
        eta = 0.05
        u = family.fresh([0], range(1))[0]
        blocks = (u, u.mT.contiguous())
        _descended(family, blocks, eta, 2000)
        stage = Stage(start_step=1, depth=2, init="copy")
        start, _ = add_blocks(family, blocks, initial_state(SGD, blocks), stage=stage, seeds=[0])
        _descended(family, start, eta, 300)  # onto the symmetric saddle
        kick = family.fresh([7], range(2))
        sizes = (1e-3, 1e-5) if quick else (1e-2, 1e-3, 1e-4, 1e-5)
        goal = (family.floor(1) + family.floor(2)) / 2
        moved = [tuple(b + size * k for b, k in zip(start, kick, strict=True)) for size in sizes]
        times = [_descended(family, each, eta, 5000, goal=goal) for each in moved]
        slope = np.polyfit(np.log(1 / np.array(sizes)), times, 1)[0]
        kappa, sigma = 2**0.5 - 1, 2.0**-family.teacher_exponent
        q = (2 + kappa) / (1 + (1 + kappa) ** 2)
        expected = 1 / (eta * family.multiplier(2) * sigma * q)
        name = f"copy: steps per e-fold of noise, alpha = {alpha:g}"
        claims.append(_value(name, expected, float(slope), 0.03 * expected, unit="steps"))
    return claims


def memory(*, quick: bool) -> list[Claim]:
    """Optimizer state carried or reset at tau: no more than M eta of area, 3 % of the final loss.

    Args:
        quick: The small version.
    """
    claims = []
    heavy = Optimizer(name="sgd", momentum=0.9, nesterov=False, weight_decay=0.0, transfer="none")
    cases = {"sgd_own": heavy, "muon": rules("muon"), "nsgd": rules("nsgd"), "adamw": rules("adamw")}
    for name in ("sgd_own", "nsgd") if quick else cases:
        family, steps = LowRank(noise=0.3, batch=64), 500 if quick else 1000
        lr = 0.3 * family.step_limit(FULL) if name == "sgd_own" else WAYS / (0.9 * steps)
        schedule = wsd(steps=steps, peak_lr=lr / family.width**0.5 if name == "adamw" else lr)
        tau, seeds = round(0.6 * steps), 4
        plans = [staged((1, 0), (FULL, tau), optimizer_state=kept) for kept in ("keep", "reset")]
        keep, reset = runs(family, cases[name], schedule, plans, seeds=seeds, noisy=True)
        theory = [c.final for c in keep]
        claims.append(_judged("optimizer state reset at tau, against carried", name, theory, reset, 0.03))
    return claims


def stages(*, quick: bool) -> list[Claim]:
    """Is one stage best? Criterion: mode k needs area in proportion to 1/(s sigma_k). A stage in between is worth
    having if its modes need more area than those that the last one adds, or need less than they would at full depth:
    if s_l > s_L. Teachers with falling sigma_k rule out the first, alpha = 0 the second: one stage is best. At alpha 1
    and one rate for all depths the net of 4 blocks learns twice as fast as that of 8: two stages gain while compute is
    cheap.

    Objective J = (P(T) - floor)/(floor_0 - floor) + price x compute/(fixed compute), compute = sum of steps x (2 +
    depth); brute force over all (tau_1, tau_2) of a grid for 0 -> 4 -> 8 against all tau of a finer one for 0 -> 8.
    Gains within 2 % of J are none.

    Args:
        quick: The small version.
    """
    claims, steps = [], 600
    for alpha in (0.0,) if quick else (0.0, 1.0):
        family = LowRank(width=16, rank=2, alpha=alpha)
        schedule = wsd(steps=steps, peak_lr=0.7 * min(family.step_limit(4), family.step_limit(FULL)))
        fine = np.unique((np.linspace(0.3, 0.97, 60 if quick else 100) * steps).astype(int)).tolist()
        pairs = list(itertools.combinations(fine[::6], 2))
        plans = [staged((0, 0), (FULL, t)) for t in fine]
        plans += [staged((0, 0), (4, a), (FULL, b)) for a, b in pairs]
        ends = np.array([c[0].final for c in runs(family, SGD, schedule, plans)]) - family.floor(FULL)
        compute = np.array([_compute(each, steps) for each in plans]) / _compute(staged((FULL, 0)), steps)
        for price in (0.05,) if quick else (0.02, 0.05, 0.2):
            objective = ends / (family.floor(0) - family.floor(FULL)) + price * compute
            gain = max(0.0, 1 - float(objective[len(fine) :].min() / objective[: len(fine)].min()))
            label = f"alpha = {alpha:g}, price {price:g}"
            if alpha == 0:
                claims.append(_value(f"gain of a second stage, {label}", 0.0, gain, 0.02, unit="share of J"))
            elif price == 0.02:
                claims.append(_value(f"a second stage gains, {label}", 1.0, float(gain > 0.02), 0.0, unit="yes"))
    return claims


def _compute(stages: tuple[Stage, ...], steps: int) -> float:
    ends = [s.start_step for s in stages[1:]] + [steps]
    return float(sum((2 + s.depth) * (end - s.start_step) for s, end in zip(stages, ends, strict=True)))


def _scaled(schedule: AnySchedule, total: float) -> AnySchedule:
    return schedule.replace(peak_lr=total / schedule.total_area)


def _descended(family: LowRank, blocks, eta: float, steps: int, *, goal: float | None = None) -> int:
    """Noiseless descent in place; the step at which the loss is below ``goal``, ``steps`` otherwise."""
    data, lr = family.population(1), torch.tensor([eta]).to(blocks[0])
    for k in range(steps):
        value, gradient = family.gradient(blocks, data)
        if goal is not None and float(value) < goal:
            return k
        update_blocks_(SGD, blocks, gradient, initial_state(SGD, blocks), lr=lr)
    return steps


def _value(name: str, theory: float, value: float, tolerance: float, *, unit: str = "loss", rule: str = "sgd") -> Claim:
    return claim(name, optimizer=rule, theory=[theory], values=[value], tolerance=tolerance, unit=unit)


def _judged(name: str, rule: str, theory: list[float], curves: list[SimulatedCurve], share: float) -> Claim:
    """Final losses against ``theory``; runs that are not finite are left out and reported."""
    healthy = [i for i, c in enumerate(curves) if c.diverged_at is None]
    expected = [theory[i] for i in healthy]
    return claim(
        name,
        optimizer=rule,
        theory=expected,
        values=[curves[i].final for i in healthy],
        tolerance=share * float(np.mean(expected)) if expected else 0.0,
        unit="loss",
        diverged=len(curves) - len(healthy),
    )
