"""Muon-NSGD against a slow reference that shares no code with it; state by name; the plan's learning rate."""

import math

import numpy as np
import pytest
import torch

from latebloom.theory import InputError, Optimizer
from latebloom.train.model.transformer import GPT2
from latebloom.train.optim import muon as module
from latebloom.train.optim.build import build_optimizer
from latebloom.train.optim.muon import MuonNSGD
from latebloom.train.optim.plan_lr import PlanLR
from latebloom.train.optim.polar import rational
from latebloom.train.optim.state import load_named_state, named_state
from tests.helpers import tiny_plan, tiny_shape

IDS = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))


def reference_muon(weights, grads, momenta, *, lr, mu, decay):
    """One step of the module's docstring, matrix by matrix in numpy, the rational function on singular values."""
    scale, shares, poles, _ = rational()
    for name, g in grads.items():
        m = momenta.setdefault(name, np.zeros_like(g))
        m += (1 - mu) * (g - m)
        direction = (1 - mu) * g + mu * m
        if g.ndim == 1:
            weights[name] -= lr * direction / (np.linalg.norm(direction) + 1e-8)
            continue
        parts = 3 if name.endswith("qkv.weight") else 1
        for w, d in zip(np.split(weights[name], parts), np.split(direction, parts), strict=True):
            u, s, vt = np.linalg.svd(d, full_matrices=False)
            s = s / np.linalg.norm(d)
            s = scale * s * (1 + sum(share / (s**2 + pole) for share, pole in zip(shares, poles, strict=True)))
            w *= 1 - lr * decay
            w -= lr * math.sqrt(w.shape[0] / w.shape[1]) * (u * s) @ vt


def test_muon_nsgd_equals_the_slow_reference_over_many_steps():
    model = GPT2(tiny_shape(), 2).double()
    spec = Optimizer(name="muon_nsgd", weight_decay=0.1)
    optimizer = build_optimizer(model, spec)
    weights = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
    momenta: dict = {}
    for step in range(8):
        lr = 0.02 / (1 + step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        model.loss(IDS, IDS).backward()
        grads = {n: p.grad.numpy().copy() for n, p in model.named_parameters()}
        optimizer.step()
        reference_muon(weights, grads, momenta, lr=lr, mu=0.95, decay=0.1)
    for n, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), weights[n], rtol=0, atol=1e-9, err_msg=n)


@pytest.mark.parametrize("batch", [2**28, 3 * 32 * 32, 1])
def test_batched_quintics_take_the_same_steps(batch, monkeypatch):
    """A GPU's way, here on the CPU: whatever the size of a batch, and near the rational function's step."""
    g = torch.Generator().manual_seed(0)
    shapes = {f"blocks.{i}.{n}": s for i in range(3) for n, s in (("qkv.weight", (96, 32)), ("fc.weight", (128, 32)))}
    start = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    grads = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}

    def stepped(rational_way):
        monkeypatch.setattr(module, "takes_rational", lambda weight: rational_way)
        parameters = {name: torch.nn.Parameter(w.clone()) for name, w in start.items()}
        optimizer = MuonNSGD(parameters.items(), lr=0.1, weight_decay=0.1)
        for name, p in parameters.items():
            p.grad = grads[name].clone()
        optimizer.step()
        return parameters

    whole = stepped(False)
    monkeypatch.setattr(module, "BATCH_ELEMENTS", batch)
    parts, other = stepped(False), stepped(True)
    for name, p in whole.items():
        assert torch.equal(p, parts[name])
        moved, exact = (q.detach() - start[name] for q in (p, other[name]))
        assert float((moved - exact).norm() / exact.norm()) < 0.3


def test_muon_adamw_is_muon_on_blocks_and_torchs_adamw_on_the_rest():
    """The same step as MuonNSGD for the blocks' matrices, as torch.optim.AdamW for all else, over several steps."""
    from latebloom.theory.optimizers import ADAMW_FACTOR

    mixed, muon, adam = (GPT2(tiny_shape(), 2).double() for _ in range(3))
    optimizer = build_optimizer(mixed, Optimizer(name="muon_adamw", weight_decay=0.1))
    blocks = [(n, p) for n, p in muon.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    rest = [(n, p) for n, p in adam.named_parameters() if not (n.startswith("blocks") and p.ndim == 2)]
    one = MuonNSGD(blocks, lr=0.02, weight_decay=0.1)
    groups = [{"params": [p for _, p in rest if p.ndim == 2]}, {"params": [p for _, p in rest if p.ndim < 2]}]
    groups[1]["weight_decay"] = 0.0
    two = torch.optim.AdamW(groups, lr=0.02 * ADAMW_FACTOR, betas=(0.9, 0.95), weight_decay=0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.02 * group.get("lr_factor", 1.0)
    names = dict(rest)
    for _ in range(4):
        optimizer.zero_grad()
        mixed.loss(IDS, IDS).backward()
        for n, p in mixed.named_parameters():
            peer = names[n] if n in names else dict(blocks)[n]
            peer.grad = p.grad.clone()
        optimizer.step(), one.step(), two.step()
    for n, p in mixed.named_parameters():
        torch.testing.assert_close(p, names[n] if n in names else dict(blocks)[n], rtol=0, atol=1e-12, msg=n)


def test_zero_gradients_move_nothing_but_decay():
    model = GPT2(tiny_shape(), 1)
    optimizer = build_optimizer(model, Optimizer(name="muon_nsgd", weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    before = [p.clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["muon_nsgd", "muon_adamw", "adamw", "sgd"])
def test_state_travels_by_name(name):
    """Saved, loaded into another model's optimizer, the next step is the same; what was never updated has none."""
    models = [GPT2(tiny_shape(), 1, seed=0) for _ in range(2)]
    optimizers = [build_optimizer(m, Optimizer(name=name)) for m in models]
    assert all(held == {} for held in named_state(optimizers[0]).values())

    def step(i):
        for group in optimizers[i].param_groups:
            group["lr"] = 0.01
        optimizers[i].zero_grad()
        models[i].loss(IDS, IDS).backward()
        optimizers[i].step()

    step(0)
    models[1].load_state_dict(models[0].state_dict())
    load_named_state(optimizers[1], named_state(optimizers[0]))
    step(0)
    step(1)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_unknown_rule_is_refused():
    with pytest.raises(InputError, match="optimizer = 'muon': is not one of the trainer's"):
        build_optimizer(GPT2(tiny_shape(), 0), Optimizer(name="muon"))


def test_plan_lr_is_the_plans_schedule_and_survives_new_groups():
    plan = tiny_plan(steps=20, tau=10)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scheduler = PlanLR(optimizer, plan)
    seen = []
    for step in range(20):
        if step == 10:
            late = {"params": [torch.nn.Parameter(torch.zeros(2))], "lr_factor": 0.5, "lr": 0.0, "initial_lr": 0.0}
            optimizer.add_param_group(late)
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        if 10 <= step < 19:
            assert optimizer.param_groups[1]["lr"] == 0.5 * optimizer.param_groups[0]["lr"]
    assert seen == plan.schedule.lrs().tolist()
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_plan_lr_resumes_and_refuses_another_plan():
    plan = tiny_plan(steps=20, tau=10)
    make = lambda: torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.0)  # noqa: E731
    first = PlanLR(make(), plan)
    for _ in range(7):
        first.optimizer.step()
        first.step()
    second = PlanLR(make(), plan)
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == plan.schedule.lr(7)
    with pytest.raises(InputError, match="plan_digest = .* is not this plan's digest"):
        PlanLR(make(), tiny_plan(steps=21, tau=10)).load_state_dict(first.state_dict())
