"""How plans, schedules, records and verdicts look in a notebook: HTML tables and matplotlib axes.

Text that came from a file is escaped, in HTML as in matplotlib, where a dollar sign would begin a formula. matplotlib
is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record
    from latebloom.theory.schedules import Schedule
    from latebloom.theory.verdict import Verdict

__all__ = [
    "plan_html",
    "plot_plan",
    "plot_record",
    "plot_schedule",
    "plot_verdict",
    "record_html",
    "schedule_html",
    "table_html",
    "verdict_html",
]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # Okabe-Ito
CELL = "text-align:left;white-space:pre-line"  # a plan's reasons are a line each
LONGEST_NAME = 60  # characters of a name above a plot


def table_html(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; every text is escaped.

    Args:
        caption: Stands above it.
        head: Names of the columns; none for a table without a head.
        rows: Cells, as many a row as there are columns. The first of a row is its heading.
    """
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [f"<tr>{columns}</tr>"] if head else []
    for first, *rest in rows:
        cells = "".join(f'<td style="{CELL}">{escape(str(cell))}</td>' for cell in rest)
        lines.append(f'<tr><th scope="row" style="text-align:left">{escape(str(first))}</th>{cells}</tr>')
    title = f'<caption style="text-align:left;font-weight:bold">{escape(caption)}</caption>'
    return f"<table>{title}{''.join(lines)}</table>"


def schedule_html(schedule: Schedule) -> str:
    """The fields of a schedule, its peak and its learning-rate area.

    Args:
        schedule: Any.
    """
    import msgspec

    fields = {name: value for name, value in msgspec.to_builtins(schedule).items() if name not in ("shape", "peak_lr")}
    rows = [(name.replace("_", " "), value) for name, value in fields.items() if not isinstance(value, dict)]
    rows += [("peak learning rate", f"{schedule.peak:.4g}"), ("learning-rate area", f"{schedule.total_area:.4g}")]
    return table_html(f"{schedule.__struct_config__.tag} schedule", (), rows)


def plan_html(plan: Plan) -> str:
    """What a plan trains, why, and what it expects of every way to spend its compute, if it came from pilots.

    Args:
        plan: Any.
    """
    from latebloom.theory.cost import plan_flops

    stages = [f"{blocks_text(stage.depth)} from step {stage.start_step}" for stage in plan.stages]
    shape = plan.schedule.__struct_config__.tag
    rows: list[tuple[str, str]] = [
        ("model", plan.model.name),
        ("depth", ", ".join(stages)),
        ("training", f"{plan.steps} steps of {plan.batch_tokens} tokens, {amount_text(plan_flops(plan))} FLOPs"),
        ("learning rate", f"{shape}, peak {plan.schedule.peak:.4g}, {plan.optimizer.name}"),
    ]
    if plan.provenance.reason:
        rows.append(("why", plan.provenance.reason))
    rows.append(("SHA-256", plan.digest[:16]))
    text = table_html(f"Plan {plan.name}", (), rows)
    if plan.predicted.menu:
        menu = [
            (row.name, row.steps, f"{loss.median:.3f} ({loss.low:.3f} to {loss.high:.3f})", f"{row.p_best:.0%}")
            for row, loss in ((row, row.loss) for row in plan.predicted.menu)
        ]
        head = ("way to spend the compute", "steps", "expected final loss (90 %)", "lowest with probability")
        text += table_html("Expected before the run", head, menu)
    return text


def record_html(record: Record) -> str:
    """What a run was, how far it came and where it ended.

    Args:
        record: Of a run, finished or not.
    """
    plan, (step, loss) = record.plan, record.curve()
    done = f"{step[-1]} of {plan.steps} steps" if len(step) else f"no validation loss of {plan.steps} steps yet"
    rows = [("done", done), ("plan", f"{plan.name} ({record.header.plan_digest[:16]})"), ("seed", record.header.seed)]
    if len(step):
        rows.insert(1, ("validation loss", f"{loss[-1]:.4f} nats a token"))
    if record.header.machine:
        rows.append(("machine", record.header.machine))
    return table_html(f"Run {record.header.name}", (), rows)


def verdict_html(verdict: Verdict) -> str:
    """The verdict in words, and every arm, lowest of equal compute first.

    Args:
        verdict: Measured or predicted.
    """
    from latebloom.theory.controls import control
    from latebloom.theory.verdict_text import sentence

    rest = [name for name in verdict.arms if name not in verdict.menu]
    rows = []
    for name in (*verdict.menu, *rest):
        arm = verdict.arms[name]
        kind = "grown" if name == "progressive" else control(name).label
        above = ""
        if name != "progressive":
            error = verdict.standard_error(name)
            above = f"{-verdict.difference(name):+.4f}" + ("" if error is None else f" ± {error:.4f}")
        rows.append((arm.label, kind, arm.steps, amount_text(arm.flops), f"{arm.loss:.4f}", above))
    head = ("depth", "kind of run", "steps", "FLOPs", "final loss", "above growing")
    title = "Measured" if verdict.measured else "Predicted"
    return f"<p>{escape(sentence(verdict))}</p>" + table_html(title, head, rows)


def plot_schedule(schedule: Schedule, axes: Axes | None = None) -> Axes:
    """Learning rate against steps, at most a thousand points.

    Args:
        schedule: Any.
        axes: Where to draw; a new figure by default.
    """
    axes = _axes(axes)
    step = np.unique(np.linspace(0, schedule.horizon - 1, 1000).round().astype(np.int64))
    axes.plot(step, schedule.lr(step), color=BLUE)
    axes.set(xlabel="step", ylabel="learning rate", ylim=(0, 1.1 * schedule.peak or None))
    return axes


def plot_plan(plan: Plan, axes: Axes | None = None) -> Axes:
    """Learning rate against steps, with a line at each step at which the model grows.

    Args:
        plan: Any.
        axes: Where to draw; a new figure by default.
    """
    axes = plot_schedule(plan.schedule, axes)
    for before, stage in zip(plan.stages, plan.stages[1:], strict=False):
        _mark(axes, stage.start_step, f"grow {before.depth} -> {stage.depth}")
    axes.set_title(_short(plan.name), parse_math=False)
    return axes


def plot_record(record: Record, axes: Axes | None = None) -> Axes:
    """Validation loss against steps, beside what the plan predicted, with a line where the model grew.

    Args:
        record: Of a run, finished or not.
        axes: Where to draw; a new figure by default.
    """
    axes = _axes(axes)
    step, loss = record.curve()
    axes.plot(step[step > 0], loss[step > 0], color=ORANGE, label="measured")
    if record.plan.predicted.curve is not None:
        curve = record.plan.predicted.curve
        axes.plot(curve.step, curve.loss, "-.", color=BLUE, label="predicted before the run")
        axes.legend()
    if record.plan.tau is not None:
        _mark(axes, record.plan.tau, f"grow to {record.plan.depth}")
    axes.set(xlabel="step", ylabel="validation loss (nats/token)")
    axes.set_title(_short(record.header.name), parse_math=False)
    return axes


def plot_verdict(verdict: Verdict, axes: Axes | None = None) -> Axes:
    """Final loss of every way to spend the compute, lowest on top; grey marks what the noise cannot tell from it.

    Args:
        verdict: Measured or predicted.
        axes: Where to draw; a new figure by default.
    """
    axes = _axes(axes)
    menu = list(verdict.menu.items())
    rows = range(len(menu))
    losses = [arm.loss for _, arm in menu]
    colors = [ORANGE if name == "progressive" else BLUE for name, _ in menu]
    if verdict.resolution is not None:
        axes.axvspan(losses[0], losses[0] + verdict.resolution, color=GREY, alpha=0.2, lw=0)
    axes.scatter(losses, rows, color=colors, zorder=3)
    for row, loss in zip(rows, losses, strict=True):
        axes.annotate(f"{loss:.3f}", (loss, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, [arm.label for _, arm in menu])
    axes.set_ylim(len(menu) - 0.5, -0.5)
    axes.margins(x=0.2)
    axes.set_xlabel(f"final loss for {amount_text(verdict.flops)} FLOPs (nats/token)")
    axes.set_title("measured" if verdict.measured else "predicted")
    return axes


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 2.8), layout="constrained")[1]


def _mark(axes: Axes, step: int, text: str) -> None:
    axes.axvline(step, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    axes.annotate(text, (step, 1.0), xycoords=("data", "axes fraction"), xytext=(-3, -3), textcoords="offset points",
                  va="top", ha="right", fontsize=8, color=GREY)  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _blocks(depth: int) -> str:
    return f"{depth} block{'' if depth == 1 else 's'}"
