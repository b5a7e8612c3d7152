"""Where a run's rows are mirrored to besides its record: TensorBoard, Weights & Biases, Trackio, or nowhere."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.config import TrainConfig, shown_settings
from latebloom.train.run.directory import RunDirectory

__all__ = ["Tracker", "check_tracker", "make_tracker"]


class Tracker(Protocol):
    """Takes rows, then is closed."""

    def log(self, name: str, value: float, step: int) -> None:
        """One value after ``step`` updates."""

    def close(self) -> None:
        """No more rows come."""


def make_tracker(name: str, run: RunDirectory, plan: Plan, config: TrainConfig, *, step: int = 0) -> Tracker:
    """The named tracker.

    Args:
        name: As in the settings.
        run: The run, by whose name and id the services know it: a resumed run goes on in theirs.
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
        return _TensorBoard(module.SummaryWriter(str(run.path / "tensorboard"), purge_step=later))
    settings = shown_settings(config) | {"plan": plan.digest}
    module = _import(name, name)
    if name == "wandb":
        module.init(project="latebloom", name=run.name, id=run.id, resume="allow", config=settings)
    else:  # Trackio knows a run again by its name
        module.init(project="latebloom", name=f"{run.name}-{run.id}", resume="allow", config=settings)
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
