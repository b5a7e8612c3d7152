"""The main job, small: it ends with a verdict whatever the landscape says, keeps what was done, and starts clean."""

import json

import pytest
from rich.console import Console

from latebloom.paper_figures.report import experiment_report
from latebloom.theory import InputError, controls, read_plan, read_record
from latebloom.theory.architectures.model_config import ModelConfig
from latebloom.theory.base_plan import base_plan
from latebloom.theory.cost import plan_flops
from latebloom.theory.fitting.recovery_field import field_of_records
from latebloom.theory.plan import Optimizer
from latebloom.theory.verdict_text import details, sentence
from latebloom.train.config import DemoConfig, TrainConfig
from latebloom.train.data.shards import open_shards
from latebloom.train.experiments import demo as module
from latebloom.train.experiments.demo import demo
from latebloom.train.experiments.job import growing_plan
from tests.helpers import in_this_process

QUIET = Console(quiet=True)
SMALL = DemoConfig(steps=160, batch_tokens=256, tokenizer="bytes")
TRAIN = TrainConfig(evals=2, eval_tokens=2048)
NARROW = ModelConfig(model=module.MODEL, width=32, heads=2, context=32)  # what is asked does not depend on the width
ARMS = {
    "progressive", "fixed", "equal_compute", "cold_start", "small", "small_equal_compute", "depth_equal_compute-2",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_this_process(monkeypatch)
        return out, demo(out, SMALL, model=NARROW, train=TRAIN, console=QUIET)


def test_result_holds_every_arm_and_every_gap_predicted_and_measured(finished):
    out, verdict = finished
    result, plan = json.loads((out / "result.json").read_text()), read_plan(out / "plan.json")
    assert result["losses"].keys() == result["predicted_losses"].keys() == result["flops"].keys() == ARMS
    assert result["gaps"].keys() == ARMS - {"progressive"}
    for name, gap in result["gaps"].items():
        assert gap["measured"] == result["losses"]["progressive"] / result["losses"][name] - 1
        assert gap["predicted"]["low"] <= gap["predicted"]["median"] <= gap["predicted"]["high"]
        assert 0 < gap["pit"] < 1
    assert result["best"] == min(verdict.menu, key=lambda name: result["losses"][name])
    assert result["verdict"] == sentence(verdict)
    assert result["details"] == list(details(verdict))
    assert result["plan_digest"] == plan.digest
    assert result["predicted_verdict"] == plan.predicted.verdict
    assert len(plan.provenance.pilots) == 8
    spent = {name: result["flops"][name] for name in verdict.menu}
    assert spent == pytest.approx(dict.fromkeys(spent, module.BUDGET * fixed_flops(plan)), rel=0.01)


def fixed_flops(plan):
    return plan_flops(controls.fixed_depth(plan, name="fixed")) * SMALL.steps / plan.steps


def test_runs_that_begin_alike_are_branches(finished):
    """The first row that a branch has from its trunk is the trunk's; wall time and all."""
    out, _ = finished
    trunks = {"progressive": "pilots/small-160", "small_equal_compute": "pilots/small-160", "fixed": "pilots/full-40",
              "equal_compute": "runs/fixed"}  # fmt: skip
    for name, trunk in trunks.items():
        rows = [read_record(out / where).select(split="train") for where in (f"runs/{name}", trunk)]
        assert rows[0]["wall_s"][0] == rows[1]["wall_s"][0], name
        assert rows[0]["value"][0] == rows[1]["value"][0], name
    warmup = {record.plan.schedule.warmup_steps for record in map(read_record, out.glob("pilots/*"))}
    assert len(warmup) == 1  # in steps, whatever the horizon


def test_an_interrupted_demo_goes_on_where_it_stopped(finished, monkeypatch):
    out, verdict = finished
    (out / "result.json").unlink()
    monkeypatch.setattr(module, "prepare", lambda *a, **k: pytest.fail("the corpus was made again"))
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")}
    assert demo(out, SMALL, model=NARROW, train=TRAIN, console=QUIET) == verdict
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")} == before


def test_more_seeds_are_added_to_what_is_there(finished, monkeypatch):
    """What decides, and nothing else, is trained again; the first seed's runs stay."""
    out, verdict = finished
    in_this_process(monkeypatch)
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")}
    several = demo(out, SMALL, model=NARROW, train=TRAIN, console=QUIET, seeds=2)
    after = {p: p.stat().st_mtime_ns for p in out.glob("*/*/record.jsonl")}
    assert {p: after[p] for p in before} == before
    assert {p.parent.name for p in after.keys() - before.keys()} == {f"{name}-s1" for name in verdict.menu}
    result = json.loads((out / "result.json").read_text())
    assert result["seeds"] == several.seeds == 2
    for name in verdict.menu:
        runs = {str(seed): read_record(out / "runs" / f"{name}{end}") for seed, end in ((0, ""), (1, "-s1"))}
        assert result["losses_by_seed"][name] == {seed: run.final() for seed, run in runs.items()}
        assert runs["1"].header.seed == 1
    assert verdict.arms["fixed"] == several.arms["fixed"]
    assert "Mean of 2 seeds: 1 -> 4 ends" in result["verdict"]
    assert "means over 2 seeds" in experiment_report(out)


def test_a_budget_that_buys_no_growth_is_refused_before_anything_is_planned(finished):
    out, _ = finished
    config = module.plan_config(SMALL.replace(budget=0.001))
    shards = open_shards(out / "data")
    base = base_plan(NARROW, config, Optimizer(), vocab_size=shards.vocab_size)
    pilots = [read_record(path) for path in out.glob("pilots/*")]
    field = field_of_records(pilots, small_depth=1, full_depth=4, reference=base.schedule.total_area)
    with pytest.raises(InputError, match="budget = 0.001: buys no run that grows|is below the cheapest arm"):
        growing_plan(base, field, config)


def test_a_directory_that_is_not_a_demo_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and not a demo's directory"):
        demo(tmp_path, SMALL, console=QUIET)
    assert (tmp_path / "thesis.tex").exists()
