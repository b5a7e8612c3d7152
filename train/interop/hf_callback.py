"""A plan inside Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.growth.loading import check_depth, grow_on_load, grow_to_stage
from latebloom.train.interop.hf_checkpoint import refuse_half_written, warn_of_half_written
from latebloom.train.optim.plan_lr import PlanLR

__all__ = ["PlanCallback"]


class PlanCallback(TrainerCallback):
    """Grows the Trainer's model where the plan says; give the Trainer ``optimizers=(optimizer, PlanLR(...))``.

    Give it to the Trainer when that is made: ``train(resume_from_checkpoint=...)`` then grows the model to the
    checkpoint's stage before it loads weights. In several processes the Trainer's DistributedDataParallel is made anew.
    If the plan has an ``optimizer.base``, :class:`latebloom.train.optim.plan_lr.PlanLR` asks for the ``kind`` of every
    parameter group.

    Args:
        plan: Stages and horizon; ``max_steps`` must be its steps.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`, such as ``blocks`` or ``last_linear``.
    """

    def __init__(self, plan: Plan, growth: dict[str, Any] | None = None):
        plan.refuse_special_stages("a model of other trainers")
        self.plan, self.growth = plan, growth or {}

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the model follow checkpoints that are loaded into it, and say so if the last one is half written."""
        warn_of_half_written(args)
        model, optimizer = kwargs["model"], kwargs.get("optimizer")
        grow_on_load(model, self.plan, lambda: _all_of(optimizer), growth=self.growth)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse a Trainer of another length, a model of another depth, or a checkpoint that is half written.

        Args:
            args: Say where checkpoints are.
            state: Says how long the Trainer trains, and where it begins.
            control: Not read.
            kwargs: Holds the model, its optimizer and the scheduler.

        Raises:
            InputError: if it is not the plan's number of steps, the depth is not the plan's there, or what the Trainer
                goes on from lacks states of the optimizer or random numbers.
        """
        if state.max_steps != self.plan.steps:
            fix = "set TrainingArguments(max_steps=plan.steps)"
            raise InputError("max_steps", state.max_steps, f"is not the plan's {self.plan.steps}", fix)
        check_depth(kwargs["model"], self.plan, state.global_step, self.growth)
        refuse_half_written(args, state, _all_of(kwargs.get("optimizer")), kwargs.get("lr_scheduler"))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Grow before the first update of a stage."""
        for stage in self.plan.stages[1:]:
            if stage.start_step == state.global_step:
                if check_depth(kwargs["model"], self.plan, state.global_step, self.growth) == stage.depth:
                    continue  # made at this depth, or grown when a checkpoint was loaded
                grow_to_stage(kwargs["model"], _all_of(kwargs["optimizer"]), stage, self.growth)
                scheduler = getattr(kwargs["lr_scheduler"], "scheduler", kwargs["lr_scheduler"])  # accelerate wraps it
                if isinstance(scheduler, PlanLR):
                    scheduler.set_rates()  # from zero layers blocks may have groups of their own


def _all_of(optimizer: Any) -> Sequence[torch.optim.Optimizer]:
    """The optimizers that the Trainer holds as one; none before it has made its own."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return [] if inner is None else list(getattr(inner, "optimizers", [inner]))
