"""The planner on GPT runs it was never tuned on: every committed study, pilots cut out of its own Records.

    python -m tests.benchmarks.planner_unseen [--json] [--details]

Records of one setting (model, tokens a step, optimizer, rates, warm-up, data, seed) are one experiment, whatever study
they stand in. A *question* is a way of growing (l -> L, initialisation) and an amount of compute C at which runs that
grow and the two fixed depths were trained (within 3 % of C). What the planner is given, of the same experiment:

    small depth   ends no longer than the grown run, or no dearer than half of C; three horizons at least
    full depth    ends up to a quarter (``T/4``) or a half (``T/2``) of the grown run's steps T, no dearer than half of
                  C, one at least in the upper half of that range
    grown         ends of at most half of T, the same way of growing

and what it predicts: ``gap_equal`` and ``gap_never``, the grown run over the full and the small depth of equal compute;
``gap``, over the full depth for T steps, where ends on both sides at most 2.1 times apart were measured (linear in ln T
between them); ``final_loss`` of the grown run and the full depth. Intervals are 90 %, errors per cent of the loss.
``best_arm_rate``: of the questions that runs tell apart (two standard errors of a difference of two runs), the share in
which the arm expected lowest was; ``decided_right``: of those with a probability of growing beyond .9 or below .1, the
share in which that came true; ``regret_mean`` in per cent. Answers of which the plan says "Pilots too short", and
decides nothing, stand apart as ``warned``.

``studies`` are the grids of ``studies/*.toml``, ``sizes`` the runs of ``paper_figures/data/pilot_sizes``, at the three
expansions of 800 steps that are there. Outcomes of one setting (``settings`` says how many) share their error.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve, ends_of, trunk_curve_of
from latebloom.theory.fitting.field_kernel import FieldPrior
from latebloom.theory.fitting.recovery_field import fit_recovery_field
from latebloom.theory.menu import MenuArm, schedule_for
from latebloom.theory.pilot_reach import short_pilots_text
from latebloom.theory.pilot_value import SURE
from latebloom.theory.record import Record, read_record
from latebloom.theory.schedules import WSD
from tests.benchmarks.planner_calibration import GAPS, Score, score_gap, score_loss
from tests.benchmarks.timing_laws import RUN_ERROR

DATA = Path(__file__).resolve().parents[2] / "paper_figures" / "data"
SHARES = {"T/4": 0.25, "T/2": 0.5}
ALIKE = 1.03  # of compute, or of steps
APART = 2.1  # of the horizons between which a loss is read off
FEWEST_SMALL = 3


@dataclass(frozen=True, kw_only=True)
class Question:
    """One way of growing at one amount of compute.

    Attributes:
        source: ``studies`` or ``sizes``.
        setting: What its Records share, for people.
        name: Of the way of growing and the compute.
        small: l.
        full: L.
        ends: Every end of the experiment that this way of growing knows.
        grown: The runs that grow.
        curve: Of the small trunk, if any.
        schedule: Of any run.
    """

    source: str
    setting: str
    name: str
    small: int
    full: int
    ends: tuple[AnnealedEnd, ...]
    grown: tuple[AnnealedEnd, ...]
    curve: TrunkCurve | None
    schedule: WSD

    def pilots(self, share: float) -> list[AnnealedEnd]:
        """What the planner is given, with the full depth seen to ``share`` of the shortest grown run; [] if too few."""
        steps, flops = min(end.steps for end in self.grown), min(end.flops for end in self.grown)
        kept = [
            end
            for end in self.ends
            if (end.kind == "small" and (end.steps <= steps or end.flops <= flops / 2 * ALIKE))
            or (end.kind == "full" and end.steps <= share * steps * ALIKE and end.flops <= flops / 2 * ALIKE)
            or (end.kind == "grown" and end.steps <= steps / 2)
        ]
        small = {end.steps for end in kept if end.kind == "small"}
        longest = max((end.steps for end in kept if end.kind == "full"), default=0)
        return kept if len(small) >= FEWEST_SMALL and longest > share * steps / 2 else []

    def measured(self, kind: str, steps: float) -> float | None:
        """Loss of a fixed depth at ``steps``, as measured or between two ends; None if there are none near."""
        known = sorted({end.steps: end.loss for end in self.ends if end.kind == kind}.items())
        for at, loss in known:
            if max(at / steps, steps / at) <= ALIKE:
                return loss
        below, above = [k for k in known if k[0] < steps], [k for k in known if k[0] > steps]
        if not below or not above or above[0][0] > APART * below[-1][0]:
            return None
        horizons, losses = zip(below[-1], above[0], strict=True)
        return float(np.interp(np.log(steps), np.log(horizons), losses))


def questions() -> list[Question]:
    """Every question of the committed Records, whether or not pilots suffice."""
    out = []
    for source, paths in (
        ("studies", sorted((DATA / "studies").glob("*/*.parquet"))),
        ("sizes", sorted((DATA / "pilot_sizes").glob("*.parquet"))),
    ):
        settings: dict[tuple, list[Record]] = defaultdict(list)
        for path in paths:
            record = read_record(path)
            if _is_plain(record):
                settings[_setting(record)].append(record)
        for key, records in settings.items():
            out += list(_questions(source, f"width {key[0].width}, {key[0].vocab_size} tokens, batch {key[1]}, rate "
                                           f"{key[3]:g}, seed {key[5]}", records))  # fmt: skip
    return out


def _is_plain(record: Record) -> bool:
    """One depth, or one growth that does nothing to rates, optimizer state or passes."""
    stages = record.plan.stages
    special = any(stage.replayed_to is not None or stage.new_rate is not None for stage in stages)
    kept = stages[-1].optimizer_state == "keep"
    return len(stages) <= 2 and not special and kept and isinstance(record.plan.schedule, WSD)


def _setting(record: Record) -> tuple:
    plan, header = record.plan, record.header
    warmup = int(np.argmax(plan.schedule.lrs())) + 1
    model = plan.model.replace(name="any")
    return model, plan.batch_tokens, str(plan.optimizer), plan.schedule.peak, warmup, header.seed, header.data_digest


def _questions(source: str, setting: str, records: Sequence[Record]) -> Iterator[Question]:
    ways = {_way(record) for record in records if len(record.plan.stages) == 2}
    for small, full, how in sorted(ways):
        alike = [
            record for record in records if _way(record) in ((small, full, how), (small, small, ""), (full, full, ""))
        ]
        found = ends_of(alike, small_depth=small, full_depth=full)
        ends = {(end.kind, end.steps, end.tau): end for end in found}  # studies of one setting share some runs
        curve = trunk_curve_of(alike, small_depth=small)
        rest = sorted((end for end in ends.values() if end.kind == "grown"), key=lambda end: end.flops)
        while rest:
            here = [end for end in rest if end.flops <= rest[0].flops * (ALIKE if source == "studies" else 1.0)]
            rest = rest[len(here) :]
            yield Question(
                source=source, setting=setting, name=f"{small} -> {full} {how}, {here[0].flops:.2g} FLOPs", small=small,
                full=full, ends=tuple(ends.values()), grown=tuple(here), curve=curve, schedule=alike[0].plan.schedule,
            )  # fmt: skip


def _way(record: Record) -> tuple[int, int, str]:
    first, last = record.plan.stages[0], record.plan.stages[-1]
    return first.depth, last.depth, f"{last.init} {last.order}" if len(record.plan.stages) > 1 else ""


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the small depth, the full one and the runs that grow was expected lowest, and which was.

    Attributes:
        expected: Arm expected lowest.
        best: The lowest one.
        regret: Loss of the first above the second's, relative.
        told_apart: Whether runs tell the lowest from the second.
        p_grow: Probability that one that grows is the lowest of the measured arms.
        grow_is_best: Whether it is.
    """

    expected: str
    best: str
    regret: float
    told_apart: bool
    p_grow: float
    grow_is_best: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the planner said of one question, and what was measured.

    Attributes:
        question: Which.
        seen: Of the full depth, ``T/4`` or ``T/2``.
        scores: Of gaps and final losses.
        warned: Whether the plan says that its pilots are too short.
        choice: None where a fixed depth of equal compute was not trained.
    """

    question: Question
    seen: str
    scores: tuple[Score, ...]
    warned: bool
    choice: Choice | None


def answer(question: Question, seen: str, prior: FieldPrior | None = None) -> Answer | None:
    """The planner's answer; None if pilots do not suffice.

    Args:
        question: Which.
        seen: Of the full depth, one of :data:`SHARES`.
        prior: Hyperparameters; None: the planner's.
    """
    pilots = question.pilots(SHARES[seen])
    if not pilots:
        return None
    full_ends = [end for end in question.ends if end.kind == "full"]
    small_ends = [end for end in question.ends if end.kind == "small"]
    schedule = question.schedule
    reference = schedule_for(schedule, max(end.steps for end in question.grown)).total_area
    field = fit_recovery_field(
        pilots, full_depth=question.full, reference=reference, prior=prior, trunk_curve=question.curve
    )
    per_step = {"full": full_ends[0].flops / full_ends[0].steps, "small": small_ends[0].flops / small_ends[0].steps}
    rows, truth, where = [], [], []
    for end in question.grown:
        rows.append((end.area_before, end.area - end.area_before, question.full))
        truth.append(end.loss)
        where.append((end, "grown"))
        wanted = (("gap", "full", end.steps), ("gap_equal", "full", end.flops / per_step["full"]),
                  ("gap_never", "small", end.flops / per_step["small"]))  # fmt: skip
        for name, kind, steps in wanted:
            loss = question.measured(kind, steps)
            if loss is None:
                continue
            area = schedule_for(schedule, round(steps)).total_area
            rows.append((area, 0.0, question.small) if kind == "small" else (0.0, area, question.full))
            truth.append(loss)
            where.append((end, name))
    before, after, depths = zip(*rows, strict=True)
    drawn = field.draws(field.points(before, after, depths), number=1000, measured=True).T
    at = {key: i for i, key in enumerate(where)}
    scores = []
    for end in question.grown:
        grown = at[end, "grown"]
        scores.append(score_loss(question.source, drawn[grown], truth[grown]))
        for name in GAPS:
            i = at.get((end, name))
            if i is not None:
                scores.append(score_gap(question.source, name, drawn[grown], drawn[i], (truth[grown], truth[i])))
    known = {f"grown at {end.tau}": at[end, "grown"] for end in question.grown}
    first = question.grown[0]
    known |= {
        kind: at[key] for kind, key in (("full", (first, "gap_equal")), ("small", (first, "gap_never"))) if key in at
    }
    longest = round(first.flops / per_step["small"])
    area = schedule_for(schedule, longest).total_area
    arm = MenuArm(
        depths=(question.small,), tau=None, steps=longest, flops=first.flops, area_before=area, area_after=0.0
    )
    whole = len(known) == len(question.grown) + 2
    return Answer(
        question=question,
        seen=seen,
        scores=tuple(scores),
        warned=short_pilots_text(pilots, [arm]) is not None,
        choice=_choice(known, drawn, np.array(truth), len(question.grown)) if whole else None,
    )


def _choice(arms: dict[str, int], drawn: np.ndarray, truth: np.ndarray, grown: int) -> Choice:
    """Among ``arms``, the first ``grown`` of which grow, by draws, (places, draws), and measured losses, (places,)."""
    names, index = list(arms), list(arms.values())
    measured, losses = truth[index], drawn[index]
    order = measured.argsort()
    chosen = int(np.log(losses).mean(axis=1).argmin())
    return Choice(
        expected=names[chosen],
        best=names[order[0]],
        regret=float(measured[chosen] / measured[order[0]] - 1),
        told_apart=bool(measured[order[1]] / measured[order[0]] - 1 > 2 * np.sqrt(2) * RUN_ERROR),
        p_grow=float((losses.argmin(axis=0) < grown).mean()),
        grow_is_best=bool(order[0] < grown),
    )


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Coverage, error, regret and decisions of some answers.

    Args:
        answers: Any.
    """
    out: dict[str, Any] = {"questions": len(answers), "settings": len({a.question.setting for a in answers})}
    for name in ("final_loss", *GAPS):
        chosen = [score for a in answers for score in a.scores if score.quantity == name]
        if chosen:
            errors = [score.median - score.truth for score in chosen]
            out[name] = {
                "outcomes": len(chosen),
                "coverage": float(np.mean([score.covered for score in chosen])),
                "error_median": 100 * float(np.median(np.abs(errors))),
                "bias": 100 * float(np.median(errors)),
            }
    choices = [a.choice for a in answers if a.choice is not None]
    if not choices:
        return out
    told = [c.expected == c.best for c in choices if c.told_apart]
    decided = [
        (a.choice.p_grow > SURE) == a.choice.grow_is_best
        for a in answers
        if a.choice is not None and not a.warned and not 1 - SURE <= a.choice.p_grow <= SURE
    ]
    return out | {
        "told_apart": len(told),
        "best_arm_rate": float(np.mean(told)) if told else None,
        "decided": len(decided),
        "decided_right": float(np.mean(decided)) if decided else None,
        "regret_mean": 100 * float(np.mean([c.regret for c in choices])),
    }


def unseen(prior: FieldPrior | None = None) -> list[Answer]:
    """Every answer that pilots allow.

    Args:
        prior: Hyperparameters; None: the planner's.
    """
    asked = [(question, seen) for question in questions() for seen in SHARES]
    return [found for question, seen in asked if (found := answer(question, seen, prior)) is not None]


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--details", action="store_true", help="print every answer")
    given = parser.parse_args()
    answers = unseen()
    groups = {
        f"{source} {seen}{', warned' * warned}": summary(chosen)
        for source in ("studies", "sizes")
        for seen in SHARES
        for warned in (False, True)
        if (chosen := [a for a in answers if (a.question.source, a.seen, a.warned) == (source, seen, warned)])
    }
    if given.json:
        print(json.dumps(groups))
        return
    for a in answers if given.details else ():
        gaps = ", ".join(
            f"{s.quantity} {100 * s.truth:.2f} [{100 * s.low:.2f} {100 * s.median:.2f} {100 * s.high:.2f}]"
            for s in a.scores
            if s.quantity != "final_loss"
        )
        print(f"{a.question.setting}, {a.question.name}, {a.seen}, {a.choice}{', warned' * a.warned}: {gaps}")
    for name, numbers in groups.items():
        print(name, numbers)


if __name__ == "__main__":
    main()
