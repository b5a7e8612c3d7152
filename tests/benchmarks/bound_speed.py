"""Speed and accuracy of the whole last-iterate bound curve: ``python -m tests.benchmarks.bound_speed [--json FILE]``.

Four direct O(T^2) evaluations at T = 1e4, each vectorised numpy, one horizon after the other, all of them:

    speedup_1e4            ``last_iterate`` at each horizon: what the library has beside the whole curve, to rounding
    speedup_1e4_published  the theorem's double sum from the schedule at each horizon, in the manner of published code:
                           squares, areas and cumulative sums anew, differences of areas, positive part
    speedup_1e4_sliced     the same double sum with no operation to spare
    speedup_1e4_abel       the Abel-summed form in double precision, with areas and energies computed once

All are timed in turn in the same process, each time the least of several; ``_processor`` is without what others took.
"""

from __future__ import annotations

import json
import time

import click
import numpy as np

from latebloom.theory import wsd
from latebloom.theory.bounds import last_iterate, last_iterate_curve

DISTANCE = 1.0


def double_sum(eta: np.ndarray, gradient: np.ndarray) -> float:
    """Defazio et al. (arXiv 2310.07831), Theorem 10, as printed: two sums, the inner one over all later steps."""
    left = np.cumsum(eta[::-1])[::-1]
    energy = np.cumsum((eta * gradient)[::-1] ** 2)[::-1]
    last = 0.5 * np.sum(eta[:-1] / left[1:] * energy[:-1] / left[:-1])
    return DISTANCE**2 / (2 * left[0]) + energy[0] / (2 * left[0]) + last


def from_schedule(eta: np.ndarray, gradient: np.ndarray, t: int) -> float:
    """The double sum at horizon ``t`` from the whole schedule, with differences of cumulative sums."""
    rate, norm = eta.copy(), gradient.copy()
    energy = (rate**2 * norm**2)[:t]
    rate = rate[:t]
    area, spent = np.cumsum(rate), np.cumsum(energy)
    total, used = rate.sum(), energy.sum()
    later = total - area
    later[-1] += 1e-10
    inner = np.maximum(used - spent + energy, 0.0) / (later + rate)
    return DISTANCE**2 / (2 * total) + used / (2 * total) + 0.5 * (rate / later * inner)[: t - 1].sum()


def abel_sum(eta: np.ndarray, area: np.ndarray, energy: np.ndarray, t: int) -> float:
    past = np.sum(energy[: t - 1] / (area[t - 1] - area[: t - 1]))
    return DISTANCE**2 / (2 * area[t - 1]) + 0.5 * (energy[t - 1] / eta[t - 1] + past)


def seconds(function) -> np.ndarray:
    """(wall, processor) seconds: on a machine that others use the second is the steadier one."""
    start = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def measure(repeats: int = 15, rounds: int = 3) -> dict[str, float]:
    eta = wsd(steps=10_000, peak_lr=1.0).lrs()
    gradient = np.linspace(1.5, 0.8, len(eta))
    area, energy = np.cumsum(eta), (eta * gradient) ** 2

    def curve():
        return last_iterate_curve(eta, distance=DISTANCE, gradient=gradient)

    fast, own, published, slow, abel = [], [], [], [], []
    horizons = range(1, len(eta) + 1)
    for _ in range(rounds):
        fast += [seconds(curve) for _ in range(repeats)]
        own.append(seconds(lambda: [last_iterate(eta[:t], distance=DISTANCE, gradient=gradient[:t]) for t in horizons]))
        published.append(seconds(lambda: [from_schedule(eta, gradient, t) for t in horizons]))
        slow.append(seconds(lambda: [double_sum(eta[:t], gradient[:t]) for t in horizons]))
        abel.append(seconds(lambda: [abel_sum(eta, area, energy, t) for t in horizons]))

    long = wsd(steps=1_000_000, peak_lr=1.0).lrs()
    norms = np.linspace(1.5, 0.8, len(long))
    whole = last_iterate_curve(long, distance=DISTANCE, gradient=norms)
    t_long = np.min([seconds(lambda: last_iterate_curve(long, distance=DISTANCE, gradient=norms)) for _ in range(5)], 0)
    quick, direct, public, sliced, summed = (np.min(times, axis=0) for times in (fast, own, published, slow, abel))
    at = np.unique(np.concatenate([np.geomspace(1, len(long), 40), np.linspace(960_000, len(long), 20)]).astype(int))
    exact = [last_iterate(long[:t], distance=DISTANCE, gradient=norms[:t]).value for t in at]
    exact_short = [double_sum(eta[:t], gradient[:t]) for t in horizons]
    errors = [np.max(np.abs(whole.value[at - 1] / exact - 1)), np.max(np.abs(curve().value / exact_short - 1))]
    return {
        "t_1e6_s": t_long[0],
        "speedup_1e4": direct[0] / quick[0],
        "rel_error": float(max(errors)),
        "speedup_1e4_published": public[0] / quick[0],
        "speedup_1e4_sliced": sliced[0] / quick[0],
        "speedup_1e4_abel": summed[0] / quick[0],
        "t_1e6_processor_s": t_long[1],
        "speedup_1e4_processor": direct[1] / quick[1],
        "speedup_1e4_sliced_processor": sliced[1] / quick[1],
        "t_1e4_s": quick[0],
        "direct_1e4_s": direct[0],
        "reported_error": whole.error,
    }


@click.command()
@click.option("--json", "path", default=None, help="Write the numbers here.")
def main(path: str | None) -> None:
    """Measure and print; every figure is of this machine, now."""
    result = measure()
    print(json.dumps(result, indent=1))
    if path:
        with open(path, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
