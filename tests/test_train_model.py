"""GPT-2 against Hugging Face's, against theory's costs, and what its initialisation promises."""

import pytest
import torch

from latebloom.theory import InputError
from latebloom.theory.cost import flops_per_token, parameters
from latebloom.theory.plan import BlockVariant
from latebloom.train.model import transformer as model_module
from latebloom.train.model.gpt2 import gelu
from latebloom.train.model.transformer import GPT2, head_loss
from tests.helpers import tiny_shape

transformers = pytest.importorskip("transformers")

LLAMA = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48))
QWEN = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=4, hidden=40, qk_norm=True))
SHAPES = pytest.mark.parametrize("shape", [tiny_shape(), LLAMA, QWEN], ids=["gpt2", "llama", "qwen"])

RENAMED = {
    "transformer.wte.weight": "tokens.weight", "transformer.wpe.weight": "positions.weight",
    "transformer.ln_f": "norm", "transformer.h": "blocks", "ln_1": "norm1", "ln_2": "norm2",
    "attn.c_attn": "attention.qkv", "attn.c_proj": "attention.proj", "mlp.c_fc": "mlp.fc", "mlp.c_proj": "mlp.proj",
}  # fmt: skip


def hugging_face(model):
    """The same network in transformers, weights copied by name (its Conv1D holds transposes)."""
    s = model.shape
    config = transformers.GPT2Config(
        vocab_size=s.vocab_size, n_positions=s.context, n_embd=s.width, n_layer=model.depth, n_head=s.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    peer = transformers.GPT2LMHeadModel(config).eval()
    ours, theirs = model.state_dict(), peer.state_dict()
    for name in theirs:
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        key = name
        for old, new in RENAMED.items():
            key = key.replace(old, new)
        value = ours[key]
        transpose = value.ndim == 2 and "blocks" in key
        theirs[name].copy_(value.T if transpose else value)
    return peer


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_logits_equal_hugging_face(depth):
    model = GPT2(tiny_shape(), depth, seed=3)
    with torch.no_grad():  # biases and gains that are not at their initial values
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    ids = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), hugging_face(model)(ids).logits, rtol=0, atol=1e-5)


@SHAPES
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_parameters_are_those_of_theory(shape, depth):
    model = GPT2(shape, depth)
    assert sum(p.numel() for p in model.parameters()) == parameters(shape, depth)


@SHAPES
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_flops_are_those_of_theory(shape, depth, monkeypatch):
    """Exactly; torch counts only what is written as matrix products: the math kernel of attention, the plain head."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(model_module, "FUSED", False)
    model = GPT2(shape, depth)
    ids = torch.zeros(2, shape.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.loss(ids, ids).backward()
    assert counter.get_total_flops() == flops_per_token(shape, depth) * ids.numel()


@pytest.mark.skipif(not model_module.FUSED, reason="this torch has no fused loss")
@pytest.mark.parametrize("at_once", [2**30, 7 * 300, 1])
def test_the_fused_loss_is_the_plain_one(at_once, monkeypatch):
    """In one piece, in pieces of seven rows with a rest, row by row."""
    rng = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(65, 16, generator=rng).requires_grad_(),
        torch.randn(300, 16, generator=rng).requires_grad_(),
    )
    targets = torch.randint(0, 300, (65,), generator=rng)
    monkeypatch.setattr(model_module, "LOGITS_AT_ONCE", at_once)
    results = []
    for fused in (True, False):
        monkeypatch.setattr(model_module, "FUSED", fused)
        loss = head_loss(x, weight, targets)
        results.append([loss.detach(), *torch.autograd.grad(3 * loss, (x, weight))])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_gelu_is_gpt2s_and_so_is_its_derivative():
    x = torch.cat([torch.linspace(-12, 12, 10_001), torch.tensor([0.0, -1e4, 1e4])]).requires_grad_()
    results = []
    for function in (gelu, lambda t: torch.nn.functional.gelu(t, approximate="tanh")):
        y = function(x)
        results.append((y.detach(), torch.autograd.grad(y.sum(), x)[0]))
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=4e-6)  # four roundings at 12


def test_trunk_does_not_depend_on_depth():
    deep, shallow = GPT2(tiny_shape(), 3, seed=5), GPT2(tiny_shape(), 1, seed=5)
    assert torch.equal(deep.tokens.weight, shallow.tokens.weight)
    qkv = [m.blocks[0].attention.qkv.weight for m in (deep, shallow)]
    assert torch.equal(*qkv)
    assert not torch.equal(deep.tokens.weight, GPT2(tiny_shape(), 3, seed=6).tokens.weight)


def test_loss_is_the_mean_cross_entropy_of_the_logits():
    model = GPT2(tiny_shape(), 1)
    ids = torch.randint(0, 256, (3, 16), generator=torch.Generator().manual_seed(0))
    direct = -torch.log_softmax(model(ids), -1).gather(-1, ids[..., None]).mean()
    torch.testing.assert_close(model.loss(ids, ids), direct)


@SHAPES
def test_no_token_sees_the_future(shape):
    model = GPT2(shape, 2)
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(0))
    later = ids.clone()
    later[0, 9:] = 7
    torch.testing.assert_close(model(ids)[0, :9], model(later)[0, :9])


def test_rotation_keeps_norms_and_sees_only_distances():
    """<R_s q, R_t k> depends on t - s alone; position 0 is not turned."""
    from latebloom.train.model.llama import rotate

    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    turned_q, turned_k = (rotate(t.expand(1, 1, 12, 8), 100.0) for t in (q, k))
    scores = turned_q[0, 0] @ turned_k[0, 0].T
    for shift in (-3, 0, 5):
        line = scores.diagonal(shift)
        torch.testing.assert_close(line, line[:1].expand_as(line), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(turned_q[0, 0, 0], q[0, 0, 0])
    assert float(scores.diagonal(5)[0] - scores.diagonal(0)[0]) != 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kv_heads": 3}, "kv_heads = 3: does not divide the 4 heads"), ({}, "heads = 32: gives heads of odd size 1")],
)
def test_bad_shapes_are_refused(changes, message):
    heads = {} if changes else {"heads": 32}
    with pytest.raises(InputError, match=message):
        LLAMA.replace(block=LLAMA.block.replace(**changes or {"kv_heads": 32}), **heads)
