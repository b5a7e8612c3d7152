"""A run's directory: the names of its files, what stands in them when it begins, and the lock.

    plan.json      the plan                      planned.json    the plan before an online expansion moved it
    config.json    how it was run                data.txt        where its token shards are
    record.jsonl   what was measured             tokenizer.json  a copy of the data's, if they have one
    checkpoints/   the newest ones               lock            held by the process that trains here
    id.txt         a random name of the run

``checkpoints`` may be a link to an empty directory elsewhere, on a scratch disk say: the run's id.txt is put there, and
a directory with another one, or with anything of another's, is refused. No other link is followed. What a checkpoint is
stands in :mod:`latebloom.train.run.checkpoint`; which of them are here, here. Needs no torch.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.files import hold, write_whole
from latebloom.theory.plan import Plan, diff, read_plan, write_plan
from latebloom.theory.record import RECORD_FILE, read_header, read_record
from latebloom.theory.spec import read_spec
from latebloom.train.config import TrainConfig, shown_settings
from latebloom.train.data.tokenizers import TOKENIZER_FILE
from latebloom.train.run import checkpoint

__all__ = ["FREE_TO_CHANGE", "RunDirectory"]

ID_FILE = "id.txt"  # in a run's directory, and where its checkpoints are linked to
# Where and how fast a run computes, and what is kept and shown of it. All other settings decide its numbers.
FREE_TO_CHANGE = frozenset({
    "device", "microbatch", "compile", "activations", "checkpoint_every", "keep_checkpoints", "repeat_data",
    "diagnostics", "peak_tflops", "tracker", "prompt", "quiet",
})  # fmt: skip


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run.

    Attributes:
        path: Where it is, or will be.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The run's name in its record and in trackers."""
        return self.path.name

    @property
    def plan_file(self) -> Path:
        """The plan that is executed."""
        return self.path / "plan.json"

    @property
    def planned_file(self) -> Path:
        """The plan before an online expansion moved it; absent where none did."""
        return self.path / "planned.json"

    @property
    def config_file(self) -> Path:
        """The settings, a TrainConfig."""
        return self.path / "config.json"

    @property
    def data_file(self) -> Path:
        """One line: the directory of token shards."""
        return self.path / "data.txt"

    @property
    def tokenizer_file(self) -> Path:
        """A copy of the data's tokenizer."""
        return self.path / TOKENIZER_FILE

    @property
    def record_file(self) -> Path:
        """The record, written while running."""
        return self.path / RECORD_FILE

    @property
    def id_file(self) -> Path:
        """One line, the run's :attr:`id`."""
        return self.path / ID_FILE

    @property
    def id(self) -> str:
        """A random name by which services and linked checkpoints know the run again; it says nothing of the machine."""
        return self.id_file.read_text(encoding="utf-8", errors="replace").strip()

    @property
    def tensorboard_folder(self) -> Path:
        """Where TensorBoard finds the run's rows, if they are mirrored there."""
        return self.path / "tensorboard"

    @property
    def checkpoint_folder(self) -> Path:
        """Where its checkpoints stand."""
        return self.path / "checkpoints"

    def checkpoints(self) -> list[Path]:
        """Its checkpoints, oldest first, complete or not."""
        return checkpoint.checkpoints(self.checkpoint_folder)

    def newest_checkpoint(self) -> tuple[Path, list[str]]:
        """The newest complete checkpoint, and a line for each newer one that was passed over.

        Raises:
            InputError: if there is none.
        """
        passed = []
        for path in reversed(self.checkpoints()):
            try:
                checkpoint.verify(path)
            except InputError as error:
                passed.append(f"passed over {path.name}: {error}")
                continue
            return path, passed
        rule = "has no complete checkpoint" + (f" ({'; '.join(passed)})" if passed else "")
        raise InputError("run", str(self), rule, "start the run anew with another --out")

    def check_new(self, *, but: str | None = None) -> None:
        """Refuse a directory that holds a run, or checkpoints of one.

        Args:
            but: Name of a checkpoint that may be there, because it is the first that the new run writes.

        Raises:
            InputError: if it does; not if that run was stopped before its first checkpoint.
        """
        if self.record_file.exists() and not self.never_saved:
            raise InputError("--out", str(self), "holds a run already", f"`latebloom resume {self}`, or another --out")
        if any(but is None or but not in name for name in self._saved()):
            rule = "holds checkpoints of an earlier run, with which this one would go on"
            raise InputError("--out", str(self), rule, "remove them, or give another --out")

    def check_same(self, plan: Plan, config: TrainConfig, data_digest: str) -> None:
        """Refuse a run that is here already unless it is the run of these arguments, done or begun.

        Args:
            plan: What is to be trained.
            config: How; only what decides the run's numbers is compared.
            data_digest: Of the token shards.

        Raises:
            InputError: naming the first thing in which they differ.
        """
        if not self.record_file.exists() or self.never_saved:
            return
        began, fix = read_header(self.record_file), "give another --out, or remove that run"
        if began.plan_digest != plan.digest:
            path, was, now = diff(began.plan, plan)[0]
            raise InputError(f"{self.record_file}: {path}", was, f"is not {now!r}, which is asked for now", fix)
        for name, now in _deciding(config).items():
            if (was := _began(name, began.config.get(name, now))) != now:
                raise InputError(f"{self.record_file}: $.{name}", was, f"is not {now!r}, which is asked for now", fix)
        if began.data_digest != data_digest:
            rule = f"is not the digest of the data that are given now, {data_digest[:16]}"
            raise InputError(f"{self.record_file}: data", (began.data_digest or "")[:16], rule, fix)

    @property
    def never_saved(self) -> bool:
        """Whether the run that began here was stopped before its first checkpoint: nothing is lost if it begins anew.

        Its record holds the rows of step 0 at most, or a header that is torn.
        """
        if self._saved():
            return False
        begun = b"\n" in self.record_file.read_bytes()
        return not begun or not np.any(read_record(self.record_file).columns["step"] > 0)

    def _saved(self) -> list[str]:
        """Names of checkpoints, those included that were put aside; not of one that was not finished."""
        return [path.name for path in self.checkpoint_folder.glob("*step-*") if path.suffix != ".part"]

    def check_run(self) -> None:
        """Refuse a directory that holds none.

        Raises:
            InputError: if it holds none.
        """
        if not self.plan_file.exists():
            raise InputError("run", str(self), "is not a run's directory", "name one that `latebloom train` made")

    def is_finished(self, steps: int) -> bool:
        """Whether its record reaches the last step and its last checkpoint is there, or all were taken away since.

        Args:
            steps: Of its plan.
        """
        if not self.record_file.exists():
            return False
        step, _ = read_record(self.record_file).curve()
        saved = self._saved()
        whole = not saved or any(f"step-{steps:08d}-" in name for name in saved)
        return len(step) > 0 and int(step[-1]) == steps and whole

    def begin(self, plan: Plan, config: TrainConfig, data: Path) -> None:
        """Write what a run begins with: plan, tokenizer, settings, and where the data are.

        Args:
            plan: What is trained.
            config: How.
            data: Directory of token shards.
        """
        self.record_file.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
        write_plan(plan, self.plan_file)
        tokenizer = data / TOKENIZER_FILE
        if tokenizer.is_file():
            write_whole(self.tokenizer_file, tokenizer.read_bytes())
        write_whole(self.config_file, config.to_json())
        write_whole(self.data_file, f"{data.resolve()}\n")

    def begin_as(self, trunk: RunDirectory, plan: Plan) -> None:
        """Write what a branch begins with: its own plan, all else as its trunk has it.

        Args:
            trunk: The run that it is a branch of.
            plan: Of the branch.
        """
        write_plan(plan, self.plan_file)
        for theirs, ours in (
            (trunk.config_file, self.config_file), (trunk.data_file, self.data_file),
            (trunk.tokenizer_file, self.tokenizer_file),
        ):  # fmt: skip
            if theirs.is_file():
                write_whole(ours, theirs.read_bytes())

    def plan(self) -> Plan:
        """The plan that is executed."""
        return read_plan(self.plan_file)

    def plan_begun(self, began: Plan) -> Plan:
        """The plan to go on with from a checkpoint of ``began``.

        Raises:
            InputError: if plan.json was edited since.
        """
        plan = self.plan()
        planned = read_plan(self.planned_file).digest if self.planned_file.exists() else None
        if plan.digest != began.digest and planned in (
            plan.digest,
            began.digest,
        ):  # stopped while it moved its expansion
            write_plan(began, self.plan_file)
            return began
        if plan.digest != began.digest:
            path, was, now = diff(began, plan)[0]
            rule = f"was {was!r} when the run began"
            raise InputError(f"{self.plan_file}: {path}", now, rule, "restore it, or start another run")
        return plan

    def config_begun(self) -> TrainConfig:
        """The settings to go on with: those of config.json.

        Raises:
            InputError: if one that decides the run's numbers is not what the record says the run began with.
        """
        config = read_spec(self.config_file, TrainConfig)
        began = read_header(self.record_file).config if self.record_file.exists() else {}
        for name, now in _deciding(config).items():
            if (was := _began(name, began.get(name, now))) != now:
                rule = f"was {was!r} when the run began"
                raise InputError(f"{self.config_file}: $.{name}", now, rule, "restore it, or start another run")
        return config

    def data(self) -> Path | None:
        """The directory of token shards with which the run began; None if that was not kept."""
        if not self.data_file.is_file():
            return None
        return Path(self.data_file.read_text(encoding="utf-8", errors="replace").strip())

    @property
    def tokenizer_folders(self) -> tuple[Path, ...]:
        """Where a tokenizer may be: here, or with the data."""
        data = self.data()
        return (self.path,) if data is None else (self.path, data)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and hold it for this process; the system releases it when the process ends, however.

        Raises:
            InputError: naming the process that holds it, or a link in it: what that names is not this run's to write.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for entry in sorted(self.path.iterdir()):
            if entry.is_symlink() and not self._is_own_scratch(entry):
                rule = f"is a link to {os.readlink(entry)}, which a run would write to"
                fix = "remove the link" if entry != self.checkpoint_folder else "link an empty directory"
                raise InputError("run", str(entry), rule, fix)
        with hold(self.path / "lock", name="run", value=str(self)):
            if not self.id_file.is_file():
                write_whole(self.id_file, f"{secrets.token_hex(8)}\n")
            if self.checkpoint_folder.is_symlink() and not any(self.checkpoint_folder.iterdir()):
                write_whole(self.checkpoint_folder / ID_FILE, f"{self.id}\n")
            yield

    def _is_own_scratch(self, entry: Path) -> bool:
        """Whether a link is that of the checkpoints, to a directory that is empty or marked as this run's."""
        if entry != self.checkpoint_folder or not entry.is_dir():
            return False
        mark = entry / ID_FILE
        if not any(entry.iterdir()):
            return True
        return not mark.is_symlink() and mark.is_file() and self.id_file.is_file() and (
            mark.read_text(encoding="utf-8", errors="replace").strip() == self.id
        )  # fmt: skip


def _deciding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide a run's numbers."""
    return {name: value for name, value in shown_settings(config).items() if name not in FREE_TO_CHANGE}


def _began(name: str, value: Any) -> Any:
    """A setting as a record keeps it today: those of before 2026-11-26 hold the whole path of ``init_from``."""
    return Path(value).name if name == "init_from" and isinstance(value, str) else value
