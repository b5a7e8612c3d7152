"""Chains of square maps: gradients, floors, the fused step, growth; fast code against slow readable references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latebloom.sim.chain import Coupled, FullRank, PlainDeep
from latebloom.sim.engine import Arm, run_arms
from latebloom.sim.growth import add_blocks
from latebloom.sim.mapping import SGD
from latebloom.sim.optimizers import initial_state, update_blocks_
from latebloom.sim.validation.retention import hessian
from latebloom.theory.plan import Optimizer, Stage
from latebloom.theory.schedules import Constant, wsd

from tests.naive import naive_descent  # isort: skip

torch.set_num_threads(1)

ROUND_OFF = {"float32": 1e-5, "float64": 1e-10}  # of the largest entry: sums of a few hundred products

FAMILIES = {
    "fullrank": lambda **more: FullRank(width=6, alpha=0.5, init_std=1.2, **more),
    "plain": lambda **more: PlainDeep(width=6, init_std=1.2, **more),
    "tied": lambda **more: Coupled(width=6, tied=True, init_std=0.8, **more),
    "free": lambda **more: Coupled(width=6, tied=False, init_std=0.8, **more),
}


def product(family, blocks):
    """P of one run, as it is written on paper."""
    eye = torch.eye(family.width, dtype=blocks[0].dtype)
    p = eye
    for w in blocks[0][0]:
        p = w @ p if family.name.startswith("plain") else (eye + family.multiplier(blocks[0].shape[1]) * w) @ p
    if family.name.startswith("coupled"):
        last = blocks[1][0, 0].mT if family.tied else blocks[2][0, 0]
        p = last @ p @ blocks[1][0, 0]
    return p


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_is_autograds(name, depth, dtype):
    family = FAMILIES[name](dtype=dtype, batch=9, noise=0.2)
    blocks = family.fresh([5], range(depth))
    for data in (family.population(1), family.sample([torch.Generator().manual_seed(0)])):
        value, gradient = family.gradient(blocks, data)
        leaves = tuple(b.clone().requires_grad_() for b in blocks)
        expected = 0.5 * (product(family, leaves) @ data[0][0] - data[1][0]).square().sum()
        expected.backward()
        torch.testing.assert_close(value[0], expected.detach(), rtol=ROUND_OFF[dtype], atol=0)
        torch.testing.assert_close(family.loss(blocks, data), value, rtol=ROUND_OFF[dtype], atol=0)
        for ours, leaf in zip(gradient, leaves, strict=True):
            scale = float(leaf.grad.abs().max())
            torch.testing.assert_close(ours, leaf.grad, rtol=0, atol=ROUND_OFF[dtype] * scale)


@pytest.mark.parametrize("population", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_fused_step_is_the_gradient_step(name, population):
    family = FAMILIES[name](dtype="float64", input_exponent=0.6)
    blocks = family.fresh([1, 2], range(3))
    data = family.population(2) if population else family.sample([torch.Generator().manual_seed(i) for i in range(2)])
    lr = torch.tensor([0.01, 0.03], dtype=torch.float64)
    fused, plain = tuple(b.clone() for b in blocks), tuple(b.clone() for b in blocks)
    for _ in range(5):
        family.descend_(fused, data, lr, population=population)
        update_blocks_(SGD, plain, family.gradient(plain, data)[1], initial_state(SGD, plain), lr=lr)
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_rate_is_the_same_rate_for_every_run(name):
    family = FAMILIES[name](dtype="float64")
    start, data = family.fresh([1, 2], range(3)), family.sample([torch.Generator().manual_seed(i) for i in range(2)])
    one, each = tuple(b.clone() for b in start), tuple(b.clone() for b in start)
    columns = data[0].shape[-1]
    one_step, each_step = family.descent(one, columns=columns), family.descent(each, columns=columns)
    for lr in (0.01, 0.03):
        one_step(data, lr)
        each_step(data, torch.full((2,), lr, dtype=torch.float64))
    for a, b, c in zip(one, each, start, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert (a - c).abs().max() > 1e-6


def test_the_engine_leaves_tensors_that_autograd_takes():
    """It trains in inference mode; what it returns or keeps for later must not be bound to it."""
    family, stages = FullRank(width=6), (Stage(start_step=0, depth=2),)
    for noisy in (True, False):
        arm = Arm(name="a", seed=0, schedule=wsd(steps=4, peak_lr=0.1), stages=stages)
        (curve,) = run_arms(family, [arm], optimizer=SGD, noisy=noisy)
        leaves = tuple(b.clone().requires_grad_() for b in curve.blocks)
        family.gradient(leaves, family.population(1))[0].sum().backward()
        assert not curve.blocks[0].is_inference()
        assert leaves[0].grad.abs().sum() > 0


def test_the_engine_is_the_naive_loop():
    """The whole engine, float32, against tests/naive.py after 60 steps of WSD: round-off of 60 steps."""
    family, depth, schedule = FullRank(width=16), 8, wsd(steps=60, peak_lr=0.5)
    stages = (Stage(start_step=0, depth=depth),)
    arms = [Arm(name="a", seed=seed, schedule=schedule, stages=stages) for seed in range(3)]
    curves = run_arms(family, arms, optimizer=SGD, noisy=False)
    x, y = (t[0] for t in family.population(1))
    for seed, curve in enumerate(curves):
        weights = [w.clone().requires_grad_() for w in family.fresh([seed], range(depth))[0][0]]
        naive_descent(weights, x, y, s=family.multiplier(depth), lrs=schedule.lrs().tolist())
        assert curve.loss[0] > 2 * curve.final
        for ours, theirs in zip(curve.blocks[0][0], weights, strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "depth"), [("fullrank", 1), ("fullrank", 0), ("tied", 0), ("tied", 1), ("free", 0)])
def test_floor_is_reached_and_never_beaten(name, depth):
    """Adam from a fresh net, its rate decaying: 2 % of the initial loss above the floor at most, never below."""
    common = {"init_std": 0.3, "dtype": "float64", "alpha": 0.5}
    family = {
        "fullrank": lambda: FullRank(width=6, **common),
        "tied": lambda: Coupled(width=6, tied=True, **common),
        "free": lambda: Coupled(width=6, tied=False, **common),
    }[name]()
    rule = Optimizer(name="adamw", momentum=0.9, weight_decay=0.0, transfer="none")
    arm = Arm(name="a", seed=0, schedule=wsd(steps=1500, peak_lr=0.02, decay=0.5),
              stages=(Stage(start_step=0, depth=depth),))  # fmt: skip
    (curve,) = run_arms(family, [arm], optimizer=rule, noisy=False, measure=range(0, 1501, 50))
    floor = family.floor(depth)
    assert floor * (1 - 1e-9) <= curve.loss.min()
    assert curve.final <= floor + 0.02 * family.floor(0) + 1e-3


@pytest.mark.parametrize("name", ["tied", "free"])
@pytest.mark.parametrize("init", ["zero", "zero_last", "random", "copy"])
def test_growing_leaves_embedding_and_readout_alone(name, init):
    family = FAMILIES[name](dtype="float64")
    before = family.fresh([0, 1], range(2))
    rule = Optimizer(name="adamw", weight_decay=0.0)
    state = initial_state(rule, before)
    update_blocks_(rule, before, family.gradient(before, family.population(2))[1], state, lr=torch.zeros(2).double())
    stage = Stage(start_step=1, depth=5, init=init)
    after, kept = add_blocks(family, before, state, stage=stage, seeds=[0, 1])
    assert after[0].shape == (2, 5, 6, 6)
    for i in family.shared:
        assert torch.equal(after[i], before[i])
        assert torch.equal(kept.first[i], state.first[i])
        assert kept.count[i].tolist() == [[1], [1]]
    if init.startswith("zero"):
        torch.testing.assert_close(family.loss(after, family.population(2)), family.loss(before, family.population(2)))


def test_coupled_nets_grow_from_nothing_in_the_engine():
    """The zero-layer net trains its embedding (a tied one to its floor); the grown one goes below that floor."""
    family = Coupled(width=6, tied=True, init_std=0.3, dtype="float64")
    schedule = Constant(steps=1500, peak_lr=0.3 * min(family.step_limit(n) for n in (0, 2)))
    stages = (Stage(start_step=0, depth=0), Stage(start_step=700, depth=2))
    (curve,) = run_arms(family, [Arm(name="a", seed=0, schedule=schedule, stages=stages)], optimizer=SGD, noisy=False)
    known = float(curve.loss[curve.step == 700][0])
    assert known == pytest.approx(family.floor(0), rel=0.02)
    assert curve.final < 0.5 * family.floor(0)


def test_hessian_is_autograds():
    """Central differences of step 1e-5 err by about 1e-10; 1e-6 of the largest entry."""
    family = Coupled(width=3, tied=True, init_std=0.5, dtype="float64")
    blocks, (x, y) = family.fresh([0], range(2)), (t[0] for t in family.population(1))
    sizes, shapes = [b.numel() for b in blocks], [b.shape for b in blocks]

    def scalar(theta):
        made = tuple(p.reshape(shape) for p, shape in zip(theta.split(sizes), shapes, strict=True))
        return 0.5 * (product(family, made) @ x - y).square().sum()

    exact = torch.autograd.functional.hessian(scalar, torch.cat([b.reshape(-1) for b in blocks])).numpy()
    np.testing.assert_allclose(hessian(family, blocks), exact, rtol=0, atol=1e-6 * np.abs(exact).max())
