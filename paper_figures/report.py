"""report.html: one self-contained page that says what an experiment found, drawn from its Records.

The page opens offline: figures are inline SVG, the style is in the page, nothing is fetched.
"""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from latebloom.paper_figures.curves import look, loss_limits, mark_expansion, plot_predicted, plot_run
from latebloom.paper_figures.paths import STYLE
from latebloom.theory.controls import control, controls_among
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.plan import Plan
from latebloom.theory.record import RECORD_FILE, Record, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["experiment_report", "run_report", "write_report"]

NUMBERS = ("gap_same_horizon", "measured_final_loss")


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` for an experiment (a folder with result.json) or a single run (with record.jsonl).

    Args:
        folder: Of the experiment or the run.

    Raises:
        InputError: if it holds neither file.
    """
    folder = Path(folder)
    if (folder / "result.json").exists():
        page = experiment_report(folder)
    elif (folder / RECORD_FILE).exists():
        page = run_report(read_record(folder))
    else:
        rule = "holds neither result.json nor record.jsonl"
        raise InputError("run", str(folder), rule, "name the directory of a finished experiment or of a run")
    path = folder / "report.html"
    write_whole(path, page)
    return path


def experiment_report(folder: Path) -> str:
    """The page of a progressive run with the controls that were run.

    Args:
        folder: Of the experiment.

    Raises:
        InputError: if its result cannot be read, or the progressive run is missing.
    """
    result = _result(folder / "result.json")
    pilots = {path.name: read_record(path) for path in sorted((folder / "pilots").iterdir())}
    runs = {path.name: read_record(path) for path in sorted((folder / "runs").iterdir())}
    if "progressive" not in runs:
        raise InputError("runs", list(runs), "lack 'progressive'", "go on with `latebloom demo`")
    progressive = runs["progressive"]
    finished = runs | {name: run for name, run in pilots.items() if name == "small"}  # a pilot in older experiments
    records = {each.name: finished[each.name] for each in controls_among(finished)} | {"progressive": progressive}
    plan, p = progressive.plan, progressive.plan.predicted
    answer, _, more = result["verdict"].partition(". ")
    return _page(
        title="Should this model grow?",
        verdict=answer + ("." if more else ""),
        sure=more,
        expected=f"Said before the run: {p.verdict}" if p.verdict else "",
        details=_list(_texts(result.get("details"))),
        runs=_runs_table(records, result),
        loss_figure=_svg(_loss_figure(records)),
        prediction_figure=_svg(_prediction_figure(progressive, list(pilots.values()))),
        prediction_caption=_prediction_caption(plan),
        tau=f"step {plan.tau} of {plan.steps}",
        reason=_reasons(plan),
        law=_table(("landscape parameter", "value"), [(k, f"{v:.5g}") for k, v in plan.provenance.parameters.items()]),
        setting=_setting(progressive),
        notes=str(result.get("notes", "")),
    )


def _texts(value: Any) -> list[str]:
    """What a result calls a list of sentences, as one."""
    return [str(each) for each in value] if isinstance(value, list) else []


def _runs_table(records: dict[str, Record], result: dict[str, Any]) -> str:
    """Every run, first those of the progressive run's compute, then the others, each lowest loss first."""
    spent = plan_flops(records["progressive"].plan)
    rows, marked = [], []
    for _, _, arm in sorted((not _decides(arm), run.final(), arm) for arm, run in records.items()):
        plan, gap = records[arm].plan, result.get("gaps", {}).get(arm)
        predicted = result.get("predicted_losses", {}).get(arm)
        best = arm == result.get("best")
        marked.append(best)
        rows.append(
            (
                f"{look(arm).label}{', lowest' if best else ''}",
                " → ".join(str(stage.depth) for stage in plan.stages),
                f"{plan.steps:,}",
                f"{plan_flops(plan):.3g} ({plan_flops(plan) / spent:.0%})",
                f"{predicted:.3f}" if predicted is not None else "",
                f"{records[arm].final():.4f}",
                _interval(gap["predicted"]) if gap and "predicted" in gap else "",
                f"{gap['measured']:+.2%}" if gap else "",
            )
        )
    head = (
        "run",
        "blocks",
        "steps",
        "FLOPs",
        "loss predicted",
        "measured",
        "growing against it: predicted",
        "measured",
    )
    return _table(head, rows, marked=marked)


def _decides(arm: str) -> bool:
    """Whether the run spends what the progressive run does."""
    return arm == "progressive" or control(arm).at_equal_compute


def _interval(gap: dict[str, float]) -> str:
    return f"{gap['median']:+.2%} [{gap['low']:+.1%}, {gap['high']:+.1%}]"


def _result(path: Path) -> dict[str, Any]:
    """What ``latebloom demo`` found."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        rule = f"is not JSON ({error})"
        raise InputError("result", str(path), rule, "make it anew with `latebloom demo`") from None
    numbers = [
        name for name in NUMBERS if not isinstance(result, dict) or not isinstance(result.get(name), int | float)
    ]
    if numbers:
        raise InputError("result", str(path), f"has no number {numbers[0]!r}", "make it anew with `latebloom demo`")
    return result | {"verdict": str(result.get("verdict", ""))}


def run_report(record: Record) -> str:
    """The page of one run: its curve beside its plan's prediction.

    Args:
        record: The run.

    Raises:
        InputError: if it holds no validation loss.
    """
    plan = record.plan
    series = record.select(split="val")
    if not np.isfinite(series["value"]).any():
        raise InputError("record", record.header.name, "holds no validation loss yet", "let the run go on")
    rows = [(plan.name, " → ".join(str(s.depth) for s in plan.stages), f"{plan.steps:,}", f"{plan_flops(plan):.3g}",
             f"{series['value'][-1]:.4f} at step {series['step'][-1]}")]  # fmt: skip
    return _page(
        title=f"Run {record.header.name}",
        verdict="One run alone has no verdict: it needs its controls (latebloom demo shows them).",
        sure="",
        expected=f"Said before the run: {plan.predicted.verdict}" if plan.predicted.verdict else "",
        details="",
        runs=_table(("run", "depth", "steps", "FLOPs", "loss"), rows),
        loss_figure=_svg(_loss_figure({"progressive" if plan.tau else "fixed": record})),
        prediction_figure=_svg(_prediction_figure(record, [])),
        prediction_caption=_prediction_caption(plan),
        tau=f"step {plan.tau} of {plan.steps}" if plan.tau else "never",
        reason=_reasons(plan),
        law="",
        setting=_setting(record),
        notes="",
    )


def _loss_figure(records: dict[str, Record]) -> Figure:
    import matplotlib.pyplot as plt

    with plt.style.context(STYLE):
        figure, (steps, compute) = plt.subplots(1, 2, sharey=True, figsize=(8.2, 3.2))
        for arm, record in records.items():
            plot_run(steps, record, look(arm), against="step")
            plot_run(compute, record, look(arm), against="flops")
        for record in records.values():
            if record.plan.tau:
                mark_expansion(steps, record.plan.tau, f"grow {record.plan.stages[0].depth} → {record.plan.depth}")
                mark_expansion(compute, plan_flops(record.plan, record.plan.tau), "")
        loss_limits(steps, list(records.values()))
        steps.set(xlabel="optimizer steps", ylabel="validation loss (nats/token)", title="against steps")
        compute.set(xlabel="training FLOPs", title="against compute")
        compute.legend(loc="upper right")
    return figure


def _prediction_figure(record: Record, pilots: list[Record]) -> Figure:
    import matplotlib.pyplot as plt

    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(8.2, 3.0))
        for i, pilot in enumerate(pilots):
            series = pilot.select(split="val")
            keep = series["step"] > 0
            label = "pilots" if i == 0 else "_pilot"
            axes.plot(series["step"][keep], series["value"][keep], color="#bbbbbb", linewidth=0.9, label=label)
        plot_predicted(axes, record, against="step")
        plot_run(axes, record, look("progressive")._replace(label="measured"), against="step")
        if record.plan.tau:
            mark_expansion(axes, record.plan.tau, f"tau = {record.plan.tau}")
        loss_limits(axes, [record])
        series = record.select(split="val")
        visible = series["step"][series["value"] < axes.get_ylim()[1]]
        title = "predicted against measured" if record.plan.predicted.curve else "the run and its pilots"
        axes.set(xlabel="optimizer steps", ylabel="validation loss (nats/token)", title=title)
        axes.set_xscale("log")
        if len(visible) > 1:
            axes.set_xlim(0.8 * visible[0], 1.1 * visible[-1])
        axes.legend(loc="upper right")
    return figure


def _prediction_caption(plan: Plan) -> str:
    if plan.predicted.curve:
        return "The curve in the plan was written before this run began."
    return "The plan predicts where runs end, not how they get there: what it said stands in the table above."


def _svg(figure: Figure) -> str:
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    with plt.style.context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"', r'<svg \1width="100%"', re.sub(r'height="[^"]*pt"', "", text, count=1), count=1
    )


def _setting(record: Record) -> str:
    header, plan = record.header, record.plan
    m = plan.model
    rows = [
        ("model", f"{m.name}: width {m.width}, {m.heads} heads, vocabulary {m.vocab_size}, context {m.context}"),
        ("batch", f"{plan.batch_tokens:,} tokens per step"),
        (
            "learning rate",
            f"{plan.schedule.__struct_config__.tag}, peak {plan.schedule.peak:.4g}, {plan.optimizer.name}",
        ),
        ("seed", str(header.seed)),
        ("plan", header.plan_digest),
        ("data", header.data_digest or ""),
        ("versions", ", ".join(f"{k} {v}" for k, v in header.versions.items())),
        ("commit", header.commit or "not a checkout"),
        ("machine", header.machine or ""),
    ]
    return _table(("", ""), rows, head=False)


def _reasons(plan: Plan) -> str:
    """The plan's reasons, a line each, without its verdict, which the page shows at its head."""
    return _list((plan.provenance.reason or "").replace(plan.predicted.verdict or "\0", "").strip().splitlines())


def _list(sentences: Sequence[str]) -> str:
    """A bullet a sentence, none for none."""
    items = "".join(f"<li>{html.escape(sentence.strip())}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _table(
    head_row: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, head: bool = True, marked: Sequence[bool] = ()
) -> str:
    """An HTML table; rows that are ``marked`` stand out."""
    e = html.escape
    top = "<tr>" + "".join(f"<th>{e(cell)}</th>" for cell in head_row) + "</tr>" if head else ""
    starts = ['<tr class="best">' if any(marked[i : i + 1]) else "<tr>" for i in range(len(rows))]
    cells = ["".join(f"<td>{e(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"{start}{row}</tr>" for start, row in zip(starts, cells, strict=True))
    return f'<div class="wide"><table>{top}{body}</table></div>'


def _page(**parts: str) -> str:
    raw = {"details", "reason", "runs", "loss_figure", "prediction_figure", "law", "setting"}
    return PAGE.substitute({k: v if k in raw else html.escape(v) for k, v in parts.items()})


PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latebloom: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 900px; margin: 2rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin: 0 0 .4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #D55E00; padding: .5rem 1rem; background: #faf6f2; }
.expected { color: #555; }
.verdict strong { display: block; font-size: 1.4rem; }
tr.best td { font-weight: 600; background: #faf6f2; } li { margin: .2rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
.wide { overflow-x: auto; } figure { margin: .5rem 0; } figcaption { font-size: .85rem; color: #555; }
details { margin-top: 1.2rem; } summary { cursor: pointer; color: #555; } td { overflow-wrap: break-word; }
svg { height: auto; }
</style></head><body>
<h1>$title</h1>
<p class="verdict"><strong>$verdict</strong> $sure</p>
<p class="expected">$expected</p>
<h2>The runs</h2>
$runs
$details
<figure>$loss_figure<figcaption>Validation loss of every run; dots mark final values.</figcaption></figure>
<h2>When to grow: $tau</h2>
<figure>$prediction_figure<figcaption>$prediction_caption</figcaption></figure>
$reason
<p>$notes</p>
<details><summary>The landscape</summary>$law</details>
<details><summary>The setting</summary>$setting</details>
</body></html>
""")
