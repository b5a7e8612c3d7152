"""``simulate``: the mapping of a Plan on the toy, the claims, the records, the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from latebloom.sim import SGD, LowRank, simulate, toy_plan
from latebloom.sim.claims import Landscape, claim, simulated_tau_star
from latebloom.sim.commands import never_text, simulate_command
from latebloom.sim.mapping import _momentum_limit
from latebloom.sim.optimizers import initial_state, update_blocks_
from latebloom.theory.controls import cold_start, fixed_depth
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import (
    Base,
    GPT2Shape,
    Optimizer,
    Plan,
    Prediction,
    Stage,
    read_plan,
    write_plan,
)
from latebloom.theory.record import read_record
from latebloom.theory.schedules import Constant, Cosine, Linear, wsd

torch.set_num_threads(1)

ADAM = Optimizer(name="adamw", momentum=0.9)


def plan(*, stages=((1, 0), (4, 600)), schedule=None, init="random", optimizer=SGD, name="small") -> Plan:
    return Plan(
        name=name,
        model=GPT2Shape(name="tiny", width=32, heads=2, vocab_size=256, context=16),
        batch_tokens=64,
        schedule=schedule or wsd(steps=1000, peak_lr=0.02),
        stages=tuple(
            Stage(start_step=t, depth=n, init=init if i else "random") for i, (n, t) in enumerate(stages)
        ),
        optimizer=optimizer,
    )  # fmt: skip


def small(plan, **options):
    return simulate(plan, **{"seeds": 2, "family": LowRank(width=16, noise=0.05), "steps": 400} | options)


@pytest.mark.parametrize(
    "schedule", [wsd(steps=100_000, peak_lr=0.01), Cosine(steps=3000, peak_lr=1.0), Linear(steps=777, peak_lr=3.0)]
)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_tau_keeps_its_share_of_the_mass(schedule, share):
    """Half a toy step of the largest rate is the resolution."""
    given = plan(schedule=schedule, stages=((1, 0), (4, round(share * schedule.steps))))
    toy = toy_plan(given, LowRank(), steps=500, max_depth=8, optimizer=SGD)
    mass = float(given.schedule.remaining(given.tau)), float(toy.plan.schedule.remaining(toy.plan.tau))
    assert mass[0] == pytest.approx(mass[1], abs=toy.plan.schedule.peak / toy.plan.schedule.total_area)
    assert type(toy.plan.schedule) is type(schedule)
    assert toy.plan.steps == 500
    assert toy.original is given
    based = SGD.replace(transfer="spectral", base=Base(width=64))  # the toy's rate is its own, tuned nowhere else
    assert toy_plan(given, LowRank(), steps=500, max_depth=8, optimizer=based).plan.optimizer.base is None


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((0, 4), [0, 4]),
        ((1, 8), [1, 8]),
        ((0, 1, 12), [0, 1, 8]),
        ((1, 60), [1, 8]),
        ((2, 12, 60), None),
        ((12, 48), [2, 8]),
    ],
)
def test_depths(depths, expected):
    """Kept up to 8; scaled above, at least one block; refused where two stages would be one (2 and 12 of 60)."""
    given = plan(stages=[(depth, 100 * i) for i, depth in enumerate(depths)])
    family = LowRank()
    if expected is None:
        toy = toy_plan(given, family, steps=500, max_depth=8, optimizer=SGD)
        assert [s.depth for s in toy.plan.stages] == [1, 2, 8]
        with pytest.raises(InputError, match=r"stages\[1\].depth = 12: and 2 both become 1"):
            toy_plan(given, family, steps=500, max_depth=4, optimizer=SGD)
        return
    toy = toy_plan(given, family, steps=500, max_depth=8, optimizer=SGD)
    assert [s.depth for s in toy.plan.stages] == expected
    assert list(toy.depths.values()) == list(depths)


def test_costs_are_the_plans_own():
    """Tokens, FLOPs and the equal-compute horizon are those of the transformer, whatever the toy's depths."""
    given = plan(stages=((1, 0), (60, 600)))
    toy = toy_plan(given, LowRank(), steps=500, max_depth=8, optimizer=SGD)
    assert toy.flops(toy.plan, 500) == pytest.approx(plan_flops(given), rel=1e-12)
    assert toy.flops(toy.plan, 250) == pytest.approx(plan_flops(given, 500), rel=1e-12)
    share = plan_flops(given) / plan_flops(fixed_depth(given, name="fixed"))
    assert toy.equal_compute_steps(toy.plan.depth) == round(500 * share)


def test_what_does_not_fit_is_refused():
    family, given = LowRank(), plan()

    def mapped(p=given, **options):
        return toy_plan(p, **{"family": family, "steps": 500, "max_depth": 8, "optimizer": SGD} | options)

    with pytest.raises(InputError, match="fixed-depth plan"):
        mapped(fixed_depth(given, name="fixed"))
    with pytest.raises(InputError, match="fixed-depth plan"):
        mapped(cold_start(given, name="cold"))
    with pytest.raises(InputError, match=r"exceed the 6 modes .* use --width 8"):
        mapped(family=LowRank(width=6))
    with pytest.raises(InputError, match="steps = 5: are too few"):
        mapped(steps=5)
    with pytest.raises(InputError, match="give more --steps"):
        mapped(plan(stages=((1, 0), (2, 500), (4, 501))), steps=100)
    with pytest.raises(InputError, match=r"edge of stability eta_c = 1 .* depths \[1, 4\]"):
        mapped(peak_lr=1.0)
    assert mapped(peak_lr=0.999).plan.schedule.peak == 0.999
    for lr in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="lr = .* finite and positive"):
            mapped(peak_lr=lr)
    for name, value in (("seeds", 0), ("tolerance", 0.0), ("tolerance", 1.0)):
        with pytest.raises(InputError, match=name):
            simulate(given, **{name: value})


def test_claims_hold_from_zero_layers_without_noise():
    """Where the law is exact every claim must hold, the cold start must be the grown run, and theory be a number."""
    found = small(plan(stages=((0, 0), (4, 600))), family=LowRank(width=16, noise=0.0, batch=512), steps=600)
    assert [c.verdict for c in found.claims] == ["holds"] * 7
    assert not found.diverged
    by_name = {c.name: c for c in found.claims}
    assert by_name["retention over cold start"].simulated == pytest.approx(0.0, abs=1e-6)
    loss = by_name["final loss, area law"]
    assert loss.theory == pytest.approx(loss.simulated, rel=0.05)
    assert loss.interval.low <= loss.simulated <= loss.interval.high


def test_a_false_prediction_fails():
    """Copying is worse than the law, which knows fresh blocks only: a claim that cannot fail would prove nothing."""
    found = small(plan(init="copy"), seeds=3)
    verdict = next(c.verdict for c in found.claims if c.name == "final loss, area law")
    assert verdict.startswith("fails by")


def test_the_plans_own_rule_runs_too():
    found = small(plan(optimizer=ADAM))
    assert [toy.plan.optimizer.name for toy in found.toys] == ["sgd", "adamw"]
    assert [c.optimizer for c in found.claims] == ["sgd"] * 7 + ["adamw"] * 7


def test_plain_descent_and_the_plans_own_are_told_apart():
    heavy = Optimizer(name="sgd", momentum=0.9, nesterov=False)
    found = small(plan(optimizer=heavy))
    assert [c.optimizer for c in found.claims] == ["sgd"] * 7 + ["sgd_own"] * 7
    assert found.toys[1].plan.optimizer == heavy
    assert found.toys[1].eta_c == pytest.approx(19 * found.toys[0].eta_c)  # (1 + mu)/(1 - mu)
    with pytest.raises(InputError, match="different rules"):
        small(plan(), optimizers=(SGD, SGD))


@pytest.mark.parametrize("nesterov", [False, True])
def test_edge_of_stability_with_momentum(nesterov):
    """On a quadratic of curvature 1 the update stays below the limit (a 1 % step lower) and leaves above it."""
    optimizer = Optimizer(name="sgd", momentum=0.8, nesterov=nesterov, weight_decay=0.0)
    limit = 2.0 * _momentum_limit(optimizer)
    for share, leaves in ((0.99, False), (1.01, True)):
        w = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
        state = initial_state(optimizer, (w,))
        for _ in range(3000):
            update_blocks_(optimizer, (w,), (w.clone(),), state, lr=torch.tensor([share * limit], dtype=torch.float64))
        assert (abs(float(w)) > 1.0) == leaves


def test_runs_that_diverge_are_named_and_in_no_mean():
    """Single samples at 0.95 eta_c: gradient descent leaves, the seeds are listed, nothing is averaged."""
    found = small(plan(), family=LowRank(width=16, noise=0.5, batch=1), peak_lr=0.95, seeds=2)
    assert found.diverged
    assert {seed for _, seed, _ in found.diverged} <= {0, 1}
    assert all(c.verdict.startswith("not tested") for c in found.claims)
    assert all(c.simulated is None or np.isfinite(c.simulated) for c in found.claims)


def test_the_plans_own_tau_star_is_set_beside_the_toys():
    given = plan().replace(predicted=Prediction(tau_star=800.0))
    assert any("0.80 T by the plan's own landscape" in note for note in small(given).notes)


def test_simulation_is_reproducible():
    first, second = small(plan()), small(plan())
    assert first.claims == second.claims
    for a, b in zip(first.records, second.records, strict=True):
        assert a.header == b.header
        np.testing.assert_array_equal(a.columns["value"], b.columns["value"])


def test_records_hold_the_executed_plan():
    given = plan()
    found = small(given)
    record = next(r for r in found.records if r.header.name == "sgd/progressive/seed-1")
    toy = found.toys[0]
    assert record.plan == toy.plan
    assert record.header.plan_digest == toy.plan.digest
    assert record.header.config["original_plan_digest"] == given.digest
    assert record.header.seed == 1
    step, loss = record.curve()
    assert step[0] == 0
    assert record.final() == loss[-1]
    assert record.columns["flops"][-1] == pytest.approx(plan_flops(given), rel=1e-12)
    assert set(record.columns["depth"]) == {1, 4}


def test_claim_verdicts():
    """Both sides of every boundary."""
    common = {"optimizer": "sgd", "unit": "loss"}

    def verdict(theory, values, tolerance=0.1, **more):
        return claim("x", theory=theory, values=values, tolerance=tolerance, **common, **more).verdict

    assert verdict([1.0, 1.0], [1.09, 1.09]) == "holds"
    assert verdict([1.0, 1.0], [1.11, 1.11]) == "fails by 0.11 (+11%)"
    assert verdict([0.0, 0.0], [-0.2, -0.2]) == "fails by 0.2"
    assert verdict([1.0, 1.0], [1.0, 1.6]) == "not tested: 2 seeds scatter too much"
    assert verdict([1.0, 2.0], [1.05, 2.05]) == "holds"  # paired: the seeds differ, theory knows it
    assert verdict([1.0], [1.2]) == "fails by 0.2 (+20%)"
    assert verdict([None, None], [None, None]) == "holds"
    assert verdict([1.0, 1.0], [None, None]) == "fails: predicted, but reached by no seed"
    assert verdict([None, None], [1.0, 1.0]).startswith("fails: predicted never")
    assert verdict([1.0, 1.0], [1.0, None]) == "not tested: reached by 1 of 2 seeds"
    assert verdict([1.0], [1.0], diverged=1) == "not tested: 1 of 2 seeds diverged"
    assert verdict([], [], diverged=2) == "not tested: 2 of 2 seeds diverged"


def test_what_never_happens_is_a_sentence():
    never = claim(
        "step at which growing has caught up",
        optimizer="sgd",
        theory=[None],
        values=[None],
        tolerance=1.0,
        unit="steps",
    )
    assert never.holds
    assert never_text(never) == "sgd: the plan never catches up in the toy, as theory says there"


def test_landscape_inverts_itself():
    """On an exponential F under a constant rate everything has a closed form (trapezoids: 1e-3)."""
    schedule, rate, eps = Constant(steps=1000, peak_lr=0.01), 1.0, 0.05
    step = np.arange(1001)
    signal = 1.0 + np.exp(-rate * schedule.area(step))
    land = Landscape(schedule=schedule, step=step, signal=signal, loss=signal + 0.1, noise=0.1)
    area = -np.log(np.exp(-10) + eps * (1.1 + np.exp(-10)))
    assert land.mixing_area(eps) == pytest.approx(area, rel=1e-3)
    assert land.tau_star(eps) == pytest.approx(1000 - area / 0.01, rel=1e-3)
    assert land.final_loss(2.0) == pytest.approx(1.1 + np.exp(-2), rel=1e-3)
    assert land.tau_star(10.0) == 1000.0
    mixed = land.mixing_step(300, eps)
    s = mixed * 0.01
    assert np.exp(-(s - 3)) - np.exp(-s) == pytest.approx(eps * (1.1 + np.exp(-s)), rel=0.02)  # one step of 0.01
    assert land.mixing_step(900, eps) is None


def test_simulated_tau_star():
    assert simulated_tau_star([10, 20, 30], [0.0, 0.04, 0.08], 0.05) == pytest.approx(22.5)
    assert simulated_tau_star([10, 20, 30], [0.06, 0.0, 0.0], 0.05) is None
    assert simulated_tau_star([10, 20, 30], [0.0, 0.01, 0.02], 0.05) == 30.0


@pytest.mark.parametrize(
    ("tau", "excess", "eps"),
    [
        ([], [], 0.05),
        ([10, 5], [0.0, 0.1], 0.05),
        ([10, 20], [0.0], 0.05),
        ([10, 20], [0.0, float("nan")], 0.05),
        ([10, float("inf")], [0.0, 0.1], 0.05),
        ([10, 20], [0.0, 0.1], float("nan")),
        ([10, 20], [0.0, 0.1], -0.05),
    ],
)
def test_simulated_tau_star_refuses(tau, excess, eps):
    with pytest.raises(InputError):
        simulated_tau_star(tau, excess, eps)


def test_command(tmp_path):
    path, out = tmp_path / "plan.json", tmp_path / "out"
    write_plan(plan(name="my [run/1]"), path)
    assert read_plan(path) == plan(name="my [run/1]")
    arguments = [str(path), "--seeds", "2", "--steps", "200", "--width", "16", "--out", str(out)]
    result = CliRunner().invoke(simulate_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "area law" in result.output
    assert "claims hold" in result.output
    record = read_record(out / "sgd" / "progressive" / "seed-0")
    assert record.plan.steps == 200
    assert np.isfinite(record.final())
    rows = len(record)
    again = CliRunner().invoke(simulate_command, [*arguments, "--json"], catch_exceptions=False)
    claims = json.loads(again.stdout)
    assert claims["plan_digest"] == read_plan(path).digest
    assert claims["claims"] == json.loads((out / "claims.json").read_text())["claims"]
    assert len(read_record(out / "sgd" / "progressive" / "seed-0")) == rows  # replaced, not appended


def test_command_refuses_bad_input(tmp_path):
    with pytest.raises(InputError, match="cannot be read .No such file"):
        CliRunner().invoke(simulate_command, [str(tmp_path / "none.json")], catch_exceptions=False)
    path = tmp_path / "plan.json"
    path.write_text('{"name": "x", "stagess": []}')
    with pytest.raises(InputError, match="did you mean 'stages'"):
        CliRunner().invoke(simulate_command, [str(path)], catch_exceptions=False)
    write_plan(plan(), path)
    with pytest.raises(InputError, match="width"):
        CliRunner().invoke(simulate_command, [str(path), "--width", "0"], catch_exceptions=False)
    assert CliRunner().invoke(simulate_command, [str(path), "--seeds", "many"]).exit_code == 2
