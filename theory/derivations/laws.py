"""Loss laws, scaling laws, learning-rate transfer: what of them is a closed form, proved; the rest by brute force."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "best_schedule_residual",
    "functional_kernel_residual",
    "geometric_variance_residual",
    "horizon_residual",
    "normalised_mode_residual",
    "size_allocation_residual",
]

TERMS = "tests/test_theory_laws.py::test_laws_against_sums_term_by_term"
EQUATIONS = (
    ("power: L0 + A S^-a", "latebloom.theory.landscapes.classical:PowerLaw", "", TERMS, "fig22_loss_laws"),
    (
        "convex bound with fitted D and G as a law",
        "latebloom.theory.landscapes.classical:ConvexBound",
        "",
        TERMS,
        "fig22_loss_laws",
    ),
    ("momentum: L0 + A S^-a - C S2", "latebloom.theory.landscapes.classical:MomentumLaw", "", TERMS, "fig22_loss_laws"),
    (
        "multi-power: L0 + A S^-a - B sum (fall of eta)_k [1 - (1 + C eta_k^-g (S_t - S_k))^-b]",
        "latebloom.theory.landscapes.classical:MultiPowerLaw",
        "",
        TERMS,
        "fig22_loss_laws",
    ),
    (
        "functional: L0 + A S^-a + B int eta(v) (1 + C (S_t - v))^-d dv",
        "latebloom.theory.landscapes.functional:FunctionalLaw",
        "laws:functional_kernel_residual",
        TERMS,
        "fig22_loss_laws",
    ),
    (
        "river and valley: L0 + A (X/X_ref)^-a + B (X/X_ref)^-g <(eta/eta_ref)^q>",
        "latebloom.theory.landscapes.river:RiverValley",
        "",
        "tests/test_theory_laws.py::test_river_valley_contains_the_functional_law",
        "fig22_loss_laws",
    ),
    (
        "river and two valleys: L0 + A (X/X_ref)^-a + B (X/X_ref)^-g [(1 - w) <(r/r_ref)^q> + w <(o/o_ref)^p>]",
        "latebloom.theory.landscapes.two_valleys:TwoValleys",
        "",
        "tests/test_theory_laws.py::test_two_rates_that_go_different_ways",
        "fig22_loss_laws",
    ),
    (
        "best schedule of the functional law: eta(u) = min(eta_max, c (1 + C u)^(d/2))",
        "latebloom.theory.landscapes.functional:best_functional_schedule",
        "laws:best_schedule_residual",
        "tests/test_theory_laws.py::test_optimiser_and_closed_form_agree",
        "",
    ),
    (
        "noisy quadratic system: variance of K constant steps g^2 (1 - (1 - g l)^(2K))/(1 - (1 - g l)^2)",
        "latebloom.theory.landscapes.nqs:NoisyQuadratic",
        "laws:geometric_variance_residual",
        "tests/test_theory_nqs.py::test_terms_against_the_recursion",
        "",
    ),
    (
        "normalised steps: (sigma - p)^2/2 = sigma^2/2 (1 - (S/h)^2)^2, h = (sigma/(s m))^(1/2)",
        "latebloom.theory.landscapes.normalised:NormalisedLaw",
        "laws:normalised_mode_residual",
        "tests/test_theory_normalised.py::test_signal_is_what_modes_at_constant_speed_leave",
        "fig02_theory_against_simulation",
    ),
    (
        "size: E + A N^-alpha + B D^-beta; best N = (alpha A/(beta B))^(1/(alpha+beta)) (C/6)^(beta/(alpha+beta))",
        "latebloom.theory.landscapes.scaling:SizeLaw",
        "laws:size_allocation_residual",
        "tests/test_theory_scaling.py::test_compute_optimum_against_search",
        "",
    ),
    (
        "shape: E + A (w/w0)^-a + B (L/L0)^-b + C (D/D0)^-c (eta/eta0)^-d + F eta/eta0",
        "latebloom.theory.landscapes.scaling:ShapeLaw",
        "",
        "tests/test_theory_scaling.py::test_shape_law_term_by_term_and_broadcast",
        "",
    ),
    (
        "eta* ~ T^-s/(1+s)",
        "latebloom.theory.transfer:horizon_exponent",
        "laws:horizon_residual",
        "tests/test_theory_transfer.py::test_horizon_exponent_against_search",
        "",
    ),
    (
        "a rate r times the best adds the share (r^-s + s r)/(1 + s) - 1",
        "latebloom.theory.transfer:misfit_cost",
        "laws:horizon_residual",
        "tests/test_theory_transfer.py::test_misfit_cost_is_least_at_one",
        "tab05_rate_across_expansion",
    ),
)


def functional_kernel_residual() -> sp.Expr:
    """int_a^b (1 + C v)^-d dv - [(1 + C a)^(1-d) - (1 + C b)^(1-d)]/(C (d - 1)), by its derivative in b; zero."""
    C, d, a, b = sp.symbols("C d a b", positive=True)
    closed = ((1 + C * a) ** (1 - d) - (1 + C * b) ** (1 - d)) / (C * (d - 1))
    return sp.simplify(sp.diff(closed, b) - (1 + C * b) ** -d) + sp.simplify(closed.subs(b, a))


def best_schedule_residual() -> sp.Expr:
    """d/d eta of B eta K(u) + mu/eta, mu the horizon's multiplier, at eta = sqrt(mu/B) (1 + C u)^(d/2); zero."""
    B, C, d, u, mu, eta = sp.symbols("B C d u mu eta", positive=True)
    stationary = sp.diff(B * eta * (1 + C * u) ** -d + mu / eta, eta)
    return sp.simplify(stationary.subs(eta, sp.sqrt(mu / B) * (1 + C * u) ** (d / 2)))


def geometric_variance_residual() -> sp.Expr:
    """V_K = g^2 (1 - q^(2K))/(1 - q^2), q = 1 - g l, obeys V_{K+1} = q^2 V_K + g^2 from V_0 = 0; zero."""
    g, q, K = sp.symbols("g q K", positive=True)

    def variance(steps: sp.Expr) -> sp.Expr:
        return g**2 * (1 - q ** (2 * steps)) / (1 - q**2)

    return sp.simplify(variance(K + 1) - q**2 * variance(K) - g**2) + variance(sp.Integer(0))


def normalised_mode_residual() -> sp.Expr:
    """(sigma - s m S^2)^2/2 - sigma^2/2 (1 - (S/h)^2)^2 with h = sqrt(sigma/(s m)); zero."""
    sigma, s, m, S = sp.symbols("sigma s m S", positive=True)
    hit = sp.sqrt(sigma / (s * m))
    return sp.simplify((sigma - s * m * S**2) ** 2 / 2 - sigma**2 / 2 * (1 - (S / hit) ** 2) ** 2)


def size_allocation_residual() -> list[sp.Expr]:
    """N dL/dN at equal N D, less beta B D^-beta - alpha A N^-alpha; ln of the two terms' ratio at N = G C^..; zero."""
    A, B, alpha, beta, N, C = sp.symbols("A B alpha beta N C", positive=True)
    tokens = C / N
    slope = N * sp.diff(A * N**-alpha + B * tokens**-beta, N)
    best = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * C ** (beta / (alpha + beta))
    ratio = sp.log((alpha * A * N**-alpha / (beta * B * tokens**-beta)).subs(N, best))
    return [
        sp.simplify(slope - (beta * B * tokens**-beta - alpha * A * N**-alpha)),
        sp.simplify(sp.expand_log(ratio, force=True)),
    ]


def horizon_residual() -> list[sp.Expr]:
    """A (eta T)^-s + b eta: its optimum's exponent in T, and the loss at r times the optimum; zero."""
    A, b, s, T, eta, r = sp.symbols("A b s T eta r", positive=True)
    loss = A * (eta * T) ** -s + b * eta
    best = (s * A * T**-s / b) ** (1 / (1 + s))
    balance = sp.log(s * A * (eta * T) ** -s / eta / b).subs(eta, best)  # of the two terms of the slope
    slope = sp.simplify(sp.diff(loss, eta) - (b - s * A * (eta * T) ** -s / eta))
    stationary = slope + sp.simplify(sp.expand_log(balance, force=True))
    exponent = sp.simplify(T * sp.diff(best, T) / best + s / (1 + s))
    ratio = loss.subs(eta, r * eta) / loss
    at = ratio.subs(A, b * eta ** (1 + s) * T**s / s)  # eta is the optimum where s A (eta T)^-s = b eta
    return [sp.simplify(stationary), exponent, sp.simplify(at - (r**-s + s * r) / (1 + s))]
