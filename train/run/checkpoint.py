"""Checkpoints that survive what happens: whole or absent, checked by hash, executing nothing when read.

A checkpoint is a directory ``step-00000060-stage-1`` with

    model.safetensors      weights by name
    optimizer.safetensors  optimizer state as ``parameter|key``
    state.json             step, stage, accumulators; names of parameters that have no optimizer state yet
    plan.json              the plan
    manifest.json          bytes and SHA-256 of the others, plan and data digests; written last

written under a temporary name, flushed to disk and renamed. Reading goes from the newest back to the first that is
complete. Nothing here is pickled. Reading the manifest needs no torch.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan, read_plan
from latebloom.theory.spec import Count, Spec, read_spec
from latebloom.train.data.shards import file_sha256

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CheckpointManifest", "File", "State", "check_new", "check_run", "checkpoints", "load", "manifest_of",
           "newest", "run_lock", "save", "verify"]  # fmt: skip

NAME = re.compile(r"step-(\d{8})-stage-(\d+)")


class File(Spec, frozen=True, kw_only=True):
    """One file of a checkpoint."""

    name: Annotated[str, Meta(pattern=r"^[a-z]+\.(safetensors|json)$")]
    bytes: int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class CheckpointManifest(Spec, frozen=True, kw_only=True):
    """What a checkpoint holds, without its tensors."""

    checkpoint_version: Literal[1] = 1
    step: Count
    stage: Count
    depth: Count
    plan_digest: str
    data_digest: str
    files: tuple[File, ...]


class State(Spec, frozen=True, kw_only=True):
    """What the loop needs besides tensors to go on bit for bit."""

    step: Count
    stage: Count
    wall_s: float
    train_loss_sum: float
    train_loss_steps: Count
    without_state: tuple[str, ...] = ()
    auto: str | None = None


def save(
    run: Path,
    *,
    plan: Plan,
    data_digest: str,
    state: State,
    model: dict[str, Tensor],
    optimizer: dict[str, dict[str, Tensor]],
    keep: int = 2,
) -> Path:
    """Write a checkpoint below ``run`` and then, only then, remove all but the newest ``keep``.

    Raises:
        InputError: if the disk is full, with the bytes needed and free; what was saved before stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{state.step:08d}-stage-{state.stage}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    flat = {f"{name}|{key}": t for name, held in optimizer.items() for key, t in held.items()}
    without = tuple(name for name, held in optimizer.items() if not held)
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.items()}, part / "model.safetensors")
        save_file({k: v.detach().cpu().contiguous() for k, v in flat.items()}, part / "optimizer.safetensors")
        (part / "state.json").write_text(state.replace(without_state=without).to_json())
        (part / "plan.json").write_text(plan.to_json())
        files = tuple(File(name=p.name, bytes=p.stat().st_size, sha256=file_sha256(p)) for p in sorted(part.iterdir()))
        manifest = CheckpointManifest(
            step=state.step, stage=state.stage, depth=plan.stages[state.stage].depth, plan_digest=plan.digest,
            data_digest=data_digest, files=files,
        )  # fmt: skip
        (part / "manifest.json").write_text(manifest.to_json())
        for path in [*part.iterdir(), part]:
            _flush(path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        needed = sum(t.numel() * t.element_size() for t in [*model.values(), *flat.values()])
        free = shutil.disk_usage(run).free
        why = getattr(error, "strerror", None) or error
        rule = f"could not be written ({why}): {needed:,} bytes needed, {free:,} free"
        raise InputError(str(target), getattr(error, "errno", None), rule, "free some disk and resume") from None
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    _flush(folder)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return target


def check_new(out: Path) -> None:
    """Refuse a directory that holds a run."""
    if (out / "record.jsonl").exists():
        raise InputError("--out", str(out), "holds a run already", f"`latebloom resume {out}`, or another --out")


def check_run(run: Path) -> None:
    """Refuse a directory that holds none."""
    if not (run / "plan.json").exists():
        raise InputError("run", str(run), "is not a run's directory", "name one that `latebloom train` made")


def checkpoints(run: Path) -> list[Path]:
    """Checkpoint directories below ``run``, oldest first."""
    found = [p for p in (run / "checkpoints").glob("step-*") if NAME.fullmatch(p.name)]
    return sorted(found, key=lambda p: tuple(map(int, NAME.fullmatch(p.name).groups())))  # type: ignore[union-attr]


def manifest_of(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint that :func:`newest` or :func:`verify` has checked: nothing is hashed again."""
    return read_spec(path / "manifest.json", CheckpointManifest)


def verify(path: Path) -> CheckpointManifest:
    """Check every file of one checkpoint against its manifest; needs no torch.

    Raises:
        InputError: naming the file, what was expected and what is there.
    """
    path = Path(path)
    if not (path / "manifest.json").is_file():
        raise InputError("checkpoint", str(path), "has no manifest.json: it is no checkpoint, or torn", "use another")
    manifest = manifest_of(path)
    for entry in manifest.files:
        file = path / entry.name
        if file.is_symlink() or not file.is_file():
            raise InputError(str(file), None, f"is missing; {entry.bytes} bytes are expected", "use another checkpoint")
        if (size := file.stat().st_size) != entry.bytes:
            raise InputError(str(file), size, f"bytes; the manifest says {entry.bytes}", "use another checkpoint")
        if (found := file_sha256(file)) != entry.sha256:
            rule = f"is not the manifest's SHA-256 {entry.sha256[:16]}: the file was changed"
            raise InputError(str(file), found[:16], rule, "use another checkpoint")
    missing = {"model.safetensors", "optimizer.safetensors", "state.json", "plan.json"} - {
        f.name for f in manifest.files
    }
    if missing:
        raise InputError(str(path), sorted(missing), "are not in the manifest", "use another checkpoint")
    if read_plan(path / "plan.json").digest != manifest.plan_digest:
        raise InputError(
            str(path / "plan.json"), manifest.plan_digest[:16], "is not its digest", "use another checkpoint"
        )
    return manifest


def newest(run: Path) -> tuple[Path, list[str]]:
    """The newest complete checkpoint of ``run``, and a line for each newer one that was passed over.

    Raises:
        InputError: if there is none.
    """
    passed = []
    for path in reversed(checkpoints(run)):
        try:
            verify(path)
        except InputError as error:
            passed.append(f"passed over {path.name}: {error}")
            continue
        return path, passed
    rule = "has no complete checkpoint" + (f" ({'; '.join(passed)})" if passed else "")
    raise InputError("run", str(run), rule, "start the run anew with another --out")


def load(path: Path) -> tuple[State, dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """(state, weights by name, optimizer state by name) of a verified checkpoint."""
    state = read_spec(path / "state.json", State)
    optimizer: dict[str, dict[str, Any]] = {name: {} for name in state.without_state}
    for key, tensor in _tensors(path / "optimizer.safetensors").items():
        name, _, what = key.rpartition("|")
        optimizer.setdefault(name, {})[what] = tensor
    return state, _tensors(path / "model.safetensors"), optimizer


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        rule = f"is not a safetensors file ({str(error)[:80]})"
        raise InputError("checkpoint", str(path), rule, "use another checkpoint") from None


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold ``run`` for this process; the system releases it when the process ends, however it ends.

    Raises:
        InputError: naming the process that holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = json.loads(file.read() or "{}")
            rule = f"is in use by process {owner.get('pid')} on {owner.get('host')}"
            raise InputError("run", str(run), rule, "wait for it, stop it, or use another --out") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
        file.flush()
        yield


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
