"""Growth operators: where blocks come from and go, what keeps the function, what can train, and foreign models."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers import tiny_shape
from theory import InputError, Stage
from train.grow import grow, placement, source
from train.model import GPT2, Block, init_block_

IDS = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))


def grown(depth, new, init, order="stack"):
    """(before, after, renamed) of a trained-looking model."""
    model = GPT2(tiny_shape(), depth, seed=1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    before = copy.deepcopy(model)
    renamed = grow(
        model,
        Stage(start_step=1, depth=new, init=init, order=order),
        init_block=lambda block, j: init_block_(block, depth=new, seed=9, name=f"blocks.{j}"),
        make_block=lambda: Block(tiny_shape()),
    )
    return before, model, renamed


@pytest.mark.parametrize(
    ("order", "sources", "places"),
    [
        ("stack", [0, 1, 0, 1, 0, 1], [0, 1]),
        ("inter", [0, 0, 0, 1, 1, 1], [0, 3]),
        ("last", [0, 1, 1, 1, 1, 1], [0, 1]),
    ],
)
def test_orders(order, sources, places):
    assert source(order, 2, 6) == sources
    assert placement(order, 2, 6) == places
    before, after, renamed = grown(2, 6, "copy", order)
    for j, i in enumerate(sources):
        torch.testing.assert_close(after.blocks[j].state_dict(), before.blocks[i].state_dict(), rtol=0, atol=0)
    for i, place in enumerate(places):
        assert renamed[f"blocks.{i}.mlp.fc.weight"] == f"blocks.{place}.mlp.fc.weight"
    assert renamed["tokens.weight"] == "tokens.weight"
    assert len(renamed) == len(list(before.named_parameters()))


@pytest.mark.parametrize("order", ["stack", "inter", "last"])
@pytest.mark.parametrize(
    ("init", "keeps", "matrices_move"),
    [("random", False, True), ("copy", False, True), ("zero", True, False), ("zero_last", True, True),
     ("copy_zero_last", True, True)],
)  # fmt: skip
def test_table_of_the_module(init, keeps, matrices_move, order):
    before, after, renamed = grown(2, 4, init, order)
    with torch.no_grad():
        change = float((after(IDS) - before(IDS)).abs().max())
    assert (change == 0) == keeps
    after.loss(IDS, IDS).backward()
    old = set(renamed.values())
    new_matrices = [p for n, p in after.named_parameters() if n not in old and p.ndim == 2]
    assert len(new_matrices) == 2 * 4
    assert any(float(p.grad.norm()) > 0 for p in new_matrices) == matrices_move


@pytest.mark.parametrize("init", ["random", "zero", "zero_last"])
def test_from_zero_layers(init):
    before, after, renamed = grown(0, 3, init)
    assert after.depth == 3
    assert set(renamed) == {"tokens.weight", "positions.weight", "norm.weight", "norm.bias"}
    with torch.no_grad():
        assert torch.equal(before(IDS), after(IDS)) == (init != "random")


def test_deterministic_and_unlike_the_old_blocks():
    _, a, _ = grown(1, 3, "random")
    _, b, _ = grown(1, 3, "random")
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(a.blocks[1].mlp.fc.weight, a.blocks[2].mlp.fc.weight)


def test_a_foreign_model():
    """Anything with a ModuleList of like blocks: here a stack of residual MLPs under another name."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x):
            return x + self.down(torch.relu(self.up(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleDict({"layers": nn.ModuleList([Layer(), Layer()])})

        def forward(self, x):
            for layer in self.body["layers"]:
                x = layer(x)
            return x

    net, x = Net(), torch.randn(3, 8)
    y = net(x)
    grow(
        net, Stage(start_step=1, depth=5, init="zero_last"), blocks="body.layers",
        init_block=lambda block, j: [m.reset_parameters() for m in (block.up, block.down)],
        last_linear=("down.weight", "down.bias"),
    )  # fmt: skip
    assert len(net.body["layers"]) == 5
    assert torch.equal(net(x), y)


def test_bad_input():
    with pytest.raises(InputError, match="depth = 2: is not deeper than the model's 2 blocks"):
        grown(2, 2, "random")
    with pytest.raises(InputError, match="cannot copy from a model without blocks"):
        grown(0, 2, "copy")
