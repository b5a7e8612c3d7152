"""Proofs of the closed forms with sympy. Nothing else imports this package: sympy is not loaded by `import theory`.

Each module has functions that return expressions which must vanish; ``tests/test_theory_derivations.py`` asserts it.
"""
