"""The coupled quadratic, proved with a trunk of two coordinates and one new layer (blocks A, C, B with any entries)."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "kick_residual",
    "noise_floor_residual",
    "schur_residual",
    "small_optimum_residual",
    "split_residual",
    "uncoupled_kappa_residual",
]

EQUATIONS = (
    (
        "w0 = w* + A^-1 C x*",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic.small_optimum",
        "coupled:small_optimum_residual",
        "tests/test_theory_coupled.py::test_small_optimum_and_schur_complement",
        "",
    ),
    (
        "L(w0) - L(W*) = 1/2 x*' (B - C' A^-1 C) x*",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic.small_gap",
        "coupled:schur_residual",
        "tests/test_theory_coupled.py::test_small_optimum_and_schur_complement",
        "",
    ),
    (
        "1/2 e' H e = 1/2 |v|_A^2 + 1/2 |e_x|_Q^2, v = e_w + A^-1 C e_x",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic.kappa",
        "coupled:split_residual",
        "tests/test_theory_coupled.py::test_kappa_tends_to_that_of_the_slowest_mode",
        "fig02_theory_against_simulation",
    ),
    (
        "C = 0: kappa(S_tau, u) is one number",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic.kappa",
        "coupled:uncoupled_kappa_residual",
        "tests/test_theory_coupled.py::test_without_coupling_kappa_is_one_number",
        "fig02_theory_against_simulation",
    ),
    (
        "fast trunk: e_x -> e_x - C' A^-1 v, then e_x' = -Q e_x",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic",
        "coupled:kick_residual",
        "tests/test_theory_coupled.py::test_fast_trunk_kicks_the_new_layers_once",
        "",
    ),
    (
        "descent with noise: V = eta^2 sigma^2/(1 - (1 - eta lambda)^2), loss eta sigma^2/(2 (2 - eta lambda))",
        "latebloom.theory.landscapes.coupled:CoupledQuadratic.descent",
        "coupled:noise_floor_residual",
        "tests/test_theory_coupled.py::test_noise_floor",
        "",
    ),
)


def _blocks() -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    a, b, d = sp.symbols("a_1 a_2 a_3", positive=True)
    c = sp.Matrix(sp.symbols("c_1 c_2", real=True))
    return sp.Matrix([[a, b], [b, d]]), c, sp.Matrix([[sp.Symbol("b", positive=True)]])


def _loss(e_w: sp.Matrix, e_x: sp.Matrix) -> sp.Expr:
    a, c, b = _blocks()
    return (e_w.T * a * e_w + 2 * e_w.T * c * e_x + e_x.T * b * e_x)[0] / 2


def small_optimum_residual() -> list[sp.Expr]:
    """Gradient of the masked loss (e_x = -x*) at e_w = A^-1 C x*; zero."""
    a, c, _ = _blocks()
    w, target = sp.Matrix(sp.symbols("w_1 w_2")), sp.Matrix([sp.Symbol("t")])
    masked = _loss(w, -target)
    at = dict(zip(w, a.inv() * c * target, strict=True))
    return [sp.simplify(sp.diff(masked, coordinate).subs(at)) for coordinate in w]


def schur_residual() -> sp.Expr:
    """The masked loss at its optimum less 1/2 x*' (B - C' A^-1 C) x*; zero."""
    a, c, b = _blocks()
    target = sp.Matrix([sp.Symbol("t")])
    schur = b - c.T * a.inv() * c
    return sp.simplify(_loss(a.inv() * c * target, -target) - (target.T * schur * target)[0] / 2)


def split_residual() -> sp.Expr:
    """1/2 e' H e - 1/2 v' A v - 1/2 e_x' Q e_x with v = e_w + A^-1 C e_x; zero."""
    a, c, b = _blocks()
    e_w, e_x = sp.Matrix(sp.symbols("w_1 w_2")), sp.Matrix([sp.Symbol("x")])
    v, schur = e_w + a.inv() * c * e_x, b - c.T * a.inv() * c
    return sp.simplify(_loss(e_w, e_x) - (v.T * a * v)[0] / 2 - (e_x.T * schur * e_x)[0] / 2)


def uncoupled_kappa_residual() -> sp.Expr:
    """d/du of |grown|^2/|fresh|^2 in two layers, grown = sqrt(kappa) x fresh at the start and C = 0; zero."""
    u, kappa, p, q = sp.symbols("u kappa lambda_1 lambda_2", positive=True)
    x, y = sp.symbols("x_1 x_2", real=True)
    fresh = p * (x * sp.exp(-p * u)) ** 2 + q * (y * sp.exp(-q * u)) ** 2
    root = sp.sqrt(kappa)
    grown = p * (root * x * sp.exp(-p * u)) ** 2 + q * (root * y * sp.exp(-q * u)) ** 2
    return sp.simplify(sp.diff(sp.simplify(grown / fresh), u)) + sp.simplify(grown / fresh - kappa)


def kick_residual() -> list[sp.Expr]:
    """e_x' + C' v + Q e_x on gradient flow, and int_0^oo C' exp(-A S) v dS - C' A^-1 v for one mode; zero."""
    a, c, b = _blocks()
    e_w, e_x = sp.Matrix(sp.symbols("w_1 w_2")), sp.Matrix([sp.Symbol("x")])
    v, schur = e_w + a.inv() * c * e_x, b - c.T * a.inv() * c
    flow = -(c.T * e_w + b * e_x)
    alpha, S, c1, v1 = sp.symbols("alpha S c v", positive=True)
    kick = sp.integrate(c1 * sp.exp(-alpha * S) * v1, (S, 0, sp.oo)) - c1 * v1 / alpha
    return [sp.simplify((flow + c.T * v + schur * e_x)[0]), sp.simplify(kick)]


def noise_floor_residual() -> list[sp.Expr]:
    """Fixed point of V -> (1 - eta lambda)^2 V + eta^2 sigma^2, and its loss; zero."""
    eta, lam, sigma = sp.symbols("eta lambda sigma", positive=True)
    V = eta**2 * sigma**2 / (1 - (1 - eta * lam) ** 2)
    return [
        sp.simplify((1 - eta * lam) ** 2 * V + eta**2 * sigma**2 - V),
        sp.simplify(lam * V / 2 - eta * sigma**2 / (2 * (2 - eta * lam))),
    ]
