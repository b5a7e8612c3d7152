"""Where a run's rows are mirrored to besides its record: TensorBoard, Weights & Biases, Trackio, or nowhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.config import TrainConfig

__all__ = ["Tracker", "check_tracker", "make_tracker"]


class Tracker(Protocol):
    """Takes rows, then is closed."""

    def log(self, name: str, value: float, step: int) -> None:
        """One value after ``step`` updates."""

    def close(self) -> None:
        """No more rows come."""


def make_tracker(name: str, out: Path, plan: Plan, config: TrainConfig, *, step: int = 0) -> Tracker:
    """The named tracker.

    Args:
        name: As in the settings.
        out: Directory of the run, by whose name the services call it.
        plan: What is trained.
        config: Settings, which the services keep.
        step: Updates done; TensorBoard drops rows of later ones, which come again after a crash.

    Raises:
        InputError: if its package is not installed.
    """
    if name == "none":
        return _Nowhere()
    if name == "tensorboard":
        module = _import("torch.utils.tensorboard", "tensorboard")
        later = step + 1 if step else None
        return _TensorBoard(module.SummaryWriter(str(out / "tensorboard"), purge_step=later))
    settings = {key: getattr(config, key) for key in config.__struct_fields__} | {"plan": plan.digest}
    module = _import(name, name)
    module.init(project="latebloom", name=out.name, config=settings)
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


class _Nowhere:
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
