"""What this machine can do for a run: devices, matrix-product rate, packages, disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

__all__ = ["examine", "examine_text", "matmul_tflops"]

PACKAGES = {
    "torch": "train", "safetensors": "train", "tokenizers": "train", "transformers": "hf", "datasets": "data",
    "tiktoken": "data", "tensorboard": "tensorboard", "wandb": "-", "trackio": "-", "lightning": "lightning",
}  # fmt: skip


def examine(folder: Path = Path(".")) -> dict[str, Any]:
    """Everything, as plain data; takes about a second."""
    import torch

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    devices = []
    for name in ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]:
        device = torch.device(name)
        what = platform.machine() if name == "cpu" else torch.cuda.get_device_name(device)
        rates = {str(d).removeprefix("torch."): matmul_tflops(device, d) for d in (torch.float32, torch.bfloat16)}
        devices.append({"device": name, "name": what, "matmul_tflops": rates})
    return {
        "python": platform.python_version(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "devices": devices, "packages": packages, "writable": os.access(folder, os.W_OK),
        "free_gib": shutil.disk_usage(folder).free / 2**30,
    }  # fmt: skip


def examine_text(found: dict[str, Any]) -> str:
    """The same to read."""
    lines = [f"python {found['python']}, {found['cores']} cores, torch uses {found['threads']} threads"]
    for d in found["devices"]:
        rates = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in d["matmul_tflops"].items())
        lines.append(f"{d['device']} ({d['name']}): matrix products {rates}; give it as --peak-tflops")
    for name, version in found["packages"].items():
        fix = f"pip install 'latebloom[{PACKAGES[name]}]'" if PACKAGES[name] != "-" else f"pip install {name}"
        lines.append(f"{name} {version}" if version else f"{name}: not installed ({fix}), needed only for what uses it")
    writable = "writable" if found["writable"] else "NOT writable"
    lines.append(f"this folder: {writable}, {found['free_gib']:.0f} GiB free")
    return "\n".join(lines)


def matmul_tflops(device: Any, dtype: Any) -> float:
    """Measured rate of a square matrix product, 2 n^3 operations, best of a few."""
    import torch

    n = 8192 if device.type == "cuda" else 768
    a = torch.randn(n, n, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e12
