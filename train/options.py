"""What commands of several rooms share: paths, the plan, the number of threads."""

from __future__ import annotations

import os
from pathlib import Path

from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.errors import InputError
from latebloom.theory.options import LocalPath
from latebloom.theory.plan import Plan, read_plan

__all__ = ["PATH", "plan_of", "use_threads"]


PATH = LocalPath(path_type=Path)


def plan_of(argument: Path | None, option: Path | None = None, model_name: str | None = None) -> Plan:
    """The plan that a command was given.

    Args:
        argument: PLAN.
        option: ``--plan``; one of the two is given.
        model_name: The plan's model, as a check.

    Raises:
        InputError: if there is not one plan file, it is no plan, or its model is another one.
    """
    if (argument is None) == (option is None):
        rule = "is given twice" if argument else "is required"
        raise InputError("PLAN", str(argument) if argument else None, rule, "give one plan file, as PLAN or --plan")
    path = argument or option
    assert path is not None
    plan = read_plan(path)
    if model_name is not None:
        shape, _ = model_of(ModelConfig(model=model_name))
        if shape.name != plan.model.name:
            rule = f"is not the plan's model {plan.model.name!r}"
            raise InputError("--model", model_name, rule, "make a plan for it with `latebloom plan --model`")
    return plan


def use_threads(count: int | None) -> None:
    """Use ``count`` CPU threads; as many as torch likes if it is None.

    Args:
        count: At most the number of cores.

    Raises:
        InputError: if it is out of range.
    """
    if count is None:
        return
    cores = os.cpu_count() or 1
    if not 1 <= count <= cores:
        raise InputError("--threads", count, f"must lie in 1 ... {cores}", "give the number of cores to use")
    import torch

    torch.set_num_threads(count)
    os.environ["OPENBLAS_NUM_THREADS"] = str(count)  # read when scipy.linalg is loaded, at Muon's first step
