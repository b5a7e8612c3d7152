"""The exam's constants (Table 1 of arXiv 2602.07145) and the sums of the schedules' shapes, proved."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "constant_fails_residual",
    "cosine_integrand_residual",
    "cosine_sum_residual",
    "exponential_sum_residual",
    "final_rate_fails_residual",
    "linear_decay_residual",
    "linear_sum_residual",
    "sqrt_decay_residual",
    "stable_phase_residual",
    "table_residual",
    "warmup_residual",
]

TABLE = "tests/test_theory_bounds.py::test_table_1"
SUMS = "tests/test_theory_schedules.py::test_area_is_the_running_sum"
EQUATIONS = (
    (
        "linear: q1^2 = D^2, q2^2 = G^2; WSD: q1^2 = D^2/(1 + c), q2^2 = G^2 (1 + ln((1 + c)/(1 - c))/2)",
        "latebloom.theory.qualifying_exam:constants",
        "exam:table_residual",
        TABLE,
        "fig24_qualifying_exam",
    ),
    (
        "R(0) = omega/2 + b + r d; q2^2/G^2 = (a/omega) artanh(omega/a) - 1 + 1/2 ln((b + r d)/(r d)) + kappa",
        "latebloom.theory.qualifying_exam:constants",
        "exam:warmup_residual",
        "tests/test_theory_bounds.py::test_symbolic_and_numeric_agree",
        "fig24_qualifying_exam",
    ),
    (
        "kappa of 1 - sqrt: 3/2 - (3/4) ln 3; linear 1; cosine 1.06107 by quadrature",
        "latebloom.theory.decay_shapes:decay_limit",
        "exam:sqrt_decay_residual",
        "tests/test_theory_bounds.py::test_decay_limit",
        "fig24_qualifying_exam",
    ),
    (
        "a schedule that ends at s(1) > 0 fails: q2^2 ~ (s(1)/2) ln T",
        "latebloom.theory.qualifying_exam:examine",
        "exam:final_rate_fails_residual",
        "tests/test_theory_bounds.py::test_failing_grows_as_the_logarithm",
        "fig24_qualifying_exam",
    ),
    (
        "linear: sum_{i<m} s_i = m - (1 - f) m (m - 1)/(2 n)",
        "latebloom.theory.decay_shapes:DECAYS",
        "exam:linear_sum_residual",
        SUMS,
        "",
    ),
    (
        "cosine: sum_{i<m} cos(i x) = sin(m x/2) cos((m - 1) x/2)/sin(x/2)",
        "latebloom.theory.decay_shapes:DECAYS",
        "exam:cosine_sum_residual",
        SUMS,
        "",
    ),
    (
        "exponential: sum_{i<m} f^(i/n) = (1 - f^(m/n))/(1 - f^(1/n))",
        "latebloom.theory.decay_shapes:DECAYS",
        "exam:exponential_sum_residual",
        SUMS,
        "",
    ),
)
x, y, z = sp.symbols("x y z", positive=True)


def linear_decay_residual() -> list[sp.Expr]:
    """int s = 1/2 and 1/2 int s^2/R = 1 for s = 1 - y; zero."""
    s = 1 - y
    left = sp.integrate(1 - z, (z, y, 1))
    return [sp.integrate(s, (y, 0, 1)) - sp.Rational(1, 2), sp.integrate(sp.simplify(s**2 / left), (y, 0, 1)) / 2 - 1]


def sqrt_decay_residual() -> list[sp.Expr]:
    """int s = 1/3 and 1/2 int s^2/R = 3/2 - (3/4) ln 3 for s = 1 - sqrt(y), with v = sqrt(y); zero."""
    v = sp.Symbol("v", positive=True)
    s = 1 - v
    left = sp.integrate((1 - z) * 2 * z, (z, v, 1))
    mean = sp.integrate(s * 2 * v, (v, 0, 1)) - sp.Rational(1, 3)
    kappa = sp.integrate(sp.simplify(s**2 / sp.factor(left)) * 2 * v, (v, 0, 1)) / 2
    return [mean, sp.simplify(kappa - (sp.Rational(3, 2) - sp.Rational(3, 4) * sp.log(3)))]


def cosine_integrand_residual() -> list[sp.Expr]:
    """With y = 1 - z, a = pi z: s = (1 - cos a)/2, R = (a - sin a)/(2 pi), s^2/R as it is integrated; zero."""
    a = sp.pi * z
    s = (1 + sp.cos(sp.pi * (1 - z))) / 2
    left = sp.integrate((1 + sp.cos(sp.pi * y)) / 2, (y, 1 - z, 1))
    ratio = sp.pi * (1 - sp.cos(a)) ** 2 / (2 * (a - sp.sin(a)))
    return [
        sp.simplify(s - (1 - sp.cos(a)) / 2),
        sp.simplify(left - (a - sp.sin(a)) / (2 * sp.pi)),
        sp.simplify(s**2 - ratio * left),
    ]


def stable_phase_residual() -> sp.Expr:
    """1/2 int_0^b dx/(b + r d - x) - 1/2 ln((b + r d)/(r d)); zero."""
    b, rd = sp.symbols("b rd", positive=True)
    found = -sp.log(b + rd - x)
    assert sp.simplify(sp.diff(found, x) - 1 / (b + rd - x)) == 0
    value = (found.subs(x, b) - found.subs(x, 0)) / 2
    return sp.simplify(sp.expand_log(value - sp.log((b + rd) / rd) / 2, force=True))


def warmup_residual() -> list[sp.Expr]:
    """1/2 int_0^omega (x/omega)^2/(R0 - x^2/(2 omega)) dx - [(a/omega) artanh(omega/a) - 1], a^2 = 2 omega R0; zero."""
    omega, a = sp.symbols("omega a", positive=True)
    total = a**2 / (2 * omega)
    integrand = (x / omega) ** 2 / (total - x**2 / (2 * omega)) / 2
    primitive = (a * sp.atanh(x / a) - x) / omega
    ends = primitive.subs(x, omega) - primitive.subs(x, 0)
    return [
        sp.simplify(sp.diff(primitive, x) - integrand),
        sp.simplify(ends - (a / omega * sp.atanh(omega / a) - 1)),
    ]


def table_residual() -> list[sp.Expr]:
    """The general constants at omega = 0, r = 1/2, kappa = 1, b = c, d = 1 - c against Table 1's WSD; zero."""
    c = sp.Symbol("c", positive=True)
    total = c + (1 - c) / 2
    q1 = 1 / (2 * total) - 1 / (1 + c)
    q2 = sp.log(total / ((1 - c) / 2)) / 2 + 1 - (1 + sp.log((1 + c) / (1 - c)) / 2)
    return [sp.simplify(q1), sp.simplify(sp.expand_log(sp.simplify(q2), force=True))]


def constant_fails_residual() -> sp.Expr:
    """1/2 int_0^{1 - 1/T} dx/(1 - x) - 1/2 ln T; zero: a constant rate's q2^2 grows without end."""
    T = sp.Symbol("T", positive=True)
    primitive = -sp.log(1 - x)
    value = (primitive.subs(x, 1 - 1 / T) - primitive.subs(x, 0)) / 2
    return sp.simplify(sp.expand_log(value - sp.log(T) / 2, force=True))


def final_rate_fails_residual() -> sp.Expr:
    """lim (1 - x) s^2/R - s(1) as x -> 1 for s = f + (1 - f)(1 - x); zero: the integrand has no integral if f > 0."""
    f = sp.Symbol("f", positive=True)
    s = f + (1 - f) * z  # z = 1 - x
    left = sp.integrate(f + (1 - f) * y, (y, 0, z))
    return sp.simplify(sp.limit(z * s**2 / left, z, 0) - f)


def linear_sum_residual() -> sp.Expr:
    """F(m + 1) - F(m) - s_m and F(0) for the linear decay's area F; zero."""
    m, n, f = sp.symbols("m n f", positive=True)

    def area(k: sp.Expr) -> sp.Expr:
        return k - (1 - f) * k * (k - 1) / (2 * n)

    return sp.simplify(area(m + 1) - area(m) - (1 - (1 - f) * m / n)) + area(sp.Integer(0))


def cosine_sum_residual() -> sp.Expr:
    """The same for Dirichlet's kernel; zero."""
    m, angle = sp.symbols("m x", positive=True)

    def area(k: sp.Expr) -> sp.Expr:
        return sp.sin(k * angle / 2) * sp.cos((k - 1) * angle / 2) / sp.sin(angle / 2)

    difference = (area(m + 1) - area(m) - sp.cos(m * angle)) * sp.sin(angle / 2)
    return sp.simplify(sp.expand(difference.rewrite(sp.exp))) + area(sp.Integer(0))


def exponential_sum_residual() -> sp.Expr:
    """The same for the geometric series with q = f^(1/n); zero."""
    m, q = sp.symbols("m q", positive=True)
    return sp.simplify((1 - q ** (m + 1)) / (1 - q) - (1 - q**m) / (1 - q) - q**m)
