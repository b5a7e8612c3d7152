"""Latebloom's trainer: executes a Plan on GPT-2. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "GPT2": "train.model",
    "Batches": "train.data",
    "MuonNSGD": "train.optim",
    "PlanCallback": "train.hf_callback",
    "PlanLR": "train.lr",
    "TrainConfig": "train.loop",
    "export": "train.hf",
    "from_hf": "train.hf",
    "dry_run": "train.dryrun",
    "fit_gpt2": "train.loop",
    "grow": "train.growth",
    "open_shards": "train.shards",
    "prepare": "train.corpus",
    "python_stdlib_corpus": "train.corpus",
    "resume": "train.loop",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
