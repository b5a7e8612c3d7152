"""Loss curves: CSV and TensorBoard's event files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.hostile.inputs import ESCAPES, INPUTS, MARKUP


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
