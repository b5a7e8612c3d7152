r"""The area law and tau*, proved.

Gradient flow on L = L0 + 1/2 sum lambda_i e_i^2 with learning rate eta(t): e_i' = -eta lambda_i e_i. In the variable
S = int eta dt this is e_i' = -lambda_i e_i, whatever the schedule, so e_i = e_i(0) exp(-lambda_i S). A mode that is
frozen until tau, and set there to sqrt(kappa) e_i(0), ends at sqrt(kappa) e_i(0) exp(-lambda_i (S_T - S_tau)).
"""

from __future__ import annotations

import sympy as sp

__all__ = [
    "area_law_residual",
    "constant_noise_residual",
    "cosine_area_residual",
    "log_limit_residual",
    "mixing_area_residual",
    "tau_wsd_in_decay_residual",
    "tau_wsd_residual",
]

EQUATIONS = (
    (
        "P(T) - L(T) = kappa B(S_T - S_tau) - B(S_T)",
        "latebloom.theory.landscapes.area:AreaLaw.excess",
        "area:area_law_residual",
        "tests/test_theory_area.py::test_area_law_is_exact_on_uncoupled_quadratics",
        "fig20_timing_laws",
    ),
    (
        "u_mix = S_ref ((B(S_T) + eps)/(kappa a))^(-1/s) - S_0",
        "latebloom.theory.landscapes.area:AreaLaw.mixing_area",
        "area:mixing_area_residual",
        "tests/test_theory_area.py::test_mixing_area_solves_its_equation_and_tau_leaves_it",
        "",
    ),
    (
        "lim_{s->0} (a/s)(x^-s - y^-s) = -a ln(x/y)",
        "latebloom.theory.landscapes.area:Signal",
        "area:log_limit_residual",
        "tests/test_theory_area.py::test_logarithm_is_the_limit_of_small_exponents",
        "fig07_area_collapse",
    ),
    (
        "tau* = S^-1(S_T - u_mix)",
        "latebloom.theory.timing:tau_star",
        "area:tau_wsd_residual",
        "tests/test_theory_area.py::test_mixing_area_solves_its_equation_and_tau_leaves_it",
        "fig06_schedules",
    ),
    (
        "WSD: tau* = T (1 - d/2 - v); inside the decay T (1 - sqrt(2 d v))",
        "latebloom.theory.timing:tau_wsd",
        "area:tau_wsd_in_decay_residual",
        "tests/test_theory_area.py::test_wsd_expansion_inside_the_decay",
        "fig06_schedules",
    ),
    (
        "cosine: (1 - x)/2 - sin(pi x)/(2 pi) = v",
        "latebloom.theory.timing:tau_cosine",
        "area:cosine_area_residual",
        "tests/test_theory_area.py::test_cosine_limit_of_the_paper",
        "fig06_schedules",
    ),
    (
        "constant rate: N = b eta (1 - 1/(1 + C S))",
        "latebloom.theory.landscapes.area:noise_response",
        "area:constant_noise_residual",
        "tests/test_theory_area.py::test_noise_is_proportional_to_a_constant_rate_and_forgets",
        "",
    ),
)


def area_law_residual() -> sp.Expr:
    """P(T) - L(T) - (kappa B(u) - B(S_T)) for one trunk and one fresh mode under any schedule; zero."""
    t = sp.symbols("t", positive=True)
    lam_w, lam_x, w0, x0, kappa = sp.symbols("lambda_w lambda_x w_0 x_0 kappa", positive=True)
    area_tau, u = sp.symbols("S_tau u", positive=True)
    S = sp.Function("S")(t)

    def decays(e: sp.Expr, lam: sp.Expr) -> sp.Expr:
        """e' + eta lambda e with eta = S'."""
        return sp.simplify(sp.diff(e, t) + sp.diff(S, t) * lam * e)

    assert decays(w0 * sp.exp(-lam_w * S), lam_w) == 0
    assert decays(sp.sqrt(kappa) * x0 * sp.exp(-lam_x * (S - area_tau)), lam_x) == 0

    def trunk(area: sp.Expr) -> sp.Expr:
        return lam_w * w0**2 * sp.exp(-2 * lam_w * area) / 2

    def fresh(area: sp.Expr) -> sp.Expr:
        return lam_x * x0**2 * sp.exp(-2 * lam_x * area) / 2

    total = area_tau + u
    grown_x = sp.sqrt(kappa) * x0 * sp.exp(-lam_x * u)
    grown = trunk(total) + lam_x * grown_x**2 / 2
    fixed = trunk(total) + fresh(total)
    return sp.simplify(grown - fixed - (kappa * fresh(u) - fresh(total)))


def mixing_area_residual() -> sp.Expr:
    """kappa B(u_mix) - B(S_T) - eps for the power law's closed-form inverse; zero."""
    a, s, onset, ref, kappa, eps, total = sp.symbols("a s S_0 S_ref kappa epsilon S_T", positive=True)

    def fresh(area: sp.Expr) -> sp.Expr:
        return a * ((area + onset) / ref) ** (-s)

    u_mix = ref * ((fresh(total) + eps) / (kappa * a)) ** (-1 / s) - onset
    return sp.simplify(kappa * fresh(u_mix) - fresh(total) - eps)


def log_limit_residual() -> sp.Expr:
    """lim_{s -> 0} (a/s)(x^-s - y^-s) + a ln(x/y); zero: the logarithm is the power law without an exponent."""
    a, s, x, y = sp.symbols("a s x y", positive=True)
    return sp.simplify(sp.expand_log(sp.limit(a / s * (x**-s - y**-s), s, 0) + a * sp.log(x / y), force=True))


def tau_wsd_residual() -> sp.Expr:
    """Area left by WSD at tau = T (1 - d/2 - v), less v eta T; zero (expansion in the stable phase)."""
    T, eta, d, v = sp.symbols("T eta d v", positive=True)
    tau = T * (1 - d / 2 - v)
    stable = eta * (T * (1 - d) - tau)
    decay = eta * d * T / 2
    return sp.simplify(stable + decay - v * eta * T)


def tau_wsd_in_decay_residual() -> sp.Expr:
    """Area left by WSD at tau = T (1 - sqrt(2 d v)), less v eta T; zero (expansion in the decay)."""
    T, eta, d, v, t = sp.symbols("T eta d v t", positive=True)
    tau = T * (1 - sp.sqrt(2 * d * v))
    left = sp.integrate(eta * (T - t) / (d * T), (t, tau, T))
    return sp.simplify(left - v * eta * T)


def cosine_area_residual() -> sp.Expr:
    """int_x^1 (1 + cos(pi y))/2 dy - [(1 - x)/2 - sin(pi x)/(2 pi)]; zero."""
    x, y = sp.symbols("x y", positive=True)
    left = sp.integrate((1 + sp.cos(sp.pi * y)) / 2, (y, x, 1))
    return sp.simplify(left - ((1 - x) / 2 - sp.sin(sp.pi * x) / (2 * sp.pi)))


def constant_noise_residual() -> sp.Expr:
    """int_0^S C (1 + C (S - v))^-2 dv - (1 - 1/(1 + C S)); zero: what a constant rate leaves of the noise kernel."""
    C, S, v = sp.symbols("C S v", positive=True)
    memory = sp.integrate(C / (1 + C * v) ** 2, (v, 0, S))
    return sp.simplify(memory - (1 - 1 / (1 + C * S)))
