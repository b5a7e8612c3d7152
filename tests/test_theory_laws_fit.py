"""Fitting loss laws: planted parameters come back, the right law is chosen, open parameters are named, bad input."""

from dataclasses import replace

import numpy as np
import pytest

from latebloom.theory import Constant, Cosine, InputError, wsd
from latebloom.theory.commands import _fit_text
from latebloom.theory.fitting.bootstrap import interval
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.laws import (
    bootstrap_laws,
    carried_losses,
    fit_law,
    held_out_errors,
    law_report,
    prediction_errors,
)
from latebloom.theory.landscapes import LAWS, FunctionalLaw, MomentumLaw, PowerLaw, RiverValley, TwoValleys
from latebloom.theory.landscapes.lr_history import ANGLE, GroupRates
from tests.test_theory_laws import EXAMPLES

STEPS = np.arange(50, 1201, 25)
RUNS = {
    "cosine": Cosine(steps=1200, peak_lr=0.02, warmup_steps=40),
    "constant": Constant(steps=1200, peak_lr=0.02, warmup_steps=40),
    "wsd": wsd(steps=1200, peak_lr=0.02, decay=0.3),
    "stairs": np.concatenate([np.full(500, 0.02), np.full(400, 0.004), np.full(300, 0.012)]),
    "low": wsd(steps=1200, peak_lr=0.006, decay=0.3),
}


def curves(law, names=tuple(RUNS), *, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    errors = {n: np.exp(noise * rng.normal(size=len(STEPS))) for n in names}
    return [LossCurve(name=n, schedule=RUNS[n], step=STEPS, loss=law.loss(RUNS[n], STEPS) * errors[n]) for n in names]


@pytest.mark.parametrize("name", sorted(set(LAWS) - {"river_valley", "two_valleys"}))
def test_recovers_planted_parameters(name):
    truth = EXAMPLES[name]
    fit = fit_law(LAWS[name], curves(truth))
    for parameter, value in truth.parameters.items():
        assert fit.law.parameters[parameter] == pytest.approx(value, rel=0.02), parameter
    assert fit.status == "identified"


def test_recovers_the_river_valley_up_to_what_it_expects():
    """Its expectations pull by far less than the 0.1 % of a curve that they weigh; predictions are unaffected."""
    truth = EXAMPLES["river_valley"]
    fit = fit_law(RiverValley, curves(truth))
    for parameter in ("floor", "exponent", "saturation", "rate_power", "cooling"):
        assert fit.law.parameters[parameter] == pytest.approx(truth.parameters[parameter], rel=0.3), parameter
    unseen = wsd(steps=2400, peak_lr=0.012, decay=0.2)
    assert fit.law.loss(unseen, 2400) == pytest.approx(truth.loss(unseen, 2400), rel=2e-3)
    assert max(np.abs(p / c.loss - 1).max() for p, c in zip(fit.predicted, fit.curves, strict=True)) < 1e-3


def two_rates(peak, start, *, steps=1200):
    """The matrices fall to 0 from half of the run on, the rest from ``start`` on."""
    share = np.arange(steps) / steps
    shapes = [np.clip((1 - share) / (1 - at), 0, 1) for at in (0.5, start)]
    return GroupRates(matrices=peak * shapes[0], others=shapes[1])


def two_valley_curves(runs):
    truth = EXAMPLES["two_valleys"].replace(reference_other=1.0, other_memory=0.1)
    return [LossCurve(name=f"{i}", schedule=r, step=STEPS, loss=truth.loss(r, STEPS)) for i, r in enumerate(runs)]


def test_two_valleys_tell_which_rate_the_noise_comes_from():
    fitted = two_valley_curves([two_rates(0.02, 0.5), two_rates(0.03, 0.5), two_rates(0.02, 0.8), two_rates(0.02, 0.2)])
    fit = fit_law(TwoValleys, fitted)
    assert fit.law.other_share == pytest.approx(0.3, abs=0.05)
    (unseen,) = two_valley_curves([two_rates(0.025, 0.9)])
    assert prediction_errors(fit, unseen)["alone"] < 5e-4
    assert held_out_errors([PowerLaw, TwoValleys], curves(EXAMPLES["power"], ("wsd", "cosine"))).keys() == {PowerLaw}


def test_angles_are_expected_in_a_unit_of_their_own():
    """A single run leaves the saturation open: it stays near the expected angle, whatever the run's own rates."""
    low, high = (replace(two_rates(peak, 0.5), angles=True) for peak in (0.01, 0.02))
    found = [fit_law(TwoValleys, two_valley_curves([rates])).law for rates in (low, high)]
    expected = TwoValleys.shapes["saturation"].centre * ANGLE
    assert [law.saturation for law in found] == pytest.approx([expected, expected], rel=0.1)
    assert [law.reference_lr for law in found] == [ANGLE, ANGLE]


def test_what_one_order_of_the_data_does_to_all_runs_is_carried_over():
    order = np.exp(2e-3 * np.random.default_rng(1).normal(size=len(STEPS)))  # of the batches: the same for every run
    first, second = curves(EXAMPLES["momentum"], ("cosine", "wsd"))
    fit = fit_law(MomentumLaw, [replace(first, loss=first.loss * order)])
    unseen = replace(second, loss=second.loss * order)
    errors = prediction_errors(fit, unseen)
    assert errors["alone"] > 1e-3 and errors["carried"] < 0.5 * errors["alone"]
    between = STEPS[:-1] + 5
    assert np.all(np.isfinite(carried_losses(fit, RUNS["wsd"], between)))
    at_end = carried_losses(fit, np.concatenate([RUNS["wsd"].lrs(), np.full(50, 1e-3)]), np.array([1250]))
    missed = first.loss[-1] * order[-1] / fit.predicted[0][-1]
    assert at_end == pytest.approx(
        missed * fit.law.loss(np.concatenate([RUNS["wsd"].lrs(), np.full(50, 1e-3)]), [1250]), rel=1e-12
    )


def test_error_of_the_floor_falls_with_the_noise():
    """Rate 1: parameters of a regular problem are off in proportion to the noise."""
    truth, levels = EXAMPLES["momentum"], np.array([1e-4, 1e-3])
    errors = [
        np.sqrt(np.mean([(fit_law(MomentumLaw, curves(truth, noise=level, seed=s)).law.floor - 2.0) ** 2
                         for s in range(4)])) for level in levels
    ]  # fmt: skip
    assert np.log10(errors[1] / errors[0]) == pytest.approx(1, abs=0.4)


def test_outliers_count_linearly():
    truth = EXAMPLES["momentum"]
    spoiled = curves(truth)
    spoiled[0].loss[5] *= 1.5
    assert fit_law(MomentumLaw, spoiled).law.floor == pytest.approx(2.0, rel=2e-3)


def test_curves_count_the_same_however_often_they_are_logged():
    sparse = curves(EXAMPLES["functional"])
    thin = replace(sparse[0], step=STEPS[::4], loss=sparse[0].loss[::4])
    fits = [fit_law(PowerLaw, runs).law for runs in (sparse, [thin, *sparse[1:]])]
    assert fits[0].floor == pytest.approx(fits[1].floor, rel=0.02)


def test_the_law_that_made_the_data_predicts_held_out_runs_best():
    """Chosen by held-out error; by training error the law with most parameters would win."""
    for name in ("momentum", "functional"):
        data = curves(EXAMPLES[name], ("cosine", "constant", "stairs"), noise=1e-4)
        table = held_out_errors([PowerLaw, MomentumLaw, FunctionalLaw], data)
        means = {kind: np.mean(list(by_run.values())) for kind, by_run in table.items()}
        assert min(means, key=means.get) is LAWS[name]
        assert set(table[PowerLaw]) == {"cosine", "constant", "stairs"}


def test_a_single_run_is_split_in_time():
    table = held_out_errors([PowerLaw], curves(EXAMPLES["power"], ("wsd",)))
    assert table[PowerLaw]["wsd"] < 1e-6


def test_open_parameters_are_named_with_the_run_that_would_fix_them():
    fit = fit_law(FunctionalLaw, curves(EXAMPLES["functional"], ("constant",), noise=1e-4))
    assert fit.status.startswith("open")
    line = next(line for line in fit.identifiability if line.startswith("tail"))
    assert "drops its learning rate half-way" in line
    fit = fit_law(RiverValley, curves(EXAMPLES["river_valley"], ("cosine", "wsd"), noise=1e-4))
    line = next(line for line in fit.identifiability if line.startswith("saturation"))
    assert "peak learning rate three times higher or lower" in line
    assert "near what the law expects" in line
    wider = fit_law(RiverValley, curves(EXAMPLES["river_valley"], noise=1e-4))
    assert wider.errors["saturation"] < 0.2 * fit.errors["saturation"]


def test_signs_that_are_not_seen_are_said_to_be_absent():
    fit = fit_law(FunctionalLaw, curves(EXAMPLES["power"]))
    assert fit.law.noise == pytest.approx(0, abs=1e-6)


def test_an_interval_holds_its_estimate():
    assert interval([1.0, 2.0, 3.0], level=0.5).low == 1.5
    assert interval([1.0, 2.0, 3.0], level=0.5, estimate=0.9).low == 0.9
    fit = fit_law(FunctionalLaw, curves(EXAMPLES["functional"], ("constant",), noise=1e-3))
    report = law_report(fit, bootstrap_laws(fit, replicas=4))
    for row in report["parameters"].values():
        assert row["low"] <= row["value"] <= row["high"]
    shown = {line.split()[0]: "left open, see below" in line for line in _fit_text(report).splitlines()}
    assert {name for name in report["parameters"] if shown[name]} == {"noise", "memory", "tail"}


def test_bootstrap_covers_and_report_is_plain():
    truth = EXAMPLES["momentum"]
    fit = fit_law(MomentumLaw, curves(truth, noise=2e-3))
    laws = bootstrap_laws(fit, replicas=20)
    low, high = np.quantile([law.floor for law in laws], [0.02, 0.98])
    assert low < truth.floor < high
    report = law_report(fit, laws)
    assert report["parameters"]["floor"]["unit"] == "nats"
    assert report["status"] == "identified"
    assert set(report["runs"]) == set(RUNS)
    assert law_report(fit, ())["parameters"]["floor"]["low"] is None


def test_the_same_seed_gives_the_same_fit():
    data = curves(EXAMPLES["functional"], noise=1e-3)
    assert fit_law(FunctionalLaw, data, seed=3).law == fit_law(FunctionalLaw, data, seed=3).law


def test_bad_input():
    step, loss = np.arange(1, 6), np.full(5, 2.0)
    lr = np.full(5, 0.1)
    for change, message in (
        ({"loss": np.array([2.0, np.nan, 2, 2, 2])}, r"x: loss = nan: must be a positive number \(step 2\)"),
        ({"loss": np.array([2.0, -1, 2, 2, 2])}, r"x: loss = -1.0"),
        ({"loss": loss[:3]}, "x: loss = .*: needs one value"),
        ({"step": step[::-1]}, "x: step = 4: does not increase"),
        ({"step": np.array([1, 2, 3, 4, 6])}, "x: step = 6: lies outside the schedule's 1 ... 5; give a longer"),
        ({"schedule": -lr}, "x: lr = -0.1: is not a learning rate"),
    ):
        with pytest.raises(InputError, match=message):
            LossCurve(**{"name": "x", "schedule": lr, "step": step, "loss": loss, **change})
    few = LossCurve(name="x", schedule=lr, step=step[:3], loss=loss[:3])
    with pytest.raises(InputError, match="points = 3: are too few for 3 parameters; give 4 or more"):
        fit_law(PowerLaw, [few])
    with pytest.raises(InputError, match="too few for any law"):
        held_out_errors([PowerLaw], [few, few])
