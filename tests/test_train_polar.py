"""Polar factors: the rational function is Zolotarev's, both ways keep singular vectors and bring values near one."""

import numpy as np
import pytest
import torch

from latebloom.train.optim.polar import polar_express, rational, zolotarev

SHAPES = [(96, 96), (24, 96), (96, 24), (8, 200), (200, 8), (1, 5)]
FLOAT32 = 2e-3  # the smallest pole is 6e-6 of the squared norm, a hundred roundings


def spectrum_of(shape, values, seed=0):
    """(U, X, V) with the given singular values, scaled to norm one."""
    g = torch.Generator().manual_seed(seed)
    n = min(shape)
    u, v = (torch.linalg.qr(torch.randn(k, n, dtype=torch.float64, generator=g))[0] for k in shape)
    s = torch.as_tensor(values(np.arange(1, n + 1)), dtype=torch.float64)
    return u, (u * (s / s.norm())) @ v.T, v


@pytest.mark.parametrize("poles", [1, 2, 3])
@pytest.mark.parametrize("smallest", [1e-2, 1e-3])
def test_the_rational_function_alternates(poles, smallest):
    """2 poles + 2 extrema of one size and alternating sign: no odd function of its type is better (Chebyshev)."""
    scale, shares, at, error = rational(poles, smallest)
    s = np.concatenate([np.geomspace(smallest, 1, 200_001), [1.0]])
    off = scale * s * (1 + sum(a / (s**2 + c) for a, c in zip(shares, at, strict=True))) - 1
    signs = np.sign(off[np.abs(off) > error * (1 - 1e-6)])
    assert np.abs(off).max() == pytest.approx(error, rel=1e-9)
    assert 1 + np.count_nonzero(np.diff(signs)) == 2 * poles + 2


def test_no_other_weights_are_better():
    """The best C and a_j for these poles, found by linear programming, have Zolotarev's error; so has no moved pole."""
    from scipy.optimize import linprog

    _, _, at, error = rational()

    def best(poles):
        s = np.geomspace(1e-3, 1, 2000)
        basis = np.array([s, *(s / (s**2 + c) for c in poles)]).T
        basis /= np.abs(basis).max(0)
        one = np.ones((len(s), 1))
        found = linprog(
            [0] * basis.shape[1] + [1], A_ub=np.block([[basis, -one], [-basis, -one]]),
            b_ub=np.concatenate([one, -one]).ravel(), bounds=[(None, None)] * basis.shape[1] + [(0, None)],
        )  # fmt: skip
        return found.fun

    assert best(at) == pytest.approx(error, rel=1e-4)
    for j, factor in ((0, 1.3), (0, 0.7), (1, 1.3), (1, 0.7)):
        moved = at.copy()
        moved[j] *= factor
        assert best(moved) > error * 1.01


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("way", "error"), [(zolotarev, 0.2022), (lambda x: polar_express(x[None])[0], 0.3)])
def test_singular_vectors_stay_and_values_come_near_one(way, error, shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    values = u.T @ way(x) @ vh.T
    kept = values.diagonal()[s / torch.linalg.matrix_norm(x) > 1e-3]
    assert float((values - torch.diag(values.diagonal())).abs().max()) < 1e-9
    assert float((kept - 1).abs().max()) < error


@pytest.mark.parametrize(
    "values", [lambda i: i**-1.0, lambda i: i**-0.5, lambda i: np.where(i == 1, 1, 1.5e-3), lambda i: 1.0 * (i < 9)],
    ids=["1/i", "1/sqrt", "one large", "rank 8"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(256, 256), (128, 512), (512, 128)])
def test_float32_holds_for_any_spectrum(values, shape):
    u, x, v = spectrum_of(shape, values)
    y = zolotarev(x.float()).double()
    torch.testing.assert_close(y, zolotarev(x), rtol=0, atol=FLOAT32)
    kept = torch.linalg.svdvals(x) > 1e-3
    assert float(((u.T @ y @ v).diagonal()[kept] - 1).abs().max()) < 0.2022 + FLOAT32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_and_layout_change_nothing(dtype):
    """Squares of entries of 1e30 leave float32's range; zero stays zero. Powers of two make no rounding."""
    x = torch.randn(12, 30, dtype=dtype, generator=torch.Generator().manual_seed(0))
    expected = zolotarev(x)
    for scale in (2.0**-100, 2.0**100):
        assert torch.equal(zolotarev(scale * x), expected)
    for same in (x.mT.contiguous().mT, torch.cat([x, x], 1)[:, :30]):
        torch.testing.assert_close(zolotarev(same), expected, rtol=0, atol=1e-5)
    assert torch.equal(zolotarev(torch.zeros_like(x)), torch.zeros_like(x))


def test_a_batch_is_its_matrices():
    x = torch.randn(3, 24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(zolotarev(x), torch.stack([zolotarev(a) for a in x]), rtol=0, atol=1e-12)


def test_bfloat16_quintics_have_singular_values_near_one():
    """What GPUs take: bfloat16 keeps 0.6 ... 1.35 for singular values above 1e-2 of the norm."""
    for shape in ((64, 64), (32, 128), (128, 32)):
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        y = polar_express(x.bfloat16())
        assert y.dtype == torch.bfloat16
        for a, b in zip(x, y.float(), strict=True):
            u, s, vh = torch.linalg.svd(a, full_matrices=False)
            diagonal = (u.T @ b @ vh.T).diagonal()[s / torch.linalg.matrix_norm(a) > 1e-2]
            assert float(diagonal.min()) > 0.6
            assert float(diagonal.max()) < 1.35


def test_low_rank_gradients_stay_finite_in_bfloat16():
    g = torch.Generator().manual_seed(0)
    for shape in ((64, 64), (32, 256), (256, 32)):
        x = torch.randn(shape[0], 1, generator=g) @ torch.randn(1, shape[1], generator=g)
        x = x + 1e-3 * torch.randn(shape, generator=g)
        y = polar_express(x.bfloat16()[None])[0].float()
        assert torch.isfinite(y).all()
        assert float(torch.linalg.matrix_norm(y, 2)) < 1.5
