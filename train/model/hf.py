"""Hugging Face: weights in, a run out, without loading ``transformers``.

Names and configurations of each family stand in its module (:mod:`latebloom.train.model.registry`).

An export is a directory that ``AutoModelForCausalLM.from_pretrained`` and ``lm_eval --model hf`` read: config.json,
generation_config.json, model.safetensors, tokenizer files if the run's tokenizer is known, the plan, and a model card
with plan, curve and digests.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latebloom.theory.architectures.hugging_face import sizes_of
from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.architectures.shape import GPT2Shape, tensor_of
from latebloom.theory.errors import InputError
from latebloom.theory.files import commit_directory, unfinished_directory
from latebloom.theory.plan import Plan
from latebloom.theory.record import Record, read_record
from latebloom.train.model.registry import MODULES, modules_of
from latebloom.train.model.transformer import GPT2
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["export", "from_hf", "hf_config", "hf_state", "read_hf"]

# Family by each of Hugging Face's model types.
MODEL_TYPES = {
    model_type: modules.hugging_face for modules in MODULES.values() for model_type in modules.hugging_face.required
}


def hf_config(shape: GPT2Shape, depth: int) -> dict[str, Any]:
    """config.json of ``shape`` at ``depth``; dropout is off, as it was in training.

    Args:
        shape: Of the model.
        depth: Number of blocks.
    """
    common = {
        "vocab_size": shape.vocab_size, "initializer_range": 0.02, "tie_word_embeddings": shape.tied_head,
        "bos_token_id": None, "eos_token_id": None, "dtype": "float32",
    }  # fmt: skip
    return common | modules_of(shape).hugging_face.config(shape, depth)


def hf_state(state: Mapping[str, Tensor], shape: GPT2Shape) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names.

    Args:
        state: Ours, by name.
        shape: Of the model.
    """
    names = modules_of(shape).hugging_face
    return {names.name_of(name): _turn(name, tensor, shape) for name, tensor in state.items()}


def from_hf(source: PreTrainedModel | str | Path, *, name: str | None = None) -> GPT2:
    """A :class:`GPT2` with the weights of ``source``.

    Args:
        source: A ``GPT2LMHeadModel`` (or Llama, Qwen3), or a directory with config.json and safetensors, as
            ``save_pretrained`` leaves it.
        name: Of the shape; the model type by default.

    Raises:
        InputError: if its logits would not be ours (activation, epsilon ...), or a tensor is missing.
    """
    if isinstance(source, str | Path):
        config, theirs = read_hf(Path(source))
    else:
        config, theirs = source.config.to_dict(), dict(source.state_dict())
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise InputError("model_type", model_type, "is not one of ours", f"valid: {', '.join(MODEL_TYPES)}")
    hugging_face = MODEL_TYPES[model_type]
    for key, (accepted, ours) in hugging_face.required[model_type].items():
        if config.get(key, accepted[0]) not in accepted:
            raise InputError(key, config[key], f"differs from ours, {ours}", "no model here computes that")
    shape, depth = model_of(ModelConfig(**sizes_of(config)))
    shape = shape.replace(name=name or model_type)
    theirs = hugging_face.todays_names(theirs)
    head, table = theirs.get("lm_head.weight"), theirs.get(hugging_face.outer["tokens.weight"])
    if shape.tied_head and head is not None and table is not None and not torch.equal(head, table):
        rule = "is not the embedding, to which config.json ties it"
        raise InputError("lm_head.weight", "another tensor", rule, "say tie_word_embeddings: false there")
    if type(depth) is not int or not 0 <= depth <= len(theirs):
        rule = f"blocks are not what {len(theirs)} tensors hold"
        raise InputError("config.json", depth, rule, "correct config.json")
    model = GPT2(shape, depth)
    state = model.state_dict()
    their_names = {key: hugging_face.name_of(key) for key in state}
    missing = [key for key in their_names.values() if key not in theirs]
    if missing:
        raise InputError("weights", missing[:3], f"are missing ({len(missing)} in all)", "save the whole model")
    for key, value in state.items():
        given = _turn(key, theirs[their_names[key]], shape)
        if given.shape != value.shape:
            rule = f"is not {tuple(value.shape)}"
            raise InputError(their_names[key], tuple(given.shape), rule, "correct config.json")
        value.copy_(given)
    return model


def read_hf(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, tensors) of a directory of safetensors, in one file or sharded; nothing is unpickled.

    Args:
        folder: As ``save_pretrained`` leaves it.

    Raises:
        InputError: if a file is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "config.json").is_file():
        raise InputError(str(folder), None, "has no config.json", "give a directory that save_pretrained wrote")
    config = _object(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        weight_map = _object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise InputError(str(index), weight_map, "has no weight_map of file names", "save it with save_pretrained")
        names = sorted(set(weight_map.values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise InputError(str(path), None, "is not there; only safetensors are read", "save it with save_pretrained")
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            rule = f"is not a safetensors file ({str(error)[:80]})"
            raise InputError(str(path), path.name, rule, "save it with save_pretrained") from None
    return config, tensors


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of others."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), path.name, f"is not JSON ({error})", "save it with save_pretrained") from None
    if not isinstance(content, dict):
        raise InputError(str(path), path.name, "is not a JSON object", "save it with save_pretrained")
    return content


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

    out = Path(out)
    if to != "hf":
        raise InputError("--to", to, "is unknown", "valid: hf")
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")
    directory = RunDirectory(run)
    path, _ = directory.newest_checkpoint()
    manifest = checkpoint.manifest_of(path)
    _, weights, _ = checkpoint.load(path)
    record = read_record(run)
    plan = record.plan
    if plan.stages[manifest.stage].replayed_to is not None:
        rule = "passes blocks again with shared weights, for which the format has no place"
        raise InputError("run", str(path), rule, "export the finished run")
    with unfinished_directory(out) as part:  # every file of a call that was killed is written again
        state = {key: value.contiguous() for key, value in hf_state(weights, plan.model).items()}
        save_file(state, part / "model.safetensors", metadata={"format": "pt"})
        config = hf_config(plan.model, manifest.depth)
        tokenizer, end = find_tokenizer(*directory.tokenizer_folders), None
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
    plan: Plan, record: Record, manifest: checkpoint.AnyManifest, *, weights_digest: str, tokenizer: bool
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
        f"# {_plain(plan.name)}", "",
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


def _plain(text: str) -> str:
    """``text`` as Markdown shows it: no mark-up of its own."""
    return re.sub(r"([\\`*_\[\]()|#])", r"\\\1", html.escape(" ".join(text.split())))


def _turn(name: str, tensor: Tensor, shape: GPT2Shape) -> Tensor:
    """The other way round, where Hugging Face stores a block's matrices so."""
    turned = modules_of(shape).hugging_face.transposed and tensor_of(shape, name).kind == "hidden"
    return tensor.detach().T if turned else tensor.detach()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
