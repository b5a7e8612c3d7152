"""A plan inside Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.growth.operators import grow
from latebloom.train.optim.plan_lr import PlanLR

__all__ = ["PlanLightning"]


class PlanLightning(Callback):
    """Grows the module where the plan says; its ``configure_optimizers`` returns the optimizer and a ``PlanLR`` that
    steps every ``step``.

    If the plan has an ``optimizer.base``, :class:`latebloom.train.optim.plan_lr.PlanLR` asks for the ``kind`` of every
    parameter group.

    Args:
        plan: Stages and horizon; ``max_steps`` must be its steps.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`, such as ``blocks`` or ``last_linear``.
    """

    def __init__(self, plan: Plan, growth: dict[str, Any] | None = None):
        plan.refuse_special_stages("a model of other trainers")
        self.plan, self.growth = plan, growth or {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a Trainer of another length.

        Args:
            trainer: Says how long it trains.
            pl_module: Not read.

        Raises:
            InputError: if it is not the plan's number of steps.
        """
        if trainer.max_steps != self.plan.steps:
            fix = "set Trainer(max_steps=plan.steps)"
            raise InputError("max_steps", trainer.max_steps, f"is not the plan's {self.plan.steps}", fix)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Grow before the first update of a stage."""
        for stage in self.plan.stages[1:]:
            if stage.start_step == trainer.global_step and getattr(self, "grown", -1) != stage.start_step:
                self.grown = stage.start_step  # with accumulation a step has several batches
                grow(
                    pl_module, trainer.optimizers[0], depth=stage.depth, init=stage.init, order=stage.order,
                    optimizer_state=stage.optimizer_state, **self.growth,
                )  # fmt: skip
                for config in trainer.lr_scheduler_configs:
                    if isinstance(config.scheduler, PlanLR):
                        config.scheduler.set_rates()  # from zero layers blocks may have groups of their own
