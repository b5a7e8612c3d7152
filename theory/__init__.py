"""Latebloom's analytic side: loss landscapes in, a :class:`Plan` out.

Nothing here imports torch, sympy, pandas or matplotlib, and nothing imports ``sim`` or ``train``.
"""
