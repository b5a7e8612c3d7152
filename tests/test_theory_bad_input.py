"""NaN, infinity, -1 and 0 for every numeric argument of every public function of theory: refused, or known to be fine.

:data:`CASES` holds one valid call of each function. A function of theory with a numeric argument that stands neither
there nor in :data:`NO_QUANTITIES` fails the test. In an array argument the last element is replaced.
"""

import importlib
import inspect
import re

import numpy as np
import pytest

from latebloom.theory import (
    bounds,
    decay_shapes,
    menu_plan,
    pilot_design,
    qualifying_exam,
    record,
    schedules,
    tradeoff,
    volterra,
)
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes import coupled, functional, lr_history, nqs, scaling
from latebloom.theory.plan import Stage

from .helpers import field_law, public_modules, tiny_plan
from .theory_calls import CALLS, Case

BAD = {"nan": np.nan, "inf": np.inf, "negative": -1, "zero": 0}


LRS = [0.5, 0.5, 0.25]
RUN = {"lrs": LRS, "distance": 1.0, "gradient": 1.0}
WSD = schedules.wsd(steps=100, peak_lr=0.01)
LONG = schedules.wsd(steps=400, peak_lr=0.05)
FIELD = field_law()
TARGET = tiny_plan(steps=400, tau=None, full=4).replace(schedule=LONG)
GROWTH = Stage(start_step=1, depth=4)
COUPLED = coupled.random_coupled(trunk=2, new=2, coupling=0.3)
FSL = functional.FunctionalLaw(floor=2.0, amplitude=0.3, noise=0.2, exponent=0.5, memory=2.0, tail=1.2)
PAST = lr_history.history(WSD, [50, 100])
NQS = nqs.NoisyQuadratic(
    floor=1.0, signal=1.0, signal_exponent=1.3, rate=0.5, rate_exponent=0.7, noise=1.0, noise_exponent=0.5
)
SIZE = scaling.SizeLaw(floor=1.5, size_amplitude=400, size_exponent=0.3, token_amplitude=400, token_exponent=0.3)
SHAPE = scaling.ShapeLaw(
    floor=1.0,
    width_amplitude=1.0,
    width_exponent=0.5,
    depth_amplitude=1.0,
    depth_exponent=0.5,
    token_amplitude=1.0,
    token_exponent=0.3,
    lr_exponent=0.1,
    noise=0.1,
    width_reference=256.0,
    depth_reference=8.0,
    token_reference=1e9,
    lr_reference=1e-3,
)
TRADE = tradeoff.Tradeoff(cost_ratio=0.2, trunk=1.0, trunk_exponent=0.3, fresh=0.5, fresh_exponent=0.3)
KERNEL = volterra.power_kernel(1.0, low=0.0, high=10.0, shift=1.0)
SUMS = {"gap": [0.5, 0.25], "weight": [1.0, 1.0]}
OF_SCHEDULE = {
    "lr": Case(WSD.lr, {"step": [0, 3]}, zero="step"),
    "area": Case(WSD.area, {"t": [0, 3]}, zero="t"),
    "area_inverse": Case(WSD.area_inverse, {"area": [0.0, 0.3]}, zero="area"),
    "remaining": Case(WSD.remaining, {"t": [0, 3]}, zero="t"),
    "with_steps": Case(WSD.with_steps, {"steps": 50}),
    "with_peak": Case(WSD.with_peak, {"peak": 0.5}),
}
PIECES = schedules.Piecewise(at=(0, 10), rate=(1.0, 0.5))
CYCLES = schedules.Cyclic(steps=10, peak_lr=1.0, period=5)
TAIL = schedules.Tail(base=WSD, start_step=50)

CASES = CALLS | {
    "bounds:last_iterate": Case(bounds.last_iterate, RUN, zero="lrs"),
    "bounds:last_iterate_curve": Case(bounds.last_iterate_curve, RUN | {"tolerance": 1e-6}, zero="lrs"),
    "bounds:meeting_area": Case(bounds.meeting_area, {"total": 2.0, "rho": 0.5}, zero="rho"),
    "bounds:meeting_step": Case(bounds.meeting_step, RUN | {"rho": 0.5}, zero="lrs rho"),
    "bounds:restarted": Case(bounds.restarted, RUN | {"tau": 1}, zero="lrs tau"),
    "decay_shapes:power_sum": Case(decay_shapes.power_sum, {"m": [1, 20], "exponent": 0.5}, zero="m exponent"),
    "landscapes.coupled:CoupledQuadratic.fixed": Case(
        COUPLED.fixed, {"step": [1, 5], "depth": 1}, zero="step", fixed={"schedule": WSD}
    ),
    "landscapes.coupled:CoupledQuadratic.grown": Case(
        COUPLED.grown, {"step": [1, 5], "tau": 3.0}, zero="step tau", fixed={"schedule": WSD}
    ),
    "landscapes.coupled:CoupledQuadratic.excess": Case(
        COUPLED.excess, {"remaining": [0.5, 0.5], "total": 1.0}, zero="remaining"
    ),
    "landscapes.coupled:CoupledQuadratic.mixing_area": Case(COUPLED.mixing_area, {"tolerance": 0.01, "total": 1.0}),
    "landscapes.coupled:CoupledQuadratic.full_after": Case(COUPLED.full_after, {"area": [0.5, 1.0]}, zero="area"),
    "landscapes.coupled:CoupledQuadratic.grown_after": Case(
        COUPLED.grown_after, {"phase_one": 0.5, "remaining": 0.5}, zero="phase_one remaining"
    ),
    "landscapes.coupled:CoupledQuadratic.retention": Case(
        COUPLED.retention, {"phase_one": 0.5, "remaining": 0.5}, zero="phase_one remaining"
    ),
    "landscapes.coupled:CoupledQuadratic.kappa": Case(
        COUPLED.kappa, {"phase_one": 0.5, "remaining": 0.5}, zero="phase_one remaining"
    ),
    "landscapes.coupled:CoupledQuadratic.descent": Case(
        COUPLED.descent, {"tau": 3}, zero="tau", fixed={"schedule": WSD}
    ),
    "landscapes.coupled:random_coupled": Case(
        coupled.random_coupled,
        {"trunk": 2, "new": 2, "coupling": 0.3, "exponent": 1.0, "grown": 0.0, "seed": 0},
        zero="coupling exponent grown seed",
        negative="exponent grown",
    ),
    "landscapes.functional:best_functional_schedule": Case(
        functional.best_functional_schedule,
        {"steps": 100.0, "peak_lr": 0.01, "pieces": 10},
        fixed={"law": FSL},
    ),
    "landscapes.lr_history:History.drive": Case(PAST.drive, {"power": 1.0}, zero="power", negative="power"),
    "landscapes.lr_history:History.power_modes": Case(
        PAST.power_modes, {"rates": np.array([1.0, 2.0]), "power": 1.0}, zero="rates power", negative="power"
    ),
    "landscapes.lr_history:History.response": Case(
        PAST.response, {"memory": 1.0, "tail": 1.0, "power": 1.0}, zero="power", negative="power"
    ),
    "landscapes.lr_history:History.average": Case(
        PAST.average, {"memory": 1.0, "tail": 1.0, "power": 1.0}, zero="power", negative="power"
    ),
    "landscapes.lr_history:history": Case(lr_history.history, {"schedule": LRS, "step": [1, 3]}, zero="schedule"),
    "landscapes.nqs:NoisyQuadratic.loss": Case(
        NQS.loss, {"parameters": [1e6, 1e6], "batch": 8.0, "steps": 100.0, "shape": [1.0, 0.5], "lr": 1.0}, zero="shape"
    ),
    "landscapes.nqs:NoisyQuadratic.terms": Case(
        NQS.terms,
        {"parameters": [1e6, 1e6], "batch": 8.0, "steps": 100.0, "shape": [1.0, 0.5], "lr": 1.0},
        zero="shape",
    ),
    "landscapes.nqs:cosine": Case(nqs.cosine, {"count": 4}),
    "landscapes.nqs:modes": Case(nqs.modes, {"parameters": np.array([100.0, 100.0])}),
    "landscapes.scaling:ShapeLaw.loss": Case(
        SHAPE.loss, {"width": 256.0, "depth": 8.0, "tokens": [1e9, 2e9], "lr": 1e-3}
    ),
    "landscapes.scaling:ShapeLaw.optimum": Case(
        SHAPE.optimum,
        {"compute": 1e19, "depth": (1.0, 200.0), "width": (16.0, 65536.0)},
        fixed={"parameters": lambda w, l: 12 * l * w * w, "lr": lambda w, l: 1e-3},
    ),
    "landscapes.scaling:SizeLaw.loss": Case(SIZE.loss, {"parameters": 1e8, "tokens": [1e9, 2e9]}),
    "landscapes.scaling:SizeLaw.optimum": Case(SIZE.optimum, {"compute": 1e19}),
    "plan:Plan.stage_at": Case(tiny_plan().stage_at, {"step": 3}, zero="step"),
    "qualifying_exam:constants": Case(qualifying_exam.constants, {"warmup": 0.02, "decay": 0.1}, zero="warmup"),
    "record:header": Case(record.header, {"seed": 1}, zero="seed", negative="seed", fixed={"plan": tiny_plan()}),
    **{f"schedules:Schedule.{name}": case for name, case in OF_SCHEDULE.items()},
    "schedules:Cyclic.with_steps": Case(CYCLES.with_steps, {"steps": 20}),
    "schedules:Piecewise.lr": Case(PIECES.lr, {"step": [0, 3]}, zero="step"),
    "schedules:Piecewise.with_peak": Case(PIECES.with_peak, {"peak": 0.5}),
    "schedules:Piecewise.with_steps": Case(PIECES.with_steps, {"steps": 20}),
    "schedules:Tail.lr": Case(TAIL.lr, {"step": [0, 3]}, zero="step"),
    "schedules:Tail.with_peak": Case(TAIL.with_peak, {"peak": 0.5}),
    "schedules:WSD.with_steps": Case(WSD.with_steps, {"steps": 50}),
    "schedules:wsd": Case(
        schedules.wsd, {"steps": 100, "peak_lr": 0.01, "warmup": 0.1, "decay": 0.1}, zero="warmup decay"
    ),
    "tradeoff:Tradeoff.tail": Case(TRADE.tail, {"horizon": [10.0, 100.0]}),
    "tradeoff:Tradeoff.grown_loss": Case(TRADE.grown_loss, {"horizon": 100.0, "tail": 10.0}),
    "tradeoff:Tradeoff.fixed_loss": Case(TRADE.fixed_loss, {"horizon": 100.0}),
    "tradeoff:Tradeoff.cost": Case(TRADE.cost, {"horizon": 100.0, "tail": 10.0}),
    "tradeoff:Tradeoff.iso_loss_gain": Case(TRADE.iso_loss_gain, {"horizon": 100.0}),
    "tradeoff:Tradeoff.wins": Case(TRADE.wins, {"horizon": 100.0}),
    "tradeoff:Tradeoff.best": Case(TRADE.best, {"compute": 100.0}),
    "tradeoff:timing_exponent": Case(
        tradeoff.timing_exponent,
        {"trunk_exponent": 0.3, "fresh_exponent": 0.3},
        zero="trunk_exponent fresh_exponent",
    ),
    "volterra:Grid.weights": Case(volterra.grid(0.1, 10.0).weights, {"exponent": 1.0, "shift": 1.0}, zero="shift"),
    "volterra:grid": Case(volterra.grid, {"low": 0.1, "high": 10.0, "tolerance": 1e-6, "exponent": (0.5, 1.0)}),
    "volterra:power_kernel": Case(
        volterra.power_kernel,
        {"exponent": 1.0, "low": 0.5, "high": 10.0, "shift": 1.0, "rate": 1.0, "tolerance": 1e-6},
        zero="low shift",
    ),
    "volterra:response": Case(
        volterra.response,
        SUMS | {"lag": [0.5, 0.5]},
        zero="gap weight lag",
        negative="weight",
        fixed={"kernel": KERNEL},
    ),
    "landscapes.field:FieldLaw.fixed": Case(
        type(FIELD).fixed, {"step": [10, 400], "depth": 4}, zero="step", fixed={"self": FIELD, "schedule": LONG}
    ),
    "landscapes.field:FieldLaw.grown": Case(
        type(FIELD).grown, {"step": [10, 400], "tau": 200}, zero="step tau", fixed={"self": FIELD, "schedule": LONG}
    ),
    "menu_plan:plan_from_menu": Case(
        menu_plan.plan_from_menu,
        {"budget": 1e10, "most_steps": 900, "seed": 1},
        zero="seed",
        fixed={"field": FIELD.field, "base": TARGET, "growth": GROWTH, "shares": (0.5,)},
    ),
    "pilot_design:design_pilots": Case(
        pilot_design.design_pilots, {"small_depth": 1}, zero="small_depth", fixed={"base": TARGET, "growth": GROWTH}
    ),
    "pilot_design:growth_is_ruled_out": Case(
        pilot_design.growth_is_ruled_out,
        {"budget": 1e10, "seed": 1},
        zero="seed",
        fixed={"field": FIELD.field, "base": TARGET},
    ),
    "pilot_design:pilot_plan": Case(
        pilot_design.pilot_plan,
        {"small_depth": 1, "depth": 4, "steps": 200, "tau": 100},
        zero="small_depth tau",
        fixed={"base": TARGET, "growth": GROWTH},
    ),
}

NO_QUANTITIES = {
    "architectures.tensors:matrix",  # lengths of axes, one a word
    "checks",  # the checks themselves: tests/test_theory_checks.py
    "fitting.annealed_ends:ends_of",  # depths that select among records
    "fitting.annealed_ends:trunk_curve_of",  # as ends_of
    "fitting.area:AreaFit.refit",  # called by the bootstrap, with numbers of its own
    "fitting.bootstrap:resampled_losses",
    "fitting.engine",  # what fits do inside, some thousand times
    "fitting.field_fit:FieldFit.bootstrap",  # draws nothing
    "fitting.field_fit:FieldFit.refit",
    "fitting.field_fit:FieldFit.report",  # its level is the interface's: the posterior's intervals are 90 %
    "fitting.field_kernel:Points.over",  # what fit_recovery_field has checked
    "fitting.field_kernel:field_runs",
    "fitting.landscape_fit:LandscapeFit.refit",
    "fitting.normalised:NormalisedFit.refit",
    "fitting.normalised:fit_normalised_pilots",  # its seed is the interface's: nothing is drawn
    "fitting.pair:PairFit.refit",
    "fitting.reuse:ReuseFit.refit",
    "fitting.readers:read_curves",  # files: tests/test_theory_readers.py
    "fitting.recovery_field:field_of_records",  # as ends_of and fit_recovery_field
    "fitting.sizes:fit_sizes",  # files: tests/test_theory_ask.py
    "growth_conditions:conditions_text",  # what smallest_budget returned
    "growth_conditions:smallest_budget",  # tests/test_theory_menu.py
    "landscapes.field:FieldLaw.tau_star",  # tests/test_theory_landscapes.py
    "landscapes.growth:GrowthLandscape.fixed",  # of the members
    "landscapes.growth:GrowthLandscape.grown",
    "landscapes.law:history_of_rates",  # complex numbers too
    "landscapes.lr_history:History.at",  # arrays that a law has computed, complex steps included
    "landscapes.lr_history:History.modes",
    "landscapes.lr_history:History.sums",
    "landscapes.normalised:mode_shapes",  # arrays that a law has computed
    "landscapes.nqs:loss_terms",
    "landscapes.scaling:log_ratios",
    "landscapes.scaling:shape_columns",
    "narrowing_pilot:narrowing_pilot",  # a tolerance that plan_expansion has checked
    "pilot_value:pilot_value",  # tests/test_theory_menu.py
    "record:values_record",  # None is a value that is not there
    "schedules:Tail.with_steps",  # refuses everything
    "spec:Spec.to_json",  # spaces of indentation
    "verdict:judge",  # its numbers are fields of the Verdict, validated there: tests/test_theory_verdict.py
}


def _numeric(function):
    for parameter in inspect.signature(function).parameters.values():
        text = str(parameter.annotation)
        if re.search(r"\b(float|int|complex|ArrayLike|Array|ndarray)\b", text) and not re.match(
            r"(Callable|Mapping|Sequence|dict)\b", text
        ):
            yield parameter.name


def _functions():
    """'module:function' or 'module:Class.method' of theory -> names of its numeric arguments."""
    table = {}
    for module_name in public_modules():
        short = module_name.removeprefix("latebloom.theory.")
        if short == module_name or short.split(".")[0].startswith(("derivations", "commands")):
            continue
        module = importlib.import_module(module_name)
        for name in module.__all__:
            item = getattr(module, name)
            if getattr(item, "__module__", None) != module_name:
                continue
            members = {name: item} if inspect.isfunction(item) else {}
            if inspect.isclass(item):
                members = {f"{name}.{key}": value for key, value in vars(item).items() if not key.startswith("_")}
            for label, member in members.items():
                if inspect.isfunction(member) and list(_numeric(member)):
                    table[f"{short}:{label}"] = list(_numeric(member))
    return table


FUNCTIONS = _functions()


def test_every_public_function_is_tried():
    missing = {key for key in FUNCTIONS if not {key, key.split(":")[0]} & (CASES.keys() | NO_QUANTITIES)}
    assert not missing, f"add a valid call to CASES: {sorted(missing)}"
    for key in CASES.keys() & FUNCTIONS.keys():
        assert set(FUNCTIONS[key]) - {"self"} <= set(CASES[key].arguments), f"{key}: give every numeric argument"


def test_the_list_of_exceptions_names_functions():
    assert {name for name in NO_QUANTITIES if not any(name in (key, key.split(":")[0]) for key in FUNCTIONS)} == set()
    assert not NO_QUANTITIES & CASES.keys()


@pytest.mark.parametrize("key", CASES)
def test_valid_call(key):
    CASES[key].call()


def _replaced(value, bad):
    if isinstance(value, list | tuple | np.ndarray):
        return [*value[:-1], bad] if not isinstance(value, np.ndarray) else np.array([*value[:-1], bad])
    return bad


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, case in CASES.items() for name in case.arguments])
def test_bad_numbers_are_refused(key, name):
    case, wrong = CASES[key], []
    for kind, number in BAD.items():
        try:
            case.call(**{name: _replaced(case.arguments[name], number)})
            refused = False
        except InputError:
            refused = True
        if refused == case.fine(kind, name):
            wrong.append(f"{kind}: refused" if refused else f"{kind}: taken")
    assert not wrong
