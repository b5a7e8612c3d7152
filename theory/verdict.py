"""The honest verdict: what growing saved, against which run, and what the small phase was worth.

Every saving stands beside three controls:
    same horizon   the full depth for the same number of steps (the paper's comparison)
    equal compute  the full depth for the same FLOPs, with its own horizon and its own schedule
    cold start     the full depth from scratch for just the steps after tau, with the same tail of the schedule
and beside what costs nothing to leave out, the expansion itself: the small depth for the same number of steps.
"""

from __future__ import annotations

import math

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Prediction, cold_start
from latebloom.theory.record import Record
from latebloom.theory.spec import NonNegative, Spec

__all__ = ["Verdict", "from_prediction", "judge", "sentence"]

RESOLUTION = 0.002  # relative: differences of losses below this are called equal; seeds differ by about as much


class Verdict(Spec, frozen=True, kw_only=True):
    """A progressive run against its controls. Losses in nats per token.

    Attributes:
        progressive, same_horizon, equal_compute: Final losses.
        saving_same_horizon: Share of the same-horizon run's FLOPs that growing saved, 1 - C/C_fixed.
        gap_same_horizon: (progressive - same_horizon)/same_horizon, the price of that saving.
        saving_equal_compute: 1 - C/C_iso with C_iso the FLOPs at which the full depth alone reaches the progressive
            run's loss; negative if growing costs more than it saves.
        gap_equal_compute: (progressive - equal_compute)/equal_compute.
        retention: Cold start's loss minus the progressive run's: what the small phase was worth.
        small: Final loss of the small depth alone for the same number of steps, None if it was not run.
        gain_over_small: (small - progressive)/small: what growing was worth at all.
        extrapolated: C_iso lies outside the two fixed-depth runs, on the line through them.
        measured: From runs, not from a landscape.
    """

    progressive: float
    same_horizon: float
    equal_compute: float
    flops: NonNegative
    saving_same_horizon: float
    gap_same_horizon: float
    saving_equal_compute: float | None
    gap_equal_compute: float
    retention: float
    small: float | None = None
    gain_over_small: float | None = None
    extrapolated: bool = False
    measured: bool = True


def judge(
    *, progressive: Record, fixed: Record, equal_compute: Record, cold_start: Record, small: Record | None = None
) -> Verdict:
    """Compare finished runs; ``small``, the small depth alone for the same number of steps, may be left out.

    C_iso is read off the straight line of loss against log FLOPs through the two fixed-depth runs.

    Raises:
        InputError: if a run did not finish, or the runs do not control for one another.
    """
    plan = progressive.plan
    for name, record in {"fixed": fixed, "equal_compute": equal_compute, "cold_start": cold_start}.items():
        if record.plan.tau is not None or record.plan.depth != plan.depth:
            rule = f"must be a fixed run of depth {plan.depth}"
            raise InputError(name, [stage.depth for stage in record.plan.stages], rule, "give the control's record")
    if small is not None and (small.plan.tau is not None or small.plan.depth != plan.stages[0].depth):
        rule = f"must be a fixed run of depth {plan.stages[0].depth}"
        raise InputError("small", [stage.depth for stage in small.plan.stages], rule, "give the control's record")
    _alike(progressive, fixed=fixed, equal_compute=equal_compute, cold_start=cold_start, small=small)
    spent, full, equal = plan_flops(plan), plan_flops(fixed.plan), plan_flops(equal_compute.plan)
    if abs(equal / spent - 1) > 0.02:
        rule = f"must cost what the progressive run costs, {spent:.4g} FLOPs"
        raise InputError(
            "equal_compute", f"{equal:.4g} FLOPs", rule, "make its plan with latebloom.theory.planning.equal_compute"
        )
    p, f, e = progressive.final(), fixed.final(), equal_compute.final()
    iso = None
    if e > f:
        iso = math.exp(math.log(equal) + (e - p) / (e - f) * math.log(full / equal))
    return Verdict(
        progressive=p,
        same_horizon=f,
        equal_compute=e,
        flops=spent,
        saving_same_horizon=1 - spent / full,
        gap_same_horizon=p / f - 1,
        saving_equal_compute=1 - spent / iso if iso else None,
        gap_equal_compute=p / e - 1,
        retention=cold_start.final() - p,
        small=small.final() if small else None,
        gain_over_small=1 - p / small.final() if small else None,
        extrapolated=bool(iso and not equal <= iso <= full),
    )


def _alike(progressive: Record, **controls: Record | None) -> None:
    """Refuse controls that differ from the progressive run in more than they are there to differ in."""
    plan = progressive.plan
    schedules = {"fixed": plan.schedule, "small": plan.schedule, "cold_start": cold_start(plan, name="cold").schedule}
    for name, record in controls.items():
        if record is None:
            continue
        if name == "equal_compute":
            schedules[name] = plan.schedule.with_steps(record.plan.steps)
        for what in ("model", "batch_tokens", "optimizer"):
            if getattr(record.plan, what) != getattr(plan, what):
                rule = "is not the progressive run's"
                raise InputError(f"{name}: {what}", getattr(record.plan, what), rule, "give a run that controls for it")
        if record.plan.schedule != schedules[name]:
            rule = "is not the schedule of this control"
            maker = name if name in ("cold_start", "equal_compute") else "fixed_depth"
            fix = f"make its plan with theory.{maker}"
            raise InputError(f"{name}: schedule", record.plan.schedule, rule, fix)
        if record.header.data_digest != progressive.header.data_digest:
            rule = "is not the data of the progressive run"
            raise InputError(f"{name}: data", record.header.data_digest, rule, "train both on the same shards")


def from_prediction(p: Prediction) -> Verdict:
    """The verdict that a landscape predicts."""
    assert p.final_loss is not None and p.fixed_final_loss is not None and p.equal_compute_final_loss is not None
    assert p.flops is not None and p.saving_same_horizon is not None and p.retention is not None
    return Verdict(
        progressive=p.final_loss,
        same_horizon=p.fixed_final_loss,
        equal_compute=p.equal_compute_final_loss,
        flops=p.flops,
        saving_same_horizon=p.saving_same_horizon,
        gap_same_horizon=p.final_loss / p.fixed_final_loss - 1,
        saving_equal_compute=p.saving_equal_compute,
        gap_equal_compute=p.final_loss / p.equal_compute_final_loss - 1,
        retention=p.retention,
        small=p.small_final_loss,
        gain_over_small=1 - p.final_loss / p.small_final_loss if p.small_final_loss else None,
        measured=False,
    )


def sentence(v: Verdict) -> str:
    """The verdict in one sentence; 'grow' only where both leaving it out and the full depth alone end higher."""
    wins = v.gap_equal_compute < -RESOLUTION
    if wins:
        worthless = v.gain_over_small is not None and v.gain_over_small < RESOLUTION
        head = "Keep the small depth at this horizon" if worthless else "Grow"
        than = f"beats the fixed-depth run of equal compute by {-v.gap_equal_compute:.2%} of the loss"
    elif v.gap_equal_compute > RESOLUTION:
        head = "Do not grow at this horizon"
        than = f"loses to the fixed-depth run of equal compute by {v.gap_equal_compute:.2%} of the loss"
    else:
        head, than = "Growing does not matter here", "equals the fixed-depth run of equal compute"
    tense = "measured" if v.measured else "predicted"
    side = "above" if v.gap_same_horizon >= 0 else "below"
    text = f"{head} ({tense}): growing saves {v.saving_same_horizon:.1%} of the fixed-depth FLOPs"
    text += f"{',' if wins else ' and'} ends {abs(v.gap_same_horizon):.2%} {side} its loss"
    text += f", {'and' if wins else 'but'} {than}"
    if v.saving_equal_compute is not None:
        iso = v.saving_equal_compute
        text += (
            f" ({abs(iso):.1%} {'fewer' if iso >= 0 else 'more'} FLOPs than the full depth alone needs for that loss"
            f"{', extrapolated' if v.extrapolated else ''})"
        )
    text += f"; the small phase is worth {v.retention:+.3f} nats over a cold start"
    if v.gain_over_small is not None:
        worth = "lowers" if v.gain_over_small >= 0 else "raises"
        text += f", and the expansion {worth} the loss of never growing by {abs(v.gain_over_small):.2%}"
    return text + "."
