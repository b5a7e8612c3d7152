"""Shard files: their formats, how they are checked, and the manifest of those that Latebloom made.

A data directory holds files whose names say ``train`` and ``val``, in any of these formats, told by their content:

    nanoGPT          uint16 tokens, no header (``train.bin``, ``val.bin``)
    llm.c            256 int32 of header, magic 20240520 for uint16 or 20240801 for uint32 tokens; modded-nanogpt's too
    NumPy            ``.npy``, or such content under another name
    Megatron         ``.bin`` beside an ``.idx`` that says the type of its numbers

Numbers without a header are uint16 only if they look like it: 32- and 64-bit numbers are read as what they are, bytes
are refused. Where Latebloom made the directory, ``manifest.json`` says sizes, SHA-256, tokenizer and counts, and is
checked whenever it is opened.
"""

from __future__ import annotations

import hashlib
import re
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
WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
# First bytes of what is certainly no shard
OTHERS = {b"PK\x03\x04": "a zip or torch file", b"\x1f\x8b": "compressed", b"\x28\xb5\x2f\xfd": "compressed",
          b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\x80\x02": "a pickle", b"\x80\x04": "a pickle",
          b"\x80\x05": "a pickle"}  # fmt: skip
INDEX = b"MMIDIDX\x00\x00"  # Megatron's .idx
# Megatron's numbers for types, and the size in bytes of what the .idx holds before its tables
INDEX_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
LOOKED_AT = 1 << 20  # bytes at the head and in the middle from which the type of numbers without header is told
LARGEST_ID = 2**20  # no vocabulary is larger
FEW = 512  # numbers of which too little can be told
ALIKE = 0.04  # of two halves of uint16 numbers, how much less alike their bytes are than those of single bytes


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
        end_token: Stands after each document; None if nothing does, or if it was not said.
        left_out: What was not read, and why; None if nothing, or if it was not said.
    """

    version: Literal[1] = 1
    tokenizer: str
    vocab_size: Annotated[int, Meta(ge=1, le=10**9)]
    source_files: int
    source_bytes: int
    files: tuple[FileEntry, ...]
    end_token: Annotated[int, Meta(ge=0)] | None = None
    left_out: tuple[str, ...] | None = None


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
            rule = f"has no {split} shard (a .bin or .npy with the word {split} in its name)"
            raise InputError("--data", str(folder), rule, "prepare the data anew")
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
    return sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".npy") and _says(path.stem, split))


def _says(stem: str, split: str) -> bool:
    """Whether the name of a file has a split's word as a word of its own: ``trainer_state`` has not."""
    words = re.split(r"[^a-z]+", stem.lower())
    return any(word in words for word in WORDS[split]) and not {"optimizer", "trainer", "scheduler", "model"} & {*words}


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
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(b"\x93NUMPY"):
        return _numpy(path)
    for magic, what in OTHERS.items():
        if begin.startswith(magic):
            raise InputError(str(path), path.name, f"is {what}, not tokens", "take it out, or unpack it")
    if path.with_suffix(".idx").is_file():
        return _megatron(path, path.with_suffix(".idx"))
    size = path.stat().st_size
    dtype = _looks_like(path, size)
    if size == 0 or size % dtype.itemsize:
        rule = f"bytes are not a whole number of {dtype.name} tokens"
        raise InputError(str(path), size, rule, "copy the shard anew")
    return np.memmap(path, dtype=dtype, mode="r")


def _numpy(path: Path) -> np.ndarray:
    try:
        tokens = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InputError(str(path), path.name, f"is no whole NumPy array ({error})", "copy the shard anew") from None
    if tokens.ndim != 1 or tokens.dtype.kind not in "ui":
        rule = "is not a row of token numbers"
        raise InputError(str(path), f"{tokens.dtype} {tokens.shape}", rule, "save the tokens as one integer array")
    return tokens


def _megatron(path: Path, index: Path) -> np.ndarray:
    """Megatron's documents, one after another, of the type that the index says."""
    head = index.read_bytes()[:34]
    if not head.startswith(INDEX) or len(head) < 34:
        raise InputError(str(index), head[:9], "is not Megatron's index", "take it out, or copy it anew")
    code = head[17]
    if code not in INDEX_TYPES:
        raise InputError(str(index), code, "is not a type of token numbers", "preprocess the data as integers")
    count = int(np.frombuffer(head[18:26], "<u8")[0])
    sizes = np.fromfile(index, dtype="<i4", count=count, offset=34)
    tokens = np.memmap(path, dtype=np.dtype(INDEX_TYPES[code]), mode="r")
    if len(sizes) != count or int(sizes.sum(dtype=np.int64)) != len(tokens):
        rule = f"tokens, but its index says {int(sizes.sum(dtype=np.int64))}"
        raise InputError(str(path), len(tokens), rule, "copy both files anew")
    return tokens


def _looks_like(path: Path, size: int) -> np.dtype:
    """The type of numbers without a header: uint16, unless the high halves of wider ones are all but empty.

    Raises:
        InputError: if they look like single bytes.
    """
    halves = []
    with path.open("rb") as file:
        for at in {0, size // 2 // 8 * 8}:
            file.seek(at)
            halves.append(np.frombuffer(file.read(LOOKED_AT)[: LOOKED_AT // 8 * 8], dtype="u1"))
    held = np.concatenate([half[: len(half) // 8 * 8] for half in halves])
    words = held.view("<u2").reshape(-1, 4)
    if len(held) // 2 < FEW:
        return np.dtype("<u2")
    high = words[:, 1::2]
    if int(high.max()) * 2**16 < LARGEST_ID and (not high.any() or int(words[:, ::2].max()) >= 2**10):
        return np.dtype("<i8" if not words[:, 2:].any() else "<u4") if size % 4 == 0 else np.dtype("<u2")
    low, top = (np.bincount(held[i::2], minlength=256) / (len(held) / 2) for i in (0, 1))
    if 0.5 * np.abs(low - top).sum() < ALIKE and np.count_nonzero(low + top) < 250:
        rule = "looks like one byte a token: nanoGPT's format has two"
        fix = "save the tokens as uint16, or as .npy, which says its type"
        raise InputError(str(path), path.name, rule, fix)
    return np.dtype("<u2")


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
