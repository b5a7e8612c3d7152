"""The main job on this computer: corpus, pilots, fit, plan, the progressive run and its controls.

Everything runs through the same functions that a user calls: pilots and runs are Plans, executed by ``train``, and the
expansion step of the progressive run comes from the landscape that is fitted to the pilots. What was decided before
the runs is in ``plan.json`` before they begin.
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from latebloom.theory.architectures.presets import preset
from latebloom.theory.controls import compared, control
from latebloom.theory.cost import depth_cost_ratio, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.landscapes.registry import DEFAULT, fit_landscape
from latebloom.theory.plan import Optimizer, Plan, Stage, write_plan
from latebloom.theory.planning import plan_expansion
from latebloom.theory.record import Record
from latebloom.theory.schedules import wsd
from latebloom.theory.verdict import Verdict, judge, sentence
from latebloom.train.config import DemoConfig, TrainConfig
from latebloom.train.data.corpus import prepare, python_stdlib_corpus
from latebloom.train.data.shards import open_shards
from latebloom.train.run.several import run_all

__all__ = ["demo"]

PILOTED = "small"  # the control that is run before the plan is made


def demo(
    out: Path,
    config: DemoConfig | None = None,
    *,
    train: TrainConfig | None = None,
    console: Console | None = None,
) -> Verdict:
    """Run the whole job in ``out``; a run that was interrupted goes on where it stopped.

    Leaves data/, pilots/, runs/, plan.json and result.json.

    Args:
        out: Directory of the demo.
        config: Its size.
        train: How its runs are executed; its seed is also the fit's.
        console: Where progress is shown.

    Raises:
        InputError: if ``out`` is in other use, or the small depth is not below the full one.
    """
    config, train, console = config or DemoConfig(), train or TrainConfig(), console or Console()
    began = time.monotonic()
    _, depth = preset(config.model)
    if config.small_depth >= depth:
        raise InputError(
            "--small-depth", config.small_depth, f"must be below the full depth {depth}", "start shallower"
        )
    _claim(out, config, train)
    data = _corpus(out / "data", config, console)
    base = _base_plan(data, config)

    runs_config = train.replace(quiet=True)
    pilots = _pilot_plans(base, config)
    console.print(f"[bold]pilots[/]  {len(pilots) - 1} short runs and the small depth for the whole horizon")
    records = run_all(pilots, data, out / "pilots", config=runs_config, console=console)

    plan = _plan(base, records, config, console, seed=train.seed)
    write_plan(plan, out / "plan.json")
    console.print(f"[bold]plan[/]    {plan.provenance.reason}", highlight=False)

    piloted = {PILOTED: records[-1]}
    arms = {"progressive": plan} | {each.name: each.plan(plan) for each in compared() if each.name not in piloted}
    console.print(f"[bold]runs[/]    the progressive run and its {len(arms) - 1} controls")
    trained = run_all(list(arms.values()), data, out / "runs", config=runs_config, console=console)
    runs = dict(zip(arms, trained, strict=True)) | piloted
    verdict = judge(runs)
    result = _result(plan, verdict, runs, seconds=time.monotonic() - began)
    _write_json(out / "result.json", result)
    return verdict


def _claim(out: Path, config: DemoConfig, train: TrainConfig) -> None:
    """Make ``out`` ours: a finished or differently configured demo is made anew, an interrupted one continued."""
    marker = out / "demo.json"
    settings = config.to_json() + train.replace(quiet=False).to_json()
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise InputError("--out", str(out), "is not empty and not a demo's directory", "give another --out")
    if marker.exists() and ((out / "result.json").exists() or marker.read_text() != settings):
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(settings)


def _corpus(folder: Path, config: DemoConfig, console: Console) -> Path:
    """Token shards of this Python's standard library."""
    if not (folder / "manifest.json").exists():
        console.print("[bold]corpus[/]  the text of this Python's standard library")
        shape, _ = preset(config.model)
        prepare(python_stdlib_corpus(), folder, tokenizer=config.tokenizer, vocab_size=shape.vocab_size)
    return folder


def _base_plan(data: Path, config: DemoConfig) -> Plan:
    """Full depth for the whole horizon: what every other plan of the demo is derived from."""
    shape, depth = preset(config.model)
    shape = shape.replace(vocab_size=open_shards(data).vocab_size)
    return Plan(
        name="base",
        model=shape,
        batch_tokens=config.batch_tokens,
        schedule=wsd(steps=config.steps, peak_lr=config.peak_lr),
        stages=(Stage(start_step=0, depth=depth),),
        optimizer=Optimizer(name="muon_nsgd"),
    )


def _pilot_plans(base: Plan, config: DemoConfig) -> list[Plan]:
    """Full depth and grown, each at an eighth and a quarter of the horizon, and last the small depth for all of it.

    Two horizons a role, so that a run can be predicted from the others and the interval means something. The small
    depth is what never growing ends at, a control that has to be run anyway, and it is cheap: with it the trunk's
    signal and floor are seen, where short pilots alone leave the final loss open by 7 %.
    """
    plans = []
    for share in (4, 8):
        steps = max(config.steps // share, 20)
        schedule = base.schedule.with_steps(steps)
        full = base.replace(name=f"full-{steps}", schedule=schedule)
        grown = (
            Stage(start_step=0, depth=config.small_depth),
            Stage(start_step=steps // 2, depth=base.depth, init=config.init, order=config.order),
        )
        plans += [full, full.replace(name=f"grown-{steps}", stages=grown)]
    return [*plans, control(PILOTED).at(config.small_depth).plan(base, name=PILOTED)]


def _plan(base: Plan, pilots: Sequence[Record], config: DemoConfig, console: Console, *, seed: int = 0) -> Plan:
    """Fit the landscape and place the expansion.

    Where the landscape knows no expansion within the tolerance, that is printed, and what growing costs is measured
    all the same, half-way: at the budget that lies between the small depth's and the full one's.
    """
    fit = fit_landscape(DEFAULT, pilots, seed=seed)
    expansion = functools.partial(
        plan_expansion,
        model=base.model,
        small_depth=config.small_depth,
        full_depth=base.depth,
        schedule=base.schedule,
        batch_tokens=base.batch_tokens,
        law=fit.law,
        resamples=fit.bootstrap(seed=seed),
        tolerance=config.tolerance,
        init=config.init,
        order=config.order,
        optimizer=base.optimizer,
        provenance=fit.provenance(),
        name="progressive",
    )
    try:
        return expansion()
    except InputError as error:
        if error.name != "tolerance":
            raise
        console.print(f"[bold]advice[/]  {error}; measured all the same", highlight=False)
        return expansion(budget=(1 + depth_cost_ratio(base.model, config.small_depth, base.depth)) / 2)


def _result(plan: Plan, verdict: Verdict, runs: dict[str, Record], *, seconds: float) -> dict:
    """What result.json says."""
    p = plan.predicted
    assert p.final_loss is not None
    interval = p.tau_interval
    return {
        "verdict": sentence(verdict),
        "predicted_verdict": p.verdict,
        "predicted_final_loss": p.final_loss,
        "measured_final_loss": verdict.progressive,
        "prediction_error": abs(p.final_loss / verdict.progressive - 1),
        "tau": plan.tau,
        "tau_star": p.tau_star,
        "tau_interval": [interval.low, interval.high] if interval else None,
        "saving_same_horizon": verdict.saving_same_horizon,
        "gap_same_horizon": verdict.gap_same_horizon,
        "saving_equal_compute": verdict.saving_equal_compute,
        "gap_equal_compute": verdict.gap_equal_compute,
        "retention": verdict.retention,
        "gain_over_small": verdict.gain_over_small,
        "losses": {name: record.final() for name, record in runs.items()},
        "flops": {name: plan_flops(record.plan) for name, record in runs.items()},
        "plan_digest": plan.digest,
        "data_digest": runs["progressive"].header.data_digest,
        "seconds": round(seconds, 1),
    }


def _write_json(path: Path, content: dict) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")
