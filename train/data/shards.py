"""Shard files: their formats, how they are checked, and the manifest of those that Latebloom made.

A data directory holds ``train.bin`` and ``val.bin`` (nanoGPT's format: uint16 tokens, no header) or llm.c shards
(``*train*.bin``, ``*val*.bin``: 256 int32 of header, magic 20240520 for uint16 or 20240801 for uint32 tokens). Where
Latebloom made it, ``manifest.json`` says sizes, SHA-256, tokenizer and counts, and is checked whenever it is opened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from latebloom.theory.errors import InputError
from latebloom.theory.files import file_sha256
from latebloom.theory.spec import Count, Spec, read_spec

__all__ = ["HEADER_BYTES", "SPLITS", "FileEntry", "Manifest", "Shards", "open_shards"]

MAGIC: dict[int, np.dtype] = {20240520: np.dtype("<u2"), 20240801: np.dtype("<u4")}
HEADER_BYTES = 256 * 4
SPLITS = ("train", "val")


class FileEntry(Spec, frozen=True, kw_only=True):
    """One shard file as it was written.

    Attributes:
        name: Of the file, beside the manifest.
        split: ``train`` or ``val``.
        bytes: Its size.
        tokens: In it.
        sha256: Of the whole file.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200)]
    split: str
    bytes: Count | int
    tokens: Count | int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(Spec, frozen=True, kw_only=True):
    """What ``prepare`` wrote.

    Attributes:
        version: Of the format.
        tokenizer: Its name.
        vocab_size: Its number of tokens.
        source_files: Number of documents.
        source_bytes: Their text as UTF-8.
        files: The shards.
    """

    version: Literal[1] = 1
    tokenizer: str
    vocab_size: Annotated[int, Meta(ge=1, le=10**9)]
    source_files: int
    source_bytes: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Tokens of both splits, memory-mapped, and a digest of what they are.

    Attributes:
        folder: Where they are.
        train: Token numbers, an array a shard.
        val: The same of the validation split.
        vocab_size: Of the tokenizer; None where no manifest says it.
        digest: SHA-256 of all tokens.
    """

    folder: Path
    train: tuple[np.ndarray, ...]
    val: tuple[np.ndarray, ...]
    vocab_size: int | None
    digest: str


def open_shards(folder: Path) -> Shards:
    """Open and check a data directory.

    Args:
        folder: With shards of both splits.

    Raises:
        InputError: naming the file, what was expected and what is there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        rule = "is not a directory of token shards"
        raise InputError("--data", str(folder), rule, "make one with `latebloom data prepare`")
    manifest = None
    if (folder / "manifest.json").exists():
        manifest = read_spec(folder / "manifest.json", Manifest)
        for entry in manifest.files:
            _check_file(folder / entry.name, entry)
    opened = {split: tuple(_open(path) for path in _paths(folder, split, manifest)) for split in SPLITS}
    for split in SPLITS:
        if not opened[split]:
            raise InputError("--data", str(folder), f"has no {split} shard (*{split}*.bin)", "prepare the data anew")
    if manifest:
        digest = hashlib.sha256("".join(entry.sha256 for entry in manifest.files).encode()).hexdigest()
    else:
        digest = _foreign_digest(opened)
    return Shards(
        folder=folder,
        train=opened["train"],
        val=opened["val"],
        vocab_size=manifest.vocab_size if manifest else None,
        digest=digest,
    )


def _foreign_digest(opened: dict[str, tuple[np.ndarray, ...]]) -> str:
    """SHA-256 over length and every token of shards without a manifest.

    All of them, not a sample: a sample misses a changed page as often as not, shards with a manifest are read whole
    too, and it goes at the disk's rate or about 1 GB/s, ten seconds for 10 GB, before a run of hours. Ends come before
    the middle so that shards of up to 8192 tokens keep the digest they had when only ends were read.
    """
    state = hashlib.sha256()
    for split in SPLITS:
        for tokens in opened[split]:
            state.update(f"{split}:{len(tokens)}".encode() + tokens[:4096].tobytes() + tokens[-4096:].tobytes())
            state.update(np.ascontiguousarray(tokens[4096:-4096]).data)
    return state.hexdigest()


def _paths(folder: Path, split: str, manifest: Manifest | None) -> list[Path]:
    if manifest:
        return [folder / entry.name for entry in manifest.files if entry.split == split]
    return sorted(folder.glob(f"*{split}*.bin"))


def _open(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(str(path), None, "is not a file of tokens", "name a directory of shards")
    head = np.fromfile(path, dtype="<i4", count=3)
    if len(head) == 3 and int(head[0]) in MAGIC and path.stat().st_size < HEADER_BYTES:
        rule = f"bytes are less than its header's {HEADER_BYTES}"
        raise InputError(str(path), path.stat().st_size, rule, "copy the shard anew")
    if len(head) == 3 and int(head[0]) in MAGIC and int(head[1]) in (1, 2):
        tokens = np.memmap(path, dtype=MAGIC[int(head[0])], mode="r", offset=HEADER_BYTES)
        if len(tokens) != head[2]:
            raise InputError(str(path), len(tokens), f"tokens, but its header says {head[2]}", "copy the shard anew")
        return tokens
    size = path.stat().st_size
    if size == 0 or size % 2:
        raise InputError(str(path), size, "bytes are not a whole number of uint16 tokens", "copy the shard anew")
    return np.memmap(path, dtype="<u2", mode="r")


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.exists():
        raise InputError(str(path), None, f"is missing; {entry.bytes} bytes are expected", "prepare the data anew")
    size = path.stat().st_size
    if size != entry.bytes:
        rule = f"bytes, but the manifest says {entry.bytes}: the file is short or changed"
        raise InputError(str(path), size, rule, "prepare the data anew")
    if (actual := file_sha256(path)) != entry.sha256:
        rule = f"is not the SHA-256 of the manifest, {entry.sha256[:16]}: the file was changed"
        raise InputError(str(path), actual[:16], rule, "prepare the data anew")
