"""What this machine can do for a run: devices, matrix-product rate, packages, disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

__all__ = ["examine_machine", "examine_text", "matmul_tflops"]

PACKAGES = {
    "torch": "train", "safetensors": "train", "tokenizers": "train", "transformers": "hf", "datasets": "data",
    "tiktoken": "data", "tensorboard": "tensorboard", "wandb": "-", "trackio": "-", "lightning": "lightning",
}  # fmt: skip


def examine_machine(folder: Path = Path(".")) -> dict[str, Any]:
    """Everything, as plain data; takes about a second.

    Args:
        folder: Whose disk is looked at.
    """
    import torch

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    packages["torch"] = str(torch.__version__)  # with its build: +cpu uses no GPU, +cu130 needs a driver for CUDA 13.0
    devices = []
    for name in ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]:
        device = torch.device(name)
        try:
            what = platform.machine() if name == "cpu" else torch.cuda.get_device_name(device)
            rates = {str(d).removeprefix("torch."): matmul_tflops(device, d) for d in (torch.float32, torch.bfloat16)}
        except RuntimeError as error:  # a driver too old for this torch, a GPU that is full or in use by another
            what, rates = f"NOT usable: {str(error).splitlines()[0][:160]}", {}
        devices.append({"device": name, "name": what, "matmul_tflops": rates})
    return {
        "python": platform.python_version(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "devices": devices, "packages": packages, "writable": os.access(folder, os.W_OK),
        "free_gib": shutil.disk_usage(folder).free / 2**30,
    }  # fmt: skip


def examine_text(findings: dict[str, Any]) -> str:
    """The same to read.

    Args:
        findings: From :func:`examine_machine`.
    """
    lines = [f"python {findings['python']}, {findings['cores']} cores, torch uses {findings['threads']} threads"]
    for d in findings["devices"]:
        rates = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in d["matmul_tflops"].items())
        rates = f": matrix products {rates}; give it as --peak-tflops" if rates else ""
        lines.append(f"{d['device']} ({d['name']}){rates}")
    for name, version in findings["packages"].items():
        fix = f"pip install 'latebloom[{PACKAGES[name]}]'" if PACKAGES[name] != "-" else f"pip install {name}"
        lines.append(f"{name} {version}" if version else f"{name}: not installed ({fix}), needed only for what uses it")
    writable = "writable" if findings["writable"] else "NOT writable"
    lines.append(f"this folder: {writable}, {findings['free_gib']:.0f} GiB free")
    return "\n".join(lines)


def matmul_tflops(device: Any, dtype: Any) -> float:
    """Measured rate of a square matrix product, 2 n^3 operations, best of a few, in 1e12 operations a second.

    On a GPU ten are taken in a row, so that neither launching nor looking at the device counts.

    Args:
        device: A torch device.
        dtype: Of the product.
    """
    import torch

    n, row = (8192, 10) if device.type == "cuda" else (768, 1)
    a = torch.randn(n, n, device=device).to(dtype)
    out, best = torch.empty_like(a), float("inf")
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(row):
            torch.mm(a, a, out=out)
        out[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return row * 2 * n**3 / best / 1e12
