"""The table of inputs: each is made in a folder of its own, from a plan, shards and a run that are good."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.paper_figures.report import write_report
from latebloom.theory.plan import write_plan
from latebloom.train.config import TrainConfig
from latebloom.train.data.corpus import prepare
from latebloom.train.run.loop import train
from tests.helpers import tiny_plan

MARKUP = "</title><script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
CONFIG = TrainConfig(quiet=True, evals=2, eval_tokens=64, log_every=2, repeat_data=True, device="cpu")

Make = Callable[[Path, Path], list[Any]]  # (folder of the input, what is given) -> arguments of the command
INPUTS: dict[str, Make] = {}


class Evil:
    """What a pickle would do if anyone loaded it."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple:
        return (open, (str(self.canary), "w"))


def kind(name: str) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        INPUTS[name] = make
        return make

    return keep


def tensors(head: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def saved_by_torch(folder: Path) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"w": Evil(folder / "canary")}, buffer)
    return buffer.getvalue()


def given(folder: Path) -> Path:
    """A plan, shards and a finished run, which inputs are made from."""
    if not (folder / "run" / "record.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(30):
            (folder / f"{i}.txt").write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 100)))
        prepare(sorted(folder.glob("*.txt")), folder / "data", tokenizer="bytes", val_share=0.2)
        write_plan(tiny_plan(steps=8, tau=4), folder / "plan.json")
        train(tiny_plan(steps=8, tau=4), data=folder / "data", out=folder / "run", config=CONFIG)
        write_report(shutil.copytree(folder / "run", folder / "shown"))  # matplotlib makes its folders now
    return folder
