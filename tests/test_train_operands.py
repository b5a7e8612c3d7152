"""What training multiplies in low precision: no strict slices, nothing uninitialised.

On Intel's AMX units torch multiplies bfloat16 in tiles of 32 columns; for an operand that is a slice,
``a[:, :k] @ b`` with k no multiple of 32, it reads what lies behind column k: NaN there comes through, though its
factor is zero. Which processor the tests run on does not matter here: the operands are looked at, not the result.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latebloom.theory import Optimizer, Stage
from latebloom.theory.plan import BlockVariant
from latebloom.train.optim import muon
from latebloom.train.optim.polar import polar_express
from latebloom.train.run.checkpoint import load
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, train
from tests.helpers import tiny_plan

CONFIG = TrainConfig(
    device="cpu", quiet=True, evals=2, eval_tokens=48, log_every=2, repeat_data=True, dtype="bfloat16", microbatch=2
)
GPT2 = tiny_plan().model
QWEN = GPT2.replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48, qk_norm=True))
aten = torch.ops.aten
# The factors of each product, as positions among its arguments. Attention is not among them: its queries and keys are
# slices of one product with keys and values behind them, all of the same sequence, where a NaN is a NaN of the loss.
FACTORS = {
    aten.mm.default: (0, 1), aten.bmm.default: (0, 1), aten.mv.default: (0, 1), aten.linear.default: (0, 1),
    aten.addmm.default: (1, 2), aten.baddbmm.default: (1, 2), aten.addmv.default: (1, 2),
}  # fmt: skip


def ends_with_its_memory(factor: torch.Tensor, contracted: int) -> bool:
    """Whether, along its ``contracted`` dimension, ``factor`` has all that its memory has.

    Its entries lie without gaps; and if that dimension is the outermost, nothing lies before or behind them.
    """
    spans = sorted((stride, size) for stride, size in zip(factor.stride(), factor.shape, strict=True) if size > 1)
    dense = 1
    for stride, size in spans:
        if stride != dense:
            return False
        dense *= size
    outermost = factor.shape[contracted] > 1 and factor.stride(contracted) == spans[-1][0]
    return not outermost or factor.numel() * factor.element_size() == factor.untyped_storage().nbytes()


class Watch(TorchDispatchMode):
    """Counts products in low precision, and names those with a strict slice for a factor."""

    def __init__(self):
        super().__init__()
        self.products, self.slices = 0, []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op in FACTORS and args[-1].dtype in (torch.bfloat16, torch.float16):
            self.products += 1
            first, second = (args[i] for i in FACTORS[op])
            inner = first.ndim - 1, -1 if op is aten.linear.default else max(second.ndim - 2, 0)
            for factor, contracted in zip((first, second), inner, strict=True):
                if not ends_with_its_memory(factor, contracted):
                    self.slices.append((str(op), tuple(factor.shape), factor.stride()))
        return op(*args, **(kwargs or {}))


def plan_of(*, shape=GPT2, optimizer="muon_nsgd", init="random", policy="keep"):
    stages = (Stage(start_step=0, depth=1), Stage(start_step=3, depth=3, init=init, optimizer_state=policy))
    return tiny_plan(steps=5, tau=3).replace(model=shape, stages=stages, optimizer=Optimizer(name=optimizer))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Muon takes the way of a GPU: quintics in bfloat16, matrices of a shape in one batch."""
    monkeypatch.setattr(muon, "takes_rational", lambda _: False)


@pytest.mark.parametrize("activations", ["keep", "selective", "recompute"])
@pytest.mark.parametrize("optimizer", ["muon_nsgd", "muon_adamw", "adamw"])
@pytest.mark.parametrize("shape", [GPT2, QWEN], ids=["gpt2", "qwen3"])
def test_no_product_takes_a_strict_slice(shape, optimizer, activations, data, tmp_path, on_a_gpu):
    """Training, validation and an expansion under autocast."""
    plan = plan_of(shape=shape, optimizer=optimizer, init="copy_zero_last", policy="keep_warmed")
    with Watch() as watch:
        train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(activations=activations))
    assert watch.products > 500
    assert not watch.slices


def test_strict_slices_are_seen():
    """By the watch itself, whose silence says something only if these are heard."""
    a, b = torch.ones(8, 40, dtype=torch.bfloat16), torch.ones(33, 8, dtype=torch.bfloat16)
    with Watch() as watch:
        a[:, :33] @ b  # columns behind
        b.T @ torch.ones(40, 8, dtype=torch.bfloat16)[:33]  # rows behind
        polar_express(a[None, :, :33])  # is divided by its norm first, which makes a tensor of its own
        a @ a.T
    assert [shape for _, shape, _ in watch.slices] == [(8, 33), (33, 8)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["muon_nsgd", "muon_adamw", "adamw", "sgd"])
def test_weights_do_not_depend_on_what_memory_held(optimizer, dtype, data, tmp_path):
    """torch fills empty memory with NaN: nothing reaches the weights, which are the same bit for bit."""
    weights = {}
    try:
        for fill in (False, True):
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = fill
            out = tmp_path / str(fill)
            train(plan_of(optimizer=optimizer), data=data, out=out, config=CONFIG.replace(dtype=dtype))
            weights[fill] = load(RunDirectory(out).newest_checkpoint()[0])[1]
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
    assert weights[True].keys() == weights[False].keys()
    for name, weight in weights[True].items():
        assert torch.isfinite(weight).all(), name
        assert torch.equal(weight, weights[False][name]), name
