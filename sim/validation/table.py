"""The programme's claims as one Record: what figures read and what is committed.

Rows hold ``split`` = theory, simulated, low, high, tolerance or holds (1 or 0), ``metric`` = check/rule/claim, and the
value; there is no step. The header's plan is a representative run of the toy, its config says which version was run.
"""

from __future__ import annotations

from latebloom.sim.validation.expansions import FULL
from latebloom.theory.plan import GPT2Shape, Optimizer, Plan, Stage
from latebloom.theory.record import Record, header, values_record
from latebloom.theory.schedules import wsd

__all__ = ["SPLITS", "claims_record"]

SPLITS = ("theory", "simulated", "low", "high", "tolerance", "holds")


def claims_record(found: dict[str, list[dict]], *, quick: bool) -> Record:
    """One record of all claims, by check; a value that a claim does not have is NaN.

    Args:
        found: Claims of each check, as :func:`latebloom.sim.claims.claim_data` gives them.
        quick: Whether they are those of the small version.
    """
    plan = Plan(
        name="validation on deep linear networks",
        model=GPT2Shape(name="deep linear net", width=32, heads=1, vocab_size=32, context=1),
        batch_tokens=32,
        schedule=wsd(steps=1000, peak_lr=0.5),
        stages=(Stage(start_step=0, depth=0), Stage(start_step=700, depth=FULL)),
        optimizer=Optimizer(name="sgd", momentum=0.0, nesterov=False, weight_decay=0.0, transfer="none"),
    )
    rows = []
    for check, claims in found.items():
        for c in claims:
            low, high = c["interval"][:2] if c["interval"] else (None, None)
            values = (c["theory"], c["simulated"], low, high, c["tolerance"], float(c["holds"]))
            metric = f"{check}/{c['optimizer']}/{c['name']}"
            rows += [(split, metric, v) for split, v in zip(SPLITS, values, strict=True)]
    config = {"quick": quick, "claims": len(rows) // len(SPLITS)}
    return values_record(header(plan, seed=0, config=config), rows)
