"""The full depth for the whole horizon, from settings: what every plan of an experiment is derived from."""

from __future__ import annotations

from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.config import PlanConfig
from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import Base, Optimizer
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.schedules import AnySchedule, Constant, Cosine, Linear, wsd

__all__ = ["base_plan"]

LARGEST_DEFAULT_LR = 0.3  # chosen: beyond it the rule below diverges on small models
MUON_REFERENCE_LR = 10.0  # eta_ref of arXiv 2511.04981 at 0.1 B: peak = eta_ref/sqrt(T)


def base_plan(model: ModelConfig, config: PlanConfig, optimizer: Optimizer, *, vocab_size: int | None = None) -> Plan:
    """The full depth for the whole horizon: what every plan is derived from.

    Args:
        model: Its shape and full depth.
        config: Horizon, batch, schedule.
        optimizer: Update rule.
        vocab_size: Of the data, where they are at hand.

    Raises:
        InputError: if a setting is out of range or missing.
    """
    shape, full_depth = model_of(model, vocab_size=vocab_size)
    schedule = _schedule(config, _peak_lr(config))
    if config.small_depth >= full_depth:
        raise InputError(
            "small_depth", config.small_depth, f"must be below the full depth {full_depth}", "start shallower"
        )
    return Plan(
        name=f"{shape.name}-{config.steps}",
        model=shape,
        batch_tokens=config.batch_tokens,
        schedule=schedule,
        stages=(Stage(start_step=0, depth=full_depth),),
        optimizer=optimizer.replace(base=_base(config)),
    )


def _peak_lr(config: PlanConfig) -> float:
    """The peak learning rate that was given, or the default for runs that are long enough for it."""
    if config.steps < 1:
        raise InputError("--steps", config.steps, "must be at least 1", "give the number of optimizer steps")
    if config.peak_lr is not None:
        return config.peak_lr
    peak = MUON_REFERENCE_LR / config.steps**0.5
    if peak > LARGEST_DEFAULT_LR:
        rule = f"has no default for {config.steps} steps: 10/sqrt(steps) = {peak:.3g} holds for long runs of 0.1 B"
        rule += " and more"
        raise InputError("--peak-lr", None, rule, "give one, such as 0.02, or find it with `latebloom lr-transfer`")
    return peak


def _base(config: PlanConfig) -> Base | None:
    """Where the peak learning rate was tuned."""
    width, depth = config.base_width, config.base_depth
    if width is None and depth is None:
        return None
    if width is None:
        raise InputError("--base-width", None, "is required beside --base-depth", "say at which width it was tuned")
    for name, value in {"--base-width": width, "--base-depth": depth}.items():
        if value is not None and value < 1:
            raise InputError(name, value, "must be at least 1", "give the size at which the rate was tuned")
    if config.peak_lr is None:
        rule = "needs the learning rate that was tuned there"
        raise InputError("--base-width", width, rule, "give --peak-lr, such as `latebloom lr-transfer` finds")
    return Base(width=width, depth=depth)


def _schedule(config: PlanConfig, peak: float) -> AnySchedule:
    for name, value in {"--warmup": config.warmup, "--decay": config.decay}.items():
        if not 0 <= value <= 1:
            raise InputError(name, value, "must be a share of the steps in [0, 1]", "give such as 0.1")
    if config.schedule == "wsd":
        return wsd(steps=config.steps, peak_lr=peak, warmup=config.warmup, decay=config.decay)
    shapes = {"cosine": Cosine, "linear": Linear, "constant": Constant}
    warmup_steps = round(config.warmup * config.steps)
    return shapes[config.schedule](steps=config.steps, peak_lr=peak, warmup_steps=warmup_steps)
