"""Latebloom's trainer: executes a Plan on GPT-2. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "GPT2": "latebloom.train.model.transformer",
    "Batches": "latebloom.train.data.batches",
    "MuonNSGD": "latebloom.train.optim.muon",
    "PlanCallback": "latebloom.train.interop.hf_callback",
    "PlanLR": "latebloom.train.optim.plan_lr",
    "TrainConfig": "latebloom.train.run.loop",
    "export": "latebloom.train.model.hf",
    "from_hf": "latebloom.train.model.hf",
    "dry_run": "latebloom.train.run.dryrun",
    "fit_gpt2": "latebloom.train.run.loop",
    "grow": "latebloom.train.growth.operators",
    "open_shards": "latebloom.train.data.shards",
    "prepare": "latebloom.train.data.corpus",
    "python_stdlib_corpus": "latebloom.train.data.corpus",
    "resume": "latebloom.train.run.loop",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'latebloom.train' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
