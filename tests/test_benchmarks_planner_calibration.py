"""The planner's calibration benchmark: how sure a coverage is."""

import pytest

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
