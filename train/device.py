"""Which device a run or a sample is computed on."""

from __future__ import annotations

import torch

from theory.errors import InputError

__all__ = ["usable_device"]


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
