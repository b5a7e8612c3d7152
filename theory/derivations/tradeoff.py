"""Steps against depth: the optimum, its scaling, the verdict's condition and the horizon law, proved."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "equal_exponents_residual",
    "gamma_residual",
    "horizon_share_residual",
    "iso_compute_residual",
    "iso_loss_residual",
    "winning_horizon_residual",
]

TESTS = "tests/test_theory_timing.py::"
EQUATIONS = (
    (
        "u* = T^((1+s_w)/(1+s_x)) [(kappa s_x A_x/(s_w A_w)) n/(1-n)]^(1/(1+s_x))",
        "latebloom.theory.tradeoff:Tradeoff.tail",
        "tradeoff:iso_loss_residual",
        TESTS + "test_optimum_is_that_of_a_grid_search",
        "",
    ),
    (
        "the same at equal compute",
        "latebloom.theory.tradeoff:Tradeoff.best",
        "tradeoff:iso_compute_residual",
        TESTS + "test_iso_loss_and_iso_compute_are_one_condition",
        "",
    ),
    (
        "T - tau* ~ T^gamma, gamma = (1+s_w)/(1+s_x)",
        "latebloom.theory.tradeoff:timing_exponent",
        "tradeoff:gamma_residual",
        TESTS + "test_timing_scales_with_gamma",
        "",
    ),
    (
        "equal exponents: growth helps iff kappa (A_x/A_w) n/(1-n) < 1 (kappa <= 1)",
        "latebloom.theory.tradeoff:Tradeoff.wins",
        "tradeoff:equal_exponents_residual",
        TESTS + "test_condition_for_equal_exponents_on_both_sides",
        "",
    ),
    (
        "iso-loss gain [(1+a)/(1+kappa a r^-s)]^(1/s)/(n + (1-n) r)",
        "latebloom.theory.tradeoff:Tradeoff.iso_loss_gain",
        "tradeoff:equal_exponents_residual",
        TESTS + "test_iso_loss_gain_closed_form",
        "",
    ),
    (
        "smallest winning horizon [(s_x A_x/(s_w A_w)) n/(1-n)]^(1/(s_x - s_w)), kappa = 1",
        "latebloom.theory.tradeoff:Tradeoff.wins",
        "tradeoff:winning_horizon_residual",
        TESTS + "test_smallest_winning_horizon",
        "",
    ),
    (
        "tau*/T = 1 - d/2 - u_mix/(eta_ref sqrt T)",
        "latebloom.theory.timing:horizon_share",
        "tradeoff:horizon_share_residual",
        TESTS + "test_horizon_law",
        "fig25_horizon",
    ),
)
T, u, n, kappa = sp.symbols("T u n kappa", positive=True)
A_w, A_x, s_w, s_x = sp.symbols("A_w A_x s_w s_x", positive=True)
LOSS = A_w * T**-s_w + kappa * A_x * u**-s_x
COST = n * T + (1 - n) * u
WEIGHT = kappa * s_x * A_x / (s_w * A_w) * n / (1 - n)
OPTIMUM = T ** ((1 + s_w) / (1 + s_x)) * WEIGHT ** (1 / (1 + s_x))


def _stationary(first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """log of (first_T second_u)/(first_u second_T) at u*: zero where the gradients of the two are parallel."""
    ratio = sp.diff(first, T) * sp.diff(second, u) / (sp.diff(first, u) * sp.diff(second, T))
    return sp.simplify(sp.expand_log(sp.log(sp.simplify(ratio.subs(u, OPTIMUM))), force=True))


def iso_loss_residual() -> sp.Expr:
    """Least cost on a line of equal loss: d cost parallel to d loss at u*; zero."""
    return _stationary(COST, LOSS)


def iso_compute_residual() -> sp.Expr:
    """Least loss on a line of equal cost, by substitution of T(u) instead of multipliers; zero at u*."""
    c = sp.Symbol("C", positive=True)
    horizon = (c - (1 - n) * u) / n
    slope = sp.diff(A_w * horizon**-s_w + kappa * A_x * u**-s_x, u)
    balance = s_w * A_w * T ** (-1 - s_w) * (1 - n) / n / (kappa * s_x * A_x * u ** (-1 - s_x))
    as_balance = slope.subs(c, n * T + (1 - n) * u) / (kappa * s_x * A_x * u ** (-1 - s_x)) + 1
    at_optimum = sp.expand_log(sp.log(balance.subs(u, OPTIMUM)), force=True)
    return sp.simplify(as_balance - balance) + sp.simplify(at_optimum)


def gamma_residual() -> sp.Expr:
    """d ln u*/d ln T - (1 + s_w)/(1 + s_x); zero."""
    return sp.simplify(T * sp.diff(OPTIMUM, T) / OPTIMUM - (1 + s_w) / (1 + s_x))


def equal_exponents_residual() -> list[sp.Expr]:
    """u*/T at equal exponents; the grown run's loss at the gain's T_fixed; u* = T at kappa a n/(1 - n) = 1; zero."""
    s, a, r, p = sp.symbols("s a r p", positive=True)  # p = n/(1 - n)
    ratio = sp.simplify(OPTIMUM.subs({s_w: s, s_x: s, A_x: a * A_w, n: p / (1 + p)}) / T)
    closed = (kappa * a * p) ** (1 / (1 + s))
    fixed = T * ((1 + a) / (1 + kappa * a * r**-s)) ** (1 / s)
    losses = A_w * (1 + a) * fixed**-s - A_w * T**-s * (1 + kappa * a * r**-s)
    edge = ratio.subs(kappa, 1 / (a * p))
    return [
        sp.simplify(sp.expand_log(sp.log(ratio / closed), force=True)),
        sp.simplify(sp.powsimp(sp.powdenest(losses, force=True), force=True)),
        sp.simplify(sp.powdenest(edge, force=True) - 1),
    ]


def winning_horizon_residual() -> sp.Expr:
    """ln(u*(T)/T) at T = [(s_x A_x/(s_w A_w)) n/(1 - n)]^{1/(s_x - s_w)} with kappa = 1; zero."""
    horizon = WEIGHT.subs(kappa, 1) ** (1 / (s_x - s_w))
    log = sp.expand_log(sp.log(OPTIMUM.subs(kappa, 1)) - sp.log(T), force=True)
    return sp.simplify(sp.expand_log(log.subs(sp.log(T), sp.expand_log(sp.log(horizon), force=True)), force=True))


def horizon_share_residual() -> sp.Expr:
    """Area that WSD leaves at tau = T (1 - d/2 - u_mix/(eta_ref sqrt T)) with peak eta_ref/sqrt T, less u_mix; zero."""
    d, ref, mix = sp.symbols("d eta_ref u_mix", positive=True)
    peak = ref / sp.sqrt(T)
    tau = T * (1 - d / 2 - mix / (ref * sp.sqrt(T)))
    return sp.simplify(peak * (T * (1 - d) - tau) + peak * d * T / 2 - mix)
