"""A verdict in words: what to do, what each way to spend the compute ends at, how sure that is, what controls add."""

from __future__ import annotations

from latebloom.theory.controls import control
from latebloom.theory.verdict import FULL, NEVER, TrainedArm, Verdict
from latebloom.theory.words import amount_text, blocks_text

__all__ = ["details", "sentence"]


def sentence(v: Verdict) -> str:
    """The verdict in a few short sentences; the first names what to do.

    Args:
        v: Measured or predicted.
    """
    (lowest, loss), *others = _menu_in_digits(v)
    told = [f"{lowest.label} {_ends(v, lowest)} at {loss}", *(f"{arm.label} at {other}" for arm, other in others)]
    text = [_headline(v), f"At this compute ({amount_text(v.flops)} FLOPs) {', '.join(told)}."]
    if v.measured:
        known = v.resolution is not None
        noise = f"differences under {v.resolution:.1g} are noise" if known else "how much is noise is not known"
        text.append(f"{_seeds_text(v)}; {noise}.")
    if v.pilot_flops is not None:
        text.append(f"Pilots cost another {amount_text(v.pilot_flops)} FLOPs.")
    return " ".join(text)


def _seeds_text(v: Verdict) -> str:
    """On how many seeds, and of several by how much growing ends beside the best other way on average."""
    error = None if v.rival is None else v.standard_error(v.rival)
    if v.rival is None or error is None:
        return "One seed"
    difference = v.difference(v.rival)
    where = "below" if difference < 0 else "above"
    beside = f"{v.arms['progressive'].label} ends {abs(difference):.4f} ± {error:.4f} {where} {v.arms[v.rival].label}"
    return f"Mean of {v.seeds_beside(v.rival)} seeds: {beside}"


def _menu_in_digits(v: Verdict) -> list[tuple[TrainedArm, str]]:
    """The arms of equal compute, lowest first, and their losses in as many digits as tell them apart, at most four."""
    losses = [arm.loss for arm in v.menu.values()]
    digits = next((d for d in (2, 3) if len({round(loss, d) for loss in losses}) == len(losses)), 4)
    return [(arm, f"{arm.loss:.{digits}f}") for arm in v.menu.values()]


def _headline(v: Verdict) -> str:
    """What to do, naming the lowest arm."""
    grown, best = v.arms["progressive"], v.arms[v.best]
    of_small = best.depths == grown.depths[:1]
    train = f"train {best.label} {'longer' if of_small else f'for {best.steps} steps from the start'}"
    if v.head == "grow":
        first = blocks_text(*grown.depths[:-1])
        return f"Grow: train {first} for {grown.tau} of {grown.steps} steps, then grow to {grown.depths[-1]}."
    if v.head == "do not grow":
        return f"Do not grow: {train}."
    lacks = {NEVER: grown.depths[0], FULL: grown.depths[-1]}
    not_run = [blocks_text(depth) for name, depth in lacks.items() if name not in v.arms]
    if v.best == "progressive" and not_run:
        ends = f"{grown.label} ends lowest, but " if len(v.menu) > 1 else ""
        was = "was" if not_run == [blocks_text(1)] else "were"
        return f"Not decided: {ends}{' and '.join(not_run)} at this compute {was} not run."
    if v.best == "progressive" and v.rival is not None:
        return f"Not decided: {grown.label} ends lowest, but {v.arms[v.rival].label} as low within the noise."
    return f"Not decided: {best.label} {_ends(v, best)} lowest, but {grown.label} as low within the noise."


def details(v: Verdict) -> tuple[str, ...]:
    """What else the controls say, a sentence each: same horizon, iso-loss compute, cold start, never grown, others.

    Args:
        v: Measured or predicted.
    """
    grown, told = v.arms["progressive"], []
    if "fixed" in v.arms:
        fixed = v.arms["fixed"]
        told.append(
            f"For as many steps, {fixed.label} from the start {_ends(v, fixed)} at {fixed.loss:.3f}: growing ends "
            f"{_beside(v.gap('fixed'))} that for {v.saving_same_horizon:.1%} less compute."
        )
    if v.saving_equal_compute is not None:
        more = 1 / (1 - v.saving_equal_compute) - 1
        told.append(
            f"To reach the loss of {grown.label}, {v.arms['fixed'].label} alone need {abs(more):.0%} "
            f"{'more' if more >= 0 else 'less'} compute{' (extrapolated)' if v.extrapolated else ''}."
        )
    if "cold_start" in v.arms:
        cold = v.arms["cold_start"]
        told.append(
            f"From a cold start, {cold.label} {_ends(v, cold)} after the last {cold.steps} steps alone at "
            f"{cold.loss:.3f}: the small phase is worth {v.retention:+.3f} nats."
        )
    if "small" in v.arms:
        small = v.arms["small"]
        told.append(
            f"Never grown, {small.label} {_ends(v, small)} at {small.loss:.3f} after as many steps, "
            f"for {amount_text(small.flops)} FLOPs: growing ends {_beside(v.gap('small'))} that."
        )
    shown = {"progressive", "fixed", "cold_start", "small", *v.menu}
    for name, arm in v.arms.items():
        if name not in shown:
            label = control(name).label
            told.append(
                f"{label[0].upper()}{label[1:]}: {arm.loss:.3f} after {arm.steps} steps; growing ends "
                f"{_beside(v.gap(name))} that."
            )
    others = set(v.arms) - set(v.menu)
    if v.seeds > 1 and others and all(v.seeds_beside(name) == 1 for name in others):
        told.append(f"Runs of other compute were trained on one seed, those of this compute on {v.seeds}.")
    return tuple(told)


def _ends(v: Verdict, arm: TrainedArm) -> str:
    """The verb: measured or predicted, of one block or of several."""
    return "would end" if not v.measured else "end" if arm.label.endswith("blocks") else "ends"


def _beside(gap: float) -> str:
    return f"{abs(gap):.2%} {'above' if gap >= 0 else 'below'}"
