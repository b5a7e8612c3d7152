"""Where a run's rows are mirrored to besides its record: TensorBoard, Weights & Biases, Trackio, or nowhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from latebloom.theory.errors import InputError

__all__ = ["Nowhere", "Tracker", "check_tracker", "make_tracker"]


class Tracker(Protocol):
    """Takes rows, then is closed."""

    def log(self, name: str, value: float, step: int) -> None:
        """One value after ``step`` updates."""

    def close(self) -> None:
        """No more rows come."""


def make_tracker(name: str, *, run: str, run_id: str, settings: dict[str, Any], folder: Path, step: int = 0) -> Tracker:
    """The named tracker.

    Args:
        name: As in the settings.
        run: The run's name, which the services show.
        run_id: By which they know it again: a resumed run goes on in theirs.
        settings: Which they keep.
        folder: For TensorBoard.
        step: Updates done; TensorBoard drops rows of later ones, which come again after a crash.

    Raises:
        InputError: if its package is not installed.
    """
    if name == "none":
        return Nowhere()
    if name == "tensorboard":
        module = _import("torch.utils.tensorboard", "tensorboard")
        later = step + 1 if step else None
        return _TensorBoard(module.SummaryWriter(str(folder), purge_step=later))
    module = _import(name, name)
    if name == "wandb":
        module.init(project="latebloom", name=run, id=run_id, resume="allow", config=settings)
    else:  # Trackio knows a run again by its name
        module.init(project="latebloom", name=f"{run}-{run_id}", resume="allow", config=settings)
    return _Service(module)


def check_tracker(name: str) -> None:
    """Refuse a tracker whose package is not installed, before anything is written.

    Args:
        name: As in the settings.

    Raises:
        InputError: if it is not.
    """
    if name != "none":
        _import("torch.utils.tensorboard" if name == "tensorboard" else name, name)


class Nowhere:
    """Mirrors nothing."""

    def log(self, name: str, value: float, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class _TensorBoard:
    def __init__(self, writer: Any):
        self.writer = writer

    def log(self, name: str, value: float, step: int) -> None:
        self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Service:
    """Weights & Biases and Trackio share ``init``, ``log`` and ``finish``; each step is sent once, whole."""

    def __init__(self, module: Any):
        self.module, self.step = module, 0
        self.held: dict[str, float] = {}

    def log(self, name: str, value: float, step: int) -> None:
        if step != self.step:
            self._send()
        self.step = step
        self.held[name] = value

    def close(self) -> None:
        self._send()
        self.module.finish()

    def _send(self) -> None:
        if self.held:
            self.module.log(self.held, step=self.step)
        self.held = {}


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError("tracker", package, "is not installed", f"pip install {package}") from None
