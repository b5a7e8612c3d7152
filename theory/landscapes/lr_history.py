r"""What laws see of a schedule: learning rates as constant pieces, areas at their edges, and the past's noise modes.

Notation
    piece j     ``steps[j]`` updates at learning rate ``lr[j]``; edges 0 ... M stand before, between and after pieces
    S           ``area``: sum of eta over the updates before an edge
    o           ``others``: a second rate, of the parameters that are no matrices (:class:`GroupRates`)
    Z_x         ``modes``: int_0^{S_t} exp(-x (S_t - v)) g(v) dv, the response of one mode of rate x to a drive g, exact
                on constant pieces

Every completely monotone kernel is a mixture of exponentials (Bernstein), so every law's noise is a weighted sum of
modes; rates and weights are those of :mod:`latebloom.theory.volterra`. That module runs over single updates of one
run; here a run is a few hundred pieces with the kernel integrated over each, many runs advance together, and all
arrays may be complex, because derivatives are taken by complex steps (Squire & Trapp, SIAM Rev. 40 (1998) 110), exact
to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latebloom.theory import checks, volterra
from latebloom.theory.errors import InputError
from latebloom.theory.schedules import Schedule

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["GroupRates", "History", "histories", "history"]

RESOLUTION = 1 / 64  # of the largest learning rate: what a piece averages over
# Runs evaluated at no more than FEW points get extra edges 1, 2, 4, ... updates before each point, because short
# memories see only the last updates; with more points, the points themselves are edges close enough.
FEW = 4
STRONGEST = 1e4  # inverse memories up to this, per area of the whole run, share one grid of rates
KEPT = 3  # modes driven by other powers of the learning rate
RARE = 0.1  # share of a run's updates whose rates may lie above the usual one
ANGLE = 0.05  # radians a step: the usual turning rates of a GPT-2 under Muon are .034 to .052


@dataclass(frozen=True, kw_only=True)
class GroupRates:
    """Two learning rates a run: what stands in the place of a schedule where two kinds of parameters have their own.

    Attributes:
        matrices: Of the blocks' matrices at each update, or how far they turn, (steps,).
        others: Of the rest (embedding, head, vectors), in one unit for all runs of a fit, (steps,).
        angles: Whether ``matrices`` are angles, radians a step (:func:`.effective_rate.turning_rates`).

    Raises:
        InputError: if there is not one of each for every update, or a rate of the rest is none.
    """

    matrices: np.ndarray
    others: np.ndarray
    angles: bool = False

    def __post_init__(self) -> None:
        rates = checks.non_negative("others", self.others)
        if rates.shape != np.shape(self.matrices):
            rule = f"must be {np.shape(self.matrices)}, one rate for each of the matrices'"
            raise InputError("others", rates.shape, rule, "match them")
        checks.positive("largest of others", rates.max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class History:
    """Learning rates of B runs, as at most M constant pieces each, and the N points at which losses are wanted.

    Args:
        lr: (B, M) learning rate of each piece, 0 in padding.
        steps: (B, M) updates in each piece, 0 in padding.
        run: (N,) run of each point.
        edge: (N,) pieces that are over at each point.
        warm: (B,) pieces of warm-up: those at the start whose learning rates rise.
        others: (B, M) learning rate of the other parameters, 0 in padding; None: that of ``lr``.
        angles: Whether ``lr`` are angles, radians a step.
        cache: Modes and grids that were computed before, to be left alone.
    """

    lr: np.ndarray
    steps: np.ndarray
    run: np.ndarray
    edge: np.ndarray
    warm: np.ndarray
    others: np.ndarray | None = None
    angles: bool = False
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def sums(self, rate: np.ndarray) -> np.ndarray:
        """(B, M + 1) sum over updates of a ``rate`` per update (B, M), at each edge."""
        ticks = self.steps * rate
        return np.concatenate([np.zeros_like(ticks[:, :1]), np.cumsum(ticks, axis=1)], axis=1)

    @cached_property
    def of_others(self) -> History:
        """The same points as the other parameters see them."""
        return self if self.others is None else replace(self, lr=self.others, others=None, angles=False, cache={})

    @cached_property
    def usual_lr(self) -> float:
        """The learning rate that a tenth of the updates exceed, of the run in which it is largest: its unit.

        Not the largest of all: matrices that start small turn far at first.
        """
        rates, steps = np.real(self.lr), np.real(self.steps)
        order = np.argsort(-rates, axis=1)
        done = np.cumsum(np.take_along_axis(steps, order, axis=1), axis=1)
        first = np.argmax(done > RARE * done[:, -1:] * (1 - 1e-9), axis=1)
        return float(np.max(np.take_along_axis(rates, order, axis=1)[np.arange(len(rates)), first]))

    @property
    def rate_unit(self) -> float:
        """In which laws tell expected rates: angles have a unit of their own, learning rates that of the data."""
        return ANGLE if self.angles else self.usual_lr

    @cached_property
    def clock(self) -> np.ndarray:
        """(B, M + 1) learning-rate area S at each edge."""
        return self.sums(self.lr)

    def drive(self, power: complex) -> np.ndarray:
        """(B, M) eta^power, 0 where eta is 0."""
        checks.finite("power", np.real(power))
        still = self.lr == 0
        return np.where(still, 0.0, np.where(still, 1.0, self.lr) ** power)

    def at(self, edges: np.ndarray) -> np.ndarray:
        """Values at the points of values at the edges, (B, M + 1, ...) -> (N, ...)."""
        return edges[self.run, self.edge]

    @cached_property
    def area(self) -> np.ndarray:
        """(N,) S at the points."""
        return self.at(self.clock)

    @cached_property
    def total_area(self) -> float:
        """Largest area of any run."""
        return float(np.max(np.real(self.clock)))

    def modes(self, rates: np.ndarray, *, drive: np.ndarray, clock: np.ndarray) -> np.ndarray:
        """(N, R) Z_x of ``drive`` (B, M) for each of ``rates`` (R,) per unit of ``clock`` (B, M + 1)."""
        return self._respond(*_factors(rates, clock), drive)

    def power_modes(self, rates: np.ndarray, power: complex) -> np.ndarray:
        """(N, R) Z_x of eta^power in area; the last few are kept for the next call."""
        checks.series("rates", rates, low=0.0)
        grid = rates.tobytes()
        if ("factors", grid) not in self.cache:
            self.cache["factors", grid] = _factors(rates, self.clock)
        key = ("modes", grid, complex(power))
        if key not in self.cache:
            keep, gain = self.cache["factors", grid]
            for old in [k for k in self.cache if k[0] == "modes"][:-KEPT]:
                del self.cache[old]
            self.cache[key] = self._respond(keep, gain, self.drive(power))
        return self.cache[key]

    def _respond(self, keep: np.ndarray, gain: np.ndarray, drive: np.ndarray) -> np.ndarray:
        edges = np.zeros((len(keep) + 1, *keep.shape[1:]), dtype=np.result_type(drive, keep))
        np.multiply(gain, drive.T[:, :, None], out=edges[1:])
        for j in range(len(keep)):
            edges[j + 1] += keep[j] * edges[j]
        return edges[self.edge, self.run]

    def response(self, memory: complex, tail: complex, *, power: complex = 1.0) -> np.ndarray:
        r"""(N,) int_0^S eta^power (1 + C u)^-d dv, u = S_t - v, to 1e-6.

        Args:
            memory: C > 0, per area.
            tail: d in [0.05, 4].
            power: Of the learning rate, per unit of area.

        Raises:
            InputError: if ``memory`` or ``tail`` is out of range, or a number is not finite.
        """
        checks.positive("memory", np.real(memory))
        checks.within("tail", np.real(tail), 0.05, 4.0)
        grid = self._grid(float(np.real(memory)))
        weights = memory**-tail * grid.weights(tail, 1 / memory)  # (1 + C u)^-d = C^-d (1/C + u)^-d
        return self.power_modes(grid.rate, power) @ weights

    def average(self, memory: complex, tail: complex, *, power: complex = 1.0) -> np.ndarray:
        r"""(N,) int_0^S eta^power d C (1 + C u)^-(d+1) dv: an average over the past, of weight 1 once C S >> 1."""
        checks.positive("tail", np.real(tail))
        return tail * memory * self.response(memory, tail + 1, power=power)

    def _grid(self, memory: float) -> volterra.Grid:
        """Rates for every kernel that a fit may try, so that the modes are computed once; wider if need be."""
        total = self.total_area
        shortest = min(total / STRONGEST, float(np.max(np.real(self.lr))), 1 / memory)
        longest = total + max(total, 1 / memory)
        key = ("grid", shortest, longest)
        if key not in self.cache:
            self.cache[key] = volterra.grid(shortest, longest, tolerance=1e-6, exponent=(0.05, 4.0))
        return self.cache[key]

    def lags(self) -> np.ndarray:
        """(N, M + 1) S_t - S_j of each point to each edge of its run; 0 for edges still to come."""
        edges = self.clock[self.run]
        past = np.arange(edges.shape[1]) <= self.edge[:, None]
        return np.where(past, self.area[:, None] - edges, 0.0)


def history(schedule: Schedule | GroupRates | ArrayLike, step: ArrayLike | None = None) -> History:
    """One run's history: a schedule or all its learning rates, and the updates after which losses are wanted.

    Args:
        schedule: A :class:`~latebloom.theory.schedules.Schedule`, or eta_0 ... eta_{T-1}, or two rates of groups.
        step: Whole numbers of updates in [1, T]; by default all of them, and then every update is a piece.

    Raises:
        InputError: for learning rates that are negative, not finite or all 0, and for steps outside the schedule.
    """
    return histories([(schedule, step)])


def histories(runs: Sequence[tuple[Schedule | GroupRates | ArrayLike, ArrayLike | None]]) -> History:
    """Several runs' histories as one, so that a law is evaluated on all of them at once.

    Args:
        runs: (schedule, step) of each run, as in :func:`history`; at least one.

    Raises:
        InputError: as in :func:`history`, if there is no run, or if some have two rates and some have one, or
            some have angles and some have none.
    """
    if not runs:
        raise InputError("runs", 0, "needs at least one run", "give (schedule, step) pairs")
    pieces = [_pieces(*run) for run in runs]
    two = [piece.others is not None for piece in pieces]
    if any(two) and not all(two):
        rule = "learning rates: some runs have two and some have one"
        raise InputError("runs", two, rule, "give the rates of the other parameters for all or for none")
    angles = [isinstance(schedule, GroupRates) and schedule.angles for schedule, _ in runs]
    if any(angles) and not all(angles):
        raise InputError(
            "runs", angles, "some turn and some have learning rates", "give turning rates for all or for none"
        )
    return History(
        lr=_padded([piece.lr for piece in pieces]),
        steps=_padded([piece.steps for piece in pieces]),
        run=np.repeat(np.arange(len(pieces)), [len(piece.edge) for piece in pieces]),
        edge=np.concatenate([piece.edge for piece in pieces]),
        warm=np.array([piece.warm for piece in pieces]),
        others=_padded([piece.others for piece in pieces if piece.others is not None]) if all(two) else None,
        angles=all(angles),
    )


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """(B, longest) the rows, zeros behind them."""
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.result_type(float, *rows))
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


@dataclass(frozen=True)
class _Pieces:
    """A run's pieces: learning rates, of the other parameters too if they have their own, and lengths; the edge of
    each point; how many are warm-up."""

    lr: np.ndarray
    others: np.ndarray | None
    steps: np.ndarray
    edge: np.ndarray
    warm: int


def _pieces(schedule: Schedule | GroupRates | ArrayLike, step: ArrayLike | None) -> _Pieces:
    others = np.asarray(schedule.others, dtype=float) if isinstance(schedule, GroupRates) else None
    if isinstance(schedule, GroupRates):
        schedule = schedule.matrices
    rates = schedule.lrs() if isinstance(schedule, Schedule) else np.asarray(schedule)
    if rates.ndim != 1 or len(rates) == 0:
        raise InputError("schedule", rates.shape, "must be one learning rate for each update", "give a 1-d array")
    bad = ~np.isfinite(rates) | (np.real(rates) < 0)
    if np.any(bad):
        rule = f"is not a learning rate (update {int(np.argmax(bad))})"
        raise InputError("lr", rates[bad][0].item(), rule, "give finite values >= 0")
    if not np.any(np.real(rates) > 0):
        raise InputError("lr", 0.0, "is zero everywhere", "give a schedule that trains")
    every = np.arange(1, len(rates) + 1)
    step = every if step is None else np.atleast_1d(np.asarray(step))
    if len(step) == 0 or not np.all(np.isfinite(step)) or np.any(step != np.floor(step)):
        raise InputError("step", step, "must be whole numbers of updates", "round them")
    if np.any(step < 1) or np.any(step > len(rates)):
        wrong = step[(step < 1) | (step > len(rates))][0].item()
        raise InputError("step", wrong, f"lies outside the schedule's 1 ... {len(rates)}", "give a longer schedule")
    step = step.astype(np.int64)
    real = np.real(rates)
    first = _warm_up(real)
    jumps = np.concatenate([_jumps(one) for one in (real, others) if one is not None])
    near = step[:, None] - 2 ** np.arange(30) if len(step) <= FEW else step[:0]  # short memories see the last updates
    edges = np.unique(np.concatenate([[0, first, int(step.max())], jumps[jumps < step.max()], step, near[near > 0]]))
    edges = edges[edges <= step.max()]
    if len(step) == len(rates):
        edges = np.arange(len(rates) + 1)
    steps = np.diff(edges)

    def means(values: np.ndarray) -> np.ndarray:
        return np.diff(np.concatenate([[0.0], np.cumsum(values)])[edges]) / steps

    return _Pieces(
        lr=means(rates),
        others=None if others is None else means(others),
        steps=steps,
        edge=np.searchsorted(edges, step),
        warm=int(np.searchsorted(edges, first)),
    )


def _jumps(rates: np.ndarray) -> np.ndarray:
    """Updates before which a rate has changed by another part of the largest one."""
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(rates)))])
    cells = np.floor(travelled / (RESOLUTION * np.max(rates)) * (1 - 1e-12))
    return np.flatnonzero(np.diff(cells)) + 1


def _warm_up(rates: np.ndarray) -> int:
    """Updates at the start before the learning rate stops rising."""
    falls = np.flatnonzero(np.diff(rates) <= 0)
    return int(falls[0]) if len(falls) and falls[0] > 0 else 0


def _factors(rates: np.ndarray, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, B, R) what each mode keeps over each piece, and what it gains there per unit of drive."""
    lag = np.diff(clock, axis=1).T[:, :, None]
    lost = np.expm1(-lag * rates)
    still = rates == 0
    return 1 + lost, np.where(still, lag, -lost / np.where(still, 1.0, rates))
