"""The training loop: it executes a Plan, and leaves a Record and checkpoints in a run's directory.

    trainee.py     model, optimizer, schedule and batches      checkpoint.py   what a resumed run begins with
    measure.py     rows of the record                          directory.py    the files of a run

Started as one of several processes by torchrun or a scheduler, all of them come here and do the same on their share
(:mod:`latebloom.train.ranks`); rank 0 writes plan, record and what is shown.

Interrupted at any moment, ``resume`` ends at the same loss bit for bit on the same CPU and thread count; on a GPU the
gradient of attention is summed in no fixed order, and the loss is the same up to rounding.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan, write_plan
from latebloom.theory.record import Record, RecordWriter, header, read_record
from latebloom.theory.spec import decode
from latebloom.train.config import TrainConfig, shown_settings
from latebloom.train.data.batches import Batches
from latebloom.train.data.shards import open_shards
from latebloom.train.ranks import ALONE, Ranks, joined, restarts, world_size
from latebloom.train.run import checkpoint
from latebloom.train.run.device import check_disk, check_memory, device_text, keep_freed_memory, usable_device
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.dryrun import checkpoint_bytes, dry_run
from latebloom.train.run.measure import Measure, check_prompt
from latebloom.train.run.progress import Display
from latebloom.train.run.saving import Saver, snapshot
from latebloom.train.run.trackers import Nowhere, Tracker, check_tracker, make_tracker
from latebloom.train.run.trainee import Trainee, Update, sequences_in_pass

if TYPE_CHECKING:
    from latebloom.theory.online_expansion import AutoExpansion

__all__ = ["Interrupted", "TrainConfig", "fit_gpt2", "make_trainee", "resume", "summary", "train"]


class Interrupted(SystemExit):
    """A signal stopped the run after a whole step; the checkpoint is written. Exit code 128 + signal.

    SIGUSR1, by which schedulers of clusters say that time is up, exits as SIGTERM does, with 143.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int):
        super().__init__(128 + (signal.SIGTERM if number == signal.SIGUSR1 else number))


def train(
    plan: Plan, *, data: Path, out: Path, config: TrainConfig | None = None, auto: AutoExpansion | None = None
) -> Record:
    """Execute ``plan`` from its first step.

    Args:
        plan: What to train.
        data: Directory of token shards.
        out: New directory for the run.
        config: How to run it.
        auto: Decides the (single) expansion while the run goes on; the plan's own step is then the latest one. The plan
            that was executed stands in the record and in plan.json, the one before in planned.json.

    Returns:
        What was measured.

    Raises:
        InputError: if the data does not fit the plan, ``out`` holds a run already, or the disk has no room for its
            checkpoints; nothing is written then. A run that was stopped before its first checkpoint begins anew.
        NonFiniteLoss: if the loss diverges.
        NonFiniteWeights: if a weight does.
    """
    config, data, directory = config or TrainConfig(), Path(data), RunDirectory(Path(out))
    if restarts() and directory.checkpoints():
        return resume(directory.path, data=data, quiet=config.quiet)
    with joined(config.device, config.shard, config.rank_timeout) as ranks:
        with ranks.together():
            if ranks.is_first:
                directory.check_new()
            if auto is not None and len(plan.stages) != 2:
                raise InputError(
                    "stages", len(plan.stages), "must be two for an online expansion", "plan one expansion"
                )
            trainee = make_trainee(plan, data, config, ranks)
            if ranks.is_first:
                _check_disk(directory, trainee)
        _check_agreement(trainee)
        with ranks.together():
            trainee.begin()
            check_tracker(config.tracker)
            if config.prompt is not None:
                check_prompt(config.prompt, trainee)
        with _lock(directory, ranks):
            with ranks.together():
                if ranks.is_first:
                    directory.check_new()  # another process may have begun here meanwhile
                    directory.begin(plan, config, data)
            return _execute(directory, trainee, checkpoint.BEGINNING, auto)


fit_gpt2 = train  # the name for notebooks: `from latebloom.train import fit_gpt2` (`train.train` reads oddly)


def resume(out: Path, *, data: Path | None = None, quiet: bool | None = None) -> Record:
    """Go on with the run in ``out`` from its newest complete checkpoint.

    Args:
        out: The run's directory.
        data: Where the token shards are now; None: where they were.
        quiet: Show nothing; None: as the run began.

    Another number of ranks than the run began with goes on, too; its tensors are divided among all of them where the
    configuration's ``shard`` does not divide their number.

    Returns:
        What was measured, from the run's first step on.

    Raises:
        InputError: if there is no checkpoint, or plan, configuration or data are not those it began with.
    """
    directory = RunDirectory(Path(out))
    directory.check_run()
    if directory.record_file.exists() and directory.never_saved:
        rule = "was stopped before its first checkpoint"
        raise InputError("run", str(directory), rule, "start it again as it was started, with `latebloom train`")
    config = directory.config_begun()
    shard = config.shard if world_size() % (config.shard or 1) == 0 else None
    with joined(config.device, shard, config.rank_timeout) as ranks:
        with ranks.together():
            path, passed_over = _newest(directory, ranks)
            plan = directory.plan_begun(checkpoint.saved_plan(path))
            if quiet is not None:
                config = config.replace(quiet=quiet)
            folder = data or directory.data()
            if folder is None:
                raise InputError("--data", None, "is not known: the run has no data.txt", "say where the shards are")
            trainee = make_trainee(plan, folder, config, ranks)
            if ranks.is_first:
                _check_disk(directory, trainee)
        _check_agreement(trainee)
        with _lock(directory, ranks):
            with ranks.together():
                manifest = checkpoint.verify(path) if ranks.is_first else checkpoint.manifest_of(path)
                if manifest.data_digest != trainee.data_digest:
                    rule = f"is not the data the run began with ({manifest.data_digest[:16]})"
                    raise InputError("--data", str(trainee.data), rule, "resume with the same shards")
                state, weights, optimizer_state = checkpoint.load(path, ranks=ranks)
                try:
                    trainee.load(step=state.step, stage=state.stage, weights=weights, optimizer_state=optimizer_state)
                except InputError as error:
                    raise error.within(path) from None
            return _execute(directory, trainee, state, _online_rule(state), passed_over)


def _check_disk(directory: RunDirectory, trainee: Trainee) -> None:
    """Refuse a run whose checkpoints have no room."""
    size, keep = checkpoint_bytes(trainee.plan), trainee.config.keep_checkpoints
    check_disk(directory.checkpoint_folder, checkpoint=size, keep=keep)


def _newest(directory: RunDirectory, ranks: Ranks) -> tuple[Path, list[str]]:
    """The newest complete checkpoint and what was passed over, as rank 0 found them: it alone hashes all files."""
    if ranks.alone:
        return directory.newest_checkpoint()
    found: tuple[Path, list[str]] | None = None
    with ranks.together():
        if ranks.is_first:
            found = directory.newest_checkpoint()
    path = directory.checkpoint_folder / ranks.texts(found[0].name if found else "")[0]
    with ranks.together():
        if not path.is_dir():
            rule = f"is not there for rank {ranks.rank}: ranks do not share the run's directory"
            raise InputError("checkpoint", str(path), rule, "put the run where all machines see it")
    return path, found[1] if found else []


@contextlib.contextmanager
def _lock(directory: RunDirectory, ranks: Ranks) -> Iterator[None]:
    """Hold the run's directory: rank 0 for all."""
    with contextlib.ExitStack() as stack:
        with ranks.together():
            if ranks.is_first:
                stack.enter_context(directory.lock())
        yield


def _check_agreement(trainee: Trainee) -> None:
    """Refuse ranks that were given another plan, other settings or other data."""
    ranks = trainee.ranks
    if not ranks.alone:
        settings = msgspec.to_builtins(trainee.config.replace(quiet=True))
        digests = {"plan": trainee.plan.digest[:16], "data": trainee.data_digest[:16]}
        ranks.check_same(digests | {f"settings: $.{name}": json.dumps(value) for name, value in settings.items()})


def make_trainee(plan: Plan, data: Path, config: TrainConfig, ranks: Ranks = ALONE) -> Trainee:
    """A trainee without weights yet, once it is sure that device, memory and data serve the plan.

    Args:
        plan: What is trained.
        data: Directory of token shards.
        config: How it is run.
        ranks: Among which it is divided.

    Raises:
        InputError: if they do not.
    """
    device = usable_device(ranks.device_name(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    sequences = sequences_in_pass(plan.batch_tokens // plan.model.context, config.microbatch, ranks.world)
    cost = dry_run(
        plan,
        micro_sequences=sequences,
        activations=config.activations,
        dtype=config.dtype,
        devices=ranks.world,
        shard=ranks.shard,
        gather=config.gather,
    )
    check_memory(device, states=cost.states, peak=cost.memory, sequences=sequences)
    batches = Batches(
        open_shards(data), plan.model, batch_tokens=plan.batch_tokens, steps=plan.steps, seed=config.seed,
        repeat=config.repeat_data, rank=ranks.rank, world=ranks.world,
    )  # fmt: skip
    return Trainee(plan, config, batches, device=device, ranks=ranks)


def _online_rule(state: checkpoint.State) -> AutoExpansion | None:
    """The rule that decides the expansion, as far as it had got."""
    if state.auto is None:
        return None
    from latebloom.theory.online_expansion import AutoExpansion

    return decode(state.auto, AutoExpansion)


def _execute(
    directory: RunDirectory,
    trainee: Trainee,
    state: checkpoint.State,
    auto: AutoExpansion | None,
    notes: Sequence[str] = (),
) -> Record:
    """Train from ``state`` to the horizon; ``notes`` are shown first."""
    config, ranks = trainee.config, trainee.ranks
    display = Display(trainee, quiet=config.quiet or not ranks.is_first)
    for note in notes:
        display.note(note)
    head = header(
        trainee.plan, seed=config.seed, config=shown_settings(config), data_digest=trainee.data_digest,
        machine=_machine(trainee), name=directory.name,
    )  # fmt: skip
    tracker: Tracker = Nowhere()
    if ranks.is_first:
        tracker = make_tracker(
            config.tracker, run=head.name, run_id=directory.id, settings=head.config | {"plan": head.plan_digest},
            folder=directory.tensorboard_folder, step=trainee.step,
        )  # fmt: skip
    with (
        contextlib.closing(trainee), contextlib.closing(tracker),
        RecordWriter(directory.record_file, head) if ranks.is_first else contextlib.nullcontext() as writer,
        display, _signals(ranks), contextlib.ExitStack() as stack,
    ):  # fmt: skip
        measure = Measure(trainee, state, writer=writer, tracker=tracker, display=display)
        run = stack.enter_context(contextlib.closing(_Run(directory, trainee, measure, auto)))
        if (
            writer is not None and directory.planned_file.exists()
        ):  # a resumed run may have been stopped before its record was changed
            writer.change_plan(trainee.plan)
        if trainee.step == 0 and trainee.stage == 0:
            measure.validate()
            run.save()
        while trainee.step < trainee.plan.steps:
            if trainee.growth_is_due:
                run.grow()
            update = measure.update()
            step, is_last = trainee.step, trainee.step == trainee.plan.steps
            if step % config.log_every == 0 or is_last:
                measure.log_update(update)
            if measure.validation_is_due:
                measure.validate()
            display.update(update.loss, measure.wall_s)
            if run.expansion_comes_now(update):
                run.move_expansion()
            if trainee.growth_is_due or is_last:
                measure.log_speed()
            if trainee.growth_is_due or is_last or ranks.stop:
                run.save()
            elif step % config.checkpoint_every == 0:
                run.save(behind=config.save_behind)
            if ranks.stop:
                raise Interrupted(ranks.stop)
    ranks.barrier()
    return read_record(directory.record_file)


class _Run:
    """What happens in a run besides updates: checkpoints, growth, and moving the expansion."""

    def __init__(self, directory: RunDirectory, trainee: Trainee, measure: Measure, auto: AutoExpansion | None):
        self.directory, self.trainee, self.measure, self.auto = directory, trainee, measure, auto
        self._saver = Saver(trainee.ranks, behind=trainee.config.save_behind)

    def close(self) -> None:
        """Let a checkpoint that is being written be finished."""
        self._saver.close()

    def save(self, *, behind: bool = False) -> None:
        """Write a checkpoint of this moment; ``behind``: while training goes on."""
        trainee, measure = self.trainee, self.measure
        self._saver.wait()
        state = checkpoint.State(
            step=trainee.step, stage=trainee.stage, wall_s=measure.wall_s, train_loss_sum=measure.train_loss_sum,
            train_loss_steps=measure.train_loss_steps, auto=self.auto.to_json() if self.auto else None,
        )  # fmt: skip
        plan, shapes = trainee.plan, {name: tensor.shape for name, tensor in trainee.tensors().items()}
        model, optimizer = trainee.weights(), trainee.optimizer_state()
        if behind:
            model, optimizer = snapshot(model, optimizer)

        def write(ranks: Ranks) -> None:
            checkpoint.save(
                self.directory.checkpoint_folder, plan=plan, data_digest=trainee.data_digest, state=state, model=model,
                optimizer=optimizer, keep=trainee.config.keep_checkpoints, ranks=ranks, shapes=shapes,
            )  # fmt: skip

        if behind:
            self._saver.start(write)
        else:
            write(trainee.ranks)

    def grow(self) -> None:
        """Grow, and measure and keep what came of it."""
        trainee = self.trainee
        trainee.grow()
        self.measure.begin_stage()
        self.measure.validate(metric="loss_after_growth")
        stage = trainee.plan.stages[trainee.stage]
        done = f"grown to {stage.depth} blocks ({stage.init}, {stage.order})"
        if stage.replayed_to is not None:
            done = f"{stage.depth} blocks are passed as {stage.replayed_to} from now on ({stage.order})"
        self.measure.display.note(f"step {trainee.step}: {done}")
        self.save(behind=trainee.config.save_behind)  # growth is a function of what was saved before it

    def expansion_comes_now(self, update: Update) -> bool:
        """Whether the online rule, which sees every update of the first stage, has the expansion come earlier."""
        if not self.auto or self.auto.due or self.trainee.stage > 0:
            return False
        self.auto = self.auto.observe(step=self.trainee.step, lr=update.lr, loss=update.loss)
        return self.auto.due and self.trainee.step < self.trainee.plan.stages[1].start_step

    def move_expansion(self) -> None:
        """Have the expansion come now, by the plan, its file and the record's header; the old plan is kept."""
        trainee, before = self.trainee, self.trainee.plan
        trainee.plan = before.replace(
            stages=(before.stages[0], before.stages[1].replace(start_step=trainee.step)),
            provenance=before.provenance.replace(reason=f"expansion decided online, at step {trainee.step}"),
        )
        writer = self.measure.writer
        if writer is not None:
            write_plan(before, self.directory.planned_file)  # first: it tells resume that both plans are this run's
        self.save()
        if writer is not None:
            write_plan(trainee.plan, self.directory.plan_file)
            writer.change_plan(trainee.plan)
        self.measure.display.note(
            f"step {trainee.step}: the expansion is due now (the plan said {before.stages[1].start_step})"
        )


def _machine(trainee: Trainee) -> str:
    """The devices in words."""
    device, world = device_text(trainee.device), trainee.ranks.world
    return device if world == 1 else f"{world} x {device}"


@contextlib.contextmanager
def _signals(ranks: Ranks) -> Iterator[None]:
    """Tell the ranks of a stop signal; the loop looks at what they agreed after each whole step."""
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: the run outlives its terminal
        with contextlib.suppress(ValueError):  # not the main thread: signals are someone else's
            before[number] = signal.signal(number, lambda n, _: ranks.ask_to_stop(n))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(record: Record) -> dict[str, Any]:
    """What a finished run prints.

    Args:
        record: Of the run.
    """
    return {
        "name": record.header.name,
        "final_loss": record.final(),
        "steps": record.plan.steps,
        "plan": record.plan.digest,
    }
