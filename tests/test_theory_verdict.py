"""The verdict's heads and words, and how predictions are scored."""

import numpy as np
import pytest

from latebloom.theory import InputError
from latebloom.theory.controls import control
from latebloom.theory.prediction import JointDraws
from latebloom.theory.scoring import gap_draws, loss_draws, pit, quantiles
from latebloom.theory.verdict import (
    FULL,
    NEVER,
    TrainedArm,
    Verdict,
    judge,
    resolution,
    resolution_of_seeds,
)
from latebloom.theory.verdict_text import details, sentence
from tests.helpers import synthetic_record, tiny_plan

DEPTHS = {
    "progressive": (1, 4), "fixed": (4,), "equal_compute": (4,), "cold_start": (4,), "small": (1,),
    "small_equal_compute": (1,), "depth_equal_compute-2": (2,),
}  # fmt: skip
STEPS = {"progressive": 800, "fixed": 800, "equal_compute": 650, "cold_start": 440, "small": 800,
         "small_equal_compute": 1115, "depth_equal_compute-2": 900}  # fmt: skip
MEASURED = {"progressive": 4.596, "fixed": 4.529, "equal_compute": 4.683, "cold_start": 4.9, "small": 4.608,
            "small_equal_compute": 4.440, "depth_equal_compute-2": 4.493}  # fmt: skip


def verdict(without=(), noise=0.006, measured=True, **losses):
    arms = {
        name: TrainedArm(
            depths=DEPTHS[name], tau=359 if name == "progressive" else None, steps=STEPS[name], loss=loss,
            flops=3.26e12 if name == "fixed" else 2.65e12,
        )
        for name, loss in (MEASURED | losses).items()
        if name not in without
    }  # fmt: skip
    known = None if noise is None else resolution(noise)
    return Verdict(arms=arms, resolution=known, pilot_flops=4.1e12, saving_equal_compute=0.11, measured=measured)


def test_the_first_sentence_names_the_lowest_arm_and_the_rest_says_how_sure():
    assert sentence(verdict()) == (
        "Do not grow: train 1 block longer. At this compute (2.65e12 FLOPs) 1 block ends at 4.44, 2 blocks at 4.49, "
        "1 -> 4 at 4.60, 4 blocks at 4.68. One seed; differences under 0.01 are noise. "
        "Pilots cost another 4.1e12 FLOPs."
    )
    assert details(verdict()) == (
        "For as many steps, 4 blocks from the start end at 4.529: growing ends 1.48% above that for 18.7% less "
        "compute.",
        "To reach the loss of 1 -> 4, 4 blocks alone need 12% more compute.",
        "From a cold start, 4 blocks end after the last 440 steps alone at 4.900: the small phase is worth +0.304 "
        "nats.",
        "Never grown, 1 block ends at 4.608 after as many steps, for 2.65e12 FLOPs: growing ends 0.26% below that.",
    )


@pytest.mark.parametrize(
    ("losses", "head", "first"),
    [
        ({"progressive": 4.40}, "grow", "Grow: train 1 block for 359 of 800 steps, then grow to 4."),
        ({"equal_compute": 4.30}, "do not grow", "Do not grow: train 4 blocks for 650 steps from the start."),
        ({"depth_equal_compute-2": 4.4}, "do not grow", "Do not grow: train 2 blocks for 900 steps from the start."),
        (
            {"progressive": 4.435},
            "not decided",
            "Not decided: 1 -> 4 ends lowest, but 1 block as low within the noise.",
        ),
        (
            {"progressive": 4.445},
            "not decided",
            "Not decided: 1 block ends lowest, but 1 -> 4 as low within the noise.",
        ),
    ],
)
def test_heads(losses, head, first):
    made = verdict(**losses)
    assert made.head == head
    assert sentence(made).startswith(first + " At this compute")


def test_controls_of_other_compute_do_not_decide():
    made = verdict(progressive=4.40, fixed=4.2, small=4.3, cold_start=4.1)
    assert made.head == "grow"
    assert set(made.menu) == {"progressive", "equal_compute", "small_equal_compute", "depth_equal_compute-2"}


def test_growing_is_never_advised_without_the_run_that_never_grew():
    made = verdict(without=("small_equal_compute",), progressive=4.40)
    assert made.head == "not decided"
    assert sentence(made).startswith("Not decided: 1 -> 4 ends lowest, but 1 block at this compute was not run.")
    assert verdict(without=("small_equal_compute",)).head == "do not grow"  # depth 2 is lower still


def test_noise_that_is_not_known_is_said():
    assert "One seed; how much is noise is not known." in sentence(verdict(noise=None))
    predicted = sentence(verdict(measured=False))
    assert "1 block would end at 4.44" in predicted
    assert "noise" not in predicted


def test_losses_have_as_many_digits_as_tell_them_apart():
    assert "1 block ends at 4.440, 2 blocks at 4.442" in sentence(verdict(**{"depth_equal_compute-2": 4.442}))


def test_the_resolution_is_where_a_sign_is_right_nine_times_in_ten():
    differences = np.random.default_rng(0).normal(size=(200_000, 2)) @ [0.01, -0.01]
    right = np.mean(differences + resolution(0.01) > 0)
    assert right == pytest.approx(0.9, abs=0.003)


def seeds_of(*differences):
    """Records of 1 -> 4 and three controls on as many seeds; growing ends ``differences`` beside one block."""
    plan = tiny_plan(steps=200, tau=120, small=1, full=4)
    rows = {each.name: each.plan(plan) for each in map(control, (FULL, NEVER, "fixed"))}
    common = [0.0, 0.3, -0.2, 0.1]  # what a seed does to all of its runs
    return [
        {
            name: synthetic_record(
                p, np.array([0, p.steps]), np.array([5.0, loss + common[seed]]), name=name, seed=seed
            )
            for name, p, loss in [
                ("progressive", plan, 3.0 + difference),
                *((name, p, {FULL: 3.2, NEVER: 3.0, "fixed": 2.9}[name]) for name, p in rows.items()),
            ]
            if seed == 0 or name != "fixed"
        }
        for seed, difference in enumerate(differences)
    ]


def test_differences_are_taken_seed_by_seed():
    """What a seed does to all its runs cancels; the sign is told with probability .9 by Student's t."""
    first, *others = seeds_of(-0.04, -0.02, -0.03, -0.01)
    made = judge(first, noise=0.5, replicates=others)
    assert made.seeds == 4
    assert made.difference(NEVER) == pytest.approx(-0.025)
    error = np.std([-0.04, -0.02, -0.03, -0.01], ddof=1) / 2
    assert made.standard_error(NEVER) == pytest.approx(error)
    assert made.resolution == pytest.approx(1.637744 * error, rel=1e-6)  # tables: t_.9 of three degrees of freedom
    assert made.head == "grow"
    assert "Mean of 4 seeds: 1 -> 4 ends 0.0250 ± 0.0065 below 1 block; differences under 0.01 are noise." in sentence(
        made
    )
    assert made.gap("fixed") == pytest.approx(2.96 / 2.9 - 1)  # run on the first seed only
    assert made.standard_error("fixed") is None
    first, *others = seeds_of(-0.04, 0.03, -0.03, 0.01)
    assert judge(first, noise=0.0, replicates=others).head == "not decided"
    first, *others = seeds_of(0.04, 0.03, 0.03, 0.01)
    assert judge(first, replicates=others).head == "do not grow"


def test_runs_on_fewer_seeds_are_compared_on_those():
    """A mean over other seeds decides nothing: growing ends .04 and .02 above two of three, below the mean of all."""
    first, other, third = seeds_of(0.04, 0.02, -0.9)
    made = judge(first, replicates=[other, {name: run for name, run in third.items() if name != NEVER}])
    assert (made.best, made.seeds, made.seeds_beside(NEVER)) == ("progressive", 3, 2)
    assert made.difference(NEVER) == pytest.approx(0.03)
    assert made.resolution == made.resolution_beside(NEVER) == pytest.approx(3.077684 * 0.01, rel=1e-6)
    assert made.head == "not decided"
    assert "Runs of other compute were trained on one seed, those of this compute on 3." in details(made)
    plan = first["fixed"].plan
    again = synthetic_record(plan, np.array([0, plan.steps]), np.array([5.0, 2.9]), name="fixed", seed=1)
    assert not any("one seed" in said for said in details(judge(first, replicates=[other | {"fixed": again}])))


def test_a_sign_of_several_seeds_is_right_nine_times_in_ten():
    draws = np.random.default_rng(0).normal(size=(100_000, 3))
    bound = resolution_of_seeds(1.0, 3) * draws.std(axis=1, ddof=1) / np.sqrt(3)
    assert np.mean(draws.mean(axis=1) < bound) == pytest.approx(0.9, abs=0.004)


def test_replicates_are_the_same_runs_again():
    first, other = seeds_of(0.0, 0.1)
    with pytest.raises(InputError, match="progressive of seed 0': is there twice"):
        judge(first, replicates=[first])
    with pytest.raises(InputError, match="equal_compute of seed 1': is of another plan than the first seed's"):
        judge(first, replicates=[other | {"equal_compute": other["small_equal_compute"]}])
    with pytest.raises(InputError, match="cold_start of seed 1': is not among the runs of the first seed"):
        judge(first, replicates=[other | {"cold_start": other["equal_compute"]}])
    with pytest.raises(InputError, match="equal_compute of seed 0': stands beside a run that grows of seed 1"):
        judge(first, replicates=[other | {"equal_compute": first["equal_compute"]}])


def test_a_verdict_needs_one_control_and_names_those_it_lacks():
    assert verdict(without=("cold_start",)).missing == ("cold_start",)
    assert verdict(without=("cold_start",)).retention is None
    names = [name for name in verdict().arms if name != "progressive"]
    with pytest.raises(InputError, match="arms = .* lack every control of it"):
        verdict(without=names)


def test_transforms_of_what_was_drawn_from_the_prediction_are_uniform():
    generator = np.random.default_rng(0)
    places = [pit(generator.normal(size=200), generator.normal()) for _ in range(4000)]
    assert np.histogram(places, bins=10, range=(0, 1))[0] == pytest.approx(400, abs=80)
    assert (pit(np.arange(3.0), -1), pit(np.arange(3.0), 9)) == (0.125, 0.875)


def test_gaps_are_taken_draw_by_draw_under_the_names_of_controls():
    draws = JointDraws(
        names=("depth 1", "grown", "never", "small"), measured=(False, True, True, True),
        losses=((4.0, 4.2, 4.0, 4.1), (5.0, 5.0, 4.0, 5.0)),
    )  # fmt: skip
    assert gap_draws(draws, "progressive", "small_equal_compute") == pytest.approx([0.05, 0.25])
    assert loss_draws(draws, "small").tolist() == [4.1, 5.0]
    assert quantiles(np.array([1.0, 2.0, 3.0])).median == 2.0
    with pytest.raises(InputError, match="draws = 'fixed': is not among depth 1, grown, never, small"):
        gap_draws(draws, "progressive", "fixed")
