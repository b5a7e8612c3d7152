"""Documents as people have them: text in any encoding, tables, compressed files, data sets, with their own splits.

A document is a text file (or a stretch of one between <|endoftext|> marks), a line of JSON lines, a row of JSON, CSV,
Parquet or of a Hugging Face data set. It is read in pieces, so that memory does not grow with its length. Files whose
names say train, validation or test keep that; what is left out is named with its reason.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from latebloom.theory.errors import InputError
from latebloom.train.data.tokenizers import END

__all__ = ["Document", "Found", "dataset_documents", "documents", "find_files", "own_split", "text_files"]

TEXT = {".txt", ".md", ".py", ".text", ".rst", ".tex", ".raw", ".tokens"}
PLAIN = {".txt", ".text", ".raw", ".tokens"}
TABLES = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}
COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
NOT_TEXT = {b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF", b"PAR1": "Parquet", b"\x93NUM": "an array of numpy"}
TAR = slice(257, 262)  # where a tar archive says that it is one
MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig",
         b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # fmt: skip
WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
         "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}  # fmt: skip
# Names of files that tell of the data beside them
ABOUT = re.compile(
    r"(?:read_?me|licen[cs]e|copying|notice|change_?log|citation|authors|contributing|requirements|manifest"
    r"|(?:sha\d*|md5|check)_?sums?)(?:[-_]\w+)?"
)
READ = 1 << 20  # characters at a time
LONG = 1 << 22  # characters of a document that are kept in memory; longer ones are read again

Split = Literal["train", "val"]


class _NoText(InputError):
    """A table that is whole and has no text where it should."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document.

    Attributes:
        read: Gives its text in pieces, each time it is called.
        split: Where it belongs; None if nobody said.
    """

    read: Callable[[], Iterator[str]]
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What paths stand for.

    Attributes:
        files: To be read, with the split that their names say: ``train``, ``val`` or None.
        left_out: What is not read, and why.
    """

    files: tuple[tuple[Path, Split | None], ...]
    left_out: tuple[str, ...] = ()


def find_files(
    paths: Sequence[Path], val: Sequence[Path] = (), *, text_key: str = "text", encoding: str | None = None
) -> Found:
    """The files that ``paths`` name; a directory stands for the text files and tables in it.

    What only tells of the data in a directory is left out: README, LICENSE, checksums, tables without a text column
    beside larger files with text (a manifest, an index), notes and code beside tables, what is hidden or empty. A file
    that is named itself is always read. Where names say train and validation (or test), as ``datasets`` reads them,
    they are taken at their word: test files are left out. ``val`` is validation whatever its name.

    Args:
        paths: Files and directories, or directories of ``datasets.save_to_disk``.
        val: Files and directories of validation text.
        text_key: Field or column that holds the text.
        encoding: Of text files; by default what their byte-order mark says, else UTF-8.

    Raises:
        InputError: if one is not there, or nothing is left.
    """
    left_out: list[str] = []
    files = [file for path in paths for file in _listed(path, text_key, encoding, left_out)]
    held_out = [file for path in val for file in _listed(path, text_key, encoding, left_out)]
    if left_out and not files and not held_out:
        shown = "; ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        raise InputError(
            "path", str(paths[0]), f"holds nothing to read ({shown})", "give text, or name the file itself"
        )
    words = {file: own_split(file) for file in files}
    told = set(words.values())
    if not {"val", "test"} & told or not ("train" in told or len(files) <= 3) or told <= {"val", "test"}:
        words = dict.fromkeys(files)
    chosen: list[tuple[Path, Split | None]] = []
    for file, word in words.items():
        if word == "test":
            left_out.append(f"{file}: a test split by its name")
        elif word == "val" and held_out:
            left_out.append(f"{file}: a validation split by its name, and --val is given")
        elif word == "val":
            chosen.append((file, "val"))
        else:
            chosen.append((file, "train" if held_out or "val" in words.values() else None))
    return Found(files=(*chosen, *((file, "val") for file in held_out)), left_out=tuple(left_out))


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` name, as :func:`find_files` finds them, without what is left out.

    Args:
        paths: Files and directories.

    Raises:
        InputError: if one is not there.
    """
    return [file for file, _ in find_files(paths).files]


def own_split(path: Path) -> str | None:
    """What the name of a file, or of the folder that it is in, says: ``train``, ``val``, ``test`` or None.

    Args:
        path: Such as ``train.txt``, ``valid-00001-of-00002.parquet`` or ``test/part.jsonl``.
    """
    name = path.name
    while (suffix := Path(name).suffix.lower()) in TEXT | TABLES | COMPRESSED:
        name = name[: -len(suffix)]
    found = {WORDS[part] for part in re.split(r"[-._ 0-9]+", name.lower()) if part in WORDS}
    if len(found) == 1:
        return found.pop()
    return WORDS.get(path.parent.name.lower()) if not found else None


def documents(
    files: Sequence[tuple[Path, Split | None]], *, text_key: str = "text", encoding: str | None = None,
    dataset_split: str | None = None,
) -> Iterator[Document]:  # fmt: skip
    """The documents of ``files``, in order; rows whose text is empty or null are none.

    Args:
        files: As :func:`find_files` gives them.
        text_key: Field or column that holds the text.
        encoding: Of text files; by default what their byte-order mark says, else UTF-8.
        dataset_split: Of a saved data set, which one to take; by default its own train and validation.

    Raises:
        InputError: naming file and line or column, where there is no text.
    """
    for path, split in files:
        if path.is_dir():
            yield from _saved_dataset(path, text_key, dataset_split, split)
            continue
        if _suffix(path) in TABLES:
            yield from (_document(text, split) for text in _table_texts(path, text_key, encoding) if text)
        else:
            yield from _text_documents(path, encoding, split)


def dataset_documents(name: str, config: str | None, split: str | None, key: str) -> Iterator[Document]:
    """The documents of a Hugging Face data set; without a split its own train and validation.

    Args:
        name: A directory, or a name, which is downloaded.
        config: Its configuration.
        split: Which one to take.
        key: Column of the text.

    Raises:
        InputError: if it cannot be loaded, or has no such split or column.
    """
    datasets = _datasets(name)
    try:
        held = datasets.load_dataset(name, config, streaming=True)
    except (OSError, ValueError) as error:
        rule = f"cannot be loaded ({str(error).splitlines()[0][:120]})"
        raise InputError("--dataset", name, rule, "name a data set, or the directory of one") from None
    yield from _tables(held, key, name, split, None)


def _document(text: str, split: Split | None) -> Document:
    return Document(read=lambda: iter((text,)), split=split)


def _listed(path: Path, key: str, encoding: str | None, left_out: list[str]) -> list[Path]:
    if path.is_dir() and _is_dataset(path):
        splits = path / "dataset_dict.json"
        held = msgspec.json.decode(splits.read_bytes())["splits"] if splits.is_file() else []
        if any(WORDS.get(name.lower()) == "train" for name in held):
            left_out += [f"{path}/{name}: neither train nor validation" for name in held
                         if WORDS.get(name.lower()) not in ("train", "val")]  # fmt: skip
        return [path]
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("path", str(path), "is not a file or directory", "name text files")
    return _inside(path, key, encoding, left_out)


def _inside(folder: Path, key: str, encoding: str | None, left_out: list[str]) -> list[Path]:
    """The files of a folder that hold text; the others are left out with their reasons."""
    why: dict[Path, str] = {}
    tables: list[Path] = []
    texts: list[Path] = []
    for file in sorted(folder.rglob("*")):
        hidden = next((i for i, part in enumerate(file.relative_to(folder).parts) if part.startswith(".")), None)
        if hidden is not None:
            why[folder.joinpath(*file.relative_to(folder).parts[: hidden + 1])] = "hidden"
        elif file.is_symlink() and file.is_dir():
            why[file] = "a link to a folder: name it itself"
        elif file.is_dir():
            continue
        elif not file.is_file() or file.stat().st_size == 0:
            why[file] = "empty" if file.is_file() else "no file"
        elif _suffix(file) in TABLES | TEXT:
            (tables if _suffix(file) in TABLES else texts).append(file)
        else:
            why[file] = "neither text nor a table by its name"
    untold = {file: reason for file in tables if (reason := _without_text(file, key, encoding))}
    tables = [file for file in tables if file not in untold]
    plain = [file for file in texts if _suffix(file) in PLAIN and not _tells_of_others(file)]
    for file in texts:
        if _tells_of_others(file) and (tables or plain):
            why[file] = "tells of the data, by its name"
        elif tables and file not in plain:
            why[file] = "text beside tables"
    kept = [*tables, *(file for file in texts if file not in why)]
    if _size(untold) < _size(kept):
        why |= untold
    else:  # what is read first says what is wrong with it
        kept = [*untold, *kept]
    last = sorted(why.items(), key=lambda item: (item[1] == "hidden", item[0]))
    left_out += [f"{file}: {reason}" for file, reason in last]
    return sorted(kept)


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _tells_of_others(file: Path) -> bool:
    return ABOUT.fullmatch(file.name.split(".")[0].lower()) is not None


def _without_text(path: Path, key: str, encoding: str | None) -> str | None:
    """Why the first row of a table has no text under ``key``; None if it has."""
    try:
        first = next(_table_texts(path, key, encoding), None)
    except _NoText as error:
        held = f" (it has {', '.join(map(str, error.value[:5]))})" if isinstance(error.value, list) else ""
        return f"{error.rule}{held}"
    return None if first is not None else "has no rows"


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked if its first ones say that it is compressed."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
        kind = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
        match kind:
            case "gz":
                return io.BufferedReader(gzip.open(path, "rb"))
            case "bz2":
                return bz2.open(path, "rb")
            case "xz":
                return lzma.open(path, "rb")
            case "zst":
                import pyarrow as pa

                return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
        return path.open("rb")
    except OSError as error:
        raise InputError(str(path), error.strerror, "cannot be read", "check the file") from None


def _pieces(path: Path, encoding: str | None) -> Iterator[str]:
    """Text of a file, some characters at a time."""
    with _open(path) as file:
        begins = file.peek(TAR.stop) if hasattr(file, "peek") else b""
        head = begins[:4]
        other = "a tar archive" if begins[TAR] == b"ustar" else NOT_TEXT.get(head)
        if other is not None:
            raise InputError(str(path), path.name, f"is {other}, not text", "unpack or export it, or leave it out")
        marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
        if marked == "utf-16" and encoding in ("utf-16-le", "utf-16-be"):
            marked = "utf-16"
        try:
            reader = io.TextIOWrapper(file, encoding=marked or encoding or "utf-8")
        except LookupError:
            raise InputError("--encoding", encoding, "is unknown", "give such as latin-1, cp1252 or utf-16") from None
        try:
            while piece := reader.read(READ):
                if "\x00" in piece:
                    rule = "holds NUL characters: it is not text, or UTF-16 without its mark"
                    raise InputError(str(path), path.name, rule, "give --encoding utf-16-le, or leave it out")
                yield piece
        except UnicodeDecodeError as error:
            shown = error.object[error.start : error.start + 4].hex(" ")
            rule = f"is not {error.encoding}"
            fix = "give its encoding, such as --encoding latin-1 or cp1252, or leave the file out"
            raise InputError(str(path), f"bytes {shown}", rule, fix) from None
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise InputError(str(path), str(error)[:60], "cannot be unpacked", "copy the file anew") from None


def _text_documents(path: Path, encoding: str | None, split: Split | None) -> Iterator[Document]:
    """The whole file, or its stretches between <|endoftext|> marks."""
    held, start, length, marks = "", 0, 0, 0  # the text not yet given, where it begins, how long its document is
    for piece in _pieces(path, encoding):
        held, length = held + piece, length + len(piece)
        while (cut := held.find(END)) >= 0:
            marks += 1
            stop = start + length - len(held) + cut
            yield from _stretch(path, encoding, split, start, stop, held[:cut] if length - len(held) == 0 else None)
            held = held[cut + len(END) :]
            start, length = stop + len(END), len(held)
        if length > LONG:
            held = held[-len(END) :]
    if not marks:
        whole = held if length == len(held) else None
        if length:
            yield Document(read=lambda: iter((whole,)) if whole is not None else _pieces(path, encoding), split=split)
        return
    yield from _stretch(path, encoding, split, start, start + length, held if length == len(held) else None)


def _stretch(
    path: Path, encoding: str | None, split: Split | None, start: int, stop: int, text: str | None
) -> Iterator[Document]:
    """Characters of a file from ``start`` to ``stop`` as a document, unless there is nothing in them."""
    if text is not None:
        if text.strip():
            yield _document(text.strip("\n"), split)
        return

    def read() -> Iterator[str]:
        at = 0
        for piece in _pieces(path, encoding):
            if at + len(piece) > start and at < stop:
                yield piece[max(start - at, 0) : stop - at]
            at += len(piece)
            if at >= stop:
                return

    yield Document(read=read, split=split)


def _table_texts(path: Path, key: str, encoding: str | None) -> Iterator[str]:
    match _suffix(path):
        case ".jsonl" | ".ndjson":
            return _json_lines(path, key, encoding)
        case ".json":
            return _json(path, key, encoding)
        case ".csv" | ".tsv":
            return _csv(path, key, encoding)
        case _:
            return _parquet(path, key)


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    rest = ""
    for piece in _pieces(path, encoding):
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    if rest:
        yield rest


def _json_lines(path: Path, key: str, encoding: str | None) -> Iterator[str]:
    decoder = msgspec.json.Decoder()
    for number, line in enumerate(_lines(path, encoding), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}", f"{line[:38]}\n", f"is not JSON ({error})", "correct that line"
            ) from None
        yield _field(row, key, f"{path}:{number}")


def _json(path: Path, key: str, encoding: str | None) -> Iterator[str]:
    try:
        rows = msgspec.json.decode("".join(_pieces(path, encoding)))
    except (msgspec.DecodeError, RecursionError) as error:
        if "trailing" in str(error):  # lines of JSON under the name of one
            yield from _json_lines(path, key, encoding)
            return
        raise InputError(str(path), path.name, f"is not JSON ({error})", "correct the file") from None
    if isinstance(rows, dict) and isinstance(rows.get(key), str):  # one document
        yield rows[key]
        return
    inside = rows.values() if isinstance(rows, dict) else [rows]
    lists = [value for value in inside if isinstance(value, list)]
    if len(lists) != 1:
        rule = "is no list of rows, nor an object that holds one"
        raise _NoText(str(path), type(rows).__name__, rule, "give a list of objects with a text, or JSON lines")
    for number, row in enumerate(lists[0]):
        yield _field(row, key, f"{path}[{number}]")


def _csv(path: Path, key: str, encoding: str | None) -> Iterator[str]:
    csv.field_size_limit(1 << 30)
    lines = (f"{line}\n" for line in _lines(path, encoding))
    rows = csv.DictReader(lines, delimiter="\t" if _suffix(path) == ".tsv" else ",")
    for number, row in enumerate(rows, start=2):
        yield _field(row, key, f"{path}:{number}")


def _field(row: Any, key: str, where: str) -> str:
    """The text of a row; none where it says null."""
    if isinstance(row, dict) and key in row and row[key] is None:
        return ""
    if not isinstance(row, dict) or not isinstance(row.get(key), str):
        held = sorted(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise _NoText(where, held, f"has no text under {key!r}", "give --text-key, or leave the file out")
    return row[key]


def _parquet(path: Path, key: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        rule = f"is not Parquet ({str(error).splitlines()[0][:60]})"
        raise InputError(str(path), path.name, rule, "check the file") from None
    if key not in table.schema_arrow.names:
        raise _NoText(
            str(path), table.schema_arrow.names, f"has no column {key!r}", "give --text-key, or leave the file out"
        )
    for batch in table.iter_batches(columns=[key], batch_size=256):
        for text in batch.column(0).to_pylist():
            if not isinstance(text, str | None):
                raise InputError(str(path), type(text).__name__, f"in column {key!r} is not text", "give --text-key")
            yield text or ""


def _is_dataset(path: Path) -> bool:
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved_dataset(path: Path, key: str, wanted: str | None, split: Split | None) -> Iterator[Document]:
    held = _datasets(str(path)).load_from_disk(str(path))
    yield from _tables(held, key, str(path), wanted, split)


def _tables(held: Any, key: str, name: str, wanted: str | None, split: Split | None) -> Iterator[Document]:
    """Documents of one table, or of those tables of several that are its train and validation splits."""
    if not isinstance(held, dict):
        if wanted is not None:
            raise InputError("--dataset-split", wanted, f"is asked of {name}, which has no splits", "leave it out")
        yield from _rows(held, key, name, split)
        return
    if wanted is not None:
        if wanted not in held:
            raise InputError("--dataset-split", wanted, f"is not one of {name}'s {', '.join(held)}", "name one of them")
        yield from _rows(held[wanted], key, name, split)
        return
    words = {own: WORDS.get(own.lower()) for own in held}
    if "train" not in words.values() and len(held) > 1:
        raise InputError("--dataset-split", None, f"is needed: {name} has {', '.join(held)}", "name one of them")
    has_val = "val" in words.values() and len(held) > 1
    for own, table in held.items():
        if len(held) == 1 or words[own] in ("train", "val"):
            own_word: Split | None = None if not has_val else "val" if words[own] == "val" else "train"
            yield from _rows(table, key, name, split or own_word)


def _rows(table: Any, key: str, name: str, split: Split | None) -> Iterator[Document]:
    for row in table:
        if key not in row or not isinstance(row[key], str | None):
            raise InputError("--text-key", key, f"is not text in {name}, which has {sorted(row)}", "name its column")
        if row[key]:
            yield _document(row[key], split)


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError("dataset", name, "needs the package datasets", "pip install 'latebloom[data]'") from None
    return datasets
