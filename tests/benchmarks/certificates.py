"""Exact worst cases of subgradient descent by semidefinite programming: ``python -m tests.benchmarks.certificates``.

Needs PEPit and cvxpy (``pip install PEPit cvxpy``), which are half a gigabyte and no dependency of this project: the
results stand in ``tests/golden/worst_cases.json`` and tests compare the bounds with them. Solving them all takes about
a minute on one core; with PEPit installed, ``tests/test_theory_bounds.py`` solves the smallest again.

Convention: learning rates eta_1 ... eta_T, x_T reached after T - 1 steps, worst case of L(x_T) - L* over convex L with
subgradients of norm <= G and |x_1 - x*| <= D. The entry ``shifted`` is that of fabian-sp/lr-scheduling
(arXiv 2501.18965), whose T - 1 steps use eta_2 ... eta_T: 0.12921112202093746 there, by MOSEK.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from latebloom.theory.bounds import last_iterate
from latebloom.theory.schedules import WSD, Constant, Cosine, Linear

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "worst_cases.json"
SHAPES = {
    "linear": lambda steps: Linear(steps=steps, peak_lr=1.0),
    "cosine": lambda steps: Cosine(steps=steps, peak_lr=1.0),
    "wsd": lambda steps: WSD(steps=steps, peak_lr=1.0, decay_steps=steps // 3),
    "constant": lambda steps: Constant(steps=steps, peak_lr=1.0),
}


def learning_rates(shape: str, steps: int) -> np.ndarray:
    """``shape`` at the peak that its last-iterate bound finds best for D = G = 1."""
    unit = SHAPES[shape](steps).lrs()
    return unit * last_iterate(unit, distance=1.0, gradient=1.0).best_scale


def worst_case(steps: np.ndarray, *, distance: float = 1.0, gradient: float = 1.0) -> float:
    """Largest L(x_T) - L* after ``steps``, exact to the solver's tolerance (1e-5)."""
    from PEPit import PEP  # type: ignore[import-not-found]
    from PEPit.functions import ConvexFunction  # type: ignore[import-not-found]

    problem = PEP()
    loss = problem.declare_function(ConvexFunction)
    optimum = loss.stationary_point()
    x = problem.set_initial_point()
    problem.set_initial_condition((x - optimum) ** 2 <= distance**2)
    for eta in steps:
        g, _ = loss.oracle(x)
        loss.add_constraint(g**2 <= gradient**2)
        x = x - float(eta) * g
    g, value = loss.oracle(x)
    loss.add_constraint(g**2 <= gradient**2)
    problem.set_performance_metric(value - loss(optimum))
    return float(problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0))


def solve() -> dict[str, float]:
    cases = {
        f"{shape}-{steps}": worst_case(learning_rates(shape, steps)[:-1]) for steps in (4, 8, 16) for shape in SHAPES
    }
    cases["linear-60"] = worst_case(learning_rates("linear", 60)[:-1])
    cases["linear-60-shifted"] = worst_case(learning_rates("linear", 60)[1:])
    return cases


def main() -> None:
    GOLDEN.write_text(json.dumps(solve(), indent=1) + "\n")
    print(GOLDEN.read_text())


if __name__ == "__main__":
    main()
