"""The exponentials of the Volterra engine: their integral, the error of the trapezoid rule, the moments of the tail."""

from __future__ import annotations

import sympy as sp

__all__ = ["alias_residual", "power_integral_residual", "recursion_residual", "tail_moments_residual"]

EQUATIONS = (
    (
        "v^-d = int x^(d-1) exp(-x v) dx/Gamma(d), by the trapezoid rule in ln x",
        "latebloom.theory.volterra:power_kernel",
        "volterra:power_integral_residual",
        "tests/test_theory_volterra.py::test_kernel_against_mpmath",
        "",
    ),
    (
        "relative error of the rule: 2 |Gamma(d + 2 pi i/h)|/Gamma(d), the first term of Poisson's formula",
        "latebloom.theory.volterra:grid",
        "volterra:alias_residual",
        "tests/test_theory_volterra.py::test_error_is_kept_and_is_what_is_reported",
        "",
    ),
    (
        "tail: sum_{n>=1} h (x_1 q^{n-1})^{d+p} = h x_1^{d+p}/(1 - q^{d+p}), q = exp(-h)",
        "latebloom.theory.volterra:Grid.weights",
        "volterra:tail_moments_residual",
        "tests/test_theory_volterra.py::test_error_is_kept_and_is_what_is_reported",
        "",
    ),
    (
        "z_{i+1} = (z_i + w_i) exp(-x gap_i)",
        "latebloom.theory.volterra:response",
        "volterra:recursion_residual",
        "tests/test_theory_volterra.py::test_response_is_the_sum_term_by_term",
        "",
    ),
)


def power_integral_residual() -> sp.Expr:
    """int_0^oo x^(d-1) exp(-x v) dx - Gamma(d) v^-d; zero."""
    x, v, d = sp.symbols("x v d", positive=True)
    return sp.simplify(sp.integrate(x ** (d - 1) * sp.exp(-x * v), (x, 0, sp.oo)) - sp.gamma(d) * v**-d)


def alias_residual() -> sp.Expr:
    """Fourier transform of exp(d s - v e^s) at frequency w, by x = e^s, less Gamma(d - i w) v^(i w - d); zero.

    Poisson's formula sums it over w = 2 pi k/h: relative to Gamma(d) v^-d the first pair is the error stated.
    """
    x, v, d, w = sp.symbols("x v d w", positive=True)
    transform = sp.integrate(x ** (d - sp.I * w - 1) * sp.exp(-x * v), (x, 0, sp.oo), conds="none")
    return sp.simplify(sp.powsimp(sp.expand_power_base(transform / (sp.gamma(d - sp.I * w) * v ** (sp.I * w - d)))) - 1)


def tail_moments_residual() -> sp.Expr:
    """sum_{n>=0} q^{n p} - 1/(1 - q^p) by its first difference: (1 - q^{N p})/(1 - q^p) telescopes; zero."""
    q, p, N = sp.symbols("q p N", positive=True)

    def partial(count: sp.Expr) -> sp.Expr:
        return (1 - q ** (p * count)) / (1 - q**p)

    return sp.simplify(partial(N + 1) - partial(N) - q ** (p * N))


def recursion_residual() -> sp.Expr:
    """Three steps of the recursion against the sum with exponentials of position differences; zero."""
    x = sp.Symbol("x", positive=True)
    gap, weight = sp.symbols("g0:3", positive=True), sp.symbols("w0:3")
    state: sp.Expr = sp.Integer(0)
    for g, w in zip(gap, weight, strict=True):
        state = (state + w) * sp.exp(-x * g)
    direct = sum(weight[k] * sp.exp(-x * sum(gap[k:])) for k in range(3))
    return sp.simplify(sp.expand(state - direct))
