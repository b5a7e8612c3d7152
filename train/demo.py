"""The main job on this computer: corpus, pilots, fit, plan, the progressive run and its three controls.

Everything runs through the same functions that a user calls: pilots and runs are Plans, executed by ``train``, and the
expansion step of the progressive run comes from the landscape that is fitted to the pilots. What was decided before
the runs is in ``plan.json`` before they begin.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from theory.errors import InputError
from theory.fit import bootstrap, fit_area_law, provenance
from theory.models import preset
from theory.plan import Optimizer, Plan, Stage, cold_start, fixed_depth, read_plan, write_plan
from theory.planning import equal_compute, plan_expansion
from theory.record import Record, read_record
from theory.schedules import WSD, wsd
from theory.verdict import Verdict, judge, sentence

__all__ = ["DemoConfig", "demo"]


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Size of the demo. The defaults take three to five minutes on two cores.

    Attributes:
        steps: Horizon of the main runs.
        batch_tokens: Tokens per step.
        peak_lr: Peak learning rate of every run, Muon-NSGD.
        small_depth: Depth before the expansion; the full depth is the preset's.
        tolerance: Accepted price of growing, share of the final loss; it places tau*.
        tokenizer: ``bpe`` (trained on the spot) or ``bytes``.
        seed: Of data order and initialisation.
        init, order: How new blocks begin and where they stand.
    """

    steps: int = 1000
    batch_tokens: int = 1024
    peak_lr: float = 0.1
    small_depth: int = 1
    tolerance: float = 0.02
    tokenizer: str = "bpe"
    seed: int = 0
    init: str = "random"
    order: str = "stack"
    model: str = "gpt2-tiny"


def demo(out: Path, config: DemoConfig | None = None, *, console: Console | None = None) -> Verdict:
    """Run the whole job in ``out``; a run that was interrupted goes on where it stopped.

    Leaves data/, pilots/, runs/, plan.json and result.json.
    """
    config, console = config or DemoConfig(), console or Console()
    began = time.monotonic()
    _claim(out, config)
    data = _corpus(out / "data", config, console)
    full, small = _base_plans(data, config)

    pilots = _pilot_plans(full, config)
    console.print(f"[bold]pilots[/] {len(pilots)} short runs, to fit the landscape")
    records = _run_all(pilots, data, out / "pilots", config, console)

    plan = _plan(full, records, config)
    write_plan(plan, out / "plan.json")
    console.print(f"[bold]plan[/] {plan.provenance.reason}")

    arms = {
        "fixed": fixed_depth(plan, name="fixed"),
        "progressive": plan,
        "equal_compute": equal_compute(plan, name="equal_compute"),
        "cold_start": cold_start(plan, name="cold_start"),
    }
    console.print("[bold]runs[/] the progressive run and its three controls")
    runs = dict(zip(arms, _run_all(list(arms.values()), data, out / "runs", config, console), strict=True))
    verdict = judge(**{name: record for name, record in runs.items()})
    result = _result(plan, verdict, runs, config, seconds=time.monotonic() - began)
    _write_json(out / "result.json", result)
    return verdict


def _claim(out: Path, config: DemoConfig) -> None:
    """Make ``out`` ours: a finished or differently configured demo is removed, an interrupted one continued."""
    marker = out / "demo.json"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        rule = "is not empty and not a demo's directory"
        raise InputError("--out", str(out), rule, "give another --out")
    if marker.exists() and ((out / "result.json").exists() or json.loads(marker.read_text()) != asdict(config)):
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    _write_json(marker, asdict(config))


def _corpus(folder: Path, config: DemoConfig, console: Console) -> Path:
    """Token shards of this Python's standard library."""
    if not (folder / "manifest.json").exists():
        console.print("[bold]corpus[/] the text of this Python's standard library")
        shape, _ = preset(config.model)
        prepare(
            python_stdlib_corpus(), folder, tokenizer=config.tokenizer, vocab_size=shape.vocab_size, console=console
        )
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
    """Full depth and grown, each at an eighth and a quarter of the horizon, and the small depth at a quarter.

    Two horizons a role, so that a run can be predicted from the others and the interval means something.
    """
    plans = []
    for share in (4, 8):
        steps = max(config.steps // share, 20)
        schedule = base.schedule.with_steps(steps)
        full = base.replace(name=f"full-{steps}", schedule=schedule)
        grown = (
            Stage(start_step=0, depth=config.small_depth),
            Stage(start_step=steps // 2, depth=base.depth, init=config.init, order=config.order),  # type: ignore[arg-type]
        )
        plans += [full, full.replace(name=f"grown-{steps}", stages=grown)]
    plans.append(fixed_depth(plans[0], name=plans[0].name.replace("full", "small"), depth=config.small_depth))
    return plans


def _run_all(plans: Sequence[Plan], data: Path, folder: Path, config: DemoConfig, console: Console) -> list[Record]:
    """Execute ``plans``, as many at once as the machine has cores (one GPU: one at a time), with a bar each."""
    workers, threads = _workers()
    jobs = {plan.name: (plan.to_json(), str(data), str(folder / plan.name), config.seed, threads) for plan in plans}
    order = sorted(plans, key=plan_flops, reverse=True)  # longest first leaves the cores busy to the end
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        _bars(console, order, folder) as refresh,
    ):
        pending = {pool.submit(_run_one, *jobs[plan.name]) for plan in order}
        try:
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                refresh()
                for future in done:
                    future.result()
        except BaseException:
            for process in (pool._processes or {}).values():  # a stopped demo must not leave trainers behind
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [read_record(folder / plan.name) for plan in plans]


def _run_one(plan_json: str, data: str, out: str, seed: int, threads: int) -> None:
    """One run in a process of its own; what an interrupted demo has finished already is kept."""
    import torch

    torch.set_num_threads(threads)
    from train.loop import TrainConfig, resume, train

    plan, folder = decode(plan_json, Plan), Path(out)
    if (folder / "record.jsonl").exists():
        record = read_record(folder)
        step, _ = record.curve()
        if len(step) and step[-1] == plan.steps:
            return
        if any((folder / "checkpoints").glob("step-*")):
            resume(folder, quiet=True)
            return
        shutil.rmtree(folder)
    train(plan, data=Path(data), out=folder, config=TrainConfig(seed=seed, quiet=True))


def _workers() -> tuple[int, int]:
    """(processes, threads each): one thread a process for small matrices, one process a core, at most four."""
    import torch

    if torch.cuda.is_available():
        return 1, 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, 4)
    return workers, max(1, cores // workers) if workers == 4 else 1
