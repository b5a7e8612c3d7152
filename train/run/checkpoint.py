"""Checkpoints: written whole or not at all, checked by hash, read without executing anything.

A checkpoint is a directory ``step-00000060-stage-1`` with

    model.safetensors      weights by name
    optimizer.safetensors  optimizer state as ``parameter|key``
    state.json             step, stage, accumulators; names of parameters that have no optimizer state yet
    plan.json              the plan
    manifest.json          bytes and SHA-256 of the others, plan and data digests; written last

written under a temporary name, flushed to disk and renamed. Reading goes from the newest back to the first that is
complete. Nothing here is pickled. Reading the manifest needs no torch. Name, manifest, state, plan and weights must be
of one moment, and the weights finite: a run that diverged leaves the checkpoints before as they are.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from latebloom.theory.errors import InputError, RunError
from latebloom.theory.files import commit_directory, file_sha256, replaced_directory
from latebloom.theory.plan import Plan, read_plan
from latebloom.theory.spec import Count, NonNegative, Spec, read_spec
from latebloom.train.run.directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BEGINNING", "CheckpointManifest", "File", "NonFiniteWeights", "State", "checkpoints", "load",
           "manifest_of", "newest", "save", "saved_plan", "verify"]  # fmt: skip

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
PLAN, MANIFEST = "plan.json", "manifest.json"
NAME = re.compile(r"step-(\d{8})-stage-(\d+)")


class NonFiniteWeights(RunError):
    """A weight is not a finite number; no checkpoint is written, and those before are good."""


class File(Spec, frozen=True, kw_only=True):
    """One file of a checkpoint.

    Attributes:
        name: Beside the manifest.
        bytes: Its size.
        sha256: Of the whole file.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z]+\.(safetensors|json)$")]
    bytes: int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class CheckpointManifest(Spec, frozen=True, kw_only=True):
    """What a checkpoint holds, without its tensors.

    Attributes:
        checkpoint_version: Of the format.
        step: Updates done.
        stage: Index of the plan's stage.
        depth: Blocks of the model.
        plan_digest: SHA-256 of the plan.
        data_digest: Of the token shards.
        files: All but the manifest.
    """

    checkpoint_version: Literal[1] = 1
    step: Count
    stage: Count
    depth: Count
    plan_digest: str
    data_digest: str
    files: tuple[File, ...]


class State(Spec, frozen=True, kw_only=True):
    """What the loop needs besides tensors to go on bit for bit.

    Attributes:
        step: Updates done.
        stage: Index of the plan's stage.
        wall_s: Seconds of training so far.
        train_loss_sum: Training loss summed since the last row of the record.
        train_loss_steps: Updates in that sum.
        without_state: Parameters that have no optimizer state yet.
        auto: JSON of the rule that decides the expansion online, as far as it had got; None: the plan decides.
    """

    step: Count
    stage: Count
    wall_s: NonNegative
    train_loss_sum: float
    train_loss_steps: Count
    without_state: tuple[str, ...] = ()
    auto: str | None = None


BEGINNING = State(step=0, stage=0, wall_s=0.0, train_loss_sum=0.0, train_loss_steps=0)


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
    """Write a checkpoint below ``run`` and then, only then, remove all but it and the newest others, ``keep`` in all.

    Args:
        run: The run's directory.
        plan: What is trained.
        data_digest: Of the token shards.
        state: How far the run is.
        model: Weights by name.
        optimizer: Each parameter's optimizer state by name; empty for one that was never updated.
        keep: How many checkpoints stay.

    Returns:
        The checkpoint's directory.

    Raises:
        InputError: if the disk is full, with the bytes needed and free; what was saved before stays.
        NonFiniteWeights: if a weight is not finite; what was saved before stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for name, tensor in model.items():
        if not bool(tensor.isfinite().all()):
            raise NonFiniteWeights(
                f"step {state.step}: {name} is not finite; no checkpoint is written. Lower the peak learning rate "
                f"({plan.schedule.peak:.4g}) and start another run"
            )
    folder = RunDirectory(run).checkpoints
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{state.step:08d}-stage-{state.stage}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    flat = {f"{name}|{key}": t for name, held in optimizer.items() for key, t in held.items()}
    without = tuple(name for name, held in optimizer.items() if not held)
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.items()}, part / MODEL)
        save_file({k: v.detach().cpu().contiguous() for k, v in flat.items()}, part / OPTIMIZER)
        (part / STATE).write_text(state.replace(without_state=without).to_json())
        (part / PLAN).write_text(plan.to_json())
        files = tuple(File(name=p.name, bytes=p.stat().st_size, sha256=file_sha256(p)) for p in sorted(part.iterdir()))
        manifest = CheckpointManifest(
            step=state.step, stage=state.stage, depth=plan.stages[state.stage].depth, plan_digest=plan.digest,
            data_digest=data_digest, files=files,
        )  # fmt: skip
        (part / MANIFEST).write_text(manifest.to_json())
        commit_directory(part, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        needed = sum(t.numel() * t.element_size() for t in [*model.values(), *flat.values()])
        free = shutil.disk_usage(run).free
        why = getattr(error, "strerror", None) or error
        rule = f"could not be written ({why}): {needed:,} bytes needed, {free:,} free"
        raise InputError(str(target), getattr(error, "errno", None), rule, "free some disk and resume") from None
    others = [path for path in checkpoints(run) if path != target]
    kept = [target, *others[max(0, len(others) - (keep - 1)) :]]
    for path in folder.glob("*"):
        if NAME.search(path.name) and path not in kept:
            shutil.rmtree(path, ignore_errors=True)  # one that cannot be removed does not end the run
    return target


def checkpoints(run: Path) -> list[Path]:
    """Checkpoint directories below ``run``, oldest first; one that was put aside when a process ended is among them.

    Args:
        run: The run's directory.
    """
    folder = RunDirectory(run).checkpoints
    by_place = {_place(path): path for path in folder.glob(replaced_directory(folder / "step-*").name)}
    by_place |= {_place(path): path for path in folder.glob("step-*") if NAME.fullmatch(path.name)}
    return [by_place[place] for place in sorted(by_place) if not by_place[place].is_symlink()]


def _place(path: Path) -> tuple[int, int]:
    """(step, stage) in a checkpoint's name."""
    step, stage = NAME.search(path.name).groups()  # type: ignore[union-attr]
    return int(step), int(stage)


def saved_plan(path: Path) -> Plan:
    """The plan in a checkpoint.

    Args:
        path: The checkpoint's directory.
    """
    return read_plan(path / PLAN)


def manifest_of(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint that :func:`newest` or :func:`verify` has checked: nothing is hashed again.

    Args:
        path: The checkpoint's directory.
    """
    return read_spec(path / MANIFEST, CheckpointManifest)


def verify(path: Path) -> CheckpointManifest:
    """Check every file of one checkpoint against its manifest; needs no torch.

    Args:
        path: The checkpoint's directory.

    Raises:
        InputError: naming the file, what was expected and what is there.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise InputError("checkpoint", str(path), "has no manifest.json: it is no checkpoint, or torn", "use another")
    manifest = manifest_of(path)
    for entry in manifest.files:
        file = path / entry.name
        if file.is_symlink() or not file.is_file():
            raise InputError(str(file), None, f"is missing; {entry.bytes} bytes are expected", "use another checkpoint")
        if (size := file.stat().st_size) != entry.bytes:
            raise InputError(str(file), size, f"bytes; the manifest says {entry.bytes}", "use another checkpoint")
        if (actual := file_sha256(file)) != entry.sha256:
            rule = f"is not the manifest's SHA-256 {entry.sha256[:16]}: the file was changed"
            raise InputError(str(file), actual[:16], rule, "use another checkpoint")
    missing = {MODEL, OPTIMIZER, STATE, PLAN} - {f.name for f in manifest.files}
    if missing:
        raise InputError(str(path), sorted(missing), "are not in the manifest", "use another checkpoint")
    if saved_plan(path).digest != manifest.plan_digest:
        raise InputError(str(path / PLAN), manifest.plan_digest[:16], "is not its digest", "use another checkpoint")
    _check_agreement(path, manifest)
    return manifest


def _check_agreement(path: Path, manifest: CheckpointManifest) -> None:
    """Refuse a manifest of another moment than the name, the state or the plan beside it."""
    plan, state = saved_plan(path), read_spec(path / STATE, State)
    step, stage = manifest.step, manifest.stage
    if (state.step, state.stage) != (step, stage):
        rule = f"is not the manifest's step {step}, stage {stage}"
        raise InputError(str(path / STATE), f"step {state.step}, stage {state.stage}", rule, "use another checkpoint")
    bounds = [*(each.start_step for each in plan.stages), plan.steps]
    if stage >= len(plan.stages) or not bounds[stage] <= step <= bounds[stage + 1]:
        rule = "does not exist in the plan beside it"
        raise InputError(str(path / MANIFEST), f"step {step}, stage {stage}", rule, "use another checkpoint")
    if manifest.depth != plan.stages[stage].depth:
        rule = f"is not the plan's depth of stage {stage}, {plan.stages[stage].depth}"
        raise InputError(f"{path / MANIFEST}: $.depth", manifest.depth, rule, "use another checkpoint")
    if NAME.search(path.name) and _place(path) != (step, stage):
        rule = f"holds step {step}, stage {stage}"
        raise InputError("checkpoint", str(path), rule, "give it the name that it was written under")


def newest(run: Path) -> tuple[Path, list[str]]:
    """The newest complete checkpoint of ``run``, and a line for each newer one that was passed over.

    Args:
        run: The run's directory.

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
    """(state, weights by name, optimizer state by name) of a verified checkpoint.

    Args:
        path: The checkpoint's directory.

    Raises:
        InputError: if the weights are not those of a model of the manifest's depth.
    """
    state, weights = read_spec(path / STATE, State), _tensors(path / MODEL)
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if depth != (stated := manifest_of(path).depth):
        raise InputError(str(path / MODEL), depth, f"blocks; the manifest says {stated}", "use another checkpoint")
    optimizer: dict[str, dict[str, Any]] = {name: {} for name in state.without_state}
    for key, tensor in _tensors(path / OPTIMIZER).items():
        name, _, what = key.rpartition("|")
        optimizer.setdefault(name, {})[what] = tensor
    return state, weights, optimizer


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        rule = f"is not a safetensors file ({str(error)[:80]})"
        raise InputError("checkpoint", str(path), rule, "use another checkpoint") from None
