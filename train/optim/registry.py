"""The trainer's builder of each of a plan's optimizers; None where the trainer has no counterpart, which is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.optimizers import Optimizer, OptimizerName
from latebloom.train.model.tensors import describe
from latebloom.train.optim.muon import MuonNSGD

__all__ = ["BUILDERS", "TRAINED", "Builder"]

Builder = Callable[[nn.Module, Optimizer], torch.optim.Optimizer]


def _muon(model: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    assert spec.name in ("muon_nsgd", "muon_adamw")
    return MuonNSGD(
        _named(model), lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=spec.weight_decay,
        eps=spec.eps, beta2=spec.beta2, name=spec.name, describe=describe(model),
    )  # fmt: skip


def _adamw(model: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    betas = (spec.momentum, spec.beta2)
    return torch.optim.AdamW(_decay_groups(model, spec), lr=0.0, betas=betas, eps=spec.eps, fused=True)


def _sgd(model: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    nesterov = spec.nesterov and spec.momentum > 0
    return torch.optim.SGD(_decay_groups(model, spec), lr=0.0, momentum=spec.momentum, nesterov=nesterov)


BUILDERS: Final[dict[OptimizerName, Builder | None]] = {
    "muon_nsgd": _muon,
    "muon_adamw": _muon,
    "adamw": _adamw,
    "sgd": _sgd,
    "muon": None,  # has no rule for vectors, which every model here has
    "nsgd": None,
}
TRAINED: Final = tuple(name for name, builder in BUILDERS.items() if builder)


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _decay_groups(model: nn.Module, spec: Optimizer) -> list[dict]:
    """Matrices with weight decay, vectors without."""
    described, named = describe(model), _named(model)
    is_matrix = {name: described(name, p).kind in MATRIX_KINDS for name, p in named}
    groups = [
        {"params": [(name, p) for name, p in named if is_matrix[name]], "weight_decay": spec.weight_decay},
        {"params": [(name, p) for name, p in named if not is_matrix[name]], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
