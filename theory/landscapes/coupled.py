r"""The coupled quadratic: growth exactly solved when trunk and new layers share curvature.

Notation
    W = [w, x]     trunk and new layers, W* the optimum; e = W - W*         H = [[A, C], [C', B]]   Hessian, C coupling
    x = 0          masked (before tau); x_0 a fresh run's, x_tau the grown run's first value
    S_t            learning-rate area, u = S_T - S_tau                        Q = B - C' A^-1 C       Schur complement

    loss             L = L0 + 1/2 e' H e = L0 + 1/2 |v|_A^2 + 1/2 |e_x|_Q^2,     v = e_w + A^-1 C e_x   (trunk's lag)
    small optimum    w0 = w* + A^-1 C x*,    L(w0, 0) - L0 = 1/2 x*' Q x*
    phase one        e_w(S) = A^-1 C x* + exp(-A S) (w_0 - w* - A^-1 C x*),   e_x = -x*
    afterwards       e(u) = exp(-H u) e_tau

The small and the large model do not share w*, as arXiv 2511.04981 assumes; what the small model misses is exactly a
Schur complement. The loss splits in one way only into what the trunk has not yet followed (v) and what the new layers
have not learned (e_x in the metric Q): **retention kappa** is defined in that metric,

    kappa(S_tau, u) = |e_x grown|_Q^2 / |e_x fresh|_Q^2,     both u after their start.

Without coupling (C = 0) it does not depend on S_tau, nor on u where x_tau - x* is a multiple of x_0 - x*: there it is
the kappa of :class:`latebloom.theory.landscapes.area.AreaLaw`. With coupling it starts from the ratio of the two
starts at u = 0 and tends to (q.e_tau)^2/(q.e_0)^2 of the slowest eigenvector q of H, e_tau containing what the trunk
did in phase one: this, and no property of the new layers, is how the trunk conditions them. If trunk modes are fast,
their lag kicks the new layers once, e_x -> e_x - C' A^-1 v, and these then move by Q: after a long phase one with
x_tau = 0 there is no kick (v = 0), while a fresh run is kicked by its whole trunk.

Which observable tells coupling from none:
    kappa(S_tau, u) at one u and two S_tau   equal without coupling, different with it
    R = F(u) - P(T), retention               never negative without coupling and kappa <= 1; with it, it can be
    Delta + F(S_T) at one u, two horizons    without: the trunk's own A(S_T) and a constant; with: not
Two runs that expand at different steps with the same area left, and one cold start, measure all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.growth import GrowthLandscape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import Schedule

__all__ = ["CoupledQuadratic", "random_coupled"]

Vector = tuple[float, ...]


class CoupledQuadratic(GrowthLandscape, frozen=True, kw_only=True, tag="coupled"):
    """A quadratic loss over trunk and new layers; small, full and grown runs in closed form.

    Args:
        small_depth: l.
        full_depth: L.
        floor: L0.
        hessian: H, symmetric and positive definite, rows of (A C; C' B); the trunk stands first.
        trunk_start: w_0 - w*, whose length says how many coordinates the trunk has.
        target: x*, seen from the masked value 0.
        fresh_start: x_0, where a fresh run's new layers start.
        grown_start: x_tau, where they start when they are added. Zero layers preserve the function.
        noise: Covariance of the gradient noise, rows; empty for none. Enters :meth:`descent` only.
    """

    floor: float
    hessian: tuple[Vector, ...]
    trunk_start: Vector
    target: Vector
    fresh_start: Vector
    grown_start: Vector
    noise: tuple[Vector, ...] = ()

    def check(self) -> None:
        super().check()
        w, x = len(self.trunk_start), len(self.target)
        for name in ("fresh_start", "grown_start"):
            if len(getattr(self, name)) != x:
                raise InputError(name, len(getattr(self, name)), f"needs {x} values, one a new layer", "match target")
        if w == 0 or x == 0:
            raise InputError("target", x, "needs a trunk and new layers", "give at least one coordinate each")
        for name, rows in {"hessian": self.hessian, "noise": self.noise}.items():
            if not rows and name == "noise":
                continue
            matrix = np.array(rows) if len({len(row) for row in rows}) == 1 else np.empty(0)
            if matrix.shape != (w + x, w + x) or not np.all(np.isfinite(matrix)):
                raise InputError(name, matrix.shape, f"must be {w + x} x {w + x} finite numbers", "give whole rows")
            if not np.allclose(matrix, matrix.T, rtol=1e-12, atol=1e-14):
                raise InputError(name, "...", "must be symmetric", "average it with its transpose")
            least = float(np.linalg.eigvalsh(matrix)[0])
            if least <= (0 if name == "hessian" else -1e-12):
                raise InputError(name, least, "is its least eigenvalue; it must be positive", "add curvature")

    # ---- the interface of every landscape ----

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates of a run that keeps ``depth``, on gradient flow. Nats."""
        self.check_depth(depth)
        area = np.asarray(schedule.area(step))
        if depth == self.full_depth:
            return self.floor + self._flow(self._fresh_error(), area)
        return self.floor + self._energy(self._phase_one(area))

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates of a run that grows after ``tau`` updates, on gradient flow. Nats."""
        step = np.asarray(step, dtype=float)
        area, at = np.asarray(schedule.area(step)), float(schedule.area(tau))
        after = self._flow(self._grown_error(at), np.maximum(area - at, 0.0))
        return self.floor + np.where(step > tau, after, self._energy(self._phase_one(np.minimum(area, at))))

    def excess(self, remaining: ArrayLike, total: float) -> np.ndarray:
        """Price of growing Delta = P(T) - F(S_T), in nats, with u = ``remaining`` of the area S_T = ``total`` left."""
        left = checks.within("remaining", remaining, 0.0, float(checks.non_negative("total", total)))
        return self.grown_after(total - left, left) - self.full_after(total)

    def mixing_area(self, tolerance: float, total: float) -> float:
        """u_mix: area to leave so that growing costs ``tolerance`` nats, the one from which on more area costs no more.

        Infinite if growing costs more even at the start, 0 if it costs less even at the end.

        Raises:
            InputError: if ``tolerance`` or ``total`` is not positive and finite.
        """
        if not (0 < tolerance < np.inf and 0 < total < np.inf):
            raise InputError("tolerance", (tolerance, total), "must be positive, as must the total area", "give 0.01")
        left = np.concatenate([[0.0], total * np.geomspace(1e-6, 1.0, 241)])
        price = np.array([float(self.excess(u, total)) for u in left]) - tolerance
        above = np.flatnonzero(price > 0)
        if above.size == 0:
            return 0.0
        last = above[-1]
        if last == len(left) - 1:
            return np.inf
        return float(
            scipy.optimize.brentq(lambda u: float(self.excess(u, total)) - tolerance, left[last], left[last + 1])
        )

    # ---- what only this landscape knows ----

    @property
    def schur(self) -> np.ndarray:
        """Curvature of the new layers once the trunk has followed them, Q = B - C' A^-1 C, shape (x, x)."""
        a, c, b = self._blocks()
        return b - c.T @ np.linalg.solve(a, c)

    @property
    def small_gap(self) -> float:
        """L(w0, 0) - L0 = 1/2 x*' Q x*: what the small model can never learn. Nats."""
        x = np.array(self.target)
        return float(0.5 * x @ self.schur @ x)

    def small_optimum(self) -> np.ndarray:
        """w0 - w* = A^-1 C x*, shape (w,): how far the small model's optimum lies from the large one's."""
        a, c, _ = self._blocks()
        return np.linalg.solve(a, c @ np.array(self.target))

    def full_after(self, area: ArrayLike) -> np.ndarray:
        """F(S): loss of a fresh full-depth run after learning-rate area S, on gradient flow. Nats."""
        return self.floor + self._flow(self._fresh_error(), checks.non_negative("area", area))

    def grown_after(self, phase_one: ArrayLike, remaining: ArrayLike) -> np.ndarray:
        """P: loss of a run grown after area S_tau = ``phase_one``, u = ``remaining`` later. Nats; arrays broadcast."""
        at, u = np.broadcast_arrays(
            checks.non_negative("phase_one", phase_one), checks.non_negative("remaining", remaining)
        )
        values = [float(self._flow(self._grown_error(a), b)) for a, b in zip(at.ravel(), u.ravel(), strict=True)]
        return self.floor + np.array(values).reshape(at.shape)

    def retention(self, phase_one: ArrayLike, remaining: ArrayLike) -> np.ndarray:
        """R = F(u) - P: what the small phase was worth over a cold start with the same area left. Nats."""
        return self.full_after(remaining) - self.grown_after(phase_one, remaining)

    def kappa(self, phase_one: float, remaining: float) -> float:
        """kappa(S_tau, u) = |e_x grown|_Q^2/|e_x fresh|_Q^2, each ``remaining`` after its start."""
        checks.non_negative("phase_one", phase_one)
        checks.non_negative("remaining", remaining)
        new = slice(len(self.trunk_start), None)
        grown = self._move(self._grown_error(phase_one), remaining)[new]
        fresh = self._move(self._fresh_error(), remaining)[new]
        return float(grown @ self.schur @ grown / (fresh @ self.schur @ fresh))

    def descent(self, schedule: Schedule, *, tau: int | None = None) -> np.ndarray:
        """Expected loss of discrete (stochastic) gradient descent after 0 ... T updates, exact, shape (T + 1,).

        e_{k+1} = (I - eta_k P H) e_k - eta_k P xi_k, P the projection on what is trained, xi of covariance ``noise``:
        mean and second moment are followed step by step.

        Args:
            schedule: Learning rates; unstable ones (eta > 2/largest eigenvalue) diverge here as they do in truth.
            tau: Updates before the expansion; T for the small run, None for a fresh full-depth run.

        Raises:
            InputError: if ``tau`` is not a whole number in [0, T].
        """
        steps, n, w = schedule.horizon, len(self.hessian), len(self.trunk_start)
        if tau is not None and not (0 <= tau <= steps and tau == int(tau)):
            raise InputError("tau", tau, f"must be a whole number in [0, {steps}]", "expand within the run")
        hessian = np.array(self.hessian)
        noise = np.array(self.noise) if self.noise else np.zeros((n, n))
        trained = np.ones(n)
        mean = self._fresh_error()
        if tau is not None:
            trained[w:] = 0.0
            mean[w:] = -np.array(self.target)
        moment = np.outer(mean, mean)
        out = np.empty(steps + 1)
        out[0] = 0.5 * np.sum(hessian * moment)
        for k, eta in enumerate(schedule.lrs()):
            if k == tau:
                trained[:] = 1.0
                mean[w:] = np.array(self.grown_start) - np.array(self.target)
                spread = np.zeros((n, n))
                spread[:w, :w] = moment[:w, :w] - np.outer(mean[:w], mean[:w])
                moment = np.outer(mean, mean) + spread
            step = np.eye(n) - eta * trained[:, None] * hessian
            mean = step @ mean
            moment = step @ moment @ step.T + eta**2 * trained[:, None] * noise * trained
            out[k + 1] = 0.5 * np.sum(hessian * moment)
        return self.floor + out

    def _blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        h, w = np.array(self.hessian), len(self.trunk_start)
        return h[:w, :w], h[:w, w:], h[w:, w:]

    def _fresh_error(self) -> np.ndarray:
        return np.concatenate([self.trunk_start, np.array(self.fresh_start) - np.array(self.target)])

    def _grown_error(self, phase_one: float) -> np.ndarray:
        e = self._phase_one(np.asarray(float(phase_one)))
        e[len(self.trunk_start) :] = np.array(self.grown_start) - np.array(self.target)
        return e

    def _phase_one(self, area: np.ndarray) -> np.ndarray:
        """e after area S with the new layers masked, shape (..., n)."""
        a, _, _ = self._blocks()
        limit = self.small_optimum()
        rate, q = np.linalg.eigh(a)
        lag = np.exp(-np.multiply.outer(area, rate)) * (q.T @ (np.array(self.trunk_start) - limit)) @ q.T
        x = np.broadcast_to(-np.array(self.target), (*area.shape, len(self.target)))
        return np.concatenate([limit + lag, x], axis=-1)

    def _move(self, start: np.ndarray, area: float) -> np.ndarray:
        rate, q = np.linalg.eigh(np.array(self.hessian))
        return q @ (np.exp(-rate * area) * (q.T @ start))

    def _flow(self, start: np.ndarray, area: np.ndarray) -> np.ndarray:
        """1/2 e' H e after area S from ``start``: 1/2 sum lambda (q.e)^2 exp(-2 lambda S)."""
        rate, q = np.linalg.eigh(np.array(self.hessian))
        return np.exp(-2 * np.multiply.outer(area, rate)) @ (0.5 * rate * (q.T @ start) ** 2)

    def _energy(self, e: np.ndarray) -> np.ndarray:
        return 0.5 * np.einsum("...i,ij,...j", e, np.array(self.hessian), e)


def random_coupled(
    *, trunk: int, new: int, coupling: float, exponent: float = 1.0, grown: float = 0.0, seed: int = 0
) -> CoupledQuadratic:
    """A coupled quadratic with power-law curvature, for experiments.

    H = D^(1/2) (I + ``coupling`` M) D^(1/2) with D = diag(k^-exponent) in each group and M a random coupling of norm 1,
    so that H is positive definite for coupling < 1.

    Args:
        trunk: Number of the trunk's coordinates.
        new: Number of the new layers' coordinates.
        coupling: In [0, 1).
        exponent: Decay of the spectrum.
        grown: x_tau as a multiple of the fresh x_0; 0 is function-preserving.
        seed: For M, w_0, x* and x_0.

    Raises:
        InputError: if there are no coordinates, ``coupling`` lies outside [0, 1), or a number is not finite.
    """
    checks.whole("trunk", trunk, 1)
    checks.whole("new", new, 1)
    checks.finite("exponent", exponent)
    checks.finite("grown", grown)
    checks.whole("seed", seed, 0)
    if not 0 <= coupling < 1:
        raise InputError("coupling", coupling, "must lie in [0, 1)", "H is not positive definite beyond")
    rng = np.random.default_rng(seed)
    root = np.concatenate([np.arange(1, n + 1) ** (-exponent / 2) for n in (trunk, new)])
    m = rng.normal(size=(trunk, new))
    m /= np.linalg.norm(m, 2)
    h = np.eye(trunk + new)
    h[:trunk, trunk:], h[trunk:, :trunk] = coupling * m, coupling * m.T
    h = root[:, None] * h * root
    w, target, fresh = rng.normal(size=trunk), rng.normal(size=new), 0.3 * rng.normal(size=new)
    return CoupledQuadratic(
        small_depth=1,
        full_depth=4,
        floor=2.0,
        hessian=_rows((h + h.T) / 2),
        trunk_start=tuple(w.tolist()),
        target=tuple(target.tolist()),
        fresh_start=tuple(fresh.tolist()),
        grown_start=tuple((grown * fresh).tolist()),
    )


def _rows(matrix: np.ndarray) -> tuple[Vector, ...]:
    return tuple(tuple(row) for row in matrix.tolist())
