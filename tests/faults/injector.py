"""Faults at a chosen moment: a rank, a step, an event, and what happens there; never after a time.

    with injected(Fault(event="save", step=10, act=kill)):
        train(...)

The last events are those of files: :func:`at_file_event` counts what a process opens, renames, makes and removes, so
that it can be ended before any one of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latebloom.theory.record import RecordWriter
from latebloom.train.run import checkpoint, loop
from latebloom.train.run.trainee import Trainee

__all__ = ["EVENTS", "Fault", "at_file_event", "failing", "injected", "kill", "signalled", "stall", "stop"]

# Event -> the function whose beginning it is ("after ...": its end).
EVENTS: dict[str, tuple[Any, str]] = {
    "update": (Trainee, "update"),
    "growth": (Trainee, "grow"),
    "validation": (Trainee, "validate"),
    "warming": (Trainee, "warm"),
    "save": (checkpoint, "save"),
    "tensors": (checkpoint, "_write_tensors"),
    "commit": (checkpoint, "commit_directory"),
    "row": (RecordWriter, "write"),
    "move": (loop._Run, "move_expansion"),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens when.

    Attributes:
        event: A name of :data:`EVENTS`, or ``after`` and a name.
        act: What happens there; it may never come back.
        step: Updates done by then; None: the first time.
        rank: On which rank.
        again: Happen each time, not once.
    """

    event: str
    act: Callable[[], None]
    step: int | None = None
    rank: int = 0
    again: bool = False


def kill() -> None:
    """End this process as the system does when memory is short: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def signalled(number: int) -> Callable[[], None]:
    """Send this process signal ``number``."""
    return lambda: os.kill(os.getpid(), number)


def stall(seconds: float) -> Callable[[], None]:
    """Do nothing for longer than anyone waits."""
    return lambda: time.sleep(seconds)


class Stopped(BaseException):
    """What :func:`stop` raises: nothing in the package catches it."""


def stop() -> None:
    """End the run in this process as if it were killed: no final save."""
    raise Stopped


def failing(error: BaseException) -> Callable[[], None]:
    """Raise ``error``."""

    def act() -> None:
        raise error

    return act


@contextmanager
def injected(*faults: Fault) -> Iterator[list[str]]:
    """Have ``faults`` happen inside the context.

    Args:
        faults: Each with its moment.

    Returns:
        Events of the faults that have happened, as they happen.
    """
    rank, done = int(os.environ.get("RANK", "0")), [0]
    happened: list[str] = []
    mine = [fault for fault in faults if fault.rank == rank]

    def look(event: str) -> None:
        for fault in mine:
            over = fault.event in happened and not fault.again
            if fault.event == event and fault.step in (None, done[0]) and not over:
                happened.append(event)
                fault.act()

    def watched(event: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if arguments and isinstance(arguments[0], Trainee):
                done[0] = arguments[0].step
            look(event)
            result = real(*arguments, **options)
            if arguments and isinstance(arguments[0], Trainee):
                done[0] = arguments[0].step
            look(f"after {event}")
            return result

        return call

    with _patched(watched):
        yield happened


@contextmanager
def _patched(watched: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    before = {event: getattr(place, name) for event, (place, name) in EVENTS.items()}
    for event, (place, name) in EVENTS.items():
        setattr(place, name, watched(event, before[event]))
    try:
        yield
    finally:
        for event, (place, name) in EVENTS.items():
            setattr(place, name, before[event])


FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")


def at_file_event(number: int | None, act: Callable[[], None], *, below: str) -> list[str]:
    """Have ``act`` happen before the ``number``-th thing that this process does to a file below a folder.

    An audit hook cannot be taken away again: for processes that end with it.

    Args:
        number: Counted from 0; None: never, only count.
        act: What happens.
        below: The folder; opening for reading counts, too, elsewhere nothing does.

    Returns:
        Every such thing so far, as ``event name``; it grows.
    """
    seen: list[str] = []
    inside = [False]

    def hook(event: str, arguments: tuple) -> None:
        if inside[0] or event not in FILE_EVENTS or not arguments or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if not path.startswith(below):
            return
        seen.append(f"{event.removeprefix('os.')} {os.path.basename(path)}")
        if len(seen) - 1 == number:
            inside[0] = True
            act()

    sys.addaudithook(hook)
    return seen
