"""Activation checkpointing: nothing changes but the bytes that are kept, and those are what the dry run predicts."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from latebloom.theory.plan import BlockVariant, GPT2Shape, Optimizer, Stage
from latebloom.train.model.memory import activation_bytes
from latebloom.train.model.transformer import GPT2
from latebloom.train.optim.build import build_optimizer
from latebloom.train.optim.state import named_state
from latebloom.train.run.dryrun import dry_run
from tests.helpers import tiny_plan

MODES = ("keep", "selective", "recompute")
SHAPE = GPT2Shape(name="probe", width=64, heads=4, vocab_size=512, context=32)
SHAPES = {
    "gpt2": SHAPE,
    "untied": SHAPE.replace(tied_head=False),
    "llama3": SHAPE.replace(block=BlockVariant(kv_heads=2, hidden=176)),
    "qwen3": SHAPE.replace(block=BlockVariant(kv_heads=4, hidden=176, qk_norm=True)),
}
PREDICTED = 0.1  # the design's: memory within 10 % of what the allocator gave


def model_of(shape, depth, mode):
    model = GPT2(shape, depth)
    for block in model.blocks:
        block.activations = mode
    return model


def loss_of(model, dtype, sequences=4):
    ids = torch.randint(
        0, model.shape.vocab_size, (sequences, SHAPE.context), generator=torch.Generator().manual_seed(0)
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16", cache_enabled=False):
        return model.loss(ids, ids)


def allocated(function):
    """Bytes that ``function`` leaves allocated, and the most it held at a time, by the allocator's own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        result = function()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return total, peak, result


@pytest.mark.parametrize("name", ["muon_nsgd", "muon_adamw", "adamw", "sgd"])
def test_states_take_what_is_predicted(name):
    """But for AdamW's counts of steps."""
    plan = tiny_plan().replace(model=SHAPE, optimizer=Optimizer(name=name))
    model = GPT2(SHAPE, plan.depth)
    optimizer = build_optimizer(model, plan.optimizer)
    loss_of(model, "float32").backward()
    optimizer.step()
    held = sum(t.nbytes for state in named_state(optimizer).values() for t in state.values() if t.ndim)
    assert dry_run(plan).optimizer_state == held
    held += sum(p.nbytes + p.grad.nbytes for p in model.parameters())
    assert dry_run(plan).states == held


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_losses_and_gradients_are_the_same_bit_for_bit(shape, dtype):
    found = {}
    for mode in MODES:
        model = model_of(shape, 3, mode)
        loss = loss_of(model, dtype)
        loss.backward()
        found[mode] = [loss.detach(), *(p.grad for p in model.parameters())]
    for mode in MODES[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found["keep"], found[mode], strict=True)), mode


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_block_keeps_what_is_predicted(shape, dtype):
    """By the difference of two depths, without bfloat16's copies of the weights, which ``keep`` holds as well."""
    tokens, kept = 4 * shape.context, {}
    for mode in MODES:
        models = [model_of(shape, depth, mode) for depth in (4, 2)]
        deep, shallow = (allocated(lambda m=m: loss_of(m, dtype))[0] for m in models)
        weights = sum(p.numel() for p in models[0].blocks[0].parameters() if p.ndim == 2)
        copies = 2 * weights if (mode, dtype) == ("keep", "bfloat16") else 0
        kept[mode] = ((deep - shallow) / 2 - copies) / tokens
        assert kept[mode] == pytest.approx(activation_bytes(shape, mode, dtype), rel=0.02), mode
    assert kept["recompute"] < 0.3 * kept["selective"] < 0.3 * kept["keep"]
    assert kept["selective"] < 0.7 * kept["keep"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "vocab"), [("gpt2", 512), ("untied", 4096), ("qwen3", 2048)])
def test_the_peak_of_a_step_is_what_the_dry_run_predicts(kind, vocab, mode, dtype):
    """Forward and backward of the second micro-batch, whose gradients add to those of the first; deep and shallow."""
    shape = SHAPES[kind].replace(vocab_size=vocab)
    for depth in (2, 8):
        stages = (Stage(start_step=0, depth=depth),)
        plan = tiny_plan().replace(model=shape, stages=stages, batch_tokens=shape.context * 16)
        model = model_of(shape, depth, mode)
        loss_of(model, dtype, 16).backward()
        _, peak, _ = allocated(lambda m=model: loss_of(m, dtype, 16).backward())
        d = dry_run(plan, micro_sequences=16, activations=mode, dtype=dtype)
        assert d.memory - d.weights - d.gradients - d.optimizer_state == pytest.approx(peak, rel=PREDICTED), depth


def test_attention_and_products_are_not_computed_twice_under_selective():
    """Counted: forward plus backward products, against one more for each product that is repeated."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls = []

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            self.calls.append(str(op))
            return op(*args, **(kwargs or {}))

    counts = {}
    for mode in MODES:
        model = model_of(SHAPE, 2, mode)
        with Count() as count:
            loss_of(model, "float32").backward()
        names = ("aten.addmm.default", "aten._scaled_dot_product_flash_attention_for_cpu.default")
        counts[mode] = [count.calls.count(name) for name in names]
    assert counts["selective"] == counts["keep"] == [2 * 4, 2]
    assert counts["recompute"] == [2 * 4 + 2 * 3, 4]
