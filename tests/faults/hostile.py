"""Files from strangers, and a watch over what reading them does.

    python -m tests.faults.hostile FOLDER [NAME ...]     # JSON lines: what came of each input

Each input is made in a folder of its own and given to a command in a forked process under an audit hook. The hook notes
whatever would execute something, open a connection, unpickle a name, or write outside the folder ``work``; the input
itself would leave a canary. Memory and time are limited by the system: whoever needs more than that is ended by it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latebloom import cli
from latebloom.paper_figures.report import write_report
from latebloom.theory.files import file_sha256
from latebloom.theory.plan import Curve, Plan, Prediction, write_plan
from latebloom.theory.record import header, write_parquet
from latebloom.train.config import TrainConfig
from latebloom.train.data.corpus import prepare
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import train
from tests.helpers import tiny_plan

__all__ = ["INPUTS", "given", "judge", "watched"]

MEMORY_BYTES = 4 << 30  # of addresses beyond what the process has; torch alone maps a good part of it
CPU_SECONDS, WALL_SECONDS = 20, 600
EXECUTES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen",
            "pty.spawn", "pickle.find_class", "socket.connect", "socket.getaddrinfo", "urllib.Request",
            "webbrowser.open")  # fmt: skip
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
           "shutil.rmtree", "shutil.move")  # fmt: skip
MARKUP = "</title><script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
CONFIG = TrainConfig(quiet=True, evals=2, eval_tokens=64, log_every=2, repeat_data=True, device="cpu")

Make = Callable[[Path, Path], list[Any]]  # (folder of the input, what is given) -> arguments of the command
INPUTS: dict[str, Make] = {}


class Evil:
    """What a pickle would do if anyone loaded it."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple:
        return (open, (str(self.canary), "w"))


def kind(name: str) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        INPUTS[name] = make
        return make

    return keep


def given(folder: Path) -> Path:
    """A plan, shards and a finished run, which inputs are made from."""
    if not (folder / "run" / "record.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(30):
            (folder / f"{i}.txt").write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 100)))
        prepare(sorted(folder.glob("*.txt")), folder / "data", tokenizer="bytes", val_share=0.2)
        write_plan(tiny_plan(steps=8, tau=4), folder / "plan.json")
        train(tiny_plan(steps=8, tau=4), data=folder / "data", out=folder / "run", config=CONFIG)
        write_report(shutil.copytree(folder / "run", folder / "shown"))  # matplotlib makes its folders now
    return folder


# Plans -----------------------------------------------------------------------------------------------------------


def plan_text(name: str, text: str | bytes | Callable[[str], str], *command: str) -> None:
    """An input that is a plan file; a function changes a good one."""

    def make(folder: Path, base: Path) -> list[Any]:
        content = text((base / "plan.json").read_text()) if callable(text) else text
        path = folder / "plan.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return [*(command or ("plan", "check")), path]

    INPUTS[f"plan {name}"] = make


def renamed(name: str) -> Callable[[str], str]:
    return lambda good: json.dumps(json.loads(good) | {"name": name})


def changed(path: str, value: Any) -> Callable[[str], str]:
    def change(good: str) -> str:
        plan = json.loads(good)
        *outer, last = path.split(".")
        at = plan
        for key in outer:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[last] = value
        return json.dumps(plan)

    return change


plan_text("null byte in its name", renamed("a\0b"))
plan_text("lone surrogate in its name", lambda good: good.replace('"tiny"', '"\\ud800"', 1))
plan_text("terminal escapes in its name, shown", renamed(ESCAPES), "plan", "show")
plan_text("rich mark-up in its name, shown", renamed("[/b][link=file:///etc/passwd]x[/link]"), "plan", "show")
plan_text("nested 100,000 deep", "[" * 100_000)
plan_text("objects nested 100,000 deep", '{"a":' * 100_000)
plan_text("60,000 unknown keys", lambda good: good[:-2] + "".join(f',"k{i}":1' for i in range(60_000)) + "}")
plan_text("a key 60,000 times", lambda good: good[:-2] + ',"name":"x"' * 60_000 + "}")
plan_text("1e999", lambda good: good.replace("0.02", "1e999", 1))
plan_text(
    "an integer of 100,000 digits", lambda good: good.replace('"batch_tokens": 64', f'"batch_tokens": {"9" * 100_000}')
)
plan_text("YAML that would build an object", "!!python/object/apply:os.system ['touch canary']")
plan_text("UTF-16", '{"name": "x"}'.encode("utf-16"))
plan_text("depth 10,000, dry run", changed("stages.1.depth", 10_000), "train", "--dry-run")
plan_text("depth 10^9", changed("stages.1.depth", 10**9))
plan_text("10^9 steps", changed("schedule.steps", 10**9))
plan_text("100,000 stages", changed("stages", [{"start_step": i, "depth": i} for i in range(100_000)]))


@kind("plan is a pickle")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").write_bytes(pickle.dumps(Evil(folder / "canary")))
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a pipe that nobody writes")
def _(folder: Path, base: Path) -> list[Any]:
    os.mkfifo(folder / "plan.json")
    return ["plan", "check", folder / "plan.json"]


@kind("plan is endless")
def _(folder: Path, base: Path) -> list[Any]:
    return ["plan", "check", "/dev/zero"]


@kind("plan is 8 GiB")
def _(folder: Path, base: Path) -> list[Any]:
    with (folder / "plan.json").open("wb") as file:
        file.truncate(8 << 30)
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a directory")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").mkdir()
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a link to itself")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").symlink_to(folder / "plan.json")
    return ["plan", "check", folder / "plan.json"]


@kind("plan path with a null byte")
def _(folder: Path, base: Path) -> list[Any]:
    return ["plan", "check", str(folder / "a\0b")]


def training(name: str, change: Callable[[Plan], Plan]) -> None:
    """An input that is a good plan file with which a run is to begin."""

    def make(folder: Path, base: Path) -> list[Any]:
        write_plan(change(tiny_plan(steps=8, tau=4)), folder / "plan.json")
        return ["train", folder / "plan.json", "--data", base / "data", "--repeat-data", "--evals", "2",
                "--eval-tokens", "64", "--out", folder / "work" / "run", "--device", "cpu"]  # fmt: skip

    INPUTS[f"train {name}"] = make


training(
    "a predicted curve that ends early",
    lambda p: p.replace(predicted=Prediction(curve=Curve(step=(0, 3), loss=(5.0, 4.0)))),
)
training("rich mark-up in the name", lambda p: p.replace(name="[/b][blink]x"))
training("HTML in the name", lambda p: p.replace(name=MARKUP))


# Shards ----------------------------------------------------------------------------------------------------------


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


# Checkpoints and runs --------------------------------------------------------------------------------------------


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


def tensors(head: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def saved_by_torch(folder: Path) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"w": Evil(folder / "canary")}, buffer)
    return buffer.getvalue()


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


# Records and reports ---------------------------------------------------------------------------------------------


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


# Curves ----------------------------------------------------------------------------------------------------------


def curve(name: str, content: Callable[[], bytes], file: str = "curve.csv") -> None:
    """An input that is a loss curve to be fitted."""

    def make(folder: Path, base: Path) -> list[Any]:
        (folder / file).write_bytes(content())
        return ["fit", folder / file]

    INPUTS[f"curve {name}"] = make


def csv(*lines: str) -> Callable[[], bytes]:
    return lambda: ("step,loss,lr\n" + "\n".join(lines) + "\n").encode()


curve("with formulas", csv("1,=cmd|'/c calc'!A1,0.1", "2,3,0.1"))
curve("with null bytes", csv("1,\0,0.1", "2,3,0.1"))
curve("with a field of 10^6 letters", csv("1," + "9" * 10**6 + ",0.1", "2,3,0.1"))
curve("with steps of 1e300", csv("1,4,0.1", "1e300,3,0.1"))
curve("with a column twice", lambda: b"step,loss,loss,lr\n1,2,3,4\n")
curve("whose names are mark-up", lambda: f"step,{MARKUP},{ESCAPES}\n1,2,3\n".encode())
curve("that unpacks to 8 GiB", lambda: gzip.compress(bytes(1 << 20), 9) * 8192, "curve.csv.gz")
curve("of JSON that nests deep", lambda: b'{"step":1,"loss":' + b"[" * 100_000, "curve.jsonl")
curve("of event file junk", lambda: b"\xff" * 5000, "events.out.tfevents.1.x")


def event(name: str, tensor: Callable[[Any], None]) -> None:
    """An input that is a TensorBoard file of one tensor."""

    def make(folder: Path, base: Path) -> list[Any]:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter as EventWriter

        with (folder / "events.out.tfevents.1.x").open("wb") as file:
            writer = EventWriter(file)
            for step in (1, 2):
                made = Event(step=step)
                value = made.summary.value.add(tag="loss")
                value.metadata.plugin_data.plugin_name = "scalars"
                tensor(value.tensor)
                writer.write(made.SerializeToString())
        return ["fit", folder]

    INPUTS[f"events {name}"] = make


def sized(*sizes: int, dtype: int = 1) -> Callable[[Any], None]:
    def fill(tensor: Any) -> None:
        tensor.dtype = dtype
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.append(1.0)

    return fill


event("with a tensor of 2^40 values", sized(2**40))
event("with a tensor of 29 x 10^8 values", sized(29, 10**8))
event("with a tensor of a negative size", sized(-5))
event("with a tensor of an unknown type", sized(1, dtype=99))
event("with a tensor of words", sized(1, dtype=7))


# Hugging Face folders --------------------------------------------------------------------------------------------


def hugging_face(name: str, files: Callable[[Path], dict[str, bytes | str]]) -> None:
    """An input that is a folder of weights to start from."""

    def make(folder: Path, base: Path) -> list[Any]:
        (folder / "hf").mkdir()
        for file, content in files(folder).items():
            (folder / "hf" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["train", base / "plan.json", "--data", base / "data", "--repeat-data", "--init-from", folder / "hf",
                "--out", folder / "work" / "run"]  # fmt: skip

    INPUTS[f"Hugging Face {name}"] = make


GOOD = {"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 1, "vocab_size": 256, "n_positions": 16}
EMPTY = tensors({})
hugging_face(
    "with a pickle for weights", lambda f: {"config.json": json.dumps(GOOD), "pytorch_model.bin": saved_by_torch(f)}
)
hugging_face(
    "whose safetensors are a pickle",
    lambda f: {"config.json": json.dumps(GOOD), "model.safetensors": saved_by_torch(f)},
)
hugging_face(
    "with code of its own",
    lambda f: {
        "config.json": json.dumps(GOOD | {"auto_map": {"AutoModel": "evil.Evil"}}),
        "evil.py": f"open({str(f / 'canary')!r}, 'w')",
        "model.safetensors": EMPTY,
    },
)
hugging_face(
    "whose index leads out",
    lambda f: {
        "config.json": json.dumps(GOOD),
        "model.safetensors.index.json": json.dumps({"weight_map": {"w": "../../precious"}}),
    },
)
hugging_face(
    "whose index is malformed",
    lambda f: {"config.json": json.dumps(GOOD), "model.safetensors.index.json": '{"weight_map": 5}'},
)
hugging_face("whose index is no JSON", lambda f: {"config.json": json.dumps(GOOD), "model.safetensors.index.json": "["})
hugging_face("whose config is no JSON", lambda f: {"config.json": "[" * 100_000, "model.safetensors": EMPTY})
hugging_face("with 0 heads", lambda f: {"config.json": json.dumps(GOOD | {"n_head": 0}), "model.safetensors": EMPTY})
hugging_face(
    "with text for numbers",
    lambda f: {"config.json": json.dumps(GOOD | {"n_embd": "many"}), "model.safetensors": EMPTY},
)
hugging_face(
    "with lists for numbers", lambda f: {"config.json": json.dumps(GOOD | {"n_layer": [1]}), "model.safetensors": EMPTY}
)
hugging_face(
    "with 10^9 blocks", lambda f: {"config.json": json.dumps(GOOD | {"n_layer": 10**9}), "model.safetensors": EMPTY}
)


# Text ------------------------------------------------------------------------------------------------------------


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


# The watch -------------------------------------------------------------------------------------------------------


def watched(name: str, folder: Path, base: Path) -> dict[str, Any]:
    """What became of input ``name``: its end, what was said, what was done that must not be, seconds, MiB."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    (folder / "precious").write_text("kept")
    arguments = [str(word) for word in INPUTS[name](folder, base)]
    read_end, write_end = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.close(read_end)
        _in_child(arguments, folder, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    found = json.loads(said) if said else {"end": f"ended by the system ({status})", "out": "", "err": "", "done": []}
    kept = (folder / "precious").read_bytes() == b"kept"
    found |= {"name": name, "seconds": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime, "kept": kept,
              "canary": (folder / "canary").exists() or (folder / "work" / "canary").exists()}  # fmt: skip
    pages = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("report.html")
        if path.is_file() and not path.is_symlink()
    ]
    return found | {"page": "\n".join(pages)}


def _in_child(arguments: list[str], folder: Path, pipe: int) -> None:
    """The command, under the hook and the system's limits; never returns."""
    done: list[str] = []
    work = str(folder / "work")

    def hook(event: str, arguments: tuple) -> None:
        if event in EXECUTES and not (event == "subprocess.Popen" and arguments[1] == ["git", "rev-parse", "HEAD"]):
            done.append(f"{event} {arguments!r}"[:200])
        writes = event == "open" and len(arguments) > 2 and isinstance(arguments[2], int) and (
            arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        )  # fmt: skip
        if (writes or event in CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(arguments[0])))
            there = event == "os.mkdir" and os.path.isdir(path)  # nothing comes of it
            if not path.startswith((work, "/dev/null")) and "__pycache__" not in path and not there:
                done.append(f"{event} {path}"[:200])

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(WALL_SECONDS)
    os.chdir(work)
    out, err, end = io.StringIO(), io.StringIO(), "returned"
    sys.addaudithook(hook)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(arguments)
    except SystemExit as error:
        end = f"exit {error.code}"
    except BaseException as error:
        end = f"{type(error).__name__}: {error}"[:300]
        err.write("".join(traceback.format_exception(error)[-3:]))
    said = json.dumps({"end": end, "out": out.getvalue()[-5000:], "err": err.getvalue()[-5000:], "done": done})
    os.write(pipe, said.encode()[:60_000])
    os._exit(0)


def judge(found: dict[str, Any]) -> list[str]:
    """What is wrong with what became of an input; nothing, if it did nothing and was answered."""
    wrong = []
    if found["end"] not in ("exit 0", "exit 1", "exit 2"):
        wrong.append(f"ended as {found['end']}: {found['err'][-300:]}")
    if found["end"] in ("exit 1", "exit 2") and (
        found["err"].count("\n") != 1 or not found["err"].startswith("latebloom: ")
    ):
        wrong.append(f"said {found['err'][-300:]!r}")
    if found["done"]:
        wrong.append(f"did {found['done'][:3]}")
    if found["canary"] or not found["kept"]:
        wrong.append("left a canary, or changed what is the user's")
    if "\x1b" in found["out"] + found["err"] or "\x07" in found["out"] + found["err"]:
        wrong.append("sent escapes to the terminal")
    if any(f"<{element}" in found["page"].lower() for element in ("script>alert", "img", "/title><script")):
        wrong.append("wrote mark-up into the report")
    if found["cpu"] > CPU_SECONDS:
        wrong.append(f"took {found['cpu']:.0f} s")
    return wrong


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    base = given(folder / "given")
    for name in sys.argv[2:] or INPUTS:
        found = watched(name, folder / "inputs" / f"{list(INPUTS).index(name):03}", base)
        print(json.dumps(found | {"page": len(found["page"]), "wrong": judge(found)}), flush=True)


if __name__ == "__main__":
    main()
