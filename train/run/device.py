"""Which device a run or a sample is computed on."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from pathlib import Path

import torch

from latebloom.theory.errors import InputError

__all__ = ["check_disk", "check_memory", "device_text", "keep_freed_memory", "usable_device"]

WITHIN = 0.9  # of the peak that the dry run predicts is surely needed: the tests hold it to 10 %
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def usable_device(name: str) -> torch.device:
    """The device called ``name``.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1`` ..., or ``auto``: the GPU if there is one.

    Raises:
        InputError: for a device that this machine has not, or that nothing can be trained on.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise InputError("--device", name, "is not a device to train on", "use cpu, cuda or auto")
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.get_device_properties(device)  # knows which numbers there are
    except (RuntimeError, AssertionError) as error:
        rule = f"is not usable here ({str(error).splitlines()[0][:80]})"
        raise InputError("--device", name, rule, "use cpu, cuda or auto") from None
    return device


def device_text(device: torch.device) -> str:
    """The device in words, for records.

    Args:
        device: That a run is computed on.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def check_memory(device: torch.device, *, states: int, peak: int, sequences: int) -> None:
    """Refuse what ``device`` cannot hold, before anything is built.

    Args:
        device: To train on.
        states: Bytes of weights, gradients and optimizer state at full depth: the least that a run takes.
        peak: Bytes at full depth with the activations of ``sequences``, as the dry run predicts them.
        sequences: In a forward pass.

    Raises:
        InputError: if the device has less memory in all than ``states``, or than nine tenths of ``peak``.
    """
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    has = f"{device} has {there / 2**30:,.1f}"
    if states > there:
        rule = f"takes {states / 2**30:,.1f} GiB for its states alone; {has}"
        fix = "train a smaller model; `latebloom train --dry-run` says what it takes"
        raise InputError("plan", "full depth", rule, fix)
    if WITHIN * peak > there:  # not when the run has come to its expansion
        rule = f"sequences at a time take {peak / 2**30:,.1f} GiB at full depth; {has}"
        raise InputError("--microbatch", sequences, rule, "give fewer, or --activations selective or recompute")


def check_disk(folder: Path, *, checkpoint: int, keep: int) -> None:
    """Refuse a run whose last checkpoints have no room, before its first step.

    Args:
        folder: Where they will be; it need not be there yet. What lies in it will be pruned, and counts as free.
        checkpoint: Bytes of one at full depth.
        keep: How many stay; one more is being written meanwhile.

    Raises:
        InputError: if the disk has less room.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    free, needed = shutil.disk_usage(there).free + held, (keep + 1) * checkpoint
    if needed > free:
        rule = f"has {free:,} bytes free; {keep} checkpoints and the one being written take {needed:,}"
        raise InputError("--out", str(folder), rule, "free some disk, or give another --out or --keep-checkpoints 1")


def keep_freed_memory() -> None:
    """Have glibc keep big freed blocks: a CPU's logits and activations would be mapped and cleared anew at every step.

    Worth 10 % of a step of a small model. Where the C library has no ``mallopt`` nothing happens.
    """
    libc = ctypes.CDLL(None)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        if hasattr(libc, "mallopt"):
            libc.mallopt(option, 2**30)
