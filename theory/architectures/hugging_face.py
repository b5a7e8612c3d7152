"""Sizes of a model from Hugging Face's config.json: GPT-2, LLAMA, Mistral without a window, Qwen3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latebloom.theory.errors import InputError

__all__ = ["MODEL_TYPES", "sizes_of"]

MODEL_TYPES = ("gpt2", "llama", "mistral", "qwen3")


def sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of :class:`latebloom.theory.architectures.model_config.ModelConfig` that a config.json says.

    >>> sizes_of({"model_type": "gpt2", "n_embd": 64, "n_head": 2, "n_layer": 3, "n_positions": 32, "vocab_size": 99})
    {'blocks': 'gpt2', 'width': 64, 'heads': 2, 'context': 32, 'vocab_size': 99, 'depth': 3, 'tied_head': True}

    Args:
        config: Its content.

    Raises:
        InputError: if the model is of another type, lacks a size, or computes what no model here does.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        fix = f"valid: {', '.join(MODEL_TYPES)}; or give --width, --heads, --context, --vocab-size and --depth"
        raise InputError("model_type", model_type, "is not one of ours", fix)
    if model_type == "gpt2":
        width = _size(config, "n_embd")
        if config.get("n_inner") not in (None, 4 * width):
            raise InputError("n_inner", config["n_inner"], f"is not 4 x {width}", "no GPT2 here has another MLP")
        return {
            "blocks": "gpt2", "width": width, "heads": _size(config, "n_head"), "context": _size(config, "n_positions"),
            "vocab_size": _size(config, "vocab_size"), "depth": _size(config, "n_layer"),
            "tied_head": config.get("tie_word_embeddings", True),
        }  # fmt: skip
    width, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    if config.get("head_dim") not in (None, width // heads):
        raise InputError("head_dim", config["head_dim"], f"is not {width}/{heads}", "no model here has other heads")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise InputError("rope_type", rope["rope_type"], "differs from ours, 'default'", "no model here computes that")
    if config.get("sliding_window") is not None and config.get("use_sliding_window", True):
        rule = "is a window of attention"
        raise InputError("sliding_window", config["sliding_window"], rule, "no model here computes that")
    return {
        "blocks": "llama", "width": width, "heads": heads, "context": _size(config, "max_position_embeddings"),
        "vocab_size": _size(config, "vocab_size"), "depth": _size(config, "num_hidden_layers"),
        "tied_head": config.get("tie_word_embeddings", False),
        "kv_heads": config.get("num_key_value_heads") or heads, "hidden": _size(config, "intermediate_size"),
        "rope_theta": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        "norm_eps": float(config.get("rms_norm_eps", 1e-6)), "qk_norm": model_type == "qwen3",
    }  # fmt: skip


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if type(value) is not int:
        raise InputError(name, value, "is no whole number of this config.json", "write the model's own config.json")
    return value
