"""Records, Parquet and reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latebloom.theory.plan import Plan, Prediction
from latebloom.theory.record import header, write_parquet
from tests.faults.hostile.inputs import ESCAPES, INPUTS, MARKUP, kind
from tests.helpers import tiny_plan


def record_of(name: str, rows: list[dict[str, Any]], *, run: str = "x", change: Callable[[Plan], Plan] | None = None,
              command: tuple[str, ...] = ("report",)) -> None:  # fmt: skip
    """An input that is a run's record."""

    def make(folder: Path, base: Path) -> list[Any]:
        plan = tiny_plan(steps=8, tau=4)
        head = json.loads(header(change(plan) if change else plan, seed=0).to_json()) | {"name": run}
        out = folder / "work" / "run"
        out.mkdir()
        lines = [json.dumps({"record": head}, separators=(",", ":")), *(json.dumps(ROW | row) for row in rows)]
        (out / "record.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return [command[0], out, *command[1:]]

    INPUTS[f"record {name}"] = make


ROW = {
    "step": 8,
    "tokens": 0,
    "flops": 0.0,
    "wall_s": 0.0,
    "depth": 1,
    "phase": 0,
    "split": "val",
    "metric": "loss",
    "value": 3.0,
}
FEW = [{"step": 0, "value": 5.0}, {"step": 4, "value": 4.0}, {"step": 8}]
record_of("with HTML in its name", FEW, run=MARKUP)
record_of(
    "with HTML in its plan",
    FEW,
    change=lambda p: p.replace(
        name=MARKUP,
        provenance=p.provenance.replace(reason=MARKUP),
        predicted=Prediction(verdict=MARKUP),
        model=p.model.replace(name=MARKUP),
    ),
)
record_of("with HTML for metrics", [*FEW, {"metric": MARKUP, "split": MARKUP}])
record_of("with terminal escapes in its name, shown", FEW, run=ESCAPES, command=("record",))
record_of("with losses of 1e308 and -1e308", [{"step": 0, "value": 1e308}, {"step": 4, "value": -1e308}, {"step": 8}])
record_of(
    "with losses that are null", [{"step": 0, "value": None}, {"step": 4, "value": None}, {"step": 8, "value": None}]
)
record_of("with losses that are text", [{"value": "x"}, {}])
record_of("with a negative step", [{"step": -5}, {}])
record_of("without rows", [])


def table(name: str, make_table: Callable[[dict[str, Any]], dict[str, Any]], metadata: str | None = None) -> None:
    """An input that is Parquet."""

    def make(folder: Path, base: Path) -> list[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = make_table({key: [value] * 3 for key, value in ROW.items()} | {"step": [0, 4, 8]})
        head = header(tiny_plan(steps=8, tau=4), seed=0).to_json(indent=0) if metadata is None else metadata
        pq.write_table(pa.table(columns).replace_schema_metadata({"record": head}), folder / "x.parquet")
        return ["record", folder / "x.parquet"]

    INPUTS[f"Parquet {name}"] = make


table("with negative steps", lambda t: t | {"step": [-1, 4, 8]})
table("with steps that are not whole", lambda t: t | {"step": [0.5, 4.0, float("nan")]})
table("with numbers for splits", lambda t: t | {"split": [1, 2, 3]})
table("with null steps", lambda t: t | {"step": [None, 4, 8]})
table("with infinite FLOPs", lambda t: t | {"flops": [0.0, float("inf"), 0.0]})
table("whose header nests deep", lambda t: t, metadata="[" * 100_000)
table("whose header is no record", lambda t: t, metadata="{}")


@kind("Parquet of 3 x 10^7 equal rows")
def _(folder: Path, base: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    head = {"record": header(tiny_plan(steps=8, tau=4), seed=0).to_json(indent=0)}
    part = pa.table({key: [value] * 10**6 for key, value in ROW.items()}).replace_schema_metadata(head)
    with pq.ParquetWriter(folder / "x.parquet", part.schema) as file:
        for _ in range(30):
            file.write_table(part)
    return ["record", folder / "x.parquet"]


@kind("Parquet that is cut")
def _(folder: Path, base: Path) -> list[Any]:
    from latebloom.theory.record import read_record

    write_parquet(read_record(base / "run"), folder / "x.parquet")
    (folder / "x.parquet").write_bytes((folder / "x.parquet").read_bytes()[:-20])
    return ["record", folder / "x.parquet"]


@kind("record written over itself")
def _(folder: Path, base: Path) -> list[Any]:
    run = shutil.copytree(base / "run", folder / "work" / "run")
    return ["record", run, "--parquet", run / "record.jsonl"]


@kind("record written through a link")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "work" / "x.parquet").symlink_to(folder / "precious")
    return ["record", base / "run", "--parquet", folder / "work" / "x.parquet"]


@kind("result that nests deep")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "work" / "result.json").write_text("[" * 100_000)
    return ["report", folder / "work"]


@kind("result with HTML and numbers for texts")
def _(folder: Path, base: Path) -> list[Any]:
    work = folder / "work"
    shutil.copytree(base / "run", work / "runs" / "progressive")
    (work / "pilots").mkdir()
    result = {"verdict": MARKUP, "notes": 5, "details": [MARKUP, 3, None], "best": MARKUP,
              "gaps": {"progressive": None}, "predicted_losses": {"progressive": None}, "gap_same_horizon": 1,
              "predicted_final_loss": 1e308, "measured_final_loss": -1e308}  # fmt: skip
    (work / "result.json").write_text(json.dumps(result))
    return ["report", work]
