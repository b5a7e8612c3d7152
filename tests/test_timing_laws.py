"""The league of timing laws: frozen predictions are those of their pilots, scores are what they say they are."""

import json

import numpy as np
import pytest

from latebloom.theory.errors import InputError
from latebloom.theory.plan import read_plan
from latebloom.theory.prediction import JointDraws
from tests.benchmarks import timing_laws
from tests.helpers import tiny_plan

FROZEN = sorted(timing_laws.PREDICTIONS.glob("*.json"))
KEYS = {
    "median_abs_gap_error", "median_abs_tau_error_over_T", "median_regret", "interval_coverage", "best_arm_rate",
    "brier", "cases",
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return {case.name: case for case in timing_laws.cases()}


def test_frozen_predictions_know_their_pilots_alone(found):
    assert len(FROZEN) >= 10
    for path in FROZEN:
        plan, case = read_plan(path), found[path.stem]
        pilots = {run.header.plan_digest for run in case.pilots}
        assert set(plan.provenance.pilots) == pilots and not case.pilots_missing
        targets = {each.replace(name=f"{name}-{path.stem[-2:]}").digest for name, each in case.plans.items()}
        assert not targets & pilots
        assert plan.predicted.draws.names == tuple(case.plans)
        assert sum(row.p_best for row in plan.predicted.menu) == pytest.approx(1)


def test_the_benchmark_has_its_keys(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["timing_laws", "--json", "--laws", "field"])
    timing_laws.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["default"] == "field" and printed["laws"]["field"].keys() == KEYS
    assert printed["laws"]["field"]["cases"] >= 3


def test_another_seed_is_a_yardstick():
    plans = {"fixed": tiny_plan(tau=None), "grown": tiny_plan(tau=30), "late": tiny_plan(tau=60)}

    def case(name, **measured):
        return timing_laws.Case(
            name=name, small=1, full=3, pilots=(), pilots_missing=0, plans=plans, measured=measured
        )  # fmt: skip

    asked = case("way-C4-s0", fixed=2.0, grown=2.1, late=2.2)
    among = [asked, case("way-C4-s1", fixed=2.1, grown=2.3), case("way-C4-s2", fixed=2.3), case("other-C4-s1", late=9)]
    draws = timing_laws.another_seed_draws(asked, among)
    assert draws.names == ("fixed", "grown")
    gap = timing_laws.score(asked, draws)["gap_errors"]
    assert gap == pytest.approx([0.1], abs=1e-3)
    with pytest.raises(InputError, match="train another seed"):
        timing_laws.another_seed_draws(asked, among[2:])


def test_scores_of_a_law_that_is_right_and_of_one_that_is_wrong():
    fixed, grown, late = tiny_plan(tau=None), tiny_plan(tau=30), tiny_plan(tau=60)
    case = timing_laws.Case(
        name="x", small=1, full=3, pilots=(), pilots_missing=0, plans={"fixed": fixed, "grown": grown, "late": late},
        measured={"fixed": 2.0, "grown": 2.1, "late": 2.2},
    )  # fmt: skip
    assert case.is_measured

    def scored(*losses):
        around = np.random.default_rng(0).normal(scale=0.001, size=(200, 3))
        drawn = tuple(tuple(row) for row in (np.array(losses) + around).tolist())
        draws = JointDraws(names=("fixed", "grown", "late"), measured=(True,) * 3, losses=drawn)
        return timing_laws.summary([timing_laws.score(case, draws)])

    right = scored(2.0, 2.1, 2.2)
    assert right["median_regret"] == right["median_abs_tau_error_over_T"] == right["brier"] == 0
    assert right["best_arm_rate"] == right["interval_coverage"] == 1 and right["median_abs_gap_error"] < 0.001
    wrong = scored(2.3, 2.2, 2.1)
    assert wrong["median_regret"] == pytest.approx(0.2) and wrong["median_abs_tau_error_over_T"] == pytest.approx(0.3)
    assert wrong["brier"] == 2 and wrong["best_arm_rate"] == wrong["interval_coverage"] == 0
    assert wrong["median_abs_gap_error"] == pytest.approx(0.3, abs=0.001)  # of gaps .1 and .2 taken for -.1 and -.2
