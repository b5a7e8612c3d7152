"""The checks of numbers: what each refuses, at both sides of its boundary, and what the message says."""

import math

import numpy as np
import pytest

from latebloom.theory import InputError, checks

NAN = [math.nan, [1.0, math.nan], np.array([[2.0], [math.nan]])]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.finite, [-1.0, 0, 1e300], [math.inf, -math.inf, *NAN, "1 m", None]),
        (checks.positive, [1e-300, 5, [1, 2]], [0, -1, math.inf, [1, 0], *NAN, "x"]),
        (checks.non_negative, [0, 0.0, 3, [0, 1]], [-1e-300, math.inf, [0, -1], *NAN]),
        (lambda n, v: checks.within(n, v, 0, 1), [0, 1, [0.5, 1]], [-1e-9, 1 + 1e-9, *NAN]),
        (lambda n, v: checks.inside(n, v, 0, 1), [1e-9, 1 - 1e-9], [0, 1, *NAN]),
        (lambda n, v: checks.whole(n, v, 0, 10), [0, 10, 3.0, [1, 2]], [-1, 11, 2.5, *NAN, math.inf]),
        (lambda n, v: checks.whole(n, v, 1), [1, 1e9], [0, math.inf, 1.5]),
        (checks.series, [[], [-1.0, 2.0]], [1.0, [[1.0]], [math.inf], [math.nan]]),
        (lambda n, v: checks.series(n, v, low=0.0), [[0.0, 2.0]], [[-1.0]]),
        (checks.increasing, [[], [3.0], [1, 2, 4]], [[1, 1], [2, 1], [1, math.nan], 4.0]),
    ],
)
def test_both_sides(check, good, bad):
    for value in good:
        assert check("name", value) == pytest.approx(np.asarray(value, dtype=float), rel=0, abs=0)
    for value in bad:
        with pytest.raises(InputError, match="^name = "):
            check("name", value)


def test_message_names_the_first_bad_value():
    with pytest.raises(InputError, match=r"^steps = -2\.0: must be finite and positive; give a positive number$"):
        checks.positive("steps", [1.0, -2.0, -3.0])
    with pytest.raises(InputError, match=r"^share = 2\.0: is too much; give less$"):
        checks.inside("share", 2.0, 0, 1, rule="is too much", fix="give less")


def test_columns():
    first, second = checks.columns(1, a=[1, 2], b=[3, 4])
    assert first.tolist() == [1, 2] and second.tolist() == [3, 4]
    for columns, message in (
        ({"a": [1, 2], "b": [1]}, r"^b = \(1,\): must have one value for each of the 2 points"),
        ({"a": [1, 0], "b": [1, 2]}, r"^a\[1\] = 0\.0: must be finite and positive"),
        ({"a": [1], "b": [1]}, "^points = 1: points are too few for 1 parameters; give at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            checks.columns(1, **columns)
