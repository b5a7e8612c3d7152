r"""What the small phase is worth: coupled nets against the Schur complement, and growth against a cold start.

Coupled quadratic, w the trunk (embedding, readout, old blocks) and x the new blocks, Hessian H at the optimum W*:
with x held at x_0 = x* + d the trunk settles at w_0 = w* - H_ww^-1 H_wx d, and

    L(w_0, x_0) - L* = 1/2 d' S d,   S = H_xx - H_xw H_ww^-1 H_wx (Schur complement),
    L(w*, x_0) - L* = 1/2 d' H_xx d,   kappa = d' S d/d' H_xx d <= 1:

the share of a fresh net's distance that is left once the trunk has settled. H is built column by column from the hand
gradient; the simulator trains the trunk with frozen blocks.
"""

from __future__ import annotations

import numpy as np
import torch

from latebloom.sim.chain import Coupled
from latebloom.sim.claims import Claim, claim
from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.family import Blocks
from latebloom.sim.lowrank import LowRank
from latebloom.sim.mapping import SGD
from latebloom.sim.validation.expansions import FULL, SHAPES, normalised_pilots, rules, runs, staged
from latebloom.theory.plan import Stage
from latebloom.theory.schedules import AnySchedule, Constant, Tail

__all__ = ["cold_starts", "coupled_kappa", "hessian"]


def coupled_kappa(*, quick: bool) -> list[Claim]:
    """kappa of coupled nets, tied and free, for blocks displaced by 1e-3 from the optimum: 3 % (next order).

    Free ends can do all that the blocks do: kappa = 0. Tied ones cannot.

    Args:
        quick: The small version.
    """
    claims = []
    for tied in (True, False):
        for depth in (2,) if quick else (1, 2, 4):
            family = Coupled(width=4, tied=tied, alpha=0.5, init_std=0.3, dtype="float64")
            (optimum,) = run_arms(
                family,
                [
                    Arm(
                        name="a",
                        seed=0,
                        schedule=Constant(steps=6000, peak_lr=0.5 * family.step_limit(depth)),
                        stages=(Stage(start_step=0, depth=depth),),
                    )
                ],
                optimizer=SGD,
                noisy=False,
            )
            blocks, data = optimum.blocks, family.population(1)
            h = hessian(family, blocks)
            n = blocks[0].numel()
            xx, xw, ww = h[:n, :n], h[:n, n:], h[n:, n:]
            schur = xx - xw @ np.linalg.pinv(ww, rcond=1e-6) @ xw.T
            shift = 1e-3 * torch.randn(blocks[0].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
            d = shift.reshape(-1).numpy()
            theory = float(d @ schur @ d / (d @ xx @ d))
            start = (blocks[0] + shift, *(b.clone() for b in blocks[1:]))
            best, bare = float(optimum.final), float(family.loss(start, data)[0])
            lr = 0.8 * 2 / np.linalg.eigvalsh(ww)[-1] / 2
            for _ in range(3000):
                _, gradient = family.gradient(start, data)
                for w, g in zip(start[1:], gradient[1:], strict=True):
                    w.sub_(lr * g)
            measured = (float(family.loss(start, data)[0]) - best) / (bare - best)
            name = f"kappa, coupled {'tied' if tied else 'free'}, depth {depth}"
            claims.append(
                claim(
                    name,
                    optimizer="sgd",
                    theory=[theory],
                    values=[measured],
                    tolerance=0.03 * abs(theory) + 1e-6,
                    unit="share",
                )
            )
    return claims


def cold_starts(*, quick: bool) -> list[Claim]:
    """Retention over a cold start, R = C - P: nothing from zero layers under descent; from one layer under Muon as much
    as the normalised law says (fixed and grown pilots), 5 % of the loss.

    Args:
        quick: The small version.
    """
    family, steps = LowRank(noise=0.0), 500
    schedule = SHAPES["wsd"](steps).replace(peak_lr=0.5 * family.step_limit(FULL))
    claims = []
    for share in (0.7,) if quick else (0.4, 0.6, 0.8):
        tau = round(float(schedule.area_inverse(share * schedule.total_area)))
        kept = _retention(family, SGD, schedule, 0, tau)
        name = f"retention 0 -> {FULL}, tau = {tau / steps:.2f} T"
        claims.append(
            claim(
                name, optimizer="sgd", theory=[0.0], values=[kept[0] - kept[1]], tolerance=1e-3 * kept[0], unit="loss"
            )
        )
    for small in (1,) if quick else (0, 1):
        muon = rules("muon", 0.9)
        law, total = normalised_pilots(family, muon, steps=steps, small=small, noisy=False)
        shape = SHAPES["wsd"](steps)
        schedule = shape.replace(peak_lr=total / shape.total_area)
        for share in (0.7,) if quick else (0.5, 0.7, 0.9):
            tau = round(float(schedule.area_inverse(share * total)))
            cold, grown = _retention(family, muon, schedule, small, tau)
            tail = Tail(base=schedule, start_step=tau)
            theory = float(law.fixed(tail, tail.horizon, depth=FULL) - law.grown(schedule, steps, tau=tau))
            name = f"retention {small} -> {FULL}, tau = {tau / steps:.2f} T"
            claims.append(
                claim(
                    name, optimizer="muon", theory=[theory], values=[cold - grown], tolerance=0.05 * cold, unit="loss"
                )
            )
    return claims


def hessian(family: Coupled, blocks: Blocks) -> np.ndarray:
    """Hessian of the population loss by central differences of the hand gradient.

    Args:
        family: Architecture, teacher and data.
        blocks: Weights of one run.

    Returns:
        Second derivatives with respect to all weights, tensor after tensor, (n, n).
    """
    sizes, shapes = [b.numel() for b in blocks], [b.shape for b in blocks]
    theta = torch.cat([b.reshape(-1) for b in blocks])
    n, h = len(theta), 1e-5

    def gradient(points: torch.Tensor) -> torch.Tensor:
        parts = points.split(sizes, dim=1)
        made = tuple(p.reshape(n, *shape[1:]) for p, shape in zip(parts, shapes, strict=True))
        found = family.gradient(made, family.population(n))[1]
        return torch.cat([g.reshape(n, -1) for g in found], dim=1)

    steps = h * torch.eye(n, dtype=theta.dtype)
    matrix = ((gradient(theta + steps) - gradient(theta - steps)) / (2 * h)).numpy()
    return (matrix + matrix.T) / 2


def _retention(family: LowRank, optimizer, schedule: AnySchedule, small: int, tau: int) -> tuple[float, float]:
    """Final losses of the cold start and of the grown run."""
    grown = runs(family, optimizer, schedule, [staged((small, 0), (FULL, tau))])[0][0]
    cold = run_arms(
        family,
        [Arm(name="cold", seed=0, schedule=Tail(base=schedule, start_step=tau), stages=staged((FULL, 0)), begin=tau)],
        optimizer=optimizer,
        noisy=False,
    )
    return cold[0].final, grown.final
