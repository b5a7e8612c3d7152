"""What the optimizer remembers after an expansion: of old parameters, and of those that continue them.

:func:`carried_state` names states for an optimizer that is built anew, as the trainer does; :func:`extend_optimizer`
extends anyone's live optimizer. Both do what :data:`latebloom.theory.expansion.STATE_POLICIES` says.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError
from latebloom.theory.expansion import STATE_POLICIES, placement, sources
from latebloom.theory.plan import Stage
from latebloom.train.model.tensors import describe

__all__ = ["carried_state", "extend_optimizer"]


def carried_state(
    held: dict[str, dict[str, Tensor]], renamed: dict[str, str], stage: Stage, old: int, *, blocks: str = "blocks"
) -> dict[str, dict[str, Tensor]]:
    """Optimizer state by name after growth, from ``held`` before it, as ``stage.optimizer_state`` says.

    Args:
        held: State by old name.
        renamed: New name by old name, as :func:`latebloom.train.growth.operators.grow_blocks` returns.
        stage: The stage that was grown to.
        old: Blocks before.
        blocks: Attribute path of the blocks.
    """
    rule = STATE_POLICIES[stage.optimizer_state]
    if not rule.keeps_old:
        return {}
    state = {new: held[name] for name, new in renamed.items() if name in held}
    if rule.new == "copied":
        for name, of in _sources_by_name(renamed, stage, old, blocks).items():
            state[name] = {key: value.clone() for key, value in held.get(of, {}).items()}
    return state


def extend_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    renamed: dict[str, str],
    stage: Stage,
    old: int,
    *,
    blocks: str = "blocks",
) -> None:
    """Give the new parameters of a grown model their groups and states; old ones are the same objects as before.

    Args:
        optimizer: Of the model before; extended in place.
        model: Already grown.
        renamed: New name by old name, as :func:`latebloom.train.growth.operators.grow_blocks` returns.
        stage: The stage that was grown to.
        old: Blocks before.
        blocks: Attribute path of the blocks.

    Raises:
        InputError: if a new parameter continues none, and the optimizer has none of as many axes.
    """
    rule = STATE_POLICIES[stage.optimizer_state]
    if not rule.keeps_old:
        optimizer.state.clear()
    parameters = dict(model.named_parameters())
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    kin = {new: renamed[name] for new, name in _sources_by_name(renamed, stage, old, blocks).items()}
    for name, p in parameters.items():
        if id(p) in group_of:
            continue
        if name in renamed.values():
            continue  # was there, and not optimised: frozen by its owner
        like = parameters[kin[name]] if name in kin else _alike(p, optimizer, name)
        if id(like) not in group_of:
            p.requires_grad_(like.requires_grad)
            continue
        group = group_of[id(like)]
        if name not in kin and "kind" in group:
            group = _group_of_kind(optimizer, group, describe(model)(name, p).kind)
        group["params"].append(p)
        if "param_names" in group:
            group["param_names"].append(name)
        if rule.new == "copied" and like in optimizer.state:
            optimizer.state[p] = copy.deepcopy(optimizer.state[like])
    names = {id(p): name for name, p in parameters.items()}
    for group in optimizer.param_groups:
        if "param_names" in group:
            pairs = zip(group["params"], group["param_names"], strict=True)
            group["param_names"] = [names.get(id(p), name) for p, name in pairs]


def _sources_by_name(renamed: dict[str, str], stage: Stage, old: int, blocks: str) -> dict[str, str]:
    """Old name of the parameter that each new parameter continues, by new name."""
    places = placement(stage.order, old, stage.depth)
    origins: dict[str, str] = {}
    for j, i in enumerate(sources(stage.order, old, stage.depth) if old else []):
        if j not in places:
            begins = f"{blocks}.{i}."
            origins |= {f"{blocks}.{j}.{n[len(begins) :]}": n for n in renamed if n.startswith(begins)}
    return origins


def _group_of_kind(optimizer: torch.optim.Optimizer, like: dict[str, Any], kind: str) -> dict[str, Any]:
    """The group with the options of ``like`` but for ``kind``, appended if there is none; its names are kept if any."""
    for group in optimizer.param_groups:
        if group["kind"] == kind and group.get("rule") == like.get("rule"):
            return group
    empty: dict[str, Any] = {key: [] for key in ("params", "param_names") if key in like}
    optimizer.param_groups.append(like | {"kind": kind} | empty)
    return optimizer.param_groups[-1]


def _alike(p: Tensor, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    """A parameter of as many axes, when there was no block to look at."""
    for group in optimizer.param_groups:
        for other in group["params"]:
            if other.ndim == p.ndim:
                return other
    raise InputError("optimizer", name, "has no group with a parameter of as many axes", "start from one block or more")
