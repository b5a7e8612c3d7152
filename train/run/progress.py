"""What a run shows: a live line on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from latebloom.theory.cost import plan_flops
from latebloom.train.run.dryrun import duration

if TYPE_CHECKING:
    from latebloom.train.run.trainee import Trainee

__all__ = ["Display"]

PLAIN_EVERY_S = 10.0


class Display:
    """Step, loss, tokens per second, predicted against measured loss, and steps to the next expansion.

    Args:
        trainee: It is asked where it is, and what its plan says.
        quiet: Show nothing.
        console: Where to show it; None: standard error.
    """

    def __init__(self, trainee: Trainee, *, quiet: bool = False, console: Console | None = None):
        self.trainee, self.quiet = trainee, quiet
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal and not quiet
        self.progress: Progress | None = None
        self.last_plain = self.last_time = time.monotonic()
        self.last_step: int | None = None
        self.first: tuple[int, float] | None = None  # step and seconds of training
        self.val = ""

    def __enter__(self) -> Display:
        if self.live:
            self.progress = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(),
                TextColumn("{task.completed}/{task.total}"), TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self.progress.start()
            self.task = self.progress.add_task(self.trainee.plan.name, total=self.trainee.plan.steps, text="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def update(self, loss: float, wall_s: float) -> None:
        """After each update.

        Args:
            loss: Of its batch.
            wall_s: Seconds of training so far.
        """
        if self.quiet:
            return
        step, plan = self.trainee.step, self.trainee.plan
        self.first = self.first or (step, wall_s)
        now = time.monotonic()
        plain_due = now - self.last_plain >= PLAIN_EVERY_S or step == plan.steps
        if not self.live and not plain_due:
            return
        text = f"loss {loss:.4f} {self.val} {self._speed(step, wall_s)} {self._countdown(step)}".rstrip()
        if self.progress:
            self.progress.update(self.task, completed=step, text=text)
        elif plain_due:
            line = f"{plan.name} {step}/{plan.steps} {text} {self._left(step, wall_s)}".rstrip()
            self.console.print(line, highlight=False, markup=False)
            self.last_plain = now

    def validation(self, loss: float, bits_per_byte: float | None = None) -> None:
        """After each evaluation.

        Args:
            loss: Of the validation windows.
            bits_per_byte: The same in bits of their text, if that is known.
        """
        step, curve = self.trainee.step, self.trainee.plan.predicted.curve
        expected = ""
        if curve is not None and step in curve.step:
            expected = f" (predicted {curve.loss[curve.step.index(step)]:.4f})"
        elif curve is not None and curve.step and curve.step[0] < step < curve.step[-1]:
            after = next(i for i, s in enumerate(curve.step) if s > step)
            expected = f" (predicted about {curve.loss[after]:.3f})"
        bits = "" if bits_per_byte is None else f" = {bits_per_byte:.3f} bits a byte"
        self.val = f"val {loss:.4f}{bits}{expected}"

    def note(self, text: str) -> None:
        """An event worth a line."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False)

    def _speed(self, step: int, wall_s: float) -> str:
        if self.last_step is None:
            self.last_step, self.last_wall = step, wall_s
        done, taken = step - self.last_step, wall_s - self.last_wall
        if taken > 2:
            self.last_step, self.last_wall = step, wall_s
        return f"{done * self.trainee.plan.batch_tokens / taken:,.0f} tokens/s" if taken > 0 else ""

    def _left(self, step: int, wall_s: float) -> str:
        """Time that the rest takes at the FLOPs a second so far; later stages are deeper."""
        plan = self.trainee.plan
        if self.first is None or step <= self.first[0] or step >= plan.steps:
            return ""
        start, then = self.first
        done, whole = plan_flops(plan, step), plan_flops(plan)
        seconds = (wall_s - then) * (whole - done) / (done - plan_flops(plan, start))
        return f"{duration(seconds)} left"

    def _countdown(self, step: int) -> str:
        ahead = [stage for stage in self.trainee.plan.stages if stage.start_step > step]
        return f"grows to {ahead[0].depth} in {ahead[0].start_step - step} steps" if ahead else ""
