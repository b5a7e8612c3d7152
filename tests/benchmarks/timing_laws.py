"""The league of timing laws: pilots of small compute predict which way to spend a larger one, real GPTs answer.

    python -m tests.benchmarks.timing_laws --json [--laws field,area]
    python -m tests.benchmarks.timing_laws --freeze    # before the targets are trained: writes studies/predictions

Everything comes from committed Records (``paper_figures/data/studies/STUDY/ARM-sSEED.parquet``) of the grids in
``studies/*.toml``. A *case* is one study, seed, way of growing (l -> L, initialisation, order) and amount of compute C.
Its arms are the fixed depths from l to L and the grown runs at C; its pilots the same at smaller C, at least three
horizons of the small depth. A case counts when its arms have Records, one that does not grow and one that does among
them. A law is given the pilots and answers with draws of the final loss of each arm:

    field        the planner's posterior (:mod:`latebloom.theory.fitting.recovery_field`), frozen in
                 ``studies/predictions/CASE.json`` before the targets were trained where that file is there
    field_now    today's planner on the same pilots, after the targets were trained
    area, ...    the other landscapes of :mod:`latebloom.theory.landscapes.registry`: the fitted law and bootstrap
                 replicas, each run with an error of :data:`RUN_ERROR`; fixed depths between l and L it does not know
    another_seed no law but a yardstick: the same arms at full compute, as measured on the study's other seeds; only
                 cases with such runs. What depends on the seed alone, no cheaper pilots can be expected to tell

    median_abs_gap_error         of P - F, nats: every grown run against every fixed one of its case that the law knows
    interval_coverage            share of those gaps within their 90 % intervals
    median_abs_tau_error_over_T  |x of the grown run expected lowest - x of the one that is| with x = tau/T
    median_regret                loss of the arm expected lowest minus the lowest measured, nats
    best_arm_rate                of cases in which runs tell the best arm apart, the share in which it was expected so
    brier                        mean over cases of sum over arms of (P(arm is lowest) - [it is])^2, 0 to 2
    cases                        how many; ``told_apart`` of ``--details`` says in how many the best arm is clear

Told apart: the best arm leads by more than two standard errors of the difference of two runs, :data:`RUN_ERROR` each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.recovery_field import ends_of, fit_recovery_field
from latebloom.theory.landscapes.registry import FITTED, fit_landscape
from latebloom.theory.plan import SCHEMA_VERSION, Plan, Prediction, Provenance, read_plan, write_plan
from latebloom.theory.prediction import JointDraws, MenuRow
from latebloom.theory.record import Record, header, read_record, values_record, write_parquet
from latebloom.theory.scoring import draws_of, quantiles
from latebloom.train.experiments.study import StudyArm, read_study, study_arms

ROOT = Path(__file__).resolve().parents[2]
STUDIES, RECORDS = ROOT / "studies", ROOT / "paper_figures" / "data" / "studies"
PREDICTIONS = STUDIES / "predictions"
DEFAULT = "field"
DRAWS = 1000  # of the field, 200 in files
REPLICAS = 30
FEWEST_SMALL = 3  # horizons of the small depth among pilots: a power law has three numbers
RUN_ERROR = 0.0012  # standard deviation of one run about its seed's mean, as a share of the loss: the field's typical
DECIMALS = 5  # of losses in files


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question: how to spend C, given pilots of less.

    Attributes:
        name: Of the file of its frozen prediction.
        small: l.
        full: L.
        pilots: Records of smaller compute.
        pilots_missing: How many such arms of the grid have no Record yet.
        plans: Of the arms, by name.
        measured: Final losses of the arms that have Records, nats.
    """

    name: str
    small: int
    full: int
    pilots: tuple[Record, ...]
    pilots_missing: int
    plans: dict[str, Plan]
    measured: dict[str, float]

    @property
    def is_measured(self) -> bool:
        """Whether a grown and a fixed arm were trained."""
        return {self.plans[arm].tau is None for arm in self.measured} == {True, False}


def cases(records: Path = RECORDS) -> list[Case]:
    """Every case whose pilots have Records.

    Args:
        records: A folder a study.
    """
    found = []
    for path in sorted(STUDIES.glob("*.toml")):
        study = read_study(path)
        once = [arm for arm in study_arms(study) if not arm.grown or arm.name.startswith("grown-")]
        for seed in study.seeds:
            arms = [(arm, _record(records / study.name / f"{arm.name}-s{seed}.parquet")) for arm in once]
            for small, full, how in sorted({_way(arm) for arm, _ in arms if arm.grown}):
                alike = [
                    (arm, record)
                    for arm, record in arms
                    if (_way(arm) == (small, full, how) if arm.grown else small <= arm.plan.depth <= full)
                ]
                for compute in sorted({arm.compute for arm, _ in alike if arm.grown}):
                    here = [(arm, record) for arm, record in alike if arm.compute == compute]
                    smaller = [record for arm, record in alike if arm.compute < compute]
                    pilots = tuple(record for record in smaller if record is not None)
                    horizons = {run.plan.steps for run in pilots if run.plan.tau is None and run.plan.depth == small}
                    if len(horizons) < FEWEST_SMALL or not any(run.plan.depth == full for run in pilots):
                        continue
                    found.append(
                        Case(
                            name=f"{study.name}-{small}-{full}-{how.replace(' ', '-')}-C{compute}-s{seed}",
                            small=small, full=full, pilots=pilots, pilots_missing=len(smaller) - len(pilots),
                            plans={arm.name: arm.plan for arm, _ in here},
                            measured={arm.name: record.final() for arm, record in here if record is not None},
                        )
                    )  # fmt: skip
    return found


@cache
def _record(path: Path) -> Record | None:
    return read_record(path) if path.exists() else None


def _way(arm: StudyArm) -> tuple[int, int, str]:
    last = arm.plan.stages[-1]
    return arm.plan.stages[0].depth, last.depth, f"{last.init} {last.order}"


# --- laws: from a case to draws of the final loss of each arm -------------------------------------------------------


def field_draws(case: Case, number: int = DRAWS) -> JointDraws:
    """The planner's posterior of what runs on the pilots' seed will show.

    Args:
        case: The question.
        number: How many draws.
    """
    ends = ends_of(case.pilots, small_depth=case.small, full_depth=case.full)
    reference = next(plan.schedule.total_area for plan in case.plans.values() if plan.depth == case.full)
    field = fit_recovery_field(ends, full_depth=case.full, reference=reference)
    return draws_of(field, case.plans, number=number)


def frozen_or_field_draws(case: Case) -> JointDraws:
    """The frozen prediction if there is one, else :func:`field_draws`."""
    path = PREDICTIONS / f"{case.name}.json"
    if not path.exists():
        return field_draws(case)
    frozen = read_plan(path).predicted.draws
    assert frozen is not None
    return frozen


def landscape_draws(name: str) -> Callable[[Case], JointDraws]:
    """Draws of a fitted landscape: bootstrap replicas, each run with an error of its own.

    Args:
        name: Of the landscape.
    """

    def drawn(case: Case) -> JointDraws:
        two = [run for run in case.pilots if {stage.depth for stage in run.plan.stages} <= {case.small, case.full}]
        fit = fit_landscape(name, two)
        plans = {arm: plan for arm, plan in case.plans.items() if plan.depth in (case.small, case.full)}
        laws = fit.bootstrap(replicas=REPLICAS)
        losses = np.array([[float(law.loss(plan)) for plan in plans.values()] for law in laws])
        at_optimum = np.array([float(fit.law.loss(plan)) for plan in plans.values()])
        losses += at_optimum - np.median(losses, axis=0)
        losses *= 1 + RUN_ERROR * np.random.default_rng(0).normal(size=losses.shape)
        return JointDraws(
            names=tuple(plans), measured=(True,) * len(plans), losses=tuple(tuple(row) for row in losses.tolist())
        )

    return drawn


def another_seed_draws(case: Case, among: Sequence[Case] | None = None) -> JointDraws:
    """The arms as the same study's other seeds measured them, each with an error of a run.

    Args:
        case: The question.
        among: Where the other seeds are looked for; None: committed Records.

    Raises:
        InputError: if no other seed has a grown and a fixed arm of this case.
    """
    question = case.name.rpartition("-s")[0]
    others = [
        other.measured
        for other in (cases() if among is None else among)
        if other.name.rpartition("-s")[0] == question and other.name != case.name and other.is_measured
    ]
    names = [name for name in case.plans if others and all(name in measured for measured in others)]
    if {case.plans[name].tau is None for name in names} != {True, False}:
        raise InputError("seeds", len(others), "measured no grown and fixed arm of this case", "train another seed")
    losses = np.array([[measured[name] for name in names] for measured in others])
    losses = np.repeat(losses, DRAWS // len(losses), axis=0)
    losses *= 1 + RUN_ERROR * np.random.default_rng(0).normal(size=losses.shape)
    return JointDraws(
        names=tuple(names), measured=(True,) * len(names), losses=tuple(tuple(row) for row in losses.tolist())
    )


LAWS: dict[str, Callable[[Case], JointDraws]] = {
    **{name: landscape_draws(name) for name in FITTED},
    "field": frozen_or_field_draws,
    "field_now": field_draws,
    "another_seed": another_seed_draws,
}  # fmt: skip


# --- scores ---------------------------------------------------------------------------------------------------------


def score(case: Case, draws: JointDraws) -> dict[str, Any]:
    """What one law's draws were worth in one case.

    Args:
        case: With measured arms.
        draws: Of the arms that the law knows.
    """
    names = [name for name in draws.names if name in case.measured]
    drawn = np.array(draws.losses)[:, [draws.names.index(name) for name in names]]
    measured = np.array([case.measured[name] for name in names])
    grown = np.array([case.plans[name].tau is not None for name in names])
    mean = drawn.mean(axis=0)
    gap_errors, covered = [], []
    for p in np.flatnonzero(grown):
        for f in np.flatnonzero(~grown):
            gap, predicted = measured[p] - measured[f], quantiles(drawn[:, p] - drawn[:, f])
            gap_errors.append(abs(predicted.median - gap))
            covered.append(predicted.low <= gap <= predicted.high)
    shares = np.array([(case.plans[name].tau or 0) / case.plans[name].steps for name in names])
    expected, lowest = (np.flatnonzero(grown)[values[grown].argmin()] for values in (mean, measured))
    ordered = sorted(case.measured, key=lambda name: case.measured[name])
    lead = case.measured[ordered[1]] - case.measured[ordered[0]]
    share = np.bincount(drawn.argmin(axis=1), minlength=len(names)) / len(drawn)
    p_best = dict.fromkeys(ordered, 0.0) | {name: float(p) for name, p in zip(names, share, strict=True)}
    chosen = names[int(mean.argmin())]
    return {
        "gap_errors": gap_errors,
        "covered": covered,
        "tau_error": float(abs(shares[expected] - shares[lowest])) if grown.sum() > 1 else None,
        "regret": case.measured[chosen] - case.measured[ordered[0]],
        "told_apart": lead > 2 * np.sqrt(2) * RUN_ERROR * case.measured[ordered[0]],
        "right": chosen == ordered[0],
        "brier": sum((p - (name == ordered[0])) ** 2 for name, p in p_best.items()),
        "best": ordered[0],
        "expected": chosen,
        "p_best": p_best,
    }


def summary(scores: Sequence[dict[str, Any]]) -> dict[str, float | int | None]:
    """One law's scores over all cases; None where no case says anything.

    Args:
        scores: Of :func:`score`.
    """
    gap_errors = [error for one in scores for error in one["gap_errors"]]
    covered = [inside for one in scores for inside in one["covered"]]
    tau_errors = [one["tau_error"] for one in scores if one["tau_error"] is not None]
    told = [one["right"] for one in scores if one["told_apart"]]
    return {
        "median_abs_gap_error": _or_none(np.median, gap_errors),
        "median_abs_tau_error_over_T": _or_none(np.median, tau_errors),
        "median_regret": _or_none(np.median, [one["regret"] for one in scores]),
        "interval_coverage": _or_none(np.mean, covered),
        "best_arm_rate": _or_none(np.mean, told),
        "brier": _or_none(np.mean, [one["brier"] for one in scores]),
        "cases": len(scores),
    }


def _or_none(statistic: Callable[[Any], Any], values: Sequence[float]) -> float | None:
    return float(statistic(values)) if len(values) else None


def league(found: Sequence[Case], names: Sequence[str]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Scores of each law, case by case; a case that a law cannot be fitted to is left out for that law.

    Args:
        found: Cases; those without measured arms are passed over.
        names: Of laws.
    """
    scored: dict[str, list[tuple[str, dict[str, Any]]]] = {name: [] for name in names}
    for case in found:
        if not case.is_measured:
            continue
        for name in names:
            try:
                draws = LAWS[name](case)
            except InputError:
                continue
            scored[name].append((case.name, score(case, draws)))
    return scored


def league_record(found: Sequence[Case], scored: dict[str, list[tuple[str, dict[str, Any]]]]) -> Record:
    """The league as a Record, for figure 20: each law's median gap error in each case, per cent of the lowest loss.

    Args:
        found: Cases.
        scored: Of :func:`league`.
    """
    lowest = {case.name: min(case.measured.values()) for case in found if case.is_measured}
    rows = [
        (law, name, 100 * float(np.median(one["gap_errors"])) / lowest[name])
        for law, scores in scored.items()
        for name, one in scores
        if one["gap_errors"]
    ]
    plan = next(iter(next(case for case in found if case.is_measured).plans.values()))
    return values_record(header(plan, seed=0), rows)


# --- freezing -------------------------------------------------------------------------------------------------------


def freeze(found: Sequence[Case], folder: Path = PREDICTIONS) -> list[Path]:
    """Write the field's prediction for every case of which all pilots and no grown arm are trained.

    Files that are there are left alone.

    Args:
        found: Cases.
        folder: Where.

    Returns:
        The new files: each the plan of the arm expected lowest, with the menu and the draws.
    """
    written = []
    for case in found:
        path = folder / f"{case.name}.json"
        if path.exists() or case.pilots_missing or any(case.plans[arm].tau is not None for arm in case.measured):
            continue
        draws = field_draws(case, number=200)
        losses = np.array(draws.losses).round(DECIMALS)
        p_best = np.bincount(losses.argmin(axis=1), minlength=len(draws.names)) / len(losses)
        best = int(losses.mean(axis=0).argmin())
        menu = tuple(
            MenuRow(
                name=name, depths=tuple(stage.depth for stage in case.plans[name].stages), tau=case.plans[name].tau,
                steps=case.plans[name].steps, flops=float(plan_flops(case.plans[name])),
                loss=quantiles(losses[:, i]), p_best=float(p_best[i]),
                regret=float((losses[:, i] - losses.min(axis=1)).mean()),
            )
            for i, name in enumerate(draws.names)
        )  # fmt: skip
        predicted = Prediction(menu=menu, draws=draws.replace(losses=tuple(tuple(row) for row in losses.tolist())))
        provenance = Provenance(
            landscape=DEFAULT, pilots=tuple(dict.fromkeys(run.header.plan_digest for run in case.pilots)),
            data=tuple(dict.fromkeys(run.header.data_digest or "" for run in case.pilots)),
            reason=f"Before any arm that grows was trained, {draws.names[best]} was expected lowest of {len(menu)}.",
        )  # fmt: skip
        plan = case.plans[draws.names[best]]
        write_plan(plan.replace(schema_version=SCHEMA_VERSION, predicted=predicted, provenance=provenance), path)
        written.append(path)
    return written


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("--details", action="store_true", help="print every case")
    parser.add_argument("--freeze", action="store_true", help="write predictions of what is not trained yet")
    parser.add_argument("--parquet", type=Path, help="write every law's error in every case as a Record")
    parser.add_argument("--laws", default=",".join(LAWS), help="which, separated by commas")
    given = parser.parse_args()
    found = cases()
    if given.freeze:
        for path in freeze(found):
            print(path.relative_to(ROOT))
        return
    scored = league(found, given.laws.split(","))
    if given.parquet:
        write_parquet(league_record(found, scored), given.parquet)
    laws = {name: summary([one for _, one in scores]) for name, scores in scored.items()}
    if given.json:
        print(json.dumps({"default": DEFAULT, "laws": laws}))
        return
    for name, numbers in laws.items():
        print(f"{name:<14}" + "  ".join(f"{k} {v:.4g}" if v is not None else f"{k} -" for k, v in numbers.items()))
        for case, one in scored[name] if given.details else ():
            frozen = " (frozen)" if name == DEFAULT and (PREDICTIONS / f"{case}.json").exists() else ""
            print(f"    {case}{frozen}: best {one['best']}, expected {one['expected']}, regret {one['regret']:.4f}, "
                  f"gap error {np.median(one['gap_errors']):.4f}, covered {np.mean(one['covered']):.2f}, "
                  f"told apart {one['told_apart']}, P {one['p_best'][one['best']]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
