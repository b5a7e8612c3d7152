"""Several plans: a process a core, one run after another on a GPU, or jobs of submitit; each resumable, with a bar."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError, RunError
from latebloom.theory.plan import Plan
from latebloom.theory.record import Record, read_record
from latebloom.theory.spec import decode
from latebloom.train.config import LaunchConfig, TrainConfig
from latebloom.train.data.shards import open_shards
from latebloom.train.ranks import refuse_ranks
from latebloom.train.run.directory import RunDirectory

__all__ = ["check_reuse", "run_all", "run_one"]

POLL = 0.5  # seconds between looks at what is running


def run_all(
    plans: Sequence[Plan],
    data: Path,
    folder: Path,
    *,
    config: TrainConfig,
    console: Console,
    trunks: Mapping[str, Path] | None = None,
    trunk_config: TrainConfig | None = None,
    launch: LaunchConfig | None = None,
    cheapest_first: bool = False,
    seeds: Mapping[str, int] | None = None,
) -> list[Record]:
    """Execute ``plans``, as many at once as the machine has cores (one GPU: one at a time).

    Args:
        plans: With names of their own; what an interrupted call has finished is kept, what it has begun goes on.
        data: Directory of token shards.
        folder: Each run's directory stands in it, by the plan's name.
        config: How to run them.
        console: Where progress is shown.
        trunks: By a plan's name, the run it is a branch of (:mod:`latebloom.train.run.branch`). A trunk that is itself
            among ``plans`` is trained first, and its branches as soon as it is finished.
        trunk_config: How to run those that others of ``plans`` are branches of, which need checkpoints to branch from;
            as the others by default.
        launch: Where and how many at once.
        cheapest_first: Early results; longest first leaves cores busy to the end.
        seeds: By a plan's name, the seed of its run where that is not the one of ``config``.

    Raises:
        InputError: before any work, if a run stands there under a plan's name and is not of this plan, data and seed,
            or if runs are branches of one another in a circle.
    """
    refuse_ranks("a study")
    seeds = seeds or {}
    for seed in {seeds.get(plan.name, config.seed): None for plan in plans}:
        alike = [plan for plan in plans if seeds.get(plan.name, config.seed) == seed]
        check_reuse(alike, data, folder, config=config.replace(seed=seed))
    trunks = trunks or {}
    order = sorted(plans, key=plan_flops, reverse=not cheapest_first)
    waiting = _branches_of_plans(order, folder, trunks)
    unfinished = {plan.name for plan in order if not RunDirectory(folder / plan.name).is_finished(plan.steps)}
    if not unfinished:
        return [read_record(folder / plan.name) for plan in plans]
    later = {plan.name for trunk in waiting if trunk in unfinished for plan in waiting[trunk]}
    ready = [plan for plan in order if plan.name in unfinished - later]
    launch = launch or LaunchConfig()
    with (
        _lost_process_said(folder), _launched(launch, config.device, folder) as (submit, most, pause),
        _bars(console, order, folder) as refresh,
    ):  # fmt: skip
        running: dict[Job, Plan] = {}
        while ready or running:
            while ready and len(running) < most:
                plan = ready.pop(0)
                how = trunk_config if plan.name in waiting and trunk_config else config
                how = how.replace(seed=seeds.get(plan.name, config.seed))
                out, trunk = folder / plan.name, trunks.get(plan.name)
                running[submit(_run_one, plan.to_json(), data, out, how, trunk, _workers(config.device)[1])] = plan
            pause(running)
            refresh()
            for job in [job for job in running if job.done()]:
                job.result()
                done = running.pop(job)
                ready += [plan for plan in waiting.get(done.name, ()) if plan.name in unfinished]
                ready.sort(key=order.index)
    return [read_record(folder / plan.name) for plan in plans]


class Job(Protocol):
    """A run that was submitted: a Future, or a job of submitit."""

    def done(self) -> bool: ...

    def result(self) -> Any: ...


@contextmanager
def _launched(
    launch: LaunchConfig, device: str, folder: Path
) -> Iterator[tuple[Callable[..., Job], float, Callable[[Any], object]]]:
    """(how to submit a call, how many at once, how to wait for one of them or :data:`POLL` seconds).

    What was submitted is stopped with an exception.
    """
    workers, threads = _workers(device)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))  # of Muon's Cholesky inverses
    if launch.launcher == "processes":
        context = get_context("forkserver")  # which loads torch once, and no GPU: workers begin at once
        context.set_forkserver_preload(["latebloom.train.run.loop"])
        pool = ProcessPoolExecutor(launch.at_once or workers, mp_context=context, initializer=_follow_parent)
        try:
            yield pool.submit, launch.at_once or workers, lambda jobs: wait(jobs, POLL, FIRST_COMPLETED)
        except BaseException:
            for process in (pool._processes or {}).values():  # a stopped demo must not leave trainers behind
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    try:
        import submitit
    except ImportError:
        fix = "pip install 'latebloom[cluster]', or use processes"
        raise InputError("--launcher", launch.launcher, "needs submitit, which is not installed", fix) from None
    if launch.launcher == "slurm" and shutil.which("sbatch") is None:
        rule = "needs sbatch, which is not on the path"
        raise InputError("--launcher", "slurm", rule, "call it where Slurm is, or use processes or local")
    executor = submitit.AutoExecutor(folder=folder / "jobs", cluster=launch.launcher)
    executor.update_parameters(name="latebloom", timeout_min=launch.minutes, cpus_per_task=threads)
    if launch.launcher == "slurm":
        executor.update_parameters(gpus_per_node=launch.gpus, slurm_partition=launch.partition)
    jobs: list[submitit.Job[None]] = []

    def submit(*call: Any) -> Job:
        jobs.append(executor.submit(*call))
        return jobs[-1]

    try:
        most = launch.at_once or (workers if launch.launcher == "local" else float("inf"))
        yield submit, most, lambda jobs: time.sleep(POLL)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise


@contextmanager
def _lost_process_said(folder: Path) -> Iterator[None]:
    """One line where the system ends a process that trains."""
    try:
        yield
    except BrokenProcessPool:
        rule = "a process that trained was ended by the system, for want of memory perhaps"
        raise RunError(f"{folder}: {rule}; the same command goes on where it stopped") from None


def check_reuse(plans: Sequence[Plan], data: Path, folder: Path, *, config: TrainConfig) -> None:
    """Refuse runs under the plans' names that are not the runs asked for.

    Args:
        plans: As of :func:`run_all`.
        data: Directory of token shards.
        folder: Where the runs' directories stand.
        config: How they would be run.

    Raises:
        InputError: naming what differs in the first of them.
    """
    directories = {plan.name: RunDirectory(folder / plan.name) for plan in plans}
    if any(directory.record_file.exists() for directory in directories.values()):
        digest = open_shards(data).digest
        for plan in plans:
            directories[plan.name].check_same(plan, config, digest)


def _branches_of_plans(plans: Sequence[Plan], folder: Path, trunks: Mapping[str, Path]) -> dict[str, list[Plan]]:
    """By the name of a plan that is a trunk, its branches among ``plans``, in their order."""
    place = {folder / plan.name: plan.name for plan in plans}
    trunk_of = {plan.name: place[trunks[plan.name]] for plan in plans if trunks.get(plan.name) in place}
    for name in trunk_of:
        passed, at = [name], name
        while at in trunk_of:
            at = trunk_of[at]
            if at in passed:
                rule = "is a branch of its own branch"
                raise InputError("trunks", " <- ".join([*passed, at]), rule, "train one of them from the start")
            passed.append(at)
    branches: dict[str, list[Plan]] = {}
    for plan in plans:
        if plan.name in trunk_of:
            branches.setdefault(trunk_of[plan.name], []).append(plan)
    return branches


@contextmanager
def _bars(console: Console, plans: Sequence[Plan], folder: Path) -> Iterator[Callable[[], None]]:
    """One progress bar a run, fed from the records that the runs write; plain lines where there is no terminal."""
    width = max((len(plan.name) for plan in plans), default=0)
    digits = max((len(str(plan.steps)) for plan in plans), default=0)
    columns = (TextColumn(f"  {{task.description:<{width}}}", markup=False), BarColumn(),
               TextColumn("{task.completed:>5}/{task.total}"), TextColumn("{task.fields[loss]}"),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {plan.name: progress.add_task(plan.name, total=plan.steps, loss="", start=False) for plan in plans}
        reported: set[str] = set()

        def refresh() -> None:
            for plan in plans:
                path = RunDirectory(folder / plan.name).record_file
                if plan.name in reported or not path.exists():
                    continue
                record = read_record(path)
                step, loss = record.curve()
                if not len(step):
                    continue
                progress.start_task(tasks[plan.name])
                at = max(int(record.columns["step"].max()), int(step[-1]))
                progress.update(tasks[plan.name], completed=at, loss=f"loss {loss[-1]:.3f}")
                if step[-1] == plan.steps:
                    reported.add(plan.name)
                    if not console.is_terminal:
                        line = f"  {plan.name:<{width}} {plan.steps:>{digits}} steps, loss {loss[-1]:.4f}"
                        console.print(line, highlight=False, markup=False)

        yield refresh
        refresh()


def _follow_parent() -> None:
    """Stop with the process that started this one, however it ended; a run saves a checkpoint first."""

    def wait_for_end() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, daemon=True).start()


def _run_one(plan_json: str, data: Path, out: Path, config: TrainConfig, trunk: Path | None, threads: int) -> None:
    """One run in a process of its own."""
    import torch

    torch.set_num_threads(threads)
    from latebloom.train.run.loop import Interrupted

    try:
        run_one(decode(plan_json, Plan), data, out, config=config, trunk=trunk)
    except Interrupted:
        parent = parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(143)  # the pool would go on with the next run
        raise


def run_one(plan: Plan, data: Path, out: Path, *, config: TrainConfig, trunk: Path | None = None) -> Record:
    """Start, resume or branch, unless the run is finished.

    Args:
        plan: What is trained.
        data: Directory of token shards.
        out: Directory of the run, which :func:`check_reuse` has looked at.
        config: How to run it.
        trunk: The run it is a branch of, if it is one.
    """
    from latebloom.train.run.branch import branch
    from latebloom.train.run.loop import resume, train

    directory = RunDirectory(out)
    if directory.is_finished(plan.steps):
        return read_record(out)
    if directory.record_file.exists() and directory.checkpoints():
        return resume(out, quiet=config.quiet)
    if trunk is not None:
        return branch(trunk, plan, out=out, data=data)
    return train(plan, data=data, out=out, config=config)


def _workers(device: str) -> tuple[int, int]:
    """(processes, threads each): small matrices want one thread a process and one process a core; one GPU, one."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return 1, torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4), 1
