"""Limits of growing: transfer against price, and the speed limit of loss-equal growth in five forms, proved."""

from __future__ import annotations

import sympy as sp

__all__ = [
    "best_fixed_residual",
    "head_residual",
    "limit_residual",
    "marginal_cost_residual",
    "offset_residual",
    "one_expansion_residual",
    "path_residual",
    "prescribed_size_residual",
    "served_residual",
    "transfer_residual",
]

TESTS = "tests/test_theory_limits.py::"
EQUATIONS = (
    (
        "growing beats the full depth of equal compute iff rho > n: lead tau (rho - n)",
        "latebloom.theory.limits:transfer_lead",
        "limits:transfer_residual",
        TESTS + "test_growing_wins_where_transfer_exceeds_price",
        "fig18_map_of_transfer",
    ),
    (
        "dC = (6/b) A^(1/a) B^(1/b) l^(-1-1/a-1/b) y^(-1/a) (1-y)^(-1-1/b) dl, y = A N^-a/l",
        "latebloom.theory.limits:path_share",
        "limits:marginal_cost_residual",
        TESTS + "test_path_is_the_cheapest_fall_of_the_loss",
        "fig17_limits_of_growing",
    ),
    (
        "fastest fall at y* = b/(b + a (b + 1))",
        "latebloom.theory.limits:path_share",
        "limits:path_residual",
        TESTS + "test_path_is_the_cheapest_fall_of_the_loss",
        "fig17_limits_of_growing",
    ),
    (
        "best fixed size at y_f = b/(a + b)",
        "latebloom.theory.limits:fixed_share",
        "limits:best_fixed_residual",
        TESTS + "test_best_fixed_share_is_that_of_a_grid",
        "fig17_limits_of_growing",
    ),
    (
        "C_fixed/C* = ((a+b)/a) y_f^(-1/a) (1-y_f)^(-1/b) y*^(1/a) (1-y*)^(1+1/b)",
        "latebloom.theory.limits:loss_equal_limit",
        "limits:limit_residual",
        TESTS + "test_limit_is_that_of_brute_force",
        "fig17_limits_of_growing",
    ),
    (
        "a term of the loss that no size moves changes no limit",
        "latebloom.theory.limits:loss_equal_limit",
        "limits:offset_residual",
        TESTS + "test_limit_is_that_of_brute_force",
        "",
    ),
    (
        "one expansion, at l1: c_f (1/a+1/b) l1^(-1-1/a-1/b) = (6/b) N (l1 - N^-a)^(-1-1/b)",
        "latebloom.theory.limits:one_expansion_limit",
        "limits:one_expansion_residual",
        TESTS + "test_one_expansion_is_that_of_a_grid",
        "fig17_limits_of_growing",
    ),
    (
        "depth at fixed width, head h: fixed l = A d^-a [1+(a/b)(1+h/d)], path l = A d^-a [1+a(1+1/b)(1+h/d)]",
        "latebloom.theory.limits:head_limit",
        "limits:head_residual",
        TESTS + "test_head_limit_is_that_of_brute_force",
        "",
    ),
    (
        "served model: the path is left smoothly at its own size, d cost/d size = 0 at its end",
        "latebloom.theory.limits:served_limit",
        "limits:served_residual",
        TESTS + "test_served_limit_is_that_of_a_grid",
        "",
    ),
    (
        "prescribed size: limit x size [(1-y_f)/(1-y_f size^-a)]^(1/b)",
        "latebloom.theory.limits:prescribed_size_limit",
        "limits:prescribed_size_residual",
        TESTS + "test_prescribed_size_is_that_of_brute_force",
        "",
    ),
)
a, b, A, B, l, N, D, y = sp.symbols("a b A B l N D y", positive=True)
PATH = b / (b + a * (b + 1))
FIXED = b / (a + b)
MARGINAL = 6 / b * A ** (1 / a) * B ** (1 / b) * l ** (-1 - 1 / a - 1 / b) * y ** (-1 / a) * (1 - y) ** (-1 - 1 / b)


def _log(expression: sp.Expr) -> sp.Expr:
    return sp.simplify(sp.expand_log(sp.log(expression), force=True))


def transfer_residual() -> sp.Expr:
    """Steps that the grown run is worth, less those it costs, less tau (rho - n); zero."""
    T, tau, rho, n = sp.symbols("T tau rho n", positive=True)
    return sp.expand((T - tau) + rho * tau - ((T - tau) + n * tau) - tau * (rho - n))


def marginal_cost_residual() -> sp.Expr:
    """6 N dD/dl at fixed N, with N and D as functions of l and y, over the closed form: its logarithm is zero."""
    odds = sp.Symbol("s", positive=True)  # y/(1 - y): keeps every base positive
    tokens = (B / (l - A * N**-a)) ** (1 / b)
    rate = -6 * N * sp.diff(tokens, l)
    share = odds / (1 + odds)
    on_share = sp.simplify(rate.subs(A, share * l * N**a))
    closed = MARGINAL.subs(A, share * l * N**a).subs(y, share)
    return _log(sp.simplify(on_share / closed))


def path_residual() -> sp.Expr:
    """d ln(marginal cost)/dy at y*; zero."""
    slope = sp.diff(sp.log(y ** (-1 / a) * (1 - y) ** (-1 - 1 / b)), y)
    return sp.simplify(slope.subs(y, PATH))


def best_fixed_residual() -> sp.Expr:
    """d ln(6 N D)/dy at fixed excess at y_f; zero."""
    slope = sp.diff(sp.log(y ** (-1 / a) * (1 - y) ** (-1 / b)), y)
    return sp.simplify(slope.subs(y, FIXED))


def limit_residual() -> sp.Expr:
    """C_fixed over the integral of the marginal cost from l on, over the closed form: its logarithm is zero."""
    power, t = sp.symbols("g t", positive=True)  # g = 1/a + 1/b
    below = sp.integrate(t ** (-1 - power), (t, l, sp.oo))
    path = (MARGINAL * l ** (1 + 1 / a + 1 / b)).subs(y, PATH) * below.subs(power, 1 / a + 1 / b)
    size, tokens = (A / (y * l)) ** (1 / a), (B / ((1 - y) * l)) ** (1 / b)
    fixed = (6 * size * tokens).subs(y, FIXED)
    closed = (a + b) / a * FIXED ** (-1 / a) * (1 - FIXED) ** (-1 / b) * PATH ** (1 / a) * (1 - PATH) ** (1 + 1 / b)
    return sp.simplify(sp.expand_log(sp.log(fixed) - sp.log(path) - sp.log(closed), force=True))


def offset_residual() -> sp.Expr:
    """With W added to the loss, tokens at a loss L are those at L - W without it; zero."""
    W, L, E = sp.symbols("W L E", positive=True)
    tokens = (B / (L - E - A * N**-a)) ** (1 / b)
    with_offset = (B / (L - (E + W) - A * N**-a)) ** (1 / b)
    return sp.simplify(with_offset.subs(L, L + W) - tokens)


def one_expansion_residual() -> sp.Expr:
    """d/dl1 of c_f l1^-g + 6 N [D(N, l) - D(N, l1)], less the balance of the two marginal costs; zero."""
    c_f, l1 = sp.symbols("c_f l_1", positive=True)
    g = 1 / a + 1 / b
    total = c_f * l1**-g + 6 * N * ((l - N**-a) ** (-1 / b) - (l1 - N**-a) ** (-1 / b))
    balance = 6 / b * N * (l1 - N**-a) ** (-1 - 1 / b) - c_f * g * l1 ** (-1 - g)
    return sp.simplify(sp.diff(total, l1) - balance)


def head_residual() -> list[sp.Expr]:
    """d/dd of cost at equal excess, and of cost per fall of the excess, at the two closed forms; without a head the
    shares are y_f and y*; zero."""
    d, h = sp.symbols("d h", positive=True)
    at_fixed = A * d**-a * (1 + a / b * (1 + h / d))
    on_path = A * d**-a * (1 + a * (1 + 1 / b) * (1 + h / d))
    fixed = sp.diff(sp.log(h + d) - sp.log(l - A * d**-a) / b, d).subs(l, at_fixed)
    path = sp.diff(sp.log(h + d) - (1 + 1 / b) * sp.log(l - A * d**-a), d).subs(l, on_path)
    return [
        sp.simplify(fixed),
        sp.simplify(path),
        sp.simplify((A * d**-a / at_fixed).subs(h, 0) - FIXED),
        sp.simplify((A * d**-a / on_path).subs(h, 0) - PATH),
    ]


def _left_path() -> sp.Expr:
    """Cost down to excess 1 of the path until it has the share y of that excess, and of that size from there on."""
    g = 1 / a + 1 / b
    whole = 6 * a / (a + b) * PATH ** (-1 / a) * (1 - PATH) ** (-1 - 1 / b)
    leave = y / PATH
    tail = 6 * y ** (-1 / a) * ((1 - y) ** (-1 / b) - (leave - y) ** (-1 / b))
    return whole * leave**-g + tail


def served_residual() -> list[sp.Expr]:
    """At the path's own end leaving it costs C*, and no more to first order; zero."""
    whole = 6 * a / (a + b) * PATH ** (-1 / a) * (1 - PATH) ** (-1 - 1 / b)
    values = {a: sp.Rational(1, 2), b: sp.Rational(1, 3)}  # the powers of sums cancel only once they are numbers
    at_end = {y: PATH.subs(values)}
    left = _left_path()
    return [
        sp.nsimplify(sp.simplify(left.subs(values).subs(at_end) - whole.subs(values))),
        sp.nsimplify(sp.simplify(sp.diff(left.subs(values), y).subs(at_end))),
    ]


def prescribed_size_residual() -> sp.Expr:
    """6 N D at size times the best fixed size over that at size 1, over the closed factor: its logarithm is zero."""
    size = sp.Symbol("size", positive=True)
    cost = y ** (-1 / a) * (1 - y) ** (-1 / b)
    factor = size * ((1 - FIXED) / (1 - FIXED * size**-a)) ** (1 / b)
    ratio = cost.subs(y, FIXED * size**-a) / cost.subs(y, FIXED)
    return sp.simplify(sp.expand_log(sp.log(ratio) - sp.log(factor), force=True))
