"""Growing in depth: who stands where, what keeps the function, what can learn, what the optimizer remembers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from latebloom.sim.growth import add_blocks
from latebloom.sim.lowrank import LowRank, product
from latebloom.sim.mapping import SGD
from latebloom.sim.optimizers import initial_state, update_blocks_
from latebloom.theory.errors import InputError
from latebloom.theory.expansion import INITS, ORDERS, placement, sources
from latebloom.theory.plan import Optimizer, Stage

torch.set_num_threads(1)

EXACT = 1e-12  # float64 round-off


def network(family, blocks):
    return product(blocks, s=family.multiplier(blocks[0].shape[1]))


def grown(family, blocks, *, depth, init, order="stack", optimizer=SGD, optimizer_state="keep", state=None):
    stage = Stage(start_step=1, depth=depth, init=init, order=order, optimizer_state=optimizer_state)
    state = state or initial_state(optimizer, blocks)
    return add_blocks(family, blocks, state, stage=stage, seeds=range(blocks[0].shape[0]))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("stack", [0, 1, 2, 0, 1, 2, 0]),
        ("inter", [0, 0, 0, 1, 1, 2, 2]),
        ("last", [0, 1, 2, 2, 2, 2, 2]),
        ("first", [0, 0, 0, 0, 0, 1, 2]),
    ],
)
def test_orders(order, expected):
    """Copied blocks equal their source everywhere; old blocks, whose memory is kept, stand at their places."""
    family = LowRank(width=16, dtype="float64")
    before = family.fresh([0], range(3))
    optimizer = Optimizer(name="sgd", momentum=0.9)
    state = initial_state(optimizer, before)
    for memory in state.first:
        memory.fill_(1.0)
    after, kept = grown(family, before, depth=7, init="copy", order=order, optimizer=optimizer, state=state)
    for was, now, first in zip(before, after, kept.first, strict=True):
        assert torch.equal(now, was[:, expected])
        assert torch.nonzero(first.abs().amax(dim=(0, 2, 3))).flatten().tolist() == placement(order, 3, 7)
    assert sources(order, 3, 7) == expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("init", ["zero", "zero_last", "copy_zero_last"])
def test_zero_inits_keep_the_function(init, alpha, order):
    """To round-off, for every multiplier: old blocks absorb the change of s."""
    family = LowRank(width=8, alpha=alpha, init_std=2.0, dtype="float64")
    before = family.fresh([0, 1], range(3))
    after, _ = grown(family, before, depth=7, init=init, order=order)
    assert after[0].shape == (2, 7, 8, 2)
    torch.testing.assert_close(network(family, after), network(family, before), rtol=0, atol=EXACT * 100)


def test_zero_is_dead_and_zero_last_is_not():
    """With U = V = 0 both gradients of a new block are exactly zero, now and for ever; with U = 0 only V's is."""
    family = LowRank(width=8, dtype="float64")
    before, data = family.fresh([0], range(2)), family.population(1)
    dead, state = grown(family, before, depth=5, init="zero")
    for _ in range(50):
        _, gradient = family.gradient(dead, data)
        assert all(torch.equal(g[:, 2:], torch.zeros_like(g[:, 2:])) for g in gradient)
        update_blocks_(SGD, dead, gradient, state, lr=torch.tensor([0.3], dtype=torch.float64))
    alive, state = grown(family, before, depth=5, init="zero_last")
    _, (du, dv) = family.gradient(alive, data)
    assert float(du[:, 2:].abs().amax(dim=(2, 3)).min()) > 1e-3
    assert torch.equal(dv[:, 2:], torch.zeros_like(dv[:, 2:]))
    for _ in range(300):
        loss, gradient = family.gradient(alive, data)
        update_blocks_(SGD, alive, gradient, state, lr=torch.tensor([0.3], dtype=torch.float64))
    assert float(loss) < 0.9 * family.floor(2)  # below what any net of the old depth can reach


def test_all_zero_from_nothing_never_moves():
    family = LowRank(width=8, dtype="float64")
    blocks, _ = grown(family, family.fresh([0], range(0)), depth=4, init="zero")
    _, gradient = family.gradient(blocks, family.population(1))
    assert all(float(g.abs().max()) == 0.0 for g in gradient)


def test_copy_keeps_the_function_to_first_order_if_and_only_if_alpha_is_one():
    """|P_after - P_before| against the size e of the blocks: e^2 (their products) if L s_L = l s_l, e^1 otherwise.

    U and V of size sqrt(e) each; slopes over a decade of small e agree with the integer to 0.05.
    """
    for alpha, slope in ((1.0, 2.0), (0.5, 1.0), (0.0, 1.0)):
        errors = []
        for size in (1e-3, 1e-4):
            family = LowRank(width=8, alpha=alpha, dtype="float64")
            before = tuple(b * size**0.5 for b in family.fresh([0], range(2)))
            after, _ = grown(family, before, depth=6, init="copy")
            errors.append(float((network(family, after) - network(family, before)).norm()))
        measured = float(torch.log10(torch.tensor(errors[0] / errors[1])))
        assert measured == pytest.approx(slope, abs=0.05)


def test_copy_copies_and_random_is_fresh():
    family = LowRank(width=8, dtype="float64")
    before = family.fresh([0], range(2))
    copied, _ = grown(family, before, depth=4, init="copy", order="inter")
    for old, new in zip(before, copied, strict=True):
        assert torch.equal(new[:, [0, 0, 2, 2]], new)
        assert torch.equal(new[:, [0, 2]], old)
    fresh, _ = grown(family, before, depth=4, init="random")
    expected = family.fresh([0], range(2, 4))
    for old, new, drawn in zip(before, fresh, expected, strict=True):
        assert torch.equal(new[:, 2:], drawn)
        torch.testing.assert_close(new[:, :2], old * 2**0.5, rtol=EXACT, atol=0)  # s: 1/2 -> 1/4, half of it to each


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_memory_of_old_blocks_is_kept_in_their_new_units(name):
    """After growing with zeros the gradient of an old block is 1/factor of what it was; so is what is remembered."""
    optimizer = Optimizer(name=name, weight_decay=0.0)
    family = LowRank(width=8, alpha=1.0, dtype="float64")
    before = family.fresh([0], range(2))
    state, data = initial_state(optimizer, before), family.population(1)
    _, gradient = family.gradient(before, data)
    update_blocks_(optimizer, before, tuple(g.clone() for g in gradient), state, lr=torch.zeros(1, dtype=torch.float64))
    after, kept = grown(family, before, depth=8, init="zero_last", order="inter", optimizer=optimizer, state=state)
    old = [0, 4]
    _, gradient_after = family.gradient(after, data)
    for was, now, first, moment in zip(gradient, gradient_after, state.first, kept.first, strict=True):
        torch.testing.assert_close(now[:, old], was * 0.5, rtol=1e-9, atol=1e-12)  # factor (s_2/s_8)^(1/2) = 2
        torch.testing.assert_close(moment[:, old], first * 0.5, rtol=EXACT, atol=0)
        assert float(moment[:, [1, 2, 3, 5, 6, 7]].abs().max()) == 0.0
    for first, moment in zip(state.second, kept.second, strict=True):
        torch.testing.assert_close(moment[:, old], first * 0.25, rtol=EXACT, atol=0)
    assert [c.tolist() for c in kept.count] == [[[1, 0, 0, 0, 1, 0, 0, 0]]] * 2
    _, reset = grown(family, before, depth=8, init="random", optimizer=optimizer, state=state, optimizer_state="reset")
    assert all(float(t.abs().max()) == 0.0 for t in (*reset.first, *reset.second, *reset.count))


def test_what_cannot_grow_is_refused():
    family = LowRank(width=8)
    nothing, two = family.fresh([0], range(0)), family.fresh([0], range(2))
    with pytest.raises(InputError, match="cannot copy from a model without blocks"):
        grown(family, nothing, depth=4, init="copy")
    with pytest.raises(InputError, match="must be larger than the depth before it, 2"):
        grown(family, two, depth=2, init="random")
    with pytest.raises(InputError, match="order = 'abba': is unknown; valid: stack, inter, last, first, middle"):
        sources("abba", 2, 4)


@pytest.mark.parametrize(
    ("init", "change", "message"),
    [
        ("copy_zero_norm", {}, "is for transformers: these blocks have no norms or biases"),
        ("identity", {}, "is for transformers"),
        ("random", {"weights": "scaled"}, "has no counterpart in deep linear networks: scaled weights, nothing zeroed"),
        ("copy", {"zeroed": "gates"}, "has no counterpart in deep linear networks: copied weights, gates zeroed"),
    ],
)
def test_an_init_without_a_counterpart_is_refused(init, change, message, monkeypatch):
    """What is not known here must not be simulated as a copy."""
    monkeypatch.setitem(INITS, init, dataclasses.replace(INITS[init], **change))
    family = LowRank(width=8)
    with pytest.raises(InputError, match=message):
        grown(family, family.fresh([0], range(2)), depth=4, init=init)
