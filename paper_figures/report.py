"""report.html: one page that says what runs found: a demo, an ablation, a study, one run, foreign curves.

The page opens offline and looks like the explorer: an answer, a table, curves to point at. Everything that it is given
is escaped (Jinja2, autoescape); numbers go in as JSON, and the scripts in it draw them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.paper_figures.curves import Look, look
from latebloom.paper_figures.page import render_page
from latebloom.theory.controls import CONTROLS, control, controls_among
from latebloom.theory.cost import parameters, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.readers import is_record, read_curves
from latebloom.theory.plan import Plan
from latebloom.theory.record import RECORD_FILE, Record, read_record, record_name
from latebloom.theory.words import amount_text, blocks_text

__all__ = ["curves_report", "experiment_report", "run_report", "runs_report", "write_report"]

NUMBERS = ("measured_final_loss",)
SAME_COMPUTE = 0.02  # relative: runs whose FLOPs differ by less spend the same
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777", "#000000")  # Okabe & Ito
DASHES = {"-": "", "--": "6,4", ":": "2,3", "-.": "8,3,2,3"}  # matplotlib's names for SVG's
MOST_POINTS = 400  # of a curve on the page
NO_BREAK = "\u00a0"
STUDY_CAPTION = (
    " A step of the small depth is worth ρ steps of the depth it grows to and costs n of one: growing beats that"
    " depth of equal compute where ρ > n."
)
PILOT = Look("pilots", "#999999")


@dataclass(frozen=True)
class Table:
    """Rows of text, the last ``numbers`` columns of them to the right.

    Attributes:
        caption: What stands above it.
        head: Titles of columns; none for pairs of name and value.
        rows: Cells.
        best: Index of the row that stands out.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: int | None = None


def write_report(source: str | Path, *further: str | Path, out: str | Path | None = None) -> Path:
    """Write ``report.html`` for an experiment, a run, a folder of runs, or loss curves of any trainer.

    Args:
        source: Folder of an experiment (result.json), of a run (record.jsonl) or of runs; or a file: record or curves.
        further: More runs, records or files of curves.
        out: Where to write. None: report.html in the folder, or beside the file.

    Raises:
        InputError: if nothing there can be reported, or a file cannot be read.
    """
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    paths = [source, *map(Path, further)]
    if (further or source.is_file()) and all(path.exists() and is_record(path) for path in paths):
        records = _records(paths)
        page = runs_report(records, name="runs") if len(records) > 1 else run_report(*records.values())
    elif further or source.is_file():
        try:
            page = curves_report(read_curves(paths))
        except InputError as error:  # its advice is for commands that take names of columns
            if not error.name.endswith(" column"):
                raise
            fix = "`latebloom import curve` is told columns and schedule, and writes a record to report"
            raise InputError(error.name, error.value, error.rule, fix) from None
    elif (source / "result.json").exists():
        page = experiment_report(source)
    elif (source / RECORD_FILE).exists():
        page = run_report(read_record(source))
    elif runs := [*sorted(source.glob(f"*/{RECORD_FILE}")), *filter(is_record, sorted(source.glob("*.parquet")))]:
        page = runs_report(_records(runs), name=source.name, study=_study_of(source))
    else:
        rule = "holds neither result.json nor record.jsonl"
        raise InputError("run", str(source), rule, "name the directory of a finished experiment or of a run")
    path = folder / "report.html" if out is None else Path(out)
    write_whole(path, page)
    return path


def _records(paths: Sequence[Path]) -> dict[str, Record]:
    """Records by the names of their runs; by their paths where two runs have one name."""
    named = {record_name(path): path for path in paths}
    if len(named) < len(paths):
        named = {str(path): path for path in paths}
    return {name: read_record(path) for name, path in named.items()}


# --- the demo ---------------------------------------------------------------------------------------------------------


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
    curves = [_record_curve(record, look(arm)) for arm, record in records.items()]
    others = [pilot for name, pilot in pilots.items() if name != "small"]
    return _page(
        title="Should this model grow?",
        answer=answer + ("." if more else ""),
        more=more,
        said=f"Said before the runs: {p.verdict}" if p.verdict else "",
        table=_arms_table(records, result),
        told=_texts(result.get("details")),
        curves=[*(_record_curve(pilot, PILOT) | {"faint": True} for pilot in others), *curves],
        predicted=_predicted_curve(progressive),
        plan=plan,
        notes=str(result.get("notes", "")),
        facts=_setting(progressive),
    )


def _texts(value: Any) -> list[str]:
    """What a result calls a list of sentences, as one."""
    return [str(each) for each in value] if isinstance(value, list) else []


def _arms_table(records: dict[str, Record], result: dict[str, Any]) -> Table:
    """Every run, first those of the progressive run's compute, then the others, each lowest loss first."""
    spent = plan_flops(records["progressive"].plan)
    rows: list[tuple[str, ...]] = []
    best_row = None
    by_seed = result.get("losses_by_seed", {})
    finals = {arm: list(by_seed.get(arm, {}).values()) or [run.final()] for arm, run in records.items()}
    for _, _, arm in sorted((not _decides(arm), float(np.mean(finals[arm])), arm) for arm in records):
        plan, gap = records[arm].plan, result.get("gaps", {}).get(arm)
        predicted = result.get("predicted_losses", {}).get(arm)
        best = arm == result.get("best")
        if best:
            best_row = len(rows)
        rows.append(
            (
                f"{look(arm).label}{', lowest' if best else ''}",
                f"{predicted:.3f}" if predicted is not None else "",
                _mean_text(finals[arm]),
                _interval(gap["predicted"]) if gap and "predicted" in gap else "",
                f"{gap['measured']:+.2%}" if gap else "",
                _depths(plan),
                f"{plan.steps:,}",
                f"{amount_text(plan_flops(plan))} ({plan_flops(plan) / spent:.0%})",
            )
        )
    head = (
        "run",
        "loss predicted",
        "loss measured",
        "growing against it: predicted",
        "growing against it: measured",
        "blocks",
        "steps",
        "FLOPs",
    )
    caption = "Final validation loss in nats per token"
    caption += ", predicted before the runs beside measured; 90 % intervals." if any(row[1] for row in rows) else "."
    if any(len(losses) > 1 for losses in finals.values()):
        caption += f" Measured: means over {result.get('seeds')} seeds where ± stands, with their standard error."
        caption += f" Curves are those of seed {records['progressive'].header.seed}."
    told = [i for i in range(len(head)) if any(row[i] for row in rows)]
    shown = tuple(tuple(row[i] for i in told) for row in rows)
    return Table(caption, tuple(head[i] for i in told), shown, best_row)


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


# --- one run, many runs, foreign curves -------------------------------------------------------------------------------


def run_report(record: Record) -> str:
    """The page of one run: its curve beside its plan's prediction.

    Args:
        record: The run.

    Raises:
        InputError: if it holds no validation loss.
    """
    plan, p = record.plan, record.plan.predicted
    step, loss = _curve_of(record)
    grown = plan.tau is not None
    said = "" if p.final_loss is None else f"{p.final_loss:.4f}"
    rows = ((plan.name, _depths(plan), f"{plan.steps:,}", amount_text(plan_flops(plan)), said, f"{loss[-1]:.4f}"),)
    left = plan.steps - int(step[-1])
    ends = (
        f"This run ended at {loss[-1]:.3f} nats per token" if not left else f"At step {step[-1]}: {loss[-1]:.3f} nats"
    )
    return _page(
        title=f"Run {record.header.name}",
        answer=f"{ends}.",
        more=(f"It has {left:,} steps to go. " if left else "")
        + "One run alone has no verdict: latebloom controls plans the runs it needs beside it, latebloom judge "
        "compares them.",
        said=f"Said before the run: {p.verdict}" if p.verdict else "",
        table=Table(
            "Validation loss in nats per token.", ("run", "blocks", "steps", "FLOPs", "predicted", "loss"), rows
        ),
        told=[],
        curves=[_record_curve(record, look("progressive" if grown else "fixed")._replace(label=plan.name))],
        predicted=_predicted_curve(record),
        plan=plan,
        notes="",
        facts=_setting(record),
    )


@dataclass(frozen=True)
class StudyArm:
    """What study.json says of an arm beside its loss.

    Attributes:
        above_best_fixed: Its loss above the best fixed depth of equal compute, nats, the mean over seeds.
        rho: Transfer efficiency; nan where it cannot be said.
        n: Price of a step of the small depth; nan for runs that do not grow once.
    """

    above_best_fixed: float
    rho: float
    n: float


def _study_of(folder: Path) -> dict[str, StudyArm]:
    """The arms of a study by name; none where the folder is not one's."""
    path = folder / "study.json"
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["arm"]: StudyArm(row["above_best_fixed"], row["rho"], row["n"]) for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("study.json", str(path), f"cannot be read ({error})", "run the study again") from None


def runs_report(records: Mapping[str, Record], *, name: str, study: Mapping[str, StudyArm] | None = None) -> str:
    """The page of an ablation, a study or any folder of runs: lowest of each amount of compute, over the seeds.

    Args:
        records: By the names of their folders; ``ARM-sSEED`` are one arm.
        name: Of the folder.
        study: What a study found for its arms, by name.

    Raises:
        InputError: if no run holds a validation loss.
    """
    arms: dict[str, list[Record]] = {}
    for run, record in records.items():
        if len(record.select(split="val")["step"]):
            arms.setdefault(re.sub(r"[-_]s\d+$", "", run), []).append(record)
    if not arms:
        raise InputError("runs", list(records), "hold no validation loss yet", "let them go on")
    loss = {arm: float(np.mean([_curve_of(record)[1][-1] for record in group])) for arm, group in arms.items()}
    flops = {arm: plan_flops(group[0].plan) for arm, group in arms.items()}
    groups = [sorted(group, key=lambda arm: loss[arm]) for group in _of_equal_compute(flops)]
    main = max(groups, key=lambda group: (len(group) > 1 and len(group), -loss[group[0]]))
    rows = []
    for group in groups:
        above = loss[group[0]] if len(group) > 1 else None
        rows += [(arm, *_arm_cells(arms[arm], loss[arm], above), *_study_cells(study, arm)) for arm in group]
    answer, more = _lowest_text(main, loss, flops, arms)
    told = [
        " ".join(_lowest_text(group, loss, flops, arms)) for group in groups if len(group) > 1 and group is not main
    ]
    seeds = max(len(group) for group in arms.values())
    sure = (
        f"{seeds} seeds; ± is the standard error of a mean."
        if seeds > 1
        else "One seed: how much is noise is not known."
    )
    best = [row[0] for row in rows].index(main[0])
    found = ("above the best fixed depth", "ρ", "n") if study else ()
    head = ("run", "blocks", "steps", "tokens a parameter", "FLOPs", "loss", "above the lowest of its compute", *found)
    middle = float(np.median(list(loss.values())))
    many = len(arms) > len(COLORS)
    shown = [
        _record_curve(arms[arm][0], _look_of(arm, i)) | {"faint": many and loss[arm] > middle}
        for i, arm in enumerate(sorted(arms, key=lambda arm: loss[arm]))
    ]
    return _page(
        title=f"{name}: {len(arms)} ways to train",
        answer=answer,
        more=f"{more} {sure}",
        said="",
        table=Table(
            "Final validation loss in nats per token, cheapest runs first. "
            "Tokens a parameter are those of the depth at the end." + (STUDY_CAPTION if study else ""),
            head,
            tuple(rows),
            best,
        ),
        told=told,
        curves=shown,
        predicted=None,
        plan=None,
        notes="",
        facts=_setting(next(iter(arms.values()))[0]),
    )


def _of_equal_compute(flops: dict[str, float]) -> list[list[str]]:
    """Arms that cost the same within 2 % of the cheapest among them."""
    groups: list[list[str]] = []
    for arm in sorted(flops, key=lambda arm: flops[arm]):
        if groups and flops[arm] <= flops[groups[-1][0]] * (1 + SAME_COMPUTE):
            groups[-1].append(arm)
        else:
            groups.append([arm])
    return groups


def _lowest_text(
    order: Sequence[str], loss: dict[str, float], flops: dict[str, float], arms: dict[str, list[Record]]
) -> tuple[str, str]:
    """Of runs of one compute, lowest loss first: what to do, and the best of those that do otherwise."""

    def grows(arm: str) -> bool:
        return arms[arm][0].plan.tau is not None

    lowest = order[0]
    if len(arms) == 1:
        return f"{lowest} ends at {loss[lowest]:.3f}.", "It is the only run here."
    if len(order) == 1:
        answer = f"No two runs cost the same: {lowest} ends lowest, at {loss[lowest]:.3f}, for its own compute."
        return answer, "Which way to train is best for the money needs runs of equal compute (latebloom controls)."
    plan = arms[lowest][0].plan
    what = _depths(plan).replace(" ", NO_BREAK) if grows(lowest) else blocks_text(plan.depth)
    verb = "ends" if grows(lowest) or plan.depth == 1 else "end"
    ends = f"{what} ({lowest}) {verb} lowest, at {loss[lowest]:.3f}."
    of = f"Of {len(order)} ways to spend {amount_text(flops[lowest])} FLOPs"
    beside = {arms[arm][0].plan.depth for arm in order if not grows(arm)}
    lacking = sorted({plan.stages[0].depth, plan.depth} - beside)
    if lacking:  # only of a run that grows
        return ends, f"{of}. To say 'grow' takes {blocks_text(lacking[0])} of this compute, too."
    answer = f"{'Grow' if grows(lowest) else 'Do not grow'}: {ends}"
    others = [arm for arm in order if grows(arm) != grows(lowest)]
    if not others:
        return ends, f"{of} none grows."
    does = "does not grow" if grows(lowest) else "grows"
    return answer, f"{of} the best that {does}, {others[0]}, ends at {loss[others[0]]:.3f}."


def _arm_cells(group: Sequence[Record], mean: float, lowest: float | None) -> tuple[str, ...]:
    plan, finals = group[0].plan, [float(_curve_of(record)[1][-1]) for record in group]
    above = "" if lowest is None else f"{mean - lowest:+.4f}"
    tokens = plan.steps * plan.batch_tokens / parameters(plan.model, plan.depth)
    return (
        _depths(plan),
        f"{plan.steps:,}",
        amount_text(tokens),
        amount_text(plan_flops(plan)),
        _mean_text(finals),
        above,
    )


def _mean_text(losses: Sequence[float]) -> str:
    """The mean of final losses over seeds, with its standard error where there are several."""
    error = f" ± {np.std(losses, ddof=1) / np.sqrt(len(losses)):.4f}" if len(losses) > 1 else ""
    return f"{np.mean(losses):.4f}{error}"


def _study_cells(study: Mapping[str, StudyArm] | None, arm: str) -> tuple[str, ...]:
    if not study:
        return ()
    row = study.get(arm)
    if row is None:
        return ("", "", "")
    efficiency = ("" if np.isnan(value) else f"{value:.2f}" for value in (row.rho, row.n))
    return (f"{row.above_best_fixed:+.4f}", *efficiency)


def _look_of(arm: str, index: int) -> Look:
    known = arm if arm in CONTROLS else ""
    return look(known) if known else Look(arm, COLORS[index % len(COLORS)], ("-", "--", ":")[index // len(COLORS) % 3])


def curves_report(curves: Sequence[LossCurve]) -> str:
    """The page of loss curves of any trainer.

    Args:
        curves: As :func:`latebloom.theory.fitting.readers.read_curves` reads them.

    Raises:
        InputError: if there is none.
    """
    if not curves:
        raise InputError("curves", [], "hold no run", "give a file with columns step and loss")
    order = sorted(curves, key=lambda curve: float(curve.loss[-1]))
    rows = tuple(
        (curve.name, f"{int(curve.step[-1]):,}", f"{np.max(_rates(curve)):.3g}", f"{curve.loss[-1]:.4f}")
        for curve in order
    )
    lowest = order[0]
    shown = [
        {
            "name": curve.name, "color": COLORS[i % len(COLORS)], "dash": "", "tau": None, "faint": False,
            **_thinned(np.asarray(curve.step), np.asarray(curve.loss), None),
        }
        for i, curve in enumerate(order)
    ]  # fmt: skip
    several = len(order) > 1
    return _page(
        title="Loss curves",
        answer=f"{lowest.name} ends lowest, at {lowest.loss[-1]:.3f} nats."
        if several
        else f"{lowest.name} ends at {lowest.loss[-1]:.3f} nats.",
        more="Whether growing would have been better, no curve of one depth can say: "
        "latebloom pilots names the short runs that can.",
        said="",
        table=Table(
            "Last logged losses.", ("run", "steps", "peak learning rate", "loss"), rows, 0 if several else None
        ),
        told=[],
        curves=shown,
        predicted=None,
        plan=None,
        notes="",
        facts=(),
    )


def _rates(curve: LossCurve) -> np.ndarray:
    return curve.schedule.lrs() if hasattr(curve.schedule, "lrs") else np.asarray(curve.schedule)


# --- parts ------------------------------------------------------------------------------------------------------------


def _depths(plan: Plan) -> str:
    return " → ".join(str(stage.depth) for stage in plan.stages)


def _curve_of(record: Record) -> tuple[np.ndarray, np.ndarray]:
    step, loss = record.curve(split="val")
    if not len(step):
        raise InputError("record", record.header.name, "holds no validation loss yet", "let the run go on")
    return step, loss


def _record_curve(record: Record, style: Look) -> dict[str, Any]:
    """A run's validation loss for the page's script."""
    step, loss = _curve_of(record)
    keep = (step > 0) & np.isfinite(loss)
    flops = np.array([plan_flops(record.plan, float(t)) for t in step[keep]])
    line = {
        "name": style.label,
        "color": style.color,
        "dash": DASHES[style.line],
        "tau": record.plan.tau,
        "faint": False,
    }
    return line | _thinned(step[keep], loss[keep], flops)


def _thinned(step: np.ndarray, loss: np.ndarray, flops: np.ndarray | None) -> dict[str, Any]:
    """At most so many points, equally spaced by index, first and last among them."""
    kept = np.unique(np.linspace(0, max(len(step) - 1, 0), min(len(step), MOST_POINTS)).round().astype(int))
    return {
        "step": step[kept].tolist(),
        "loss": loss[kept].tolist(),
        "flops": None if flops is None else flops[kept].tolist(),
    }


def _predicted_curve(record: Record) -> dict[str, Any] | None:
    curve = record.plan.predicted.curve
    return None if curve is None else {"step": list(curve.step), "loss": list(curve.loss)}


def _when(plan: Plan) -> str:
    if plan.tau is None:
        return f"It never grows: {blocks_text(plan.depth)} for {plan.steps:,} steps."
    return f"Grown {_depths(plan)} at step {plan.tau:,} of {plan.steps:,}."


def _reasons(plan: Plan) -> list[str]:
    """The plan's reasons, a line each, without its verdict, which the page shows at its head."""
    text = (plan.provenance.reason or "").replace(plan.predicted.verdict or "\0", "").strip()
    return [line.strip() for line in text.splitlines()]


def _setting(record: Record) -> tuple[tuple[str, str], ...]:
    header, plan = record.header, record.plan
    m = plan.model
    schedule = f"{plan.schedule.__struct_config__.tag}, peak {plan.schedule.peak:.4g}, {plan.optimizer.name}"
    return (
        ("model", f"{m.name}: width {m.width}, {m.heads} heads, vocabulary {m.vocab_size}, context {m.context}"),
        ("batch", f"{plan.batch_tokens:,} tokens per step"),
        ("learning rate", schedule),
        ("seed", str(header.seed)),
        ("plan", header.plan_digest),
        ("data", header.data_digest or ""),
        ("versions", ", ".join(f"{k} {v}" for k, v in header.versions.items())),
        ("commit", header.commit or "not a checkout"),
        ("machine", header.machine or ""),
    )


def _arrows(text: str) -> str:
    """'1 -> 4' as pages show it, in one piece at the end of a line."""
    return text.replace(" -> ", f"{NO_BREAK}→{NO_BREAK}")


def _page(
    *,
    title: str,
    answer: str,
    more: str,
    said: str,
    table: Table,
    told: Sequence[str],
    curves: Sequence[dict[str, Any]],
    predicted: dict[str, Any] | None,
    plan: Plan | None,
    notes: str,
    facts: Sequence[tuple[str, str]],
) -> str:
    law = () if plan is None else tuple((name, f"{value:.5g}") for name, value in plan.provenance.parameters.items())
    values = {
        "title": title,
        "answer": _arrows(answer),
        "more": _arrows(more),
        "said": _arrows(said),
        "table": table,
        "told": [_arrows(sentence) for sentence in told],
        "when": None if plan is None else _when(plan),
        "reasons": [] if plan is None else [_arrows(sentence) for sentence in _reasons(plan)],
        "notes": _arrows(notes),
        "law": law,
        "facts": facts,
        "data": {"curves": list(curves), "predicted": predicted},
    }
    return render_page("report.html", values, scripts=("plot.min.js", "charts.js", "report.js"))
