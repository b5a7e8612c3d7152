r"""The planner on planted worlds whose loss stays on a plateau in mid-run and then falls.

    python -m tests.benchmarks.planner_plateaus [--json] [--worlds 120]

Small initial weights are near a saddle of the loss: it stays where it is while a mode grows exponentially from what
the seed gave it, then falls within a few of the mode's own time constants, and then comes the next plateau. What is
left of a mode's share of the loss after learning-rate area t is, for two linear layers (Saxe, McClelland & Ganguli,
arXiv 1312.6120, the logistic curve of a mode's strength),

    m(x) = [(1 + e^-n) / (1 + e^(n (x - 1)))]^2,   x = t/t_i,   n = ln(final strength/initial strength),

so when it falls, t_i, depends on the seed. Here a world is one seed of such a law:

    s(t)     = base + slope part t^-b + sum_i a_i m_i(t/t_i)        small depth, one to three modes
    f(t)     the same with times t_i e^(lag_i) and the depth gap of the worlds without plateaus
    P(S, u)  each mode goes on from x = S/t_i, at the full depth's pace on a fresh trunk and, as the trunk is trained,
             more and more at one of its own

``lag_i`` has no sign: a deeper net may leave its plateau sooner or later. t_1 is from a twelfth of the horizon to one
and a half of it: pilots may end before the fall, in it or behind it. Designs of pilots, horizons and scores are those
of :mod:`tests.benchmarks.planner_calibration`. ``warned`` answers, of which the plan says "Pilots too short", stand
apart. Stream 3 was used for choosing, the numbers printed are of stream 5.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latebloom.theory.cost import flops_per_token
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve
from latebloom.theory.fitting.field_kernel import FieldPrior
from latebloom.theory.menu import MenuArm, schedule_for
from latebloom.theory.pilot_reach import short_pilots_text
from tests.benchmarks.planner_calibration import (
    GAPS,
    GPT_DESIGNS,
    SIM_DESIGNS,
    Experiment,
    Planted,
    Score,
    gpt,
    planted,
    scores_of_runs,
)
from tests.benchmarks.planner_worlds import FULL, HORIZON, between, programme, schedule

LOSS = 4.6  # of the small depth at the horizon, as in the planted worlds without plateaus
DESIGNS = (*GPT_DESIGNS["T/4"], *GPT_DESIGNS["T/2"], *SIM_DESIGNS[1:2])
HELD_OUT = 5  # stream of worlds on which nothing was chosen
OPTIMIZER = "muon"  # of which the prior is asked, as of the GPT runs


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One mode of a world: share of the loss, area at which it is learnt, sharpness, and how other depths differ.

    Attributes:
        size: a_i, of the loss.
        time: t_i of the small depth, in units of the full run's area.
        sharpness: n.
        lag: ln of the full depth's time over the small one's.
        lag_grown: The same of new blocks on a trained trunk.
    """

    size: float
    time: float
    sharpness: float
    lag: float
    lag_grown: float

    def left(self, before: np.ndarray, after: np.ndarray, trained: np.ndarray) -> np.ndarray:
        """What is left of it after areas S and u; ``trained``: of the trunk, 0 at S = 0."""
        pace = (1 - trained) * np.exp(-self.lag) + trained * np.exp(-self.lag_grown)
        x = (before + after * pace) / self.time
        n = self.sharpness
        return ((1 + np.exp(-n)) / (1 + np.exp(np.minimum(n * (x - 1), 50.0)))) ** 2


@dataclass(frozen=True, kw_only=True)
class PlateauWorld:
    """A planted world without plateaus, and modes that are learnt one after another."""

    smooth: Planted
    modes: tuple[Mode, ...]
    conditioned: float
    noise: float  # of one run, relative

    def loss(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Expected final loss after areas S and u, in units of the full run's."""
        before, after = np.asarray(before, float), np.asarray(after, float)
        trained = 1 - np.exp(-before / self.conditioned)
        return self.smooth.loss(before, after) + sum(
            LOSS * mode.size * mode.left(before, after, trained) for mode in self.modes
        )


def plateau_world(generator: np.random.Generator) -> PlateauWorld:
    """A world: 3 to 25 % of the loss in modes, the first learnt at 1/12 to 1.5 of the horizon."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))

    smooth = planted(generator)
    number = int(generator.integers(1, 4))
    sizes = log_uniform(0.03, 0.25) * generator.dirichlet(np.full(number, 2.0))
    times = log_uniform(1 / 12, 1.5) * np.cumprod([1.0, *np.exp(generator.uniform(0.3, 1.2, number - 1))])
    lag, lag_grown = 0.35 * generator.normal(), 0.2 * generator.normal() - 0.1
    return PlateauWorld(
        smooth=smooth,
        modes=tuple(
            Mode(
                size=float(size),
                time=float(time),
                sharpness=generator.uniform(3, 10),
                lag=lag + 0.15 * generator.normal(),
                lag_grown=lag_grown + 0.1 * generator.normal(),
            )
            for size, time in zip(sizes, times, strict=True)
        ),
        conditioned=log_uniform(0.01, 0.3),
        noise=log_uniform(0.001, 0.0025),
    )


def experiment_of(index: int, *, stream: int) -> Experiment:
    """Every run of the simulator's programme in one world, with errors as planted worlds have them, and its curve."""
    world = plateau_world(np.random.default_rng([stream, index]))
    generator = np.random.default_rng([stream, index, 1])
    plan = gpt(0).plan
    unit = plan.schedule.total_area / plan.schedule.peak
    seed, trunk = 0.006 * generator.normal(), {depth: generator.normal() for depth in (1, FULL)}
    ends: dict[str, AnnealedEnd] = {}
    for steps, depth, tau in programme(1):
        if depth == between(1):
            continue
        rates = schedule(steps, 1.0, tail=steps - tau if tau else None)
        kind = "grown" if tau else "small" if depth == 1 else "full"
        total = rates.total_area
        before = {"grown": float(rates.area(tau)), "small": total}.get(kind, 0.0)
        error = seed + world.noise * (np.sqrt(0.6) * trunk[depth] + np.sqrt(0.4) * generator.normal())
        horizon = "" if steps == HORIZON or not tau else steps
        name = f"grown{horizon}-{tau}" if tau else f"{kind}-{steps}"
        ends[name] = AnnealedEnd(
            name=name, kind=kind, depth=FULL if tau else depth, steps=steps, tau=tau, area=total, area_before=before,
            loss=float(world.loss(np.array(before / unit), np.array((total - before) / unit))) * (1 + error), seed=0,
            data=None, trunk=f"depth {depth}", recipe="random stack keep" if tau else "", peak_lr=1.0,
            warmup_steps=rates.warmup_steps, optimizer=OPTIMIZER,
        )  # fmt: skip
    return Experiment(
        source="plateau", plan=plan.replace(schedule=schedule(HORIZON, 1.0)), small_depth=1, full_depth=FULL, ends=ends,
        trunk_curve=_curve(world, unit, generator),
    )  # fmt: skip


def _curve(world: PlateauWorld, unit: float, generator: np.random.Generator) -> TrunkCurve | None:
    """The small trunk at constant rate, as :func:`~tests.benchmarks.planner_calibration.planted_curve` has it."""
    rates = schedule(HORIZON, 1.0)
    steps = np.unique(np.geomspace(rates.warmup_steps, HORIZON - rates.decay_steps, 16).round())
    area = np.array([float(rates.area(int(step))) for step in steps])
    above = LOSS * (generator.uniform(0.01, 0.04) + 0.005 * generator.normal() * np.log(area / unit))
    loss = world.loss(area / unit, np.zeros(len(area))) + above
    noise = float(np.exp(generator.uniform(np.log(0.012), np.log(0.04))))
    return TrunkCurve.thinned(area, loss + noise * generator.normal(size=len(area)))


@dataclass(frozen=True, kw_only=True)
class PlateauAnswer:
    """What was said of one world from one set of pilots."""

    scores: tuple[Score, ...]
    warned: bool


def answers(worlds: int, *, stream: int, prior: FieldPrior | None = None) -> list[PlateauAnswer]:
    """The planner's answers in ``worlds`` worlds, from every design of pilots."""
    out = []
    for index in range(worlds):
        experiment = experiment_of(index, stream=stream)
        model = experiment.plan.model
        ratio = flops_per_token(model, 1) / flops_per_token(model, 4)
        longest = round((360 * ratio + HORIZON - 360) / ratio)
        area = schedule_for(experiment.plan.schedule, longest).total_area
        arm = MenuArm(depths=(1,), tau=None, steps=longest, flops=1.0, area_before=area, area_after=0.0)
        for design in DESIGNS:
            pilots = [experiment.ends[name] for name in design]
            warned = short_pilots_text(pilots, [arm]) is not None
            out.append(PlateauAnswer(scores=tuple(scores_of_runs(experiment, design, prior)), warned=warned))
    return out


def summary(found: Sequence[PlateauAnswer]) -> dict[str, Any]:
    """Coverage, median error and mean logarithm of the interval score of each gap."""
    out: dict[str, Any] = {"answers": len(found)}
    for name in ("final_loss", *GAPS):
        scores = [s for a in found for s in a.scores if s.quantity == name]
        out[name] = {
            "coverage": round(float(np.mean([s.covered for s in scores])), 3),
            "error_median": round(100 * float(np.median([abs(s.median - s.truth) for s in scores])), 3),
            "bias": round(100 * float(np.median([s.median - s.truth for s in scores])), 3),
            "width_median": round(100 * float(np.median([s.high - s.low for s in scores])), 3),
            "score": round(float(np.mean([np.log(s.interval_score) for s in scores])), 3),
        }
    return out


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--worlds", type=int, default=120, help="planted worlds")
    given = parser.parse_args()
    found = answers(given.worlds, stream=HELD_OUT)
    groups = {
        name: summary(chosen)
        for name, warned in (("not warned", False), ("warned", True))
        if (chosen := [a for a in found if a.warned == warned])
    }
    if given.json:
        print(json.dumps(groups))
        return
    for name, numbers in groups.items():
        print(name)
        for quantity, value in numbers.items():
            print(f"    {quantity:12s} {value}")


if __name__ == "__main__":
    main()
