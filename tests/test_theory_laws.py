"""Loss laws against sums written term by term, derivatives against differences, growth, best schedules."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import quad

from latebloom.theory import WSD, Constant, Cosine, InputError, fixed_depth, wsd
from latebloom.theory.landscapes import (
    LAWS,
    ConvexBound,
    FunctionalLaw,
    MomentumLaw,
    MultiPowerLaw,
    PowerLaw,
    QuadraticLaw,
    RiverValley,
    TwoValleys,
)  # fmt: skip
from latebloom.theory.landscapes.area import noise_response
from latebloom.theory.landscapes.functional import best_functional_schedule
from latebloom.theory.landscapes.law import best_schedule
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.landscapes.lr_history import ANGLE, GroupRates, histories, history
from tests.helpers import ROUNDING, tiny_plan

EXAMPLES = {
    "power": PowerLaw(floor=2.0, amplitude=0.5, exponent=0.6),
    "convex": ConvexBound(floor=2.0, distance2=0.6, gradient2=3.0),
    "momentum": MomentumLaw(floor=2.0, amplitude=0.5, gain=5.0, exponent=0.6, forgetting=0.02),
    "multi_power": MultiPowerLaw(
        floor=2.0, amplitude=0.5, gain=9.0, exponent=0.6, memory=3.0, rate_power=0.5, tail=0.4, reference=0.02
    ),
    "functional": FunctionalLaw(floor=2.0, amplitude=0.5, noise=20.0, exponent=0.6, memory=7.0, tail=1.4),
    "quadratic": QuadraticLaw(floor=2.0, amplitude=4.0, noise=20.0, source=0.6, capacity=1.3, sharpness=7.0),
    "river_valley": RiverValley(
        floor=2.0, amplitude=0.3, noise=0.2, exponent=0.6, saturation=0.03, delay=0.2, memory=9.0, tail=0.4,
        rate_power=0.6, cooling=0.15, reference_area=10.0, reference_lr=0.02,
    ),
    "two_valleys": TwoValleys(
        floor=2.0, amplitude=0.3, noise=0.2, exponent=0.6, saturation=0.03, delay=0.2, memory=9.0, tail=0.4,
        rate_power=0.6, cooling=0.15, other_share=0.3, other_memory=5.0, other_tail=0.7, other_power=0.9,
        reference_area=10.0, reference_lr=0.02, reference_other=0.02,
    ),
}  # fmt: skip
SCHEDULES = {
    "wsd": wsd(steps=600, peak_lr=0.02, warmup=0.05, decay=0.3),
    "cosine": Cosine(steps=600, peak_lr=0.02, warmup_steps=20),
    "constant": Constant(steps=600, peak_lr=0.02),
    "stairs": np.concatenate([np.full(300, 0.02), np.full(200, 0.004), np.full(100, 0.01)]),
    "table": np.random.default_rng(0).uniform(0.001, 0.02, 600),
}
KERNEL = 3e-6  # the sum of exponentials is good to 1e-6 of the kernel
PIECES = 1e-3  # a piece averages learning rates within 1/64 of the peak; the error is of second order


def lrs(schedule):
    return schedule if isinstance(schedule, np.ndarray) else schedule.lrs()


# Term by term, one update at a time, from the published formulas; no code of the library is used.


def by_power(law, eta, warm):
    return law.floor + law.amplitude * np.sum(eta) ** -law.exponent


def by_convex(law, eta, warm):
    total, done, noise = np.sum(eta), 0.0, eta[-1]
    for e in eta[:-1]:
        done += e
        noise += e**2 / (total - done)
    return law.floor + law.distance2 / (2 * total) + law.gradient2 / 2 * noise


def by_momentum(law, eta, warm):
    momentum = annealed = 0.0
    for before, now in zip(eta[warm:-1], eta[warm + 1 :], strict=True):
        momentum = np.exp(-law.forgetting) * momentum + (before - now)
        annealed += momentum
    return by_power(law, eta, warm) - law.gain * (1 - np.exp(-law.forgetting)) * annealed


def by_multi_power(law, eta, warm):
    drop = 0.0
    for k in range(warm + 1, len(eta)):
        scale = law.memory * (eta[k] / law.reference) ** -law.rate_power if eta[k] else np.inf
        area = np.sum(eta[k:])
        drop += (eta[k - 1] - eta[k]) * (1 - (1 + scale * area if area else 1.0) ** -law.tail)
    return by_power(law, eta, warm) - law.gain * drop


def kernel_sum(eta, power, memory, tail):
    """int eta^power (1 + C u)^-d dv, each update's part by quadrature."""
    edges = np.concatenate([[0.0], np.cumsum(eta)])
    return sum(
        e**power * quad(lambda v: (1 + memory * (edges[-1] - v)) ** -tail, edges[k], edges[k + 1], epsabs=0)[0]
        for k, e in enumerate(eta)
        if e > 0
    )


def by_functional(law, eta, warm):
    return by_power(law, eta, warm) + law.noise * kernel_sum(eta, 1.0, law.memory, law.tail)


def by_quadratic(law, eta, warm):
    noise = law.noise * kernel_sum(eta, 1.0, law.sharpness, 2 - 1 / law.capacity)
    return law.floor + law.amplitude * (1 + law.sharpness * np.sum(eta)) ** -law.source + noise


def by_river_valley(law, eta, warm):
    made = eta / (1 + eta / law.saturation)
    progress = (np.sum(made) - law.delay * np.sum(made[:warm])) / law.reference_area
    past = law.tail * law.memory * kernel_sum(eta, law.rate_power, law.memory, law.tail + 1)
    noise = law.noise * progress**-law.cooling * past / law.reference_lr**law.rate_power
    return law.floor + law.amplitude * progress**-law.exponent + noise


def by_two_valleys(law, eta, warm, others=None):
    others = eta if others is None else others
    made = eta / (1 + eta / law.saturation)
    progress = (np.sum(made) - law.delay * np.sum(made[:warm])) / law.reference_area
    noise = 0.0
    for share, rates, memory, tail, power, unit in (
        (1 - law.other_share, eta, law.memory, law.tail, law.rate_power, law.reference_lr),
        (law.other_share, others, law.other_memory, law.other_tail, law.other_power, law.reference_other),
    ):
        noise += share * tail * memory * kernel_sum(rates, power, memory, tail + 1) / unit**power
    return law.floor + law.amplitude * progress**-law.exponent + law.noise * progress**-law.cooling * noise


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("shape", SCHEDULES)
def test_laws_against_sums_term_by_term(name, shape):
    law, eta = EXAMPLES[name], lrs(SCHEDULES[shape])
    warm = int(np.argmax(np.diff(eta) <= 0)) if eta[0] < eta[1] else 0
    steps = [120, 450, 600]
    brute = [globals()[f"by_{name}"](law, eta[:t], min(warm, t)) for t in steps]
    exact = history(eta)  # every update a piece
    found = law.predict(exact)[[t - 1 for t in steps]]
    if name in ("river_valley", "two_valleys") and warm:
        brute_warm = globals()[f"by_{name}"](law, eta[: warm // 2], warm)
        assert law.loss(eta, warm // 2)[0] == pytest.approx(brute_warm, rel=KERNEL)
    assert found == pytest.approx(brute, rel=KERNEL if name not in ("power", "momentum") else 100 * ROUNDING)
    assert law.loss(SCHEDULES[shape], steps) == pytest.approx(brute, rel=PIECES)


def test_two_rates_that_go_different_ways():
    law = EXAMPLES["two_valleys"]
    falls = np.linspace(1, 0, 300)
    matrices = 0.02 * np.concatenate([np.ones(300), falls])
    others = 0.05 * np.concatenate([np.ones(100), np.linspace(1, 0.1, 500) ** 1.5])
    both, steps = GroupRates(matrices=matrices, others=others), [120, 450, 600]
    brute = [by_two_valleys(law, matrices[:t], 0, others[:t]) for t in steps]
    exact = histories([(both, None)])
    assert law.predict(exact)[[t - 1 for t in steps]] == pytest.approx(brute, rel=KERNEL)
    assert law.loss(both, steps) == pytest.approx(brute, rel=PIECES)
    one = law.replace(other_share=0.0)
    river = RiverValley(**{name: getattr(law, name) for name in RiverValley.__struct_fields__})
    assert one.predict(exact) == pytest.approx(river.predict(history(matrices)), rel=ROUNDING)
    with pytest.raises(InputError, match="for all or for none"):
        histories([(both, None), (matrices, None)])
    with pytest.raises(InputError, match="one rate for each"):
        GroupRates(matrices=matrices, others=others[1:])
    turned = dataclasses.replace(both, angles=True)
    with pytest.raises(InputError, match="turning rates for all or for none"):
        histories([(both, None), (turned, None)])
    angles = histories([(turned, None), (turned, [300])])
    assert (angles.rate_unit, angles.of_others.rate_unit) == (ANGLE, pytest.approx(0.05))
    assert (exact.rate_unit, exact.of_others.rate_unit) == (pytest.approx(0.02), pytest.approx(0.05))
    assert angles.usual_lr == exact.usual_lr


def test_the_usual_learning_rate_is_not_that_of_a_first_spike():
    spiked = np.concatenate([np.full(50, 0.09), np.full(700, 0.02), np.linspace(0.02, 0, 250)])
    assert histories([(spiked, [900]), (0.5 * spiked, [900])]).usual_lr == pytest.approx(0.02)


def test_every_law_is_tried_here():
    assert {type(law) for law in EXAMPLES.values()} == set(LAWS.values())
    for law in EXAMPLES.values():
        assert set(law.units) == set(law.parameters)
        assert type(law).from_parameters(law.parameters) == law


def test_the_error_of_pieces_is_of_second_order(monkeypatch):
    """Halving the resolution divides the error by about four."""
    law, cosine = EXAMPLES["functional"].replace(memory=0.05), Cosine(steps=5000, peak_lr=0.02)
    exact = law.predict(history(cosine))[2999]
    errors = []
    for resolution in (1 / 16, 1 / 32, 1 / 64, 1 / 128):
        monkeypatch.setattr("latebloom.theory.landscapes.lr_history.RESOLUTION", resolution)
        errors.append(abs(law.loss(cosine, 3000)[0] - exact))
    slope = np.polyfit(np.log([16, 32, 64, 128]), np.log(errors), 1)[0]
    assert slope == pytest.approx(-2, abs=0.4)


def test_noise_is_that_of_the_area_law_at_tail_1():
    schedule = wsd(steps=400, peak_lr=0.02)
    found = history(schedule.lrs()).average(30.0, 1.0)[[99, 399]]
    assert found == pytest.approx(noise_response(schedule, [100, 400], 30.0), rel=KERNEL)


def test_river_valley_contains_the_functional_law():
    """Without saturation, cooling and delay, and with q = 1, the law is FSL of tail d + 1."""
    river = RiverValley(
        floor=2.0, amplitude=0.5, noise=0.3, exponent=0.6, saturation=1e12, delay=0.0, memory=9.0, tail=0.4,
        rate_power=1.0, cooling=0.0, reference_area=1.0, reference_lr=0.02,
    )  # fmt: skip
    same = FunctionalLaw(floor=2.0, amplitude=0.5, noise=0.3 / 0.02 * 0.4 * 9.0, exponent=0.6, memory=9.0, tail=1.4)
    assert river.loss(SCHEDULES["wsd"]) == pytest.approx(same.loss(SCHEDULES["wsd"]), rel=1e-9)


def test_runs_together_are_runs_alone():
    pairs = [(SCHEDULES["wsd"], [50, 600]), (SCHEDULES["stairs"], [299, 301, 450]), (Constant(steps=9, peak_lr=1), [9])]
    for law in EXAMPLES.values():
        alone = np.concatenate([law.loss(*pair) for pair in pairs])
        assert law.predict(histories(pairs)) == pytest.approx(alone, rel=KERNEL)


@pytest.mark.parametrize("name", LAWS)
def test_gradients_against_differences(name):
    law, past = EXAMPLES[name], history(SCHEDULES["wsd"], [100, 480, 590])
    for parameter, slope in law.gradient(past).items():
        value = getattr(law, parameter)
        h = 1e-5 * value
        up, down = (law.replace(**{parameter: value + s * h}).predict(past) for s in (1, -1))
        assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-9), parameter


def test_momentum_law_forgets_in_updates_and_functional_law_in_area():
    """After a drop, a ten times lower learning rate leaves the momentum law's recovery as it is and slows FSL's."""
    for name, ratio in (("momentum", 1), ("functional", 10)):
        law, waits = EXAMPLES[name], []
        for low in (1e-3, 1e-4):
            eta = np.concatenate([np.full(2000, 0.02), np.full(40_000, low)])
            signal = PowerLaw(floor=0, amplitude=law.amplitude, exponent=law.exponent)
            noise = law.loss(eta, np.arange(2000, 42_000, 10)) - signal.loss(eta, np.arange(2000, 42_000, 10))
            level = (
                noise[0] - 0.5 * (noise[0] - law.floor)
                if name == "functional"
                else noise[0] - 0.5 * 0.02 * law.gain * (1 - low / 0.02)
            )
            waits.append(10 * np.argmax(noise < level))
        assert waits[1] / waits[0] == pytest.approx(ratio, rel=0.15)


def test_tail_exponents_are_the_kernels():
    """Noise after a drop to (almost) zero falls with area as u^(1 - d): the slope on logarithmic axes."""
    law = FunctionalLaw(floor=0.0, amplitude=0.0, noise=1.0, exponent=1.0, memory=50.0, tail=1.7)
    eta = np.concatenate([np.full(100, 0.5), np.full(60_000, 1e-4)])  # area 50, then 6
    own = FunctionalLaw(floor=0.0, amplitude=0.0, noise=1.0, exponent=1.0, memory=50.0, tail=1.7)
    steps = np.array([10_000, 20_000, 40_000])
    constant = own.loss(np.full(60_000, 1e-4), steps)
    noise = law.loss(eta, steps + 100) - constant
    slope = np.polyfit(np.log(steps * 1e-4), np.log(noise), 1)[0]
    assert slope == pytest.approx(1 - 1.7, abs=0.12)  # finite area of the first phase bends it a little


class TestLawPair:
    small = EXAMPLES["functional"].replace(floor=2.5, amplitude=0.3)
    full = EXAMPLES["functional"]
    plan = tiny_plan(steps=400, tau=250, small=1, full=3)

    def law(self, **changes):
        return LawPair(**{"small_depth": 1, "full_depth": 3, "small": self.small, "full": self.full, **changes})

    def test_price_of_growing_is_the_area_law(self):
        """P(T) - L(T) = kappa B(S_T - S_tau) - B(S_T) with B the difference of the signals, written out."""
        schedule = self.plan.schedule
        for kappa in (0.0, 0.4, 1.0):
            law = self.law(kappa=kappa)
            price = law.loss(self.plan) - law.loss(fixed_depth(self.plan, name="f"))
            rest, total = float(schedule.remaining(250) * schedule.total_area), schedule.total_area
            assert float(price) == pytest.approx(0.2 * (kappa * rest**-0.6 - total**-0.6), rel=1e-9)

    def test_before_the_expansion_it_is_the_small_run(self):
        steps = [10, 250]
        small = fixed_depth(self.plan, name="s", depth=1)
        assert self.law().loss(self.plan, steps) == pytest.approx(self.law().loss(small, steps), rel=1e-12)
        assert self.law().loss(self.plan, 251) > self.law().loss(self.plan, 400)

    def test_bad_input(self):
        with pytest.raises(InputError, match=r"depth = 2: is unknown"):
            self.law().loss(tiny_plan(small=2))
        with pytest.raises(InputError, match="full_depth = 1: must be larger"):
            self.law(full_depth=1)
        with pytest.raises(InputError, match="small = 3.0: must be a loss law"):
            self.law(small=3.0)


class TestBestSchedule:
    def law(self, beta, source, memory=100.0):
        return FunctionalLaw(floor=0.0, amplitude=1.0, noise=20.0, exponent=source, memory=memory, tail=2 - 1 / beta)

    @pytest.mark.parametrize(("beta", "source"), [(1.5, 1.0), (3.0, 0.2)])
    def test_optimiser_and_closed_form_agree(self, beta, source):
        law = self.law(beta, source)
        closed = best_functional_schedule(law, steps=2000, peak_lr=0.05)
        found = best_schedule(law, steps=2000, peak_lr=0.05, pieces=30)
        assert closed.loss == pytest.approx(found.loss, rel=0.01)  # thirty pieces cannot be quite as good
        assert closed.loss <= found.loss * (1 + 1e-6)
        assert np.sum(closed.steps) == pytest.approx(2000)
        middle = np.cumsum(found.steps) - found.steps / 2
        of_closed = np.interp(middle, np.cumsum(closed.steps) - closed.steps / 2, closed.lr)
        assert np.average(np.abs(found.lr - of_closed), weights=found.steps) < 0.05 * 0.05

    def test_no_usual_schedule_is_better(self):
        law = self.law(1.5, 1.0)
        best = best_functional_schedule(law, steps=2000, peak_lr=0.05).loss
        for schedule in (wsd(steps=2000, peak_lr=0.05), wsd(steps=2000, peak_lr=0.05, decay=0.4),
                         Cosine(steps=2000, peak_lr=0.05), Cosine(steps=2000, peak_lr=0.03)):  # fmt: skip
            assert best < law.loss(schedule, 2000)[0]

    def test_easy_regime_decays_from_the_start_with_a_peak_that_falls_with_the_horizon(self):
        """Source above 1 - 1/beta: eta ~ (steps left)^(2 beta - 1), peak ~ T^-(a + 1 - d)/(a + 2 - d)."""
        beta, source = 1.5, 1.0
        law, tail = self.law(beta, source, memory=1e4), 2 - 1 / beta
        best = [best_functional_schedule(law, steps=t, peak_lr=100.0) for t in (1e5, 1e6, 1e7)]
        left = np.cumsum(best[1].steps[::-1])[::-1]
        part = (left > 0.2e6) & (left < 0.9e6)
        decay = np.polyfit(np.log(left[part] - best[1].steps[part] / 2), np.log(best[1].lr[part]), 1)[0]
        assert decay == pytest.approx(2 * beta - 1, rel=0.05)
        peak = np.polyfit(np.log([1e5, 1e6, 1e7]), np.log([b.lr.max() for b in best]), 1)[0]
        assert peak == pytest.approx(-(source + 1 - tail) / (source + 2 - tail), rel=0.05)

    def test_hard_regime_is_a_plateau_and_a_vanishing_decay(self):
        """Source below 1 - 1/beta: the largest learning rate, and a decay whose share falls with the horizon."""
        law = self.law(3.0, 0.2, memory=1e3)
        shares = []
        for steps in (1e4, 1e5, 1e6):
            best = best_functional_schedule(law, steps=steps, peak_lr=0.1)
            assert best.lr.max() == pytest.approx(0.1)
            shares.append(np.sum(best.steps[best.lr < 0.099]) / steps)
        assert shares[0] > shares[1] > shares[2]

    def test_bad_input(self):
        with pytest.raises(InputError, match="tail = 2.0: makes the decay an exponential"):
            best_functional_schedule(self.law(1.5, 1.0).replace(tail=2.0), steps=100, peak_lr=0.1)


def test_bad_input():
    law = EXAMPLES["functional"]
    for lr, message in (
        ([0.1, -0.1], "lr = -0.1: is not a learning rate"), ([0.1, np.nan], "lr = nan"), ([0.0, 0.0], "lr = 0.0"),
        ([[0.1]], "schedule"), ([], "schedule"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            law.loss(lr)
    for step, message in (
        (0, "step = 0: lies outside"),
        (601, "step = 601"),
        (1.5, "whole numbers"),
        (np.nan, "whole"),
    ):
        with pytest.raises(InputError, match=message):
            law.loss(SCHEDULES["wsd"], step)
    with pytest.raises(InputError, match="exponent = -1"):
        PowerLaw(floor=1.0, amplitude=1.0, exponent=-1.0)
    with pytest.raises(InputError, match="noise = nan"):
        law.replace(noise=float("nan"))


def test_a_decay_to_zero_and_a_new_rise_stay_finite():
    eta = np.concatenate([WSD(steps=200, peak_lr=0.02, decay_steps=50).lrs(), np.zeros(20), np.full(50, 0.01)])
    for law in EXAMPLES.values():
        assert np.all(np.isfinite(law.loss(eta)))
