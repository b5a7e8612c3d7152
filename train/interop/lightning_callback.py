"""A plan inside Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.train.growth.loading import check_depth, grow_on_load, grow_to_stage
from latebloom.train.interop.lightning_resume import LoaderPlace
from latebloom.train.optim.plan_lr import PlanLR

__all__ = ["PlanLightning"]

SAVED = "latebloom_place"  # under which a checkpoint has random numbers and the place in the loader


class PlanLightning(Callback):
    """Grows the module where the plan says; its ``configure_optimizers`` returns the optimizer and a ``PlanLR`` that
    steps every ``step``.

    A module made shallow grows to the stage of the checkpoint that ``ckpt_path`` names before its weights are loaded.
    Random numbers and the place in the loader are saved and restored with it, so that a run that was stopped anywhere
    ends as one that was not, bit for bit: shuffled, within an epoch, with several processes (as many as before).
    Under ``strategy="ddp"`` DistributedDataParallel is made anew. With several optimizers (manual optimization),
    Lightning counts the steps of each: ``max_steps`` is the plan's steps times their number. If the plan has an
    ``optimizer.base``, :class:`latebloom.train.optim.plan_lr.PlanLR` asks for the ``kind`` of every parameter group.

    Args:
        plan: Stages and horizon.
        growth: More arguments of :func:`latebloom.train.growth.operators.grow`, such as ``blocks`` or ``last_linear``.
    """

    def __init__(self, plan: Plan, growth: dict[str, Any] | None = None):
        plan.refuse_special_stages("a model of other trainers")
        self.plan, self.growth = plan, growth or {}
        self._place = LoaderPlace()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the module follow checkpoints that are loaded into it.

        Args:
            trainer: Whose optimizers grow, too, if there are any yet.
            pl_module: Grows.
            stage: Not read.
        """
        self._stop_following = grow_on_load(pl_module, self.plan, lambda: trainer.optimizers, growth=self.growth)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let it follow no longer.

        Args:
            trainer: Not read.
            pl_module: Not read.
            stage: Not read.
        """
        self._stop_following()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a Trainer of another length.

        Args:
            trainer: Says how long it trains.
            pl_module: Not read.

        Raises:
            InputError: if it is not the plan's number of steps.
        """
        count = max(len(trainer.optimizers), 1)
        if trainer.max_steps != self.plan.steps * count:
            rule, fix = f"is not the plan's {self.plan.steps}", "set Trainer(max_steps=plan.steps)"
            if count > 1:
                rule += f" for each of {count} optimizers, whose steps Lightning counts together"
                fix = f"set Trainer(max_steps={count} * plan.steps)"
            raise InputError("max_steps", trainer.max_steps, rule, fix)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep random numbers and the place in the loader.

        Args:
            trainer: In training.
            pl_module: Not read.
            checkpoint: They are put there.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            checkpoint[SAVED] = self._place.state(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take them up again.

        Args:
            trainer: Not read.
            pl_module: Not read.
            checkpoint: Holds them, if this callback wrote it.
        """
        if SAVED in checkpoint:
            self._place.restore(checkpoint[SAVED])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where the checkpoint was.

        Args:
            trainer: Whose loader is begun anew.
            pl_module: Not read.

        Raises:
            InputError: if another number of processes saved it.
        """
        self._place.training_starts(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember with which random numbers the loader is begun.

        Args:
            trainer: At the start of an epoch.
            pl_module: Not read.
        """
        self._place.epoch_starts(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Grow before the first update of a stage.

        Args:
            trainer: Whose steps are counted, and whose optimizers and averages grow, too.
            pl_module: Grows.
            batch: Not read.
            batch_idx: Not read.

        Raises:
            InputError: if optimizers do not step alike, or the module's depth is not the plan's.
        """
        step, rest = divmod(trainer.global_step, len(trainer.optimizers))
        if rest:
            rule = f"optimizer steps are no multiple of the {len(trainer.optimizers)} optimizers: an update is none"
            raise InputError("global_step", trainer.global_step, rule, "step all optimizers for each batch")
        if check_depth(pl_module, self.plan, step, self.growth) == self.plan.stages[self.plan.stage_at(step)].depth:
            return
        averaged = [getattr(callback, "_average_model", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
        averages = [*self.growth.get("averages", ()), *(average for average in averaged if average is not None)]
        stage = self.plan.stages[self.plan.stage_at(step)]
        grow_to_stage(pl_module, trainer.optimizers, stage, self.growth | {"averages": averages})
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, PlanLR):
                config.scheduler.set_rates()  # from zero layers blocks may have groups of their own
