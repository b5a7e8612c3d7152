"""A plan inside Hugging Face's Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.growth.operators import grow
from latebloom.train.optim.plan_lr import PlanLR

__all__ = ["PlanCallback"]


class PlanCallback(TrainerCallback):
    """Grows the Trainer's model where the plan says; give the Trainer ``optimizers=(optimizer, PlanLR(...))``.

    If the plan has an ``optimizer.base``, :class:`latebloom.train.optim.plan_lr.PlanLR` asks for the ``kind`` of every
    parameter group.

    Args:
        plan: Stages and horizon; ``max_steps`` must be its steps.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`, such as ``blocks`` or ``last_linear``.
    """

    def __init__(self, plan: Plan, growth: dict[str, Any] | None = None):
        plan.refuse_special_stages("a model of other trainers")
        self.plan, self.growth = plan, growth or {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse a Trainer of another length.

        Args:
            args: Not read.
            state: Says how long the Trainer trains.
            control: Not read.
            kwargs: Not read.

        Raises:
            InputError: if it is not the plan's number of steps.
        """
        if state.max_steps != self.plan.steps:
            fix = "set TrainingArguments(max_steps=plan.steps)"
            raise InputError("max_steps", state.max_steps, f"is not the plan's {self.plan.steps}", fix)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Grow before the first update of a stage."""
        for stage in self.plan.stages[1:]:
            if stage.start_step == state.global_step:
                optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])  # accelerate wraps it
                grow(
                    kwargs["model"], optimizer, depth=stage.depth, init=stage.init, order=stage.order,
                    optimizer_state=stage.optimizer_state, **self.growth,
                )  # fmt: skip
                scheduler = getattr(kwargs["lr_scheduler"], "scheduler", kwargs["lr_scheduler"])  # wrapped as well
                if isinstance(scheduler, PlanLR):
                    scheduler.set_rates()  # from zero layers blocks may have groups of their own
