"""Scaling laws: closed forms against brute force, fits against laws they should find, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from latebloom.theory.errors import InputError
from latebloom.theory.fitting.engine import project
from latebloom.theory.fitting.scaling import fit_shape_law, fit_size_law
from latebloom.theory.landscapes.scaling import ShapeLaw, SizeLaw
from latebloom.theory.spec import decode
from tests.benchmarks.scaling_laws import leagues

# A fit to exact data ends where the optimiser's step is below 1e-8 of the box, along a flat valley.
EXACT_FIT = 1e-4
# Nelder-Mead stops at 1e-7 in log shape, where the loss is flat to second order.
OPTIMUM = 1e-4

CHINCHILLA = SizeLaw(
    floor=1.8172, size_amplitude=482.01, size_exponent=0.3478, token_amplitude=2085.43, token_exponent=0.3658
)
SHAPE = ShapeLaw(
    floor=1.2,
    width_amplitude=0.6,
    width_exponent=0.6,
    depth_amplitude=0.5,
    depth_exponent=0.4,
    token_amplitude=0.25,
    token_exponent=0.6,
    lr_exponent=0.3,
    noise=0.03,
    width_reference=768.0,
    depth_reference=16.0,
    token_reference=3e10,
    lr_reference=1e-3,
)


def suite(seed: int = 0, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Twelve shapes along their tokens, learning rate by shape, with multiplicative noise."""
    rng = np.random.default_rng(seed)
    shapes = [(w, l) for w in (256, 512, 1024, 2048) for l in (4, 12, 36)]
    w, l, d = (
        np.array(c, dtype=float) for c in zip(*[(w, l, 1e10 * k) for w, l in shapes for k in range(1, 7)], strict=True)
    )
    lr = 3.0 / (w * np.sqrt(l))
    loss = SHAPE.loss(w, l, d, lr) * np.exp(noise * rng.standard_normal(len(w)))
    return {"width": w, "depth": l, "tokens": d, "loss": loss, "lr": lr}


def test_size_law_term_by_term():
    n, d = 70e9, 1.4e12
    by_hand = 1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658
    assert CHINCHILLA.loss(n, d) == pytest.approx(by_hand, rel=1e-14)


@pytest.mark.parametrize("compute", [1e18, 1e21, 1e24])
def test_compute_optimum_against_search(compute):
    found = CHINCHILLA.optimum(compute)
    search = minimize_scalar(
        lambda u: float(CHINCHILLA.loss(np.exp(u), compute / 6 / np.exp(u))), bounds=(10, 40), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert found.loss == pytest.approx(search.fun, rel=1e-12)
    assert found.parameters == pytest.approx(np.exp(search.x), rel=1e-5)  # the minimum is flat: sqrt of 1e-10
    assert 6 * found.parameters * found.tokens == pytest.approx(compute, rel=1e-12)


def test_compute_optimum_exponent():
    n = [CHINCHILLA.optimum(c).parameters for c in (1e18, 1e24)]
    slope = np.log(n[1] / n[0]) / np.log(1e6)
    assert slope == pytest.approx(0.3658 / (0.3478 + 0.3658), rel=1e-9)


def test_fit_size_law_finds_the_law():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e9, 1e12, 8)))
    law = fit_size_law(n, d, CHINCHILLA.loss(n, d), starts=4)
    for name in ("floor", "size_amplitude", "size_exponent", "token_amplitude", "token_exponent"):
        assert getattr(law, name) == pytest.approx(getattr(CHINCHILLA, name), rel=EXACT_FIT), name


def test_fit_size_law_is_robust():
    """Three runs that diverged by 30 % move a Huber fit by less than 1 %; least squares would move by several."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e9, 1e12, 8)))
    loss = CHINCHILLA.loss(n, d)
    loss[[3, 30, 50]] *= 1.3
    assert fit_size_law(n, d, loss, starts=4).floor == pytest.approx(CHINCHILLA.floor, rel=0.01)


def test_shape_law_term_by_term_and_broadcast():
    by_hand = 1.2 + 0.6 * 2**-0.6 + 0.5 * 0.5**-0.4 + 0.25 * 3**-0.6 * 2**-0.3 + 0.03 * 2
    assert SHAPE.loss(1536, 8, 9e10, 2e-3) == pytest.approx(by_hand, rel=1e-14)
    assert SHAPE.loss([[768], [1536]], 16, [1e10, 2e10, 3e10], 1e-3).shape == (2, 3)


def test_learning_rate_and_tokens_share_a_clock():
    """The token term depends on D eta^(d/c) alone."""
    quiet = SHAPE.replace(noise=0.0)
    slower = quiet.loss(768, 16, 1e10 * 2 ** (0.3 / 0.6), 1e-3 / 2)
    assert slower == pytest.approx(quiet.loss(768, 16, 1e10, 1e-3), rel=1e-13)


def test_fit_shape_law_finds_the_law():
    data = suite()
    law = fit_shape_law(data["width"], data["depth"], data["tokens"], data["loss"], lr=data["lr"])
    names = ("width_exponent", "depth_exponent", "token_exponent", "lr_exponent", "floor")
    for name in names:
        assert getattr(law, name) == pytest.approx(getattr(SHAPE, name), rel=100 * EXACT_FIT), name
    np.testing.assert_allclose(law.loss(4096, 60, 1e11, 1e-4), SHAPE.loss(4096, 60, 1e11, 1e-4), rtol=10 * EXACT_FIT)


def test_shape_law_extrapolates_where_the_size_law_cannot():
    """Trained on the small shapes only, at 0.2 % noise: the shape law predicts the large ones, N and D alone do not."""
    data = suite(seed=1, noise=2e-3)
    small = data["width"] < 2048
    fit = {name: column[small] for name, column in data.items()}
    law = fit_shape_law(fit["width"], fit["depth"], fit["tokens"], fit["loss"], lr=fit["lr"])
    test = {name: column[~small] for name, column in data.items()}
    shape_error = np.abs(law.loss(test["width"], test["depth"], test["tokens"], test["lr"]) / test["loss"] - 1).mean()
    size = fit_size_law(12 * fit["width"] ** 2 * fit["depth"], fit["tokens"], fit["loss"], starts=4)
    size_error = np.abs(size.loss(12 * test["width"] ** 2 * test["depth"], test["tokens"]) / test["loss"] - 1).mean()
    assert shape_error < 0.01
    assert size_error > 2 * shape_error


def test_shape_optimum_against_grid():
    def parameters(w, l):
        return 12 * w**2 * l

    def lr(w, l):
        return 3.0 / (w * np.sqrt(l))

    best = SHAPE.optimum(1e21, parameters=parameters, lr=lr)
    w, l = np.meshgrid(np.geomspace(256, 16384, 601), np.geomspace(1, 200, 601))
    loss = SHAPE.loss(w, l, 1e21 / 6 / parameters(w, l), lr(w, l))
    assert best.loss <= loss.min() * (1 + 1e-12)
    assert best.loss == pytest.approx(loss.min(), rel=OPTIMUM)
    i = np.unravel_index(np.argmin(loss), loss.shape)
    assert best.depth == pytest.approx(l[i], rel=0.03)  # three grid steps: the valley is flat
    assert best.width == pytest.approx(w[i], rel=0.03)
    fixed = SHAPE.optimum(1e21, parameters=parameters, lr=lr, depth=(12.0, 12.0))
    assert fixed.depth == pytest.approx(12.0)
    assert fixed.loss >= best.loss


def test_shape_optimum_first_order_condition():
    """With N = 12 w^2 L and no learning-rate effect: a A_w = 2 b A_L at the optimum (per e-fold of width and depth)."""
    law = SHAPE.replace(lr_exponent=0.0, noise=0.0)
    best = law.optimum(1e21, parameters=lambda w, l: 12 * w**2 * l, lr=lambda w, l: 1e-3)
    width = law.width_exponent * law.width_amplitude * (best.width / 768) ** -law.width_exponent
    depth = law.depth_exponent * law.depth_amplitude * (best.depth / 16) ** -law.depth_exponent
    assert width == pytest.approx(2 * depth, rel=1e-4)


def test_shape_optimum_refuses_the_end_of_a_range():
    with pytest.raises(InputError, match="end of the range"):
        SHAPE.optimum(1e21, parameters=lambda w, l: 12 * w**2 * l, lr=lambda w, l: 1e-3, depth=(1.0, 2.0))
    with pytest.raises(InputError, match="range of positive numbers"):
        SHAPE.optimum(1e21, parameters=lambda w, l: 12 * w**2 * l, lr=lambda w, l: 1e-3, depth=(3.0, 2.0))


def test_law_without_learning_rate():
    """Fitted without rates, the law is additive; it predicts without one, and refuses to be a law that needs one."""
    law = SHAPE.replace(lr_exponent=0.0, noise=0.0)
    data = suite()
    columns = [data[name] for name in ("width", "depth", "tokens")]
    found = fit_shape_law(*columns, law.loss(*columns))
    assert found.lr_exponent == found.noise == 0
    np.testing.assert_allclose(found.loss(4096, 60, 1e11), law.loss(4096, 60, 1e11), rtol=10 * EXACT_FIT)
    assert law.optimum(1e21, parameters=lambda w, l: 12 * w**2 * l).depth > 1
    with pytest.raises(InputError, match="lr = None: is needed"):
        SHAPE.loss(768, 16, 1e10)


def test_projection_solves_a_linear_problem():
    """With the nonlinear parameter at its true value the coefficients are those of non-negative least squares."""
    x = np.linspace(1, 5, 40)
    found = project(
        lambda p: np.column_stack([np.ones_like(x), x ** -p[0]]),
        1.5 + 2 * x**-0.7,
        np.array([[0.1, 2.0]]),
        threshold=1e-3,
    )
    np.testing.assert_allclose([*found.linear, found.nonlinear[0]], [1.5, 2, 0.7], rtol=1e-6)


def test_bad_input():
    data = suite()
    columns = [data[name] for name in ("width", "depth", "tokens", "loss")]
    with pytest.raises(InputError, match=r"lr = 1.0: is the same at every point"):
        fit_shape_law(*columns, lr=np.ones(len(columns[0])))
    with pytest.raises(InputError, match="must have one value"):
        fit_shape_law(*columns, lr=data["lr"][:-1])
    with pytest.raises(InputError, match="too few"):
        fit_size_law([1e6, 2e6], [1e9, 2e9], [3.0, 2.9])
    bad = data["loss"].copy()
    bad[4] = np.nan
    with pytest.raises(InputError, match=r"loss\[4\] = nan"):
        fit_size_law(data["width"], data["tokens"], bad)
    for value in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="finite and positive"):
            CHINCHILLA.loss(value, 1e9)
        with pytest.raises(InputError, match="finite and positive"):
            CHINCHILLA.optimum(value)


def test_laws_are_plain_data():
    assert decode(CHINCHILLA.to_json(), SizeLaw) == CHINCHILLA
    assert decode(SHAPE.to_json(), ShapeLaw) == SHAPE


def test_league_rows(tmp_path):
    """The benchmark on a made-up suite in the published file's format: every row has the keys of the league."""
    data = suite(noise=1e-3)
    n = 12 * data["width"] ** 2 * data["depth"]
    lines = [
        json.dumps({"run_name": "x", "params_active_precise": a, "width": w, "depth": l, "tokens": t, "final_loss": y})
        for a, w, l, t, y in zip(n, data["width"], data["depth"], data["tokens"], data["loss"], strict=True)
    ]
    (tmp_path / "gemstones").mkdir()
    (tmp_path / "gemstones" / "hot.jsonl").write_text("\n".join(lines) + "\n")
    league = leagues(tmp_path)
    assert set(league) == {"size", "additive", "shape"}
    assert all(set(rows) == {"gemstones_depth", "gemstones_wrapped"} for rows in league.values())
    row = league["shape"]["gemstones_depth"]
    assert set(row) == {"r2", "mean_rel_error", "worst_rel_error", "best_lr_rate", "seconds"}
    assert row["mean_rel_error"] < 0.005 < league["additive"]["gemstones_depth"]["mean_rel_error"]


def test_leagues_leaves_out_what_is_absent(tmp_path, capsys):
    assert leagues(tmp_path) == {}
    assert "hot.jsonl is absent" in capsys.readouterr().err
