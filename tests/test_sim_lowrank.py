"""The low-rank family: gradient, floor, edge of stability, data. Fast code against slow readable references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.lowrank import LowRank, product
from latebloom.sim.mapping import SGD
from latebloom.sim.stability import sharpness
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Stage
from latebloom.theory.schedules import Constant

torch.set_num_threads(1)

# Round-off of sums of a few hundred products: some 10 eps, relative to the largest entry; 100 eps leaves room.
ROUND_OFF = {"float32": 1e-5, "float64": 1e-10}


def naive_loss(u_Ldr, v_Lrd, x, y, s):
    """The network as it is written on paper, one block after the other."""
    h = x
    for u, v in zip(u_Ldr, v_Lrd, strict=True):
        h = h + s * u @ (v @ h)
    return 0.5 * ((h - y) ** 2).sum()


def minimum(family: LowRank, depth: int) -> tuple[float, tuple[torch.Tensor, torch.Tensor]]:
    """Least loss found by L-BFGS on the hand gradient, from a fresh net."""
    start = family.fresh([0], range(depth))
    data, sizes, shapes = family.population(1), [b.numel() for b in start], [b.shape for b in start]

    def unpack(theta):
        return tuple(p.reshape(s) for p, s in zip(torch.tensor(theta).split(sizes), shapes, strict=True))

    def fun(theta):
        value, gradient = family.gradient(unpack(theta), data)
        return float(value[0]), torch.cat([g.reshape(-1) for g in gradient]).numpy()

    theta0 = torch.cat([b.reshape(-1) for b in start]).numpy()
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10}
    found = scipy.optimize.minimize(fun, theta0, jac=True, method="L-BFGS-B", options=options)
    return float(found.fun), unpack(found.x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("depth", "rank", "alpha"), [(1, 3, 1.0), (2, 2, 0.5), (5, 2, 0.0), (8, 1, 1.0)])
def test_gradient_is_autograds(dtype, depth, rank, alpha):
    family = LowRank(width=10, rank=rank, alpha=alpha, input_exponent=0.7, init_std=1.5, batch=7, dtype=dtype)
    blocks = family.fresh([3, 4], range(depth))
    streams = [torch.Generator().manual_seed(i) for i in range(2)]
    for data in (family.population(2), family.sample(streams)):
        value, gradient = family.gradient(blocks, data)
        for run in range(2):
            u, v = (b[run].clone().requires_grad_() for b in blocks)
            expected = naive_loss(u, v, data[0][run], data[1][run], family.multiplier(depth))
            expected.backward()
            for ours, theirs in zip(gradient, (u.grad, v.grad), strict=True):
                scale = float(theirs.abs().max())
                torch.testing.assert_close(ours[run], theirs, rtol=0, atol=ROUND_OFF[dtype] * scale)
            torch.testing.assert_close(value[run], expected.detach(), rtol=ROUND_OFF[dtype], atol=0)
        torch.testing.assert_close(family.loss(blocks, data), value, rtol=ROUND_OFF[dtype], atol=0)


def test_zero_depth_is_the_identity():
    family = LowRank(width=6, dtype="float64")
    blocks = family.fresh([0, 1], range(0))
    value, gradient = family.gradient(blocks, family.population(2))
    expected = 0.5 * (family.teacher() - torch.eye(6, dtype=torch.float64)).square().sum()
    torch.testing.assert_close(value, expected.expand(2))
    assert gradient[0].shape == (2, 0, 6, 2)
    assert family.floor(0) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("input_exponent", [0.0, 1.0])
def test_floor_is_reached_and_never_beaten(depth, input_exponent):
    """The Eckart-Young floor to 1e-4 relative: what L-BFGS leaves along the flat directions of a deep net."""
    family = LowRank(width=12, rank=1, input_exponent=input_exponent, init_std=1.0, dtype="float64")
    least = (
        minimum(family, depth)[0] if depth else float(family.loss(family.fresh([0], range(0)), family.population(1)))
    )
    floor = family.floor(depth)
    assert floor * (1 - 1e-12) <= least <= floor * (1 + 1e-4)


def test_floor_by_formula_when_inputs_are_white():
    """With Sigma = 1 the singular values are sigma_k = k^-a themselves."""
    family = LowRank(width=9, rank=2, teacher_exponent=1.3)
    for depth in range(5):
        k = np.arange(2 * depth + 1, 10)
        assert family.floor(depth) == pytest.approx(0.5 * np.sum(k**-2.6), rel=1e-12)
    assert family.floor(family.max_depth() + 1) == 0.0


def test_minibatch_gradient_is_the_population_gradient_on_average():
    """20 000 samples: relative standard error about sqrt(d/20000) = 2 %; 8 % is four of them."""
    family = LowRank(width=8, input_exponent=0.5, noise=0.2, batch=20_000, dtype="float64")
    blocks = family.fresh([0], range(3))
    _, exact = family.gradient(blocks, family.population(1))
    _, sampled = family.gradient(blocks, family.sample([torch.Generator().manual_seed(0)]))
    for e, s in zip(exact, sampled, strict=True):
        assert float((e - s).norm() / e.norm()) < 0.08


def test_irreducible_noise_is_left_out_of_the_population_loss():
    """A minibatch's loss is larger by d sigma^2/2; standard error of a mean of 5000 x 8 squares: 0.7 %."""
    family = LowRank(width=8, noise=0.5, batch=5000, dtype="float64")
    blocks = family.fresh([0], range(2))
    batch = float(family.loss(blocks, family.sample([torch.Generator().manual_seed(1)])))
    clean = float(family.loss(blocks, family.population(1)))
    assert batch - clean == pytest.approx(8 * 0.5**2 / 2, rel=0.1)


def test_blocks_of_a_seed_do_not_depend_on_what_else_is_drawn():
    family = LowRank()
    many, one = family.fresh([0, 5, 9], range(6)), family.fresh([5], range(2, 4))
    for a, b in zip(many, one, strict=True):
        assert torch.equal(a[1:2, 2:4], b)
        assert not torch.equal(a[0], a[1])


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian():
    """Against autograd's full Hessian. 1e-6: differences of step eps^(1/3) err by eps^(2/3), about 4e-11, and the power
    method is run to convergence."""
    family = LowRank(width=4, rank=1, init_std=1.0, dtype="float64")
    depth = 3
    _, blocks = minimum(family, depth)
    x, y = (t[0] for t in family.population(1))

    def scalar(theta):
        u, v = theta.split([depth * 4, depth * 4])
        return naive_loss(u.view(depth, 4, 1), v.view(depth, 1, 4), x, y, family.multiplier(depth))

    theta = torch.cat([b.reshape(-1) for b in blocks])
    top = float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(scalar, theta))[-1])
    assert float(sharpness(family, blocks, family.population(1), iterations=400)) == pytest.approx(top, rel=1e-6)


@pytest.mark.parametrize(("alpha", "input_exponent"), [(0.0, 0.0), (1.0, 0.8)])
def test_edge_of_stability_by_formula(alpha, input_exponent):
    """eta_c of one block within 1 %: gradient descent goes back to the minimum below it and leaves it above.

    1 % off eta_c the unstable direction changes by -1.02 or -0.98 a step: a factor 7.2 or 0.13 in 100 steps.
    """
    family = LowRank(width=6, rank=1, alpha=alpha, input_exponent=input_exponent, dtype="float64")
    u = (family.teacher() - torch.eye(6, dtype=torch.float64))[:, :1]  # sigma_1 = 1
    best = u.view(1, 1, 6, 1), torch.eye(6, dtype=torch.float64)[:1].view(1, 1, 1, 6)
    data = family.population(1)
    assert float(family.loss(best, data)) == pytest.approx(family.floor(1), rel=1e-12)
    eta_c = family.step_limit(1)
    assert 2 / float(sharpness(family, best, data, iterations=300)) == pytest.approx(eta_c, rel=0.01)
    for share, leaves in ((0.99, False), (1.01, True)):
        blocks = tuple(b + 1e-6 * b for b in best)
        for _ in range(100):
            _, gradient = family.gradient(blocks, data)
            blocks = tuple(b - share * eta_c * g for b, g in zip(blocks, gradient, strict=True))
        distance = float((product(blocks, s=family.multiplier(1)) - product(best, s=family.multiplier(1))).norm())
        assert (distance > 4e-6) == leaves, distance


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_edge_of_stability_of_deep_nets(depth, alpha):
    """Where gradient descent from a small start ends, the formula is off by what products of blocks add: < 6 % here
    (2 blocks 4-6 %, 4 blocks 1 %, 8 blocks 2-4 %)."""
    family = LowRank(width=20, rank=1, alpha=alpha, init_std=0.2, dtype="float64")
    schedule = Constant(steps=1500, peak_lr=0.3 * family.step_limit(depth))
    arm = Arm(name="fixed", seed=0, schedule=schedule, stages=(Stage(start_step=0, depth=depth),))
    (curve,) = run_arms(family, [arm], optimizer=SGD, noisy=False)
    measured = 2 / float(sharpness(family, curve.blocks, family.population(1)))
    assert measured == pytest.approx(family.step_limit(depth), rel=0.06)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("width", 0),
        ("width", 2.5),
        ("width", float("inf")),
        ("rank", 0),
        ("rank", 33),
        ("batch", 0),
        ("batch", float("nan")),
        ("alpha", float("nan")),
        ("alpha", -1.0),
        ("noise", -0.1),
        ("noise", float("inf")),
        ("init_std", 0.0),
        ("dtype", "float16"),
    ],
)
def test_bad_families_are_refused(argument, value):
    with pytest.raises(InputError, match=argument):
        LowRank(**{argument: value})


@pytest.mark.parametrize("iterations", [0, -1, 1.5, float("nan"), float("inf")])
def test_sharpness_needs_iterations(iterations):
    family = LowRank(width=4, rank=1)
    with pytest.raises(InputError, match="iterations"):
        sharpness(family, family.fresh([0], range(1)), family.population(1), iterations=iterations)
