"""The main job on this computer: corpus, pilots, fit, plan, the run that grows and all other ways to spend its compute.

Everything runs through the same functions that a user calls: pilots and runs are Plans, executed by ``train``, and the
expansion step of the progressive run comes from the recovery field that is fitted to the pilots. What was decided
before the runs is in ``plan.json`` before they begin, and ``result.json`` holds it beside what was measured. Runs that
begin alike are branches of one another (:mod:`latebloom.train.run.branch`).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape

from latebloom.theory.architectures.presets import preset
from latebloom.theory.controls import compared, depths_between
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.fitting.annealed_ends import ends_of, trunk_curve_of
from latebloom.theory.fitting.recovery_field import RecoveryField, fit_recovery_field
from latebloom.theory.menu_plan import plan_from_menu
from latebloom.theory.pilot_design import design_pilots
from latebloom.theory.plan import Optimizer, Plan, Stage, write_plan
from latebloom.theory.record import Record
from latebloom.theory.schedules import wsd
from latebloom.theory.scoring import gap_draws, loss_draws, pit, quantiles
from latebloom.theory.verdict import Verdict, details, judge, sentence
from latebloom.train.config import DemoConfig, TrainConfig
from latebloom.train.data.corpus import prepare, python_stdlib_corpus
from latebloom.train.data.shards import open_shards
from latebloom.train.run.branch import share_trunks
from latebloom.train.run.several import run_all

__all__ = ["demo"]

BUDGET = 0.8  # share of the full depth's FLOPs, where none is given: between the small depth's and the full one's
CHECKPOINTS = 20  # of a trunk over the horizon: a branch repeats at most a 20th of it


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
    every = max(1, base.steps // CHECKPOINTS)
    trunk_config = runs_config.replace(checkpoint_every=every, keep_checkpoints=4 * CHECKPOINTS)
    design = design_pilots(base, small_depth=config.small_depth, growth=_growth(base, config))
    pilots = [pilot.plan for pilot in design.pilots]
    pilot_trunks = share_trunks(pilots, out / "pilots", every=every)
    console.print(f"[bold]pilots[/]  {len(pilots)} ends of {len(pilots) - len(pilot_trunks)} runs")
    records = run_all(
        pilots, data, out / "pilots", config=runs_config, trunk_config=trunk_config, console=console,
        trunks={name: trunk.run for name, trunk in pilot_trunks.items()},
    )  # fmt: skip

    field = _field(base, records, config)
    plan = _plan(base, field, config, seed=train.seed)
    write_plan(plan, out / "plan.json")
    console.print(f"[bold]plan[/]    {escape(plan.provenance.reason or '')}", highlight=False)

    depths = depths_between(config.small_depth, base.depth)
    arms = {"progressive": plan} | {each.name: each.plan(plan) for each in compared(depths)}
    used = {trunk.run for trunk in pilot_trunks.values()}  # others have no early checkpoints
    places = {out / "pilots" / pilot.name: pilot for pilot in pilots if out / "pilots" / pilot.name in used}
    trunks = share_trunks(list(arms.values()), out / "runs", every=every, finished=places)
    console.print(f"[bold]runs[/]    the run that grows, and {len(arms) - 1} others to compare it with")
    trained = run_all(
        list(arms.values()), data, out / "runs", config=runs_config, trunk_config=trunk_config, console=console,
        trunks={name: trunk.run for name, trunk in trunks.items()},
    )  # fmt: skip
    runs = dict(zip(arms, trained, strict=True))
    costs = plan.predicted.pilots
    verdict = judge(runs, noise=field.noise, pilot_flops=costs.flops - costs.reused if costs else None)
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


def _growth(base: Plan, config: DemoConfig) -> Stage:
    """How new blocks begin and where they stand; the step is chosen by pilots and plan."""
    return Stage(start_step=1, depth=base.depth, init=config.init, order=config.order)


def _field(base: Plan, pilots: Sequence[Record], config: DemoConfig) -> RecoveryField:
    """The posterior of what growing recovers, given the pilots."""
    ends = ends_of(pilots, small_depth=config.small_depth, full_depth=base.depth)
    curve = trunk_curve_of(pilots, small_depth=config.small_depth)
    return fit_recovery_field(ends, full_depth=base.depth, reference=base.schedule.total_area, trunk_curve=curve)


def _plan(base: Plan, field: RecoveryField, config: DemoConfig, *, seed: int = 0) -> Plan:
    """The run that grows at the best step for the budget, with what is expected of every way to spend it.

    It is made whether or not growing is advised: that growing is not worth it is measured too.

    Raises:
        InputError: if the budget buys no run that grows.
    """
    budget = (BUDGET if config.budget is None else config.budget) * plan_flops(base)
    depths = depths_between(config.small_depth, base.depth)
    plans = plan_from_menu(field, base, budget=budget, growth=_growth(base, config), depths=depths, seed=seed)
    if plans.growing is None:
        raise InputError("budget", config.budget, "buys no run that grows", "allow more")
    return plans.growing.replace(name="progressive")


def _result(plan: Plan, verdict: Verdict, runs: dict[str, Record], *, seconds: float) -> dict:
    """What result.json says: every arm and every gap, predicted beside measured, and where each fell in the draws."""
    p = plan.predicted
    assert p.draws is not None and p.decision is not None and p.pilots is not None
    gaps = {}
    for name in verdict.controls:
        drawn = gap_draws(p.draws, "progressive", name)
        gaps[name] = {
            "predicted": msgspec.to_builtins(quantiles(drawn)),
            "p_below": float((drawn < 0).mean()),
            "measured": verdict.gap(name),
            "pit": pit(drawn, verdict.gap(name)),
        }
    medians = {name: float(np.median(loss_draws(p.draws, name))) for name in verdict.arms}
    predicted = medians["progressive"]
    return {
        "verdict": sentence(verdict),
        "details": list(details(verdict)),
        "head": verdict.head,
        "best": verdict.best,
        "predicted_verdict": p.verdict,
        "predicted_head": p.decision.head,
        "p_grow": p.decision.p_grow,
        "resolution": verdict.resolution,
        "pilots": {"flops": p.pilots.flops, "reused": p.pilots.reused, "share_of_fixed": p.pilots.share_of_fixed},
        "predicted_final_loss": predicted,
        "measured_final_loss": verdict.progressive,
        "prediction_error": abs(predicted / verdict.progressive - 1),
        "tau": plan.tau,
        "tau_star": p.tau_star,
        "tau_interval": [p.tau_interval.low, p.tau_interval.high] if p.tau_interval else None,
        "saving_same_horizon": verdict.saving_same_horizon,
        "gap_same_horizon": verdict.gap_same_horizon,
        "saving_equal_compute": verdict.saving_equal_compute,
        "gap_equal_compute": verdict.gap_equal_compute,
        "retention": verdict.retention,
        "gain_over_small": verdict.gain_over_small,
        "losses": {name: arm.loss for name, arm in verdict.arms.items()},
        "predicted_losses": medians,
        "flops": {name: arm.flops for name, arm in verdict.arms.items()},
        "gaps": gaps,
        "plan_digest": plan.digest,
        "data_digest": runs["progressive"].header.data_digest,
        "seconds": round(seconds, 1),
    }


def _write_json(path: Path, content: dict) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")
