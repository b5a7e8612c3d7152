"""Checks of numbers that users give: each refuses NaN, infinities and what its name says, and returns float arrays.

One function a rule, for a number or an array of any shape. The message names the argument, the first offending value,
the rule and the fix; ``rule`` and ``fix`` may be put in words that fit the place. Rules between the fields of a value
stand in its :meth:`latebloom.theory.spec.Spec.check`, not here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["columns", "finite", "increasing", "inside", "non_negative", "positive", "series", "whole", "within"]


def finite(name: str, value: ArrayLike, *, rule: str = "must be finite", fix: str = "give a number") -> np.ndarray:
    """``value`` as floats, all finite.

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        rule: What must hold, for the message.
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is not finite, or is no number.
    """
    array = _floats(name, value, rule, fix)
    return _all_good(name, value, array, np.isfinite(array), rule, fix)


def positive(
    name: str, value: ArrayLike, *, rule: str = "must be finite and positive", fix: str = "give a positive number"
) -> np.ndarray:
    """``value`` as floats, all finite and > 0.

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        rule: What must hold, for the message.
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is not finite and positive.
    """
    array = _floats(name, value, rule, fix)
    return _all_good(name, value, array, np.isfinite(array) & (array > 0), rule, fix)


def non_negative(
    name: str, value: ArrayLike, *, rule: str = "must be finite and >= 0", fix: str = "give a number >= 0"
) -> np.ndarray:
    """``value`` as floats, all finite and >= 0.

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        rule: What must hold, for the message.
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is negative or not finite.
    """
    array = _floats(name, value, rule, fix)
    return _all_good(name, value, array, np.isfinite(array) & (array >= 0), rule, fix)


def within(
    name: str, value: ArrayLike, low: float, high: float, *, rule: str | None = None, fix: str = "correct it"
) -> np.ndarray:
    """``value`` as floats, all in the closed interval [low, high].

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        low: Least value allowed.
        high: Largest value allowed; may be infinite, and then infinity itself is allowed.
        rule: What must hold, for the message; None for "must be within [low, high]".
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is NaN or outside.
    """
    rule = f"must be within [{low}, {high}]" if rule is None else rule
    array = _floats(name, value, rule, fix)
    return _all_good(name, value, array, (array >= low) & (array <= high), rule, fix)


def inside(
    name: str, value: ArrayLike, low: float, high: float, *, rule: str | None = None, fix: str = "correct it"
) -> np.ndarray:
    """``value`` as floats, all in the open interval (low, high).

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        low: Every value must be above this one.
        high: Every value must be below this one.
        rule: What must hold, for the message; None for "must lie in (low, high)".
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is NaN, outside, or at an end.
    """
    rule = f"must lie in ({low:g}, {high:g})" if rule is None else rule
    array = _floats(name, value, rule, fix)
    return _all_good(name, value, array, (array > low) & (array < high), rule, fix)


def whole(
    name: str,
    value: ArrayLike,
    low: float,
    high: float = math.inf,
    *,
    rule: str | None = None,
    fix: str = "give a whole number",
) -> np.ndarray:
    """``value`` as floats, all whole numbers in [low, high].

    Args:
        name: What the argument is called.
        value: A number or an array of any shape.
        low: Least value allowed.
        high: Largest value allowed.
        rule: What must hold, for the message; None for "must be a whole number in [low, high]".
        fix: What to do instead, for the message.

    Returns:
        Floats in the shape of ``value``; of shape () for a number.

    Raises:
        InputError: if a value is not a whole number there.
    """
    if rule is None:
        rule = f"must be a whole number in [{low}, {high}]" if high < math.inf else f"must be a whole number >= {low}"
    array = _floats(name, value, rule, fix)
    good = np.isfinite(array) & (array >= low) & (array <= high) & (array == np.floor(array))
    return _all_good(name, value, array, good, rule, fix)


def series(name: str, value: ArrayLike, *, low: float = -math.inf, fix: str = "correct the series") -> np.ndarray:
    """``value`` as a series of finite floats, all >= ``low``; it may be empty.

    Args:
        name: What the argument is called.
        value: Numbers, shape (n,).
        low: Least value allowed.
        fix: What to do instead, for the message.

    Returns:
        Floats, shape (n,).

    Raises:
        InputError: if there are more axes or fewer than one, or a value is not finite or below ``low``.
    """
    rule = "must be finite" if low == -math.inf else f"must be finite and >= {low:g}"
    array = _floats(name, value, rule, fix)
    if array.ndim != 1:
        raise InputError(name, array.shape, "must have one axis", "give a series of numbers")
    return _all_good(name, value, array, np.isfinite(array) & (array >= low), rule, fix)


def increasing(name: str, value: ArrayLike, *, fix: str = "sort them, each once") -> np.ndarray:
    """``value`` as a series of finite floats, each larger than the one before; it may be empty.

    Args:
        name: What the argument is called.
        value: Numbers, shape (n,).
        fix: What to do instead, for the message.

    Returns:
        Floats, shape (n,).

    Raises:
        InputError: if there are more axes or fewer than one, a value is not finite, or one does not increase.
    """
    array = series(name, value, fix=fix)
    falls = np.diff(array) <= 0
    if np.any(falls):
        raise InputError(name, array[1:][falls][0].item(), "must increase", fix)
    return array


def columns(parameters: int, /, **values: ArrayLike) -> list[np.ndarray]:
    """Measured columns as float arrays of one length, all finite and positive, more points than ``parameters``.

    Args:
        parameters: How many numbers are fitted to the points.
        values: One column a name, shape (n,) each.

    Returns:
        The columns in the order given.

    Raises:
        InputError: if lengths differ, a value is not finite and positive, or there are too few points.
    """
    arrays = [np.asarray(column, dtype=float) for column in values.values()]
    for name, array in zip(values, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            rule = f"must have one value for each of the {len(arrays[0])} points"
            raise InputError(name, array.shape, rule, "give columns of one length")
        bad = ~(np.isfinite(array) & (array > 0))
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(
                f"{name}[{i}]", float(array[i]), "must be finite and positive", "drop or correct the point"
            )
    if len(arrays[0]) <= parameters:
        rule = f"points are too few for {parameters} parameters"
        raise InputError("points", len(arrays[0]), rule, f"give at least {parameters + 1}")
    return arrays


def _floats(name: str, value: ArrayLike, rule: str, fix: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(name, value, rule, fix) from None


def _all_good(name: str, value: ArrayLike, array: np.ndarray, good: np.ndarray, rule: str, fix: str) -> np.ndarray:
    """``array``, or a refusal of the first of ``value`` that is not good, shown as it was given."""
    if not np.all(good):
        raise InputError(name, np.asarray(value)[~np.asarray(good)].tolist()[0], rule, fix)
    return array
