"""The main job, small: it ends with a verdict whatever the landscape says, keeps what was done, and starts clean."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from latebloom.theory import AreaLaw, InputError, Signal, controls, read_plan
from latebloom.train.config import DemoConfig
from latebloom.train.experiments import demo as module
from latebloom.train.experiments.demo import demo
from tests.helpers import synthetic_record

QUIET = Console(quiet=True)
SMALL = DemoConfig(steps=160, batch_tokens=256, tokenizer="bytes", tolerance=0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, demo(out, SMALL, console=QUIET)


def test_result_and_plan_agree_with_the_verdict(finished):
    out, verdict = finished
    result, plan = json.loads((out / "result.json").read_text()), read_plan(out / "plan.json")
    assert {
        "predicted_final_loss", "measured_final_loss", "tau_star", "tau_interval", "saving_same_horizon",
        "saving_equal_compute", "retention", "verdict",
    } <= result.keys()  # fmt: skip
    assert result["measured_final_loss"] == verdict.progressive == result["losses"]["progressive"]
    assert result["retention"] == pytest.approx(result["losses"]["cold_start"] - result["losses"]["progressive"])
    assert result["plan_digest"] == plan.digest
    assert result["predicted_final_loss"] == plan.predicted.final_loss
    assert plan.predicted.curve is not None
    assert len(plan.provenance.pilots) == 5


def test_an_interrupted_demo_goes_on_where_it_stopped(finished, monkeypatch):
    out, verdict = finished
    (out / "result.json").unlink()
    monkeypatch.setattr(module, "prepare", lambda *a, **k: pytest.fail("the corpus was made again"))
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")}
    assert demo(out, SMALL, console=QUIET) == verdict
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")} == before


def test_a_control_more_is_the_only_run_that_a_finished_demo_lacks(finished, tmp_path, monkeypatch):
    out, verdict = finished
    shutil.copytree(out, tmp_path / "demo")
    (tmp_path / "demo" / "result.json").unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "demo").glob("*/*/record.jsonl")}
    monkeypatch.setattr(controls, "COMPARED", (*controls.COMPARED, "depth_equal_compute-2"))
    again = demo(tmp_path / "demo", SMALL, console=QUIET)
    assert again.controls.items() > verdict.controls.items()
    assert again.controls.keys() - verdict.controls.keys() == {"depth_equal_compute-2"}
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert result["losses"]["depth_equal_compute-2"] == again.controls["depth_equal_compute-2"]
    assert result["verdict"].endswith(" depth 2, equal compute.")
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_where_no_expansion_is_within_the_tolerance_growing_is_measured_all_the_same(finished):
    out, _ = finished
    base = module._base_plan(out / "data", SMALL)
    unit = {"onset": 0.01 * base.schedule.total_area, "reference": base.schedule.total_area}
    trunk, fresh = Signal(amplitude=0.5, exponent=0.5, **unit), Signal(amplitude=0.3, exponent=0.3, **unit)
    law = AreaLaw(small_depth=1, full_depth=4, floor=2.0, small_gap=0.5, kappa=9.0, trunk=trunk, fresh=fresh)
    pilots = [
        synthetic_record(plan, step, law.loss(plan, step), name=plan.name)
        for plan in module._pilot_plans(base, SMALL)
        for step in [np.arange(1, plan.steps + 1)]
    ]
    console = Console(record=True, file=io.StringIO(), width=400)
    plan = module._plan(base, pilots, SMALL, console)
    assert plan.tau == pytest.approx(SMALL.steps / 2, abs=1)
    assert "growing 1 -> 4 costs more than this whenever it happens" in console.export_text()


def test_a_directory_that_is_not_a_demo_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and not a demo's directory"):
        demo(tmp_path, SMALL, console=QUIET)
    assert (tmp_path / "thesis.tex").exists()
