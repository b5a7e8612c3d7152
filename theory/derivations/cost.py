"""Costs and budgets of a plan, proved."""

from __future__ import annotations

import sympy as sp

__all__ = ["budget_residual", "flops_residual", "iso_loss_line_residual", "parameters_residual"]

EQUATIONS = (
    (
        "N(L) = (V + n) d + 2 d + L (12 d^2 + 13 d)",
        "latebloom.theory.cost:parameters",
        "cost:parameters_residual",
        "tests/test_theory_cost.py::test_parameters_are_those_of_the_tensors",
        "tab03_architectures",
    ),
    (
        "c_L = 6 (V d + 12 L d^2) + 12 L n d",
        "latebloom.theory.cost:flops_per_token",
        "cost:flops_residual",
        "tests/test_theory_cost.py::test_published_sizes",
        "tab03_architectures",
    ),
    (
        "budget b: tau = T (1 - b)/(1 - n)",
        "latebloom.theory.planning:budget_step",
        "cost:budget_residual",
        "tests/test_theory_planning.py::test_budget_is_kept_and_used",
        "",
    ),
    (
        "C_iso = C_e (C_f/C_e)^((L_e - P)/(L_e - L_f)), the line of loss in ln C through both fixed runs",
        "latebloom.theory.verdict:judge",
        "cost:iso_loss_line_residual",
        "tests/test_theory_planning.py::test_what_is_predicted_is_what_runs_on_the_landscape_show",
        "fig01_fixed_against_progressive",
    ),
)
d, V, context, depth = sp.symbols("d V n L", positive=True)


def parameters_residual() -> sp.Expr:
    """The shapes of GPT-2's tensors summed, less N(L); zero."""
    attention = 3 * d * d + 3 * d + d * d + d
    mlp = 4 * d * d + 4 * d + 4 * d * d + d
    norms = 2 * (d + d)
    total = V * d + context * d + depth * (attention + mlp + norms) + 2 * d
    return sp.expand(total - ((V + context) * d + 2 * d + depth * (12 * d**2 + 13 * d)))


def flops_residual() -> sp.Expr:
    """Two FLOPs a weight forward, four backward; scores and values are n d each, forward 2 x 2 n d; zero."""
    weights = V * d + depth * (4 * d * d + 8 * d * d)
    attention = depth * 2 * (2 * context * d)
    return sp.expand(6 * weights + 3 * attention - (6 * (V * d + 12 * depth * d**2) + 12 * depth * context * d))


def budget_residual() -> sp.Expr:
    """(tau n + T - tau)/T - b at tau = T (1 - b)/(1 - n); zero."""
    T, n, b = sp.symbols("T n b", positive=True)
    tau = T * (1 - b) / (1 - n)
    return sp.simplify((tau * n + T - tau) / T - b)


def iso_loss_line_residual() -> sp.Expr:
    """The line through (ln C_e, L_e) and (ln C_f, L_f) at ln C_iso, less P; zero."""
    C_e, C_f, L_e, L_f, P = sp.symbols("C_e C_f L_e L_f P", positive=True)
    log_iso = sp.log(C_e) + (L_e - P) / (L_e - L_f) * (sp.log(C_f) - sp.log(C_e))
    line = L_e + (L_f - L_e) * (log_iso - sp.log(C_e)) / (sp.log(C_f) - sp.log(C_e))
    return sp.simplify(line - P)
