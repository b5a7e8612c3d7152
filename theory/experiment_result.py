"""result.json: every arm and every gap of an experiment, what was predicted beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from latebloom.theory.plan import Plan
from latebloom.theory.prediction import JointDraws
from latebloom.theory.record import Record
from latebloom.theory.scoring import DRAWN_AS, gap_draws, loss_draws, pit, quantiles
from latebloom.theory.verdict import Verdict
from latebloom.theory.verdict_text import details, sentence

__all__ = ["experiment_result"]


def experiment_result(plan: Plan, verdict: Verdict, runs: Mapping[str, Record]) -> dict[str, Any]:
    """What ``result.json`` says; predictions only where the plan made any.

    Args:
        plan: Of the run that grows.
        verdict: On it and its controls.
        runs: Their records on the first seed, by the names in the verdict.

    Returns:
        Plain data; gaps are relative, with the probability integral transform of each measured one.
    """
    p = plan.predicted
    drawn = _drawn_gaps(plan, verdict)
    predicted = {n: float(np.median(loss_draws(p.draws, n))) for n in verdict.arms if p.draws and _is_drawn(p.draws, n)}
    final = predicted.get("progressive", p.final_loss)
    return {
        "verdict": sentence(verdict),
        "details": list(details(verdict)),
        "head": verdict.head,
        "best": verdict.best,
        "predicted_verdict": p.verdict,
        "predicted_head": p.decision.head if p.decision else None,
        "p_grow": p.decision.p_grow if p.decision else None,
        "resolution": verdict.resolution,
        "pilots": None
        if p.pilots is None
        else {"flops": p.pilots.flops, "reused": p.pilots.reused, "share_of_fixed": p.pilots.share_of_fixed},
        "predicted_final_loss": final,
        "measured_final_loss": verdict.progressive,
        "prediction_error": None if final is None else abs(final / verdict.progressive - 1),
        "tau": plan.tau,
        "tau_star": p.tau_star,
        "tau_interval": [p.tau_interval.low, p.tau_interval.high] if p.tau_interval else None,
        "saving_same_horizon": verdict.saving_same_horizon,
        "gap_same_horizon": verdict.gap_same_horizon,
        "saving_equal_compute": verdict.saving_equal_compute,
        "gap_equal_compute": verdict.gap_equal_compute,
        "retention": verdict.retention,
        "gain_over_small": verdict.gain_over_small,
        "seeds": verdict.seeds,
        "losses": {name: arm.loss for name, arm in verdict.arms.items()},
        "losses_by_seed": {name: arm.losses for name, arm in verdict.arms.items() if arm.losses},
        "growing_above": {
            name: {"nats": verdict.difference(name), "standard_error": verdict.standard_error(name)}
            for name in verdict.controls
        },
        "predicted_losses": predicted,
        "flops": {name: arm.flops for name, arm in verdict.arms.items()},
        "gaps": drawn,
        "plan_digest": runs["progressive"].header.plan_digest,
        "data_digest": runs["progressive"].header.data_digest,
    }


def _drawn_gaps(plan: Plan, verdict: Verdict) -> dict[str, dict[str, Any]]:
    """By control, the gap as measured and, where the plan drew it, as predicted."""
    draws = plan.predicted.draws
    gaps: dict[str, dict[str, Any]] = {}
    for name in verdict.controls:
        measured = verdict.gap(name)
        if draws is None or not _is_drawn(draws, name):
            gaps[name] = {"measured": measured}
            continue
        drawn = gap_draws(draws, "progressive", name)
        gaps[name] = {
            "predicted": msgspec.to_builtins(quantiles(drawn)),
            "p_below": float((drawn < 0).mean()),
            "measured": measured,
            "pit": pit(drawn, measured),
        }
    return gaps


def _is_drawn(draws: JointDraws, name: str) -> bool:
    """Whether the plan drew the run called ``name``."""
    return name in draws.names or DRAWN_AS.get(name) in draws.names
