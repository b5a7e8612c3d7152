"""What several tests share: small plans and records, and every tolerance with its reason."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import latebloom
from latebloom.theory.fitting.annealed_ends import AnnealedEnd
from latebloom.theory.landscapes.field import FieldLaw
from latebloom.theory.plan import GPT2Shape, Plan, Stage
from latebloom.theory.record import Record, header
from latebloom.theory.schedules import wsd
from latebloom.train.data.batches import Batches
from latebloom.train.data.shards import open_shards

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("theory", "sim", "train", "paper_figures")

# Closed forms against the same sum done term by term: rounding grows like sqrt(terms) x 1e-16.
ROUNDING = 1e-12
# S^{-1} divides by a learning rate that may be 1e-4 of the peak at the end of a decay.
INVERSE = 1e-8

CHECKOUT = Path(__file__).resolve().parent.parent
# For what reads docs/, notebooks/ or the folders of sources at the root, which a wheel does not hold.
needs_checkout = pytest.mark.skipif(
    not (CHECKOUT / "docs" / "equations.md").is_file(), reason="reads files of a checkout, and the tests are not in one"
)

# torch's compiler warns of what concerns nobody here: it looks at .grad of every graph input, and a block's input is no
# leaf; and it prefers Python 3.13.1 to 3.13.0.
COMPILES = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:Guards may run slower on Python 3.13.0:RuntimeWarning",
)


def tiny_shape() -> GPT2Shape:
    return GPT2Shape(name="tiny", width=32, heads=2, vocab_size=256, context=16)


def tiny_plan(*, steps: int = 100, tau: int | None = 60, small: int = 1, full: int = 3, peak_lr: float = 0.02) -> Plan:
    """A progressive plan (or, with ``tau`` None, a fixed one) that trains in seconds."""
    stages = [Stage(start_step=0, depth=full if tau is None else small)]
    if tau is not None:
        stages.append(Stage(start_step=tau, depth=full))
    return Plan(
        name="tiny",
        model=tiny_shape(),
        batch_tokens=64,
        schedule=wsd(steps=steps, peak_lr=peak_lr),
        stages=tuple(stages),
    )


def batches_of(folder: Path, plan: Plan, *, seed: int, repeat: bool = False, rank: int = 0, world: int = 1) -> Batches:
    """The batches of a run of ``plan``."""
    return Batches(
        open_shards(folder), plan.model, batch_tokens=plan.batch_tokens, steps=plan.steps, seed=seed, repeat=repeat,
        rank=rank, world=world,
    )  # fmt: skip


def field_law() -> FieldLaw:
    """Annealed ends, 1 -> 4 blocks: the small depth has nearly flattened, growing recovers most of the depth gap."""
    ends = []
    for kind, depth, steps, tau, loss in (
        ("small", 1, 100, 0, 3.10), ("small", 1, 200, 0, 3.06), ("small", 1, 400, 0, 3.03),
        ("full", 4, 100, 0, 3.00), ("full", 4, 200, 0, 2.85), ("grown", 4, 400, 200, 2.72),
    ):  # fmt: skip
        schedule = wsd(steps=steps, peak_lr=0.05)
        total = schedule.total_area
        ends.append(
            AnnealedEnd(
                name=f"{kind}-{steps}", kind=kind, depth=depth, steps=steps, tau=tau, area=total,
                area_before={"small": total, "grown": float(schedule.area(tau))}.get(kind, 0.0),
                loss=loss, seed=0, data=None, trunk=f"depth {1 if tau else depth}", recipe="", peak_lr=0.05,
                warmup_steps=8,
            )
        )  # fmt: skip
    return FieldLaw(small_depth=1, full_depth=4, ends=tuple(ends), reference=wsd(steps=400, peak_lr=0.05).total_area)


def synthetic_record(plan: Plan, step: np.ndarray, loss: np.ndarray, *, name: str, seed: int = 0) -> Record:
    """A record whose validation loss is given: what the fits are tested on."""
    n = len(step)
    columns = {
        "step": np.asarray(step, dtype=np.int64),
        "tokens": np.asarray(step, dtype=np.int64) * plan.batch_tokens,
        "flops": np.zeros(n),
        "wall_s": np.zeros(n),
        "depth": np.array([plan.stages[plan.stage_at(int(s))].depth for s in step]),
        "phase": np.array([plan.stage_at(int(s)) for s in step]),
        "split": np.array(["val"] * n, dtype=object),
        "metric": np.array(["loss"] * n, dtype=object),
        "value": np.asarray(loss, dtype=float),
    }
    return Record(header=header(plan, seed=seed, name=name), columns=columns)


def python_seconds(*args: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """(CPU seconds, result) of this Python run with ``args``: its own time, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, run


def public_modules(*, everything: bool = False) -> list[str]:
    """Names of the packages' modules: those that declare ``__all__``, or ``everything`` that can be imported."""
    root = Path(latebloom.__file__).parent  # a checkout's src/latebloom, where the packages are links, or a wheel's
    folders = (root, *(root / package for package in PACKAGES))
    names = []
    for path in sorted({path for folder in folders for path in folder.rglob("*.py")}):
        if path.name != "__main__.py" and (everything or "\n__all__ " in path.read_text(encoding="utf-8")):
            parts = ("latebloom", *path.relative_to(root).with_suffix("").parts)
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


def in_this_process(monkeypatch):
    """The pool's workers would each take seconds to import torch."""
    from concurrent.futures import Future

    from latebloom.train.run import several as runs

    class Here:
        _processes = None

        def __init__(self, *args, **kwargs):
            pass

        def submit(self, function, *args):
            future = Future()
            future.set_result(function(*args))
            return future

        def shutdown(self, **kwargs):
            pass

    monkeypatch.setattr(runs, "ProcessPoolExecutor", Here)


def with_between(page: str, marks: tuple[str, str], text: str) -> str:
    """``page`` with ``text`` in place of what stands between two marks, each of which it has once."""
    before, rest = page.split(marks[0])
    _, after = rest.split(marks[1])
    return before + marks[0] + text + marks[1] + after
