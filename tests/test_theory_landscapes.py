"""The one interface of a landscape in which a run may grow: every member answers alike, and the planner asks it."""

import json
import math

import numpy as np
import pytest

from latebloom.paper_figures import registry
from latebloom.theory import AreaLaw, AutoExpansion, Cosine, InputError, Signal, fixed_depth, plan_expansion, wsd
from latebloom.theory.cost import flops_per_token
from latebloom.theory.fitting.bootstrap import interval
from latebloom.theory.fitting.curves import LossCurve, pilots
from latebloom.theory.landscapes.coupled import random_coupled
from latebloom.theory.landscapes.functional import FunctionalLaw
from latebloom.theory.landscapes.growth import GrowthLandscape, with_area
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.landscapes.normalised import HitTimes, NormalisedLaw, delayed_area, floor_response
from latebloom.theory.landscapes.registry import FITTED, LANDSCAPES, fit_landscape, read_fitted, write_fitted
from latebloom.theory.landscapes.reuse import ReuseLaw
from latebloom.theory.online_expansion import rule_of_plan
from latebloom.theory.record import read_record
from latebloom.theory.schedules import Constant, Piecewise, Tail
from latebloom.theory.spec import decode
from tests.helpers import field_law, synthetic_record, tiny_plan, tiny_shape

SCHEDULE = wsd(steps=400, peak_lr=0.05)
TOTAL = SCHEDULE.total_area
WHOLE_STEP = 0.02  # nats that one update more or less can cost in these laws; pairs know whole updates only


def area(**changes):
    unit = {"onset": 0.02 * TOTAL, "reference": TOTAL}
    return AreaLaw(
        **{
            "small_depth": 1, "full_depth": 4, "floor": 2.0, "small_gap": 0.5, "kappa": 0.8,
            "trunk": Signal(amplitude=0.6, exponent=0.5, **unit), "fresh": Signal(amplitude=0.3, exponent=0.4, **unit),
        } | changes
    )  # fmt: skip


def normalised(hit=2.0, **changes):
    signal = HitTimes(weights=(0.3,), areas=(hit,))
    return NormalisedLaw(
        **{
            "small_depth": 1, "full_depth": 4, "floor": 2.0, "small_gap": 0.5, "fresh": signal, "regrown": signal,
            "lag": 10.0,
        } | changes
    )  # fmt: skip


def pair():
    small = FunctionalLaw(floor=2.5, amplitude=0.3, noise=2.0, exponent=0.5, memory=3.0, tail=1.4)
    return LawPair(small_depth=1, full_depth=4, small=small, full=small.replace(floor=2.0, amplitude=0.7), kappa=0.9)


def reuse(**changes):
    return ReuseLaw(
        **{
            "small_depth": 1, "full_depth": 4, "floor": 2.0, "small_gap": 0.1, "small_amplitude": 1.5,
            "small_exponent": 0.4, "amplitude": 2.0, "trunk_exponent": 0.2, "exponent": 0.6, "saturation": 0.05,
            "trunk_onset": 0.05 * TOTAL, "onset": 0.05 * TOTAL, "noise": 0.5,
        } | changes
    )  # fmt: skip


MEMBERS = {
    "area": area(),
    "normalised": normalised(hit=4.0, lag=1.0),
    "pair": pair(),
    "reuse": reuse(),
    "coupled": random_coupled(trunk=6, new=4, coupling=0.3),
    "field": field_law(),
}


def test_the_registry_names_every_member():
    assert set(MEMBERS) == set(LANDSCAPES)
    for name, member in LANDSCAPES.items():
        assert member.law.__struct_config__.tag == name
        assert isinstance(MEMBERS[name], member.law)
    assert FITTED == ("area", "normalised", "pair", "reuse", "field")


@pytest.mark.parametrize("name", MEMBERS)
class TestInterface:
    def test_grown_is_the_small_depth_up_to_tau(self, name):
        law, step = MEMBERS[name], np.array([[5, 100], [150, 150]])
        small = law.fixed(SCHEDULE, step, depth=1)
        assert small.shape == (2, 2)
        assert law.grown(SCHEDULE, step, tau=150) == pytest.approx(small, rel=1e-12)

    def test_loss_of_a_plan(self, name):
        law, plan = MEMBERS[name], tiny_plan(steps=400, tau=150, small=1, full=4).replace(schedule=SCHEDULE)
        assert law.loss(plan).shape == ()
        assert law.loss(plan) == law.grown(SCHEDULE, 400, tau=150)
        assert law.loss(plan, [10, 400]).tolist() == law.grown(SCHEDULE, [10, 400], tau=150).tolist()
        full = fixed_depth(plan, name="f")
        assert law.loss(full) == law.fixed(SCHEDULE, 400, depth=4)
        with pytest.raises(InputError, match="depth = 3: is unknown to a law of depths 1 and 4"):
            law.loss(tiny_plan(full=3, small=1))
        with pytest.raises(InputError, match="full_depth = 1: must be larger"):
            law.replace(full_depth=1)

    def test_tau_star_is_the_latest_step_within_the_tolerance(self, name):
        """At tau* growing costs the tolerance, and more at every later step; brute force over whole steps."""
        law = MEMBERS[name]
        full = float(law.fixed(SCHEDULE, 400, depth=4))
        price = np.array([float(law.grown(SCHEDULE, 400, tau=tau)) - full for tau in range(0, 400, 5)])
        tolerance = float(np.quantile(price, 0.6) + price.max()) / 2
        star = law.tau_star(SCHEDULE, tolerance)
        latest = 5 * np.flatnonzero(price <= tolerance)[-1]
        assert latest - 1 <= star <= latest + 6
        assert law.grown(SCHEDULE, 400, tau=star) - full == pytest.approx(tolerance, abs=WHOLE_STEP)
        left = law.area_to_leave(SCHEDULE, tolerance)
        assert left == pytest.approx(TOTAL - float(SCHEDULE.area(star)), rel=1e-9)

    def test_ends_of_tau_star(self, name):
        law = MEMBERS[name]
        assert law.tau_star(SCHEDULE, 1e9) == 400.0
        assert law.area_to_leave(SCHEDULE, 1e9) == 0.0
        assert law.tau_star(SCHEDULE, -1e9) is None
        with pytest.raises(InputError, match="tolerance = nan: must be finite"):
            law.tau_star(SCHEDULE, math.nan)

    def test_json_keeps_the_name(self, name):
        law = MEMBERS[name]
        assert json.loads(law.to_json())["landscape"] == name
        assert decode(law.to_json(), type(law)) == law
        assert all(math.isfinite(value) for value in law.parameters.values())
        assert "small_depth" not in law.parameters

    def test_online_rule_takes_it(self, name):
        """With rates and losses as planned, the rule decides at the law's own tau*, rounded up."""
        law = MEMBERS[name]
        rule = AutoExpansion(schedule=SCHEDULE, law=law, tolerance=0.05)
        assert decode(rule.to_json(), AutoExpansion) == rule
        final = float(law.fixed(SCHEDULE, 400, depth=4))
        star = law.tau_star(SCHEDULE, 0.05 * final)
        for step in range(5, 401, 5):
            loss = float(law.fixed(SCHEDULE, step, depth=1))
            rule = rule.observe(step=step, lr=float(SCHEDULE.lr(step - 1)), loss=loss)
            if rule.due:
                break
        assert star is not None
        assert rule.decided == pytest.approx(min(5 * math.ceil(star / 5), 400), abs=5)
        assert decode(rule.to_json(), AutoExpansion) == rule

    def test_planner_takes_it(self, name):
        law = MEMBERS[name]
        plan = plan_expansion(
            model=tiny_shape(), small_depth=1, full_depth=4, schedule=SCHEDULE, batch_tokens=64, law=law,
            resamples=[law, law], tolerance=0.05,
        )  # fmt: skip
        star = law.tau_star(SCHEDULE, 0.05 * float(law.fixed(SCHEDULE, 400, depth=4)))
        assert plan.tau == min(round(star), 399)
        assert plan.predicted.tau_star == star
        assert plan.predicted.final_loss == float(law.loss(plan))
        assert plan.predicted.tau_interval.low == plan.predicted.tau_interval.high == star


@pytest.mark.parametrize(
    ("schedule", "own", "by_area"),
    [(wsd(steps=1000, peak_lr=0.01), 762.5, 778), (Cosine(steps=1000, peak_lr=0.01), 356.8, 366)],
)
def test_the_planner_asks_the_law_of_normalised_steps_for_tau(schedule, own, by_area):
    """.020 nats are allowed. The step that leaves the law's *delayed* area costs up to twice that."""
    law = normalised()
    final = float(law.fixed(schedule, 1000, depth=4))
    plan = plan_expansion(
        model=tiny_shape(), small_depth=1, full_depth=4, schedule=schedule, batch_tokens=64, law=law,
        tolerance=0.02 / final,
    )  # fmt: skip
    assert plan.predicted.tau_star == pytest.approx(own, abs=0.1)
    assert float(law.grown(schedule, 1000, tau=own)) - final == pytest.approx(0.020, abs=1e-4)
    assert float(law.loss(plan)) - final == pytest.approx(0.020, abs=1e-3)  # tau is rounded to a whole step
    inverted = float(schedule.area_inverse(schedule.total_area - law.mixing_area(0.02, schedule.total_area)))
    assert inverted == pytest.approx(by_area, abs=0.5)
    assert float(law.grown(schedule, 1000, tau=inverted)) - final > 0.028


def test_the_area_law_inverts_exactly():
    law = area()
    for tolerance in (0.001, 0.02, 0.1):
        by_search = GrowthLandscape.tau_star(law, SCHEDULE, tolerance)
        assert law.tau_star(SCHEDULE, tolerance) == pytest.approx(by_search, abs=1e-3)


def test_old_online_states_are_read():
    """Until 2026-11-26 the law was an area law without a name."""
    rule = AutoExpansion(schedule=SCHEDULE, law=area()).observe(step=3, lr=0.05, loss=3.0)
    old = json.loads(rule.to_json())
    assert old["law"].pop("landscape") == "area"
    assert decode(json.dumps(old), AutoExpansion) == rule
    bare = AutoExpansion(schedule=SCHEDULE, mixing_area=2.0)
    assert decode(bare.to_json(), AutoExpansion) == bare
    with pytest.raises(InputError, match="landscape"):
        decode(json.dumps(old | {"law": {"landscape": "era"}}), AutoExpansion)


def test_rates_changed_on_the_way_count_for_any_law():
    """At half the rates the law of normalised steps is delayed less: it asks for less area, and gets no more."""
    law, schedule = normalised(), wsd(steps=1000, peak_lr=0.01)
    half = law.area_to_leave(schedule, 0.02, total=schedule.total_area / 2)
    assert half == law.area_to_leave(schedule.replace(peak_lr=0.005), 0.02)


@pytest.mark.parametrize(
    "schedule", [SCHEDULE, Piecewise(at=(0, 50, 100), rate=(0.0, 1.0, 0.2)), Tail(base=SCHEDULE, start_step=100)]
)
def test_with_area_multiplies_every_rate(schedule):
    scaled = with_area(schedule, 3.0)
    assert scaled.total_area == pytest.approx(3.0, rel=1e-12)
    assert scaled.lrs() == pytest.approx(schedule.lrs() * 3.0 / schedule.total_area, rel=1e-12)
    with pytest.raises(InputError, match="total = 0"):
        with_area(schedule, 0.0)


def records(law, *, peaks=(0.05, 0.025)):
    made = []
    for peak in peaks:
        base = tiny_plan(steps=400, tau=200, small=1, full=4).replace(schedule=wsd(steps=400, peak_lr=peak))
        plans = {"small": fixed_depth(base, name="s", depth=1), "full": fixed_depth(base, name="f"), "grown": base}
        for name, plan in plans.items():
            step = np.arange(10, 401, 10)
            made.append(synthetic_record(plan, step, law.loss(plan, step), name=f"{name}-{peak}"))
    return made


@pytest.mark.parametrize("name", [name for name in FITTED if name != "field"])  # its pilots have one peak: below
def test_each_fit_recovers_its_own_law(name, tmp_path):
    """Clean pilots at two rates: final losses at a rate between them within .5 %, and the fit survives its file."""
    truth = (
        MEMBERS[name]
        if name != "normalised"
        else normalised(hit=6.0, lag=1.0, trunk=HitTimes(weights=(0.4,), areas=(5.0,)))
    )
    fit = fit_landscape(name, records(truth), seed=0)
    assert type(fit.law) is type(truth)
    between = wsd(steps=400, peak_lr=0.035)
    for tau in (150, 300):
        expected = float(truth.grown(between, 400, tau=tau))
        assert float(fit.law.grown(between, 400, tau=tau)) == pytest.approx(expected, rel=5e-3)
    replicas = fit.bootstrap(replicas=2)
    assert [type(law) for law in replicas] == [type(truth)] * 2
    table = fit.report(replicas)
    assert set(table["parameters"]) == set(fit.law.parameters)
    assert fit.provenance().landscape == name
    assert len(fit.provenance().pilots) == 6
    write_fitted(fit, replicas, tmp_path / "law.json")
    kept = read_fitted(tmp_path / "law.json")
    assert (kept.law, kept.replicas, kept.pilots) == (fit.law, replicas, fit.digests)


def test_unknown_landscapes_are_refused():
    with pytest.raises(InputError, match="--law = 'aera': is not a landscape that is fitted to pilots; did you mean"):
        fit_landscape("aera", [])
    with pytest.raises(InputError, match="coupled"):
        fit_landscape("coupled", [])


def test_roles_of_pilots():
    measured = pilots(records(area()))
    assert [run.role for run in measured.runs] == ["small", "full", "grown"] * 2
    assert [run.tau for run in measured.of_role("grown")] == [200, 200]
    grown = measured.of_role("grown")[0]
    since = grown.schedule.area(grown.step[grown.step > 200]) - grown.schedule.area(200)
    assert np.all(since >= 0.1 * (grown.schedule.total_area - grown.schedule.area(200)))


def test_interval_is_the_central_share():
    found = interval(np.arange(101), level=0.8)
    assert (found.low, found.high) == pytest.approx((10.0, 90.0))
    assert found.level == 0.8


SIGNAL = Signal(amplitude=1.0, exponent=0.5, onset=1.0, reference=1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: area().mixing_area(x, 1.0) if math.isnan(x) else area().mixing_area(0.1, x),
        lambda x: area().mixing_area(0.1, x),
        lambda x: area().excess(x, 1.0),
        lambda x: area().excess(1.0, x),
        SIGNAL,
        lambda x: SIGNAL.inverse(x) if math.isnan(x) else SIGNAL(x),
        lambda x: HitTimes(weights=(1.0,), areas=(1.0,))(x),
        lambda x: HitTimes(weights=(1.0,), areas=(1.0,)).inverse(math.nan),
        lambda x: delayed_area(SCHEDULE, 10, lag=x),
        lambda x: floor_response(SCHEDULE, np.array([10]), x),
        lambda x: area().grown(SCHEDULE, 10, tau=x),
        lambda x: LossCurve(name="x", schedule=Constant(steps=9, peak_lr=1.0), step=np.array([1]), loss=np.array([x])),
    ],
)
@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_no_number_from_a_number_that_is_none(call, value):
    with pytest.raises(InputError):
        call(value)


def test_the_field_as_a_law_is_the_fields_mean():
    """Where pilots were run it says what they ended at, within their noise; both limits are exact."""
    law = field_law()
    for end in law.ends:
        schedule = wsd(steps=end.steps, peak_lr=0.05)
        said = (
            law.grown(schedule, end.steps, tau=end.tau) if end.tau else law.fixed(schedule, end.steps, depth=end.depth)
        )
        assert float(said) == pytest.approx(end.loss, abs=0.02)
    assert law.grown(SCHEDULE, 400, tau=0) == pytest.approx(law.fixed(SCHEDULE, 400, depth=4), rel=1e-12)
    assert law.grown(SCHEDULE, 400, tau=400) == pytest.approx(law.fixed(SCHEDULE, 400, depth=1), rel=1e-12)
    with pytest.raises(InputError, match="is not the depth of the small runs"):
        law.replace(small_depth=0)


@pytest.mark.parametrize("name", ["area", "field"])
def test_the_deadline_is_the_last_step_at_which_growing_pays(name):
    """Brute force over every fifth step: it ends below both depths of equal compute up to the deadline, not after."""
    law, ratio = MEMBERS[name], 0.3
    if name == "area":
        law = law.replace(small_gap=0.6)  # never growing catches up first; for the field the full depth does
    rule = AutoExpansion(schedule=SCHEDULE, law=law, tolerance=0.9, cost_ratio=ratio)

    def pays(tau):
        equal = ratio * tau + 400 - tau
        controls = [(1, round(equal / ratio)), (4, round(equal))]
        losses = []
        for depth, steps in controls:
            schedule = SCHEDULE.with_steps(steps).replace(warmup_steps=SCHEDULE.warmup_steps)
            losses.append(float(law.fixed(schedule, steps, depth=depth)))
        return float(law.grown(SCHEDULE, 400, tau=tau)) < min(losses)

    paying = [tau for tau in range(5, 400, 5) if pays(tau)]
    assert paying
    assert paying[-1] - 5 <= rule.deadline <= paying[-1] + 5
    for step in range(5, 401, 5):
        rule = rule.observe(step=step, lr=float(SCHEDULE.lr(step - 1)), loss=float(law.fixed(SCHEDULE, step, depth=1)))
        if rule.due:
            break
    assert rule.decided == pytest.approx(rule.deadline, abs=5)
    assert decode(rule.to_json(), AutoExpansion) == rule


def test_growing_that_never_pays_is_never_due():
    rule = AutoExpansion(schedule=SCHEDULE, law=area(small_gap=0.0), cost_ratio=0.3)
    assert rule.deadline is None
    for step in range(50, 401, 50):
        rule = rule.observe(step=step, lr=float(SCHEDULE.lr(step - 1)), loss=3.0)
    assert not rule.due
    with pytest.raises(InputError, match="sets a deadline by a law, and there is none"):
        AutoExpansion(schedule=SCHEDULE, mixing_area=1.0, cost_ratio=0.3)


# --- the online rule of a plan ----------------------------------------------------------------------------------------


def test_online_rule_of_a_plan_passes_the_field_and_the_price():
    plan = tiny_plan(steps=400, tau=150, small=1, full=4).replace(schedule=SCHEDULE)
    rule = rule_of_plan(plan, field_law())
    assert rule.law == field_law()
    assert rule.cost_ratio == pytest.approx(flops_per_token(plan.model, 1) / flops_per_token(plan.model, 4))
    assert decode(rule.to_json(), AutoExpansion) == rule
    for step in range(1, 401):
        rule = rule.observe(step=step, lr=float(SCHEDULE.lr(step - 1)), loss=3.0)
        if rule.due:
            break
    assert rule.deadline is not None and 0 < rule.decided <= rule.deadline
    with pytest.raises(InputError, match="depths 1 and 4, the plan grows 1 -> 3"):
        rule_of_plan(tiny_plan(steps=400, tau=150, small=1, full=3), field_law())
    with pytest.raises(InputError, match="must be two for an online expansion"):
        rule_of_plan(fixed_depth(plan, name="f"), field_law())
    with pytest.raises(InputError, match="needs a plan with a mixing area, or a landscape"):
        rule_of_plan(plan)


def test_tau_star_of_the_field_is_that_of_the_interface():
    law = field_law()
    for tolerance in (0.02, 0.05):
        assert law.tau_star(SCHEDULE, tolerance) == pytest.approx(
            GrowthLandscape.tau_star(law, SCHEDULE, tolerance), abs=2.0
        )
    assert law.tau_star(SCHEDULE, 10.0) == SCHEDULE.horizon
    assert law.tau_star(SCHEDULE, -10.0) is None


def test_field_is_fitted_kept_and_read(tmp_path):
    records = [read_record(path) for path in runs_of_the_demo("small-200", "small-400", "small-800", "full-200")]
    fit = fit_landscape("field", records)
    assert fit.bootstrap() == ()
    write_fitted(fit, (), tmp_path / "field.json")
    assert read_fitted(tmp_path / "field.json").law == fit.law
    table = fit.report(())
    assert table["parameters"]["noise"]["low"] <= table["parameters"]["noise"]["value"]
    row = table["parameters"]["full depth ends at"]
    assert row["low"] < row["value"] < row["high"] and any(
        "full depth ends" in line for line in table["identifiability"]
    )
    assert {row["role"] for row in table["runs"].values()} == {"small", "full"}
    assert max(row["worst"] for row in table["runs"].values()) < 0.01
    assert fit.refit(fit.runs, [run.loss for run in fit.runs], seed=0) == fit.law


def runs_of_the_demo(*names):
    return [registry.DATA / "demo_scale" / f"s0_{name}.parquet" for name in names]
