"""Text to token shards: documents from files and data sets, streamed, split by content, resumable.

Where documents come from stands in :mod:`latebloom.train.data.sources`. Splits that they have of their own are kept.
Else a document's split follows from the hash of its content, so it depends neither on the other documents nor on their
order; where there are too few to hold out whole ones (fewer than 2/val_share), the end of each is held out, as nanoGPT
does with its one file. After each document stands the tokenizer's token for its end. Work is done in pieces, of long
documents too, so that memory does not grow with the longest; what an interrupted call has done
(``.OUT.part/progress.json``) is kept, and the next call with the same arguments goes on. One process at a time makes
OUT.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.files import UNFINISHED, commit_directory, file_sha256, unfinished_directory, write_whole
from latebloom.theory.spec import Count, Spec, read_spec
from latebloom.train.data.shards import HEADER_BYTES, SPLITS, FileEntry, Manifest
from latebloom.train.data.sources import Document, Split, dataset_documents, documents, find_files
from latebloom.train.data.tokenizers import TOKENIZER_FILE, TOKENIZERS, make_encoding

__all__ = ["prepare", "python_stdlib_corpus"]

PIECE_BYTES = 1 << 22  # text between two looks at the disk
CHUNK = 1 << 18  # characters of a document that are tokenised at once
# Where a text may be cut so that its halves have the tokens of the whole: before one space, after one end of a line.
SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
LEAST_CHARACTERS = 1000


class Progress(Spec, frozen=True, kw_only=True):
    """How far an interrupted call came: documents done, and what the files held then."""

    arguments: str
    documents: Count | int = 0
    parts: Count | int = 0
    source_bytes: Count | int = 0
    bytes: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    characters: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SPLITS, 0))


def prepare(
    files: Sequence[Path],
    out: Path,
    *,
    tokenizer: str = "bpe",
    vocab_size: int = 4096,
    val_share: float = 0.1,
    text_key: str = "text",
    bpe_dir: Path | None = None,
    dataset: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    val_files: Sequence[Path] = (),
    encoding: str | None = None,
    end_tokens: bool = True,
    left_out: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Tokenise documents into ``out``, each whole to one split or, when they are few, in two; write the manifest last.

    Args:
        files: Text, JSON, CSV, Parquet, compressed or not, directories of ``datasets.save_to_disk``; named train and
            validation or not.
        out: Directory to write, empty or absent.
        tokenizer: ``bpe``: byte-level BPE trained here on the training documents; ``bytes``; ``gpt2``.
        vocab_size: Of the BPE.
        val_share: Expected share of documents in the validation split; of each one's text, when they are few.
        text_key: Field or column that holds the text.
        bpe_dir: GPT-2's ``encoder.json`` and ``vocab.bpe``, for ``gpt2``.
        dataset: A Hugging Face data set, by directory or by name; a name is downloaded, because it was asked for.
        dataset_config: Its configuration.
        dataset_split: Its split, which is then split by content; by default its own train and validation.
        val_files: Validation documents; everything else is then for training.
        encoding: Of text files; by default what their byte-order mark says, else UTF-8.
        end_tokens: Whether the tokenizer's token for its end stands after each document.
        left_out: What was left out before, to be said in the manifest.
        on_progress: Called with (documents, bytes of text) done.

    Raises:
        InputError: if there are no documents, too little text, a field is missing, bytes are no text, or ``out`` is in
            use.
    """
    if not files and dataset is None:
        raise InputError("files", len(files), "must name at least one text file", "give files or directories")
    if not 0 < val_share < 1:
        raise InputError("val_share", val_share, "must lie in (0, 1)", "give such as 0.1")
    _check_empty(out)
    if tokenizer not in TOKENIZERS:
        raise InputError("tokenizer", tokenizer, "is unknown", f"valid: {', '.join(TOKENIZERS)}")

    found = find_files(files, val_files, text_key=text_key, encoding=encoding)

    def parts() -> Iterator[Part]:
        from_files = documents(found.files, text_key=text_key, encoding=encoding, dataset_split=dataset_split)
        from_dataset = dataset_documents(dataset, dataset_config, dataset_split, text_key) if dataset else iter(())
        return _parts(_split(itertools.chain(from_files, from_dataset), val_share, has_val=bool(val_files)))

    arguments = [
        [(str(path), split, path.stat().st_size) for path, split in found.files], tokenizer, vocab_size, val_share,
        text_key, str(bpe_dir), dataset, dataset_config, dataset_split, encoding,
        end_tokens,
    ]  # fmt: skip
    with unfinished_directory(out) as part:
        _check_empty(out)  # another process may have made it meanwhile
        done = _resume(part, hashlib.sha256(json.dumps(arguments).encode()).hexdigest())
        coding = make_encoding(
            tokenizer, train_texts=lambda: (piece.text for piece in parts() if piece.split == "train"),
            vocab_size=vocab_size, bpe_dir=bpe_dir, saved=part / TOKENIZER_FILE,
        )  # fmt: skip
        write_whole(part / TOKENIZER_FILE, coding.saved)
        end = coding.end if end_tokens else None
        dtype = np.dtype("<u2") if coding.size <= 2**16 else np.dtype("<u4")
        first = HEADER_BYTES if dtype.itemsize == 4 else 0  # nanoGPT's headerless format is uint16 only
        for name in SPLITS:
            _cut_to(part / f"{name}.bin", max(done.bytes[name], first))
        for piece in _pieces(parts(), done.parts):
            sizes_now, characters = dict(done.bytes), dict(done.characters)
            for name in SPLITS:
                mine = [held for held in piece if held.split == name]
                with (part / f"{name}.bin").open("ab") as file:
                    for tokens, held in zip(coding.encode([held.text for held in mine]), mine, strict=True):
                        tokens.astype(dtype).tofile(file)
                        if held.ends and end is not None:
                            np.array([end], dtype=dtype).tofile(file)
                    file.flush()
                    os.fsync(file.fileno())  # before the progress that counts on it
                sizes_now[name] = (part / f"{name}.bin").stat().st_size
                characters[name] += sum(len(held.text) for held in mine)
            done = done.replace(
                documents=done.documents + sum(held.last for held in piece), parts=done.parts + len(piece),
                bytes=sizes_now, characters=characters,
                source_bytes=done.source_bytes + sum(len(held.text.encode()) for held in piece),
            )  # fmt: skip
            write_whole(part / "progress.json", done.to_json())
            if on_progress:
                on_progress(done.documents, done.source_bytes)
        for name in SPLITS:
            if done.characters[name] < LEAST_CHARACTERS:
                _clear(part)
                shutil.rmtree(part)
                rule = f"leaves {done.characters[name]} characters of {name} text: too little"
                raise InputError("files", done.documents, rule, "give more text, or another --val-share")
        entries = [_close(part / f"{name}.bin", name, dtype) for name in SPLITS]
        manifest = Manifest(
            tokenizer=tokenizer, vocab_size=coding.size, source_files=done.documents, source_bytes=done.source_bytes,
            files=tuple(entries), end_token=end, left_out=(*left_out, *found.left_out) or None,
        )  # fmt: skip
        (part / "progress.json").unlink(missing_ok=True)
        write_whole(part / "manifest.json", manifest.to_json())
        commit_directory(part, out)
        return manifest


def python_stdlib_corpus() -> list[Path]:
    """This interpreter's standard library as .py files in order of name, without installed packages, tests, tables."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings", "pydoc_data"}
    return sorted(p for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts))


@dataclass(frozen=True)
class Part:
    """A part of a document, short enough to be tokenised at once.

    Attributes:
        text: Its text.
        split: ``train`` or ``val``.
        ends: Whether the document ends with it, as far as this split goes.
        last: Whether the whole document ends with it.
    """

    text: str
    split: Split
    ends: bool = False
    last: bool = False


# Text of one split in pieces, and whether the whole document ends with them
Stretch = tuple[Split, Iterator[str], bool]


def _split(texts: Iterator[Document], val_share: float, *, has_val: bool) -> Iterator[Stretch]:
    """Every document with its split: its own, or by its content; or, where documents are few, each one's end in val."""
    few = math.ceil(2 / val_share)
    first = list(itertools.islice(texts, few))
    unsaid = [document for document in first if document.split is None]
    for document in itertools.chain(first, texts):
        if document.split is not None or has_val:
            yield document.split or "train", document.read(), True
        elif len(first) < few and unsaid:
            length = sum(map(len, document.read()))
            cut = round(length * (1 - val_share))
            yield "train", _between(document.read(), 0, cut), False
            yield "val", _between(document.read(), cut, length), True
        else:
            state = hashlib.sha256()
            for piece in document.read():
                state.update(piece.encode())
            number = int.from_bytes(state.digest()[:8], "little") / 2**64
            yield "val" if number < val_share else "train", document.read(), True


def _between(pieces: Iterator[str], start: int, stop: int) -> Iterator[str]:
    at = 0
    for piece in pieces:
        yield piece[max(start - at, 0) : max(stop - at, 0)]
        at += len(piece)


def _parts(stretches: Iterator[Stretch]) -> Iterator[Part]:
    """Long texts in parts that have the tokens of the whole."""
    for split, pieces, last in stretches:
        held = ""
        for piece in pieces:
            held += piece
            while len(held) > 2 * CHUNK:
                seam = SEAM.search(held, CHUNK)
                cut = seam.start() if seam and seam.start() < 2 * CHUNK else CHUNK
                yield Part(held[:cut], split)
                held = held[cut:]
        yield Part(held, split, ends=True, last=last)


def _pieces(parts: Iterator[Part], skip: int) -> Iterator[list[Part]]:
    piece, held = [], 0
    for part in itertools.islice(parts, skip, None):
        piece.append(part)
        held += len(part.text)
        if held >= PIECE_BYTES:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece


def _resume(part: Path, arguments: str) -> Progress:
    """What an earlier call with the same arguments left in ``part``; anything else there is removed."""
    path = part / "progress.json"
    if path.is_file():
        done = read_spec(path, Progress)
        if done.arguments == arguments and all(_size(part / f"{name}.bin") >= done.bytes[name] for name in SPLITS):
            return done  # after a power failure a file may be shorter than what was noted of it
    _clear(part)
    return Progress(arguments=arguments)


def _clear(part: Path) -> None:
    """Remove all but what says that the directory is ours."""
    for entry in part.iterdir():
        if entry.name != UNFINISHED:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_empty(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")


def _cut_to(path: Path, size: int) -> None:
    with path.open("ab"):
        pass
    with path.open("r+b") as file:
        file.truncate(size)


def _close(path: Path, split: str, dtype: np.dtype) -> FileEntry:
    """Write the header of a uint32 shard, and say what the file is."""
    first = HEADER_BYTES if dtype.itemsize == 4 else 0
    tokens = (path.stat().st_size - first) // dtype.itemsize
    if first:
        header = np.zeros(HEADER_BYTES // 4, dtype="<i4")
        header[:3] = 20240801, 1, tokens
        with path.open("r+b") as file:
            header.tofile(file)
    return FileEntry(name=path.name, split=split, bytes=path.stat().st_size, tokens=tokens, sha256=file_sha256(path))
