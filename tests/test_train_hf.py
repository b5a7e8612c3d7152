"""Hugging Face both ways: weights in, runs out, logits equal, `generate` works, and refusals."""

import json

import numpy as np
import pytest
import torch

import latebloom
from tests.helpers import tiny_plan, tiny_shape
from theory import InputError, fixed_depth
from theory.plan import BlockVariant
from train import checkpoint
from train.corpus import prepare
from train.hf import export, from_hf, hf_config, hf_state
from train.loop import TrainConfig, train
from train.model import GPT2

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

IDS = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
LOGITS = 1e-5  # float32, two implementations of the same sums
QUIET = TrainConfig(quiet=True, evals=2, eval_tokens=256, repeat_data=True, device="cpu")


def stirred(model):
    """The model with biases and gains that are not at their initial values."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model


def gpt2(depth, **changes):
    config = dict(vocab_size=256, n_positions=16, n_embd=32, n_layer=depth, n_head=2, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    return stirred(transformers.GPT2LMHeadModel(transformers.GPT2Config(**config | changes)).eval())


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_import_of_a_random_gpt2(depth, tmp_path):
    theirs = gpt2(depth)
    ours = from_hf(theirs)
    assert ours.depth == depth
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(ours(IDS), expected, rtol=0, atol=LOGITS)
        assert torch.equal(from_hf(tmp_path)(IDS), ours(IDS))
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").exists()
    with torch.no_grad():
        assert torch.equal(from_hf(tmp_path / "parts")(IDS), ours(IDS))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_variants_are_llama_and_qwen3(depth, qk_norm):
    block = BlockVariant(kv_heads=2, hidden=48, rope_theta=500.0, norm_eps=1e-5, qk_norm=qk_norm)
    ours = stirred(GPT2(tiny_shape().replace(heads=4, block=block), depth))
    config = transformers.AutoConfig.for_model(**hf_config(ours.shape, depth))
    assert type(config).__name__ == ("Qwen3Config" if qk_norm else "LlamaConfig")
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    missing, unexpected = theirs.load_state_dict(hf_state(ours.state_dict()), strict=False)
    assert (set(missing) - {"lm_head.weight"}, unexpected) == (set(), [])
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=0, atol=LOGITS)
        again = from_hf(theirs)
        assert again.shape == ours.shape.replace(name=again.shape.name)
        assert torch.equal(again(IDS), ours(IDS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "relu"}, "activation_function = 'relu': differs from ours, the tanh"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon = 1e-06: differs from ours"),
        ({"n_inner": 64}, "n_inner = 64: is not 4 x 32"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False: differs from ours, a tied head"),
    ],
)
def test_what_is_not_ours_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        from_hf(gpt2(1, **changes))


def test_damaged_directories_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        from_hf(tmp_path)
    gpt2(1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="only safetensors are read"):
        from_hf(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="model_type = 'bert': is not one of ours"):
        from_hf(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    rng = np.random.default_rng(0)
    for i in range(30):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 300)))
    prepare(sorted(folder.glob("*.txt")), folder / "data", tokenizer="bytes", val_share=0.2)
    return folder / "data"


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_a_run_is_exported_and_generates(depth, data, tmp_path, capsys):
    plan = fixed_depth(tiny_plan(steps=4, tau=None), name="exported", depth=depth)
    train(plan, data=data, out=tmp_path / "run", config=QUIET)
    with pytest.raises(SystemExit) as stop:
        latebloom.main(["export", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")])
    assert stop.value.code == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    ours = GPT2(plan.model, depth)
    ours.load_state_dict(checkpoint.load(checkpoint.newest(tmp_path / "run")[0])[1])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = tokenizer("late bloom", return_tensors="pt").input_ids
    assert ids[0].tolist() == list(b"late bloom")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, ours(IDS), rtol=0, atol=LOGITS)
        torch.testing.assert_close(from_hf(tmp_path / "hf")(IDS), ours(IDS), rtol=0, atol=LOGITS)
        made = model.generate(ids, max_new_tokens=5, do_sample=False)
        greedy = ids
        for _ in range(5):
            greedy = torch.cat([greedy, ours(greedy)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(made, greedy)
    card = (tmp_path / "hf" / "README.md").read_text()
    for text in (plan.digest, "| 4 | 256 |", "lm_eval --model hf", f"{depth} blocks of width 32"):
        assert text in card
    with pytest.raises(InputError, match="is not empty"):
        export(tmp_path / "run", tmp_path / "hf")
