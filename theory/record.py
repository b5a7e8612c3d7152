"""The Record: what a run leaves, as tidy rows, and its only reader and writer.

A record file is JSON lines. The first line is ``{"record": HEADER}`` with the plan and its digest, seed, config,
library versions and commit; each further line is one row

    step, tokens, flops, wall_s, depth, phase, split, metric, value

with ``step`` = updates done when the value was measured, ``tokens`` and ``flops`` = totals so far, ``wall_s`` =
seconds of training so far, ``phase`` = index of the plan's stage. A run that was killed leaves a torn last line, and
one that was resumed repeats steps: the reader drops the first and keeps the last of the second. Parquet holds the same
rows with the header as file metadata; committed figures read that.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import msgspec
import numpy as np
from msgspec import Meta

from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.plan import Plan
from latebloom.theory.spec import Count, NonNegative, Spec, decode

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "COLUMNS",
    "RECORD_FILE",
    "Header",
    "Record",
    "RecordWriter",
    "Row",
    "checkout_commit",
    "header",
    "read_header",
    "read_record",
    "read_records",
    "record_name",
    "values_record",
    "write_parquet",
]

RECORD_FILE = "record.jsonl"  # in a run's directory
FIRST_LINE = b'{"record":'  # then the header, then }
LARGEST_RECORD = 10**7  # rows; each takes some 200 bytes in memory
COLUMNS = ("step", "tokens", "flops", "wall_s", "depth", "phase", "split", "metric", "value")


class Header(Spec, frozen=True, kw_only=True):
    """What a record says about its run, once.

    Attributes:
        record_version: Version of the format, 1.
        name: The run's name, for people.
        plan: What the run executes.
        plan_digest: SHA-256 of the plan's canonical JSON.
        seed: Of weights and batches.
        config: Settings that are no part of the plan.
        versions: Of Python and the libraries that matter, by name.
        commit: Of the checkout that ran, if it was one.
        data_digest: SHA-256 of the data's manifest.
        machine: Where it ran, in words.
    """

    record_version: Literal[1] = 1
    name: str
    plan: Plan
    plan_digest: str
    seed: int
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}
    commit: str | None = None
    data_digest: str | None = None
    machine: str | None = None


class Row(Spec, frozen=True, kw_only=True):
    """One measured value.

    Attributes:
        step: Updates done.
        tokens: Trained on so far.
        flops: Of training so far.
        wall_s: Seconds of training so far.
        depth: Blocks of the model.
        phase: Index of the plan's stage.
        split: Of the data, such as 'train' or 'val'.
        metric: Such as 'loss'.
        value: The measured value; None where it was not finite.
    """

    step: Count
    tokens: Annotated[int, Meta(ge=0)]
    flops: NonNegative
    wall_s: NonNegative
    depth: Count
    phase: Count
    split: str
    metric: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A header and the rows, as columns of equal length.

    Attributes:
        header: What the record says about its run.
        columns: One array of shape (rows,) for each name in :data:`COLUMNS`.
    """

    header: Header
    columns: dict[str, np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.columns["step"])

    @property
    def plan(self) -> Plan:
        """The plan that the run executed."""
        return self.header.plan

    def select(self, *, split: str, metric: str = "loss") -> dict[str, np.ndarray]:
        """Columns of one series, in order of step."""
        mask = (self.columns["split"] == split) & (self.columns["metric"] == metric)
        order = np.argsort(self.columns["step"][mask], kind="stable")
        return {name: column[mask][order] for name, column in self.columns.items()}

    def curve(self, *, split: str = "val", metric: str = "loss") -> tuple[np.ndarray, np.ndarray]:
        """(step, value) of one series."""
        series = self.select(split=split, metric=metric)
        return series["step"], series["value"]

    def final(self, *, split: str = "val", metric: str = "loss") -> float:
        """Last value of one series.

        Raises:
            InputError: if the run did not reach the plan's horizon, or has no such series.
        """
        step, value = self.curve(split=split, metric=metric)
        if len(step) == 0 or step[-1] != self.plan.steps:
            at = int(step[-1]) if len(step) else None
            rule = f"the run {self.header.name!r} has no {split} {metric} at its last step {self.plan.steps}"
            raise InputError("step", at, rule, "resume the run")
        return float(value[-1])

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a table, with the run's name as a column."""
        import pandas as pd

        return pd.DataFrame({"run": self.header.name, **self.columns})

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the validation loss against steps (:func:`latebloom.theory.display.plot_record`).

        Args:
            axes: Where to draw; a new figure by default.
        """
        from latebloom.theory import display

        return display.plot_record(self, axes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from latebloom.theory import display

        return display.record_html(self)


class RecordWriter:
    """Appends rows to a JSON-lines file; each line is with the operating system before the call returns.

    A new file starts with the header; an existing record of the same plan is continued.

    Args:
        path: The file.
        header: What the record says about its run.
    """

    def __init__(self, path: str | Path, header: Header):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _drop_torn_line(self.path)
        new = not self.path.exists() or self.path.stat().st_size == 0
        self._file = self.path.open("a", encoding="utf-8")
        if new:
            self._line({"record": msgspec.to_builtins(header)})

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append ``rows`` (keys :data:`COLUMNS`); a non-finite value is written as null."""
        for row in rows:
            value = math.nan if row["value"] is None else float(row["value"])
            kept = value if math.isfinite(value) else None
            self._line({name: row[name] for name in COLUMNS} | {"value": kept})

    def change_plan(self, plan: Plan) -> None:
        """Put ``plan`` and its digest into the header: the run decided while running what it executes."""
        self._file.close()
        lines = self.path.read_bytes().split(b"\n", 1)
        head = _header(lines[0], self.path).replace(plan=plan, plan_digest=plan.digest)
        first = json.dumps({"record": msgspec.to_builtins(head)}, allow_nan=False, separators=(",", ":"))
        write_whole(self.path, first.encode() + b"\n" + lines[1])
        self._file = self.path.open("a", encoding="utf-8")

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def header(
    plan: Plan,
    *,
    seed: int,
    name: str | None = None,
    config: dict[str, Any] | None = None,
    data_digest: str | None = None,
    machine: str | None = None,
) -> Header:
    """A header for a run of ``plan`` here and now: library versions and commit are looked up.

    Args:
        plan: What the run executes.
        seed: Of weights and batches.
        name: The run's name; None for the plan's.
        config: Settings that are no part of the plan.
        data_digest: SHA-256 of the data's manifest.
        machine: Where it runs, in words.
    """
    return Header(
        name=plan.name if name is None else name,
        plan=plan,
        plan_digest=plan.digest,
        seed=seed,
        config=config or {},
        versions=_versions(),
        commit=checkout_commit(),
        data_digest=data_digest,
        machine=machine,
    )


def values_record(header: Header, values: Iterable[tuple[str, str, float | None]]) -> Record:
    """A record of values that belong to no step: claims, scores, measured properties.

    Args:
        header: What was done, with a representative plan.
        values: (split, metric, value) of each; None where there is no value.
    """
    rows = list(values)
    n = len(rows)
    columns: dict[str, np.ndarray] = {name: np.zeros(n) for name in ("flops", "wall_s")}
    columns |= {name: np.zeros(n, dtype=np.int64) for name in ("step", "tokens", "depth", "phase")}
    columns |= {
        "split": np.array([split for split, _, _ in rows], dtype=object),
        "metric": np.array([metric for _, metric, _ in rows], dtype=object),
        "value": np.array([np.nan if value is None else float(value) for _, _, value in rows]),
    }
    return Record(header=header, columns=columns)


def record_name(path: Path) -> str:
    """How a record is called by where it lies: its run's directory, or its file without the ending.

    A directory's name may hold dots, as ``grown-1-4-x0.45``.

    Args:
        path: A record file or a run directory.

    >>> record_name(Path("runs/x0.45/record.jsonl")), record_name(Path("runs/x0.45")), record_name(Path("x.parquet"))
    ('x0.45', 'x0.45', 'x')
    """
    if path.name == RECORD_FILE:
        return path.absolute().parent.name
    return path.name.removesuffix(".parquet").removesuffix(".jsonl")


def read_record(path: str | Path) -> Record:
    """Read a record file (JSON lines or Parquet) or the record of a run directory.

    Args:
        path: The file or the directory.

    Raises:
        InputError: naming file and line, if a line other than the last is damaged or the header does not fit.
    """
    path = Path(path)
    if path.is_dir():
        path = path / RECORD_FILE
    if not path.exists():
        raise InputError("record", str(path), "is not there", "name a run directory or a record file")
    if path.suffix == ".parquet":
        return _read_parquet(path)
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    head = _header(lines[0] if lines else b"", path)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(_row(line))
        except (msgspec.DecodeError, InputError) as error:
            if number == len(lines):
                break  # torn by a crash
            rule = f"is damaged ({error})"
            raise InputError(f"{path}:{number}", line[:40].decode(errors="replace"), rule, "remove that line") from None
    return _record(head, rows)


def read_header(path: str | Path) -> Header:
    """The header of a record file (JSON lines), without its rows.

    Args:
        path: The file.

    Raises:
        InputError: naming the file, if it is not a record.
    """
    with Path(path).open("rb") as file:
        return _header(file.readline().rstrip(b"\n"), Path(path))


def _header(line: bytes, path: Path) -> Header:
    """The header in the first ``line`` of the record ``path``."""
    if not line.startswith(FIRST_LINE):
        raise InputError(str(path), line[:40].decode(errors="replace"), "is not a record", f"give {RECORD_FILE}")
    return decode(line[len(FIRST_LINE) : -1], Header, source=path)


def read_records(paths: Sequence[str | Path]) -> list[Record]:
    """Read several records.

    Args:
        paths: Record files or run directories.

    Returns:
        The records in the order of ``paths``.
    """
    return [read_record(path) for path in paths]


def write_parquet(record: Record, path: str | Path) -> None:
    """Write ``record`` as Parquet (zstd), the header as file metadata.

    Args:
        record: What is written.
        path: The file; its directory is made if need be.

    Raises:
        InputError: if the file cannot be written, or is there and is something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(record.columns[name]) for name in COLUMNS})
    table = table.replace_schema_metadata({"record": record.header.to_json(indent=0)})
    path = Path(path)
    if path.is_symlink() or (path.exists() and not _is_parquet(path)):
        rule = "is a link" if path.is_symlink() else "is there and is no Parquet file"
        raise InputError("path", str(path), rule, "give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise InputError("path", str(path), rule, "name a file in a directory that is there") from None


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in (b"PAR1", b"")


def _read_parquet(path: Path) -> Record:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        count = pq.ParquetFile(path).metadata.num_rows
        if count > LARGEST_RECORD:
            rule = f"has {count:,} rows, more than {LARGEST_RECORD:,}"
            raise InputError("record", str(path), rule, "restore it")
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        rule = f"is not a readable Parquet file ({str(error).splitlines()[0][:120]})"
        raise InputError("record", str(path), rule, "restore it") from None
    metadata = table.schema.metadata or {}
    if b"record" not in metadata or not set(COLUMNS) <= set(table.column_names):
        raise InputError(
            str(path), path.name, "has no record header", "write it with latebloom.theory.record.write_parquet"
        )
    columns = {name: _checked(table.column(name), name, path) for name in COLUMNS}
    return Record(header=decode(metadata[b"record"], Header, source=path), columns=columns)


def _checked(column: Any, name: str, path: Path) -> np.ndarray:
    """A column of Parquet, held to the rules of :class:`Row`."""
    import pyarrow as pa

    def refuse(value: object, rule: str) -> NoReturn:
        raise InputError(f"{path}: {name}", value, rule, "restore it")

    if name in ("split", "metric"):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or column.null_count:
            refuse(str(column.type), "is not text in every row")
        for text in column.unique().to_pylist():
            Row(step=0, tokens=0, flops=0, wall_s=0, depth=0, phase=0, split=text, metric=text, value=None)
        return column.to_numpy(zero_copy_only=False)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        refuse(str(column.type), "is not numbers")
    if column.null_count and name != "value":
        refuse(None, "is not a number in every row")
    numbers = column.to_numpy(zero_copy_only=False)
    if name == "value":
        return numbers.astype(float)
    largest = {"tokens": 2**63, "flops": 1e30, "wall_s": 1e30}.get(name, 10**9)
    wrong = ~((numbers >= 0) & (numbers <= largest))
    if name not in ("flops", "wall_s"):
        wrong |= numbers != np.floor(numbers)
    if np.any(wrong):
        rule = f"is not in 0 ... {largest:g}" if name in ("flops", "wall_s") else "is no count"
        refuse(numbers[wrong][0].item(), rule)
    return numbers


_row_decoder = msgspec.json.Decoder(Row)


def _row(line: bytes) -> Row:
    return _row_decoder.decode(line)


def _record(head: Header, rows: list[Row]) -> Record:
    last = {(row.step, row.split, row.metric): row for row in rows}
    kept = list(last.values())
    columns = {name: np.array([getattr(row, name) for row in kept]) for name in COLUMNS if name != "value"}
    columns["value"] = np.array([np.nan if row.value is None else row.value for row in kept], dtype=float)
    for name in ("split", "metric"):
        columns[name] = columns[name].astype(object)
    return Record(header=head, columns=columns)


def _drop_torn_line(path: Path) -> None:
    """Cut what follows the last newline, so that the next row starts on a line of its own."""
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    if end < len(text):
        with path.open("r+b") as file:
            file.truncate(end)


def _versions() -> dict[str, str]:
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("latebloom", "numpy", "scipy", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def checkout_commit() -> str | None:
    """Commit of the checkout this package stands in, None when it was installed without one."""
    import subprocess

    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None
