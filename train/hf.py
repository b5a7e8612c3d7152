"""Hugging Face: GPT-2 weights in, a run out, without loading ``transformers``.

    ours                              theirs (GPT2LMHeadModel)
    tokens.weight                     transformer.wte.weight, tied to lm_head.weight
    positions.weight                  transformer.wpe.weight
    blocks.i.norm1, norm2             transformer.h.i.ln_1, ln_2
    blocks.i.attention.qkv, proj      transformer.h.i.attn.c_attn, c_proj      weights transposed (Conv1D)
    blocks.i.mlp.fc, proj             transformer.h.i.mlp.c_fc, c_proj         weights transposed
    norm                              transformer.ln_f

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

from theory.errors import InputError
from theory.plan import GPT2Shape, Plan
from theory.record import Record, read_record
from train import checkpoint
from train.model import GPT2

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

__all__ = ["export", "from_hf", "hf_config", "hf_state", "read_hf"]

OUTER = {
    "tokens.weight": "transformer.wte.weight", "positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight", "norm.bias": "transformer.ln_f.bias",
}  # fmt: skip
INNER = {
    "norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn", "attention.proj": "attn.c_proj",
    "mlp.fc": "mlp.c_fc", "mlp.proj": "mlp.c_proj",
}  # fmt: skip
# What a GPT2Config may say for its logits to be ours; (accepted values, what ours does).
REQUIRED: dict[str, tuple[tuple[Any, ...], str]] = {
    "activation_function": (("gelu_new", "gelu_pytorch_tanh"), "the tanh-approximated GELU"),
    "layer_norm_epsilon": ((1e-5,), "1e-5"),
    "scale_attn_weights": ((True,), "scaled attention"),
    "scale_attn_by_inverse_layer_idx": ((False,), "the same scale in every layer"),
    "add_cross_attention": ((False,), "no cross-attention"),
    "tie_word_embeddings": ((True,), "a tied head"),
}


def hf_config(shape: GPT2Shape, depth: int) -> dict[str, Any]:
    """config.json of ``shape`` at ``depth``; dropout is off, as it was in training."""
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": shape.vocab_size,
        "n_positions": shape.context, "n_ctx": shape.context, "n_embd": shape.width, "n_layer": depth,
        "n_head": shape.heads, "n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "initializer_range": 0.02,
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": None, "dtype": "float32",
    }  # fmt: skip


def hf_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names."""
    return {_their_name(name): _turn(name, tensor) for name, tensor in state.items()}


def from_hf(source: GPT2LMHeadModel | str | Path, *, name: str = "gpt2") -> GPT2:
    """A :class:`GPT2` with the weights of ``source``.

    Args:
        source: A ``GPT2LMHeadModel``, or a directory with config.json and safetensors as ``save_pretrained`` leaves.
        name: Of the shape.

    Raises:
        InputError: if it is not a GPT-2 as ours is one (activation, epsilon, tied head), or a tensor is missing.
    """
    if isinstance(source, str | Path):
        config, theirs = read_hf(Path(source))
    else:
        config, theirs = source.config.to_dict(), source.state_dict()
    if config.get("model_type") != "gpt2":
        raise InputError("model_type", config.get("model_type"), "is not 'gpt2'", "give a GPT-2")
    for key, (accepted, ours) in REQUIRED.items():
        if config.get(key, accepted[0]) not in accepted:
            raise InputError(key, config[key], f"differs from ours, {ours}", "no GPT2 here computes that")
    width = config["n_embd"]
    if config.get("n_inner") not in (None, 4 * width):
        raise InputError("n_inner", config["n_inner"], f"is not 4 x {width}", "no GPT2 here has another MLP")
    shape = GPT2Shape(
        name=name, width=width, heads=config["n_head"], vocab_size=config["vocab_size"], context=config["n_positions"]
    )
    if "transformer.wte.weight" not in theirs:  # checkpoints of the first release have no prefix
        theirs = {f"transformer.{k}": v for k, v in theirs.items()}
    head, table = theirs.get("lm_head.weight"), theirs.get("transformer.wte.weight")
    if head is not None and table is not None and not torch.equal(head, table):
        raise InputError("lm_head.weight", "another tensor", "is not tied to wte", "tie the head before importing")
    model = GPT2(shape, config["n_layer"])
    state = model.state_dict()
    missing = [_their_name(key) for key in state if _their_name(key) not in theirs]
    if missing:
        raise InputError("weights", missing[:3], f"are missing ({len(missing)} in all)", "save the whole model")
    for key, value in state.items():
        given = _turn(key, theirs[_their_name(key)])
        if given.shape != value.shape:
            raise InputError(_their_name(key), tuple(given.shape), f"is not {tuple(value.shape)}", "fix config.json")
        value.copy_(given)
    return model


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
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            fix = "save it with save_pretrained (safe_serialization)"
            raise InputError(str(path), None, "is not there; only safetensors are read", fix)
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

    from train.tokens import find_tokenizer

    run, out = Path(run), Path(out)
    if to != "hf":
        raise InputError("--to", to, "is unknown", "valid: hf")
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")
    path, _ = checkpoint.newest(run)
    manifest = checkpoint.verify(path)
    _, weights, _ = checkpoint.load(path)
    record = read_record(run)
    plan = record.plan
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    state = {key: value.contiguous() for key, value in hf_state(weights).items()}
    save_file(state, part / "model.safetensors", metadata={"format": "pt"})
    config = hf_config(plan.model, manifest.depth)
    tokenizer = find_tokenizer(run)
    eos = tokenizer.token_to_id("<|endoftext|>") if tokenizer else None
    config |= {"bos_token_id": eos, "eos_token_id": eos}
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
        if eos is not None:
            settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
        _write(part / "tokenizer_config.json", settings)
    (part / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    digest = hashlib.sha256((part / "model.safetensors").read_bytes()).hexdigest()
    card = model_card(plan, record, manifest, weights_digest=digest, tokenizer=tokenizer is not None)
    (part / "README.md").write_text(card, encoding="utf-8")
    if out.exists():
        out.rmdir()
    part.rename(out)
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


def _their_name(name: str) -> str:
    if name in OUTER:
        return OUTER[name]
    _, index, rest = name.split(".", 2)
    module, _, kind = rest.rpartition(".")
    return f"transformer.h.{index}.{INNER[module]}.{kind}"


def _turn(name: str, tensor: Tensor) -> Tensor:
    """Matrices inside blocks are stored transposed there."""
    return tensor.detach().T if tensor.ndim == 2 and name.startswith("blocks.") else tensor.detach()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
