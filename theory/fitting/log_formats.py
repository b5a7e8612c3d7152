r"""Rows of numbers from the files that other trainers write, whatever their form.

    .csv .tsv .txt      a table with a head line; commas, semicolons or tabs; TensorBoard's own download of one tag
    .jsonl              an object a line (W&B history, log_history saved by pandas)
    .json               a list of objects, columns by name, or Hugging Face's trainer_state.json
    .parquet            W&B's run history, any table
    .wandb              W&B's own file of an offline run
    .log .txt           lines such as nanoGPT's ``iter 10: loss 3.21``, llm.c's ``s:10 trl:3.21``,
                        ``step:125/1750 val_loss:4.05``, torchtitan's and Megatron's
    .gz                 any of the text forms, compressed

Directories and event files of TensorBoard are read in :mod:`latebloom.theory.fitting.readers`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latebloom.theory.errors import InputError

__all__ = ["Rows", "log_rows"]

Rows = list[tuple[int, dict[str, Any]]]  # (line or row of the file, its fields)

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as spreadsheets save text
LARGEST_LOG = 1 << 29  # bytes of a log, unpacked
TABLE, TABS = ".csv", ".tsv"
STEP_IN_LOG = re.compile(r"\b(?:iter|iteration|step|s)\b[ :=]*(\d+)(?:/ *\d+)?(?=[\s:,|]|$)", re.IGNORECASE)
PAIR_IN_LOG = re.compile(r"([A-Za-z][A-Za-z_/ ]*?)\s*[:= ]\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|[-+]?nan)(?![\w.])")
LOG_NAMES = {
    "trl": "train/loss", "tel": "val/loss", "train loss": "train/loss", "val loss": "val/loss",
    "lm loss": "train/loss", "lm loss value": "val/loss",
}  # fmt: skip
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # as terminals take it
OF_TENSORBOARD = ("Wall time", "Step", "Value")  # the head of its download, one file a tag
WANDB_FILE, WANDB_HEAD = b":W&B", 7  # first bytes of the file, and how many stand before the first record
BLOCK, RECORD_HEAD = 32768, 7
WHOLE, LAST = 1, 4  # kinds of records: one that is whole, and the last part of one
TENSORBOARD_FILE = re.compile(r"run-(.*?)-tag-(.*)")


def log_rows(path: Path) -> tuple[str, Rows]:
    """The run's name and the rows of a file.

    Args:
        path: The file.

    Raises:
        InputError: if it is none of these forms, or is damaged, naming the line.
    """
    name = path.name.split(".")[0]
    if path.suffix == ".parquet":
        return name, _parquet(path)
    if path.suffix == ".wandb":
        return path.parent.name.removeprefix("offline-") or name, _wandb(path)
    text = COLOUR.sub("", _text(path))
    start = text.lstrip()[:1]
    if start in ("{", "["):
        try:
            return name, _json(path, text, start)
        except InputError:
            if rows := _log(text):  # [rank0]: step: 10  loss: 3.21
                return name, rows
            raise
    if TABLE not in path.suffixes and TABS not in path.suffixes and (rows := _log(text)):
        return name, rows
    rows, head = _csv(path, text)
    if tuple(head) == OF_TENSORBOARD and (found := TENSORBOARD_FILE.fullmatch(path.stem)):
        run, tag = found.groups()
        return run, [(line, {"step": row["Step"], tag: row["Value"]}) for line, row in rows]
    return name, rows


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked, if they are no more than :data:`LARGEST_LOG`."""
    if not path.is_file():  # a pipe would be waited for, a device has no end
        raise InputError("curve", str(path), "is not a file", "give a file or a run's directory")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(LARGEST_LOG + 1)
    if len(content) > LARGEST_LOG:
        raise InputError("curve", str(path), f"holds more than {LARGEST_LOG:,} bytes", "log less often")
    return content


def _text(path: Path) -> str:
    try:
        content = _content(path)
        return content.decode("utf-16" if content[:2] in UTF16 else "utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        rule = "is neither CSV, JSON lines, a Record nor a TensorBoard file"
        raise InputError("curve", str(path), rule, "export the run as CSV") from None


def _csv(path: Path, text: str) -> tuple[Rows, list[str]]:
    lines = text.splitlines()
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    delimiter = max(",;\t", key="".join(lines[comments : comments + 1]).count)
    reader = csv.DictReader(lines[comments:], delimiter=delimiter, skipinitialspace=True)
    try:
        names = list(reader.fieldnames or ())
        twice = [name for name in names if name and names.count(name) > 1]
        if twice:
            raise InputError(f"{path.name}:1: column", twice[0], "stands more than once", "rename or remove one")
        rows = [
            (comments + reader.line_num, row) for row in reader if list(row.values()) != names
        ]  # head written again
    except csv.Error as error:
        rule = f"is not CSV ({error})"
        raise InputError(f"{path}:{reader.line_num}", path.name, rule, "export the run as CSV") from None
    if delimiter == ";":  # of countries that write 3,14
        rows = [(line, {name: _point(value) for name, value in row.items()}) for line, row in rows]
    return rows, names


def _point(value: Any) -> Any:
    return value.replace(",", ".") if isinstance(value, str) else value


def _json(path: Path, text: str, start: str) -> Rows:
    """One document, or an object a line."""
    try:
        tree = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if start == "[":
            rule = f"is not JSON ({str(error)[:60]})"
            raise InputError("curve", str(path), rule, "export the run anew") from None
        return _json_lines(path, text)
    if isinstance(tree, dict) and isinstance(tree.get("log_history"), list):
        tree = tree["log_history"]
    if isinstance(tree, dict) and tree and all(isinstance(column, dict | list) for column in tree.values()):
        tree = _of_columns(tree)
    if isinstance(tree, dict):
        tree = [tree]
    if not all(isinstance(row, dict) for row in tree):
        raise InputError("curve", str(path), "is a list of something else than objects", "give one object a point")
    return [(number, row) for number, row in enumerate(tree, start=1)]


def _of_columns(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of columns by name, as pandas' ``to_json`` writes them."""
    columns = {name: column if isinstance(column, dict) else dict(enumerate(column)) for name, column in tree.items()}
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    return [{name: column.get(key) for name, column in columns.items()} for key in keys]


def _json_lines(path: Path, text: str) -> Rows:
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == len(lines) and number > 1:
                break  # torn by a crash
            rule, fix = f"is not JSON ({str(error)[:60]})", "remove that line"
            if line.startswith("{'"):
                rule, fix = "is what Hugging Face's Trainer prints, without a step", "give its trainer_state.json"
            raise InputError(f"{path}:{number}", line[:40], rule, fix) from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}", line[:40], "is not a JSON object", "give one object a line")
        rows.append((number, row))
    return rows


def _log(text: str) -> Rows:
    """Lines that name a step and numbers: those of one step may stand on several lines."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        found = STEP_IN_LOG.search(line)
        if not found:
            continue
        pairs = PAIR_IN_LOG.findall(line[found.end() :])
        fields: dict[str, Any] = {LOG_NAMES.get(k.strip().lower(), k.strip()): float(value) for k, value in pairs}
        if fields:
            rows.append((number, {"step": int(found[1])} | fields))
    return rows


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        rule = f"is not a readable Parquet file ({str(error).splitlines()[0][:120]})"
        raise InputError("curve", str(path), rule, "restore it") from None
    return [(number, row) for number, row in enumerate(table.to_pylist(), start=1)]


def _wandb(path: Path) -> Rows:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError:
        rule = "needs the wandb package"
        raise InputError("curve", str(path), rule, "pip install wandb, or export the run's history as CSV") from None

    content, rows = _content(path), []
    if not content.startswith(WANDB_FILE):
        raise InputError("curve", str(path), "is not a file of W&B", "name the run-NAME.wandb of an offline run")
    for number, data in enumerate(_wandb_records(content), start=1):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            fields = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            rows.append((number, fields))
    return rows


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, in which W&B keeps a run: blocks of 32 KiB, long records in parts.

    wandb had a reader of its own until 0.19; what it reads is the same.
    """
    at, parts = WANDB_HEAD, b""
    while at + RECORD_HEAD <= len(content):
        left = BLOCK - at % BLOCK
        if left < RECORD_HEAD:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + RECORD_HEAD])
        parts += content[at + RECORD_HEAD : at + RECORD_HEAD + length]
        at += RECORD_HEAD + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""
