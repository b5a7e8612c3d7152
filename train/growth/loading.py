"""A model that grows itself to the depth of the weights that are loaded into it.

Trainers load a checkpoint's weights first and call their callbacks afterwards, so that a model that was made shallow
must be as deep as the checkpoint before that. A hook that torch calls when a state is loaded sees the state's names and
grows the model and its optimizers to the stage of the plan in which it was saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan, Stage
from latebloom.train.growth.foreign import block_list, find_blocks
from latebloom.train.growth.operators import grow
from latebloom.train.growth.wrappers import unwrapped

__all__ = ["check_depth", "grow_on_load", "grow_to_stage"]


def grow_on_load(
    model: nn.Module,
    plan: Plan,
    optimizers: Callable[[], Sequence[torch.optim.Optimizer]] = lambda: (),
    *,
    growth: Mapping[str, Any] | None = None,
) -> Callable[[], None]:
    """From now on ``model.load_state_dict`` first grows the model to the depth of the state, by the plan's stages.

    Args:
        model: As made for the plan's first stage, or deeper.
        plan: Its stages say how the model grew.
        optimizers: Gives those that exist when weights are loaded; they grow with it. Load their states afterwards.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`, such as ``blocks`` or ``make_block``.

    Returns:
        Ends it when called.
    """
    model, growth = unwrapped(model), dict(growth or {})
    path = growth.get("blocks") or find_blocks(model)

    def before_loading(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
        begins = f"{prefix}{path}."
        numbers = [name[len(begins) :].partition(".")[0] for name in state if name.startswith(begins)]
        depth = max((int(number) + 1 for number in numbers if number.isdigit()), default=0)
        now = len(block_list(model.get_submodule(path)))
        outside = {f"{prefix}{name}" for name, _ in model.named_parameters() if not name.startswith(f"{path}.")}
        if depth < now and outside <= set(state):
            rule = f"of the state that is loaded, fewer than the model's {now}: part of the model would stay as it is"
            raise InputError("blocks", depth, rule, "load a checkpoint of this stage, or make the model anew")
        # a state that is saved in several files comes in several calls, of which the first may hold the first blocks
        reached = [stage for stage in plan.stages if stage.depth >= depth]
        if depth > now and not reached:
            depths = [stage.depth for stage in plan.stages]
            rule = f"of the state that is loaded are more than the plan's {depths}"
            raise InputError("blocks", depth, rule, "resume with the plan that it began with")
        for stage in plan.stages[1:]:
            if depth > now and now < stage.depth <= reached[0].depth:
                with torch.random.fork_rng(devices=[]):  # the run goes on with the numbers of its checkpoint
                    _grow_unweighted(model, optimizers(), stage, growth, now)
                now = stage.depth

    return model.register_load_state_dict_pre_hook(before_loading).remove


def check_depth(model: nn.Module, plan: Plan, step: int, growth: Mapping[str, Any]) -> int:
    """Number of the model's blocks, which must be that of a stage of the plan that has come by ``step``.

    Args:
        model: In somebody's trainer.
        plan: Executed there.
        step: Updates done.
        growth: Arguments of :func:`latebloom.train.growth.operators.grow`.

    Raises:
        InputError: if the plan has another depth at ``step``, and does not grow to it there.
    """
    model = unwrapped(model)
    depth = len(block_list(model.get_submodule(growth.get("blocks") or find_blocks(model))))
    stage = plan.stages[plan.stage_at(min(step, plan.steps - 1))]
    before = plan.stages[plan.stage_at(step - 1)].depth if step > 0 and stage.start_step == step else stage.depth
    if depth not in (stage.depth, before):
        rule = f"of the model, but the plan has {stage.depth} at step {step}"
        fix = "make the model as the plan begins; give the callback to the trainer when it is made, and resume by it"
        raise InputError("blocks", depth, rule, fix)
    return depth


def grow_to_stage(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], stage: Stage, growth: Mapping[str, Any]
) -> None:
    """Grow somebody's model as a stage of a plan says.

    Args:
        model: As deep as the stage before.
        optimizers: All of them.
        stage: To grow to.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`.
    """
    grow(
        model, list(optimizers), depth=stage.depth, init=stage.init, order=stage.order,
        optimizer_state=stage.optimizer_state, **growth,
    )  # fmt: skip


def _grow_unweighted(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], stage: Stage, growth: Mapping[str, Any], now: int
) -> None:
    """Grow to ``stage`` for weights that are about to come: how new blocks begin plays no part, their places do."""
    kept = {key: value for key, value in growth.items() if key in ("blocks", "make_block", "init_block", "averages")}
    everything = tuple(
        name
        for module in model.modules()
        for name in [*vars(module), *module._parameters, *module._modules, *module._buffers]
    )
    grow(
        model, list(optimizers), depth=stage.depth, init="copy" if now else stage.init, order=stage.order,
        caller_syncs=True, seen_to=everything, **kept,
    )  # fmt: skip
