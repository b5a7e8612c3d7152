"""Proofs of the closed forms with sympy. Nothing else imports this package: sympy is not loaded by `import theory`.

Each module has functions ``..._residual`` that return expressions which must vanish (a list, if there are several);
``tests/test_theory_derivations.py`` finds them all and asserts it.

Convention for the index of equations (``python -m latebloom.theory.derivations.index`` writes ``docs/equations.md``):
any module of ``theory`` may hold

    EQUATIONS = ((formula, "theory.module:function", "proof", "tests/file.py::test", "figure"), ...)

with plain strings: the proof is "module:function" in this package (or "" where a brute-force test stands for it), the
figure a module of ``paper_figures`` (or ""). A test holds that everything named exists and that the file is up to date.
"""
