"""Which device a run or a sample is computed on."""

from __future__ import annotations

import ctypes
import os

import torch

from theory.errors import InputError

__all__ = ["check_memory", "multiplies_in_float32", "tune_cpu", "usable_device"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def usable_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the GPU if there is one.

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
    except (RuntimeError, AssertionError) as error:
        rule = f"is not usable here ({str(error).splitlines()[0][:80]})"
        raise InputError("--device", name, rule, "use cpu, cuda or auto") from None
    return device


def check_memory(device: torch.device, needed: int) -> None:
    """Refuse what ``device`` cannot hold, before anything is built.

    Args:
        device: To train on.
        needed: Bytes of weights, gradients and optimizer state at full depth: the least that a run takes.

    Raises:
        InputError: if it has less memory in all.
    """
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        rule = f"takes {needed / 2**30:,.1f} GiB for its states alone; {device} has {there / 2**30:,.1f}"
        raise InputError(
            "plan", "full depth", rule, "train a smaller model; `latebloom train --dry-run` says what it takes"
        )


def tune_cpu() -> None:
    """What makes training on a CPU faster in this process without changing what is computed; called by the loop.

    glibc keeps big freed blocks: logits and activations would be mapped and cleared anew at every step, 10 % of a small
    model's. Where the C library has no ``mallopt`` nothing happens.

    float32 matrix products go to oneDNN, whose kernels are 4 to 24 % faster than MKL's on AMD. torch offers that only
    as the permission to multiply in bfloat16, of which oneDNN makes use where there are AMX units; so a product is
    looked at, and where it is no longer a float32 one the setting goes back.
    """
    libc = ctypes.CDLL(None)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        if hasattr(libc, "mallopt"):
            libc.mallopt(option, 2**30)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    if before == "none":
        matmul.fp32_precision = "bf16"
        if not multiplies_in_float32():
            matmul.fp32_precision = before


def multiplies_in_float32() -> bool:
    """Whether products keep what bfloat16 would round away, in all three forms that training takes."""
    x = torch.full((256, 256), 1 + 2.0**-12)
    exact = 256 * (1 + 2.0**-12) ** 2
    products = (x @ x, x.T @ x, torch.addmm(x[0], x, x.T) - x[0])
    return all(float((product - exact).abs().max()) < 256 * 2.0**-20 for product in products)
