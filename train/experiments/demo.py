"""The main job (:mod:`latebloom.train.experiments.job`) on this computer, with the text of Python's own library."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console

from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.base_plan import base_plan
from latebloom.theory.config import PlanConfig
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Optimizer
from latebloom.theory.verdict import Verdict
from latebloom.train.config import DemoConfig, TrainConfig
from latebloom.train.data.corpus import prepare, python_stdlib_corpus
from latebloom.train.data.shards import open_shards
from latebloom.train.experiments.job import claimed_directory, run_job

__all__ = ["demo", "plan_config"]

MODEL = "gpt2-tiny"  # where none is given
BUDGET = 0.8  # share of the full depth's FLOPs, where none is given: between the small depth's and the full one's


def demo(
    out: Path,
    config: DemoConfig | None = None,
    *,
    model: ModelConfig | None = None,
    train: TrainConfig | None = None,
    console: Console | None = None,
    seeds: int = 1,
) -> Verdict:
    """Run the whole job in ``out``; a run that was interrupted goes on where it stopped.

    Leaves data/, pilots/, runs/, plan.json and result.json.

    Args:
        out: Directory of the demo.
        config: Its size.
        model: What is trained; a tiny GPT-2 by default.
        train: How its runs are executed; its seed is also the fit's.
        console: Where progress is shown.
        seeds: On which the runs that decide are trained; more may be added to what is there.

    Raises:
        InputError: if ``out`` is in other use, or the small depth is not below the full one.
    """
    config, train, console = config or DemoConfig(), train or TrainConfig(), console or Console()
    model = model or ModelConfig()
    if model == ModelConfig():
        model = ModelConfig(model=MODEL)
    shape, depth = model_of(model)
    if config.small_depth >= depth:
        raise InputError(
            "--small-depth", config.small_depth, f"must be below the full depth {depth}", "start shallower"
        )
    used = msgspec.to_builtins(model) | msgspec.to_builtins(config) | msgspec.to_builtins(train.replace(quiet=False))
    with claimed_directory(out, used, what="demo"):
        data = out / "data"
        if not (data / "manifest.json").exists():
            console.print("[bold]corpus[/]  the text of this Python's standard library")
            prepare(python_stdlib_corpus(), data, tokenizer=config.tokenizer, vocab_size=shape.vocab_size)
        plans = plan_config(config)
        base = base_plan(model, plans, Optimizer(), vocab_size=open_shards(data).vocab_size)
        return run_job(base, data, out, config=plans, train=train, console=console, seeds=seeds)


def plan_config(config: DemoConfig) -> PlanConfig:
    """The job's settings that the demo's say.

    Args:
        config: Size of the demo.
    """
    return PlanConfig(
        steps=config.steps,
        batch_tokens=config.batch_tokens,
        peak_lr=config.peak_lr,
        small_depth=config.small_depth,
        budget=BUDGET if config.budget is None else config.budget,
        init=config.init,
        order=config.order,
    )
