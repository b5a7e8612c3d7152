"""Other people's models: where blocks are found, what follows their number, and what cannot be grown is refused.

Every refusal leaves the model as it was.
"""

import dataclasses

import pytest
import torch
from torch import nn

from latebloom import train
from latebloom.theory import InputError
from tests.helpers import COMPILES
from tests.test_train_growth import TheirGPT

IDS = torch.randint(0, 16, (2, 8), generator=torch.Generator().manual_seed(0))


def stirred(model):
    """The model as if trained: no parameter where an initialiser would leave it."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model.eval()


class Gain(nn.Module):
    """A norm of one's own, which nothing but its constructor initialises."""

    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.gain * nn.functional.normalize(x, dim=-1)


class Heads(nn.Module):
    """A residual block with a list of like modules inside, and a branch whose last map has no name of its own."""

    def __init__(self, width=8):
        super().__init__()
        self.norm = Gain(width)
        self.heads = nn.ModuleList(nn.Linear(width, width // 2) for _ in range(2))
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.proj(torch.cat([head(self.norm(x)) for head in self.heads], dim=-1))
        return x + self.mlp(x)


class Lecture(nn.Module):
    """A model whose blocks stand in a Sequential."""

    def __init__(self, depth):
        super().__init__()
        self.table, self.blocks = nn.Embedding(16, 8), nn.Sequential(*[Heads() for _ in range(depth)])
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 16))

    def forward(self, ids):
        return self.head(self.blocks(self.table(ids)))


@dataclasses.dataclass(frozen=True)
class Config:
    n_layer: int
    width: int = 8


class Numbered(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.layer_idx, self.norm, self.c_proj = index, nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.c_proj(self.norm(x))


class Counted(nn.Module):
    """Loops over a count, not over its list: with a stale count, new blocks would never run."""

    def __init__(self, depth):
        super().__init__()
        self.config, self.n_layers = Config(n_layer=depth), depth
        self.layers = nn.ModuleList(Numbered(i) for i in range(depth))

    def forward(self, x):
        for i in range(min(self.config.n_layer, self.n_layers)):
            x = self.layers[i](x)
        return x


def test_blocks_in_a_sequential():
    model = stirred(Lecture(2))
    before = model(IDS)
    renamed = train.grow(model, depth=4, init="copy_zero_last", order="inter", last_linear=("proj", "mlp.2"))
    assert len(model.blocks) == 4
    assert torch.equal(model(IDS), before)
    assert renamed["blocks.1.proj.weight"] == "blocks.2.proj.weight"
    assert all(len(block.heads) == 2 for block in model.blocks)


def test_heads_are_not_taken_for_blocks():
    with pytest.raises(InputError, match=r"blocks = \['blocks', 'blocks.0.heads'\]: must be one"):
        train.grow(Lecture(1), depth=4, init="copy")
    model = Lecture(1)
    train.grow(model, depth=4, init="copy", blocks="blocks")
    assert (len(model.blocks), len(model.blocks[3].heads)) == (4, 2)


def test_a_branch_that_is_not_zeroed_is_noticed():
    """A default that names one branch of two, names that are not there, and a post-norm block."""
    model = stirred(Lecture(2))
    before = model(IDS)
    for growth, message in (
        ({}, r"init = 'copy_zero_last': does not keep the function here: .* \['proj.weight', 'proj.bias'\] zeroed"),
        ({"last_linear": ("wo",)}, r"last_linear = \['wo'\]: name none of heads.0.weight, heads.1.weight, proj"),
    ):
        with pytest.raises(InputError, match=message):
            train.grow(model, depth=4, init="copy_zero_last", **growth)
    assert len(model.blocks) == 2
    assert torch.equal(model(IDS), before)

    def encoder(norm_first):
        layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, batch_first=True)
        return stirred(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))

    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="does not keep the function here"):
        train.grow(encoder(norm_first=False), depth=3, init="copy_zero_last")
    model = encoder(norm_first=True)
    before = model(x)
    train.grow(model, depth=3, init="copy_zero_last")
    assert torch.equal(model(x), before)
    assert model.num_layers == 3


def test_what_nobody_initialises_does_not_stay_a_copy():
    model = stirred(Lecture(2))
    with pytest.raises(InputError, match=r"make_block = None: is needed: neither .* begins norm.gain; give the block"):
        train.grow(model, depth=3, init="random")
    train.grow(model, depth=4, init="random", make_block=Heads)
    assert [bool((block.norm.gain == 1).all()) for block in model.blocks] == [False, False, True, True]
    assert not torch.equal(model.blocks[2].proj.weight, model.blocks[3].proj.weight)
    with pytest.raises(InputError, match=r"make_block = 'heads.0.bias': is not as in the blocks there are"):
        train.grow(model, depth=5, init="random", make_block=lambda: Heads(16))


def test_init_weights_of_the_model_inside_a_wrapper():
    """A LightningModule holds the model as an attribute: the model's own initialiser counts, not torch's default."""
    inner = TheirGPT(2)
    outer = nn.Module()
    outer.net = inner
    train.grow(outer, depth=4, init="random")
    for block in inner.transformer["h"][2:]:
        assert float(block.c_fc.bias.detach().abs().max()) == 0
        assert 0.01 < float(block.c_fc.weight.detach().std()) < 0.03


def test_counts_and_numbers_follow():
    model = stirred(Counted(2))
    config, x = model.config, torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    before = model(x)
    train.grow(model, depth=5, init="copy", order="inter")
    assert (model.config, model.n_layers) == (Config(n_layer=5), 5)
    assert config.n_layer == 2  # frozen: somebody may rely on it
    assert [block.layer_idx for block in model.layers] == [0, 1, 2, 3, 4]
    by_hand = x
    for block in model.layers:
        by_hand = block(by_hand)
    assert torch.equal(model(x), by_hand)
    assert not torch.equal(by_hand, before)


@COMPILES
def test_compiled_models_run_their_new_blocks():
    model = torch.compile(stirred(TheirGPT(2)), backend="eager")
    with torch.no_grad():
        before = model(IDS)
        train.grow(model, depth=3, init="copy_zero_last")
        assert torch.equal(model(IDS), before)
        train.grow(model, depth=5, init="copy")
        assert torch.equal(model(IDS), model._orig_mod(IDS))
        assert not torch.equal(model(IDS), before)
    torch._dynamo.reset()


def test_models_that_cannot_be_grown():
    unlike = TheirGPT(2)
    unlike.transformer["h"][1].c_fc = nn.Linear(8, 12)
    shared = TheirGPT(2)
    shared.transformer["h"][1] = shared.transformer["h"][0]
    tied = TheirGPT(2)
    tied.table = tied.transformer["h"][0].c_fc.weight
    for model, message in (
        (nn.DataParallel(TheirGPT(2)), "model = 'DataParallel': would not know the new parameters; grow model.module"),
        (unlike, r"transformer.h.1.c_fc.bias': is not as in transformer.h.0"),
        (shared, r"transformer.h.1.ln.weight': is shared with another block"),
        (tied, r"transformer.h.0.c_fc.weight': is shared with .* the rest of the model"),
        (nn.Transformer(8, 2, 2, 2, 16, batch_first=True), r"\['encoder.layers', 'decoder.layers'\]: must be one"),
        (nn.Sequential(*[nn.Linear(8, 8)] * 2), "blocks = None: must be one"),
    ):
        with pytest.raises(InputError, match=message):
            train.grow(model, depth=4, init="copy")
    for path in ("nowhere.h", "transformer.wte"):
        with pytest.raises(InputError, match=f"blocks = '{path}': names no ModuleList"):
            train.grow(TheirGPT(2), depth=4, blocks=path)


SIZES = dict(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
             max_position_embeddings=32)  # fmt: skip


@pytest.mark.parametrize("order", ["stack", "inter", "first"])
@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Qwen3", "GPTNeoX"])
def test_hugging_face_models_generate_with_their_cache(kind, order):
    """Function kept, new matrices trainable (no saddle), cached and uncached generation alike, the count right."""
    transformers = pytest.importorskip("transformers")
    sizes = SIZES
    if kind == "GPT2":
        sizes = dict(vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    elif kind != "GPTNeoX":
        sizes = SIZES | {"num_key_value_heads": 2}
    torch.manual_seed(0)
    model = stirred(getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(
        getattr(transformers, f"{kind}Config")(**sizes)
    ))  # fmt: skip
    before = model(IDS).logits
    old = {id(p) for p in model.parameters()}
    train.grow(model, depth=5, init="copy_zero_last", order=order)
    assert torch.equal(model(IDS).logits, before)
    model(IDS, labels=IDS).loss.backward()
    new = [p for p in model.parameters() if id(p) not in old and p.ndim == 2]
    assert sum(float(p.grad.norm()) > 0 for p in new) == 2 * 3  # the last matrix of each branch of each new block
    train.grow(model, depth=6, init="random")
    assert model.config.num_hidden_layers == 6
    cached, plain = (
        model.generate(IDS, attention_mask=torch.ones_like(IDS), pad_token_id=0, eos_token_id=None, use_cache=use,
                       max_new_tokens=6, do_sample=False)
        for use in (True, False)
    )  # fmt: skip
    assert torch.equal(cached, plain)
    again = type(model)(model.config)
    again.load_state_dict(model.state_dict())  # the configuration describes the grown model
    assert torch.equal(again.eval()(IDS).logits, model(IDS).logits)


def test_one_side_of_an_encoder_decoder():
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        vocab_size=16, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
    )  # fmt: skip
    model = stirred(transformers.BartForConditionalGeneration(config))
    with pytest.raises(InputError, match="must be one ModuleList"):
        train.grow(model, depth=4)
    train.grow(model, depth=4, init="random", blocks="model.decoder.layers")
    assert (config.encoder_layers, config.decoder_layers, config.num_hidden_layers) == (2, 4, 2)
    cached, plain = (
        model.generate(IDS, use_cache=use, max_new_tokens=6, min_new_tokens=6, do_sample=False, num_beams=1)
        for use in (True, False)
    )
    assert torch.equal(cached, plain)
