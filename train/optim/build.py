"""A plan's optimizer over a model, with a group for each kind of tensor where learning rates differ by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, get_args

import torch
from torch import nn

from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import Optimizer
from latebloom.theory.plan_transfer import Scaled, size_factors
from latebloom.train.model.tensors import Describe, describe
from latebloom.train.optim.owners import Owners
from latebloom.train.optim.registry import BUILDERS, TRAINED

if TYPE_CHECKING:
    from latebloom.train.model.transformer import GPT2

__all__ = ["build_optimizer", "scale_rate", "split_groups"]


def build_optimizer(
    model: GPT2, spec: Optimizer, *, rows: dict[str, nn.Parameter] | None = None, owners: Owners | None = None
) -> torch.optim.Optimizer:
    """The plan's optimizer over ``model``'s parameters; weight decay on matrices only. PlanLR sets learning rates.

    If ``spec`` has a base, each kind of parameter has a group of its own, with decay and epsilon of the model's size.

    Args:
        model: Whose family states its tensors.
        spec: Of a plan.
        rows: By name this rank's rows of the model's tensors, which it updates in place of the parameters.
        owners: Of the whole tensors, with ``rows``.

    Raises:
        InputError: if the trainer has no such optimizer, or the family does not state a tensor.
    """
    builder = BUILDERS[spec.name]
    if builder is None:
        choices = f"{', '.join(TRAINED[:-1])} or {TRAINED[-1]}"
        raise InputError("optimizer", spec.name, "is not one of the trainer's", f"use {choices}")
    parameters = model.named_parameters() if rows is None else rows.items()
    named = [(name, p) for name, p in parameters if p.requires_grad]
    optimizer = builder(named, describe(model), spec, owners)
    if spec.base is None:
        return optimizer
    split_groups(optimizer, describe(model))
    for quantity in get_args(Scaled):
        if quantity == "lr":  # PlanLR's
            continue
        factors = size_factors(spec, width=model.shape.width, depth=model.depth, quantity=quantity)
        for group in optimizer.param_groups:
            if group["kind"] in factors:
                group[quantity] *= factors[group["kind"]]
    return optimizer


def split_groups(optimizer: torch.optim.Optimizer, describe: Describe) -> None:
    """Give each kind of parameter a group of its own, which holds it as ``kind``;
    :class:`latebloom.train.optim.plan_lr.PlanLR` reads it.

    Args:
        optimizer: Over named parameters.
        describe: What a parameter is, by its name and itself, such as :func:`latebloom.train.model.tensors.describe`
            gives for a model.
    """
    split = []
    for group in optimizer.param_groups:
        members: dict[str, list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for name, p in zip(group["param_names"], group["params"], strict=True):
            members[describe(name, p).kind].append((name, p))
        for kind, pairs in members.items():
            named = {"param_names": [name for name, _ in pairs], "params": [p for _, p in pairs]}
            split.append(group | {"kind": kind} | named)
    optimizer.param_groups[:] = split


def scale_rate(optimizer: torch.optim.Optimizer, factor: float, *, blocks: Collection[int]) -> None:
    """Give the parameters of some blocks groups of their own, with ``factor`` times the learning rate of the others.

    Args:
        optimizer: Over named parameters, those of blocks called ``blocks.NUMBER.``.
        factor: Of the group's ``lr_factor``, which :class:`latebloom.train.optim.plan_lr.PlanLR` reads.
        blocks: Numbers of the blocks.
    """
    prefixes = tuple(f"blocks.{number}." for number in blocks)
    split = []
    for group in optimizer.param_groups:
        pairs = list(zip(group["param_names"], group["params"], strict=True))
        for chosen, scale in ((False, 1.0), (True, factor)):
            members = [(name, p) for name, p in pairs if name.startswith(prefixes) == chosen]
            if members:
                named = {"param_names": [name for name, _ in members], "params": [p for _, p in members]}
                split.append(group | {"lr_factor": scale * group.get("lr_factor", 1.0)} | named)
    optimizer.param_groups[:] = split
