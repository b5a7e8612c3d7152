"""Update rules against torch.optim, against linear algebra, and run by run against themselves."""

from __future__ import annotations

import pytest
import torch

from latebloom.sim.lowrank import LowRank
from latebloom.sim.mapping import SGD
from latebloom.sim.optimizers import initial_state, newton_schulz, polar_factor, update_blocks_
from latebloom.sim.simulation import simulate
from latebloom.theory import InputError
from latebloom.theory.plan import Optimizer
from tests.helpers import tiny_plan

torch.set_num_threads(1)

EXACT = 1e-12  # float64 round-off over a few dozen steps


def descend(family, optimizer, *, seeds, depth, lr, steps, polar=False):
    blocks = family.fresh(seeds, range(depth))
    state, data = initial_state(optimizer, blocks), family.population(len(seeds))
    for _ in range(steps):
        _, gradient = family.gradient(blocks, data)
        update_blocks_(optimizer, blocks, gradient, state, lr=torch.tensor(lr, dtype=torch.float64), polar=polar)
    return blocks


def reference(family, make, *, seed, depth, steps):
    """The same descent with a torch optimizer and the hand gradient."""
    blocks = tuple(b.requires_grad_() for b in family.fresh([seed], range(depth)))
    optimizer, data = make(blocks), family.population(1)
    for _ in range(steps):
        with torch.no_grad():
            _, gradient = family.gradient(blocks, data)
        for b, g in zip(blocks, gradient, strict=True):
            b.grad = g
        optimizer.step()
    return tuple(b.detach() for b in blocks)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (SGD, lambda p: torch.optim.SGD(p, lr=0.1)),
        (
            Optimizer(name="sgd", momentum=0.9, nesterov=False, weight_decay=0.0),
            lambda p: torch.optim.SGD(p, lr=0.1 * (1 - 0.9), momentum=0.9, dampening=0.0),
        ),
        (
            Optimizer(name="adamw", momentum=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, nesterov=False),
            lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1),
        ),
    ],
)
def test_rules_are_torchs(optimizer, make):
    family = LowRank(width=6, dtype="float64")
    ours = descend(family, optimizer, seeds=[2], depth=3, lr=[0.1], steps=30)
    for a, b in zip(ours, reference(family, make, seed=2, depth=3, steps=30), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=EXACT * 100)


@pytest.mark.parametrize("name", ["sgd", "nsgd", "adamw", "muon", "muon_nsgd"])
def test_a_batch_is_its_runs_one_by_one(name):
    family, optimizer = LowRank(width=6, dtype="float64"), Optimizer(name=name)
    lr = [0.01, 0.02, 0.005]
    together = descend(family, optimizer, seeds=[0, 1, 2], depth=4, lr=lr, steps=20)
    for run in range(3):
        alone = descend(family, optimizer, seeds=[run], depth=4, lr=lr[run : run + 1], steps=20)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[run : run + 1], b, rtol=0, atol=1e-9)


def test_momentum_keeps_the_meaning_of_area():
    """Under a constant gradient momentum moves as far as plain descent, up to the start: mu/(1 - mu) steps behind."""
    w, g = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    optimizer = Optimizer(name="sgd", momentum=0.9, nesterov=False, weight_decay=0.0)
    state = initial_state(optimizer, (w,))
    for _ in range(200):
        update_blocks_(optimizer, (w,), (g.clone(),), state, lr=torch.tensor([0.01]))
    torch.testing.assert_close(w, torch.full_like(w, -0.01 * (200 - 0.9 / 0.1)), rtol=1e-4, atol=0)


def test_nsgd_takes_steps_of_length_lr():
    family = LowRank(width=6, dtype="float64")
    optimizer = Optimizer(name="nsgd", momentum=0.0, weight_decay=0.0)
    before, after = family.fresh([0], range(3)), descend(family, optimizer, seeds=[0], depth=3, lr=[0.3], steps=1)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close((a - b).norm(dim=(2, 3)), torch.full((1, 3), 0.3, dtype=torch.float64))


def test_muon_orthogonalises():
    """Newton-Schulz as published ends with singular values in about [0.68, 1.14], and with the singular vectors."""
    matrices = torch.randn(20, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = polar_factor(matrices)
    eye = torch.eye(3, dtype=torch.float64).expand(20, -1, -1)
    torch.testing.assert_close(exact.mT @ exact, eye, rtol=0, atol=EXACT)
    torch.testing.assert_close(polar_factor(matrices.mT), exact.mT, rtol=0, atol=EXACT)
    for rough in (newton_schulz(matrices), newton_schulz(matrices.mT).mT):
        values = torch.linalg.svdvals(rough)
        assert float(values.min()) > 0.65
        assert float(values.max()) < 1.2
        torch.testing.assert_close(polar_factor(rough), exact, rtol=0, atol=1e-9)  # same U V'


@pytest.mark.parametrize("polar", [True, False])
@pytest.mark.parametrize("name", ["sgd", "nsgd", "adamw", "muon"])
def test_a_zero_gradient_is_no_step(name, polar):
    optimizer = Optimizer(name=name, weight_decay=0.0)
    w = torch.ones(2, 3, 4, 2)
    update_blocks_(
        optimizer, (w,), (torch.zeros_like(w),), initial_state(optimizer, (w,)), lr=torch.ones(2), polar=polar
    )
    assert torch.equal(w, torch.ones_like(w))


@pytest.mark.parametrize("transfer", ["none", "spectral"])
def test_muon_moves_every_singular_value_by_eta_a_step(transfer):
    """Aligned block U = [u_k] q, V = q [v_k]': each singular value grows by eta c, whatever its gradient's size."""
    family = LowRank(width=6, rank=2, teacher_exponent=1.0, dtype="float64")
    optimizer = Optimizer(name="muon", momentum=0.0, nesterov=False, weight_decay=0.0, transfer=transfer)
    residual = family.teacher() - torch.eye(6, dtype=torch.float64)
    k = torch.arange(1, 7, dtype=torch.float64)
    u = (residual * k)[:, :2].clone() * 0.1
    v = torch.eye(6, dtype=torch.float64)[:2].clone() * 0.1
    blocks = u.view(1, 1, 6, 2), v.view(1, 1, 2, 6)
    state, eta, steps = initial_state(optimizer, blocks), 1e-3, 100
    for _ in range(steps):
        _, gradient = family.gradient(blocks, family.population(1))
        update_blocks_(optimizer, blocks, gradient, state, lr=torch.tensor([eta], dtype=torch.float64), polar=True)
    c = {"none": (1.0, 1.0), "spectral": (3**0.5, 3**-0.5)}[transfer]
    for block, factor in zip(blocks, c, strict=True):
        values = torch.linalg.svdvals(block[0, 0])
        torch.testing.assert_close(values, torch.full((2,), 0.1 + steps * eta * factor, dtype=torch.float64))


def test_an_optimizer_without_counterpart_is_refused():
    """It used to run as momentum SGD under its own name."""
    optimizer = Optimizer(name="muon_adamw")
    blocks = (torch.ones(1, 1, 2, 2),)
    message = "optimizer = 'muon_adamw': has no counterpart in the simulator, .*; simulate the plan with another"
    with pytest.raises(InputError, match=message):
        initial_state(optimizer, blocks)
    with pytest.raises(InputError, match=message):
        update_blocks_(optimizer, blocks, blocks, initial_state(SGD, blocks), lr=torch.ones(1))
    with pytest.raises(InputError, match=message):
        simulate(tiny_plan().replace(optimizer=optimizer), seeds=1, steps=20)
