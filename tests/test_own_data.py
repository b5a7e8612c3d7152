"""The whole job on one's own data by commands alone, and a plan from the curves of a trainer that is not ours."""

import csv
import json

import pytest

from latebloom import cli
from latebloom.theory import read_plan, read_record
from latebloom.theory.pilot_design import PilotDesign
from latebloom.theory.spec import read_spec
from tests import own_loop

MODEL = ["--model", "mine.toml"]
HORIZON = ["--steps", "80", "--batch-tokens", "64", "--peak-lr", "0.02", "--warmup", "0.05"]
QUICK = ["--evals", "4", "--eval-tokens", "256", "--quiet", "--device", "cpu"]


def run(*words):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    return stop.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A clean directory with two text files, a validation file, and a shape."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.toml").write_text("width = 16\nheads = 2\ncontext = 16\ndepth = 2\nvocab_size = 256\n")
    for name, word in {"a": "early to bed", "b": "late to bloom", "val": "late to rise"}.items():
        (folder / f"{name}.txt").write_text(f"{word}, and the {name} of it all.\n" * 900)
    return folder


@pytest.fixture(scope="module")
def data(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        files = ("a.txt", "b.txt", "--val", "val.txt")
        assert run("data", "prepare", *files, "--tokenizer", "bytes", "--out", "data") == 0
    return place / "data"


def test_one_command(place, data, monkeypatch, capsys):
    """The same as one command; finished, it says the same again without training; other settings are refused."""
    monkeypatch.chdir(place)
    job = ["study", "--data", data, *MODEL, *HORIZON, "--out", "st", *QUICK]
    assert run(*job, "--price") == 0
    assert not (place / "st").exists()
    assert run(*job) == 0
    first = json.loads((place / "st" / "result.json").read_text())
    assert (place / "st" / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in place.glob("st/*/*/record.jsonl")}
    assert run(*job) == 0
    again = json.loads((place / "st" / "result.json").read_text())
    assert again | {"seconds": 0} == first | {"seconds": 0}
    assert {path: path.stat().st_mtime_ns for path in place.glob("st/*/*/record.jsonl")} == before
    (place / "st" / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert run(*job, "--seed", "1") == 2
    assert "was begun with other settings: seed 0 there and 1 here" in capsys.readouterr().err
    assert (place / "st" / "notes.txt").exists()


def test_the_parts_are_the_whole(place, data, monkeypatch, capsys):
    """Pilots, plan, controls and verdict by their own commands: the same plans, so that every run is there already."""
    monkeypatch.chdir(place)
    assert run("pilots", *MODEL, *HORIZON, "--out", "designed_here") == 0
    before = {path: path.stat().st_mtime_ns for path in place.glob("st/*/*/record.jsonl")}
    plans = sorted(place.glob("designed_here/*.json"))
    assert run("train-all", *plans, "--data", data, "--out", "st/pilots", *QUICK) == 0
    assert run("plan", *MODEL, *HORIZON, "--grow", "--pilot", *sorted(place.glob("st/pilots/*"))) == 0
    made, whole = read_plan("plan.json"), read_plan("st/plan.json")
    assert (made.stages, made.schedule) == (whole.stages, whole.schedule)
    assert made.predicted.final_loss == pytest.approx(whole.predicted.final_loss)  # of the same pilots in another order
    assert run("controls", "st/plan.json") == 0
    arms = sorted(place.glob("controls/*.json"))
    assert len(arms) == 6
    assert run("train-all", *arms, "--data", data, "--out", "st/runs", *QUICK) == 0
    assert {path: path.stat().st_mtime_ns for path in place.glob("st/*/*/record.jsonl")} == before
    capsys.readouterr()
    assert run("judge", *sorted(place.glob("st/runs/*")), "--out", "judged") == 0
    out = capsys.readouterr().out
    assert "verdict" in out and "left out" not in out
    result, said = (json.loads((place / name / "result.json").read_text()) for name in ("judged", "st"))
    assert result["losses"] == said["losses"] and result["gaps"] == said["gaps"] and result["head"] == said["head"]
    assert "application/json" in (place / "judged" / "report.html").read_text()  # curves that its script draws


def loop_words(plan):
    """A plan as options of the loop."""
    words = ["--depth", plan.stages[0].depth, "--iters", plan.steps]
    words += ["--warmup", plan.schedule.warmup_steps, "--decay", plan.schedule.decay_steps]
    return words if plan.tau is None else [*words, "--grow-at", plan.tau, "--grow-to", plan.depth]


def test_a_plan_from_curves_of_a_loop_that_is_not_ours(place, data, monkeypatch, capsys):
    monkeypatch.chdir(place)
    target = ["--width", "32", "--heads", "2", "--context", "32", "--vocab-size", "256", "--depth", "3",
              "--steps", "160", "--batch-tokens", "256", "--peak-lr", "0.01", "--optimizer", "adamw"]  # fmt: skip
    assert run("pilots", *target, "--warmup", "0.05", "--out", "designed") == 0
    entries = []
    for pilot in read_spec(place / "designed" / "manifest.json", PilotDesign).pilots:
        words = ["data/train.bin", f"{pilot.name}.csv", *map(str, loop_words(pilot.plan))]
        own_loop.main(words)
        stages = pilot.plan.stages
        grown = f"expanded_at = [{pilot.plan.tau}]\n" if pilot.plan.tau else ""
        entries.append(f'[[run]]\ncurve = "{pilot.name}.csv"\ndepths = {[s.depth for s in stages]}\n{grown}')
    (place / "curves.toml").write_text("\n".join(entries))
    capsys.readouterr()
    out = ["--warmup", "0.05", "--out", "from_curves.json"]
    assert run("plan", *target, *out, "--pilot", "curves.toml") == 0
    assert "At " in capsys.readouterr().out
    plan = read_plan(place / "from_curves.json")
    assert plan.predicted.decision is not None and len(plan.provenance.pilots) == 8
    assert min(min(row) for row in plan.predicted.draws.losses) > 0  # the small depth falls off a cliff at step 100
    assert all(row.loss.low > 0 for row in plan.predicted.menu)
    assert run("plan", "lr", "from_curves.json", "--every", "10") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert rows[-1]["step"] == str(plan.steps - 1)
    assert float(rows[1]["lr"]) == pytest.approx(plan.schedule.lrs()[10])


def test_verdict_from_curves(place, monkeypatch, capsys):
    """A plan that grows and its controls, all trained elsewhere: what is left of them is a step, a loss, a length."""
    monkeypatch.chdir(place)
    (place / "elsewhere").mkdir()
    assert run("plan", *MODEL, *HORIZON, "--u-mix", "0.2", "--out", "elsewhere/plan.json") == 0
    assert run("controls", "elsewhere/plan.json", "--out", "elsewhere/controls") == 0
    losses = {"progressive": 2.0, "fixed": 1.98, "equal_compute": 2.2, "cold_start": 2.6, "small": 2.3,
              "small_equal_compute": 2.25}  # fmt: skip
    text = ["width = 16\nheads = 2\ncontext = 16\nvocab_size = 256", "batch_tokens = 64", "peak_lr = 0.02", ""]
    for number, (name, loss) in enumerate(losses.items()):
        plan = read_plan(place / "elsewhere" / "controls" / f"{name}.json")
        schedule = getattr(plan.schedule, "base", plan.schedule)
        (place / "elsewhere" / f"{number}.csv").write_text(f"step,val_loss\n0,5.5\n{plan.steps},{loss}\n")
        text.append(f'[[run]]\ncurve = "{number}.csv"\ndepths = {[stage.depth for stage in plan.stages]}')
        text.append(f"warmup_steps = {schedule.warmup_steps}\ndecay_steps = {schedule.decay_steps}")
        text.append(f"skipped_steps = {getattr(plan.schedule, 'start_step', 0)}")
        text += [f"expanded_at = [{plan.tau}]"] if plan.tau else []
    (place / "elsewhere" / "arms.toml").write_text("\n".join(text))
    capsys.readouterr()
    judge = ["judge", "elsewhere/arms.toml", "--plan", "elsewhere/plan.json", "--out"]
    assert run(*judge, "elsewhere/judged") == 0
    assert "Grow: train 1 block" in capsys.readouterr().out
    result = json.loads((place / "elsewhere" / "judged" / "result.json").read_text())
    assert result["losses"] == losses
    assert result["plan_digest"] == read_plan(place / "elsewhere" / "plan.json").digest
    assert (result["resolution"], result["predicted_final_loss"], result["pilots"]) == (None, None, None)
    assert (place / "elsewhere" / "judged" / "report.html").exists()
    assert run(*judge, "elsewhere/judged") == 2
    assert run("judge", "elsewhere/arms.toml", "--plan", "elsewhere/controls/fixed.json", "--out", "elsewhere/n") == 2
    assert "differs in stages from what 0 did" in capsys.readouterr().err
    (place / "elsewhere" / "arms.toml").write_text("\n".join(text[:4]))
    assert run("judge", "elsewhere/arms.toml", "--out", "elsewhere/more") == 2
    assert "lists no runs" in capsys.readouterr().err


def test_curves_as_records(place, data, monkeypatch, capsys):
    """One curve by options; the file that is written is a record like any other."""
    monkeypatch.chdir(place)
    own_loop.main(["data/train.bin", "one.csv", "--depth", "1", "--iters", "40", "--warmup", "4", "--decay", "8"])
    shape = ["--width", "32", "--heads", "2", "--context", "32", "--vocab-size", "256"]
    told = ["--depths", "1", "--batch-tokens", "256"]
    assert run("import", "one.csv", *shape, *told, "--out", "imported") == 0
    assert "schedule wsd, from 40 logged rates" in capsys.readouterr().out
    schedule = read_record(place / "imported" / "one").plan.schedule
    assert (schedule.warmup_steps, schedule.decay_steps, schedule.peak) == (4, 8, 0.01)
    assert run("import", "one.csv", *shape, *told, "--out", "imported") == 2
    assert "is there already; give another --out, or name the run" in capsys.readouterr().err
