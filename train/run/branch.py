"""Going on with a run as another plan: one trunk, many ways to grow it.

Runs that differ only in what comes after a step share everything before it. ``branch`` takes a checkpoint of a run that
agrees with the new plan up to there, and trains only the rest; from there on it is the run of the new plan bit for bit.
The record begins with the trunk's rows, and its wall time counts the trunk's, as if the run had been made alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.theory.record import Record, RecordWriter, read_record
from latebloom.train.ranks import refuse_ranks
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import resume

__all__ = ["Trunk", "agree_until", "branch", "share_trunks"]


def agree_until(a: Plan, b: Plan) -> int:
    """Number of first steps in which two plans do the same; -1 if they do not even start alike.

    An expansion at step t is the first thing that happens in step t + 1.

    Args:
        a: A plan.
        b: Another.
    """
    if (a.model, a.batch_tokens, a.optimizer, a.stages[0]) != (b.model, b.batch_tokens, b.optimizer, b.stages[0]):
        return -1
    steps = min(a.steps, b.steps)
    rates = [plan.schedule.lrs()[:steps] for plan in (a, b)]
    differ = np.flatnonzero(rates[0] != rates[1])
    until = int(differ[0]) if len(differ) else steps
    later = [stage for stage in (*a.stages, *b.stages) if stage not in a.stages or stage not in b.stages]
    return min([until, *(stage.start_step for stage in later)])


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """What a run can begin as.

    Attributes:
        run: Directory of the other run.
        steps: Steps of it that have a checkpoint and are the same.
    """

    run: Path
    steps: int


def share_trunks(
    plans: Sequence[Plan], folder: Path, *, every: int, finished: Mapping[Path, Plan] | None = None
) -> dict[str, Trunk]:
    """From which other run each plan saves most steps, if it branches from it; plans that save none are left out.

    Args:
        plans: Of runs that will be made, with names of their own.
        folder: Where each will have its directory, by its name.
        every: Steps between the checkpoints of all of them.
        finished: Plans of runs there are already, by their directories; preferred where both save as much.

    Returns:
        Trunks by the names of plans. Of ``plans`` only longer ones are trunks, and of equally long ones those that
        do not grow, so that no two wait for one another.
    """
    trunks: dict[str, Trunk] = {}
    candidates = dict(finished or {})
    for plan in sorted(plans, key=lambda plan: (plan.steps, plan.tau is None), reverse=True):
        shared = {run: _worth_copying(other, plan) // every * every for run, other in candidates.items()}
        best = max(shared, key=lambda run: shared[run], default=None)
        if best is not None and shared[best] > 0:
            trunks[plan.name] = Trunk(run=best, steps=shared[best])
        candidates[folder / plan.name] = plan
    return trunks


def branch(run: Path, plan: Plan, *, out: Path, data: Path | None = None, quiet: bool | None = None) -> Record:
    """Train ``plan`` in ``out`` from the newest checkpoint of ``run`` up to which both do the same.

    Args:
        run: Directory of the trunk's run, finished or not; ``keep_checkpoints`` says how many it has.
        plan: Of the branch.
        out: New directory.
        data: Where the shards are now, if they moved.
        quiet: Show nothing; None: as the trunk did.

    Raises:
        InputError: if the plans do not begin alike, no checkpoint is early enough, or ``out`` holds a run.
    """
    refuse_ranks("a branch")
    trunk, directory = RunDirectory(run), RunDirectory(out)
    trunk.check_run()
    until = _worth_copying(trunk.plan(), plan)
    if until < 0:
        rule = f"does not begin as {trunk} does: model, batch, optimizer and first stage must be equal"
        raise InputError("plan", plan.name, rule, "`latebloom plan diff` shows where; train it alone")
    path = _checkpoint(trunk, until)
    directory.check_new(but=path.name)
    state, weights, optimizer = checkpoint.load(path)
    data_digest = checkpoint.manifest_of(path).data_digest
    with directory.lock():
        directory.begin_as(trunk, plan)
        checkpoint.save(
            directory.checkpoint_folder, plan=plan, data_digest=data_digest, state=state.replace(auto=None),
            model=weights, optimizer=optimizer,
        )  # fmt: skip
        _begin_record(trunk, directory, plan, state.step, state.stage)
    return resume(directory.path, data=data, quiet=quiet)


def _worth_copying(trunk: Plan, plan: Plan) -> int:
    """Steps of ``trunk`` with which ``plan`` can begin: not its last one, after which the end is measured."""
    return min(agree_until(trunk, plan), plan.steps - 1)


def _checkpoint(trunk: RunDirectory, until: int) -> Path:
    """The newest complete checkpoint of what both plans do: up to ``until``, before an expansion there."""
    passed = []
    for path in reversed(trunk.checkpoints()):
        try:
            held = checkpoint.verify(path)
        except InputError as error:
            passed.append(str(error))
            continue
        if held.step <= until and (
            held.stage == 0 or checkpoint.saved_plan(path).stages[held.stage].start_step < until
        ):
            return path
        passed.append(path.name)
    rule = (
        f"has no checkpoint up to step {until}, from which on the plans differ ({'; '.join(passed) or 'it has none'})"
    )
    raise InputError("run", str(trunk), rule, "train the trunk with --checkpoint-every and --keep-checkpoints")


def _begin_record(trunk: RunDirectory, directory: RunDirectory, plan: Plan, step: int, stage: int) -> None:
    """The trunk's rows up to ``step`` in ``stage``, under a header of the branch; all of them or none."""
    record = read_record(trunk.record_file)
    head = record.header.replace(name=directory.name, plan=plan, plan_digest=plan.digest)
    rows = zip(*(column.tolist() for column in record.columns.values()), strict=True)  # as Python's numbers
    part = directory.record_file.with_suffix(".part")
    part.unlink(missing_ok=True)
    with RecordWriter(part, head) as writer:
        for row in (dict(zip(record.columns, values, strict=True)) for values in rows):
            if row["step"] <= step and row["phase"] <= stage:
                writer.write([row])
    part.replace(directory.record_file)
