"""What a plan promises, as plain data: the part of a plan file that theory fills in before the run.

Version 1 of the format had point values and two intervals. Version 2 adds what the recovery field knows: every arm of
the menu, the gaps to the controls with their probabilities, joint posterior draws, the conditions for growing, and what
the pilots cost. The point values stay: where there are draws they are medians.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from latebloom.theory.errors import InputError
from latebloom.theory.spec import Count, Fraction, NonNegative, Positive, Spec

__all__ = [
    "SECOND_VERSION",
    "Condition",
    "Curve",
    "FieldSummary",
    "GrowthConditions",
    "Head",
    "Interval",
    "JointDraws",
    "MenuRow",
    "PilotCosts",
    "PilotCurve",
    "PilotEnd",
    "PilotRun",
    "PlannedDecision",
    "PredictedGap",
    "PredictedGaps",
    "Prediction",
    "Quantiles",
]

Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Blocks = Annotated[int, Meta(ge=0, le=10_000)]
Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
Head = Literal["grow", "do not grow", "not decided"]
SECOND_VERSION = ("menu", "gaps", "decision", "draws", "conditions", "pilots", "field")  # not in plans of version 1


class Interval(Spec, frozen=True, kw_only=True):
    """A bootstrap interval.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Probability with which it holds.
    """

    low: Number
    high: Number
    level: Fraction = 0.9

    def check(self) -> None:
        if self.low > self.high:
            raise InputError("low", self.low, f"is above high = {self.high}", "swap them")


class Curve(Spec, frozen=True, kw_only=True):
    """Predicted validation loss.

    Attributes:
        step: Updates done, increasing.
        loss: Loss after them, nats per token.
    """

    step: tuple[Count, ...]
    loss: tuple[Number, ...]

    def check(self) -> None:
        if len(self.step) != len(self.loss):
            raise InputError(
                "loss", len(self.loss), f"needs one value for each of {len(self.step)} steps", "match them"
            )
        if any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise InputError("step", self.step[:5], "must increase", "sort the points")


class Quantiles(Spec, frozen=True, kw_only=True):
    """Median and 90 % interval.

    Attributes:
        low: 5 % quantile.
        median: 50 % quantile.
        high: 95 % quantile.
    """

    low: Number
    median: Number
    high: Number

    def check(self) -> None:
        if not self.low <= self.median <= self.high:
            rule = f"must lie between low = {self.low} and high = {self.high}"
            raise InputError("median", self.median, rule, "sort them")


class MenuRow(Spec, frozen=True, kw_only=True):
    """One way to spend the budget, and what is expected of it.

    Attributes:
        name: For people, such as ``1 block`` or ``1 -> 4 at 360``.
        depths: One depth, the small and the full one, or the small, one between and the full one.
        tau: Expansion step, the first; None for a run of one depth.
        steps: Horizon.
        flops: Training FLOPs.
        loss: Of the final validation loss, expected over seeds, nats per token.
        p_best: Probability that no other row ends lower.
        regret: Expected loss above the best row's, nats per token.
    """

    name: str
    depths: Annotated[tuple[Blocks, ...], Meta(min_length=1)]
    tau: Count | None = None
    steps: Count
    flops: NonNegative
    loss: Quantiles
    p_best: Fraction
    regret: NonNegative


class PredictedGap(Spec, frozen=True, kw_only=True):
    """The best growing row against one control, relative to the control's loss.

    Attributes:
        against: The control, for people, such as ``4 blocks``.
        steps: Its horizon.
        flops: Its training FLOPs.
        gap: Of (grown - control)/control as runs of the pilots' seed will show it.
        p_below: Probability that growing ends lower.
    """

    against: str
    steps: Count
    flops: NonNegative
    gap: Quantiles
    p_below: Fraction


class PredictedGaps(Spec, frozen=True, kw_only=True):
    """The best growing row against its controls.

    Attributes:
        fixed: Full depth for as many steps.
        equal_compute: Full depth of equal compute.
        never: Small depth of equal compute.
        best_fixed: The fixed depth of the menu that is expected to end lowest: the control that decides.
    """

    fixed: PredictedGap
    equal_compute: PredictedGap
    never: PredictedGap
    best_fixed: PredictedGap


class PlannedDecision(Spec, frozen=True, kw_only=True):
    """What to do, and how sure that is.

    Attributes:
        head: ``grow``, ``do not grow`` or ``not decided``.
        p_grow: Probability that a row that grows is the best of the menu.
        best: Name of the row of least expected loss.
        growth: Name of the growing row of least expected loss, None if none grows.
        next_pilot: What is most worth knowing next; None if nothing is expected to change the choice.
        next_pilot_flops: Its price, FLOPs.
        next_pilot_decides: Probability that it decides between growing and not.
    """

    head: Head
    p_grow: Fraction
    best: str
    growth: str | None = None
    next_pilot: str | None = None
    next_pilot_flops: NonNegative | None = None
    next_pilot_decides: Fraction | None = None


class JointDraws(Spec, frozen=True, kw_only=True):
    """Joint posterior draws: anyone can ask another question of the same prediction, or score it after the runs.

    Attributes:
        names: Of the runs: rows of the menu, and the controls of the best growing row: ``fixed``, ``equal_compute``,
            ``never``, ``small``, ``cold_start``, ``depth_equal_compute-D`` for depths between, and ``grown`` for that
            row itself.
        measured: Whether each name is what one run of the pilots' seed will show (with its error), or the loss expected
            over seeds.
        losses: A draw a row, a loss a name, nats per token.
    """

    names: tuple[str, ...]
    measured: tuple[bool, ...]
    losses: tuple[tuple[Number, ...], ...]

    def check(self) -> None:
        for i, row in enumerate(self.losses):
            if len(row) != len(self.names):
                rule = f"needs one loss for each of {len(self.names)} names"
                raise InputError(f"losses[{i}]", len(row), rule, "match them")
        if len(self.measured) != len(self.names):
            rule = f"needs one value for each of {len(self.names)} names"
            raise InputError("measured", len(self.measured), rule, "match them")


class Condition(Spec, frozen=True, kw_only=True):
    """Both sides at one share x of the grown run. Losses in nats per token.

    Attributes:
        share: x.
        steps: T, horizon of the run grown there.
        needed: s(T) - s(T_N), what must be recovered to beat never growing.
        recovered: z(x) as far as the pilots say; None if none was trained at the full depth.
        p_possible: Probability that delta > needed; None likewise.
        p_met: Probability that z(x) > needed; None likewise.
        needed_full: delta - [f(T_E) - f(T)], what must be recovered to beat the full depth; None likewise.
    """

    share: Fraction
    steps: Count
    needed: Quantiles
    recovered: Quantiles | None = None
    p_possible: Fraction | None = None
    p_met: Fraction | None = None
    needed_full: Quantiles | None = None


class GrowthConditions(Spec, frozen=True, kw_only=True):
    """The conditions over all shares, see :mod:`latebloom.theory.growth_conditions`.

    Attributes:
        budget: C, training FLOPs.
        beta: -ds/d ln T at the small depth's own horizon C/c_l, nats per e-fold of steps.
        price: n = c_l/c_L.
        delta: Depth gap at T of the middle share; None if no pilot was trained at the full depth.
        conditions: One for each share.
    """

    budget: Positive
    beta: Quantiles
    price: Positive
    delta: Quantiles | None = None
    conditions: tuple[Condition, ...]


class PilotRun(Spec, frozen=True, kw_only=True):
    """One pilot.

    Attributes:
        name: Of the run.
        digest: SHA-256 of its plan, '' if it has none.
        role: ``small``, ``full``, ``between`` or ``grown``.
        steps: Horizon.
        flops: Of the whole run, what it shares with others included.
    """

    name: str
    digest: Digest
    role: Literal["small", "between", "full", "grown"]
    steps: Count
    flops: NonNegative


class PilotCosts(Spec, frozen=True, kw_only=True):
    """The pilots and what they cost, every trunk counted once.

    Attributes:
        runs: The pilots.
        flops: Of all, branches of one trunk sharing it.
        reused: Of these the FLOPs that the planned run need not spend again: the small depth's trunk, if it begins so.
        share_of_fixed: (flops - reused) over the FLOPs of the full depth for the whole horizon.
        saving_net: 1 - (flops of the plan + flops - reused)/(FLOPs at which the full depth alone reaches the plan's
            loss): ``saving_equal_compute`` with the pilots paid for; None where that is not predicted.
    """

    runs: tuple[PilotRun, ...]
    flops: NonNegative
    reused: NonNegative
    share_of_fixed: Number
    saving_net: Number | None = None


class PilotEnd(Spec, frozen=True, kw_only=True):
    """What the recovery field is fitted to: the end of one pilot.

    Attributes:
        depth: Blocks at the end.
        area: Learning-rate area of the whole schedule, learning rate x steps.
        area_before: Area before the expansion: 0 for a run of one depth, all of it for the small one.
        loss: Validation loss at the end, nats per token.
        seed: Of weights and data order.
        trunk: Equal for runs that are one run until they decay or grow.
    """

    depth: Blocks
    area: Positive
    area_before: NonNegative
    loss: Number
    seed: Count
    trunk: Count


class PilotCurve(Spec, frozen=True, kw_only=True):
    """Validation losses of the small depth's trunk at its constant learning rate.

    Attributes:
        area: Learning-rate area up to each point, learning rate x steps.
        loss: Validation loss, nats per token.
        noise: Standard deviation of a point about a smooth curve, nats per token.
    """

    area: tuple[Positive, ...]
    loss: tuple[Number, ...]
    noise: NonNegative

    def check(self) -> None:
        if len(self.area) != len(self.loss):
            raise InputError(
                "loss", len(self.loss), f"needs one value for each of {len(self.area)} areas", "match them"
            )


class FieldSummary(Spec, frozen=True, kw_only=True):
    """The posterior of the recovery field in a few numbers, losses relative to ``scale``; and what it follows from.

    Attributes:
        small_depth: l.
        full_depth: L.
        reference: Learning-rate area that is called 1.
        scale: Smallest loss of the pilots, nats per token.
        amplitude: Posterior of A, size of what growing recovers.
        exponent: Posterior of b, of the small depth's power law.
        discrepancy: Posterior of the small depth's deviation from it.
        noise: Posterior of one run's standard deviation about its seed's mean.
        prior: Hyperparameters by name; those on a grid are left out.
        ends: The pilots' ends, from which the posterior follows; None in plans that were made before they were kept.
        curve: The small depth's curve, if it was used too.
    """

    small_depth: Blocks
    full_depth: Blocks
    reference: Positive
    scale: Positive
    amplitude: Quantiles
    exponent: Quantiles
    discrepancy: Quantiles
    noise: Quantiles
    prior: dict[str, Number]
    ends: tuple[PilotEnd, ...] | None = None
    curve: PilotCurve | None = None


class Prediction(Spec, frozen=True, kw_only=True):
    """What the plan promises; ``None`` where no landscape was given that could say.

    Attributes:
        mixing_area: u_mix, learning-rate area that must be left after the expansion.
        tau_star: Expansion step that leaves it.
        tau_interval: Of ``tau_star``.
        final_loss: Loss of this plan, nats per token.
        final_loss_interval: Of ``final_loss``.
        fixed_final_loss: Loss of the full depth for the same number of steps.
        equal_compute_steps: Steps of the full depth that cost what this plan costs.
        equal_compute_final_loss: Loss of that run, with its own horizon and schedule.
        small_final_loss: Loss of the small depth for the same number of steps: not growing at all.
        control_losses: Losses of further controls (:data:`latebloom.theory.controls.COMPARED`), by their names.
        retention: Loss of a cold start minus ``final_loss``: what the small phase is worth.
        flops: Training FLOPs of this plan.
        fixed_flops: Training FLOPs of the full depth for the same number of steps.
        saving_same_horizon: 1 - flops/fixed_flops.
        saving_equal_compute: 1 - flops/(FLOPs at which the full depth alone reaches ``final_loss``).
        verdict: One sentence.
        curve: Loss of this plan over its steps.
        menu: Every way to spend the same compute that was looked at.
        gaps: The best growing row of the menu against its controls.
        decision: Which row, and how sure.
        draws: Joint posterior draws of the menu and the controls.
        conditions: What must hold for growing to be worth it, both sides.
        pilots: The pilots and what they cost.
        field: The posterior of the recovery field.
    """

    mixing_area: Positive | None = None
    tau_star: Number | None = None
    tau_interval: Interval | None = None
    final_loss: Number | None = None
    final_loss_interval: Interval | None = None
    fixed_final_loss: Number | None = None
    equal_compute_steps: Number | None = None
    equal_compute_final_loss: Number | None = None
    small_final_loss: Number | None = None
    control_losses: dict[str, Number] | None = None
    retention: Number | None = None
    flops: NonNegative | None = None
    fixed_flops: NonNegative | None = None
    saving_same_horizon: Number | None = None
    saving_equal_compute: Number | None = None
    verdict: str | None = None
    curve: Curve | None = None
    menu: tuple[MenuRow, ...] | None = None
    gaps: PredictedGaps | None = None
    decision: PlannedDecision | None = None
    draws: JointDraws | None = None
    conditions: GrowthConditions | None = None
    pilots: PilotCosts | None = None
    field: FieldSummary | None = None
