"""The plan's schedule as a torch scheduler: learning rates come from the plan alone."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from latebloom.theory.architectures.tensors import KINDS
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.theory.plan_transfer import size_factors

__all__ = ["PlanLR"]


class PlanLR(LRScheduler):
    """Sets every group's learning rate to the plan's at each step, times the group's ``lr_factor`` (1 if absent).

    If the plan says at which size its rate was tuned (``optimizer.base``), each group needs a ``kind`` of
    :mod:`latebloom.theory.architectures.tensors`, as :func:`latebloom.train.optim.build.split_groups` gives it, and
    learns at that kind's factor too, for the depth of the stage that executes the step.

    Unlike ``LambdaLR`` it holds no list as long as the groups, so groups may appear when the model grows, and its state
    carries the plan's digest: loading it under another plan is refused.

    Args:
        optimizer: Any torch optimizer.
        plan: Its schedule gives the learning rate of update ``last_epoch``.
        last_epoch: Updates done so far minus one, as torch counts.

    Raises:
        InputError: if the plan has a base and a group no kind, or groups have rates of their own that no ``lr_factor``
            says.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan, last_epoch: int = -1):
        self.plan = plan
        rates = {float(group["lr"]) for group in optimizer.param_groups if "lr_factor" not in group}
        if len(rates) > 1 and last_epoch == -1 and plan.optimizer.base is None:
            rule = "are rates of groups of their own, which the plan's one rate would replace"
            fix = "say how they differ by a 'lr_factor' in each group, or give all the same rate"
            raise InputError("param_groups[...]['lr']", sorted(rates), rule, fix)
        self._updates = 0
        self._seen = (-1, -1)  # updates, and steps of this scheduler without one, when it was last stepped
        optimizer.register_step_post_hook(self._count)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # torch asks for it when a run is resumed
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: int | None = None) -> None:
        """Go to the next update.

        Args:
            epoch: As torch has it; leave it out.

        Raises:
            InputError: beyond the plan, or if every process steps it (accelerate does so with schedulers it prepares).
        """
        if self.last_epoch >= self.plan.steps:
            rule = f"is beyond the plan's {self.plan.steps} updates"
            raise InputError("step", self.last_epoch + 1, rule, "stop there, or make a plan of a longer horizon")
        idle = self._seen[1] + 1 if self._seen[0] == self._updates else 0
        if idle and self._updates and _processes_of_accelerate() > 1:
            rule = f"steps of the scheduler for {self._updates} updates: each process steps it"
            fix = "do not give PlanLR to accelerator.prepare, or prepare with split_batches=True"
            raise InputError("step", self.last_epoch + 1, rule, fix)
        self._seen = (self._updates, idle)
        super().step(epoch)

    def _count(self, *_: Any) -> None:
        self._updates += 1

    def get_lr(self) -> list[float | Tensor]:
        """Learning rate of the next update, a value a group; 0 after the horizon."""
        step = self.last_epoch
        rate = float(self.plan.schedule.lr(step)) if step < self.plan.steps else 0.0
        plan = self.plan
        depth = plan.stages[plan.stage_at(max(step, 0))].passes
        factors = size_factors(plan.optimizer, width=plan.model.width, depth=depth)
        return [
            rate * group.get("lr_factor", 1.0) * self._factor(group, factors) for group in self.optimizer.param_groups
        ]

    def _factor(self, group: dict[str, Any], factors: dict[str, float]) -> float:
        if self.plan.optimizer.base is None:
            return 1.0
        if group.get("kind") not in KINDS:
            rule = "is no kind of parameter, by which a plan with optimizer.base gives learning rates"
            raise InputError("param_groups[...]['kind']", group.get("kind"), rule, f"set one of {', '.join(KINDS)}")
        return factors.get(group["kind"], 1.0)

    def set_rates(self) -> None:
        """Give every group its rate for the next update; for groups that came after the last one."""
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Updates done and the plan's digest."""
        return {"last_epoch": self.last_epoch, "plan_digest": self.plan.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where ``state_dict`` stopped.

        Args:
            state_dict: From :meth:`state_dict`.

        Raises:
            InputError: if it was saved under another plan.
        """
        if state_dict["plan_digest"] != self.plan.digest:
            rule = f"is not this plan's digest {self.plan.digest[:16]}"
            raise InputError("plan_digest", state_dict["plan_digest"][:16], rule, "resume with the plan it began with")
        self.last_epoch = state_dict["last_epoch"]
        self.set_rates()


def _processes_of_accelerate() -> int:
    """How many processes accelerate trains with; 1 where it is not in use, or skips updates itself (float16)."""
    state = getattr(sys.modules.get("accelerate.state"), "AcceleratorState", None)
    shared = getattr(state, "_shared_state", None) or {}
    if state is None or not shared or shared.get("_mixed_precision") == "fp16":
        return 1
    return state().num_processes
