"""When to expand and whether: closed forms against grid search and root finding, rates, limits, the online rule."""

import math

import numpy as np
import pytest

from latebloom.theory import AreaLaw, Constant, Cosine, InputError, Signal, fixed_depth, tau_star, wsd
from latebloom.theory.landscapes import FunctionalLaw
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.online_expansion import AutoExpansion
from latebloom.theory.optimum import best_growth, winning_window
from latebloom.theory.schedules import Piecewise
from latebloom.theory.spec import decode
from latebloom.theory.timing import horizon_share, mixing_step, tau_cosine, tau_wsd, timing_intervals
from latebloom.theory.tradeoff import Tradeoff, timing_exponent
from tests.helpers import tiny_plan

PAPER = Tradeoff(cost_ratio=0.0216, trunk=1.0, trunk_exponent=0.3, fresh=5.0, fresh_exponent=0.3)  # 0 -> 60 layers, 7B


def power_law(*, trunk=1.0, fresh=5.0, exponent=0.3, kappa=1.0, floor=2.0, noise=0.0, reference=1.0):
    return AreaLaw(
        small_depth=1, full_depth=4, floor=floor, small_gap=5.0, kappa=kappa, noise=noise, noise_rate=0.1,
        trunk=Signal(amplitude=trunk, exponent=exponent, onset=1e-9, reference=reference),
        fresh=Signal(amplitude=fresh, exponent=exponent, onset=1e-9, reference=reference),
    )  # fmt: skip


def grid_search(law, compute, points=100_001):
    """Least grown loss over tau/T at one compute, by looking everywhere."""
    x = np.linspace(0, 0.999, points)
    horizon = compute / (law.cost_ratio * x + 1 - x)
    loss = law.trunk * horizon**-law.trunk_exponent
    loss = loss + law.kappa * law.fresh * ((1 - x) * horizon) ** -law.fresh_exponent
    k = np.argmin(loss)
    return x[k], loss[k]


def edge(law, low, high):
    """Compute between two at which growing begins, or ceases, to end lowest."""
    before = law.best(low).lowest == "grown"
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if (law.best(middle).lowest == "grown") == before else (low, middle)
    return high


class TestTradeoff:
    def test_numbers_of_the_design(self):
        """n = .0216: tau* = .816 T, 5x in iterations and 1.15x in loss; n = .3145: no expansion at all."""
        best = PAPER.best(1000.0)
        assert best.grows
        assert best.tau / best.horizon == pytest.approx(0.816, abs=5e-4)
        assert best.iso_loss_gain == pytest.approx(1.147, abs=1e-3)
        assert best.iso_iteration_gain == pytest.approx(4.97, abs=0.01)
        dear = PAPER.replace(cost_ratio=0.3145)
        assert not dear.best(1000.0).grows
        assert not any(dear.wins(horizon) for horizon in np.geomspace(1, 1e15, 61))
        assert grid_search(dear, 1000.0)[0] == 0.0

    @pytest.mark.parametrize("exponents", [(0.3, 0.3), (0.2, 0.5), (0.5, 0.25)])
    @pytest.mark.parametrize("ratio", [0.0216, 0.1])
    @pytest.mark.parametrize("kappa", [0.6, 1.0])
    def test_optimum_is_that_of_a_grid_search(self, exponents, ratio, kappa):
        law = Tradeoff(
            cost_ratio=ratio,
            trunk=1.0,
            trunk_exponent=exponents[0],
            fresh=2.0,
            fresh_exponent=exponents[1],
            kappa=kappa,
        )
        for compute in (100.0, 1e5):
            best = law.best(compute)
            x, loss = grid_search(law, compute)
            if best.grows:
                assert best.tau / best.horizon == pytest.approx(x, abs=1e-4)  # four digits
                assert best.loss == pytest.approx(loss, rel=1e-9)
                assert law.cost(best.horizon, best.tail) == pytest.approx(compute, rel=1e-10)
            else:
                assert loss >= best.loss * (1 - 1e-9) or x < 0.02

    def test_iso_loss_and_iso_compute_are_one_condition(self):
        """Least cost at the optimum's own loss, by grid: the same tail."""
        best = PAPER.best(1000.0)
        horizon = np.geomspace(best.horizon / 2, best.horizon * 2, 20_001)
        left = (best.loss - PAPER.trunk * horizon**-0.3) / (PAPER.kappa * PAPER.fresh)
        tail = left ** (-1 / 0.3)
        cost = PAPER.cost_ratio * horizon + (1 - PAPER.cost_ratio) * tail
        assert horizon[np.argmin(cost)] == pytest.approx(best.horizon, rel=5e-4)
        assert cost.min() == pytest.approx(1000.0, rel=1e-6)

    def test_iso_loss_gain_closed_form(self):
        """[(1 + a)/(1 + kappa a r^-s)]^(1/s)/(n + (1 - n) r), the same at every horizon for equal exponents."""
        n, s, a = 0.0216, 0.3, 5.0
        r = (a * n / (1 - n)) ** (1 / (1 + s))
        gain = ((1 + a) / (1 + a * r**-s)) ** (1 / s) / (n + (1 - n) * r)
        for horizon in (10.0, 1e6):
            assert PAPER.iso_loss_gain(horizon) == pytest.approx(gain, rel=1e-9)

    @pytest.mark.parametrize("n", [0.16, 0.1667, 0.17])
    def test_condition_for_equal_exponents_on_both_sides(self, n):
        """kappa (A_x/A_w) n/(1 - n) < 1, that is n < 1/6 here."""
        assert PAPER.replace(cost_ratio=n).wins(1000.0) == (5 * n / (1 - n) < 1)

    def test_smallest_winning_horizon(self):
        law = PAPER.replace(fresh_exponent=0.5, fresh=300.0)
        closed = (0.5 * 300 / 0.3 * 0.0216 / 0.9784) ** (1 / 0.2)
        for horizon, wins in ((closed * 0.99, False), (closed * 1.01, True)):
            assert law.wins(horizon) is wins
            # the cost is that of a run grown just inside, so the comparison is at the edge itself
            x, loss = grid_search(law, horizon)
            assert (loss < law.fixed_loss(horizon) * (1 - 1e-9)) is wins or x < 0.05
        assert PAPER.wins(1.0)

    @pytest.mark.parametrize("gap", [0.02, 0.1, 0.5])
    def test_window_in_which_growing_ends_lowest(self, gap):
        """Below it the small depth alone ends lower, at its lower end both end alike; with equal exponents no end."""
        law = PAPER.replace(fresh=0.5, small_gap=gap)
        low = edge(law, 1.0, 1e15)
        run = law.best(low)
        assert run.loss == pytest.approx(float(law.never_loss(low / law.cost_ratio)), rel=1e-6)
        assert law.best(low * 0.9).lowest == "never grown"
        assert law.best(low * 1.1).lowest == law.best(low * 1000).lowest == "grown"
        _, loss = grid_search(law, low * 0.9)
        assert min(loss, float(law.fixed_loss(low * 0.9))) > float(law.never_loss(low * 0.9 / law.cost_ratio))

    def test_window_has_an_end_where_the_trunk_outlasts_the_new_layers_signal(self):
        """s_x < s_w: the new layers learn on when the trunk is done, so that at last the full depth alone is best."""
        law = Tradeoff(cost_ratio=0.1, trunk=1.0, trunk_exponent=0.5, fresh=0.3, fresh_exponent=0.3, small_gap=0.3)
        low, high = edge(law, 1.0, 100.0), edge(law, 100.0, 1e15)
        assert [law.best(c).lowest for c in (low * 0.9, low * 1.1, high * 0.9, high * 1.1)] == [
            "never grown", "grown", "grown", "fixed",
        ]  # fmt: skip
        assert all(law.replace(small_gap=1e-9).best(c).lowest != "grown" for c in np.geomspace(1, 1e15, 61))
        assert law.replace(small_gap=None).best(low * 0.9).never_loss is None
        with pytest.raises(InputError, match="small_gap = None: is needed"):
            law.replace(small_gap=None).never_loss(1.0)

    def test_kappa_above_one_can_lose_in_spite_of_an_inner_optimum(self):
        law = PAPER.replace(kappa=1.5)
        assert law.tail(1000.0) < 1000
        assert not law.wins(1000.0)
        assert grid_search(law, 1000.0)[1] > law.fixed_loss(1000.0)

    @pytest.mark.parametrize("exponents", [(0.3, 0.3), (0.2, 0.5), (0.6, 0.25)])
    def test_timing_scales_with_gamma(self, exponents):
        """T - tau* ~ T^gamma: fitted to grid searches at small horizons, used at a horizon 1000 times as large."""
        law = Tradeoff(cost_ratio=0.002, trunk=1.0, trunk_exponent=exponents[0], fresh=0.5, fresh_exponent=exponents[1])
        horizons, tails = [], []
        for compute in (50.0, 100.0, 200.0):
            x, _ = grid_search(law, compute, 400_001)
            horizons.append(compute / (0.002 * x + 1 - x))
            tails.append((1 - x) * horizons[-1])
        gamma, level = np.polyfit(np.log(horizons), np.log(tails), 1)
        assert gamma == pytest.approx(timing_exponent(*exponents), abs=5e-3)
        assert math.exp(level) * 1e6**gamma == pytest.approx(float(law.tail(1e6)), rel=0.05)


class TestAreaTiming:
    def test_horizon_law(self):
        """tau*/T = 1 - d/2 - u_mix/(eta_ref sqrt T): against the exact solver, and the rate -1/2 at which it closes."""
        gaps = []
        for horizon in (10_000, 40_000):
            peak = 0.5 / math.sqrt(horizon)
            exact = tau_star(wsd(steps=horizon, peak_lr=peak, warmup=0.0), 12.0) / horizon
            share = horizon_share(horizon, decay=0.1, mixing_area=12.0, reference_lr=0.5)
            assert share == pytest.approx(exact, abs=2 / horizon)
            gaps.append(1 - 0.05 - share)
        assert math.log(gaps[0] / gaps[1]) / math.log(4) == pytest.approx(0.5, abs=1e-9)

    def test_intervals(self):
        schedule = wsd(steps=2000, peak_lr=0.02)
        total = schedule.total_area
        laws = [power_law(fresh=0.05, kappa=k, reference=total) for k in np.linspace(0.95, 1.05, 41)]
        intervals = timing_intervals(schedule, laws, tolerance=0.01, cost_ratio=0.2)
        areas = sorted(law.mixing_area(0.01 * float(law.fixed(schedule, 2000, depth=4)), total) for law in laws)
        assert areas[0] < intervals.mixing_area.low < areas[3]
        assert areas[-4] < intervals.mixing_area.high < areas[-1]
        assert intervals.tau.low == pytest.approx(tau_star(schedule, intervals.mixing_area.high), abs=2)
        assert intervals.saving.high == pytest.approx(0.8 * intervals.tau.high / 2000, rel=1e-12)
        assert intervals.never == 0
        never = [power_law(fresh=0.5, kappa=3.0, reference=total)] * 5 + laws
        with pytest.raises(InputError, match="unidentified: 11% of the resamples never mix in 2000 steps; add a pilot"):
            timing_intervals(schedule, never, tolerance=0.01, cost_ratio=0.2)


class TestOptimum:
    def test_is_the_closed_form_for_power_laws(self):
        found = best_growth(
            {1: power_law()}, schedule=Constant(steps=9, peak_lr=1.0), compute=1000.0, cost_ratio={1: 0.0216},
            peaks=(1.0, 1.0),
        )  # fmt: skip
        best = PAPER.best(1000.0)
        assert found.loss - 2 == pytest.approx(best.loss, rel=1e-4)  # whole steps
        assert found.tau / found.steps == pytest.approx(best.tau / best.horizon, abs=5e-3)  # a flat minimum
        assert found.fixed_loss - 2 == pytest.approx(best.fixed_loss, rel=1e-6)
        assert found.grows

    def test_peaks_are_chosen_for_both_runs(self):
        """No neighbouring peak or share is better; the fixed run has its own best peak."""
        law = power_law(noise=0.5)
        laws, costs = {1: law, 2: law.replace(small_depth=2, fresh=law.fresh.replace(amplitude=3.0))}, {1: 0.02, 2: 0.3}
        schedule = wsd(steps=100, peak_lr=1.0)
        found = best_growth(laws, schedule=schedule, compute=200.0, cost_ratio=costs, peaks=(0.01, 50.0))
        assert not found.at_edge

        def grown(x, peak):
            t = round(200 / (costs[found.small_depth] * x + 1 - x))
            return float(
                laws[found.small_depth].grown(schedule.with_steps(t).replace(peak_lr=peak), t, tau=max(x, 0) * t)
            )

        x, peak = found.tau / found.steps, found.peak_lr
        nearby = [grown(x + dx, peak * f) for dx in (-0.05, 0, 0.05) for f in (0.8, 1, 1.25)]
        assert found.loss <= min(nearby) + 1e-4
        fixed = [
            float(law.fixed(schedule.with_steps(200).replace(peak_lr=found.fixed_peak_lr * f), 200, depth=4))
            for f in (0.9, 1.1)
        ]
        assert found.fixed_loss < min(fixed)
        assert found.peak_lr != pytest.approx(found.fixed_peak_lr, rel=0.05)

    def test_any_pair_of_loss_laws(self):
        """A pair's grown run is that of the plan, and the optimum is no worse than its neighbours."""
        small = FunctionalLaw(floor=2.6, amplitude=1.0, noise=0.05, exponent=0.3, memory=0.5, tail=1.5)
        law = LawPair(small_depth=1, full_depth=3, small=small, full=small.replace(floor=2.0, amplitude=4.0))
        plan = tiny_plan(steps=200, tau=130, peak_lr=0.1)
        assert law.grown(plan.schedule, 200, tau=130) == pytest.approx(float(law.loss(plan)), rel=1e-12)
        whole = law.loss(fixed_depth(plan, name="f"))
        assert law.fixed(plan.schedule, 200, depth=3) == pytest.approx(float(whole), rel=1e-12)
        found = best_growth(
            {1: law}, schedule=plan.schedule, compute=60.0, cost_ratio={1: 0.05}, peaks=(0.01, 10.0)
        )  # fmt: skip
        assert found.grows
        assert 0.2 < found.tau / found.steps < 0.95
        for share in (-0.1, 0.0, 0.04):
            x = found.tau / found.steps + share
            steps = round(60 / (0.05 * x + 1 - x))
            near = plan.schedule.with_steps(steps).replace(peak_lr=found.peak_lr)
            assert found.loss <= float(law.grown(near, steps, tau=x * steps)) + 1e-3
        assert law.grown(plan.schedule, [100, 130], tau=130) == pytest.approx(small.loss(plan.schedule, [100, 130]))
        for tau in (-1, 201, math.nan):
            with pytest.raises(InputError, match="tau = .*: must be within"):
                law.grown(plan.schedule, 100, tau=tau)
        with pytest.raises(InputError, match="depth = 2: is unknown to a law of depths"):
            law.fixed(plan.schedule, 100, depth=2)

    def test_smallest_compute_at_which_growth_wins(self):
        """Against the closed form, exponents apart."""
        exact = PAPER.replace(fresh_exponent=0.6, fresh=50.0)
        law = power_law().replace(fresh=Signal(amplitude=50.0, exponent=0.6, onset=1e-9, reference=1.0))
        found, _ = winning_window(
            law, schedule=Constant(steps=9, peak_lr=1.0), cost_ratio=0.0216, compute=(20.0, 5000.0),
            accuracy=0.2, against="full",
        )  # fmt: skip
        closed = (0.6 * 50 / 0.3 * 0.0216 / 0.9784) ** (1 / 0.3)
        assert exact.wins(closed * 1.001) and not exact.wins(closed * 0.999)
        assert closed / 1.3 < found < closed * 2  # near the edge the two differ by less than whole steps resolve

    @pytest.mark.parametrize("against", ["full", "best"])
    def test_window_separates_winning_from_losing(self, against):
        """Equal exponents, a gap: the closed form's window, and both sides of its ends by the optimiser itself."""
        law = power_law().replace(small_gap=2.0)
        rule = {"schedule": Constant(steps=9, peak_lr=1.0), "cost_ratio": 0.0216, "accuracy": 0.05}
        window = winning_window(law, compute=(12.0, 2000.0), against=against, **rule)
        assert window is not None and window[1] == math.inf
        for factor in (0.8, 1.2):
            compute = window[0] * factor
            if compute < 12:
                continue
            best = best_growth(
                {1: law}, schedule=rule["schedule"], compute=compute, cost_ratio={1: 0.0216}, peaks=(1.0, 1.0)
            )
            assert (best.grows if against == "full" else best.wins) is (factor > 1)


class TestAutoExpansion:
    SCHEDULE = wsd(steps=1000, peak_lr=0.1)

    def run(self, rule, *, every=1, scale=lambda step: 1.0, loss=lambda step: 3.0, until=1000):
        for step in range(every, until + 1, every):
            rule = rule.observe(step=step, lr=scale(step) * float(self.SCHEDULE.lr(step - 1)), loss=loss(step))
            if rule.due:
                break
        return rule

    @pytest.mark.parametrize("every", [1, 7])
    def test_is_tau_star(self, every):
        rule = self.run(AutoExpansion(schedule=self.SCHEDULE, mixing_area=20.0), every=every)
        exact = tau_star(self.SCHEDULE, 20.0)
        assert exact <= rule.decided < exact + every
        assert not rule.late

    def test_law_with_the_live_level(self):
        """A run 0.5 nats above the law tolerates more, and expands later than the plan: exactly by the law's area."""
        total = self.SCHEDULE.total_area
        law = power_law(fresh=0.05, reference=total)
        for offset in (0.0, 0.5):
            rule = self.run(
                AutoExpansion(schedule=self.SCHEDULE, law=law),
                loss=lambda step, o=offset: float(law.fixed(self.SCHEDULE, step, depth=1)) + o,
                every=10,
            )
            final = float(law.fixed(self.SCHEDULE, 1000, depth=4)) + offset
            area = law.mixing_area(0.01 * final, total)
            assert rule.decided == 10 * math.ceil(tau_star(self.SCHEDULE, area) / 10)

    def test_learning_rates_changed_by_hand(self):
        """Halved after 300 steps: the area that is left counts at half, and the expansion comes sooner."""
        rule = self.run(
            AutoExpansion(schedule=self.SCHEDULE, mixing_area=20.0), scale=lambda step: 1.0 if step <= 300 else 0.5
        )
        assert rule.decided == math.ceil(tau_star(self.SCHEDULE, 40.0))
        assert rule.area == pytest.approx(self.SCHEDULE.area(300) + 0.5 * (
            self.SCHEDULE.area(rule.decided) - self.SCHEDULE.area(300)), rel=1e-12)  # fmt: skip

    def test_is_causal_and_deterministic(self):
        """Two records that agree up to step 400 give the same state there, whatever follows."""
        law = power_law(fresh=0.05, reference=self.SCHEDULE.total_area)
        noise = np.random.default_rng(0).normal(size=1001)
        start = AutoExpansion(schedule=self.SCHEDULE, law=law)
        states = [
            self.run(start, loss=lambda step, s=sign: 3 + 0.1 * noise[step] + s * (step > 400), until=400)
            for sign in (-1, 1)
        ]
        assert states[0] == states[1]

    def test_survives_a_restart(self):
        law = power_law(fresh=0.05, reference=self.SCHEDULE.total_area)
        rule = self.run(AutoExpansion(schedule=self.SCHEDULE, law=law), loss=lambda step: 3 + 1 / step, until=300)
        again = decode(rule.to_json(), AutoExpansion)
        assert again == rule
        nexts = [r.observe(step=301, lr=0.1, loss=3.0) for r in (rule, again)]
        assert nexts[0] == nexts[1]

    def test_a_run_too_short_says_so(self):
        rule = AutoExpansion(schedule=self.SCHEDULE, mixing_area=500.0).observe(step=1, lr=0.005, loss=3.0)
        assert rule.due
        assert rule.late


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PAPER.replace(cost_ratio=1.0), r"cost_ratio = 1.0"),
        (lambda: PAPER.best(math.nan), r"compute = nan: must be positive and finite"),
        (lambda: PAPER.tail(-1.0), r"horizon = -1.0"),
        (lambda: timing_exponent(0.3, -1.0), r"exponent = "),
        (lambda: horizon_share(0.0, decay=0.1, mixing_area=1.0, reference_lr=1.0), r"horizon = "),
        (lambda: horizon_share(4.0, decay=0.1, mixing_area=9.0, reference_lr=1.0), r"mixing_share = 4.5"),
        (lambda: tau_wsd(10, 0.1, 0.96), r"mixing_share"),
        (lambda: tau_cosine(10, 0.5), r"mixing_share"),
        (lambda: tau_wsd(-1, 0.1, 0.1), r"horizon = -1: must be finite and positive"),
        (lambda: tau_wsd(math.nan, 0.1, 0.1), r"horizon = nan"),
        (lambda: tau_wsd(10, math.nan, 0.1), r"mixing_share"),
        (lambda: tau_cosine(math.inf, 0.2), r"horizon = inf"),
        (lambda: mixing_step([2, 1], [1.0, 1.0], [1.0, 1.0], tolerance=0.1, start=0), r"step = 1.0: must increase"),
        (lambda: mixing_step([1, 2], [1.0, 1.0], [1.0, 1.0], tolerance=math.nan, start=0), r"tolerance = nan"),
        (lambda: mixing_step([1, 2], [1.0, 1.0], [1.0, 1.0], tolerance=0.1, start=-1), r"start = -1"),
        (
            lambda: winning_window(power_law(), schedule=Constant(steps=9, peak_lr=1.0), cost_ratio=0.1,
                                   compute=(50.0, 20.0)),
            r"compute = \(50.0, 20.0\): must be a range",
        ),
        (lambda: mixing_step([1, 2], [1.0, math.nan], [1.0, 1.0], tolerance=0.1, start=0), r"progressive = nan"),
        (lambda: mixing_step([1, 2], [1.0, 1.0], [1.0, math.inf], tolerance=0.1, start=0), r"fixed = inf"),
        (lambda: timing_intervals(wsd(steps=9, peak_lr=1.0), [], tolerance=0.1, cost_ratio=0.1), r"too few resamples"),
        (
            lambda: best_growth({1: power_law()}, schedule=Cosine(steps=9, peak_lr=1.0), compute=100.0,
                                cost_ratio={2: 0.1}, peaks=(0.1, 1.0)),
            r"cost_ratio = \[2\]: needs one for each law",
        ),
        (
            lambda: best_growth({1: power_law()}, schedule=Piecewise(at=[0, 9], rate=[1.0, 1.0]), compute=100.0,
                                cost_ratio={1: 0.1}, peaks=(0.1, 1.0)),
            r"has no peak to choose",
        ),
        (lambda: AutoExpansion(schedule=wsd(steps=9, peak_lr=1.0)), r"mixing_area = None: or a law is needed"),
        (
            lambda: AutoExpansion(schedule=wsd(steps=9, peak_lr=1.0), mixing_area=1.0).observe(
                step=1, lr=0.1, loss=math.nan
            ),
            r"loss = nan: must be finite",
        ),
        (
            lambda: AutoExpansion(schedule=wsd(steps=9, peak_lr=1.0), mixing_area=1.0).observe(
                step=0, lr=0.1, loss=1.0
            ),
            r"step = 0: must be a whole number in \(0, 9\]",
        ),
        (
            lambda: AutoExpansion(schedule=wsd(steps=9, peak_lr=1.0), mixing_area=1.0).observe(
                step=1, lr=-0.1, loss=1.0
            ),
            r"lr = -0.1",
        ),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
