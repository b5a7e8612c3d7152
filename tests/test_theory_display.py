"""What notebooks show of plans, schedules, records, verdicts: right numbers, no text that is taken for markup."""

import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from latebloom.theory.display import table_html
from latebloom.theory.plan import Curve, Prediction, Provenance
from latebloom.theory.prediction import MenuRow, Quantiles
from latebloom.theory.schedules import WSD, Constant, Piecewise, Tail
from latebloom.theory.verdict import TrainedArm, Verdict
from latebloom.theory.verdict_text import sentence

from .helpers import synthetic_record, tiny_plan

HOSTILE = "<script>alert('1 & 2')</script> $\\frac$ _\" --> ]]> %s {0} </td>"


@pytest.fixture(autouse=True)
def _without_windows():
    mpl.use("Agg")
    yield
    plt.close("all")


def plan():
    made = tiny_plan(steps=100, tau=60)
    row = MenuRow(
        name=HOSTILE, depths=(1,), steps=120, flops=1e9, loss=Quantiles(low=2.0, median=2.5, high=3.0), p_best=0.75,
        regret=0.0,
    )  # fmt: skip
    predicted = Prediction(menu=(row,), curve=Curve(step=(10, 100), loss=(4.0, 3.0)))
    return made.replace(
        name=HOSTILE,
        schema_version=2,
        model=made.model.replace(name=HOSTILE),
        predicted=predicted,
        provenance=Provenance(reason=HOSTILE),
    )


def record():
    return synthetic_record(plan(), np.array([0, 50, 100]), np.array([5.5, 4.0, 3.25]), name=HOSTILE)


def verdict(resolution=0.01):
    arms = {
        "progressive": TrainedArm(depths=(1, 3), tau=60, steps=100, flops=1e9, loss=3.25),
        "fixed": TrainedArm(depths=(3,), steps=100, flops=2e9, loss=3.0),
        "equal_compute": TrainedArm(depths=(3,), steps=50, flops=1e9, loss=3.5),
        "cold_start": TrainedArm(depths=(3,), steps=40, flops=8e8, loss=3.75),
        "small_equal_compute": TrainedArm(depths=(1,), steps=180, flops=1e9, loss=3.125),
    }
    return Verdict(arms=arms, resolution=resolution)


SHOWN = {
    "plan": plan,
    "record": record,
    "verdict": verdict,
    "wsd": lambda: plan().schedule,
    "constant": lambda: Constant(steps=1, peak_lr=0.5),
    "piecewise": lambda: Piecewise(at=(0, 10), rate=(1.0, 0.5)),
    "tail": lambda: Tail(base=plan().schedule, start_step=20),
    "million": lambda: WSD(steps=1_000_000, peak_lr=1.0, warmup_steps=100, decay_steps=100_000),
}


def texts_of(html):
    """All texts of well-formed HTML, and the names of its elements."""
    tree = ElementTree.fromstring(f"<div>{html}</div>")
    return list(tree.itertext()), {element.tag for element in tree.iter()}


@pytest.mark.parametrize("name", SHOWN)
def test_html_is_well_formed_and_holds_no_element_of_a_users_text(name):
    _, elements = texts_of(SHOWN[name]()._repr_html_())
    assert elements <= {"div", "table", "caption", "tr", "th", "td", "p"}


@pytest.mark.parametrize("name", SHOWN)
def test_everything_draws(name, tmp_path):
    axes = SHOWN[name]().plot()
    axes.figure.savefig(tmp_path / "drawn.svg")  # a dollar sign taken for a formula would raise here


def test_names_stand_there_as_they_are():
    for shown in (plan(), record()):
        assert any(HOSTILE in text for text in texts_of(shown._repr_html_())[0])
    assert record().plot().get_title() == HOSTILE[:59] + "…"
    assert texts_of(table_html("<b>", ["<i>"], [["<u>", "&"]]))[0] == ["<b>", "<i>", "<u>", "&"]


def test_the_numbers_are_those_of_the_object():
    texts = " | ".join(texts_of(plan()._repr_html_())[0])
    for expected in ("1 block from step 0, 3 blocks from step 60", "2.500 (2.000 to 3.000)", "75%", plan().digest[:16]):
        assert expected in texts
    texts = " | ".join(texts_of(record()._repr_html_())[0])
    assert "100 of 100 steps" in texts and "3.2500 nats a token" in texts
    texts, _ = texts_of(verdict()._repr_html_())
    assert texts[0] == sentence(verdict())
    losses = [text for text in texts if text.startswith("3.") and len(text) == 6]
    assert losses == ["3.1250", "3.2500", "3.5000", "3.0000", "3.7500"]  # equal compute first, lowest first


def test_a_run_without_validation_says_so():
    empty = synthetic_record(plan(), np.array([], dtype=int), np.array([]), name="new")
    assert "no validation loss of 100 steps yet" in empty._repr_html_()
    assert empty.plot().get_title() == "new"


def test_plots_show_the_data():
    axes = verdict().plot()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1 block", "1 -> 3", "3 blocks"]
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 0], [3.125, 3.25, 3.5])
    assert len(axes.patches) == 1 and not verdict(None).plot().patches  # the band of the noise
    measured, predicted = record().plot().lines[:2]
    np.testing.assert_array_equal(measured.get_xydata(), [[50, 4.0], [100, 3.25]])
    np.testing.assert_array_equal(predicted.get_xydata(), [[10, 4.0], [100, 3.0]])
    assert plan().plot().lines[1].get_xdata()[0] == 60
    given = plt.subplots()[1]
    assert plan().schedule.plot(given) is given
