r"""The decision: which arm of the menu to take, and how sure that is.

The one to take has the least expected loss under the posterior of
:class:`~latebloom.theory.fitting.recovery_field.RecoveryField`; how sure that is, is said as a probability:

    Grow          P(an arm that grows is the best) > 0.9
    Do not grow   < 0.1
    Not decided   between: with the pilot that would decide, its price, and the probability that it will; and
                  wherever pilots are too short to say anything, see :mod:`latebloom.theory.pilot_reach`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.menu import MenuArm, draws_of_arms, expected_of_arms, growth_controls
from latebloom.theory.pilot_reach import short_pilots_text
from latebloom.theory.pilot_value import SURE, UNLIKELY, Pilot, PilotValue, pilot_value
from latebloom.theory.prediction import Head, Quantiles
from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan

__all__ = ["DRAWS", "Choice", "Decision", "Gap", "decide", "explain", "sentences"]

LEVEL = 0.9  # of every interval
DRAWS = 200  # joint posterior draws that a decision keeps
WORK_DRAWS = 4000  # joint posterior draws from which probabilities are taken


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is expected of one arm.

    Attributes:
        arm: Which.
        loss: Of its final validation loss, expected over seeds, nats per token.
        mean: The one whose logarithm is the posterior mean of its logarithm.
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
        too_short: What pilots that do not reach far enough leave open, and the one that mends it; None if they do.
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
    too_short: str | None = None


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
        rule = f"too few annealed ends: no run has {blocks_text(field.full_depth)}"
        fix = f"train {blocks_text(field.full_depth)} to step {max(1, longest // 4)}, or grow the small depth's trunk"
        raise InputError("pilots", [end.name for end in field.ends], rule, fix)
    grows = np.array([arm.tau is not None for arm in menu])
    controls: list[MenuArm] = []
    growth = None
    mean = expected_of_arms(field, menu)
    if grows.any():
        growth = int(np.flatnonzero(grows)[np.argmin(mean[grows])])
        controls = growth_controls(menu[growth], plan)
    drawn = draws_of_arms(field, [*menu, *controls], number=WORK_DRAWS, seed=seed)
    losses = drawn[:, : len(menu)]
    winner = losses.argmin(axis=1)
    least = losses.min(axis=1)
    choices = tuple(
        Choice(
            arm=arm,
            loss=_quantiles(losses[:, i]),
            mean=float(mean[i]),
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
        runs = draws_of_arms(field, [menu[growth], *against], number=WORK_DRAWS, seed=seed, measured=True)
        relative = runs[:, :1] / runs[:, 1:] - 1
        gaps = [
            Gap(against=control, gap=_quantiles(relative[:, i]), p_below=float((relative[:, i] < 0).mean()))
            for i, control in enumerate(against)
        ]
        index = np.flatnonzero(grows)
        shares = np.array([(arm.tau or 0) / arm.steps for arm in menu if arm.tau is not None])
        tau_share = _quantiles(shares[losses[:, index].argmin(axis=1)])
    values = sorted((pilot_value(field, menu, pilot, seed=seed) for pilot in pilots), key=lambda v: -v.per_flop)
    too_short = short_pilots_text(field.ends, menu)
    sure: Head = "grow" if p_grow > SURE else "do not grow" if p_grow < 1 - SURE else "not decided"
    return Decision(
        head=sure if too_short is None else "not decided",
        p_grow=p_grow,
        choices=choices,
        best=int(np.argmin(mean)),
        growth=growth,
        fixed=gaps[0],
        equal_compute=gaps[1],
        never=gaps[2],
        best_fixed=gaps[3] if len(gaps) > 3 else None,
        tau_share=tau_share,
        draws=losses[:DRAWS],
        controls=drawn[:DRAWS, len(menu) :][:, [3, 0]] if controls else np.empty((DRAWS, 0)),
        next_pilots=tuple(values),
        too_short=too_short,
    )


def _quantiles(values: np.ndarray) -> Quantiles:
    low, median, high = np.quantile(values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return Quantiles(low=float(low), median=float(median), high=float(high))


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
    if decision.too_short is not None:
        said.append(decision.too_short)
    if decision.growth is not None and decision.fixed and decision.equal_compute and decision.never:
        arm = decision.choices[decision.growth].arm
        said.append(
            f"Growing {arm.name} of {arm.steps} steps ends "
            f"{_against(decision.never)} {blocks_text(arm.depths[0])} of equal compute, "
            f"{_against(decision.equal_compute)} {blocks_text(arm.depths[-1])} of equal compute, and "
            f"{_against(decision.fixed)} {blocks_text(arm.depths[-1])} for as many steps."
        )
    if decision.tau_share and decision.tau_share.high - decision.tau_share.low > 0.5:
        grown = [c for c in decision.choices if c.arm.tau is not None]
        spread = (max(grown[0].mean, grown[-1].mean) / min(c.mean for c in grown) - 1) * 100
        said.append(
            f"When to grow matters little: the best step is anywhere from {decision.tau_share.low:.0%} to "
            f"{decision.tau_share.high:.0%} of the run, and the worse of the two ends costs {spread:.2g} %."
        )
    if decision.head == "not decided" and decision.too_short is None and decision.next_pilots:
        value = max(decision.next_pilots, key=lambda v: v.p_decides)
        pilot = (
            f"{value.pilot.name} ({amount_text(value.pilot.flops)} FLOPs) would decide with probability "
            f"{value.p_decides:.2g}"
            if value.p_decides >= UNLIKELY
            else "no single pilot that was looked at is likely to decide it"
        )
        said.append(f"Not decided whether to grow (probability {_probability(decision.p_grow)}): {pilot}.")
    return said


def _headline(decision: Decision, best: Choice) -> str:
    arm = best.arm
    what = f"train {blocks_text(arm.depths[0])} for {arm.steps} steps"
    if arm.tau is not None:
        what = f"train {blocks_text(arm.depths[0])} for {arm.tau} of {arm.steps} steps, then grow to {arm.depths[1]}"
    if arm.second_tau is not None:
        what += f" and at step {arm.second_tau} to {arm.depths[-1]}"
    told = "Not decided; the least loss is expected if you"
    if decision.head == ("do not grow" if arm.tau is None else "grow"):
        told = f"{decision.head.capitalize()}:"
    return (
        f"{told} {what}. At this compute ({amount_text(arm.flops)} FLOPs) it is best with probability "
        f"{_probability(best.p_best)}, growing with {_probability(decision.p_grow)}; "
        f"expected regret {best.regret:.2g} nats."
    )


def _probability(p: float) -> str:
    """Two digits; from 2000 draws neither certainty nor the impossible is known."""
    return "above 0.99" if p > 0.99 else "below 0.01" if p < 0.01 else f"{p:.2g}"


def _against(gap: Gap) -> str:
    """Median and interval in the direction of the median, so that a negative end is on the other side."""
    above = gap.gap.median >= 0
    low, high = (gap.gap.low, gap.gap.high) if above else (-gap.gap.high, -gap.gap.low)
    return f"{abs(gap.gap.median):.1%} [{low:.1%}, {high:.1%}] {'above' if above else 'below'}"
