"""Directories of shards, and texts to prepare them from."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.hostile.inputs import INPUTS, Evil, kind


def shards(name: str, change: Callable[[Path, Path], None]) -> None:
    """An input that is a directory of shards, changed."""

    def make(folder: Path, base: Path) -> list[Any]:
        shutil.copytree(base / "data", folder / "data")
        change(folder / "data", folder)
        return ["train", base / "plan.json", "--data", folder / "data", "--repeat-data", "--evals", "2", "--quiet",
                "--eval-tokens", "64", "--out", folder / "work" / "run", "--device", "cpu"]  # fmt: skip

    INPUTS[f"shards {name}"] = make


def in_manifest(**changes: Any) -> Callable[[Path, Path], None]:
    def change(data: Path, folder: Path) -> None:
        manifest = json.loads((data / "manifest.json").read_text())
        manifest["files"][0] |= {key: value for key, value in changes.items() if key in manifest["files"][0]}
        manifest |= {key: value for key, value in changes.items() if key in manifest}
        (data / "manifest.json").write_text(json.dumps(manifest))

    return change


def foreign(content: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def change(data: Path, folder: Path) -> None:
        (data / "manifest.json").unlink()
        (data / "train.bin").write_bytes(content(folder))

    return change


def magic(*head: int, tokens: int = 0) -> bytes:
    return struct.pack(f"<{len(head)}i", *head).ljust(1024, b"\0") + bytes(2 * tokens)


shards("manifest names ../", in_manifest(name="../../precious"))
shards("manifest names /etc/passwd", in_manifest(name="/etc/passwd"))
shards("manifest of a negative size", in_manifest(bytes=-1))
shards("manifest of 2^62 tokens", in_manifest(tokens=2**62))
shards("manifest of a vocabulary of 10^9", in_manifest(vocab_size=10**9))
shards("manifest of another version", in_manifest(version=99))
shards(
    "manifest of 100,000 files",
    in_manifest(files=[{"name": "x", "split": "train", "bytes": 0, "tokens": 0, "sha256": "0" * 64}] * 100_000),
)
shards("that are a pickle", foreign(lambda folder: pickle.dumps(Evil(folder / "canary"))))
shards(
    "that are a .npy with a pickled object",
    foreign(
        lambda folder: (
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(128)
            + pickle.dumps(Evil(folder / "canary"))
        )
    ),
)
shards("whose header says 2^31 - 1 tokens", foreign(lambda _: magic(20240520, 1, 2**31 - 1, tokens=9)))
shards("whose header says -1 tokens", foreign(lambda _: magic(20240520, 1, -1, tokens=9)))
shards("cut in their header", foreign(lambda _: magic(20240520, 1, 9)[:500]))
shards("of tokens beyond the vocabulary", foreign(lambda _: b"\xff" * 4096))
shards("of an odd size", foreign(lambda _: b"\x01" * 4097))


@kind("shards that are a link to /dev/zero")
def _(folder: Path, base: Path) -> list[Any]:
    shutil.copytree(base / "data", folder / "data")
    (folder / "data" / "manifest.json").unlink()
    (folder / "data" / "train.bin").unlink()
    (folder / "data" / "train.bin").symlink_to("/dev/zero")
    return ["train", base / "plan.json", "--data", folder / "data", "--out", folder / "work" / "run"]


# Text


def text(name: str, content: bytes, file: str) -> None:
    """An input that is text to prepare."""

    def make(folder: Path, base: Path) -> list[Any]:
        (folder / file).write_bytes(content)
        return ["data", "prepare", folder / file, "--tokenizer", "bytes", "--out", folder / "work" / "data"]

    INPUTS[f"text {name}"] = make


text("of JSON lines that nest deep", b'{"text":' + b"[" * 100_000 + b"\n", "a.jsonl")
text("of lone surrogates", b'{"text": "\\ud800' + b"x" * 5000 + b'"}\n', "a.jsonl")
text("that is no UTF-8", b"\xff\xfe" * 5000, "a.txt")
text("of one null byte repeated", b"\0" * 5000, "a.txt")
