"""Hugging Face: weights in, a run out, without loading ``transformers``.

    ours                              theirs (GPT2LMHeadModel)
    tokens.weight                     transformer.wte.weight, tied to lm_head.weight
    positions.weight                  transformer.wpe.weight
    blocks.i.norm1, norm2             transformer.h.i.ln_1, ln_2
    blocks.i.attention.qkv, proj      transformer.h.i.attn.c_attn, c_proj      weights transposed (Conv1D)
    blocks.i.mlp.fc, proj             transformer.h.i.mlp.c_fc, c_proj         weights transposed
    norm                              transformer.ln_f

Models with a :class:`~latebloom.theory.plan.BlockVariant` are ``LlamaForCausalLM``, with QK-norm ``Qwen3ForCausalLM``.

An export is a directory that ``AutoModelForCausalLM.from_pretrained`` and ``lm_eval --model hf`` read: config.json,
generation_config.json, model.safetensors, tokenizer files if the run's tokenizer is known, the plan, and a model card
with plan, curve and digests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latebloom.theory.errors import InputError
from latebloom.theory.files import commit_directory
from latebloom.theory.plan import BlockVariant, GPT2Shape, Plan
from latebloom.theory.record import Record, read_record
from latebloom.train.model.transformer import GPT2
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["export", "from_hf", "hf_config", "hf_state", "read_hf"]

# Ours -> theirs, for names outside blocks and for modules inside them.
GPT2_NAMES = ({
    "tokens.weight": "transformer.wte.weight", "positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight", "norm.bias": "transformer.ln_f.bias",
}, "transformer.h", {
    "norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn", "attention.proj": "attn.c_proj",
    "mlp.fc": "mlp.c_fc", "mlp.proj": "mlp.c_proj",
})  # fmt: skip
LLAMA_NAMES = ({
    "tokens.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
}, "model.layers", {
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj", "attention.proj": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm", "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj", "mlp.proj": "mlp.down_proj",
})  # fmt: skip
# What a configuration may say for its logits to be ours: accepted values and what ours does.
REQUIRED: dict[str, dict[str, tuple[tuple[Any, ...], str]]] = {
    "gpt2": {
        "activation_function": (("gelu_new", "gelu_pytorch_tanh"), "the tanh-approximated GELU"),
        "layer_norm_epsilon": ((1e-5,), "1e-5"),
        "scale_attn_weights": ((True,), "scaled attention"),
        "scale_attn_by_inverse_layer_idx": ((False,), "the same scale in every layer"),
        "add_cross_attention": ((False,), "no cross-attention"),
        "tie_word_embeddings": ((True,), "a tied head"),
    },
    "llama": {
        "hidden_act": (("silu",), "SiLU"),
        "attention_bias": ((False,), "no biases"),
        "mlp_bias": ((False,), "no biases"),
        "rope_scaling": ((None,), "unscaled rotary positions"),
        "tie_word_embeddings": ((True,), "a tied head"),
    },
}
REQUIRED["qwen3"] = REQUIRED["llama"] | {"use_sliding_window": ((False,), "full attention")}


def hf_config(shape: GPT2Shape, depth: int) -> dict[str, Any]:
    """config.json of ``shape`` at ``depth``; dropout is off, as it was in training."""
    common = {
        "vocab_size": shape.vocab_size, "initializer_range": 0.02, "tie_word_embeddings": True, "bos_token_id": None,
        "eos_token_id": None, "dtype": "float32",
    }  # fmt: skip
    if shape.block:
        b = shape.block
        kind = ("qwen3", "Qwen3ForCausalLM") if b.qk_norm else ("llama", "LlamaForCausalLM")
        return common | {
            "architectures": [kind[1]], "model_type": kind[0], "hidden_size": shape.width, "num_hidden_layers": depth,
            "num_attention_heads": shape.heads, "num_key_value_heads": b.kv_heads, "intermediate_size": b.hidden,
            "head_dim": shape.width // shape.heads, "max_position_embeddings": shape.context, "hidden_act": "silu",
            "rms_norm_eps": b.norm_eps, "rope_theta": b.rope_theta, "attention_bias": False, "attention_dropout": 0.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": b.rope_theta},
        }  # fmt: skip
    return common | {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_positions": shape.context,
        "n_ctx": shape.context, "n_embd": shape.width, "n_layer": depth, "n_head": shape.heads, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    }  # fmt: skip


def hf_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names."""
    return {_their_name(name, state): _turn(name, tensor, state) for name, tensor in state.items()}


def from_hf(source: PreTrainedModel | str | Path, *, name: str | None = None) -> GPT2:
    """A :class:`GPT2` with the weights of ``source``.

    Args:
        source: A ``GPT2LMHeadModel`` (or Llama, Qwen3), or a directory with config.json and safetensors, as
            ``save_pretrained`` leaves it.
        name: Of the shape; the model type by default.

    Raises:
        InputError: if its logits would not be ours (activation, epsilon, tied head ...), or a tensor is missing.
    """
    if isinstance(source, str | Path):
        config, theirs = read_hf(Path(source))
    else:
        config, theirs = source.config.to_dict(), dict(source.state_dict())
    kind = config.get("model_type")
    if kind not in REQUIRED:
        raise InputError("model_type", kind, "is not one of ours", f"valid: {', '.join(REQUIRED)}")
    for key, (accepted, ours) in REQUIRED[kind].items():
        if config.get(key, accepted[0]) not in accepted:
            raise InputError(key, config[key], f"differs from ours, {ours}", "no model here computes that")
    shape, depth = (_gpt2_shape if kind == "gpt2" else _llama_shape)(config, name or kind)
    if kind == "gpt2" and "transformer.wte.weight" not in theirs:  # checkpoints of the first release have no prefix
        theirs = {f"transformer.{k}": v for k, v in theirs.items()}
    names = LLAMA_NAMES if shape.block else GPT2_NAMES
    head, table = theirs.get("lm_head.weight"), theirs.get(names[0]["tokens.weight"])
    if head is not None and table is not None and not torch.equal(head, table):
        raise InputError("lm_head.weight", "another tensor", "is not tied to the embedding", "tie the head first")
    model = GPT2(shape, depth)
    state = model.state_dict()
    their_names = {key: _their_name(key, state) for key in state}
    missing = [key for key in their_names.values() if key not in theirs]
    if missing:
        raise InputError("weights", missing[:3], f"are missing ({len(missing)} in all)", "save the whole model")
    for key, value in state.items():
        given = _turn(key, theirs[their_names[key]], state)
        if given.shape != value.shape:
            rule = f"is not {tuple(value.shape)}"
            raise InputError(their_names[key], tuple(given.shape), rule, "correct config.json")
        value.copy_(given)
    return model


def _gpt2_shape(config: dict[str, Any], name: str) -> tuple[GPT2Shape, int]:
    width = config["n_embd"]
    if config.get("n_inner") not in (None, 4 * width):
        raise InputError("n_inner", config["n_inner"], f"is not 4 x {width}", "no GPT2 here has another MLP")
    shape = GPT2Shape(
        name=name, width=width, heads=config["n_head"], vocab_size=config["vocab_size"], context=config["n_positions"]
    )
    return shape, config["n_layer"]


def _llama_shape(config: dict[str, Any], name: str) -> tuple[GPT2Shape, int]:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    if config.get("head_dim") not in (None, width // heads):
        raise InputError("head_dim", config["head_dim"], f"is not {width}/{heads}", "no model here has other heads")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise InputError("rope_type", rope["rope_type"], "differs from ours, 'default'", "no model here computes that")
    block = BlockVariant(
        kv_heads=config.get("num_key_value_heads", heads), hidden=config["intermediate_size"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta", 10_000.0)),
        norm_eps=float(config["rms_norm_eps"]), qk_norm=config["model_type"] == "qwen3",
    )  # fmt: skip
    shape = GPT2Shape(
        name=name, width=width, heads=heads, vocab_size=config["vocab_size"],
        context=config["max_position_embeddings"], block=block,
    )  # fmt: skip
    return shape, config["num_hidden_layers"]


def read_hf(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, tensors) of a directory of safetensors, in one file or sharded; nothing is unpickled.

    Raises:
        InputError: if a file is missing.
    """
    from safetensors.torch import load_file

    if not (folder / "config.json").is_file():
        raise InputError(str(folder), None, "has no config.json", "give a directory that save_pretrained wrote")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise InputError(str(path), None, "is not there; only safetensors are read", "save it with save_pretrained")
        tensors |= load_file(path)
    return config, tensors


def export(run: Path, out: Path, *, to: str = "hf") -> Path:
    """Write the newest complete checkpoint of ``run`` as a Hugging Face model in ``out``.

    Args:
        run: A run's directory.
        out: New directory.
        to: ``hf``.

    Raises:
        InputError: if there is no checkpoint, or ``out`` is in use.
    """
    from safetensors.torch import save_file

    from latebloom.train.data.tokenizers import find_tokenizer, with_end

    run, out = Path(run), Path(out)
    if to != "hf":
        raise InputError("--to", to, "is unknown", "valid: hf")
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")
    path, _ = checkpoint.newest(run)
    manifest = checkpoint.manifest_of(path)
    _, weights, _ = checkpoint.load(path)
    record = read_record(run)
    plan = record.plan
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    state = {key: value.contiguous() for key, value in hf_state(weights).items()}
    save_file(state, part / "model.safetensors", metadata={"format": "pt"})
    config = hf_config(plan.model, manifest.depth)
    tokenizer, end = find_tokenizer(*RunDirectory(run).tokenizer_folders), None
    if tokenizer:
        tokenizer, end = with_end(tokenizer, plan.model.vocab_size)
    eos = tokenizer.token_to_id(end) if tokenizer and end else None
    config |= {"bos_token_id": eos, "eos_token_id": eos}  # no pad_token_id: Llama would not train that embedding
    if manifest.depth == 0:
        config["use_cache"] = False  # there are no keys and values to keep
    _write(part / "config.json", config)
    generation = {"do_sample": True, "temperature": 1.0, "top_k": 50, "bos_token_id": eos, "eos_token_id": eos}
    if eos is not None:
        generation["pad_token_id"] = eos
    _write(part / "generation_config.json", generation | ({"use_cache": False} if manifest.depth == 0 else {}))
    if tokenizer:
        tokenizer.save(str(part / "tokenizer.json"))
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": plan.model.context,
            "clean_up_tokenization_spaces": False,
        }  # fmt: skip
        if end is not None:
            settings |= dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)
        _write(part / "tokenizer_config.json", settings)
    (part / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    digest = hashlib.sha256((part / "model.safetensors").read_bytes()).hexdigest()
    card = model_card(plan, record, manifest, weights_digest=digest, tokenizer=tokenizer is not None)
    (part / "README.md").write_text(card, encoding="utf-8")
    commit_directory(part, out)
    return out


def model_card(
    plan: Plan, record: Record, manifest: checkpoint.CheckpointManifest, *, weights_digest: str, tokenizer: bool
) -> str:
    """README.md of an export: what it is, how it was grown, its curve, and the digests of all that went in."""
    step, loss = record.curve()
    shown = sorted({round(i * (len(step) - 1) / 11) for i in range(12)}) if len(step) > 12 else range(len(step))
    stages = [
        f"| {s.start_step} | {s.depth} | {s.init if i else '-'} | {s.order if i else '-'} | {s.optimizer_state} |"
        for i, s in enumerate(plan.stages)
    ]
    rows = [f"| {int(step[i])} | {int(step[i]) * plan.batch_tokens:,} | {loss[i]:.4f} |" for i in shown]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.header.versions.items()))
    return "\n".join([
        "---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [latebloom]", "---", "",
        f"# {plan.name}", "",
        f"{manifest.depth} blocks of width {plan.model.width}, vocabulary {plan.model.vocab_size}, context "
        f"{plan.model.context}; step {manifest.step} of {plan.steps}, {plan.batch_tokens:,} tokens a step, "
        f"{plan.optimizer.name}, peak learning rate {plan.schedule.peak:.4g}.", "",
        "## Plan", "", "| from step | depth | new blocks | order | optimizer state |", "|---|---|---|---|---|", *stages,
        "", "The whole plan stands in `plan.json`.", "",
        "## Validation loss", "", "| step | tokens | nats per token |", "|---|---|---|", *rows, "",
        "## Use", "", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        'model = AutoModelForCausalLM.from_pretrained(".")',
        'tokenizer = AutoTokenizer.from_pretrained(".")' if tokenizer else "# no tokenizer came with the shards",
        "```", "", "`lm_eval --model hf --model_args pretrained=. --tasks hellaswag` evaluates it.", "",
        "## Digests", "",
        f"- plan `{plan.digest}`", f"- data `{manifest.data_digest}`", f"- model.safetensors `{weights_digest}`",
        f"- commit `{record.header.commit}`, seed {record.header.seed}, {versions}", "",
    ])  # fmt: skip


def _is_gpt2(state: Mapping[str, Tensor]) -> bool:
    return "positions.weight" in state


def _their_name(name: str, state: Mapping[str, Tensor]) -> str:
    outer, blocks, inner = GPT2_NAMES if _is_gpt2(state) else LLAMA_NAMES
    if name in outer:
        return outer[name]
    _, index, rest = name.split(".", 2)
    module, _, kind = rest.rpartition(".")
    return f"{blocks}.{index}.{inner[module]}.{kind}"


def _turn(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """GPT-2's matrices inside blocks are stored transposed there."""
    turned = tensor.ndim == 2 and name.startswith("blocks.") and _is_gpt2(state)
    return tensor.detach().T if turned else tensor.detach()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
