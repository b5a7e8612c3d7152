"""The honest verdict: what growing saved, against which run, and what the small phase was worth.

Every saving stands beside controls (:mod:`latebloom.theory.controls`):
    same horizon   the full depth for the same number of steps (the paper's comparison)
    equal compute  the full depth for the same FLOPs, with its own horizon and its own schedule
    cold start     the full depth from scratch for just the steps after tau, with the same tail of the schedule
and beside what costs nothing to leave out, the expansion itself: the small depth for the same number of steps. Further
controls of the table are compared in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from latebloom.theory.controls import Control, control
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan, Prediction
from latebloom.theory.record import Record
from latebloom.theory.spec import NonNegative, Spec

__all__ = ["NEEDED", "Verdict", "from_prediction", "judge", "sentence"]

RESOLUTION = 0.002  # relative: differences of losses below this are called equal; seeds differ by about as much
COMPUTE_TOLERANCE = 0.02  # relative: a control of equal compute may cost this much more or less
NEEDED = ("fixed", "equal_compute", "cold_start")  # controls without which there is no verdict
IN_WORDS = (*NEEDED, "small")  # controls that the sentence has words of its own for


class Verdict(Spec, frozen=True, kw_only=True):
    """A progressive run against its controls. Losses in nats per token.

    Attributes:
        progressive: Final loss of the run that grows.
        controls: Final losses of the controls, by their names in :data:`latebloom.theory.controls.CONTROLS`.
        flops: What the run that grows costs.
        saving_same_horizon: Share of the same-horizon run's FLOPs that growing saved, 1 - C/C_fixed.
        saving_equal_compute: 1 - C/C_iso with C_iso the FLOPs at which the full depth alone reaches the progressive
            run's loss; negative if growing costs more than it saves.
        extrapolated: C_iso lies outside the two fixed-depth runs, on the line through them.
        measured: From runs, not from a landscape.
    """

    progressive: float
    controls: dict[str, float]
    flops: NonNegative
    saving_same_horizon: float
    saving_equal_compute: float | None
    extrapolated: bool = False
    measured: bool = True

    def check(self) -> None:
        for name in NEEDED:
            if name not in self.controls:
                rule = f"lack {name!r}, without which there is no verdict"
                raise InputError("controls", list(self.controls), rule, f"give {', '.join(NEEDED)}")

    def gap(self, name: str) -> float:
        """(progressive - control)/control: negative where growing ends lower.

        Args:
            name: Of a control.
        """
        return self.progressive / self.controls[name] - 1

    @property
    def same_horizon(self) -> float:
        """Final loss of the full depth for the same number of steps."""
        return self.controls["fixed"]

    @property
    def equal_compute(self) -> float:
        """Final loss of the full depth for the same FLOPs."""
        return self.controls["equal_compute"]

    @property
    def small(self) -> float | None:
        """Final loss of the small depth alone for the same number of steps, None if it was not run."""
        return self.controls.get("small")

    @property
    def gap_same_horizon(self) -> float:
        """(progressive - same_horizon)/same_horizon, the price of the saving."""
        return self.gap("fixed")

    @property
    def gap_equal_compute(self) -> float:
        """(progressive - equal_compute)/equal_compute."""
        return self.gap("equal_compute")

    @property
    def retention(self) -> float:
        """Cold start's loss minus the progressive run's: what the small phase was worth."""
        return self.controls["cold_start"] - self.progressive

    @property
    def gain_over_small(self) -> float | None:
        """(small - progressive)/small: what growing was worth at all."""
        return 1 - self.progressive / self.small if self.small else None


def judge(runs: Mapping[str, Record]) -> Verdict:
    """Compare finished runs.

    C_iso is read off the straight line of loss against log FLOPs through the two fixed-depth runs.

    Args:
        runs: Records of ``progressive`` and of controls by their names; :data:`NEEDED` must be among them.

    Raises:
        InputError: if a run is missing or did not finish, or the runs do not control for one another.
    """
    for name in ("progressive", *NEEDED):
        if name not in runs:
            raise InputError("runs", list(runs), f"lack {name!r}", "train it too")
    progressive = runs["progressive"]
    controls = {control(name): record for name, record in runs.items() if name != "progressive"}
    plans = {each: each.plan(progressive.plan) for each in controls}
    for each, record in controls.items():
        _check_depth(each, plans[each], record)
    for each, record in controls.items():
        _check_alike(each, plans[each], record, progressive)
    spent = plan_flops(progressive.plan)
    for each, record in controls.items():
        _check_compute(each, record, spent)
    full, equal = plan_flops(runs["fixed"].plan), plan_flops(runs["equal_compute"].plan)
    p, f, e = progressive.final(), runs["fixed"].final(), runs["equal_compute"].final()
    iso = None
    if e > f:
        iso = math.exp(math.log(equal) + (e - p) / (e - f) * math.log(full / equal))
    return Verdict(
        progressive=p,
        controls={each.name: record.final() for each, record in controls.items()},
        flops=spent,
        saving_same_horizon=1 - spent / full,
        saving_equal_compute=1 - spent / iso if iso else None,
        extrapolated=bool(iso and not equal <= iso <= full),
    )


def _check_depth(each: Control, plan: Plan, record: Record) -> None:
    """Refuse a run of other depths than ``plan``, the control's."""
    if record.plan.tau is not None or record.plan.depth != plan.depth:
        rule = f"must be a fixed run of depth {plan.depth}"
        raise InputError(each.name, [stage.depth for stage in record.plan.stages], rule, "give the control's record")


def _check_alike(each: Control, plan: Plan, record: Record, progressive: Record) -> None:
    """Refuse a control that differs from the progressive run in more than it is there to differ in."""
    for what in ("model", "batch_tokens", "optimizer"):
        if getattr(record.plan, what) != getattr(plan, what):
            rule, fix = "is not the progressive run's", "give a run that controls for it"
            raise InputError(f"{each.name}: {what}", getattr(record.plan, what), rule, fix)
    schedule = plan.schedule
    if each.at_equal_compute:  # a run that costs about as much has about as many steps
        schedule = progressive.plan.schedule.with_steps(record.plan.steps)
    if record.plan.schedule != schedule:
        rule, fix = "is not the schedule of this control", f"make its plan with theory.{each.make.__name__}"
        raise InputError(f"{each.name}: schedule", record.plan.schedule, rule, fix)
    if record.header.data_digest != progressive.header.data_digest:
        rule = "is not the data of the progressive run"
        raise InputError(f"{each.name}: data", record.header.data_digest, rule, "train both on the same shards")


def _check_compute(each: Control, record: Record, spent: float) -> None:
    """Refuse a control of equal compute that costs something else than ``spent`` FLOPs."""
    flops = plan_flops(record.plan)
    if each.at_equal_compute and abs(flops / spent - 1) > COMPUTE_TOLERANCE:
        rule = f"must cost what the progressive run costs, {spent:.4g} FLOPs"
        fix = f"make its plan with latebloom.theory.{each.make.__name__}"
        raise InputError(each.name, f"{flops:.4g} FLOPs", rule, fix)


def from_prediction(p: Prediction) -> Verdict:
    """The verdict that a landscape predicts.

    Args:
        p: Complete: made with a law.
    """
    assert p.final_loss is not None and p.fixed_final_loss is not None and p.equal_compute_final_loss is not None
    assert p.flops is not None and p.saving_same_horizon is not None and p.retention is not None
    controls = {
        "fixed": p.fixed_final_loss,
        "equal_compute": p.equal_compute_final_loss,
        "cold_start": p.final_loss + p.retention,
    }
    if p.small_final_loss is not None:
        controls["small"] = p.small_final_loss
    return Verdict(
        progressive=p.final_loss,
        controls=controls | (p.control_losses or {}),
        flops=p.flops,
        saving_same_horizon=p.saving_same_horizon,
        saving_equal_compute=p.saving_equal_compute,
        measured=False,
    )


def sentence(v: Verdict) -> str:
    """The verdict in one sentence; 'grow' only where both leaving it out and the full depth alone end higher.

    Args:
        v: Measured or predicted.
    """
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
    for name in v.controls:
        if name not in IN_WORDS:
            side = "above" if v.gap(name) >= 0 else "below"
            text += f"; it ends {abs(v.gap(name)):.2%} {side} {control(name).label}"
    return text + "."
