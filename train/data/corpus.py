"""Text to token shards: documents from files and data sets, streamed, split by content, resumable.

A document is a text file, a line of JSON lines, a row of Parquet or of a Hugging Face data set. Its split follows from
the hash of its content, so it depends neither on the other documents nor on their order. Where there are too few to
hold out whole ones (fewer than 2/val_share), the end of each is held out, as nanoGPT does with its one file. Work is
done in pieces; what an interrupted call has done (``.OUT.part/progress.json``) is kept and the next call with the same
arguments goes on. One process at a time makes OUT.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.files import UNFINISHED, commit_directory, file_sha256, unfinished_directory, write_whole
from latebloom.theory.spec import Count, Spec, read_spec
from latebloom.train.data.shards import HEADER_BYTES, SPLITS, FileEntry, Manifest
from latebloom.train.data.tokenizers import TOKENIZER_FILE, TOKENIZERS, make_encoding

__all__ = ["documents", "prepare", "python_stdlib_corpus", "text_files"]

TEXT = {".txt", ".md", ".py"}
TABLES = {".jsonl", ".ndjson", ".parquet"}
PIECE_BYTES = 1 << 22  # text between two looks at the disk
LEAST_CHARACTERS = 1000


class Progress(Spec, frozen=True, kw_only=True):
    """How far an interrupted call came: documents done, and what the files held then."""

    arguments: str
    documents: Count | int = 0
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
    dataset_split: str = "train",
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Tokenise documents into ``out``, each whole to one split or, when they are few, in two; write the manifest last.

    Args:
        files: Text files, .jsonl, .parquet, directories of ``datasets.save_to_disk``.
        out: Directory to write, empty or absent.
        tokenizer: ``bpe``: byte-level BPE trained here on the training documents; ``bytes``; ``gpt2``.
        vocab_size: Of the BPE.
        val_share: Expected share of documents in the validation split; of each one's text, when they are few.
        text_key: Field or column that holds the text.
        bpe_dir: GPT-2's ``encoder.json`` and ``vocab.bpe``, for ``gpt2``.
        dataset: A Hugging Face data set, by directory or by name; a name is downloaded, because it was asked for.
        dataset_config: Its configuration.
        dataset_split: Its split.
        on_progress: Called with (documents, bytes of text) done.

    Raises:
        InputError: if there are no documents, too little text, a field is missing, or ``out`` is in use.
    """
    if not files and dataset is None:
        raise InputError("files", len(files), "must name at least one text file", "give files or directories")
    if not 0 < val_share < 1:
        raise InputError("val_share", val_share, "must lie in (0, 1)", "give such as 0.1")
    _check_empty(out)
    if tokenizer not in TOKENIZERS:
        raise InputError("tokenizer", tokenizer, "is unknown", f"valid: {', '.join(TOKENIZERS)}")

    def texts() -> Iterator[dict[str, str]]:
        from_files = documents(files, text_key=text_key)
        from_dataset = () if dataset is None else _dataset(dataset, dataset_config, dataset_split, text_key)
        return _split(itertools.chain(from_files, from_dataset), val_share)

    sizes = [(str(path), path.stat().st_size) for path in files]
    arguments = [
        sizes,
        tokenizer,
        vocab_size,
        val_share,
        text_key,
        str(bpe_dir),
        dataset,
        dataset_config,
        dataset_split,
    ]
    with unfinished_directory(out) as part:
        _check_empty(out)  # another process may have made it meanwhile
        done = _resume(part, hashlib.sha256(json.dumps(arguments).encode()).hexdigest())
        encode, size, saved = make_encoding(
            tokenizer, train_texts=lambda: (parts["train"] for parts in texts() if "train" in parts),
            vocab_size=vocab_size, bpe_dir=bpe_dir, saved=part / TOKENIZER_FILE,
        )  # fmt: skip
        write_whole(part / TOKENIZER_FILE, saved)
        dtype = np.dtype("<u2") if size <= 2**16 else np.dtype("<u4")
        first = HEADER_BYTES if dtype.itemsize == 4 else 0  # nanoGPT's headerless format is uint16 only
        for name in SPLITS:
            _cut_to(part / f"{name}.bin", max(done.bytes[name], first))
        for piece in _pieces(texts(), done.documents):
            sizes_now, characters = dict(done.bytes), dict(done.characters)
            for name in SPLITS:
                mine = [parts[name] for parts in piece if name in parts]
                with (part / f"{name}.bin").open("ab") as file:
                    for tokens in encode(mine) if mine else []:
                        tokens.astype(dtype).tofile(file)
                    file.flush()
                    os.fsync(file.fileno())  # before the progress that counts on it
                sizes_now[name] = (part / f"{name}.bin").stat().st_size
                characters[name] += sum(map(len, mine))
            done = done.replace(
                documents=done.documents + len(piece), bytes=sizes_now, characters=characters,
                source_bytes=done.source_bytes + sum(len(text.encode()) for parts in piece for text in parts.values()),
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
            tokenizer=tokenizer, vocab_size=size, source_files=done.documents, source_bytes=done.source_bytes,
            files=tuple(entries),
        )  # fmt: skip
        (part / "progress.json").unlink(missing_ok=True)
        write_whole(part / "manifest.json", manifest.to_json())
        commit_directory(part, out)
        return manifest


def documents(files: Sequence[Path], *, text_key: str = "text") -> Iterator[str]:
    """The documents of ``files``, in order.

    Args:
        files: Text files, .jsonl, .parquet, directories of ``datasets.save_to_disk``.
        text_key: Field or column that holds the text.

    Raises:
        InputError: naming file and line or column, where there is no text.
    """
    for path in files:
        if path.is_dir():
            yield from _saved_dataset(path, text_key)
        elif path.suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(path, text_key)
        elif path.suffix == ".parquet":
            yield from _parquet(path, text_key)
        else:
            yield _read_text(path)


def python_stdlib_corpus() -> list[Path]:
    """This interpreter's standard library as .py files in order of name, without installed packages, tests, tables."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings", "pydoc_data"}
    return sorted(p for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts))


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` name; a directory stands for its text, JSON-lines and Parquet files.

    Args:
        paths: Files and directories.

    Raises:
        InputError: if one is not there.
    """
    files = []
    for path in paths:
        if path.is_dir() and _is_dataset(path):
            files.append(path)
        elif path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix in TEXT | TABLES)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError("path", str(path), "is not a file or directory", "name text files")
    return files


def _split(texts: Iterator[str], val_share: float) -> Iterator[dict[str, str]]:
    """Every document as its text by split: all of it in one, or, where documents are few, each one's end in val."""
    few = math.ceil(2 / val_share)
    first = list(itertools.islice(texts, few))
    if len(first) < few:
        for text in first:
            cut = round(len(text) * (1 - val_share))
            yield {"train": text[:cut], "val": text[cut:]}
        return
    for text in itertools.chain(first, texts):
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") / 2**64
        yield {"val" if number < val_share else "train": text}


def _pieces(texts: Iterator[dict[str, str]], skip: int) -> Iterator[list[dict[str, str]]]:
    piece, held = [], 0
    for parts in itertools.islice(texts, skip, None):
        piece.append(parts)
        held += sum(map(len, parts.values()))
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


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(str(path), error.strerror, "cannot be read", "check the file") from None


def _json_lines(path: Path, key: str) -> Iterator[str]:
    decoder = msgspec.json.Decoder()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                shown = line[:40].decode(errors="replace")
                raise InputError(f"{path}:{number}", shown, f"is not JSON ({error})", "correct that line") from None
            if not isinstance(row, dict) or not isinstance(row.get(key), str):
                held = sorted(row) if isinstance(row, dict) else type(row).__name__
                raise InputError(f"{path}:{number}", held, f"has no text under {key!r}", "give --text-key")
            yield row[key]


def _parquet(path: Path, key: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        rule = f"is not Parquet ({str(error).splitlines()[0][:60]})"
        raise InputError(str(path), path.name, rule, "check the file") from None
    if key not in table.schema_arrow.names:
        raise InputError(str(path), table.schema_arrow.names, f"has no column {key!r}", "give --text-key")
    for batch in table.iter_batches(columns=[key], batch_size=1024):
        for text in batch.column(0).to_pylist():
            if not isinstance(text, str):
                raise InputError(str(path), type(text).__name__, f"in column {key!r} is not text", "give --text-key")
            yield text


def _is_dataset(path: Path) -> bool:
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved_dataset(path: Path, key: str) -> Iterator[str]:
    datasets = _datasets(str(path))
    held = datasets.load_from_disk(str(path))
    for table in held.values() if isinstance(held, dict) else [held]:
        yield from _rows(table, key, str(path))


def _dataset(name: str, config: str | None, split: str, key: str) -> Iterator[str]:
    datasets = _datasets(name)
    try:
        table = datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError) as error:
        rule = f"cannot be loaded ({str(error).splitlines()[0][:120]})"
        raise InputError("--dataset", name, rule, "name a data set, or the directory of one") from None
    yield from _rows(table, key, name)


def _rows(table: Any, key: str, name: str) -> Iterator[str]:
    for row in table:
        if not isinstance(row.get(key), str):
            raise InputError("--text-key", key, f"is not text in {name}, which has {sorted(row)}", "name its column")
        yield row[key]


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError("dataset", name, "needs the package datasets", "pip install 'latebloom[data]'") from None
    return datasets
