"""Models of one's own: presets, files, flags; one maker for every command that takes --model."""

import pytest

from latebloom.theory import InputError
from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.architectures.presets import PRESETS, preset

OWN = {"width": 48, "heads": 3, "context": 16, "vocab_size": 99, "depth": 5}


def refuse(message, **settings):
    with pytest.raises(InputError, match=message):
        model_of(ModelConfig(**settings))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_themselves(name):
    assert model_of(ModelConfig(model=name)) == preset(name)


def test_depth_and_vocabulary_leave_a_preset_its_name():
    shape, depth = model_of(ModelConfig(model="gpt2-tiny", depth=6), vocab_size=300)
    assert (shape.name, shape.vocab_size, depth) == ("gpt2-tiny", 300, 6)
    assert model_of(ModelConfig(model="gpt2-tiny", vocab_size=512), vocab_size=300)[0].vocab_size == 512
    assert model_of(ModelConfig(model="gpt2-tiny", width=64))[0].name == "gpt2-tiny-w64"


@pytest.mark.parametrize("suffix", ["toml", "yaml", "json"])
def test_a_file_and_flags_say_the_same(tmp_path, suffix):
    if suffix == "yaml":
        pytest.importorskip("ruamel.yaml", reason="pip install 'latebloom[yaml]' to read YAML")
    text = {
        "toml": "\n".join(f"{k} = {v}" for k, v in OWN.items()),
        "yaml": "\n".join(f"{k}: {v}" for k, v in OWN.items()),
        "json": "{" + ", ".join(f'"{k}": {v}' for k, v in OWN.items()) + "}",
    }
    path = tmp_path / f"mine.{suffix}"
    path.write_text(text[suffix])
    from_file, depth = model_of(ModelConfig(model=str(path)))
    from_flags, same = model_of(ModelConfig(**OWN))
    assert from_file.name == "mine" and depth == same == 5
    assert from_file.replace(name="x") == from_flags.replace(name="x")
    assert model_of(ModelConfig(model=str(path), width=96))[0].width == 96


def test_a_file_may_change_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('model = "llama3-tiny"\nhidden = 128\n')
    shape, depth = model_of(ModelConfig(model=str(tmp_path / "mine.toml")))
    assert shape.block == preset("llama3-tiny")[0].block.replace(hidden=128)
    assert depth == 4


def test_llama_blocks():
    shape, _ = model_of(ModelConfig(**OWN, blocks="llama"))
    assert (shape.block.kv_heads, shape.block.hidden) == (3, 128)
    shape, _ = model_of(ModelConfig(**OWN, blocks="llama", kv_heads=1, qk_norm=True))
    assert shape.block.kv_heads == 1 and shape.block.qk_norm
    assert model_of(ModelConfig(model="llama3-tiny", blocks="gpt2"))[0].block is None


def test_refusals(tmp_path):
    refuse("--model = None: is required; give a preset, a file, or --width")
    refuse("--heads = None: is required: .*; give --heads, --context, --vocab-size, --depth", width=8)
    refuse(r"did you mean 'gpt2-tiny'\? Or name a TOML", model="gpt2-tyny")
    refuse("cannot be read .*; name a preset or a file of the model's sizes", model=str(tmp_path / "none.toml"))
    refuse("--hidden = 8: is a setting of llama blocks", model="gpt2-tiny", hidden=8)
    refuse("does not divide the width 48", **(OWN | {"heads": 7}))
    (tmp_path / "mine.toml").write_text("widht = 8\n")
    refuse("mine.toml: widht = 8: is not a field here; did you mean 'width'", model=str(tmp_path / "mine.toml"))
    (tmp_path / "other.toml").write_text('model = "mine.toml"\n')
    refuse("other.toml: model = 'mine.toml': is not a known preset", model=str(tmp_path / "other.toml"))


def test_the_config_of_hugging_face(tmp_path):
    """As ``save_pretrained`` writes it, and the same sizes by flags; a flag beside it wins."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 3,
             "num_key_value_heads": 1, "max_position_embeddings": 16, "vocab_size": 99}  # fmt: skip
    configs = {
        "gpt2": transformers.GPT2Config(vocab_size=99, n_embd=48, n_head=3, n_positions=16, n_layer=5),
        "llama": transformers.LlamaConfig(**sizes, rope_theta=5e5),
        "mistral": transformers.MistralConfig(**sizes, sliding_window=None),
        "qwen3": transformers.Qwen3Config(**sizes, head_dim=16),
    }
    for name, config in configs.items():
        config.save_pretrained(tmp_path / name)
        path = str(tmp_path / name / "config.json")
        shape, depth = model_of(ModelConfig(model=path))
        assert (shape.name, shape.width, shape.heads, shape.context, shape.vocab_size, depth) == (
            name,
            48,
            3,
            16,
            99,
            5,
        )
        assert (shape.block is None) == (name == "gpt2")
        assert shape.block is None or (shape.block.kv_heads, shape.block.hidden) == (1, 96)
        assert shape.block is None or shape.block.qk_norm == (name == "qwen3")
        assert model_of(ModelConfig(model=path, depth=7, vocab_size=50))[1] == 7
    assert model_of(ModelConfig(model=str(tmp_path / "llama" / "config.json")))[0].block.rope_theta == 5e5
    for name, config, message in (
        ("opt", transformers.OPTConfig(), "model_type = 'opt': is not one of ours; valid: gpt2, llama"),
        ("wide", transformers.GPT2Config(n_inner=100), "n_inner = 100: is not 4 x 768"),
        ("window", transformers.MistralConfig(**sizes, sliding_window=8), "sliding_window = 8: is a window"),
    ):
        config.save_pretrained(tmp_path / name)
        refuse(message, model=str(tmp_path / name / "config.json"))
