"""Steps against depth: the optimum, its scaling, the verdict's condition, stages and the horizon law, proved."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "equal_exponents_residual",
    "gamma_residual",
    "horizon_share_residual",
    "iso_compute_residual",
    "iso_loss_residual",
    "mixing_time_residual",
    "stage_residual",
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
        "latebloom.theory.tradeoff:Tradeoff.winning_horizon",
        "tradeoff:winning_horizon_residual",
        TESTS + "test_smallest_winning_horizon",
        "",
    ),
    (
        "stages: s_k A_k u_k^(-1-s_k)/(c_k - c_{k-1}) = s_0 A_0 T^(-1-s_0)/c_0, worth having iff u_1* > u_2* > ...",
        "latebloom.theory.tradeoff:best_stages",
        "tradeoff:stage_residual",
        TESTS + "test_against_brute_force",
        "",
    ),
    (
        "tau*/T = 1 - d/2 - u_mix/(eta_ref sqrt T)",
        "latebloom.theory.timing:horizon_share",
        "tradeoff:horizon_share_residual",
        TESTS + "test_horizon_law",
        "fig25_horizon",
    ),
    (
        "mixing without a floor: u = S/(((1+eps)/kappa)^(1/s) - 1), proportional to S_tau",
        "latebloom.theory.timing:mixing_after",
        "tradeoff:mixing_time_residual",
        TESTS + "test_mixing_after_without_floor_in_closed_form",
        "",
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


def stage_residual() -> list[sp.Expr]:
    """Two stages: the gradient of loss + price x cost, price from T, vanishes at u_k*; one stage is u*; zero."""
    c0, c1, c2, u1, u2 = sp.symbols("c_0 c_1 c_2 u_1 u_2", positive=True)
    a0, a1, a2, s0, s1, s2 = sp.symbols("A_0 A_1 A_2 s_0 s_1 s_2", positive=True)
    price = s0 * a0 * T ** (-1 - s0) / c0
    loss = a0 * T**-s0 + a1 * u1**-s1 + a2 * u2**-s2
    total = loss + price * (c0 * sp.Symbol("H") + c1 * u1 + c2 * u2)
    tails = {u1: (s1 * a1 / (price * c1)) ** (1 / (1 + s1)), u2: (s2 * a2 / (price * c2)) ** (1 / (1 + s2))}
    out = []
    for v, cost, a, s in ((u1, c1, a1, s1), (u2, c2, a2, s2)):
        expected = price * cost - a * s * v ** (-1 - s)
        assert sp.simplify(sp.diff(total, v) - expected) == 0
        out.append(sp.simplify(sp.expand_log(sp.log(a * s * tails[v] ** (-1 - s) / (price * cost)), force=True)))
    one = tails[u1].subs({c0: n, c1: 1 - n, a0: A_w, s0: s_w, a1: kappa * A_x, s1: s_x})
    out.append(sp.simplify(sp.expand_log(sp.log(one / OPTIMUM), force=True)))
    return out


def horizon_share_residual() -> sp.Expr:
    """Area that WSD leaves at tau = T (1 - d/2 - u_mix/(eta_ref sqrt T)) with peak eta_ref/sqrt T, less u_mix; zero."""
    d, ref, mix = sp.symbols("d eta_ref u_mix", positive=True)
    peak = ref / sp.sqrt(T)
    tau = T * (1 - d / 2 - mix / (ref * sp.sqrt(T)))
    return sp.simplify(peak * (T * (1 - d) - tau) + peak * d * T / 2 - mix)


def mixing_time_residual() -> sp.Expr:
    """kappa u^-s/(S + u)^-s at u = S/(((1 + eps)/kappa)^(1/s) - 1), less 1 + eps; zero."""
    S, ratio = sp.symbols("S rho", positive=True)  # rho = ((1 + eps)/kappa)^(1/s)
    at = S / (ratio - 1)
    return sp.simplify(sp.simplify((S + at) / at) - ratio)
