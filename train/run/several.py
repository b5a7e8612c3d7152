"""Several plans on one machine: one process a core, or one run after another on a GPU, each resumable, with a bar."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError, RunError
from latebloom.theory.plan import Plan
from latebloom.theory.record import Record, read_record
from latebloom.theory.spec import decode
from latebloom.train.config import TrainConfig
from latebloom.train.data.shards import open_shards
from latebloom.train.ranks import refuse_ranks
from latebloom.train.run.directory import RunDirectory

__all__ = ["check_reuse", "run_all", "run_one"]


def run_all(
    plans: Sequence[Plan],
    data: Path,
    folder: Path,
    *,
    config: TrainConfig,
    console: Console,
    trunks: Mapping[str, Path] | None = None,
    trunk_config: TrainConfig | None = None,
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

    Raises:
        InputError: before any work, if a run stands there under a plan's name and is not of this plan, data and seed,
            or if runs are branches of one another in a circle.
        RunError: if a process that trains is ended from outside; what it did up to its last checkpoint is kept.
    """
    refuse_ranks("a study")
    check_reuse(plans, data, folder, config=config)
    trunks = trunks or {}
    waiting = _branches_of_plans(plans, folder, trunks)
    workers, threads = _workers(config.device)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))  # of Muon's Cholesky inverses
    order = sorted(plans, key=plan_flops, reverse=True)  # longest first leaves the cores busy to the end
    unfinished = {plan.name for plan in order if not RunDirectory(folder / plan.name).is_finished(plan)}
    if not unfinished:
        return [read_record(folder / plan.name) for plan in plans]
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)
    try:
        with _bars(console, order, folder) as refresh:

            def submit(plan: Plan) -> Future[None]:
                how = trunk_config if plan.name in waiting and trunk_config else config
                out, trunk = folder / plan.name, trunks.get(plan.name)
                return pool.submit(_run_one, plan.to_json(), data, out, how, trunk, threads)

            later = {plan.name for trunk in waiting if trunk in unfinished for plan in waiting[trunk]}
            pending = {submit(plan): plan for plan in order if plan.name in unfinished - later}
            while pending:
                done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                refresh()
                for future in done:
                    future.result()
                    trunk = pending.pop(future)
                    for branch in waiting.get(trunk.name, ()):
                        if branch.name in unfinished:
                            pending[submit(branch)] = branch
    except BrokenProcessPool:
        rule = "a process that trained was ended by the system, for want of memory perhaps"
        raise RunError(f"{folder}: {rule}; the same command goes on where it stopped") from None
    except BaseException:
        for process in (pool._processes or {}).values():  # a stopped demo must not leave trainers behind
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [read_record(folder / plan.name) for plan in plans]


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
    """By the name of a plan that is a trunk, its branches among ``plans``, longest first."""
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
    for plan in sorted(plans, key=plan_flops, reverse=True):
        if plan.name in trunk_of:
            branches.setdefault(trunk_of[plan.name], []).append(plan)
    return branches


@contextmanager
def _bars(console: Console, plans: Sequence[Plan], folder: Path) -> Iterator[Callable[[], None]]:
    """One progress bar a run, fed from the records that the runs write; plain lines where there is no terminal."""
    columns = (TextColumn("  {task.description:<16}", markup=False), BarColumn(),
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
                        line = f"  {plan.name:<16} {plan.steps} steps, loss {loss[-1]:.4f}"
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
    from latebloom.train.run.checkpoint import checkpoints
    from latebloom.train.run.loop import resume, train

    directory = RunDirectory(out)
    if directory.is_finished(plan):
        return read_record(out)
    if directory.record_file.exists() and checkpoints(out):
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
