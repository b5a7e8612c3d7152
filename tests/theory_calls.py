"""Valid calls of theory's functions that need a law, pilots or a plan, for ``test_theory_bad_input.py``.

What takes time to make is made when it is first used.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from latebloom.theory import (
    ask,
    base_plan,
    controls,
    cost,
    decision,
    expansion,
    growth_conditions,
    limits,
    menu,
    optimum,
    pilot_value,
    plan_transfer,
    planning,
    schedule_report,
    schedules,
    scoring,
    timing,
    tradeoff,
    transfer,
    verdict,
    words,
)
from latebloom.theory.architectures import model_config, tensors
from latebloom.theory.config import PlanConfig
from latebloom.theory.fitting import area as area_fitting
from latebloom.theory.fitting import (
    bootstrap,
    curves,
    field_kernel,
    foreign_runs,
    laws,
    normalised,
    pair,
    readers,
    recovery_field,
    reuse,
)
from latebloom.theory.fitting import scaling as scaling_fitting
from latebloom.theory.landscapes import FunctionalLaw, PowerLaw, area, effective_rate, growth, nqs, registry
from latebloom.theory.landscapes import law as law_interface
from latebloom.theory.landscapes import normalised as normalised_law
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.landscapes.reuse import ReuseLaw
from latebloom.theory.online_expansion import AutoExpansion
from latebloom.theory.plan import Optimizer

from .helpers import tiny_plan, tiny_shape
from .test_theory_fit import records
from .test_theory_menu import field_of, gpt, menu_of
from .test_theory_normalised import modes
from .test_theory_planning import law as area_law


@dataclass(frozen=True)
class Case:
    """A valid call, and for which arguments (names, separated by blanks) a bad value is valid too."""

    function: object
    arguments: dict
    zero: str = ""
    negative: str = ""
    fixed: dict = field(default_factory=dict)  # arguments that are no numbers

    def call(self, **changes):
        return self.function(**(self.fixed | self.arguments | changes))

    def fine(self, kind, name):
        return name in {"zero": self.zero, "negative": self.negative}.get(kind, "").split()


TRADE = tradeoff.Tradeoff(cost_ratio=0.2, trunk=1.0, trunk_exponent=0.3, fresh=0.5, fresh_exponent=0.3, small_gap=0.1)
WSD = schedules.wsd(steps=100, peak_lr=0.01)
SHAPE = tiny_shape()
PLAN = tiny_plan(steps=400, tau=200, full=6)
AREA = area_law()
HITS = modes(lag=2.0)
FUNCTIONAL = FunctionalLaw(floor=2.0, amplitude=0.3, noise=0.2, exponent=0.5, memory=2.0, tail=1.2)
PAIR = LawPair(small_depth=1, full_depth=3, small=FUNCTIONAL.replace(floor=2.5), full=FUNCTIONAL)
REUSE = ReuseLaw(
    small_depth=1, full_depth=3, floor=2.0, small_gap=0.1, small_amplitude=1.5, small_exponent=0.4, amplitude=2.0,
    trunk_exponent=0.2, exponent=0.6, saturation=0.05, trunk_onset=1.0, onset=1.0,
)  # fmt: skip
AREAS = {"remaining": [0.1, 0.2], "total": 1.0}
EXPONENTS = {"a": 0.34, "b": 0.28}
COLUMNS = {
    "parameters": [1e7, 2e7, 4e7, 8e7, 1.6e8, 3.2e8, 3e7, 5e7, 9e7, 2e8],
    "tokens": [1e9, 4e9, 2e9, 8e9, 3e9, 6e9, 5e9, 2e9, 3e9, 7e9],
    "loss": [3.9, 3.5, 3.4, 3.0, 3.0, 2.8, 3.3, 3.4, 3.2, 2.9],
}
LOSS_CURVE = curves.LossCurve(name="c", schedule=WSD, step=np.arange(10, 101, 10), loss=3 - np.arange(10) / 20)
SLOW_CURVE = curves.LossCurve(
    name="s", schedule=schedules.wsd(steps=100, peak_lr=0.005), step=LOSS_CURVE.step, loss=LOSS_CURVE.loss + 0.2
)
pilots = functools.cache(records)


@functools.cache
def law_fit():
    other = curves.LossCurve(name="d", schedule=WSD.with_steps(50), step=np.arange(5, 51, 5), loss=LOSS_CURVE.loss)
    return laws.fit_law(PowerLaw, [LOSS_CURVE, other])


@functools.cache
def area_fit():
    return area_fitting.fit_area_law(pilots())


@functools.cache
def replicas():
    return area_fit().bootstrap(replicas=3)


@functools.cache
def committed():
    """Field, menu, plan and budget of one of the committed experiments."""
    experiment = gpt(0)
    return field_of(experiment), menu_of(experiment), experiment.plan, experiment.ends["grown-360"].flops


def made_by(function, *arguments):
    """``function`` with what ``arguments`` return when it is called."""

    def call(**numbers):
        return function(*(argument() for argument in arguments), **numbers)

    return call


CALLS = {
    "architectures.model_config:model_of": Case(
        model_config.model_of, {"vocab_size": 99}, fixed={"config": model_config.ModelConfig(model="gpt2-tiny")}
    ),
    "architectures.tensors:bias": Case(tensors.bias, {"size": 3}, fixed={"name": "b"}),
    "architectures.tensors:gain": Case(tensors.gain, {"size": 3}, fixed={"name": "g"}),
    "architectures.tensors:token_matrices": Case(
        tensors.token_matrices, {"vocab_size": 3, "width": 2}, fixed={"tied": False}
    ),
    "ask:answer": Case(
        ask.answer,
        {"flops": 1e10, "peaks": (0.01, 0.02), "tolerance": 0.01},
        fixed={"plan": PLAN, "fitted": [registry.FittedLandscape(law=AREA)]},
    ),
    "base_plan:base_plan": Case(
        base_plan.base_plan,
        {"vocab_size": 99},
        fixed={
            "model": model_config.ModelConfig(model="gpt2-tiny"),
            "config": PlanConfig(steps=100, batch_tokens=64, peak_lr=0.1),
            "optimizer": Optimizer(),
        },
    ),
    "controls:compared": Case(controls.compared, {"depths": (2,)}, zero="depths"),
    "controls:depths_between": Case(controls.depths_between, {"small_depth": 1, "full_depth": 6}, zero="small_depth"),
    "menu:branch_schedule": Case(menu.branch_schedule, {"steps": 50, "tau": 20}, zero="tau", fixed={"schedule": WSD}),
    "controls:Control.at": Case(controls.CONTROLS["small"].at, {"depth": 2}, zero="depth"),
    "controls:cold_start": Case(controls.cold_start, {"depth": 2}, zero="depth", fixed={"plan": PLAN, "name": "n"}),
    "controls:equal_compute": Case(
        controls.equal_compute, {"depth": 2}, zero="depth", fixed={"plan": PLAN, "name": "n"}
    ),
    "controls:fixed_depth": Case(controls.fixed_depth, {"depth": 2}, zero="depth", fixed={"plan": PLAN, "name": "n"}),
    "cost:active_parameters": Case(cost.active_parameters, {"depth": 2}, zero="depth", fixed={"model": SHAPE}),
    "cost:depth_cost_ratio": Case(
        cost.depth_cost_ratio, {"small": 1, "full": 3}, zero="small full", fixed={"model": SHAPE}
    ),
    "cost:flops_per_token": Case(cost.flops_per_token, {"depth": 2}, zero="depth", fixed={"model": SHAPE}),
    "cost:parameters": Case(cost.parameters, {"depth": 2}, zero="depth", fixed={"model": SHAPE}),
    "cost:plan_flops": Case(cost.plan_flops, {"step": 3}, zero="step", fixed={"plan": PLAN}),
    "expansion:placement": Case(expansion.placement, {"old": 2, "new": 4}, zero="old", fixed={"order": "inter"}),
    "expansion:sources": Case(expansion.sources, {"old": 2, "new": 4}, fixed={"order": "inter"}),
    "fitting.area:fit_area_law": Case(
        made_by(area_fitting.fit_area_law, pilots), {"seed": 0, "starts": 2}, zero="seed"
    ),
    "fitting.bootstrap:interval": Case(
        bootstrap.interval,
        {"values": [1.0, 2.0], "level": 0.9, "estimate": 1.5},
        zero="values estimate",
        negative="values estimate",
    ),
    "fitting.curves:pilots": Case(made_by(curves.pilots, pilots), {"burn_in": 0.1}, zero="burn_in"),
    "fitting.curves:Pilots.check_points": Case(
        lambda **numbers: curves.pilots(pilots()).check_points(**numbers), {"fewest": 2, "parameters": 1}
    ),
    "fitting.landscape_fit:LandscapeFit.bootstrap": Case(
        lambda **numbers: area_fit().bootstrap(**numbers), {"replicas": 2, "seed": 0}, zero="replicas seed"
    ),
    "fitting.landscape_fit:LandscapeFit.left_open": Case(
        lambda **numbers: area_fit().left_open(replicas(), WSD, **numbers), {"level": 0.9}
    ),
    "fitting.landscape_fit:LandscapeFit.report": Case(
        lambda **numbers: area_fit().report(replicas(), **numbers), {"level": 0.9}
    ),
    "fitting.field_kernel:depth_share": Case(
        field_kernel.depth_share, {"depth": 2, "small_depth": 1, "full_depth": 4}, zero="small_depth"
    ),
    "fitting.laws:bootstrap_laws": Case(
        made_by(laws.bootstrap_laws, law_fit), {"replicas": 2, "seed": 0}, zero="replicas seed"
    ),
    "fitting.laws:carried_losses": Case(
        made_by(laws.carried_losses, law_fit), {"step": [10, 20]}, zero="", fixed={"schedule": WSD}
    ),
    "fitting.laws:fit_law": Case(
        laws.fit_law, {"seed": 0}, zero="seed", fixed={"kind": PowerLaw, "curves": [LOSS_CURVE]}
    ),
    "fitting.laws:held_out_errors": Case(
        lambda **numbers: laws.held_out_errors([PowerLaw], law_fit().curves, **numbers), {"seed": 0}, zero="seed"
    ),
    "fitting.laws:law_report": Case(made_by(laws.law_report, law_fit, lambda: (law_fit().law,) * 2), {"level": 0.9}),
    "fitting.normalised:fit_normalised": Case(
        normalised.fit_normalised,
        {"small_depth": 0, "full_depth": 3, "floor": 1.0},
        zero="small_depth floor",
        fixed={"full": [LOSS_CURVE, SLOW_CURVE], "noisy": False},
    ),
    "fitting.pair:fit_law_pair": Case(
        lambda **numbers: pair.fit_law_pair(pilots(), kind=PowerLaw, **numbers), {"seed": 0}, zero="seed"
    ),
    "fitting.reuse:fit_reuse_law": Case(
        lambda **numbers: reuse.fit_reuse_law(pilots(), **numbers), {"seed": 0, "starts": 1}, zero="seed"
    ),
    "fitting.foreign_runs:schedule_of_rates": Case(
        foreign_runs.schedule_of_rates,
        {"step": np.arange(5), "lr": np.array([0.1, 0.1, 0.1, 0.1, 0.05]), "steps": 5},
        zero="lr",
    ),
    "fitting.readers:block_means": Case(readers.block_means, {"points": 5}, fixed={"curve": LOSS_CURVE}),
    "fitting.readers:rates_from_log": Case(
        readers.rates_from_log,
        {"step": np.arange(5), "lr": np.array([0.1, 0.1, 0.1, 0.1, 0.05]), "updates": 5, "warmup": 0},
        zero="lr warmup",
    ),
    "fitting.recovery_field:RecoveryField.draws": Case(
        lambda **numbers: committed()[0].draws(committed()[0].points([1.0], [1.0], [4]), **numbers),
        {"number": 2, "seed": 0},
        zero="seed",
    ),
    "fitting.recovery_field:fit_recovery_field": Case(
        lambda **numbers: recovery_field.fit_recovery_field(committed()[0].ends, **numbers),
        {"full_depth": 4, "reference": 1.0},
    ),
    "fitting.scaling:fit_noisy_quadratic": Case(
        scaling_fitting.fit_noisy_quadratic,
        {**{k: COLUMNS[k] for k in ("parameters", "loss")}, "batch": [8.0, 16.0] * 5, "steps": [100.0, 300.0] * 5}
        | {"shape": [1.0, 0.5], "starts": 1, "seed": 0},
        zero="shape seed",
    ),
    "fitting.scaling:fit_shape_law": Case(
        scaling_fitting.fit_shape_law,
        {"width": [64, 128] * 5, "depth": [2, 4, 8, 16, 3] * 2, "tokens": COLUMNS["tokens"], "loss": COLUMNS["loss"]}
        | {"lr": [1e-3, 2e-3, 4e-3, 1e-3, 5e-3] * 2, "starts": 1, "seed": 0},
        zero="seed",
    ),
    "fitting.scaling:fit_size_law": Case(scaling_fitting.fit_size_law, COLUMNS | {"starts": 1, "seed": 0}, zero="seed"),
    "growth_conditions:growth_conditions": Case(
        lambda **numbers: growth_conditions.growth_conditions(committed()[0], committed()[2], shares=(0.5,), **numbers),
        {"budget": 5e12, "seed": 0},
        zero="seed",
    ),
    "landscapes.area:AreaLaw.fixed": Case(
        AREA.fixed, {"step": [1, 5], "depth": 1}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.area:AreaLaw.grown": Case(
        AREA.grown, {"step": [1, 5], "tau": 3.0}, zero="step tau", fixed={"schedule": WSD}
    ),
    "landscapes.area:AreaLaw.excess": Case(AREA.excess, AREAS, zero="remaining total"),
    "landscapes.area:AreaLaw.mixing_area": Case(
        AREA.mixing_area, {"tolerance": 0.01, "total": 30.0}, zero="tolerance", negative="tolerance"
    ),
    "landscapes.area:AreaLaw.area_to_leave": Case(
        AREA.area_to_leave,
        {"tolerance": 0.01, "total": 30.0},
        fixed={"schedule": WSD},
        zero="tolerance",
        negative="tolerance",
    ),
    "landscapes.area:AreaLaw.tau_star": Case(
        AREA.tau_star, {"tolerance": 0.01}, fixed={"schedule": WSD}, zero="tolerance", negative="tolerance"
    ),
    "landscapes.area:Signal.inverse": Case(AREA.fresh.inverse, {"value": 0.01}, zero="value", negative="value"),
    "landscapes.area:noise_response": Case(
        area.noise_response, {"step": np.array([1.0, 3.0]), "rate": 2.0}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.area:noise_segments": Case(area.noise_segments, {"count": 5}, fixed={"schedule": WSD}),
    "landscapes.effective_rate:turning_rates": Case(
        effective_rate.turning_rates,
        {"rates": [0.1, 0.2], "weight_decay": 0.1, "initial_size": 0.5},
        zero="rates weight_decay",
    ),
    "landscapes.growth:GrowthLandscape.loss": Case(AREA.loss, {"step": [1, 5]}, zero="step", fixed={"plan": PLAN}),
    "landscapes.growth:GrowthLandscape.tau_star": Case(
        HITS.tau_star, {"tolerance": 0.01}, fixed={"schedule": WSD}, zero="tolerance", negative="tolerance"
    ),
    "landscapes.growth:GrowthLandscape.area_to_leave": Case(
        HITS.area_to_leave,
        {"tolerance": 0.01, "total": 30.0},
        fixed={"schedule": WSD},
        zero="tolerance",
        negative="tolerance",
    ),
    "landscapes.growth:GrowthLandscape.check_depth": Case(AREA.check_depth, {"depth": 1}),
    "landscapes.growth:with_area": Case(growth.with_area, {"total": 2.0}, fixed={"schedule": WSD}),
    "landscapes.law:Law.loss": Case(FUNCTIONAL.loss, {"schedule": [0.1, 0.1, 0.05], "step": [1, 3]}, zero="schedule"),
    "landscapes.law:best_schedule": Case(
        law_interface.best_schedule, {"steps": 100.0, "peak_lr": 0.01, "pieces": 3}, fixed={"law": FUNCTIONAL}
    ),
    "landscapes.law_pair:LawPair.fixed": Case(
        PAIR.fixed, {"step": [1, 5], "depth": 1}, zero="", fixed={"schedule": WSD}
    ),
    "landscapes.law_pair:LawPair.grown": Case(
        PAIR.grown, {"step": [1, 5], "tau": 3.0}, zero="tau", fixed={"schedule": WSD}
    ),
    "landscapes.reuse:ReuseLaw.fixed": Case(
        REUSE.fixed, {"step": [1, 5], "depth": 1}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.reuse:ReuseLaw.grown": Case(
        REUSE.grown, {"step": [1, 5], "tau": 3.0}, zero="step tau", fixed={"schedule": WSD}
    ),
    "landscapes.normalised:HitTimes.inverse": Case(HITS.fresh.inverse, {"value": 0.01}, zero="value", negative="value"),
    "landscapes.normalised:NormalisedLaw.fixed": Case(
        HITS.fixed, {"step": [1, 5], "depth": 1}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.normalised:NormalisedLaw.grown": Case(
        HITS.grown, {"step": [1, 5], "tau": 3.0}, zero="step tau", fixed={"schedule": WSD}
    ),
    "landscapes.normalised:NormalisedLaw.excess": Case(HITS.excess, AREAS, zero="remaining total"),
    "landscapes.normalised:NormalisedLaw.mixing_area": Case(
        HITS.mixing_area, {"tolerance": 0.01, "total": 9.0}, zero="tolerance total", negative="tolerance"
    ),
    "landscapes.normalised:NormalisedLaw.learnt": Case(HITS.learnt, {"tau": 3.0}, zero="tau", fixed={"schedule": WSD}),
    "landscapes.normalised:delayed_area": Case(
        normalised_law.delayed_area,
        {"step": [1, 5], "lag": 2.0, "start": 0.0},
        zero="step lag start",
        fixed={"schedule": WSD},
    ),
    "landscapes.normalised:floor_response": Case(
        normalised_law.floor_response, {"step": np.array([1.0, 3.0]), "rate": 2.0}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.normalised:hit_area": Case(
        normalised_law.hit_area, {"sigma": [0.1, 0.25], "start": 0.1, "share": 1.0, "factors": 2}, zero="sigma start"
    ),
    "landscapes.nqs:segments_of": Case(nqs.segments_of, {"shape": [1.0, 0.5]}, zero="shape"),
    "landscapes.registry:fit_landscape": Case(
        lambda **numbers: registry.fit_landscape("area", pilots(), **numbers), {"seed": 0}, zero="seed"
    ),
    "limits:fixed_share": Case(limits.fixed_share, EXPONENTS),
    "limits:head_limit": Case(limits.head_limit, EXPONENTS | {"head": 0.5}, zero="head"),
    "limits:loss_equal_efficiency": Case(
        limits.loss_equal_efficiency,
        {
            "tau": 80.0,
            "small_steps": [50.0, 100.0],
            "small_losses": [4.0, 3.5],
            "full_steps": [25.0, 50.0],
            "full_losses": [4.0, 3.5],
        },
    ),
    "limits:loss_equal_limit": Case(limits.loss_equal_limit, EXPONENTS),
    "limits:one_expansion_limit": Case(limits.one_expansion_limit, EXPONENTS),
    "limits:path_share": Case(limits.path_share, EXPONENTS),
    "limits:prescribed_size_limit": Case(limits.prescribed_size_limit, EXPONENTS | {"size": 2.0}),
    "limits:served_limit": Case(limits.served_limit, EXPONENTS | {"served": 2.0}, zero="served"),
    "limits:transfer_efficiency": Case(
        limits.transfer_efficiency,
        {"loss": 3.0, "steps": 100.0, "tau": 50.0, "fixed_steps": [50.0, 100.0], "fixed_losses": [3.5, 2.8]},
    ),
    "limits:transfer_lead": Case(
        limits.transfer_lead,
        {"transfer_efficiency": 0.8, "price": 0.2, "tau": 100.0},
        zero="transfer_efficiency tau",
        negative="transfer_efficiency",
    ),
    "pilot_value:candidate_pilots": Case(
        lambda **numbers: pilot_value.candidate_pilots(committed()[0], committed()[2], **numbers), {"horizon": 400}
    ),
    "decision:decide": Case(lambda **numbers: decision.decide(*committed()[:3], **numbers), {"seed": 0}, zero="seed"),
    "menu:draws_of_arms": Case(
        lambda **numbers: menu.draws_of_arms(committed()[0], committed()[1], **numbers),
        {"number": 2, "seed": 0},
        zero="seed",
    ),
    "menu:equal_compute_menu": Case(
        lambda **numbers: menu.equal_compute_menu(committed()[2], **numbers),
        {"small_depth": 1, "full_depth": 4, "budget": 5e12, "most_steps": 10**6},
        zero="small_depth",
    ),
    "menu:schedule_for": Case(menu.schedule_for, {"steps": 50}, fixed={"schedule": WSD}),
    "online_expansion:AutoExpansion.observe": Case(
        AutoExpansion(schedule=WSD, mixing_area=0.1).observe,
        {"step": 1, "lr": 0.01, "loss": 3.0},
        zero="lr loss",
        negative="loss",
    ),
    "optimum:best_growth": Case(
        optimum.best_growth,
        {"compute": 400.0, "peaks": (0.01, 0.02)},
        fixed={"laws": {1: AREA}, "schedule": WSD, "cost_ratio": {1: 0.2}},
    ),
    "optimum:winning_window": Case(
        optimum.winning_window,
        {"cost_ratio": 0.2, "compute": (100.0, 1000.0), "accuracy": 0.1},
        fixed={"law": AREA, "schedule": WSD},
    ),
    "scoring:draws_of": Case(
        lambda **numbers: scoring.draws_of(committed()[0], {"a": committed()[2]}, **numbers),
        {"number": 3, "seed": 0},
        zero="seed",
    ),
    "scoring:pit": Case(
        scoring.pit, {"drawn": np.array([1.0, 2.0]), "measured": 1.5}, zero="drawn measured", negative="drawn measured"
    ),
    "scoring:quantiles": Case(scoring.quantiles, {"drawn": np.array([1.0, 2.0])}, zero="drawn", negative="drawn"),
    "tradeoff:Tradeoff.never_loss": Case(TRADE.never_loss, {"horizon": 100.0}),
    "transfer:HorizonFit.rate_at": Case(
        transfer.fit_horizon_exponent([100, 400, 1600], [0.04, 0.02, 0.01]).rate_at, {"steps": 100.0}
    ),
    "transfer:fit_horizon_exponent": Case(
        transfer.fit_horizon_exponent,
        {"steps": [100.0, 400.0, 1600.0], "rates": [0.04, 0.02, 0.01], "level": 0.9},
    ),
    "verdict:resolution": Case(verdict.resolution, {"noise": 0.01}, zero="noise"),
    "verdict:resolution_of_seeds": Case(
        verdict.resolution_of_seeds, {"standard_error": 0.01, "seeds": 4}, zero="standard_error"
    ),
    "plan_transfer:lr_rows": Case(plan_transfer.lr_rows, {"every": 100}, fixed={"plan": PLAN}),
    "plan_transfer:size_factors": Case(
        plan_transfer.size_factors,
        {"width": 32, "depth": 2},
        zero="depth",
        fixed={"optimizer": Optimizer(name="adamw")},
    ),
    "plan_transfer:transfer_factors": Case(
        plan_transfer.transfer_factors, {"width": 2.0, "depth": 2.0}, fixed={"optimizer": "adamw"}
    ),
    "planning:budget_step": Case(
        planning.budget_step,
        {"small_depth": 1, "budget": 0.8},
        zero="small_depth",
        fixed={"fixed": controls.fixed_depth(PLAN, name="f")},
    ),
    "planning:plan_expansion": Case(
        planning.plan_expansion,
        {"small_depth": 1, "full_depth": 6, "batch_tokens": 64, "mixing_area": 0.1, "tolerance": 0.01, "budget": None},
        zero="small_depth",
        fixed={"model": SHAPE, "schedule": WSD},
    ),
    "schedule_report:report": Case(schedule_report.report, {"warmup": 0}, zero="warmup", fixed={"plan": PLAN}),
    "timing:horizon_share": Case(
        timing.horizon_share, {"horizon": 100.0, "decay": 0.1, "mixing_area": 1.0, "reference_lr": 1.0}
    ),
    "timing:mixing_step": Case(
        timing.mixing_step,
        {"step": [1.0, 2.0], "progressive": [1.0, 1.0], "fixed": [1.0, 1.0], "tolerance": 0.1, "start": 0.0},
        zero="progressive fixed start",
        negative="progressive fixed",
    ),
    "timing:tau_cosine": Case(timing.tau_cosine, {"horizon": 100.0, "mixing_share": 0.1}),
    "timing:tau_star": Case(timing.tau_star, {"mixing_area": 0.1}, fixed={"schedule": WSD}),
    "timing:tau_wsd": Case(timing.tau_wsd, {"horizon": 100.0, "decay": 0.1, "mixing_share": 0.1}),
    "timing:timing_intervals": Case(
        timing.timing_intervals,
        {"tolerance": 0.01, "cost_ratio": 0.2, "level": 0.9},
        fixed={"schedule": PLAN.schedule, "laws": [AREA] * 10},
    ),
    "transfer:across_expansion": Case(
        transfer.across_expansion,
        {"small_depth": 1.0, "full_depth": 4.0, "alpha": 1.0, "signal_exponent": 0.5},
        zero="small_depth alpha",
        fixed={"optimizer": "adamw"},
    ),
    "transfer:batch_factor": Case(
        transfer.batch_factor, {"batch": 2.0, "critical_batch": 4.0}, fixed={"optimizer": "adamw"}
    ),
    "transfer:horizon_exponent": Case(transfer.horizon_exponent, {"signal_exponent": 0.5}),
    "transfer:misfit_cost": Case(transfer.misfit_cost, {"ratio": 2.0, "signal_exponent": 0.5}),
    "transfer:transfer": Case(
        transfer.transfer,
        {"alpha": 1.0, "horizon": 0.5, "critical_batch": 4.0},
        zero="alpha horizon",
        fixed={
            "base": transfer.Size(width=2, depth=2, steps=2, batch=2),
            "target": transfer.Size(width=4, depth=4, steps=4, batch=4),
            "optimizer": "adamw",
        },
    ),
    "words:amount_text": Case(words.amount_text, {"amount": 2.65e12, "digits": 3}, zero="amount"),
    "words:blocks_text": Case(
        lambda depth, later: words.blocks_text(depth, later), {"depth": 1, "later": 4}, zero="depth later"
    ),
    "words:count_text": Case(words.count_text, {"number": 4}, zero="number", fixed={"noun": "seed"}),
}
