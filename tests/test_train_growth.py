"""Growth operators: where blocks come from and go, what keeps the function, what can train, and foreign models."""

import copy
import dataclasses
from typing import get_args

import pytest
import torch
from torch import nn

from latebloom import train
from latebloom.theory import InputError, Optimizer, Stage
from latebloom.theory.architectures.tensors import TensorSpec
from latebloom.theory.expansion import BEGINS_AS, INITS, Weights, Zeroed, placement, sources
from latebloom.theory.plan import BlockVariant
from latebloom.train.experiments.feature_probe import probe_batch, probe_shape, residual_stream
from latebloom.train.experiments.growth_table import growth_table, table_text
from latebloom.train.growth import operators
from latebloom.train.growth.operators import find_blocks, grow_blocks
from latebloom.train.growth.optimizer_state import carried_state
from latebloom.train.growth.rows import grown_rows
from latebloom.train.model.tensors import describe, inferred_tensor
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.build import build_optimizer
from latebloom.train.optim.state import load_named_state, named_state
from tests.helpers import tiny_plan, tiny_shape

IDS = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))


def stirred(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    return model


def grown(depth, new, init, order="stack"):
    """(before, after, renamed) of a trained-looking model."""
    model = GPT2(tiny_shape(), depth, seed=1)
    stirred(model)
    before = copy.deepcopy(model)
    renamed = grow_blocks(
        model,
        Stage(start_step=1, depth=new, init=init, order=order),
        init_block=lambda block, j: init_block_(block, depth=new, seed=9, name=f"blocks.{j}"),
        make_block=lambda: Block(tiny_shape()),
    )
    return before, model, renamed


@pytest.mark.parametrize(
    ("order", "continued", "places"),
    [
        ("stack", [0, 1, 0, 1, 0, 1], [0, 1]),
        ("inter", [0, 0, 0, 1, 1, 1], [0, 3]),
        ("last", [0, 1, 1, 1, 1, 1], [0, 1]),
        ("first", [0, 0, 0, 0, 0, 1], [4, 5]),
        ("middle", [0, 0, 0, 0, 0, 1], [0, 5]),
    ],
)
def test_orders(order, continued, places):
    assert sources("middle", 3, 6) == [0, 1, 1, 1, 1, 2] and placement("middle", 3, 6) == [0, 1, 5]
    assert sources(order, 2, 6) == continued
    assert placement(order, 2, 6) == places
    before, after, renamed = grown(2, 6, "copy", order)
    for j, i in enumerate(continued):
        torch.testing.assert_close(after.blocks[j].state_dict(), before.blocks[i].state_dict(), rtol=0, atol=0)
    for i, place in enumerate(places):
        assert renamed[f"blocks.{i}.mlp.fc.weight"] == f"blocks.{place}.mlp.fc.weight"
    assert renamed["tokens.weight"] == "tokens.weight"
    assert len(renamed) == len(list(before.named_parameters()))


@pytest.mark.parametrize("order", ["stack", "inter", "last", "first", "middle"])
@pytest.mark.parametrize(
    ("init", "keeps", "matrices_move"),
    [("random", False, True), ("copy", False, True), ("zero", True, False), ("zero_last", True, True),
     ("copy_zero_last", True, True), ("copy_zero_norm", True, False), ("identity", True, True)],
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


@pytest.mark.parametrize("order", ["stack", "inter", "last", "first", "middle"])
def test_untying_replayed_blocks_keeps_the_function(order):
    tied, untied, _ = grown(2, 5, "copy", order)
    once = tied(IDS)
    tied.replayed = Stage(start_step=1, depth=2, replayed_to=5, order=order).replayed
    assert len(tied.blocks) == 2 and not torch.allclose(tied(IDS), once, atol=1e-3)
    assert torch.equal(tied(IDS), untied(IDS))


def test_deterministic_and_unlike_the_old_blocks():
    _, a, _ = grown(1, 3, "random")
    _, b, _ = grown(1, 3, "random")
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(a.blocks[1].mlp.fc.weight, a.blocks[2].mlp.fc.weight)


class Layer(nn.Module):
    """A residual block of somebody else's, with names of their own."""

    def __init__(self, width):
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.c_fc, self.c_proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.c_proj(torch.relu(self.c_fc(self.ln(x))))


class TheirGPT(nn.Module):
    """The skeleton that nanoGPT and its many children share: transformer.h, _init_weights, a tied head."""

    def __init__(self, depth):
        super().__init__()
        layers = nn.ModuleList(Layer(8) for _ in range(depth))
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(16, 8), "h": layers})
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, ids):
        x = self.transformer["wte"](ids)
        for layer in self.transformer["h"]:
            x = layer(x)
        return x @ self.transformer["wte"].weight.T


def test_anyones_model_in_ten_lines():
    """The README's snippet: a foreign model, its optimizer and its scheduler, grown in the middle of a run."""
    torch.manual_seed(0)
    plan = tiny_plan(steps=20, tau=10, small=1, full=4)
    data = torch.randint(0, 16, (64, 9))
    # --- ten lines
    model = TheirGPT(depth=plan.stages[0].depth)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest, "weight_decay": 0.0}])
    scheduler = train.PlanLR(optimizer, plan)
    for step in range(plan.steps):
        if step == plan.tau:
            train.grow(model, optimizer, depth=plan.depth, init="copy_zero_last", order="inter")
        loss = nn.functional.cross_entropy(model(data[:, :-1]).flatten(0, 1), data[:, 1:].flatten())
        optimizer.zero_grad(), loss.backward(), optimizer.step(), scheduler.step()
    # ---
    assert len(model.transformer["h"]) == 4
    assert [len(g["params"]) for g in optimizer.param_groups] == [1 + 2 * 4, 4 * 4]
    steps = {n: int(optimizer.state[p]["step"]) for n, p in model.named_parameters()}
    assert steps["transformer.h.0.c_fc.weight"] == steps["transformer.wte.weight"] == 20
    assert {steps[f"transformer.h.{j}.c_fc.weight"] for j in (1, 2, 3)} == {10}
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


@pytest.mark.parametrize("init", ["zero_last", "identity", "copy_zero_norm"])
def test_foreign_model_keeps_its_function(init):
    model, ids = TheirGPT(2), torch.randint(0, 16, (2, 5))
    before = model(ids)
    train.grow(model, depth=5, init=init)
    assert torch.equal(model(ids), before)


def test_user_supplied_initialisation():
    model = TheirGPT(1)
    seen = []

    def mine(block, index):
        seen.append(index)
        block.c_fc.weight.fill_(index)

    train.grow(model, depth=3, order="first", init_block=mine)
    assert seen == [0, 1]
    assert [b.c_fc.weight[0, 0].item() for b in model.transformer["h"]][:2] == [0.0, 1.0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon_nsgd"])
def test_states_by_name(optimizer):
    """keep: old parameters' only; keep_copied: new ones get their source's, as values of their own; reset: none."""
    before = GPT2(tiny_shape(), 2, seed=1)
    opt = build_optimizer(before, Optimizer(name=optimizer))
    for group in opt.param_groups:
        group["lr"] = 0.01
    before.loss(IDS, IDS).backward()
    opt.step()
    held = named_state(opt)
    for policy in ("keep", "keep_copied", "reset"):
        model = copy.deepcopy(before)
        stage = Stage(start_step=1, depth=5, init="copy", order="inter", optimizer_state=policy)
        renamed = grow_blocks(model, stage, init_block=lambda *_: None)
        state = carried_state(held, renamed, stage, 2)
        names = {n for n, _ in model.named_parameters()}
        old = set(renamed.values())
        assert set(state) == {"keep": old, "keep_copied": names, "reset": set()}[policy]
        if policy == "keep_copied":
            for j, i in enumerate(sources("inter", 2, 5)):
                a, b = state[f"blocks.{j}.mlp.fc.weight"], held[f"blocks.{i}.mlp.fc.weight"]
                assert all(torch.equal(a[key], b[key]) for key in b)
            assert state["blocks.1.mlp.fc.weight"] is not state["blocks.0.mlp.fc.weight"]


@pytest.mark.parametrize("policy", ["keep", "keep_copied", "reset"])
def test_an_optimizer_grown_in_place_is_the_one_built_by_name(policy):
    """Two ways to the same next update: `grow` on the live optimizer, and building anew with the carried state."""
    spec, updated = Optimizer(name="muon_nsgd"), []
    for in_place in (True, False):
        model = GPT2(tiny_shape(), 2, seed=1)
        opt = build_optimizer(model, spec)
        step(model, opt)
        stage = Stage(start_step=1, depth=4, init="copy", order="inter", optimizer_state=policy)
        if in_place:
            train.grow(model, opt, depth=4, init="copy", order="inter", optimizer_state=policy)
        else:
            held = named_state(opt)
            renamed = grow_blocks(model, stage, init_block=lambda *_: None)
            opt = build_optimizer(model, spec)
            load_named_state(opt, carried_state(held, renamed, stage, 2))
        step(model, opt)
        assert set(named_state(opt)) == {n for n, _ in model.named_parameters()}
        updated.append(model.state_dict())
    for name, value in updated[0].items():
        torch.testing.assert_close(value, updated[1][name], rtol=0, atol=1e-6, msg=name)


def step(model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.zero_grad()
    model.loss(IDS, IDS).backward()
    optimizer.step()


def test_measured_table():
    """The three columns of the paper's table, measured; zero and zeroed norms keep the function and block features."""
    rows = {r.init: r for r in growth_table(widths=(16, 64), updates=8)}
    published = {
        "random": (False, True, True),
        "copy": (False, True, True),
        "zero": (True, False, False),
        "zero_last": (True, True, True),
        "copy_zero_last": (True, True, True),
        "copy_zero_norm": (True, True, False),
        "identity": (True, True, True),
    }
    of_init = {i: (r.keeps_function, r.trainable, r.learns_features) for i, r in rows.items()}
    assert of_init | published == of_init  # later rows are held by the test below
    assert "learns features" in table_text(list(rows.values()))


def measured(blocks, inits=tuple(INITS), updates=2):
    rows = growth_table(widths=(16,), orders=("inter",), inits=inits, updates=updates, blocks=blocks)
    return {row.init: (row.keeps_function, row.trainable) for row in rows}


def test_measured_table_keeps_what_the_rows_promise():
    assert measured("gpt2") == {name: (rule.keeps_function, rule.trainable) for name, rule in INITS.items()}


def test_zeroed_norms_leave_swiglu_on_a_saddle_and_are_refused(monkeypatch):
    """Without biases, gate and value are zero together, and the gradient of their product in both: it never moves."""
    with pytest.raises(InputError, match="init = 'copy_zero_norm': leaves the new MLPs of the family llama without"):
        measured("llama", ["copy_zero_norm"])
    monkeypatch.setattr(operators, "check_init", lambda *_: None)
    promised = {name: (rule.keeps_function, rule.trainable_gated) for name, rule in INITS.items()}
    assert measured("llama") == promised
    assert promised["copy_zero_norm"] == (True, False)


@pytest.mark.parametrize("blocks", ["gpt2", "llama"])
def test_the_probe_sees_the_stream_of_either_kind_of_blocks(blocks):
    model, ids = GPT2(probe_shape(32, heads=2, blocks=blocks), 3, seed=1), probe_batch(0)[:, :-1]
    stream = residual_stream(model, ids)
    assert len(stream) == 4
    for i, block in enumerate(model.blocks):
        assert torch.equal(block(stream[i]), stream[i + 1])
    assert torch.equal(model.norm(stream[-1]), model.features(ids))
    assert not any(module._forward_pre_hooks for module in model.modules())


class Experts(Layer):
    """Two matrices in one tensor."""

    def __init__(self, width):
        super().__init__(width)
        self.mixed = nn.Parameter(torch.randn(2, width, width))


def test_kinds_of_tensors_decide_not_their_axes(monkeypatch):
    """A stack of matrices is no vector, and becomes identities where that can be told; else identity is refused."""

    def grown_experts(init):
        model = nn.ModuleDict({"h": nn.ModuleList([Experts(4)])})
        train.grow(model, depth=2, init=init, init_block=lambda block, _: None, blocks="h")
        return model["h"][1].mixed.detach()

    assert float(grown_experts("copy_zero_norm").abs().min()) > 0
    with pytest.raises(InputError, match=r"parameter = 'h\.1\.mixed': has 3 axes"):
        grown_experts("identity")

    def stated(name, parameter):
        return TensorSpec(name=name, shape=tuple(parameter.shape), kind="hidden", matrices=len(parameter))

    monkeypatch.setattr(
        operators, "describe", lambda _: lambda n, p: stated(n, p) if "mixed" in n else inferred_tensor(n, p)
    )
    assert torch.equal(grown_experts("identity"), torch.eye(4).expand(2, 4, 4))


def test_what_no_rule_is_written_for_is_not_grown(monkeypatch):
    """A row that names new weights or new zeros must not pass as a copy, nor a rule stand that no row asks for."""
    assert set(operators.CHANGES) == set(BEGINS_AS) == set(get_args(Weights))
    assert set(operators.ZEROES) == set(get_args(Zeroed))
    for change in ({"weights": "scaled"}, {"zeroed": "gates"}):
        monkeypatch.setitem(INITS, "random", dataclasses.replace(INITS["random"], **change))
        with pytest.raises(KeyError, match="scaled|gates"):
            grown(2, 4, "random")
        monkeypatch.undo()


@pytest.mark.parametrize("init", INITS)
def test_blocks_grown_from_rows_begin_as_those_of_a_whole_model(init):
    """One rank that holds every row, from two blocks and where nothing is copied from none."""
    shape, described = tiny_shape(), describe(GPT2(tiny_shape(), 1))

    def init_block(block, index):
        init_block_(block, depth=4, seed=9, name=f"blocks.{index}")

    for old in (2, *(() if INITS[init].copies else (0,))):
        whole, stage, rows = stirred(GPT2(shape, old, seed=1)), Stage(start_step=1, depth=4, init=init), {}
        before = {name: p.detach().clone() for name, p in whole.named_parameters()}
        renamed = grow_blocks(whole, stage, init_block=init_block, make_block=lambda: Block(shape))
        found = grown_rows(
            before, stage, old, described=described, new_block=lambda: Block(shape), init_block=init_block,
            own=slice, fill=rows.update,
        )  # fmt: skip
        assert found == renamed
        assert rows.keys() == dict(whole.named_parameters()).keys()
        assert all(torch.equal(rows[name], p) for name, p in whole.named_parameters())


def test_llama_blocks_grow_from_one():
    shape = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48, qk_norm=True))
    for init in ("random", "copy", "zero_last", "copy_zero_last", "identity"):
        model = stirred(GPT2(shape, 1, seed=1))
        before = model(IDS)
        grow_blocks(
            model, Stage(start_step=1, depth=4, init=init),
            init_block=lambda block, j: init_block_(block, depth=4, seed=9, name=f"blocks.{j}"),
        )  # fmt: skip
        assert model.depth == 4
        assert torch.equal(model(IDS), before) == (init not in ("random", "copy"))
        opt = build_optimizer(model, Optimizer(name="muon_nsgd"))
        losses = []
        for _ in range(6):
            step(model, opt)
            losses.append(float(model.loss(IDS, IDS).detach()))
        assert losses[-1] < losses[0] - 0.02


def test_bad_input():
    with pytest.raises(InputError, match="depth = 2: is not deeper than the model's 2 blocks"):
        grown(2, 2, "random")
    with pytest.raises(InputError, match="cannot copy from a model without blocks"):
        grown(0, 2, "copy")
    with pytest.raises(InputError, match=r"blocks = \['a', 'b'\]: must be one ModuleList"):
        find_blocks(nn.ModuleDict({k: nn.ModuleList([nn.Linear(1, 1)]) for k in "ab"}))
    with pytest.raises(InputError, match="blocks = None: must be one ModuleList"):
        train.grow(nn.Linear(1, 1), depth=2)
    with pytest.raises(InputError, match="needs batches, which only the loop has"):
        train.grow(TheirGPT(1), depth=2, optimizer_state="keep_warmed")
    with pytest.raises(InputError, match="has no block to copy from"):
        train.grow(
            TheirGPT(0), depth=2, optimizer_state="keep_copied", blocks="transformer.h", make_block=lambda: Layer(8)
        )
