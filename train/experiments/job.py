"""The main job on given shards: pilots, fit, plan, the run that grows and all other ways to spend its compute.

Everything runs through the same functions that a user calls: pilots and runs are Plans, executed by ``train``, and the
expansion step of the progressive run comes from the recovery field that is fitted to the pilots. What was decided
before the runs is in ``plan.json`` before they begin, and ``result.json`` holds it beside what was measured. Runs that
begin alike are branches of one another (:mod:`latebloom.train.run.branch`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from latebloom.theory.config import PlanConfig
from latebloom.theory.controls import compared, control, depths_between
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.experiment_result import experiment_result
from latebloom.theory.files import hold, write_whole
from latebloom.theory.fitting.recovery_field import RecoveryField, field_of_records
from latebloom.theory.menu_plan import plan_from_menu
from latebloom.theory.pilot_design import PilotDesign, design_pilots
from latebloom.theory.plan import Plan, Stage, write_plan
from latebloom.theory.record import Record
from latebloom.theory.verdict import Verdict, judge
from latebloom.theory.words import amount_text
from latebloom.train.config import TrainConfig
from latebloom.train.run.branch import Trunk, share_trunks
from latebloom.train.run.several import run_all

__all__ = ["claimed_directory", "growing_plan", "job_price", "run_job", "run_plans"]

LOCK = "lock"
CHECKPOINTS = 20  # of a trunk over the horizon: a branch repeats at most a 20th of it


def run_job(
    base: Plan,
    data: Path,
    out: Path,
    *,
    config: PlanConfig,
    train: TrainConfig,
    console: Console,
    seeds: int = 1,
) -> Verdict:
    """Run the whole job in ``out``, which :func:`claimed_directory` holds; interrupted, the same call goes on.

    Leaves pilots/, runs/, plan.json and result.json. Pilots and all runs have the first seed; what decides, the runs
    of equal compute, is done again on the others, in runs/ARM-sSEED.

    Args:
        base: The full depth for the whole horizon: model, batch, schedule, optimizer.
        data: Directory of token shards.
        out: Directory of the experiment.
        config: Small depth, budget, fixed depths between, and how new blocks begin and stand.
        train: How runs are executed; its seed is the first, and also the fit's.
        console: Where progress is shown.
        seeds: Number of seeds.

    Raises:
        InputError: if the horizon is too short for pilots, or the budget buys no run that grows.
    """
    began = time.monotonic()
    pilots = [pilot.plan for pilot in _design(base, config).pilots]
    every = max(1, base.steps // CHECKPOINTS)
    trunks = share_trunks(pilots, out / "pilots", every=every)
    records = run_plans(
        pilots, data, out / "pilots", trunks=trunks, every=every, train=train, console=console, what="pilots"
    )

    field = field_of_records(
        records, small_depth=config.small_depth, full_depth=base.depth, reference=base.schedule.total_area
    )
    plan = growing_plan(base, field, config, seed=train.seed)
    write_plan(plan, out / "plan.json")
    console.print(f"[bold]plan[/]    {escape(plan.provenance.reason or '')}", highlight=False)

    arms = {"progressive": plan} | {each.name: each.plan(plan) for each in compared(_depths(base, config))}
    used = {trunk.run for trunk in trunks.values()}  # others have no early checkpoints
    finished = {run: pilot for pilot in pilots if (run := out / "pilots" / pilot.name) in used}
    shared = share_trunks(list(arms.values()), out / "runs", every=every, finished=finished)
    decide = [name for name in arms if name == "progressive" or control(name).at_equal_compute]
    others = range(train.seed + 1, train.seed + seeds)  # seeds on which what decides is done again
    seed_of = {f"{name}-s{seed}": seed for seed in others for name in decide}
    for seed in others:
        again = [arms[name].replace(name=f"{name}-s{seed}") for name in decide]
        shared |= share_trunks(again, out / "runs", every=every)
        arms |= {each.name: each for each in again}
    trained = run_plans(
        list(arms.values()), data, out / "runs", trunks=shared, every=every, train=train, console=console, what="runs",
        seeds=seed_of,
    )  # fmt: skip
    runs = dict(zip(arms, trained, strict=True))
    costs = plan.predicted.pilots
    verdict = judge(
        {name: record for name, record in runs.items() if name not in seed_of},
        noise=field.noise,
        pilot_flops=costs.flops - costs.reused if costs else None,
        replicates=[{name: runs[f"{name}-s{seed}"] for name in decide} for seed in others],
    )
    result = experiment_result(plan, verdict, runs) | {"seconds": round(time.monotonic() - began, 1)}
    write_whole(out / "result.json", json.dumps(result, indent=2) + "\n")
    return verdict


def job_price(base: Plan, config: PlanConfig, *, seeds: int = 1) -> str:
    """What pilots and runs take, in words.

    Args:
        base: The full depth for the whole horizon.
        config: Small depth, budget, depths between.
        seeds: Number of seeds.

    Raises:
        InputError: if the horizon is too short for pilots.
    """
    design = _design(base, config)
    budget = (1.0 if config.budget is None else config.budget) * plan_flops(base)
    depths = (config.small_depth, *_depths(base, config), base.depth)
    again = f", each on {seeds} seeds" if seeds > 1 else ""
    return (
        f"{base.model.name}, {config.small_depth} to {base.depth} blocks, {base.steps} steps of {base.batch_tokens} "
        f"tokens. Pilots: {amount_text(design.flops)} FLOPs. Then {len(depths) + 1} runs of {amount_text(budget)} "
        f"FLOPs each, one that grows and {', '.join(map(str, depths))} blocks that do not{again}, and three more to "
        "compare with."
    )


def growing_plan(base: Plan, field: RecoveryField, config: PlanConfig, *, seed: int = 0) -> Plan:
    """The run that grows at the best step for the budget, with what is expected of every way to spend it.

    It is made whether or not growing is advised: that growing is not worth it is measured too.

    Args:
        base: The full depth for the whole horizon.
        field: Posterior of the pilots.
        config: Budget, fixed depths between, and how new blocks begin and stand.
        seed: Of the draws.

    Raises:
        InputError: if the budget buys no run that grows.
    """
    budget = (1.0 if config.budget is None else config.budget) * plan_flops(base)
    plans = plan_from_menu(
        field, base, budget=budget, growth=_growth(base, config), depths=_depths(base, config),
        most_steps=config.most_steps, seed=seed,
    )  # fmt: skip
    if plans.growing is None:
        raise InputError("budget", config.budget, "buys no run that grows", "allow more")
    return plans.growing.replace(name="progressive")


def run_plans(
    plans: Sequence[Plan],
    data: Path,
    folder: Path,
    *,
    trunks: Mapping[str, Trunk],
    every: int,
    train: TrainConfig,
    console: Console,
    what: str,
    seeds: Mapping[str, int] | None = None,
) -> list[Record]:
    """Train ``plans``, those that begin alike as branches of one another.

    Args:
        plans: With names of their own.
        data: Directory of token shards.
        folder: Each run's directory stands in it, by the plan's name.
        trunks: What they branch from, by their names: :func:`~latebloom.train.run.branch.share_trunks`.
        every: Steps between the checkpoints of trunks.
        train: How to run them.
        console: Where progress is shown.
        what: They are, for the line that says so.
        seeds: By their names, the seeds of those that have another than the one of ``train``.
    """
    config = train.replace(quiet=True)
    trunk_config = config.replace(checkpoint_every=every, keep_checkpoints=4 * CHECKPOINTS)
    fresh = len(plans) - len(trunks)
    console.print(f"[bold]{what:<6}[/]  {len(plans)} ends, {fresh} of them trained from the start", highlight=False)
    return run_all(
        plans, data, folder, config=config, trunk_config=trunk_config, console=console,
        trunks={name: trunk.run for name, trunk in trunks.items()}, seeds=seeds,
    )  # fmt: skip


@contextmanager
def claimed_directory(out: Path, settings: dict[str, Any], *, what: str) -> Iterator[None]:
    """Hold ``out``, which is new, or begun, or finished with the same settings. Nothing in it is ever deleted.

    Args:
        out: Directory of an experiment.
        settings: All that its results depend on, as plain data.
        what: The experiment is, ``demo`` or ``study``; settings stand in ``out/WHAT.json``.

    Raises:
        InputError: if it is in other use, another process works in it, or it was begun with other settings: which, and
            what differs.
    """
    if out.exists() and not (out / f"{what}.json").exists() and any(path.name != LOCK for path in out.iterdir()):
        raise InputError("--out", str(out), f"is not empty and not a {what}'s directory", "give another --out")
    out.mkdir(parents=True, exist_ok=True)
    with hold(out / LOCK, name="--out", value=str(out)):
        _claim(out / f"{what}.json", settings, out)
        yield


def _claim(path: Path, settings: dict[str, Any], out: Path) -> None:
    """Write the settings, or refuse others than those that were written."""
    if not path.exists():
        write_whole(path, json.dumps(settings, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError("--out", str(out), f"holds a {path.name} that is not JSON", "give another --out") from None
    now = json.loads(json.dumps(settings))
    differ = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if differ:
        told = ", ".join(f"{name} {before.get(name)} there and {now.get(name)} here" for name in differ)
        raise InputError("--out", str(out), f"was begun with other settings: {told}", "give another --out, or those")


def _design(base: Plan, config: PlanConfig) -> PilotDesign:
    return design_pilots(base, small_depth=config.small_depth, growth=_growth(base, config))


def _growth(base: Plan, config: PlanConfig) -> Stage:
    """How new blocks begin and where they stand; the step is chosen by pilots and plan."""
    return Stage(
        start_step=1, depth=base.depth, init=config.init, order=config.order, optimizer_state=config.optimizer_state
    )


def _depths(base: Plan, config: PlanConfig) -> tuple[int, ...]:
    """Fixed depths between that would be trained as well."""
    return depths_between(config.small_depth, base.depth) if config.depths is None else config.depths
