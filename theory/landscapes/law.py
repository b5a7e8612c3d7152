r"""The interface of all loss laws over schedules, and what follows for each: curves, gradients, best schedules.

A law is a frozen value whose fields are its parameters. It says how the loss depends on the *shape* parameters,

    L = sum_i linear_i * column_i(history; shape),

and everything else is shared: ``loss`` of a schedule or of an array of learning rates, ``gradient`` with respect to
parameters (by complex steps, exact to rounding), the least squares of :mod:`latebloom.theory.fitting.laws`, growth from
one law to another (:class:`latebloom.theory.landscapes.law_pair.LawPair`) and the best schedule
(:func:`best_schedule`).

Units: loss in nats; A for learning-rate area (learning rate x updates), R for learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.lr_history import GroupRates, History, history
from latebloom.theory.schedules import Schedule
from latebloom.theory.spec import Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BestSchedule", "Law", "Shape", "best_schedule", "history_of_rates", "shape_slopes"]

TINY = 1e-150  # complex step: its square vanishes beside 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A parameter that enters a law non-linearly: where it may lie, and in which unit of the data's own scale.

    Args:
        low: Least value, in units of (largest area)^area (usual learning rate)^rate (that of the rest)^other.
        high: Largest value, in the same unit.
        area: Power of the largest area in the parameter's unit.
        rate: Power of the usual learning rate in it, or of the unit of angles (:attr:`.lr_history.History.rate_unit`).
        other: Power of the other parameters' usual learning rate in it.
        log: Search its logarithm.
        centre: Where it is expected, in the unit of the bounds: decides what the data leave open, and little else.
        width: How far off it may be (a factor e^width if ``log``); inf for no expectation.
    """

    low: float
    high: float
    area: float = 0.0
    rate: float = 0.0
    other: float = 0.0
    log: bool = True
    centre: float = 1.0
    width: float = float("inf")


class Law(Spec, frozen=True, kw_only=True):
    """Base of the laws. Subclasses declare fields, ``shapes``, ``linear`` and ``columns``.

    Attributes:
        linear: Names of the linear parameters, in the order of the columns; the first is the floor L0.
        shapes: The non-linear ones.
        scales: Parameters that no fit moves: units of the data, its largest "area", usual "rate" or "other" rate.
        units: Unit of every parameter.
        remedies: The run that would fix a parameter that other runs leave open; {steps} are those of the longest.
    """

    linear: ClassVar[tuple[str, ...]] = ()
    shapes: ClassVar[dict[str, Shape]] = {}
    scales: ClassVar[dict[str, str]] = {}
    units: ClassVar[dict[str, str]] = {}
    remedies: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("floor", "amplitude", "exponent", "source", "distance2"), "A run of more than {steps} steps"),
        **dict.fromkeys(("noise", "gain", "gradient2"), "A run that lowers its learning rate"),
        **dict.fromkeys(
            ("memory", "tail", "other_memory", "other_tail", "forgetting", "capacity", "sharpness"),
            "A run that drops its learning rate half-way and stays there, logged often after the drop,",
        ),
        **dict.fromkeys(("saturation", "rate_power"), "A run at a peak learning rate three times higher or lower"),
        "cooling": "A run that drops its learning rate much earlier or later",
        **dict.fromkeys(("other_share", "other_power"), "A run whose embedding and head cool down at another time"),
        "delay": "Losses logged soon after the warm-up",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        """(N, len(linear)) what each linear parameter multiplies, at the points of ``past``."""
        raise NotImplementedError

    def signal(self, past: History) -> np.ndarray:
        """(N,) the part of the loss above L0 that learning removes and no noise returns; what growth restarts."""
        return self.columns(past, self.shape)[:, 1] * getattr(self, self.linear[1])

    @property
    def shape(self) -> dict[str, float]:
        """Non-linear parameters and scales by name."""
        return {name: getattr(self, name) for name in (*self.shapes, *self.scales)}

    @property
    def parameters(self) -> dict[str, float]:
        """All parameters by name, linear ones first."""
        return {name: getattr(self, name) for name in self.linear} | self.shape

    def loss(self, schedule: Schedule | GroupRates | ArrayLike, step: ArrayLike | None = None) -> np.ndarray:
        """Loss after ``step`` updates (by default after each), nats.

        Args:
            schedule: A schedule, or one learning rate for each update, or two.
            step: Whole numbers of updates, 1 ... T, in any order.

        Raises:
            InputError: for learning rates or steps that are none.
        """
        return self.predict(history(schedule, step))

    def predict(self, past: History) -> np.ndarray:
        """(N,) losses at the points of ``past``, nats."""
        return self.columns(past, self.shape) @ np.array([getattr(self, name) for name in self.linear])

    def gradient(self, past: History) -> dict[str, np.ndarray]:
        """Derivatives of the (N,) losses with respect to each parameter, exact to rounding."""
        columns = self.columns(past, self.shape)
        slopes = {name: columns[:, i] for i, name in enumerate(self.linear)}
        weights = np.array([getattr(self, name) for name in self.linear])
        for name, slope in shape_slopes(type(self), past, self.shape).items():
            slopes[name] = slope @ weights
        return slopes

    @classmethod
    def from_parameters(cls, values: dict[str, float]) -> Self:
        """The law with these parameters."""
        return cls(**values)


def shape_slopes(law: type[Law], past: History, shape: dict[str, float]) -> dict[str, np.ndarray]:
    """(N, K) derivative of the columns with respect to each shape parameter.

    Args:
        law: Its class.
        past: N points of histories.
        shape: Non-linear parameters and scales by name.
    """
    slopes = {}
    for name in law.shapes:
        value = shape[name]
        bent: dict[str, Any] = {**shape, name: value + 1j * TINY}
        slopes[name] = np.imag(law.columns(past, bent)) / TINY
    return slopes


def history_of_rates(rates: np.ndarray, steps: np.ndarray | None = None) -> History:
    """The history of one run, a piece an entry, seen at its end.

    Args:
        rates: Learning rate of each piece, (pieces,); may be complex.
        steps: Updates of each piece, (pieces,); None: one each.
    """
    count = len(rates)
    falls = np.flatnonzero(np.diff(np.real(rates)) <= 0)
    return History(
        lr=rates[None],
        steps=np.ones((1, count)) if steps is None else steps[None],
        run=np.zeros(1, dtype=int),
        edge=np.array([count]),
        warm=np.array([falls[0] if len(falls) and falls[0] > 0 else 0]),
    )


@dataclass(frozen=True, kw_only=True)
class BestSchedule:
    """Learning rates that minimise a law's last loss.

    Attributes:
        steps: (M,) length of each constant piece, in updates (real numbers).
        lr: (M,) its learning rate.
        loss: What they reach, nats.
    """

    steps: np.ndarray
    lr: np.ndarray
    loss: float


def best_schedule(law: Law, *, steps: float, peak_lr: float, pieces: int = 100) -> BestSchedule:
    """The learning rates that minimise the law's last loss within 0 <= eta <= ``peak_lr``, by optimisation.

    Args:
        law: The landscape.
        steps: Horizon T.
        peak_lr: Largest learning rate allowed.
        pieces: Constant pieces, of lengths that shrink towards the end (where the loss feels single steps).

    Raises:
        InputError: if a number is not positive, or the law has no finite loss there.
    """
    checks.positive("steps", steps)
    checks.positive("peak_lr", peak_lr)
    checks.whole("pieces", pieces, 1)
    x = np.linspace(0, 1, pieces + 1)
    lengths = np.diff(steps * (1 - (1 - x) ** 2))
    bumps = 1j * TINY * np.eye(pieces)

    def value(z: np.ndarray) -> tuple[float, np.ndarray]:
        many = History(
            lr=z * peak_lr + bumps,
            steps=np.tile(lengths, (pieces, 1)),
            run=np.arange(pieces),
            edge=np.full(pieces, pieces),
            warm=np.zeros(pieces, dtype=int),
        )
        loss = law.predict(many)
        return float(np.real(loss[0])), np.imag(loss) / TINY * peak_lr

    found = scipy.optimize.minimize(
        value,
        np.full(pieces, 0.5),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(1e-9, 1),
        options={"maxiter": 1000},
    )
    if not np.isfinite(found.fun):
        raise InputError("law", law.parameters, "has no finite loss here", "check its parameters")
    return BestSchedule(steps=lengths, lr=found.x * peak_lr, loss=float(found.fun))
