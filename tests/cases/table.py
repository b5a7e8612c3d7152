"""What a case is, and what its outcome is."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from latebloom.theory import GPT2Shape, InputError, Optimizer, Plan, Stage, wsd

__all__ = ["CASES", "PLAN", "Case", "Wrong", "case", "check", "held", "outcome", "refusal_says", "refused"]

PLAN = Plan(
    name="p", model=GPT2Shape(name="s", width=16, heads=2, vocab_size=64, context=16), batch_tokens=64,
    schedule=wsd(steps=12, peak_lr=1e-2), optimizer=Optimizer(name="adamw"),
    stages=(Stage(start_step=0, depth=1), Stage(start_step=6, depth=3)),
)  # fmt: skip


class Wrong(Exception):
    """Neither right nor refused."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One situation.

    Attributes:
        kind: Number of its kind of fault.
        what: The situation, in words.
        run: Given an empty folder, says what it saw.
        expected: ``right`` or ``refused``.
        two_processes: Whether it starts two.
    """

    kind: int
    what: str
    run: Callable[[Path], str]
    expected: str
    two_processes: bool = False


CASES: list[Case] = []


def case(kind: int, what: str, expected: str = "right", *, two_processes: bool = False) -> Callable:
    def keep(run: Callable[[Path], str]) -> Callable[[Path], str]:
        CASES.append(Case(kind=kind, what=what, run=run, expected=expected, two_processes=two_processes))
        return run

    return keep


def outcome(one: Case, folder: Path) -> tuple[str, str]:
    """(``right``, ``refused``, ``WRONG`` or ``skipped``; what was seen).

    Args:
        one: To be run.
        folder: Empty.
    """
    torch.manual_seed(0)
    try:
        return "right", one.run(folder)
    except InputError as error:
        return "refused", str(error)
    except ImportError as error:
        return "skipped", f"needs {error.name}"
    except Wrong as error:
        return "WRONG", str(error)
    except Exception as error:  # neither right nor an error that a user should see
        return "WRONG", f"{type(error).__name__}: {error}"


def check(good: bool, seen: str) -> str:
    if not good:
        raise Wrong(seen)
    return seen


@contextlib.contextmanager
def refusal_says(words: str) -> Iterator[None]:
    """A refusal must hold ``words``; it is passed on."""
    try:
        yield
    except InputError as error:
        check(words in str(error), str(error))
        raise


def held(optimizers: list[torch.optim.Optimizer]) -> set[int]:
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def refused(model: nn.Module, grow: Callable[[], object], optimizers: tuple[torch.optim.Optimizer, ...] = ()) -> None:
    """Growth that raises must leave model and optimizers as they were; the error is passed on."""
    before = dict(model.named_parameters())
    groups = [[list(map(id, g["params"])) for g in o.param_groups] for o in optimizers]
    config = copy.deepcopy(vars(model.config)) if hasattr(model, "config") else {}
    try:
        grow()
    except Exception:
        now = dict(model.named_parameters())
        same = list(now) == list(before) and all(now[name] is p for name, p in before.items())
        same = same and groups == [[list(map(id, g["params"])) for g in o.param_groups] for o in optimizers]
        if not same or config != (vars(model.config) if hasattr(model, "config") else {}):
            raise Wrong("refused after it had changed") from None
        raise
