"""What the optimizer remembers after an expansion: of old parameters, and of those that continue them.

:func:`carried_state` names states for an optimizer that is built anew, as the trainer does; :func:`extend_optimizers`
extends anyone's live optimizers as :func:`joins` found that they can be. Both do what
:data:`latebloom.theory.expansion.STATE_POLICIES` says.

Torch saves the state of an optimizer by the place of each parameter in its groups. So that an optimizer over a model
that was made deep reads what one that grew has saved, and the other way round, groups stay in the order of the model's
parameters, or of their names, if they were in it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latebloom.theory.errors import InputError
from latebloom.theory.expansion import BEGINS_AS, INITS, STATE_POLICIES, placement, sources
from latebloom.theory.plan import Stage
from latebloom.train.model.tensors import describe

__all__ = ["Join", "carried_state", "extend_optimizers", "joins", "torch_optimizers"]


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


@dataclass(frozen=True, kw_only=True)
class Join:
    """Where a new parameter goes.

    Attributes:
        name: In the grown model.
        parameter: The new one.
        optimizer: Number of the optimizer.
        like: The parameter whose group it joins.
        kind: The group is that of this kind, if groups have kinds and it continues no block.
        continues: Whether ``like`` is what it continues, not only a parameter of as many axes.
    """

    name: str
    parameter: nn.Parameter
    optimizer: int
    like: Tensor
    kind: str | None
    continues: bool


def torch_optimizers(given: Any, model: nn.Module) -> list[torch.optim.Optimizer]:
    """The torch optimizers in what a caller gave: one, several, none, or such as trainers wrap them in.

    Args:
        given: An optimizer, a sequence of them, or None.
        model: Whose parameters they should hold.

    Raises:
        InputError: if one is no optimizer, shares its parameters out among processes, or holds none of the model's.
    """
    optimizers = []
    for number, wrapped in enumerate([] if given is None else given if isinstance(given, list | tuple) else [given]):
        inner = wrapped
        while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):  # accelerate, Lightning
            inner = inner.optimizer
        shown = type(inner).__name__
        if not isinstance(getattr(inner, "param_groups", None), list):
            raise InputError("optimizer", shown, "is no torch optimizer", "give the optimizers, or none")
        if shown in ("ZeroRedundancyOptimizer", "LBFGS"):
            rule = "keeps its parameters in an order of its own"
            raise InputError("optimizer", shown, rule, "grow without it and make it anew afterwards")
        own = {id(p) for p in model.parameters()}
        held = [p for group in inner.param_groups for p in group["params"]]
        if held and not any(id(p) in own for p in held):
            rule = f"(number {number}) holds {len(held)} parameters and none of this model's"
            raise InputError("optimizer", shown, rule, "give the optimizers that train this model")
        optimizers.append(inner)
    return optimizers


def joins(
    optimizers: Sequence[torch.optim.Optimizer],
    model: nn.Module,
    renamed: dict[str, str],
    stage: Stage,
    old: int,
    *,
    blocks: str = "blocks",
) -> list[Join]:
    """Where each new parameter of a grown model goes; optimizers are not changed.

    Args:
        optimizers: Of the model before.
        model: Already grown.
        renamed: New name by old name, as :func:`latebloom.train.growth.operators.grow_blocks` returns.
        stage: The stage that was grown to.
        old: Blocks before.
        blocks: Attribute path of the blocks.

    Raises:
        InputError: if a new parameter continues one that trains and no optimizer holds, one that is frozen although it
            begins anew, or none while no optimizer has a parameter of as many axes.
    """
    parameters = dict(model.named_parameters())
    place = {id(p): i for i, optimizer in enumerate(optimizers) for g in optimizer.param_groups for p in g["params"]}
    kin = {new: renamed[name] for new, name in _sources_by_name(renamed, stage, old, blocks).items()}
    was_there = set(renamed.values())
    described, found = describe(model), []
    for name, p in parameters.items():
        if name in was_there:
            continue
        like: Tensor | None = parameters[kin[name]] if name in kin else None
        if like is not None and not like.requires_grad:
            if INITS[stage.init].fresh:
                rule = f"begins new weights that nobody would train: {kin[name]} is frozen"
                raise InputError("init", stage.init, rule, "use copy or copy_zero_last, or freeze after growing")
            p.requires_grad_(False)
            continue
        if not optimizers:
            continue
        like = _alike(p, optimizers, name) if like is None else like
        if id(like) not in place:
            rule = "trains and is in none of the optimizers given: its copies would never be updated"
            fix = "give all optimizers, grow(model, [muon, adamw], ...); or freeze it with requires_grad_(False)"
            raise InputError("optimizer", kin.get(name, name), rule, fix)
        kind = None
        if name not in kin and "kind" in _group_of(optimizers[place[id(like)]], like):
            kind = described(name, p).kind
        found.append(
            Join(name=name, parameter=p, optimizer=place[id(like)], like=like, kind=kind, continues=name in kin)
        )
    _check_alive(parameters, was_there, stage, blocks)
    return found


def extend_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, extension: Sequence[Join], stage: Stage
) -> None:
    """Give the new parameters of a grown model their groups and states; old ones are the same objects as before.

    Args:
        optimizers: Of the model before; extended in place.
        model: Already grown.
        extension: From :func:`joins`.
        stage: The stage that was grown to.
    """
    rule = STATE_POLICIES[stage.optimizer_state]
    names = {id(p): name for name, p in model.named_parameters()}
    rank = {key: i for i, key in enumerate(names)}
    new = {id(join.parameter) for join in extension}
    for optimizer in optimizers:
        if not rule.keeps_old:
            optimizer.state.clear()
    for join in extension:
        optimizer = optimizers[join.optimizer]
        group = _group_of(optimizer, join.like)
        if join.kind is not None:
            group = _group_of_kind(optimizer, group, join.kind)
        group["params"].append(join.parameter)
        if "param_names" in group:
            group["param_names"].append(join.name)
        if rule.new == "copied" and join.continues and join.like in optimizer.state:
            optimizer.state[join.parameter] = copy.deepcopy(optimizer.state[join.like])
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            held = group["params"]
            told = dict(zip(map(id, held), group.get("param_names", ()), strict="param_names" in group))
            for key in (lambda p: rank.get(id(p), -1), lambda p: names.get(id(p), "")):
                before = [key(p) for p in held if id(p) not in new]
                if before == sorted(before):
                    held.sort(key=key)  # in place: somebody may hold the list
                    break
            if told:
                group["param_names"] = [names.get(id(p), told[id(p)]) for p in held]


def _check_alive(parameters: dict[str, nn.Parameter], was_there: set[str], stage: Stage, blocks: str) -> None:
    """Refuse a new block that begins at zero and has nothing that trains."""
    init = INITS[stage.init]
    if init.zeroed == "nothing" and BEGINS_AS[init.weights] != "nothing":
        return
    trains: dict[str, bool] = {}
    for name, p in parameters.items():
        if name not in was_there and name.startswith(f"{blocks}."):
            block = name.removeprefix(f"{blocks}.").partition(".")[0]
            trains[block] = trains.get(block, False) or p.requires_grad
    for block, some in trains.items():
        if not some:
            rule = f"would leave {blocks}.{block} at zero for ever: what it continues is frozen"
            raise InputError("init", stage.init, rule, "use copy, or freeze after growing")


def _group_of(optimizer: torch.optim.Optimizer, like: Tensor) -> dict[str, Any]:
    return next(group for group in optimizer.param_groups if any(p is like for p in group["params"]))


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


def _alike(p: Tensor, optimizers: Sequence[torch.optim.Optimizer], name: str) -> Tensor:
    """A parameter of as many axes, when there was no block to look at."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for other in group["params"]:
                if other.ndim == p.ndim:
                    return other
    raise InputError("optimizer", name, "has no group with a parameter of as many axes", "start from one block or more")
