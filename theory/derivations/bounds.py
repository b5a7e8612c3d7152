r"""Convex bounds, proved.

One step of subgradient descent on a convex L obeys

    |x_{k+1} - x*|^2 <= |x_k - x*|^2 - 2 eta_k (L(x_k) - L*) + eta_k^2 G_k^2.

Summed and divided by 2 S_T it bounds the average iterate; with the freedom to compare later iterates with earlier ones
it is Theorem 10 of Defazio et al. (arXiv 2310.07831), of which only the summation by parts is ours.
"""

from __future__ import annotations

import sympy as sp

__all__ = [
    "abel_residual",
    "best_scale_residual",
    "meeting_area_residual",
    "restart_residual",
]

EQUATIONS = (
    (
        "last iterate: D^2/(2 S_T) + 1/2 [eta_T G_T^2 + sum_{k<T} eta_k^2 G_k^2/(S_T - S_k)]",
        "latebloom.theory.bounds:last_iterate",
        "bounds:abel_residual",
        "tests/test_theory_bounds.py::test_abel_form_is_the_double_sum",
        "fig14_bounds",
    ),
    (
        "whole curve: the same for every t <= T, 1/u as a sum of exponentials",
        "latebloom.theory.bounds:last_iterate_curve",
        "volterra:power_integral_residual",
        "tests/test_theory_bounds.py::test_every_horizon",
        "fig14_bounds",
    ),
    (
        "best scale c* = sqrt(distance term/gradient term), value 2 sqrt(product)",
        "latebloom.theory.bounds:Bound.best_scale",
        "bounds:best_scale_residual",
        "tests/test_theory_bounds.py::test_best_scale_is_the_minimum",
        "fig24_qualifying_exam",
    ),
    (
        "restarted: last-iterate bound from tau with |W_tau - W*|^2 = |w_tau - w*|^2 + |x_tau - x*|^2",
        "latebloom.theory.bounds:restarted",
        "bounds:restart_residual",
        "tests/test_theory_bounds.py::test_restart_is_the_tail_and_needs_no_small_model",
        "",
    ),
    (
        "the two meet at S_tau = (1 - rho) S_T",
        "latebloom.theory.bounds:meeting_area",
        "bounds:meeting_area_residual",
        "tests/test_theory_bounds.py::test_where_the_bounds_meet",
        "",
    ),
)
STEPS = 5


def _rates() -> tuple[list[sp.Symbol], list[sp.Symbol]]:
    eta = [sp.Symbol(f"eta_{k}", positive=True) for k in range(1, STEPS + 1)]
    return eta, [sp.Symbol(f"G_{k}", positive=True) for k in range(1, STEPS + 1)]


def abel_residual() -> list[sp.Expr]:
    """Theorem 10's double sum less its Abel-summed form for five steps with any rates and gradients; zero.

    eta_k/(R_{k+1} R_k) = 1/R_{k+1} - 1/R_k with R_k = eta_k + ... + eta_T, so the inner sum telescopes for any T.
    """
    eta, _ = _rates()
    energy = sp.symbols(f"q1:{STEPS + 1}")  # eta_k^2 G_k^2
    left = [sum(eta[k:]) for k in range(STEPS)]
    printed = sum(energy) / (2 * left[0]) + sum(
        eta[k] / left[k + 1] * sum(energy[k:]) / left[k] / 2 for k in range(STEPS - 1)
    )
    abel = (energy[-1] / eta[-1] + sum(energy[k] / left[k + 1] for k in range(STEPS - 1))) / 2
    # both are linear in the energies: compare the coefficients, rational in the rates alone
    return [sp.simplify(sp.diff(printed - abel, q)) for q in energy]


def best_scale_residual() -> list[sp.Expr]:
    """d/dc (a/c + b c) and (a/c + b c) - 2 sqrt(a b) at c = sqrt(a/b); zero."""
    a, b, c = sp.symbols("a b c", positive=True)
    value = a / c + b * c
    at = {c: sp.sqrt(a / b)}
    return [sp.simplify(sp.diff(value, c).subs(at)), sp.simplify(value.subs(at) - 2 * sp.sqrt(a * b))]


def restart_residual() -> sp.Expr:
    """|W_tau - W*|^2 - |w_tau - w*|^2 - |x_tau - x*|^2 for two coordinates each; zero: the restart needs no L(w*)."""
    w, x = sp.symbols("w1:3"), sp.symbols("x1:3")
    whole = sp.Matrix([*w, *x])
    return sp.expand(whole.dot(whole) - sum(v**2 for v in w) - sum(v**2 for v in x))


def meeting_area_residual() -> sp.Expr:
    """rho D^2/(2 (S_T - S_tau)) - D^2/(2 S_T) at S_tau = (1 - rho) S_T; zero."""
    rho, D, S = sp.symbols("rho D S_T", positive=True)
    return sp.simplify(rho * D**2 / (2 * (S - (1 - rho) * S)) - D**2 / (2 * S))
