r"""The menu: every way to spend a budget, what each is expected to end at, and which to take.

A budget C buys any one of

    d      one depth d from the start, T_d = C/c_d steps
    l -> L grown at the share x of its own T = C/(c_L (n x + 1 - x)) steps,   n = c_l/c_L

each with its own schedule of one shape, its warm-up kept in steps, and each capped by the steps that the data allow.
The one to take has the least expected loss under the posterior of
:class:`~latebloom.theory.fitting.recovery_field.RecoveryField`; how sure that is, is said as a probability:

    Grow          P(an arm that grows is the best) > 0.9
    Do not grow   < 0.1
    Not decided   between: with the pilot that would decide, its price, and the probability that it will

A pilot is worth the fall in expected regret that it buys, min_a E(loss_a) - E_y[min_a E(loss_a | y)] with y what it
would show. Of a Gaussian posterior only the mean depends on y, so that this is known before the pilot is run (Raiffa &
Schlaifer 1961, Applied Statistical Decision Theory, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError
from latebloom.theory.prediction import Head, Quantiles

if TYPE_CHECKING:
    from latebloom.theory.fitting.recovery_field import Points, RecoveryField
    from latebloom.theory.plan import Plan
    from latebloom.theory.schedules import AnySchedule

__all__ = [
    "Choice",
    "Decision",
    "Gap",
    "MenuArm",
    "Pilot",
    "PilotValue",
    "branch_schedule",
    "candidate_pilots",
    "decide",
    "equal_compute_menu",
    "explain",
    "growth_controls",
    "pilot_value",
    "points_of",
    "schedule_for",
    "sentences",
]

SURE = 0.9  # probability from which on the decision has a head of its own
LEVEL = 0.9  # of every interval
DRAWS = 200  # joint posterior draws that a decision keeps
WORK_DRAWS = 4000  # joint posterior draws from which probabilities are taken
OUTCOMES = 200  # results of a pilot that are played through
SHARES = (
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
)  # later ones leave less area than any pilot shows: never growing


@dataclass(frozen=True, kw_only=True)
class MenuArm:
    """One way to spend the budget.

    Attributes:
        depths: One depth, or the small and the full one.
        tau: Expansion step, None for a run of one depth.
        steps: Horizon.
        flops: Training FLOPs.
        area_before: Learning-rate area at ``depths[0]`` that an expansion finds; all of it for the small depth.
        area_after: Learning-rate area that is left.
    """

    depths: tuple[int, ...]
    tau: int | None
    steps: int
    flops: float
    area_before: float
    area_after: float

    @property
    def name(self) -> str:
        """For people, such as ``depth 1`` or ``1 -> 4 at 360``."""
        if self.tau is None:
            return f"depth {self.depths[0]}"
        return f"{self.depths[0]} -> {self.depths[-1]} at {self.tau}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is expected of one arm.

    Attributes:
        arm: Which.
        loss: Of its final validation loss, expected over seeds, nats per token.
        mean: Posterior mean of it.
        p_best: Probability that no other arm ends lower.
        regret: Expected loss above the best arm's, nats per token.
    """

    arm: MenuArm
    loss: Quantiles
    mean: float
    p_best: float
    regret: float


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Growing against one control, relative to the control's loss.

    Attributes:
        against: The control.
        gap: Of (grown - control)/control as runs of the pilots' seed will show it.
        p_below: Probability that growing ends lower.
    """

    against: MenuArm
    gap: Quantiles
    p_below: float


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """A run that could be made next, as a branch of the trunks there are.

    Attributes:
        name: What to do, for people.
        area_before: As of :class:`MenuArm`.
        area_after: As of :class:`MenuArm`.
        depth: Blocks at the end.
        flops: What it adds to what the pilots have cost so far.
        steps: Horizon, 0 if only the areas are known.
        tau: Expansion step, 0 for a run of one depth.
    """

    name: str
    area_before: float
    area_after: float
    depth: int
    flops: float
    steps: int = 0
    tau: int = 0


@dataclass(frozen=True, kw_only=True)
class PilotValue:
    """What a pilot would be worth.

    Attributes:
        pilot: Which.
        regret_fall: Expected fall in the expected regret of the choice, nats per token.
        p_decides: Probability that P(growing is best) leaves [0.1, 0.9].
    """

    pilot: Pilot
    regret_fall: float
    p_decides: float

    @property
    def per_flop(self) -> float:
        """Expected fall in regret for each FLOP."""
        return self.regret_fall / self.pilot.flops


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The choice from a menu.

    Attributes:
        head: ``grow``, ``do not grow`` or ``not decided``.
        p_grow: Probability that an arm that grows is the best of the menu.
        choices: Every arm, in the order of the menu.
        best: Index of the arm of least expected loss.
        growth: Index of the growing arm of least expected loss; None if no arm grows.
        fixed: That growing arm against the full depth for as many steps; None if no arm grows.
        equal_compute: Against the full depth of equal compute.
        never: Against the small depth of equal compute.
        best_fixed: Against the fixed depth of the menu that is expected to end lowest: the control that decides.
        tau_share: Of the best expansion step's share of its run, over the posterior; None if no arm grows.
        draws: Joint draws of every arm's expected loss, (200, arms).
        controls: Joint draws of (s(T), f(T)) at the growing arm's horizon, from the same posterior, (200, 2).
        next_pilots: Candidates by fall in regret per FLOP, best first.
    """

    head: Head
    p_grow: float
    choices: tuple[Choice, ...]
    best: int
    growth: int | None
    fixed: Gap | None
    equal_compute: Gap | None
    never: Gap | None
    best_fixed: Gap | None
    tau_share: Quantiles | None
    draws: np.ndarray
    controls: np.ndarray
    next_pilots: tuple[PilotValue, ...]


# --- what can be done -------------------------------------------------------------------------------------------------


def schedule_for(schedule: AnySchedule, steps: int) -> AnySchedule:
    """``schedule`` over ``steps``: the same shape and peak, the warm-up kept in steps, the decay in its share.

    Args:
        schedule: Of a run of any horizon.
        steps: Horizon, more than the warm-up.

    Raises:
        InputError: if it does not hold the warm-up.
    """
    warmup = getattr(schedule, "warmup_steps", 0)
    if steps <= warmup:
        raise InputError("steps", steps, f"does not hold the warm-up of {warmup} steps", "train longer")
    scaled = schedule.with_steps(steps)
    if not warmup:
        return scaled
    decay = getattr(scaled, "decay_steps", None)
    if decay is None:
        return scaled.replace(warmup_steps=warmup)
    return scaled.replace(warmup_steps=warmup, decay_steps=min(decay, steps - warmup))


def branch_schedule(schedule: AnySchedule, steps: int, tau: int) -> AnySchedule:
    """:func:`schedule_for` with a decay that begins with the expansion at the earliest, so that the trunk is at the
    constant rate until then.

    Args:
        schedule: Of a run of any horizon.
        steps: Horizon of the branch.
        tau: Expansion step, 0 for none.

    Raises:
        InputError: if ``tau`` is not a step of the branch.
    """
    checks.whole("tau", tau, 0, steps)
    rates = schedule_for(schedule, steps)
    decay = getattr(rates, "decay_steps", None)
    return rates if decay is None else rates.replace(decay_steps=min(decay, steps - tau))


def equal_compute_menu(
    plan: Plan,
    *,
    small_depth: int,
    full_depth: int,
    budget: float,
    depths: Sequence[int] = (),
    shares: Sequence[float] = SHARES,
    most_steps: int | None = None,
) -> tuple[MenuArm, ...]:
    """Every arm that ``budget`` buys.

    Args:
        plan: Of any run of the experiment: its model, batch and schedule are those of every arm.
        small_depth: l.
        full_depth: L.
        budget: C, training FLOPs.
        depths: Fixed depths between that would be trained as well.
        shares: x at which growing is considered.
        most_steps: Steps that the data allow.

    Returns:
        Fixed depths in ascending order, then the growing arms.

    Raises:
        InputError: if the budget does not buy the cheapest arm's warm-up and one step.
    """
    checks.whole("full_depth", full_depth, small_depth + 1, fix="give a larger number of blocks")
    checks.positive("budget", budget, fix="give training FLOPs")
    if most_steps is not None:
        checks.whole("most_steps", most_steps, 1)
    for depth in depths:
        if not small_depth <= depth <= full_depth:
            raise InputError("depths", depth, f"must lie from {small_depth} to {full_depth}", "leave it out")
    price = {d: float(plan.batch_tokens) * flops_per_token(plan.model, d) for d in {small_depth, full_depth, *depths}}
    shortest = getattr(plan.schedule, "warmup_steps", 0) + 2
    if budget < shortest * price[small_depth]:
        rule = (
            f"is below the cheapest arm, depth {small_depth} for {shortest} steps: {shortest * price[small_depth]:.3g}"
        )
        raise InputError("budget", budget, rule, "allow more FLOPs, or shorten the warm-up")
    arms = []
    for depth in sorted(price):
        steps = _capped(budget / price[depth], most_steps)
        if steps >= shortest:
            arms.append(_arm(plan.schedule, (depth,), None, steps, price, small_depth))
    ratio = price[small_depth] / price[full_depth]
    for share in shares:
        steps = _capped(budget / (price[full_depth] * (ratio * share + 1 - share)), most_steps)
        tau = round(share * steps)
        if steps >= shortest and 0 < tau < steps:
            arms.append(_arm(plan.schedule, (small_depth, full_depth), tau, steps, price, small_depth))
    return tuple(arms)


def _capped(steps: float, most_steps: int | None) -> int:
    return round(steps) if most_steps is None else min(round(steps), most_steps)


def _arm(
    schedule: AnySchedule, depths: tuple[int, ...], tau: int | None, steps: int, price: dict[int, float], small: int
) -> MenuArm:
    rates = schedule_for(schedule, steps)
    total = rates.total_area
    before = total if depths == (small,) else 0.0 if tau is None else float(rates.area(tau))
    flops = price[depths[-1]] * (steps - (tau or 0)) + price[depths[0]] * (tau or 0)
    return MenuArm(depths=depths, tau=tau, steps=steps, flops=flops, area_before=before, area_after=total - before)


# --- what to do -------------------------------------------------------------------------------------------------------


def decide(
    field: RecoveryField,
    menu: Sequence[MenuArm],
    plan: Plan,
    *,
    pilots: Sequence[Pilot] = (),
    seed: int = 0,
) -> Decision:
    """The arm of least expected loss, and how sure that is.

    Args:
        field: Posterior, of pilots of the same experiment as ``plan``.
        menu: Arms of equal compute, see :func:`equal_compute_menu`.
        plan: Of any run of the experiment, for the controls' schedules and prices.
        pilots: Runs that could be made next, see :func:`candidate_pilots`.
        seed: Of the draws.

    Raises:
        InputError: if no pilot was trained at the full depth, or the menu is empty.
    """
    if not menu:
        raise InputError("menu", [], "holds no arm", "allow more FLOPs")
    if not any(end.kind in ("full", "grown") for end in field.ends):
        longest = max(end.steps for end in field.ends)
        rule = f"too few annealed ends: nothing was trained at depth {field.full_depth}"
        fix = f"train depth {field.full_depth} to step {max(1, longest // 4)}, or grow the small depth's trunk"
        raise InputError("pilots", [end.name for end in field.ends], rule, fix)
    grows = np.array([arm.tau is not None for arm in menu])
    controls: list[MenuArm] = []
    growth = None
    points = points_of(field, menu)
    mean, _ = field.moments(points)
    if grows.any():
        growth = int(np.flatnonzero(grows)[np.argmin(mean[grows])])
        controls = growth_controls(menu[growth], plan)
    everything = points_of(field, [*menu, *controls])
    drawn = field.draws(everything, number=WORK_DRAWS, seed=seed)
    losses = drawn[:, : len(menu)]
    winner = losses.argmin(axis=1)
    least = losses.min(axis=1)
    choices = tuple(
        Choice(
            arm=arm,
            loss=_quantiles(losses[:, i]),
            mean=float(losses[:, i].mean()),
            p_best=float((winner == i).mean()),
            regret=float((losses[:, i] - least).mean()),
        )
        for i, arm in enumerate(menu)
    )
    p_grow = float(grows[winner].mean())
    gaps: list[Gap | None] = [None, None, None, None]
    tau_share = None
    if growth is not None:
        against = controls[:3]
        if not grows.all():
            against.append(menu[int(np.flatnonzero(~grows)[np.argmin(mean[~grows])])])
        runs = field.draws(points_of(field, [menu[growth], *against]), number=WORK_DRAWS, seed=seed, measured=True)
        relative = runs[:, :1] / runs[:, 1:] - 1
        gaps = [
            Gap(against=control, gap=_quantiles(relative[:, i]), p_below=float((relative[:, i] < 0).mean()))
            for i, control in enumerate(against)
        ]
        index = np.flatnonzero(grows)
        shares = np.array([(arm.tau or 0) / arm.steps for arm in menu if arm.tau is not None])
        tau_share = _quantiles(shares[losses[:, index].argmin(axis=1)])
    values = sorted((pilot_value(field, menu, pilot, seed=seed) for pilot in pilots), key=lambda v: -v.per_flop)
    return Decision(
        head="grow" if p_grow > SURE else "do not grow" if p_grow < 1 - SURE else "not decided",
        p_grow=p_grow,
        choices=choices,
        best=int(np.argmin([choice.mean for choice in choices])),
        growth=growth,
        fixed=gaps[0],
        equal_compute=gaps[1],
        never=gaps[2],
        best_fixed=gaps[3] if len(gaps) > 3 else None,
        tau_share=tau_share,
        draws=losses[:DRAWS],
        controls=drawn[:DRAWS, len(menu) :][:, [3, 0]] if controls else np.empty((DRAWS, 0)),
        next_pilots=tuple(values),
    )


def growth_controls(grown: MenuArm, plan: Plan) -> list[MenuArm]:
    """Full depth for as many steps; full depth, then small depth, of equal compute; small depth for as many steps.

    Args:
        grown: An arm that grows.
        plan: Of any run of the experiment, for schedules and prices.
    """
    small, full = grown.depths[0], grown.depths[-1]
    price = {d: float(plan.batch_tokens) * flops_per_token(plan.model, d) for d in (small, full)}
    runs = (
        (full, grown.steps),
        (full, round(grown.flops / price[full])),
        (small, round(grown.flops / price[small])),
        (small, grown.steps),
    )
    return [_arm(plan.schedule, (depth,), None, steps, price, small) for depth, steps in runs]


def points_of(field: RecoveryField, arms: Sequence[MenuArm]) -> Points:
    """Where the field is asked for the losses of ``arms``.

    Args:
        field: Posterior.
        arms: Any.
    """
    return field.points([a.area_before for a in arms], [a.area_after for a in arms], [a.depths[-1] for a in arms])


def _quantiles(values: np.ndarray) -> Quantiles:
    low, median, high = np.quantile(values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return Quantiles(low=float(low), median=float(median), high=float(high))


# --- what to find out next --------------------------------------------------------------------------------------------


def candidate_pilots(
    field: RecoveryField, plan: Plan, *, horizon: int, depths: Sequence[int] = ()
) -> tuple[Pilot, ...]:
    """Branches of the trunks there are, priced by what they would add.

    The full depth (and each of ``depths``) annealed at an eighth, a quarter and a half of the horizon; the small
    depth's trunk grown at a quarter, a half and three quarters of it and annealed .06 and .12 of it later; the small
    depth annealed at a half of it and at all of it. What was run already is left out.

    Args:
        field: Posterior so far.
        plan: Of any run of the experiment.
        horizon: T, steps of the run to be planned.
        depths: Fixed depths between that stand on the menu.
    """
    checks.whole("horizon", horizon, 1)
    tokens = float(plan.batch_tokens)
    small, full = field.small_depth, field.full_depth
    price = {d: tokens * flops_per_token(plan.model, d) for d in {small, full, *depths}}
    decay = getattr(plan.schedule, "decay_steps", 0) / plan.steps
    reached = dict.fromkeys(price, 0.0)  # step to which the trunk of each depth is known at the constant rate
    for end in field.ends:
        begins = small if end.kind == "grown" else end.depth
        stable = end.tau if end.kind == "grown" else end.steps * (1 - decay)
        reached[begins] = max(reached.get(begins, 0.0), stable)
    done = {(end.depth, end.steps, end.tau) for end in field.ends}
    pilots = []
    for depth in sorted(price):
        eighths = (4, 8) if depth == small else (1, 2, 4)
        for eighth in eighths:
            steps = max(round(horizon * eighth / 8), getattr(plan.schedule, "warmup_steps", 0) + 2)
            if (depth, steps, 0) in done:
                continue
            rates = schedule_for(plan.schedule, steps)
            before = rates.total_area if depth == small else 0.0
            flops = price[depth] * max(steps - reached[depth], decay * steps, 1)
            name = f"depth {depth} to step {steps}, annealed"
            pilots.append(_pilot(name, before, rates.total_area, depth, flops, steps))
    for share in (0.25, 0.5, 0.75):
        for later in (0.06, 0.12):
            tau = round(horizon * share)
            steps = tau + max(1, round(horizon * later))
            if (full, steps, tau) in done:
                continue
            rates = branch_schedule(plan.schedule, steps, tau)
            before = float(rates.area(tau))
            flops = price[full] * (steps - tau) + price[small] * max(0.0, tau - reached[small])
            name = f"grow {small} -> {full} at step {tau}, annealed at {steps}"
            pilots.append(_pilot(name, before, rates.total_area, full, flops, steps, tau))
    return tuple(pilots)


def _pilot(name: str, before: float, area: float, depth: int, flops: float, steps: int, tau: int = 0) -> Pilot:
    return Pilot(
        name=name, area_before=before, area_after=area - before, depth=depth, flops=flops, steps=steps, tau=tau
    )


def pilot_value(field: RecoveryField, menu: Sequence[MenuArm], pilot: Pilot, *, seed: int = 0) -> PilotValue:
    """Expected fall in regret, and probability of a decision, from one more annealed end.

    The mixture is taken as the Gaussian of its mean and covariance: given the pilot's loss y the arms' expected losses
    have mean m + k (y - E y) with k = Cov(losses, y)/Var y, and their covariance falls by k Var(y) k', whatever y.

    Args:
        field: Posterior so far.
        menu: Arms of equal compute.
        pilot: The run that would be made, with an error of its own.
        seed: Of the draws.
    """
    arms = points_of(field, menu)
    at = field.points([pilot.area_before], [pilot.area_after], [pilot.depth])
    trunk = field.trunks_of(at)
    points = type(arms)(
        before=np.append(arms.before, at.before),
        after=np.append(arms.after, at.after),
        share=np.append(arms.share, at.share),
    )
    mean, covariance = field.moments(points, trunks=[""] * len(menu) + trunk)
    losses, variance = mean[:-1], covariance[-1, -1]
    shift = covariance[:-1, -1] / np.sqrt(variance)  # of the arms' means for y one standard deviation up
    generator = np.random.default_rng(seed)
    outcomes = generator.normal(size=OUTCOMES)
    outcomes = np.concatenate([outcomes, -outcomes])  # antithetic: the mean outcome is exactly the expected one
    updated = losses + outcomes[:, None] * shift
    fall = float(losses.min() - updated.min(axis=1).mean())
    values, vectors = np.linalg.eigh(covariance[:-1, :-1] - np.outer(shift, shift))
    residual = generator.normal(size=(OUTCOMES, len(menu))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    grows = np.array([arm.tau is not None for arm in menu])
    p_grow = grows[(updated[:, None, :] + residual[None]).argmin(axis=2)].mean(axis=1)
    decided = (p_grow > SURE) | (p_grow < 1 - SURE)
    return PilotValue(pilot=pilot, regret_fall=max(fall, 0.0), p_decides=float(decided.mean()))


# --- in words ---------------------------------------------------------------------------------------------------------


def explain(decision: Decision) -> str:
    """The decision and its reasons in plain English.

    Args:
        decision: From any menu.
    """
    return " ".join(sentences(decision))


def sentences(decision: Decision) -> list[str]:
    """:func:`explain` sentence by sentence; the first names the best arm and says how sure that is.

    Args:
        decision: From any menu.
    """
    best = decision.choices[decision.best]
    said = [_headline(decision, best)]
    if decision.growth is not None and decision.fixed and decision.equal_compute and decision.never:
        arm = decision.choices[decision.growth].arm
        said.append(
            f"Growing {arm.depths[0]} -> {arm.depths[-1]} at {arm.tau} of {arm.steps} steps ends "
            f"{_against(decision.never)} depth {arm.depths[0]} of equal compute, "
            f"{_against(decision.equal_compute)} depth {arm.depths[-1]} of equal compute, and "
            f"{_against(decision.fixed)} depth {arm.depths[-1]} for as many steps."
        )
    if decision.tau_share and decision.tau_share.high - decision.tau_share.low > 0.5:
        grown = [c for c in decision.choices if c.arm.tau is not None]
        spread = (max(grown[0].mean, grown[-1].mean) / min(c.mean for c in grown) - 1) * 100
        said.append(
            f"When to grow matters little: the best step is anywhere from {decision.tau_share.low:.0%} to "
            f"{decision.tau_share.high:.0%} of the run, and the worse of the two ends costs {spread:.2g} %."
        )
    if decision.head == "not decided" and decision.next_pilots:
        value = max(decision.next_pilots, key=lambda v: v.p_decides)
        said.append(
            f"Not decided whether to grow (probability {decision.p_grow:.2g}): {value.pilot.name} "
            f"({value.pilot.flops:.3g} FLOPs) would decide with probability {value.p_decides:.2g}."
        )
    return said


def _headline(decision: Decision, best: Choice) -> str:
    arm = best.arm
    what = f"train depth {arm.depths[0]} for {arm.steps} steps"
    if arm.tau is not None:
        what = f"train depth {arm.depths[0]} for {arm.tau} steps, then depth {arm.depths[-1]} to step {arm.steps}"
    probability = f"best use with probability {best.p_best:.2g}, growing is with {decision.p_grow:.2g}"
    if decision.head == "not decided":
        return f"At {arm.flops:.3g} FLOPs the least loss is expected of this: {what}; {probability}."
    tail = " and do not grow" if decision.head == "do not grow" else ""
    return f"At {arm.flops:.3g} FLOPs: {what}{tail} ({probability}; expected regret {best.regret:.2g} nats)."


def _against(gap: Gap) -> str:
    """Median and interval in the direction of the median, so that a negative end is on the other side."""
    above = gap.gap.median >= 0
    low, high = (gap.gap.low, gap.gap.high) if above else (-gap.gap.high, -gap.gap.low)
    return f"{abs(gap.gap.median):.1%} [{low:.1%}, {high:.1%}] {'above' if above else 'below'}"
