"""The planner's benchmarks: how sure a coverage is, how far pilots of a smaller size carry, what unseen runs ask."""

import numpy as np
import pytest

from latebloom.theory.commands_pilots import SMALLER
from latebloom.theory.fitting.annealed_ends import AnnealedEnd
from latebloom.theory.schedules import WSD
from tests.benchmarks.pilot_sizes import SIZES, pilot_size
from tests.benchmarks.planner_calibration import Score, coverage_interval
from tests.benchmarks.planner_plateaus import plateau_world
from tests.benchmarks.planner_unseen import Question


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


def question() -> Question:
    """Depth 1 at 100, 200, 400, 800 steps for 1 FLOP each, depth 4 at 50 to 400 for 2, grown at 300 of 400."""
    runs = [("small", t, 0, float(t)) for t in (100, 200, 400, 800)]
    runs += [("full", t, 0, 2.0 * t) for t in (50, 100, 200, 400)] + [("grown", 400, 300, 500.0)]
    ends = [
        AnnealedEnd(
            name="", kind=kind, depth=1 if kind == "small" else 4, steps=steps, tau=tau, area=float(steps), seed=0,
            area_before=0.0, loss=5 - np.log(steps) / 10, data=None, trunk=kind, recipe="", peak_lr=1.0,
            warmup_steps=16, flops=flops,
        )
        for kind, steps, tau, flops in runs
    ]  # fmt: skip
    whole = WSD(steps=400, peak_lr=1.0, warmup_steps=16, decay_steps=40, decay="linear", final=0.0)
    values = {"source": "studies", "setting": "", "name": "", "small": 1, "full": 4, "curve": None, "schedule": whole}
    return Question(**values, ends=tuple(ends), grown=(ends[-1],))


def test_pilots_of_an_unseen_question_cost_at_most_half_of_it_and_hold_no_control():
    asked = question()
    seen = {share: [(end.kind, end.steps) for end in asked.pilots(share)] for share in (0.25, 0.5)}
    small = [("small", 100), ("small", 200), ("small", 400)]
    assert seen[0.25] == [*small, ("full", 50), ("full", 100)]
    assert seen[0.5] == []  # 200 steps of depth 4 cost 400 of 500: more than half
    assert asked.measured("full", 250) == pytest.approx(5 - np.log(250) / 10, abs=1e-12)  # linear in ln T between ends
    assert asked.measured("small", 1000) is None and asked.measured("full", 30) is None


def test_a_planted_plateau_ends_at_its_time_and_growing_at_once_is_the_full_depth():
    """Each mode is whole at first and gone long after its time; grown at once is the full depth."""
    world = plateau_world(np.random.default_rng([3, 0]))
    mode = max(world.modes, key=lambda mode: mode.size)
    left = mode.left(mode.time * np.array([0.0, 1.0, 6.0]), np.zeros(3), np.ones(3))
    assert left[0] == pytest.approx(1, abs=1e-12) and 0.2 < left[1] < 0.4 and left[2] < 1e-4
    late = mode.time * np.exp(mode.lag)
    assert mode.left(0.0, late, 0.0) == pytest.approx(mode.left(mode.time, 0.0, 1.0), rel=1e-12)
    at_once, full = world.loss([1e-9, 0.0], [1.0, 1.0])
    assert at_once == pytest.approx(full, rel=1e-6)
