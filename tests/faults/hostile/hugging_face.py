"""Folders of Hugging Face models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.hostile.inputs import INPUTS, saved_by_torch, tensors


def hugging_face(name: str, files: Callable[[Path], dict[str, bytes | str]]) -> None:
    """An input that is a folder of weights to start from."""

    def make(folder: Path, base: Path) -> list[Any]:
        (folder / "hf").mkdir()
        for file, content in files(folder).items():
            (folder / "hf" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["train", base / "plan.json", "--data", base / "data", "--repeat-data", "--init-from", folder / "hf",
                "--out", folder / "work" / "run"]  # fmt: skip

    INPUTS[f"Hugging Face {name}"] = make


GOOD = {"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 1, "vocab_size": 256, "n_positions": 16}
EMPTY = tensors({})
hugging_face(
    "with a pickle for weights", lambda f: {"config.json": json.dumps(GOOD), "pytorch_model.bin": saved_by_torch(f)}
)
hugging_face(
    "whose safetensors are a pickle",
    lambda f: {"config.json": json.dumps(GOOD), "model.safetensors": saved_by_torch(f)},
)
hugging_face(
    "with code of its own",
    lambda f: {
        "config.json": json.dumps(GOOD | {"auto_map": {"AutoModel": "evil.Evil"}}),
        "evil.py": f"open({str(f / 'canary')!r}, 'w')",
        "model.safetensors": EMPTY,
    },
)
hugging_face(
    "whose index leads out",
    lambda f: {
        "config.json": json.dumps(GOOD),
        "model.safetensors.index.json": json.dumps({"weight_map": {"w": "../../precious"}}),
    },
)
hugging_face(
    "whose index is malformed",
    lambda f: {"config.json": json.dumps(GOOD), "model.safetensors.index.json": '{"weight_map": 5}'},
)
hugging_face("whose index is no JSON", lambda f: {"config.json": json.dumps(GOOD), "model.safetensors.index.json": "["})
hugging_face("whose config is no JSON", lambda f: {"config.json": "[" * 100_000, "model.safetensors": EMPTY})
hugging_face("with 0 heads", lambda f: {"config.json": json.dumps(GOOD | {"n_head": 0}), "model.safetensors": EMPTY})
hugging_face(
    "with text for numbers",
    lambda f: {"config.json": json.dumps(GOOD | {"n_embd": "many"}), "model.safetensors": EMPTY},
)
hugging_face(
    "with lists for numbers", lambda f: {"config.json": json.dumps(GOOD | {"n_layer": [1]}), "model.safetensors": EMPTY}
)
hugging_face(
    "with 10^9 blocks", lambda f: {"config.json": json.dumps(GOOD | {"n_layer": 10**9}), "model.safetensors": EMPTY}
)
