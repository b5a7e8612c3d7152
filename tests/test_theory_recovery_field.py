"""The recovery field: exact limits, pairing, calibration on planted laws, determinism, refusals."""

import dataclasses

import numpy as np
import pytest

from latebloom.theory.errors import InputError
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve, ends_of, falls, trunk_curve_of
from latebloom.theory.fitting.field_kernel import (
    FieldKernel,
    FieldPrior,
    FieldRuns,
    Points,
    depth_share,
    fall_seen,
)
from latebloom.theory.fitting.recovery_field import field_of_records, fit_recovery_field
from latebloom.theory.landscapes.field import FieldLaw
from latebloom.theory.plan import Stage
from latebloom.theory.schedules import WSD
from tests.helpers import synthetic_record, tiny_plan

REFERENCE = 740.0  # area of 800 steps at rate 1, warm-up 16, the last tenth decaying
EXACT = 1e-12


def end(kind: str, steps: int, loss: float, *, tau: int = 0, seed: int = 0, **changes) -> AnnealedEnd:
    """A 1 -> 4 end at peak rate 1 with 16 steps of warm-up and a tenth of decay."""
    rates = WSD(steps=steps, peak_lr=1.0, warmup_steps=16, decay_steps=round(0.1 * steps), decay="linear", final=0.0)
    total = rates.total_area
    values = {
        "name": f"{kind}-{steps}",
        "kind": kind,
        "depth": {"small": 1, "between": 2}.get(kind, 4),
        "steps": steps,
        "tau": tau,
        "area": total,
        "area_before": {"grown": float(rates.area(tau)), "small": total}.get(kind, 0.0),
        "loss": loss,
        "seed": seed,
        "data": "d",
        "trunk": {"full": "F", "between": "B"}.get(kind, "S"),
        "recipe": "random stack keep" if kind == "grown" else "",
        "peak_lr": 1.0,
        "warmup_steps": 16,
    }
    return AnnealedEnd(**values | changes)


def never_grown(area):
    return 3.5 + 1.2 * np.asarray(area / REFERENCE) ** -0.3


def recovered(after):
    return 0.03 * np.log1p(np.asarray(after / REFERENCE) / 0.02)


def pilots(*, seed: int = 0, shift: float = 0.0, noise: float = 0.0, generator=None) -> list[AnnealedEnd]:
    """Ends of a planted law in which recovery depends on the remaining area alone."""
    generator = generator or np.random.default_rng(0)
    made = [end("small", t, 0.0, seed=seed) for t in (100, 200, 400, 800)]
    made += [end("full", t, 0.0, seed=seed) for t in (100, 200)]
    made += [end("grown", 450, 0.0, tau=400, seed=seed), end("grown", 500, 0.0, tau=400, seed=seed)]
    out = []
    for e in made:
        loss = never_grown(e.area) - (0.0 if e.kind == "small" else recovered(e.area - e.area_before))
        out.append(dataclasses.replace(e, loss=float(loss + shift + noise * generator.normal())))
    return out


def trunk_curve(*, offset: float = 0.1, noise: float = 0.0) -> TrunkCurve:
    """The planted law's small trunk at constant rate, ``offset`` above its annealed losses."""
    area = np.geomspace(20.0, 704.0, 24)
    return TrunkCurve.thinned(area, never_grown(area) + offset + noise * np.random.default_rng(5).normal(size=24))


def fit(ends, **changes):
    return fit_recovery_field(ends, full_depth=4, reference=REFERENCE, **changes)


@pytest.fixture(scope="module")
def field():
    return fit(pilots())


@pytest.mark.parametrize("measured", [False, True])
def test_growing_at_the_first_step_is_the_fixed_run(field, measured):
    points = field.points([0.0, 0.0, 300.0], [REFERENCE, REFERENCE, REFERENCE - 300.0], [4, 4, 4])
    draws = field.draws(points, measured=measured)
    assert np.abs(draws[:, 0] - draws[:, 1]).max() <= EXACT
    assert np.abs(draws[:, 0] - draws[:, 2]).max() > 1e-3


def test_growing_after_the_last_step_is_never_growing(field):
    points = field.points([REFERENCE, REFERENCE], [0.0, 0.0], [4, 1])
    draws = field.draws(points)
    assert np.abs(draws[:, 0] - draws[:, 1]).max() <= EXACT


@pytest.mark.parametrize("fall", [0.0, 0.05])
def test_exact_limits_hold_with_a_trunk_curve(fall):
    field = fit(pilots(), trunk_curve=trunk_curve(noise=0.02), prior=FieldPrior(fall=fall))
    draws = field.draws(field.points([0.0, 0.0, REFERENCE, REFERENCE], [REFERENCE, REFERENCE, 0.0, 0.0], [4, 4, 4, 1]))
    assert np.abs(draws[:, 0] - draws[:, 1]).max() <= EXACT
    assert np.abs(draws[:, 2] - draws[:, 3]).max() <= EXACT


@pytest.mark.parametrize("exponent", [0.05, 0.3, 1.5])
def test_no_power_law_is_a_fall(exponent):
    ends = [end("small", t, 3.0 + (t / 800) ** -exponent) for t in (100, 110, 200, 400, 800)]
    assert fall_seen(ends) == 0.0
    chosen, shares = falls(ends, "small")
    assert [e.steps for e in chosen] == [110, 200, 400, 800] and len(shares) == 3 and falls(ends, "full")[0] == []


def test_a_fall_that_gets_faster_leaves_more_open():
    """A plateau that depth 1 leaves after 400 steps; what that adds to the prior of s, of z, of z at the first step."""
    plateau = [dataclasses.replace(e, loss=e.loss * (0.9 if e.steps > 400 else 1.0)) for e in pilots()]
    fall = fall_seen(plateau)
    assert fall > 0.05 and fit(plateau).prior.fall == fall and fit(pilots()).prior.fall == 0.0
    asked = FieldRuns(
        points=Points(
            before=np.array([1.0, 0.5, 0.0]), after=np.array([0.0, 1.0, 1.0]), share=np.array([0.0, 1.0, 1.0])
        ),
        seeds=[None] * 3,
        trunks=[""] * 3,
        curve_noise=np.full(3, np.nan),
    )
    grid = np.array([[0.01, 0.3, 0.002, 0.001, 0.0]])
    none, seen = (
        FieldKernel(prior=FieldPrior(fall=value), grid=grid).covariance(asked, asked)[0].diagonal()
        for value in (0.0, fall)
    )
    added = np.sqrt(seen - none) / fall
    assert added[0] == pytest.approx(FieldPrior().fall_never, rel=EXACT)
    assert added[1] > added[0] and added[2] ** 2 - added[1] ** 2 == pytest.approx(FieldPrior().fall_lag ** 2, rel=1e-5)


@pytest.mark.parametrize("offset", [0.05, 0.5])
def test_a_trunk_curve_tells_a_floor_from_a_power_law(offset):
    """The same three ends, and a trunk that goes on falling or lies flat since .7 of the run: what comes after it."""
    ends = [e for e in pilots() if e.kind == "small" and e.steps >= 200]
    area = np.geomspace(20.0, 704.0, 24)
    falling = never_grown(area)
    early = float(never_grown(0.5 * REFERENCE))
    steeper = early - (early - never_grown(REFERENCE)) * np.log(area / (0.5 * REFERENCE)) / np.log(1.4)
    flat = np.where(area < 0.5 * REFERENCE, falling, np.maximum(steeper, never_grown(REFERENCE)))
    means, deviations = [], []
    for curve in (None, falling, flat):
        trunk = None if curve is None else TrunkCurve.thinned(area, curve + offset)
        field = fit(ends, trunk_curve=trunk)
        (mean,), ((variance,),) = field.moments(field.points([1.8 * REFERENCE], [0.0], [1]))
        means.append(float(mean) + np.log(field.scale))
        deviations.append(float(np.sqrt(variance)))
    assert abs(means[1] - np.log(never_grown(1.8 * REFERENCE))) < deviations[1] < 0.95 * deviations[0], (
        means,
        deviations,
    )
    assert means[2] > means[1] + deviations[1], (means, deviations)


def test_a_thinned_curve_knows_its_scatter():
    curve = trunk_curve(noise=0.02)
    assert len(curve) <= 12 and curve.area[0] >= 0.1 * curve.area[-1]
    assert curve.noise == pytest.approx(0.02, rel=0.6)
    assert trunk_curve().noise < 0.2 * curve.noise
    assert TrunkCurve.thinned(np.arange(1.0, 5.0), np.ones(4)) is None


def test_recovery_is_continuous_at_the_first_step(field):
    """Growing after a thousandth of the run is growing at once to a hundredth of the loss's gap."""
    points = field.points([0.0, 0.001 * REFERENCE], [REFERENCE, 0.999 * REFERENCE], [4, 4])
    draws = field.draws(points)
    assert np.abs(np.diff(draws, axis=1)).mean() < 0.01


def test_draws_are_the_same_twice(field):
    points = field.points([300.0], [440.0], [4])
    again = fit(pilots())
    assert np.array_equal(field.draws(points, seed=3), again.draws(points, seed=3))
    assert not np.array_equal(field.draws(points, seed=3), field.draws(points, seed=4))


def test_draws_have_the_moments_of_the_mixture(field):
    points = field.points([300.0, 0.0, REFERENCE], [440.0, REFERENCE, 0.0], [4, 4, 1])
    mean, covariance = field.moments(points)
    draws = np.log(field.draws(points, number=20000) / field.scale)
    scale = np.sqrt(np.diag(covariance))
    assert draws.mean(0) == pytest.approx(mean, abs=4 * scale.max() / np.sqrt(20000))
    assert np.cov(draws.T) / np.outer(scale, scale) == pytest.approx(covariance / np.outer(scale, scale), abs=0.05)


def test_a_seed_shifts_losses_and_no_difference():
    """Pairing: a shift of all runs of a seed by 1 % moves the gap by less than a hundredth of that."""
    shift = 0.045
    fields = [fit(pilots()), fit(pilots(shift=shift))]
    points = [f.points([300.0, 0.0], [440.0, REFERENCE], [4, 4]) for f in fields]
    means = np.array([f.expected(p) for f, p in zip(fields, points, strict=True)])
    assert np.diff(means[:, 0]) == pytest.approx(shift, rel=0.1)
    assert abs(np.diff(means[:, 0] - means[:, 1]).item()) < 0.01 * shift


def test_gap_is_known_better_than_two_unpaired_losses(field):
    points = field.points([300.0, REFERENCE], [440.0, 0.0], [4, 1])
    _, covariance = field.moments(points)
    gap = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert gap < 0.7 * (covariance[0, 0] + covariance[1, 1])  # what two unpaired losses would give


def test_two_seeds_are_better_than_one():
    points = ([300.0, 0.0], [440.0, REFERENCE], [4, 4])
    spread = []
    for seeds in ((0,), (0, 1)):
        generator = np.random.default_rng(1)
        field = fit([e for s in seeds for e in pilots(seed=s, shift=0.03 * s, noise=0.004, generator=generator)])
        _, covariance = field.moments(field.points(*points))
        spread.append(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert spread[1] < spread[0]


def test_intervals_cover_a_planted_law():
    """90 % intervals of the gap to the full depth hold in at least 31 of 40 noisy sets of pilots."""
    generator = np.random.default_rng(5)
    truth = -float(recovered(440.0) - recovered(REFERENCE)) / float(never_grown(REFERENCE) - recovered(REFERENCE))
    covered = 0
    for _ in range(40):
        field = fit(pilots(shift=0.03 * generator.normal(), noise=0.006, generator=generator))
        draws = field.draws(field.points([300.0, 0.0], [440.0, REFERENCE], [4, 4]), number=400)
        low, high = np.quantile(draws[:, 0] / draws[:, 1] - 1, [0.05, 0.95])
        covered += low <= truth <= high
    assert covered >= 31  # 1 in 100 of binomial(40, .9) lies below


def test_a_depth_between_is_interpolated():
    """A run of depth 2 narrows what is said of depth 2, and a depth without a run is left wide."""
    between = [end("between", steps, 0.0) for steps in (200, 400)]
    between = [dataclasses.replace(e, loss=float(never_grown(e.area) - 0.7 * recovered(e.area))) for e in between]
    point = ([0.0, REFERENCE], [REFERENCE, 0.0], [2, 1])
    spread = []
    for ends in (pilots(), [*pilots(), *between]):
        field = fit(ends)
        _, covariance = field.moments(field.points(*point))
        spread.append(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert spread[1] < 0.7 * spread[0]


def test_recovery_bends_as_the_small_depth_does():
    """From equal differences at T/8 and T/4, a depth gap grows more where the small depth falls ever faster."""
    growth = []
    for exponent in (0.8, -1.0):
        loss = lambda area: 4.0 + 0.2 * (area / REFERENCE) ** -exponent / exponent  # noqa: B023, E731
        ends = [end("small", steps, 0.0) for steps in (100, 200, 400, 800)]
        ends = [dataclasses.replace(e, loss=float(loss(e.area))) for e in ends]
        for e, gap in zip(ends[:2], (0.02, 0.03), strict=True):
            ends.append(end("full", e.steps, e.loss - gap))
        field = fit(ends)
        small, full = field.expected(field.points([REFERENCE, 0.0], [0.0, REFERENCE], [1, 4]))
        growth.append(small - full)
    assert growth[1] > growth[0] + 0.01


@pytest.mark.parametrize("reached", [4.0, 1.0, 0.05])
def test_no_loss_that_is_predicted_is_negative(reached):
    """Of a small depth that falls off a cliff before the last of its ends: at ten times the pilots' horizon too."""
    losses = dict(zip((100, 200, 400, 800), (5.0, 4.9, 4.8, reached), strict=True))
    ends = [end("small", steps, loss) for steps, loss in losses.items()]
    ends += [end("full", steps, losses[steps] - 0.01) for steps in (100, 200)]
    ends += [end("grown", 500, 0.9 * losses[400], tau=400)]
    field = fit(ends)
    far = 10 * REFERENCE
    points = field.points([far, 0.0, far / 2, 0.9 * far], [0.0, far, far / 2, 0.1 * far], [1, 4, 4, 4])
    for measured in (False, True):
        assert field.draws(points, number=1000, measured=measured).min() > 0
        assert field.expected(points, measured=measured).min() > 0


def test_depth_share_is_0_at_the_small_and_1_at_the_full_depth():
    assert [depth_share(d, 0, 12) for d in (0, 12)] == [0.0, 1.0]
    assert 0 < depth_share(3, 0, 12) < depth_share(6, 0, 12) < 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "name", "words"),
    [
        (pilots()[4:], "pilots", ("no run of the small depth", "anneal it at")),
        (pilots()[2:], "pilots", ("too few annealed ends", "step 200")),
        ([*pilots(), end("full", 400, 4.0, seed=7)], "full-400: seed", ("unpaired", "small depth with seed 7")),
        ([*pilots(), end("full", 400, 4.0, data="other")], "full-400: seed", ("unpaired",)),
        ([*pilots(), end("full", 400, 4.0, warmup_steps=8)], "full-400: warmup_steps", ("16 steps", "train it again")),
        ([*pilots(), end("full", 400, 4.0, peak_lr=2.0)], "full-400: peak_lr", ("peak learning rate",)),
        (
            [*pilots(), end("grown", 600, 4.0, tau=300, recipe="copy stack keep")],
            "grown-600: recipe",
            ("another recipe", "random stack keep"),
        ),
        ([*pilots(), end("full", 400, float("nan"))], "full-400: loss", ("diverged",)),
        ([*pilots(), end("full", 400, 0.0)], "full-400: loss", ("positive", "nats per token")),
    ],
    ids=["no small run", "too few", "other seed", "other data", "warm-up", "peak", "recipe", "diverged", "no loss"],
)
def test_refusals_name_the_pilot_that_mends_them(ends, name, words):
    with pytest.raises(InputError) as error:
        fit(ends)
    assert error.value.name == name
    for word in words:
        assert word in str(error.value)


def test_a_reference_must_be_an_area():
    with pytest.raises(InputError, match="reference"):
        fit_recovery_field(pilots(), full_depth=4, reference=0.0)


def record(*, steps=100, tau=None, small=1, full=3, name="run"):
    plan = tiny_plan(steps=steps, tau=tau, small=small, full=full)
    return synthetic_record(plan, np.array([0, steps]), np.array([5.0, 4.0]), name=name)


def test_ends_of_records():
    made = ends_of(
        [record(full=1), record(full=2), record(full=3), record(tau=60, full=3)], small_depth=1, full_depth=3
    )
    assert [e.kind for e in made] == ["small", "between", "full", "grown"]
    assert made[0].area_before == made[0].area and made[1].area_before == made[2].area_before == 0
    assert 0 < made[3].area_before < made[3].area
    assert made[0].trunk == made[3].trunk != made[2].trunk
    assert made[3].recipe and not made[2].recipe
    assert {e.warmup_steps for e in made} == {2}
    assert made[2].flops > made[3].flops > made[0].flops > 0


def test_one_trunk_whatever_the_horizon():
    first, second = (ends_of([record(full=1, steps=steps)], small_depth=1, full_depth=3)[0] for steps in (100, 124))
    assert first.trunk == second.trunk  # both warm up for 2 steps
    assert first.trunk != ends_of([record(full=1, steps=400)], small_depth=1, full_depth=3)[0].trunk


def test_the_trunk_curve_of_records_is_the_longest_small_run_before_it_decays():
    made = []
    for steps in (100, 200):
        plan = tiny_plan(steps=steps, tau=None, small=1, full=1)
        at = np.arange(0, steps + 1, 5)
        made.append(synthetic_record(plan, at, 4.0 + 1.0 / (1.0 + at), name=f"small-{steps}"))
    curve = trunk_curve_of([*made, record(full=3)], small_depth=1)
    schedule = made[1].plan.schedule
    assert float(schedule.area(100)) < curve.area[-1] <= float(schedule.area(200 - schedule.decay_steps))
    assert trunk_curve_of([record(full=3)], small_depth=1) is None


def test_a_field_of_records_and_its_law_know_the_trunk_curve():
    made = []
    for steps in (100, 200, 400):
        plan = tiny_plan(steps=steps, tau=None, small=1, full=1)
        plan = plan.replace(schedule=plan.schedule.replace(warmup_steps=2))
        at = np.arange(0, steps + 1, 5)
        made.append(synthetic_record(plan, at, 4.0 + 1.0 / (1.0 + at), name=f"small-{steps}"))
    reference = made[-1].plan.schedule.total_area
    field = field_of_records(made, small_depth=1, full_depth=3, reference=reference)
    assert field.trunk_curve == trunk_curve_of(made, small_depth=1)
    law = FieldLaw(
        small_depth=1, full_depth=3, ends=field.ends, reference=reference, trunk_curve=field.trunk_curve
    )  # fmt: skip
    assert law.field.weights.tolist() == field.weights.tolist()
    assert law.replace(trunk_curve=None).field.weights.tolist() != field.weights.tolist()


@pytest.mark.parametrize(("small", "full", "tau"), [(2, 3, 60), (1, 4, None), (1, 2, 60)])
def test_other_depths_are_refused(small, full, tau):
    with pytest.raises(InputError, match="leave it out"):
        ends_of([record(small=small, full=full, tau=tau)], small_depth=1, full_depth=3)


def test_ladders_are_refused():
    plan = tiny_plan(tau=60, full=3)
    ladder = plan.replace(stages=(*plan.stages[:1], Stage(start_step=40, depth=2), plan.stages[1]))
    made = synthetic_record(ladder, np.array([0, 100]), np.array([5.0, 4.0]), name="ladder")
    with pytest.raises(InputError, match="ladder: depths"):
        ends_of([made], small_depth=1, full_depth=3)


def test_an_unfinished_run_is_refused():
    plan = tiny_plan(tau=None)
    made = synthetic_record(plan, np.array([0, 50]), np.array([5.0, 4.0]), name="half")
    with pytest.raises(InputError, match="resume the run"):
        ends_of([made], small_depth=1, full_depth=3)
