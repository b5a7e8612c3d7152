"""Run directories and checkpoints."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latebloom.theory.files import file_sha256
from latebloom.train.run.directory import RunDirectory
from tests.faults.hostile.inputs import (
    ESCAPES,
    INPUTS,
    Evil,
    saved_by_torch,
    tensors,
)


def run_of(name: str, change: Callable[[Path, Path, Path], None], *command: str) -> None:
    """An input that is a run's directory, changed: (run, newest checkpoint, folder)."""

    def make(folder: Path, base: Path) -> list[Any]:
        run = shutil.copytree(base / "run", folder / "work" / "run", symlinks=True)
        for path in RunDirectory(run).checkpoints()[:-1]:
            shutil.rmtree(path)
        change(run, RunDirectory(run).checkpoints()[-1], folder)
        words = list(command or ("sample", "late", "--tokens", "2"))
        return [words[0], run, *(str(folder / "work" / "out") if word == "OUT" else word for word in words[1:])]

    INPUTS[f"run {name}"] = make


def vouch(path: Path, **changes: Any) -> None:
    """Have the manifest of a checkpoint vouch for what lies there."""
    manifest = json.loads((path / "manifest.json").read_text())
    for entry in manifest["files"]:
        file = path / entry["name"]
        if file.is_file():
            entry |= {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


def weights(content: Callable[[Path], bytes]) -> Callable[[Path, Path, Path], None]:
    def change(run: Path, path: Path, folder: Path) -> None:
        (path / "model.safetensors").write_bytes(content(folder))
        vouch(path)

    return change


def state(**changes: Any) -> Callable[[Path, Path, Path], None]:
    def change(run: Path, path: Path, folder: Path) -> None:
        held = json.loads((path / "state.json").read_text()) | changes
        (path / "state.json").write_text(json.dumps(held))
        vouch(path)

    return change


def in_file(name: str, content: bytes | str) -> Callable[[Path, Path, Path], None]:
    def change(run: Path, path: Path, folder: Path) -> None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


run_of("with weights that torch.save wrote", weights(saved_by_torch))
run_of("with weights whose header is 2^60 long", weights(lambda _: struct.pack("<Q", 2**60) + b"{}"))
run_of(
    "with weights beyond the file",
    weights(lambda _: tensors({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})),
)
run_of(
    "with weights of a negative shape",
    weights(lambda _: tensors({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4))),
)
run_of(
    "with weights of unknown names",
    weights(lambda _: tensors({"x" * 1000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
)
run_of(
    "with weights of an unknown type",
    weights(lambda _: tensors({"w": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
)
run_of("whose state took -1e300 seconds", state(wall_s=-1e300), "resume", "--quiet")
run_of("whose state is of a stage beyond the plan", state(stage=7), "resume", "--quiet")
run_of("whose state names parameters by the million", state(without_state=["x" * 50] * 100_000), "resume", "--quiet")
run_of("whose manifest has depth 10^9", lambda run, path, _: vouch(path, depth=10**9))
run_of(
    "whose manifest names ../",
    lambda run, path, _: vouch(path, files=[{"name": "../../plan.json", "bytes": 0, "sha256": "0" * 64}]),
)
run_of(
    "whose manifest has rows of 2^50",
    lambda run, path, _: vouch(
        path,
        checkpoint_version=2,
        world=2,
        model={"w": {"shape": [2**50], "rows": [[0, 2**49], [2**49, 2**50]]}},
        optimizer={},
    ),
)
run_of("whose config.json nests deep", in_file("config.json", "[" * 100_000), "resume", "--quiet")
run_of(
    "whose config.json names a device with mark-up",
    in_file("config.json", json.dumps({"device": f"[/b]{ESCAPES}"})),
    "resume",
    "--quiet",
)
run_of("whose data.txt is a null byte", in_file("data.txt", b"\0\n"), "resume", "--quiet")
run_of(
    "with a tokenizer that pads to 10^9",
    lambda run, path, _: tokenizer(
        run,
        padding={
            "strategy": {"Fixed": 10**9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        },
    ),
)
run_of(
    "with a tokenizer that replaces by 10^7 letters",
    lambda run, path, _: tokenizer(
        run, normalizer={"type": "Replace", "pattern": {"String": "l"}, "content": "x" * 10**7}
    ),
    "sample",
    "late" * 200,
    "--tokens",
    "2",
)
run_of("with a tokenizer that is none", in_file("tokenizer.json", "[" * 100_000))
run_of(
    "with a tokenizer of unknown tokens",
    lambda run, path, _: tokenizer(
        run,
        added_tokens=[
            {
                "id": 10**9,
                "content": "late",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": False,
            }
        ],
    ),
)
run_of(
    "with a distributed checkpoint's pickle beside",
    lambda run, path, folder: (path / ".metadata").write_bytes(pickle.dumps(Evil(folder / "canary"))) and None,
    "resume",
    "--quiet",
)


def tokenizer(run: Path, **changes: Any) -> None:
    content = json.loads((run / "tokenizer.json").read_text()) | changes
    (run / "tokenizer.json").write_text(json.dumps(content))


def linked(name: str) -> Callable[[Path, Path, Path], None]:
    def change(run: Path, path: Path, folder: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(folder / "precious")

    return change


run_of("whose lock is a link", linked("lock"), "resume", "--quiet")
run_of("whose record is a link", linked("record.jsonl"), "resume", "--quiet")
run_of("whose report is a link", linked("report.html"), "report")
run_of("with a link where a file is written", linked(".plan.json.part"), "resume", "--quiet")
run_of(
    "exported over a link",
    lambda run, path, folder: (folder / "work" / ".out.part").symlink_to(folder),
    "export",
    "--out",
    "OUT",
)
