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

Of W ranks each writes ``model-00001-of-0000W.safetensors`` and so on with its rows of every tensor, and the manifest
(version 2) says which rows these are; rank 0 writes the rest and gives the name. Where groups of ranks hold replicas,
the first group writes, and W is its size. Any number of ranks reads what any number wrote.
A file's metadata says where its rows begin as torch.distributed.checkpoint does, which reads them, too.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from latebloom.theory.errors import InputError, RunError
from latebloom.theory.files import commit_directory, file_sha256, replaced_directory
from latebloom.theory.plan import Plan, read_plan
from latebloom.theory.spec import Count, NonNegative, Spec, decode, read_spec
from latebloom.train.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BEGINNING", "AnyManifest", "CheckpointManifest", "File", "NonFiniteWeights", "RowsManifest", "State",
           "TensorRows", "checkpoints", "load", "manifest_of", "save", "saved_plan", "verify"]  # fmt: skip

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
PLAN, MANIFEST = "plan.json", "manifest.json"
NAME = re.compile(r"step-(\d{8})-stage-(\d+)")
ROWS_KEY = "DCP_SHARDING_INFO"  # torch.distributed.checkpoint's name for where a file's rows begin


class NonFiniteWeights(RunError):
    """A weight is not a finite number; no checkpoint is written, and those before are good."""


class File(Spec, frozen=True, kw_only=True):
    """One file of a checkpoint.

    Attributes:
        name: Beside the manifest.
        bytes: Its size.
        sha256: Of the whole file.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z]+(-\d{5}-of-\d{5})?\.(safetensors|json)$")]
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


class TensorRows(Spec, frozen=True, kw_only=True):
    """Where the rows of one tensor are.

    Attributes:
        shape: Of the whole tensor.
        rows: (first, one after the last) row in the file of each rank, in their order.
    """

    shape: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]


class RowsManifest(Spec, frozen=True, kw_only=True):
    """What a checkpoint of several ranks holds, without its tensors.

    Attributes:
        checkpoint_version: Of the format.
        step: Updates done.
        stage: Of the plan.
        depth: Blocks.
        plan_digest: Of the plan.
        data_digest: Of the token shards.
        world: Ranks that wrote it.
        model: Weights by name.
        optimizer: Optimizer state as ``parameter|key``.
        files: All but the manifest.
    """

    checkpoint_version: Literal[2] = 2
    step: Count
    stage: Count
    depth: Count
    plan_digest: str
    data_digest: str
    world: Annotated[int, Meta(ge=2)]
    model: dict[str, TensorRows]
    optimizer: dict[str, TensorRows]
    files: tuple[File, ...]

    def check(self) -> None:
        """Refuse rows that are missing or there twice.

        Raises:
            InputError: naming the tensor.
        """
        for name, tensor in (*self.model.items(), *self.optimizer.items()):
            starts, ends = [first for first, _ in tensor.rows], [after for _, after in tensor.rows]
            count = tensor.shape[0] if tensor.shape else 1
            if len(ends) != self.world or starts != [0, *ends[:-1]] or ends != sorted(ends) or ends[-1] != count:
                rule = f"are not the {count} rows of {name}, each once"
                raise InputError("rows", tensor.rows, rule, "use another checkpoint")


AnyManifest = CheckpointManifest | RowsManifest


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
    folder: Path,
    *,
    plan: Plan,
    data_digest: str,
    state: State,
    model: dict[str, Tensor],
    optimizer: dict[str, dict[str, Tensor]],
    keep: int = 2,
    ranks: Ranks = ALONE,
    shapes: dict[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write a checkpoint into ``folder`` and then, only then, remove all but it and the newest others, ``keep`` in all.

    Args:
        folder: Where the run's checkpoints stand; it is made if need be.
        plan: What is trained.
        data_digest: Of the token shards.
        state: How far the run is.
        model: Weights by name; of several ranks, this one's rows.
        optimizer: Each parameter's optimizer state by name; empty for one that was never updated.
        keep: How many checkpoints stay.
        ranks: That write it together.
        shapes: Of the whole tensors of the model, if there are several ranks.

    Returns:
        The checkpoint's directory.

    Raises:
        InputError: if the disk is full, with the bytes needed and free; what was saved before stays.
        NonFiniteWeights: if a weight is not finite; what was saved before stays.
    """
    finite = all(bool(tensor.isfinite().all()) for tensor in model.values())
    if not all(verdict == "finite" for verdict in ranks.texts("finite" if finite else "not finite")):
        name = next((name for name, tensor in model.items() if not bool(tensor.isfinite().all())), "a weight")
        raise NonFiniteWeights(
            f"step {state.step}: {name} is not finite; no checkpoint is written. Lower the peak learning rate "
            f"({plan.schedule.peak:.4g}) and start another run"
        )
    target = folder / f"step-{state.step:08d}-stage-{state.stage}"
    part = folder / f".{target.name}.part"
    flat = {f"{name}|{key}": t for name, held in optimizer.items() for key, t in held.items()}
    without = tuple(name for name, held in optimizer.items() if not held)
    if ranks.is_first:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    ranks.barrier()
    tensors = [*model.values(), *flat.values()]
    with ranks.together(), _writing(part, target, tensors):
        files = _write_tensors(part, model, flat, ranks, shapes or {})
    entries = [decode(text, File) for texts in ranks.texts(json.dumps(files)) for text in json.loads(texts)]
    with ranks.together():
        if ranks.is_first:
            with _writing(part, target, tensors):
                (part / STATE).write_text(state.replace(without_state=without).to_json())
                (part / PLAN).write_text(plan.to_json())
                entries = sorted([*entries, _file(part / STATE), _file(part / PLAN)], key=lambda entry: entry.name)
                whole = CheckpointManifest(
                    step=state.step, stage=state.stage, depth=plan.stages[state.stage].depth,
                    plan_digest=plan.digest, data_digest=data_digest, files=tuple(entries),
                )  # fmt: skip
                in_rows = shapes is not None and ranks.shard > 1
                manifest = _in_rows(whole, shapes or {}, flat, ranks) if in_rows else whole
                (part / MANIFEST).write_text(manifest.to_json())
                commit_directory(part, target)
            others = [path for path in checkpoints(folder) if path != target]
            kept = [target, *others[max(0, len(others) - (keep - 1)) :]]
            for path in folder.glob("*"):
                if NAME.search(path.name) and path not in kept:
                    shutil.rmtree(path, ignore_errors=True)  # one that cannot be removed does not end the run
    return target


@contextlib.contextmanager
def _writing(part: Path, target: Path, tensors: list[Tensor]) -> Iterator[None]:
    """Say in one line what hinders the writing of ``target``, and leave no part of it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        needed = sum(t.numel() * t.element_size() for t in tensors)
        free = shutil.disk_usage(target.parent).free
        why = getattr(error, "strerror", None) or error
        rule = f"could not be written ({why}): {needed:,} bytes needed, {free:,} free"
        raise InputError(str(target), getattr(error, "errno", None), rule, "free some disk and resume") from None


def _write_tensors(
    part: Path, model: dict[str, Tensor], flat: dict[str, Tensor], ranks: Ranks, shapes: dict[str, tuple[int, ...]]
) -> list[str]:
    """Write this rank's files; the JSON of their entries in the manifest. Replicas have none."""
    from safetensors.torch import save_file

    entries: list[str] = []
    if ranks.replica:
        return entries
    for kind, tensors in ((MODEL, model), (OPTIMIZER, flat)):
        path = part / rank_file(kind, ranks.rank, ranks.shard)
        if ranks.shard == 1:
            save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, path)
        else:  # what all ranks hold, such as a number of steps, rank 0 writes; empty rows nobody
            held = {key: t for key, t in tensors.items() if (t.numel() if t.ndim else ranks.is_first)}
            begins = {key: ranks.rows(shapes[_parameter(key)][0]).start for key, t in held.items() if t.ndim}
            offsets = {key: {"saved_offsets": [row] + [0] * (held[key].ndim - 1)} for key, row in begins.items()}
            contiguous = {key: t.detach().cpu().contiguous() for key, t in held.items()}
            save_file(contiguous, path, metadata={ROWS_KEY: json.dumps(offsets)})
        entries.append(_file(path).to_json())
    return entries


def _file(path: Path) -> File:
    return File(name=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))


def _in_rows(
    manifest: CheckpointManifest, shapes: dict[str, tuple[int, ...]], flat: dict[str, Tensor], ranks: Ranks
) -> RowsManifest:
    """The manifest of several ranks, with which rows of each tensor stand in which rank's file."""

    def divided(shape: tuple[int, ...]) -> TensorRows:
        if not shape:  # a number, in the first rank's file
            return TensorRows(shape=(), rows=tuple((min(rank, 1), 1) for rank in range(ranks.shard)))
        parts = [ranks.rows(shape[0], rank) for rank in range(ranks.shard)]
        return TensorRows(shape=shape, rows=tuple((part.start, part.stop) for part in parts))

    return RowsManifest(
        step=manifest.step, stage=manifest.stage, depth=manifest.depth, plan_digest=manifest.plan_digest,
        data_digest=manifest.data_digest, world=ranks.shard, files=manifest.files,
        model={name: divided(shape) for name, shape in shapes.items()},
        optimizer={key: divided(shapes[_parameter(key)] if t.ndim else ()) for key, t in flat.items()},
    )  # fmt: skip


def _parameter(key: str) -> str:
    """The parameter of a tensor: ``key`` is its name, or ``parameter|state``."""
    return key.rpartition("|")[0] or key


def rank_file(kind: str, rank: int, world: int) -> str:
    """Name of a rank's file: ``kind`` itself for one that is alone."""
    if world == 1:
        return kind
    stem, _, suffix = kind.partition(".")
    return f"{stem}-{rank + 1:05d}-of-{world:05d}.{suffix}"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first; one that was put aside when a process ended is among them.

    Args:
        folder: Where a run's checkpoints stand, or will.
    """
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


def manifest_of(path: Path) -> AnyManifest:
    """The manifest of a checkpoint that :func:`verify` has checked: nothing is hashed again.

    Args:
        path: The checkpoint's directory.
    """
    file = path / MANIFEST
    if '"checkpoint_version": 2' in file.read_text(encoding="utf-8", errors="replace")[:100]:
        return read_spec(file, RowsManifest)
    return read_spec(file, CheckpointManifest)


def verify(path: Path) -> AnyManifest:
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
    world = manifest.world if isinstance(manifest, RowsManifest) else 1
    expected = {STATE, PLAN} | {rank_file(kind, rank, world) for kind in (MODEL, OPTIMIZER) for rank in range(world)}
    missing = expected - {f.name for f in manifest.files}
    if missing:
        raise InputError(str(path), sorted(missing), "are not in the manifest", "use another checkpoint")
    if saved_plan(path).digest != manifest.plan_digest:
        raise InputError(str(path / PLAN), manifest.plan_digest[:16], "is not its digest", "use another checkpoint")
    _check_agreement(path, manifest)
    return manifest


def _check_agreement(path: Path, manifest: AnyManifest) -> None:
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


def load(path: Path, *, ranks: Ranks = ALONE) -> tuple[State, dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """(state, weights by name, optimizer state by name) of a verified checkpoint, whoever wrote it.

    Args:
        path: The checkpoint's directory.
        ranks: Each reads its rows of every tensor; one that is alone reads all.

    Raises:
        InputError: if the weights are not those of a model of the manifest's depth.
    """
    state, weights = read_spec(path / STATE, State), _tensors(path, MODEL, ranks)
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if depth != (stated := manifest_of(path).depth):
        raise InputError(str(path / MODEL), depth, f"blocks; the manifest says {stated}", "use another checkpoint")
    optimizer: dict[str, dict[str, Any]] = {name: {} for name in state.without_state}
    for key, tensor in _tensors(path, OPTIMIZER, ranks).items():
        name, _, what = key.rpartition("|")
        optimizer.setdefault(name, {})[what] = tensor
    return state, weights, optimizer


def _tensors(path: Path, kind: str, ranks: Ranks) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if ranks.shard == 1 and (path / kind).exists():
            return load_file(path / kind)
        return _rows(path, kind, ranks)
    except SafetensorError as error:
        rule = f"is not a safetensors file ({str(error)[:80]})"
        raise InputError("checkpoint", str(path / kind), rule, "use another checkpoint") from None


def _rows(path: Path, kind: str, ranks: Ranks) -> dict[str, Tensor]:
    """This rank's rows of every tensor, from the files that hold some of them."""
    import torch
    from safetensors import safe_open

    manifest = manifest_of(path)
    world = manifest.world if isinstance(manifest, RowsManifest) else 1
    files = [safe_open(path / rank_file(kind, rank, world), framework="pt") for rank in range(world)]
    names = [set(file.keys()) for file in files]
    tensors: dict[str, Tensor] = {}
    for name in sorted(set().union(*names)):
        holders = [rank for rank in range(world) if name in names[rank]]
        slices = [files[rank].get_slice(name) for rank in holders]
        if not slices[0].get_shape():
            tensors[name] = files[holders[0]].get_tensor(name)
            continue
        lengths = [part.get_shape()[0] for part in slices]
        own, pieces, first = ranks.rows(sum(lengths)), [], 0
        for part, length in zip(slices, lengths, strict=True):  # in the order of ranks, which is that of rows
            low, high = max(own.start - first, 0), min(own.stop - first, length)
            if low < high:
                pieces.append(part[low:high])
            first += length
        tensors[name] = torch.cat(pieces) if pieces else slices[0][0:0]
    return tensors
