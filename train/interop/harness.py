"""A run's scores on the tasks of EleutherAI's evaluation harness (the package ``lm_eval``), by way of its export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latebloom.theory.errors import InputError, nearest

__all__ = ["evaluate"]

Scores = dict[str, dict[str, float]]  # of each task, of each measure


def evaluate(
    run: Path,
    tasks: Sequence[str],
    *,
    tasks_dir: Path | None = None,
    examples: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    device: str = "auto",
) -> Scores:
    """Scores of a run's newest checkpoint, as the harness names them, with their standard errors.

    Args:
        run: The run's directory.
        tasks: Names of tasks or groups of tasks.
        tasks_dir: Folder of more tasks, as YAML files.
        examples: Solved ones before each question (few-shot). None: what the task says.
        limit: Questions of each task; None: all.
        batch_size: Sequences of a forward pass.
        device: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        InputError: if the harness is not installed, a task is unknown or its data cannot be loaded.
    """
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        rule = f"needs the package {error.name}"
        raise InputError("--tasks", ",".join(tasks), rule, "pip install 'lm_eval[hf]'") from None
    from latebloom.train.model.hf import export
    from latebloom.train.run.device import usable_device

    manager = TaskManager(include_path=str(tasks_dir) if tasks_dir else None)
    for task in tasks:
        if task not in manager.all_tasks:
            raise InputError("--tasks", task, "is not a task of the harness", nearest(task, manager.all_tasks))
    with TemporaryDirectory() as folder:
        exported = Path(folder) / "model"
        export(run, exported, to="hf")
        try:
            found: dict[str, Any] = lm_eval.simple_evaluate(
                model="hf", model_args={"pretrained": str(exported)}, tasks=list(tasks), num_fewshot=examples,
                limit=limit, batch_size=batch_size, device=str(usable_device(device)), task_manager=manager,
                log_samples=False,
            )  # fmt: skip
        except (ConnectionError, FileNotFoundError) as error:
            rule = f"has data that cannot be loaded ({str(error).splitlines()[0][:100]})"
            raise InputError(
                "--tasks", ",".join(tasks), rule, "go online, or give tasks of your own by --tasks-dir"
            ) from None
    return {
        task: {
            name.removesuffix(",none"): float(value) for name, value in row.items() if isinstance(value, float | int)
        }
        for task, row in found["results"].items()
    }
