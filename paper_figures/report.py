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

from latebloom.paper_figures.curves import look, loss_limits, mark_expansion, plot_predicted, plot_run
from latebloom.paper_figures.paths import STYLE
from latebloom.theory.controls import controls_among
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.theory.record import RECORD_FILE, Record, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["experiment_report", "run_report", "write_report"]

NUMBERS = (
    "gap_same_horizon", "gap_equal_compute", "retention", "prediction_error",
    "predicted_final_loss", "measured_final_loss",
)  # fmt: skip


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
    path.write_text(page, encoding="utf-8")
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
    finished = runs | pilots  # never growing is a pilot too
    records = {each.name: finished[each.name] for each in controls_among(finished)} | {"progressive": progressive}
    plan, p = progressive.plan, progressive.plan.predicted
    interval = f"{p.tau_interval.low:.0f} to {p.tau_interval.high:.0f}" if p.tau_interval else "no interval"
    facts = [
        ("Same horizon", _percent(result["saving_same_horizon"]), "of the fixed-depth FLOPs saved",
         f"at a loss {_signed(result['gap_same_horizon'])}"),
        ("Equal compute", _percent(result["saving_equal_compute"]),
         "of the FLOPs saved that full depth alone needs for the same loss",
         f"loss {_signed(result['gap_equal_compute'])} against equal compute"),
        ("Retention", f"{result['retention']:+.3f} nats", "the small phase is worth",
         "against a cold start at the expansion"),
        ("Prediction", f"{result['prediction_error']:.2%}", "off the measured final loss",
         f"{result['predicted_final_loss']:.3f} predicted, {result['measured_final_loss']:.3f} measured"),
    ]  # fmt: skip
    rows = []
    for arm, run in records.items():
        depths = " → ".join(str(stage.depth) for stage in run.plan.stages)
        loss = run.final()
        series = run.select(split="val")
        rows.append(
            (look(arm).label, depths, f"{run.plan.steps:,}", f"{plan_flops(run.plan):.3g}", f"{loss:.4f}",
             f"{loss / progressive.final() - 1:+.2%}" if arm != "progressive" else "", f"{series['wall_s'][-1]:.0f} s")
        )  # fmt: skip
    return _page(
        title="Should this model grow?",
        verdict=result["verdict"],
        expected=p.verdict or "",
        facts=_facts(facts),
        runs=_table(("run", "depth", "steps", "FLOPs", "final loss", "against progressive", "training time"), rows),
        loss_figure=_svg(_loss_figure(records)),
        prediction_figure=_svg(_prediction_figure(progressive, list(pilots.values()))),
        tau=f"step {plan.tau} of {plan.steps}",
        tau_text=(
            f"The landscape fitted to {len(pilots)} pilots puts the mixing area at "
            f"{p.mixing_area:.4g} (learning rate × steps), so tau* = {p.tau_star:.0f}, 90 % interval {interval}."
            if p.mixing_area and p.tau_star
            else "The plan was placed by a compute budget."
        ),
        reason=_reason(plan),
        law=_table(("landscape parameter", "value"), [(k, f"{v:.5g}") for k, v in plan.provenance.parameters.items()]),
        setting=_setting(progressive),
        notes=result.get("notes", ""),
    )


def _result(path: Path) -> dict[str, Any]:
    """What ``latebloom demo`` found."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
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
    if not len(series["step"]):
        raise InputError("record", record.header.name, "holds no validation loss yet", "let the run go on")
    rows = [(plan.name, " → ".join(str(s.depth) for s in plan.stages), f"{plan.steps:,}", f"{plan_flops(plan):.3g}",
             f"{series['value'][-1]:.4f} at step {series['step'][-1]}")]  # fmt: skip
    return _page(
        title=f"Run {record.header.name}",
        verdict="One run alone has no verdict: it needs the three controls (latebloom demo shows them).",
        expected=plan.predicted.verdict or "",
        facts="",
        runs=_table(("run", "depth", "steps", "FLOPs", "loss"), rows),
        loss_figure=_svg(_loss_figure({"progressive" if plan.tau else "fixed": record})),
        prediction_figure=_svg(_prediction_figure(record, [])),
        tau=f"step {plan.tau} of {plan.steps}" if plan.tau else "never",
        tau_text="",
        reason=_reason(plan),
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
        axes.set(xlabel="optimizer steps", ylabel="validation loss (nats/token)", title="predicted against measured")
        axes.set_xscale("log")
        if len(visible) > 1:
            axes.set_xlim(0.8 * visible[0], 1.1 * visible[-1])
        axes.legend(loc="upper right")
    return figure


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


def _reason(plan: Plan) -> str:
    """The plan's reason without its verdict, which the page shows at its head."""
    return (plan.provenance.reason or "").replace(plan.predicted.verdict or "\0", "").strip()


def _percent(value: float | None) -> str:
    return "beyond reach" if value is None else f"{value:+.1%}"


def _signed(value: float) -> str:
    return f"{abs(value):.2%} {'higher' if value >= 0 else 'lower'}"


def _facts(facts: list[tuple[str, str, str, str]]) -> str:
    e = html.escape
    return "".join(
        f'<div class="fact"><h3>{e(name)}</h3><p class="big">{e(value)}</p><p>{e(text)}<br>{e(more)}</p></div>'
        for name, value, text, more in facts
    )


def _table(head_row: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, head: bool = True) -> str:
    e = html.escape
    top = "<tr>" + "".join(f"<th>{e(cell)}</th>" for cell in head_row) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{e(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>{top}{body}</table></div>'


def _page(**parts: str) -> str:
    raw = {"facts", "runs", "loss_figure", "prediction_figure", "law", "setting"}
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
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 1rem; margin: 1.2rem 0; }
.fact { border-top: 2px solid #222; padding-top: .3rem; } .fact h3 { font-size: .8rem; margin: 0; color: #555; }
.fact p { margin: 0; font-size: .82rem; color: #444; } .fact p.big { font-size: 1.5rem; color: #222; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
.wide { overflow-x: auto; } figure { margin: .5rem 0; } figcaption { font-size: .85rem; color: #555; }
details { margin-top: 1.2rem; } summary { cursor: pointer; color: #555; } td { overflow-wrap: anywhere; }
svg { height: auto; }
</style></head><body>
<h1>$title</h1>
<p class="verdict">$verdict</p>
<p class="expected">Said before the run: $expected</p>
<div class="facts">$facts</div>
<h2>The runs</h2>
$runs
<figure>$loss_figure<figcaption>Validation loss of every run; dots mark final values.</figcaption></figure>
<h2>When to grow: $tau</h2>
<p>$tau_text</p>
<figure>$prediction_figure<figcaption>The curve in the plan was written before this run began.</figcaption></figure>
<p>$reason</p>
<p>$notes</p>
<details><summary>The landscape</summary>$law</details>
<details><summary>The setting</summary>$setting</details>
</body></html>
""")
