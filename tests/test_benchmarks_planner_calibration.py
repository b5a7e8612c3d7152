"""The planner's benchmarks: how sure a coverage is, and how far pilots of a smaller size carry."""

import pytest

from latebloom.theory.commands_pilots import SMALLER
from tests.benchmarks.pilot_sizes import SIZES, pilot_size
from tests.benchmarks.planner_calibration import Score, coverage_interval


def scores(outcomes: list[float], *, covered: int) -> list[Score]:
    values = {"source": "gpt", "quantity": "gap", "low": 0.0, "median": 0.5, "high": 1.0}
    return [Score(outcome=o, truth=0.5 if i < covered else 2.0, **values) for i, o in enumerate(outcomes)]


def test_nine_outcomes_do_not_tell_95_percent_from_all():
    interval = coverage_interval(scores([*range(9)] * 5, covered=45))
    assert interval["outcomes"] == 9
    assert interval["low"] == pytest.approx(0.05 ** (1 / 9), abs=1e-3) and interval["high"] == 1.0


def test_interval_holds_the_coverage():
    interval = coverage_interval(scores([*range(200)], covered=190))
    assert 0.9 < interval["low"] < 0.95 < interval["high"] < 0.98


def test_what_is_said_of_smaller_pilots_follows_from_their_records():
    """Each number of the sentence that `latebloom pilots` prints, from committed Records."""
    target, narrow, both = (pilot_size(*size) for size in SIZES.values())
    assert abs(narrow.slope / target.slope - 1) < 0.01 and "the same to 1 %" in SMALLER
    assert f"the depth gap {100 * (1 - narrow.depth_gap[-1] / target.depth_gap[-1]):.0f} % too small" in SMALLER
    apart = [round(n - t, 2) for n, t in zip(narrow.recovered, target.recovered, strict=True)]
    assert (min(apart), max(apart)) == (0.01, 0.14) and ".01 to .14 too large" in SMALLER
    assert f"the slope came out {100 * (both.slope / target.slope - 1):.0f} % too large" in SMALLER
    assert f"the depth gap {100 * (1 - both.depth_gap[-1] / target.depth_gap[-1]):.0f} % too small: keep" in SMALLER
