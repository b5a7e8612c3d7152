"""Optimizers as rows: which update rule takes which kind of tensor, what each rule remembers, how its rate transfers.

An optimizer is a row of :data:`OPTIMIZERS`: an update rule for every kind of tensor. An update rule is a row of
:data:`UPDATE_RULES`. The same names stand in :data:`latebloom.train.optim.registry.BUILDERS` and in
:data:`latebloom.sim.optimizers.TOY_RULES`; where one of them has no counterpart, its row says so and it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from msgspec import Meta

from latebloom.theory.architectures.family import Size
from latebloom.theory.architectures.tensors import Kind
from latebloom.theory.errors import InputError
from latebloom.theory.spec import NonNegative, Positive, Spec

__all__ = [
    "ADAMW_FACTOR",
    "OPTIMIZERS",
    "UPDATE_RULES",
    "Base",
    "Optimizer",
    "OptimizerName",
    "OptimizerRow",
    "Rate",
    "RuleName",
    "UpdateRule",
    "rule_of",
]

OptimizerName = Literal["muon_nsgd", "muon_adamw", "muon", "adamw", "sgd", "nsgd"]
RuleName = Literal["sgd", "nsgd", "adamw", "muon"]

ADAMW_FACTOR = 0.03  # muon_adamw: AdamW's rate over Muon's, the ratio of eta_ref in arXiv 2511.04981, 0.3 and 10

MUP = "arXiv 2203.03466 table 8"
SPECTRAL = "arXiv 2310.17813 cond. 1"
COMPLETE = "arXiv 2505.01618 table 1"
DERIVED = "derived above"

ANY = "any"
LOW_RANK = "fewer independent examples a batch than width"
FULL_RANK = "more tokens a batch than width; sqrt(rows/columns) in the optimizer"
UNTIED = "untied; a tied matrix cannot obey both rows, take the head's"
OWN_NORM = "each tensor by its own norm"
UNCLAMPED = "sqrt(rows/columns) in the optimizer, unclamped"

NONE = (0.0, 0.0)
GRADIENT = (-1.0, 2.0)  # 2 alpha - 1
NORMALISED = (-1.0, 1.0)  # alpha - 1


class Base(Spec, frozen=True, kw_only=True):
    """The size at which a schedule's learning rate was tuned; see :mod:`latebloom.theory.plan_transfer` for what
    follows from it.

    Attributes:
        width: Of that model.
        depth: Its blocks. None: the rate is the same at every depth, as in arXiv 2511.04981.
    """

    width: Size
    depth: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class Optimizer(Spec, frozen=True, kw_only=True):
    """The update rule of a plan.

    ``muon_nsgd``: Muon on matrices, normalised SGD on vectors, one learning rate. ``muon_adamw``: Muon on the blocks'
    matrices, AdamW on the rest. ``muon``: the simulator's all-matrix networks.

    With ``base`` the trainer gives each kind of parameter its factor of :mod:`latebloom.theory.plan_transfer`; without
    it the rate is taken as tuned for this very model, the same for all.

    Attributes:
        name: The update rule.
        momentum: Of Muon and SGD, and Adam's first beta.
        nesterov: Nesterov's momentum instead of heavy-ball.
        beta2: Adam's second beta.
        eps: Adam's epsilon, and what keeps normalised SGD from 0/0.
        weight_decay: Decoupled weight decay of matrices, times the learning rate at each step.
        transfer: Rule between widths and depths for the learning rate, see `latebloom transfer`.
        base: The size at which the schedule's learning rate was tuned.
    """

    name: OptimizerName = "muon_nsgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    nesterov: bool = True
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    transfer: Literal["spectral", "none"] = "spectral"
    base: Base | None = None

    def check(self) -> None:
        if self.base is not None and self.transfer == "none":
            rule = "has no rule to go by: transfer is 'none'"
            raise InputError("base", f"width {self.base.width}", rule, "set transfer to 'spectral', or drop the base")


@dataclass(frozen=True)
class Rate:
    """How a learning rate goes from size to size: lr ~ m_w^width m_L^(depth[0] + depth[1] alpha).

    Attributes:
        kind: Of the tensors.
        width: Exponent of the width.
        depth: Exponent of the depth, affine in alpha.
        regime: Where it holds.
        source: Where it was derived.
    """

    kind: Kind
    width: float
    depth: tuple[float, float]
    regime: str
    source: str


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """What is known of one update rule.

    Attributes:
        moments: Averages that it keeps for each value, each of four bytes.
        rates: How its learning rate transfers, for each kind of tensor that it can take.
        scaled_head: Whether the head's output is scaled with the width (muP's table 8) rather than its initialisation
            (the spectral form).
        linear_in_batch: Whether its best rate is linear in the batch below the critical one, else the square root.
        scaled_eps: Whether it adds an epsilon to a root of a second moment, which goes with the size.
    """

    moments: int
    rates: tuple[Rate, ...]
    scaled_head: bool = False
    linear_in_batch: bool = False
    scaled_eps: bool = False


UPDATE_RULES: Final[dict[RuleName, UpdateRule]] = {
    "sgd": UpdateRule(
        moments=1,
        scaled_head=True,
        linear_in_batch=True,
        rates=(
            Rate("embedding", 1, NONE, ANY, MUP),
            Rate("hidden", 0, GRADIENT, ANY, f"{MUP}; {DERIVED}"),
            Rate("vector", 1, GRADIENT, ANY, f"{MUP}; {DERIVED}"),
            Rate("final_vector", 1, NONE, ANY, MUP),
            Rate("head", 1, NONE, "head multiplier 1/m_w", MUP),
        ),
    ),
    "nsgd": UpdateRule(
        moments=1,
        rates=(
            Rate("embedding", 0.5, NONE, f"{LOW_RANK}; {OWN_NORM}", f"{SPECTRAL}; {DERIVED}"),
            Rate("hidden", 0, NORMALISED, f"{LOW_RANK}; {OWN_NORM}", f"{SPECTRAL}; {DERIVED}"),
            Rate("vector", 0.5, NORMALISED, f"{LOW_RANK}; {OWN_NORM}", f"{SPECTRAL}; {DERIVED}"),
            Rate("final_vector", 0.5, NONE, OWN_NORM, f"{SPECTRAL}; {DERIVED}"),
            Rate("head", -0.5, NONE, f"{LOW_RANK}; {OWN_NORM}", f"{SPECTRAL}; {DERIVED}"),
        ),
    ),
    "adamw": UpdateRule(
        moments=2,
        scaled_head=True,
        scaled_eps=True,
        rates=(
            Rate("embedding", 0, NONE, ANY, MUP),
            Rate("hidden", -1, NORMALISED, LOW_RANK, f"{MUP}; {COMPLETE}"),
            Rate("vector", 0, NORMALISED, ANY, f"{MUP}; {COMPLETE}"),
            Rate("final_vector", 0, NONE, ANY, COMPLETE),
            Rate("head", 0, NONE, "head multiplier 1/m_w", MUP),
        ),
    ),
    "muon": UpdateRule(
        moments=1,
        rates=(
            Rate("embedding", 0.5, NONE, f"{FULL_RANK}; {UNTIED}", DERIVED),
            Rate("hidden", 0, NORMALISED, UNCLAMPED, f"{SPECTRAL}; {DERIVED}"),
            Rate("head", 0, NONE, UNCLAMPED, SPECTRAL),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class OptimizerRow:
    """One optimizer of a plan.

    Attributes:
        rules: Update rule of each kind of tensor; a kind that is absent is refused (:func:`rule_of`).
        rate_factors: The plan's learning rate is multiplied by them, by update rule; 1 where absent.
    """

    rules: Mapping[Kind, RuleName]
    rate_factors: Mapping[RuleName, float] = field(default_factory=dict)

    def rate_factor(self, kind: Kind) -> float:
        """What the plan's learning rate is multiplied by for one kind of tensor; 1 where it has no update rule.

        Args:
            kind: Of the tensor.
        """
        rule = self.rules.get(kind)
        return 1.0 if rule is None else self.rate_factors.get(rule, 1.0)


def _alone(rule: RuleName) -> OptimizerRow:
    """One rule for every kind that it can take."""
    return OptimizerRow(rules={rate.kind: rule for rate in UPDATE_RULES[rule].rates})


OPTIMIZERS: Final[dict[OptimizerName, OptimizerRow]] = {
    "sgd": _alone("sgd"),
    "adamw": _alone("adamw"),
    "nsgd": _alone("nsgd"),
    "muon": _alone("muon"),
    "muon_nsgd": OptimizerRow(
        rules={"embedding": "muon", "hidden": "muon", "head": "muon", "vector": "nsgd", "final_vector": "nsgd"}
    ),
    "muon_adamw": OptimizerRow(
        rules={"embedding": "adamw", "vector": "adamw", "final_vector": "adamw", "head": "adamw", "hidden": "muon"},
        rate_factors={"adamw": ADAMW_FACTOR},
    ),
}


def rule_of(optimizer: OptimizerName, kind: Kind) -> RuleName:
    """The update rule that ``optimizer`` gives a kind of tensor.

    Args:
        optimizer: One of a plan's.
        kind: Of the tensor.

    Raises:
        InputError: if it has none.
    """
    rules = OPTIMIZERS[optimizer].rules
    if kind not in rules:
        rule = f"has no update rule for tensors of kind {kind!r}"
        raise InputError("optimizer", optimizer, rule, "use an optimizer that has one, such as muon_nsgd")
    return rules[kind]
