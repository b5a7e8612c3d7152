"""The honest verdict: which way to spend a budget ends lowest, growing or not, and how sure that is.

A progressive run is compared with its controls (:mod:`latebloom.theory.controls`). Those of equal compute decide: every
fixed depth with its own horizon and its own schedule, the small one, which is never grown, and the full one among them.
Growing is worth it only if it ends below all of them. Beside them stand, because they answer other questions,

    same horizon   the full depth for the same number of steps (the paper's comparison)
    cold start     the full depth from scratch for just the steps after tau, with the same tail of the schedule
    never grown    the small depth for the same number of steps

and what decides is said with the difference below which two runs cannot be told apart, and with what the pilots cost.
Of one seed that difference comes from the noise that a landscape was fitted with. Of n seeds it comes from differences
that are taken seed by seed, where initialisation and order of data are common: with d their mean and s their standard
deviation, the sign of d is right with probability .9 where |d| > t s/sqrt(n), t the .9 quantile of Student's
distribution of n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.controls import Control, control
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.menu import schedule_for
from latebloom.theory.plan import Plan, Prediction, Provenance
from latebloom.theory.record import Record
from latebloom.theory.schedules import Schedule
from latebloom.theory.spec import Count, NonNegative, Spec
from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "WANTED",
    "TrainedArm",
    "Verdict",
    "from_prediction",
    "judge",
    "resolution",
    "resolution_of_seeds",
    "same_run",
]

COMPUTE_TOLERANCE = 0.02  # relative: a control of equal compute may cost this much more or less
FULL, NEVER = "equal_compute", "small_equal_compute"  # the controls without which the verdict cannot be "grow"
WANTED = (FULL, NEVER, "fixed", "cold_start")  # controls whose absence is said
SURE = 1.2816  # standard deviations from which on the sign of a normal difference is right with probability .9


class TrainedArm(Spec, frozen=True, kw_only=True):
    """One way of training, and what it ends at.

    Attributes:
        depths: One depth, or those that the run grows through.
        tau: Step of the last expansion, None for a run of one depth.
        steps: Horizon.
        flops: Training FLOPs.
        loss: Final validation loss, nats per token; the mean over seeds, where there are several.
        losses: The same by seed; empty where no run is known.
    """

    depths: Annotated[tuple[int, ...], Meta(min_length=1)]
    tau: Count | None = None
    steps: Count
    flops: NonNegative
    loss: float
    losses: dict[int, float] = {}

    @property
    def label(self) -> str:
        """For people, such as ``1 block``, ``4 blocks`` or ``1 -> 4``."""
        if len(self.depths) > 1:
            return " -> ".join(map(str, self.depths))
        return blocks_text(self.depths[0])


class Verdict(Spec, frozen=True, kw_only=True):
    """A progressive run against its controls. Losses in nats per token.

    Attributes:
        arms: ``progressive``, the run that grows, and controls by their names in
            :data:`latebloom.theory.controls.CONTROLS`.
        saving_equal_compute: 1 - C/C_iso with C_iso the FLOPs at which the full depth alone reaches the progressive
            run's loss; negative if growing costs more than it saves.
        extrapolated: C_iso lies outside the two fixed-depth runs, on the line through them.
        resolution: Difference of two final losses above which its sign is right with probability .9; None: not known.
            Of several seeds that of the run that grows and the best other way to spend its compute.
        pilot_flops: What the pilots cost beside the runs, None if there were none.
        measured: From runs, not from a landscape.
    """

    arms: dict[str, TrainedArm]
    saving_equal_compute: float | None = None
    extrapolated: bool = False
    resolution: NonNegative | None = None
    pilot_flops: NonNegative | None = None
    measured: bool = True

    def check(self) -> None:
        _check_comparable("arms", self.arms)

    def gap(self, name: str) -> float:
        """(progressive - control)/control: negative where growing ends lower. Over the seeds that both were run on.

        Args:
            name: Of a control.
        """
        grown, other = self._of_common_seeds(name)
        return float(np.mean(grown)) / float(np.mean(other)) - 1

    def difference(self, name: str) -> float:
        """Progressive - control in nats per token, the mean over the seeds that both were run on.

        Args:
            name: Of a control.
        """
        grown, other = self._of_common_seeds(name)
        return float(np.mean(grown - other))

    def standard_error(self, name: str) -> float | None:
        """Of :meth:`difference` over seeds, nats per token; None where both were run on fewer than two.

        Args:
            name: Of a control.
        """
        grown, other = self._of_common_seeds(name)
        return float((grown - other).std(ddof=1)) / math.sqrt(len(grown)) if len(grown) > 1 else None

    def _of_common_seeds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Losses of the run that grows and of a control, seed by seed; one each where seeds are not known."""
        arms = self.arms["progressive"], self.arms[name]
        seeds = [seed for seed in arms[0].losses if seed in arms[1].losses]
        grown, other = ([arm.losses[seed] for seed in seeds] or [arm.loss] for arm in arms)
        return np.array(grown), np.array(other)

    def seeds_beside(self, name: str) -> int:
        """Number of seeds that the run that grows and a control were both run on, at least 1.

        Args:
            name: Of the control.
        """
        return len(self._of_common_seeds(name)[0])

    def resolution_beside(self, name: str) -> float | None:
        """Difference to a control above which its sign is right with probability .9, nats per token; None: not known.

        Args:
            name: Of the control.
        """
        error = self.standard_error(name)
        return self.resolution if error is None else resolution_of_seeds(error, self.seeds_beside(name))

    @property
    def seeds(self) -> int:
        """Number of seeds that the run that grows was trained on."""
        return max(1, len(self.arms["progressive"].losses))

    @property
    def progressive(self) -> float:
        """Final loss of the run that grows."""
        return self.arms["progressive"].loss

    @property
    def controls(self) -> dict[str, float]:
        """Final losses of the controls by name."""
        return {name: arm.loss for name, arm in self.arms.items() if name != "progressive"}

    @property
    def flops(self) -> float:
        """What the run that grows costs."""
        return self.arms["progressive"].flops

    @property
    def menu(self) -> dict[str, TrainedArm]:
        """The ways to spend what the progressive run costs, it among them, lowest loss first."""
        names = [name for name in self.arms if name == "progressive" or control(name).at_equal_compute]
        return {name: self.arms[name] for name in sorted(names, key=lambda name: self.arms[name].loss)}

    @property
    def best(self) -> str:
        """Name of the lowest of them."""
        return next(iter(self.menu))

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the controls that were not run, those that decide first."""
        return tuple(name for name in WANTED if name not in self.arms)

    @property
    def head(self) -> Literal["grow", "do not grow", "not decided"]:
        """``grow`` only if the progressive run ends below every other way to spend its compute, and by enough.

        Without the small and the full depth at equal compute, nothing says that growing was worth anything.
        """
        if self.best == "progressive" and not {FULL, NEVER} <= set(self.arms):
            return "not decided"
        if self.best == "progressive":
            others = [name for name in self.menu if name != "progressive"]
            below = all(-self.difference(name) > (self.resolution_beside(name) or 0.0) for name in others)
            return "grow" if below else "not decided"
        above = self.difference(self.best) > (self.resolution_beside(self.best) or 0.0)
        return "do not grow" if above else "not decided"

    @property
    def rival(self) -> str | None:
        """Name of the lowest way to spend the compute beside growing; None if no such run is there."""
        return next((name for name in self.menu if name != "progressive"), None)

    @property
    def saving_same_horizon(self) -> float | None:
        """Share of the same-horizon run's FLOPs that growing saved, 1 - C/C_fixed; None if it was not run."""
        return 1 - self.flops / self.arms["fixed"].flops if "fixed" in self.arms else None

    @property
    def equal_compute(self) -> float | None:
        """Final loss of the full depth for the same FLOPs, None if it was not run."""
        return self.controls.get(FULL)

    @property
    def small(self) -> float | None:
        """Final loss of the small depth alone for the same number of steps, None if it was not run."""
        return self.controls.get("small")

    @property
    def gap_same_horizon(self) -> float | None:
        """(progressive - fixed)/fixed: what the saving costs, beside as many steps; None if they were not run."""
        return self.gap("fixed") if "fixed" in self.arms else None

    @property
    def gap_equal_compute(self) -> float | None:
        """(progressive - equal_compute)/equal_compute, None if it was not run."""
        return self.gap(FULL) if FULL in self.arms else None

    @property
    def retention(self) -> float | None:
        """Cold start's loss minus the progressive run's: what the small phase was worth; None if it was not run."""
        return -self.difference("cold_start") if "cold_start" in self.arms else None

    @property
    def gain_over_small(self) -> float | None:
        """(small - progressive)/small: what growing was worth at all."""
        return -self.gap("small") if "small" in self.arms else None

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the final loss of every way to spend the compute (:func:`latebloom.theory.display.plot_verdict`).

        Args:
            axes: Where to draw; a new figure by default.
        """
        from latebloom.theory import display

        return display.plot_verdict(self, axes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from latebloom.theory import display

        return display.verdict_html(self)


def resolution(noise: float) -> float:
    """Difference of two final losses above which its sign is right with probability .9, 1.28 sqrt(2) noise.

    Args:
        noise: Standard deviation of one run's final loss about the mean of its kind, nats per token.

    Raises:
        InputError: if it is negative or not finite.
    """
    checks.non_negative("noise", noise)
    return SURE * math.sqrt(2) * noise


def resolution_of_seeds(standard_error: float, seeds: int) -> float:
    """Mean difference over seeds above which its sign is right with probability .9, t_.9(n - 1) standard errors.

    Args:
        standard_error: Of the mean of the differences that are taken seed by seed, nats per token.
        seeds: n, their number, at least 2.

    Raises:
        InputError: if the error is negative or not finite, or there are fewer than two seeds.
    """
    import scipy.special

    checks.non_negative("standard_error", standard_error)
    checks.whole("seeds", seeds, 2, fix="one seed says nothing of how much seeds differ")
    return float(scipy.special.stdtrit(seeds - 1, 0.9)) * standard_error


def judge(
    runs: Mapping[str, Record],
    *,
    noise: float | None = None,
    pilot_flops: float | None = None,
    replicates: Sequence[Mapping[str, Record]] = (),
) -> Verdict:
    """Compare finished runs of one seed or of several.

    C_iso is read off the straight line of loss against log FLOPs through the two fixed-depth runs of the full depth.

    Args:
        runs: Records of ``progressive`` and of controls by their names, at least one.
        noise: Standard deviation of one run's final loss about its seed's mean, as a landscape says; nats. Several
            seeds say it themselves.
        pilot_flops: What the pilots cost beside the runs.
        replicates: The same runs, or some of them and ``progressive``, on other seeds.

    Raises:
        InputError: if a run is missing or did not finish, or the runs do not control for one another.
    """
    _check_comparable("runs", runs)
    progressive = runs["progressive"]
    controls = {control(name): record for name, record in runs.items() if name != "progressive"}
    plans = {each: each.plan(progressive.plan) for each in controls}
    for each, record in controls.items():
        _check_depth(each, plans[each], record)
    for each, record in controls.items():
        _check_alike(each, plans[each], record, progressive)
    for each, record in controls.items():
        _check_compute(each, record, plan_flops(progressive.plan))
    by_seed = _by_seed([runs, *replicates])
    arms = {
        name: _measured_arm(runs[name].plan, by_seed[name])
        for name in ("progressive", *(each.name for each in controls))
    }
    saving, extrapolated = _saving_equal_compute(arms)
    verdict = Verdict(
        arms=arms,
        saving_equal_compute=saving,
        extrapolated=extrapolated,
        resolution=None if noise is None else resolution(noise),
        pilot_flops=pilot_flops,
    )
    return verdict if verdict.rival is None else verdict.replace(resolution=verdict.resolution_beside(verdict.rival))


def same_run(a: Plan, b: Plan) -> bool:
    """Whether two plans train the same, whatever they are called and whatever was said of them.

    Args:
        a: A plan.
        b: Another.
    """
    bare = {"name": "any", "predicted": Prediction(), "provenance": Provenance()}
    return bool(a.replace(**bare) == b.replace(**bare))


def _by_seed(seeds: Sequence[Mapping[str, Record]]) -> dict[str, dict[int, float]]:
    """Final losses by arm and seed; refuses runs of other seeds that are not the first one's runs again."""
    first = seeds[0]
    losses: dict[str, dict[int, float]] = {name: {} for name in first}
    for runs in seeds:
        _check_comparable("replicates", runs)
        seed = runs["progressive"].header.seed
        for name, record in runs.items():
            what, fix = f"{name} of seed {record.header.seed}", "give the same runs, each seed once"
            if name not in first:
                raise InputError("replicates", what, "is not among the runs of the first seed", fix)
            if not same_run(record.plan, first[name].plan):
                raise InputError("replicates", what, "is of another plan than the first seed's", fix)
            if record.header.data_digest != first[name].header.data_digest:
                raise InputError("replicates", what, "saw other data than the first seed's", fix)
            if record.header.seed != seed:
                raise InputError("replicates", what, f"stands beside a run that grows of seed {seed}", fix)
            if seed in losses[name]:
                raise InputError("replicates", what, "is there twice", fix)
            losses[name][seed] = record.final()
    return losses


def _check_comparable(what: str, runs: Mapping[str, object]) -> None:
    """Refuse runs of which none grows, or that is alone."""
    if "progressive" not in runs:
        raise InputError(
            what, list(runs), "lack 'progressive', the run that grows", "add it: the verdict is on that one"
        )
    if len(runs) < 2:
        rule = f"lack every control of it, such as {', '.join(WANTED)}: there is nothing to compare it with"
        raise InputError(what, list(runs), rule, "train one of them: `latebloom controls PLAN` writes their plans")


def _arm(plan: Plan, loss: float) -> TrainedArm:
    depths = tuple(stage.depth for stage in plan.stages)
    return TrainedArm(depths=depths, tau=plan.tau, steps=plan.steps, flops=plan_flops(plan), loss=loss)


def _measured_arm(plan: Plan, losses: Mapping[int, float]) -> TrainedArm:
    return _arm(plan, math.fsum(losses.values()) / len(losses)).replace(losses=dict(losses))


def _saving_equal_compute(arms: Mapping[str, TrainedArm]) -> tuple[float | None, bool]:
    """(1 - C/C_iso, whether C_iso lies outside the two fixed-depth runs); None without them or a gain of more."""
    if "fixed" not in arms or FULL not in arms:
        return None, False
    trained = [arms[name] for name in ("progressive", "fixed", FULL)]
    seeds = set.intersection(*(set(arm.losses) for arm in trained))
    grown, fixed, equal = (np.mean([arm.losses[seed] for seed in seeds] or [arm.loss]) for arm in trained)
    if equal <= fixed:
        return None, False
    _, longer, shorter = (arm.flops for arm in trained)
    iso = math.exp(math.log(shorter) + (equal - grown) / (equal - fixed) * math.log(longer / shorter))
    return 1 - trained[0].flops / iso, not shorter <= iso <= longer


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
    schedules = [plan.schedule]
    if each.at_equal_compute:  # a run that costs about as much has about as many steps
        base, steps = progressive.plan.schedule, record.plan.steps
        schedules = [schedule_for(base, steps), base.with_steps(steps)]  # older runs kept the warm-up's share
    if not any(_equal_to_a_step(record.plan.schedule, each) for each in schedules):
        rule, fix = "is not the schedule of this control", f"make its plan with theory.{each.make.__name__}"
        raise InputError(f"{each.name}: schedule", record.plan.schedule, rule, fix)
    if record.header.data_digest != progressive.header.data_digest:
        rule = "is not the data of the progressive run"
        raise InputError(f"{each.name}: data", record.header.data_digest, rule, "train both on the same shards")


def _equal_to_a_step(a: Schedule, b: Schedule) -> bool:
    """Whether two schedules differ by rounding: at no time by more learning-rate area than one step at the peak has."""
    if a == b:
        return True
    if a.horizon != b.horizon:
        return False
    return bool(np.abs(np.cumsum(a.lrs() - b.lrs())).max() <= max(a.peak, b.peak))


def _check_compute(each: Control, record: Record, spent: float) -> None:
    """Refuse a control of equal compute that costs something else than ``spent`` FLOPs."""
    flops = plan_flops(record.plan)
    if each.at_equal_compute and abs(flops / spent - 1) > COMPUTE_TOLERANCE:
        rule = f"must cost what the progressive run costs, {amount_text(spent, digits=4)} FLOPs"
        fix = f"make its plan with latebloom.theory.{each.make.__name__}"
        raise InputError(each.name, f"{amount_text(flops, digits=4)} FLOPs", rule, fix)


def from_prediction(plan: Plan) -> Verdict:
    """The verdict that a landscape predicts.

    Args:
        plan: Progressive, its prediction complete: made with a law.
    """
    p = plan.predicted
    assert p.final_loss is not None and p.fixed_final_loss is not None and p.equal_compute_final_loss is not None
    assert p.retention is not None
    losses = {
        "fixed": p.fixed_final_loss,
        "equal_compute": p.equal_compute_final_loss,
        "cold_start": p.final_loss + p.retention,
    }
    if p.small_final_loss is not None:
        losses["small"] = p.small_final_loss
    losses |= p.control_losses or {}
    arms = {"progressive": _arm(plan, p.final_loss)}
    arms |= {name: _arm(control(name).plan(plan), loss) for name, loss in losses.items()}
    pilots = None if p.pilots is None else p.pilots.flops - p.pilots.reused
    return Verdict(arms=arms, saving_equal_compute=p.saving_equal_compute, pilot_flops=pilots, measured=False)
