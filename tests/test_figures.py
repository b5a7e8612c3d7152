"""Figures and the report: drawn from records alone, the same bytes twice, and never from less than they need."""

import csv
import html
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner

from latebloom.paper_figures import fronts, registry
from latebloom.paper_figures.commands import figures_command
from latebloom.paper_figures.config import FigureConfig
from latebloom.paper_figures.figures import fig19_recipes
from latebloom.paper_figures.paths import DATA
from latebloom.paper_figures.report import write_report
from latebloom.theory import InputError, cold_start, equal_compute, fixed_depth, read_record
from latebloom.theory.cost import parameters, plan_flops
from latebloom.theory.plan import Curve
from latebloom.theory.record import RecordWriter, write_parquet
from latebloom.theory.schedules import Piecewise
from latebloom.theory.verdict import judge
from latebloom.theory.verdict_text import details, sentence
from tests.helpers import synthetic_record, tiny_plan


def test_there_are_at_least_24_figures_and_tables():
    assert len(registry.FIGURES) >= 24


@pytest.mark.parametrize("name", registry.FIGURES)
def test_every_figure_is_drawn_from_committed_records_with_the_same_bytes_twice(name, tmp_path):
    first, second = (registry.save_figure(name, tmp_path / folder) for folder in ("a", "b"))
    assert [path.suffix for path in first] == [".pdf", ".svg", ".png", ".csv", ".txt", ".json"]
    for a, b in zip(first, second, strict=True):
        assert a.stat().st_size > 60
        assert a.read_bytes() == b.read_bytes()
    caption, sidecar = first[-2].read_text(), json.loads(first[-1].read_text())
    assert re.search(r"\d", caption)
    assert "nan" not in caption
    assert sidecar["caption"] == caption.strip()
    assert sidecar["command"] == f"latebloom figures --only {name}"
    assert all(len(record["sha256"]) == len(record["plan"]) == 64 for record in sidecar["records"].values())
    assert len(first[3].read_text().splitlines()) > 2


def test_a_figure_shows_its_records_values(tmp_path):
    rows = list(csv.DictReader(registry.save_figure("fig01", tmp_path)[3].read_text().splitlines()))
    for name, record in registry.load_records(registry.module("fig01").RECORDS).items():
        series = record.select(split="val")
        assert {round(float(r["y"]), 6) for r in rows} >= {round(float(v), 6) for v in series["value"][-3:]}, name


def test_committed_records_carry_the_digest_of_their_plan():
    for path in DATA.glob("stdlib_*.parquet"):
        record = read_record(path)
        assert record.header.plan_digest == record.plan.digest, path.name


def test_width_format_and_style(tmp_path):
    from PIL import Image

    narrow = FigureConfig(format=("png",), width=4.0, style="dark_background")
    paths = registry.save_figure("fig24", tmp_path, config=narrow)
    assert [path.suffix for path in paths] == [".png", ".csv", ".txt", ".json"]
    picture = Image.open(paths[0]).convert("RGB")
    assert picture.width == 800  # 200 dots an inch
    assert sum(picture.getpixel((2, 2))) < 100, "the style's dark ground"
    half, wide = (
        registry.save_figure("fig24", tmp_path / str(width), config=FigureConfig(format=("pdf", "svg"), width=width))
        for width in (2.6, 10.4)
    )
    assert b"/MediaBox [ 0 0 187.2 108 ]" in half[0].read_bytes()  # of 5.2 x 3 inches
    assert b"/MediaBox [ 0 0 748.8 432 ]" in wide[0].read_bytes()
    root = re.compile(r'<svg .*width="187.2pt" height="108pt" viewBox="0 0 374.4 216"')
    assert root.search(half[1].read_text()), "smaller, with letters and all"
    assert 'viewBox="0 0 748.8 432"' in wide[1].read_text()
    with pytest.raises(InputError, match=r"--style = 'drak': is neither a style sheet"):
        registry.save_figure("fig24", tmp_path, config=FigureConfig(style="drak"))


def test_command_leaves_out_what_has_no_data_and_says_how_to_make_it(tmp_path):
    said = CliRunner().invoke(
        figures_command, ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--format", "svg"]
    )
    assert said.exit_code == 0, said.output
    assert re.search(r"fig19: left out, .*make them: latebloom study ", said.output)
    assert "fig24: " in said.output
    assert not list((tmp_path / "out").glob("fig19*"))
    alone = CliRunner().invoke(figures_command, ["--data", str(tmp_path), "--only", "fig19"])
    assert isinstance(alone.exception, InputError)


def test_a_figure_of_ones_own_runs(tmp_path):
    experiment(tmp_path)
    out = tmp_path / "out"
    said = CliRunner().invoke(figures_command, [str(tmp_path / "runs"), "--out", str(out), "--format", "png"])
    assert said.exit_code == 0, said.output
    caption = (out / "own_runs.txt").read_text()
    assert "5 runs, lowest end first" in caption
    assert "progressive: 1 → 3 blocks" in caption
    rows = list(csv.DictReader((out / "own_runs.csv").read_text().splitlines()))
    assert {row["run"] for row in rows} == {
        "progressive",
        "fixed",
        "equal_compute",
        "cold_start",
        "small_equal_compute",
    }
    assert json.loads((out / "own_runs.json").read_text())["records"]["fixed"]["seed"] == 0
    with pytest.raises(InputError, match="holds no run"):
        registry.save_runs([out], out)


def test_a_study_beside_its_fixed_depths():
    """Planted: each depth falls as 1/C; a grown run ends where the full depth does after (T - tau) + tau/2 steps."""
    plan = tiny_plan()
    finals = {}
    for depth in (1, plan.depth):
        for steps in (100, 200, 300, 400, 800):
            fixed = fixed_depth(plan, name="fixed", depth=depth, schedule=plan.schedule.with_steps(steps))
            finals[f"s/fixed-{depth}-C{steps}-s0"] = fixed, 4e8 * depth / float(plan_flops(fixed))
    grown = plan.replace(schedule=plan.schedule.with_steps(300))
    full, loss = finals[f"s/fixed-{plan.depth}-C300-s0"]
    finals["s/grown-1-3-x0.2-random-stack-C200-s0"] = grown, loss * 300 / (300 - grown.tau / 2)
    records = {
        name: synthetic_record(p, np.array([0, p.steps]), np.array([5.0, end]), name=name)
        for name, (p, end) in finals.items()
    }
    ends = fronts.finished_ends(records)
    (arm,) = fronts.grown_arms(ends)
    assert arm.rho[0] == pytest.approx(0.5, abs=0.1)  # losses between runs are interpolated
    assert arm.group == "s"
    assert arm.price == pytest.approx(plan_flops(finals["s/fixed-1-C100-s0"][0]) / plan_flops(full) * 3)
    front = fronts.fronts_of(ends)["s", 0]
    flops = float(plan_flops(grown))
    assert arm.above_best[0] == pytest.approx(finals["s/grown-1-3-x0.2-random-stack-C200-s0"][1] - front.loss_at(flops))
    assert front.loss_at(flops) <= front.loss_at(flops, plan.depth)
    assert np.isnan(front.loss_at(flops * 100)), "no run is near"
    losses = {depth: curve[1] for depth, curve in front.curves.items()}
    assert front.cost_of(losses[1][1]) == pytest.approx(front.curves[1][0][1])
    assert np.isnan(front.cost_of(max(losses[1][0], losses[3][0]) + 0.1)), "every run is below"
    assert np.isnan(front.cost_of(min(losses[1][-1], losses[3][-1]) - 0.1)), "no run is as low"


def test_ways_of_growing_are_told_apart():
    plan = tiny_plan()
    first, last = plan.stages

    def way(plan, **changed):
        return fronts.way_of_growing(plan.replace(stages=(first, last.replace(**changed))))

    told = [
        way(plan), way(plan, init="copy"), way(plan, optimizer_state="reset"), way(plan, optimizer_state="keep_warmed"),
        way(plan, new_rate=2.0), way(plan.replace(schedule=Piecewise(at=(0, plan.steps), rate=(0.1, 0.0)))),
    ]  # fmt: skip
    assert len(set(told)) == len(told), told
    assert told[4] == "1 → 3 at 60 %, random, new blocks at 2 x the rate"
    tied = first.replace(start_step=20, replayed_to=3)
    assert fronts.way_of_growing(plan.replace(stages=(first, tied, last))) == "1 → 3 tied → 3 at 20 %, 60 %, random"


def test_the_league_is_of_the_cell_in_which_most_ways_have_seeds():
    plan, records = tiny_plan(), {}

    def add(name, run, loss, seed):
        end = np.array([0, run.steps])
        records[f"{name}-s{seed}"] = synthetic_record(run, end, np.array([5.0, loss]), name=name, seed=seed)

    for study, seeds in (("a", (0,)), ("b", (0, 1))):
        for seed in seeds:
            for depth, steps, loss in ((1, 50, 2.5), (1, 900, 2.0), (3, 50, 2.6), (3, 900, 2.0)):
                fixed = fixed_depth(plan, name="fixed", depth=depth, schedule=plan.schedule.with_steps(steps))
                add(f"{study}/fixed-{depth}-C{steps}", fixed, loss, seed)
            first, last = plan.stages
            grown = plan.replace(stages=(first, last.replace(new_rate=2.0)))  # no plan of the full depth alone has that
            add(f"{study}/grown-C100", grown, 2.7 + 0.1 * seed, seed)
    ways = fig19_recipes.prepare(records)
    assert [way.cell for way in ways] == ["b C100", "a C100"]
    best = fronts.fronts_of(fronts.finished_ends(records))["b", 0].loss_at(float(plan_flops(plan)))
    assert ways[0].above == pytest.approx([100 * (2.7 / best - 1), 100 * (2.8 / best - 1)])
    assert ways[0].half_interval == pytest.approx(6.314 * np.ptp(ways[0].above) / 2, rel=1e-3)  # Student's t of n = 2


def test_a_missing_record_is_named_and_nothing_is_drawn(tmp_path):
    with pytest.raises(InputError, match=r"stdlib_fixed.parquet.*is a record that this figure needs"):
        registry.save_figure("fig01", tmp_path / "out", folder=tmp_path)
    assert not (tmp_path / "out").exists()


def experiment(folder, further=(), tau=60, **result):
    """A finished experiment's directory, from losses that are given; ``further`` controls end at 2.7."""
    plan = tiny_plan(tau=tau).replace(name="progressive")
    predicted = plan.predicted.replace(curve=Curve(step=(10, 60, 100), loss=(4.0, 3.0, 2.5)))
    plan = plan.replace(predicted=predicted)
    arms = {
        "progressive": plan,
        "fixed": fixed_depth(plan, name="fixed"),
        "equal_compute": equal_compute(plan, name="equal_compute"),
        "cold_start": cold_start(plan, name="cold_start"),
        "small": fixed_depth(plan, name="small", depth=1),
        "small_equal_compute": equal_compute(plan, name="small_equal_compute", depth=1),
    }
    arms |= {control.name: control.plan(plan) for control in further}
    records = {}
    finals = (2.5, 2.4, 2.6, 3.2, 2.8, 2.45, *(2.7 for _ in further))
    for (name, arm), final in zip(arms.items(), finals, strict=True):
        step = np.unique(np.linspace(0, arm.steps, 12).astype(int))
        record = synthetic_record(arm, step, final + 2 * (1 - step / arm.steps), name=name)
        records[name] = record
        kind = "pilots" if name == "small" else "runs"
        with RecordWriter(folder / kind / name / "record.jsonl", record.header) as writer:
            columns = {key: column.tolist() for key, column in record.columns.items()}
            writer.write([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    verdict = judge(records)
    content = {
        "verdict": sentence(verdict),
        "details": details(verdict),
        "best": verdict.best,
        "predicted_losses": {"progressive": 2.51, "small_equal_compute": 2.44},
        "gaps": {"small_equal_compute": {"predicted": {"low": 0.01, "median": 0.03, "high": 0.05}, "measured": 0.02}},
        "saving_same_horizon": verdict.saving_same_horizon,
        "gap_same_horizon": verdict.gap_same_horizon,
        "saving_equal_compute": verdict.saving_equal_compute,
        "gap_equal_compute": verdict.gap_equal_compute,
        "retention": verdict.retention,
        "prediction_error": 0.01,
        "predicted_final_loss": 2.5,
        "measured_final_loss": 2.5,
    }
    (folder / "result.json").write_text(json.dumps(content | result))
    return verdict


def on_page(text):
    return text.replace(" -> ", "\u00a0→\u00a0")


def test_report_is_one_page_that_opens_offline(tmp_path):
    verdict = experiment(tmp_path)
    page = write_report(tmp_path).read_text()
    head, _, rest = sentence(verdict).partition(". ")
    assert f"<strong>{head}.</strong> {html.escape(on_page(rest))}" in page
    assert head == "Do not grow: train 1 block longer"
    assert page.count('class="chart"') == 2
    best = re.findall(r'<tr class="best">(.*?)</tr>', page)
    assert len(best) == 1
    for cell in ("never grown, equal compute, lowest", "2.440", "2.4500", "+3.00% [+1.0%, +5.0%]", "+2.00%"):
        assert f"<td>{cell}</td>" in best[0]
    for told in details(verdict):
        assert f"<li>{html.escape(on_page(told))}</li>" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:", page)
    assert not re.search(r"<script[^>]+src", page)
    for label in ("fixed depth, equal compute", "cold start", "never grown", "progressive"):
        assert label in page


def test_the_report_of_a_study_says_what_the_study_found(tmp_path):
    plan = tiny_plan()
    arms = {"fixed-1-C60": fixed_depth(plan, name="fixed", depth=1), "grown-1-3-C60": plan}
    rows = []
    for arm, its in arms.items():
        record = synthetic_record(its, np.array([0, its.steps]), np.array([5.0, 2.5]), name=arm)
        with RecordWriter(tmp_path / f"{arm}-s0" / "record.jsonl", record.header) as writer:
            columns = {key: column.tolist() for key, column in record.columns.items()}
            writer.write([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        grows = its.tau is not None
        rows.append({"arm": arm, "above_best_fixed": 0.0125, "rho": 0.61 if grows else math.nan, "n": 0.4375})
    (tmp_path / "study.json").write_text(json.dumps(rows))
    page = write_report(tmp_path).read_text()
    tokens = plan.steps * plan.batch_tokens / parameters(plan.model, plan.depth)
    for cell in ("+0.0125", "0.61", "0.44", f"{tokens:.3g}"):
        assert f"<td>{cell}</td>" in page, cell
    assert "where ρ &gt; n" in page
    (tmp_path / "study.json").write_text("[{}]")
    with pytest.raises(InputError, match=r"study.json.*cannot be read.*run the study again"):
        write_report(tmp_path)


def test_report_escapes_what_it_is_given(tmp_path):
    experiment(tmp_path, verdict="<b>5 & 6</b>")
    page = write_report(tmp_path).read_text()
    assert "&lt;b&gt;5 &amp; 6&lt;/b&gt;" in page
    assert "<b>5" not in page


def test_a_name_cannot_leave_the_data_of_a_report(tmp_path):
    bad = "</script><script>alert(1)</script>"
    head = f"step,{bad} - loss,{bad} - lr"  # as W&B exports it
    (tmp_path / "curves.csv").write_text(f"{head}\n1,3.0,0.1\n2,2.5,0.1\n3,2.4,0.1\n")
    page = write_report(tmp_path / "curves.csv").read_text()
    assert "alert(1)" in page
    assert bad not in page
    (tmp_path / "bare.csv").write_text("step,loss\n10,5\n20,4\n")
    with pytest.raises(InputError, match="bare: lr column = None: .*; `latebloom import curve` is told columns"):
        write_report(tmp_path / "bare.csv")


def test_a_report_of_an_older_result_lacks_only_what_was_not_written(tmp_path):
    experiment(tmp_path)
    path = tmp_path / "result.json"
    newer = ("details", "best", "predicted_losses", "gaps")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in newer}))
    page = write_report(tmp_path).read_text()
    assert "<td>never grown, equal compute</td>" in page
    assert 'class="best"' not in page


def test_figure_1_and_its_caption_name_the_lowest_arm_of_equal_compute():
    made = registry.module("fig01")
    records = registry.load_records(made.RECORDS)
    assert ": 1 block 4.516, 2 blocks 4.589, 1 → 4 blocks 4.601, 4 blocks 4.760;" in made.caption(records)
    records["demo_scale/s0_small-942"] = records["stdlib_zero_layer"]  # not of that compute
    assert made.caption(records).count("growing is not worth it") == 1
    assert ": 2 blocks 4.589" in made.caption(records)


def test_figure_4_predicts_from_pilots_alone():
    made = registry.module("fig04")
    records = registry.load_records(made.RECORDS)
    gaps = made.prepare(records)
    changed = dict(records)
    changed["demo_scale/s0_full-800"] = records["demo_scale/s1_full-800"]  # what is scored, not what is fitted
    again = made.prepare(changed)
    assert [g[:4] for g in gaps] == [g[:4] for g in again]
    assert [g.pit for g in gaps] != [g.pit for g in again]


def test_report_of_a_folder_of_runs_names_the_lowest_of_equal_compute(tmp_path):
    plan = tiny_plan(steps=100, tau=60)
    arms = {
        "grown-1-copy": (plan, 2.5),
        "equal_compute": (equal_compute(plan, name="e"), 2.4),
        "fixed": (fixed_depth(plan, name="f"), 2.3),
    }
    for name, (arm, final) in arms.items():
        for seed in (0, 1):
            step = np.array([0, arm.steps // 2, arm.steps])
            record = synthetic_record(arm, step, final + 0.1 * seed + 2 * (1 - step / arm.steps), name=name, seed=seed)
            with RecordWriter(tmp_path / f"{name}-s{seed}" / "record.jsonl", record.header) as writer:
                columns = {key: column.tolist() for key, column in record.columns.items()}
                writer.write([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    page = write_report(tmp_path).read_text()
    assert "<strong>Do not grow: 3 blocks (equal_compute) end lowest, at 2.450.</strong> Of 2 ways to spend" in page
    assert "the best that grows, grown-1-copy, ends at 2.550. 2 seeds;" in page
    assert "<td>2.4500 ± 0.0500</td>" in page


def test_report_of_several_records_wherever_they_lie(tmp_path):
    """Run directories and record files, by name or as a folder of files; the lowest of all where none cost the same."""
    experiment(tmp_path)
    runs, files = tmp_path / "runs", tmp_path / "files"
    files.mkdir()
    for name in ("progressive", "equal_compute"):
        write_parquet(read_record(runs / name), files / f"{name}.parquet")
    same = "<strong>1\u00a0→\u00a03 (progressive) ends lowest, at 2.500.</strong> Of 2 ways to spend"
    assert same in write_report(runs / "progressive", files / "equal_compute.parquet", out=tmp_path / "a").read_text()
    assert same in write_report(files).read_text()
    assert "To say &#39;grow&#39; takes 1 block of this compute, too." in write_report(files).read_text()
    page = write_report(runs / "fixed", runs / "cold_start", out=tmp_path / "b").read_text()
    assert "<strong>No two runs cost the same: fixed ends lowest, at 2.400, for its own compute.</strong>" in page
    dotted = ("grown-x0.45", "grown-x0.8")  # as studies call their runs
    for name, other in zip(("fixed", "cold_start"), dotted, strict=True):
        (runs / name).rename(runs / other)
    page = write_report(*(runs / name for name in dotted), out=tmp_path / "c").read_text()
    assert all(name in page for name in dotted)
    assert {f"runs/{name}" for name in dotted} <= set(registry.load_records(["runs/*"], tmp_path))


def test_report_of_a_single_run_says_that_it_has_no_verdict(tmp_path):
    experiment(tmp_path)
    page = write_report(tmp_path / "runs" / "progressive").read_text()
    assert "One run alone has no verdict" in page


def test_records_survive_parquet(tmp_path):
    experiment(tmp_path)
    record = read_record(tmp_path / "runs" / "fixed")
    write_parquet(record, tmp_path / "fixed.parquet")
    back = read_record(tmp_path / "fixed.parquet")
    assert back.header == record.header
    assert all(np.array_equal(back.columns[k], record.columns[k]) for k in record.columns)
