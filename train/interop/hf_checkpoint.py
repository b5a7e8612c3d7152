"""What a checkpoint of Hugging Face's Trainer must hold before a run goes on from it.

The Trainer writes a checkpoint file by file, each process its random numbers, and no process waits for another. One
that is killed meanwhile leaves a directory that is resumed without a word: where ``optimizer.pt`` or ``scheduler.pt``
is missing, both begin anew; where a process's random numbers are missing, it draws others. The callback is told no
path, so that the first is seen by what was loaded, the second in the checkpoint of that step below ``output_dir``.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState, TrainingArguments

from latebloom.theory.errors import InputError

__all__ = ["missing_files", "refuse_half_written", "warn_of_half_written"]

WEIGHTS = ("model", "pytorch_model", "adapter_model")


def refuse_half_written(
    args: TrainingArguments, state: TrainerState, optimizers: Sequence[torch.optim.Optimizer], scheduler: Any
) -> None:
    """Refuse to go on from a checkpoint that a killed process left half written; called by every process.

    Args:
        args: Where checkpoints are, and how many processes there are.
        state: At the begin of training; nothing is asked of a run at step 0.
        optimizers: After the Trainer loaded what it found.
        scheduler: Likewise.

    Raises:
        InputError: naming the checkpoint, what is missing, and the last one that is whole.
    """
    if state.global_step == 0:
        return
    folder = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
    given = args.resume_from_checkpoint
    if isinstance(given, str) and Path(given).is_dir():
        folder = Path(given)
    seen = (folder / "trainer_state.json").is_file()  # else another directory was resumed from
    absent = missing_files(folder, args.world_size, args.process_index) if seen else []
    if not any(optimizer.state for optimizer in optimizers) and getattr(scheduler, "last_epoch", 0) == 0:
        # the Trainer takes both or none
        absent = [name for name in absent if name in ("optimizer.pt", "scheduler.pt")] or [
            "optimizer.pt or scheduler.pt"
        ]
    else:
        absent = [name for name in absent if name.startswith("rng_state")]
    if args.world_size > 1 and torch.distributed.is_initialized():
        everybodys: list[Any] = [None] * args.world_size
        torch.distributed.all_gather_object(everybodys, absent)
        absent = sorted({name for names in everybodys for name in names})
    if absent:
        rule = f"is half written: {', '.join(absent)} missing, and the Trainer would go on without in silence"
        raise InputError("resume_from_checkpoint", str(folder), rule, _instead(folder, args))


def missing_files(folder: Path, world_size: int, rank: int) -> list[str]:
    """Files that a checkpoint lacks, or that end too early, as process ``rank`` sees it.

    Args:
        folder: Of the checkpoint.
        world_size: Number of processes that go on from it.
        rank: Of this process; its random numbers are looked for, unless one process saved the checkpoint and several
            go on, or several and one.
    """
    numbers = "rng_state.pth" if world_size == 1 else f"rng_state_{rank}.pth"
    another = any(folder.glob("rng_state_*.pth")) if world_size == 1 else (folder / "rng_state.pth").is_file()
    asked = ["optimizer.pt", "scheduler.pt", *([] if another else [numbers])]
    absent = [name for name in asked if not zipfile.is_zipfile(folder / name)]  # torch.save writes zip archives
    weights = [f"{name}.{end}" for name in WEIGHTS for end in ("safetensors", "bin")]
    if not any((folder / f"{name}{index}").is_file() for name in weights for index in ("", ".index.json")):
        absent.append(weights[0])
    return absent + ["trainer_state.json"] * (not (folder / "trainer_state.json").is_file())  # the Trainer's last


def warn_of_half_written(args: TrainingArguments) -> None:
    """Say so if ``resume_from_checkpoint=True``, which takes the last checkpoint, would find it unfinished.

    The Trainer then ends with a FileNotFoundError, before it calls any callback.

    Args:
        args: Where checkpoints are.
    """
    saved = _checkpoints(Path(args.output_dir or "."))
    if args.process_index == 0 and saved and not (saved[-1] / "trainer_state.json").is_file():
        rule = "is half written: trainer_state.json missing, which the Trainer writes last"
        warnings.warn(f"{saved[-1]} {rule}; {_instead(saved[-1], args)}", stacklevel=2)


def _checkpoints(folder: Path) -> list[Path]:
    """In the order of their steps."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[len("checkpoint-") :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len("checkpoint-") :]))


def _instead(folder: Path, args: TrainingArguments) -> str:
    """What to do: the last whole checkpoint beside ``folder``, of an earlier step."""
    saved = _checkpoints(folder.parent)
    earlier = saved[: saved.index(folder)] if folder in saved else saved
    for path in reversed(earlier):
        if not missing_files(path, args.world_size, args.process_index):
            return f"resume from {path}"
    return "resume from one that has them; where none is left, begin anew"
