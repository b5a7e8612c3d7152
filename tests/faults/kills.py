"""Random kills: work of every kind is ended by kill -9 at a random moment, taken up again, and must end bit for bit.

    python -m tests.faults.kills --out runs/kills                                  # 200 kills; stopped, it goes on
    python -m tests.faults.kills --out runs/kills --record paper_figures/data/kills.parquet

A trial is a piece of work in a process of its own, which is killed once or twice and started again as its user would
start it. What it leaves is compared with the same work left alone: final losses, all other values of the record but
speeds, and the SHA-256 of the last checkpoint's weights. The moment of a kill is the n-th thing that the process does
to a file below its folder (so that every open, rename and removal is as likely), or a share of the time that the work
takes. A study is several processes: all of them are killed, or the first, or one that trains.

    train    a run of two expansions                       branch   from a trunk's checkpoint, through an expansion
    online   a run that decides its expansion, keeping     data     text to token shards, in pieces, with a BPE
             one checkpoint                                study    fixed and grown runs, trunks shared
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from latebloom.theory.files import file_sha256
from latebloom.theory.online_expansion import AutoExpansion
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.record import Record, header, read_record, write_parquet
from latebloom.train.config import TrainConfig
from latebloom.train.data import corpus
from latebloom.train.experiments.study import GrowthGrid, Study, run_study
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import resume, train
from latebloom.train.run.several import run_one
from tests.faults.injector import at_file_event, kill
from tests.helpers import tiny_plan

PRELOADED = ["torch", "latebloom.train.run.loop", "latebloom.train.experiments.study", "tests.helpers"]
CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=128, log_every=2, checkpoint_every=3, repeat_data=True, device="cpu"
)  # fmt: skip
SHARES = {"train": 0.3, "online": 0.22, "branch": 0.22, "data": 0.2, "study": 0.06}  # of the trials
STUDY = Study(
    name="kills", width=16, heads=2, context=16, vocab_size=256, batch_tokens=64, peak_lr=0.02, warmup_steps=2,
    depths=(1, 2), computes=(10,), growth=(GrowthGrid(small=1, at=(0.5,)),),
)  # fmt: skip
ATTEMPT_S = 300  # an attempt that takes longer hangs


def plan() -> Plan:
    """Two expansions in 18 steps."""
    small = tiny_plan(steps=18, tau=6, small=1, full=2)
    return small.replace(stages=(*small.stages, Stage(start_step=12, depth=4, init="copy_zero_last", order="inter")))


def do_train(folder: Path, data: Path) -> None:
    """The run, begun or gone on with."""
    run_one(plan(), data / "shards", folder / "run", config=CONFIG)


def do_online(folder: Path, data: Path) -> None:
    """A run that decides its expansion and keeps one checkpoint."""
    moved = tiny_plan(steps=18, tau=16)
    rule = AutoExpansion(schedule=moved.schedule, mixing_area=7 * moved.schedule.peak)
    run = folder / "run"
    if (run / "record.jsonl").exists() and RunDirectory(run).checkpoints():
        resume(run)
    else:
        train(moved, data=data / "shards", out=run, config=CONFIG.replace(keep_checkpoints=1), auto=rule)


def do_branch(folder: Path, data: Path) -> None:
    """A branch of the trunk, which grows twice."""
    run_one(plan(), data / "shards", folder / "run", config=CONFIG, trunk=data / "trunk")


def do_data(folder: Path, data: Path) -> None:
    """Text to shards, in many pieces."""
    corpus.PIECE_BYTES = 4000
    if not (folder / "shards" / "manifest.json").exists():
        corpus.prepare(sorted((data / "text").iterdir()), folder / "shards", vocab_size=300, val_share=0.2)


def do_study(folder: Path, data: Path) -> None:
    """Three arms, of which two are branches."""
    run_study(STUDY, data=data / "shards", out=folder / "study", config=CONFIG)


WORK: dict[str, Callable[[Path, Path], None]] = {
    "train": do_train, "online": do_online, "branch": do_branch, "data": do_data, "study": do_study,
}  # fmt: skip


def outcome(folder: Path) -> dict[str, Any]:
    """What work has left: by file its digest, by run its final loss and values."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.bin")):
        found[path.name] = file_sha256(path)
    for path in sorted(folder.rglob("record.jsonl")):
        record = read_record(path)
        columns = (record.columns[name].tolist() for name in ("step", "split", "metric", "value"))
        rows = sorted(row for row in zip(*columns, strict=True) if row[2] != "tokens_per_s")
        weights = RunDirectory(path.parent).newest_checkpoint()[0] / "model.safetensors"
        found[path.parent.name] = {
            "final": record.final(), "rows": [list(row) for row in rows], "weights": file_sha256(weights)
        }  # fmt: skip
    return found


def prepare(folder: Path) -> Path:
    """Text, shards of it, and a trunk to branch from."""
    data = folder / "given"
    if not (data / "done").exists():
        shutil.rmtree(data, ignore_errors=True)
        (data / "text").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for i in range(40):
            (data / "text" / f"{i:02}.txt").write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 300)))
        corpus.prepare(sorted((data / "text").iterdir()), data / "shards", tokenizer="bytes", val_share=0.2)
        trunk = plan().replace(stages=plan().stages[:1], name="trunk")
        train(trunk, data=data / "shards", out=data / "trunk", config=CONFIG.replace(keep_checkpoints=9))
        (data / "done").touch()
    return data


def child(kind: str, folder: Path, data: Path, number: int | None, pipe: Any) -> None:
    """One attempt, in a process group of its own; killed before its ``number``-th file operation."""
    import torch

    os.setsid()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    last = folder.parent / f"{folder.name}.last"

    def end() -> None:
        last.write_text(seen[-1])
        kill()

    seen = at_file_event(number, end, below=str(folder))
    pipe.send("begun")
    try:
        WORK[kind](folder, data)
    except BaseException as error:  # a refusal, too, is an end that is not the one hoped for
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send(len(seen))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one attempt ended.

    Attributes:
        said: Number of file operations of one that finished, its error, or None: it was killed.
        seconds: It took.
    """

    said: int | str | None
    seconds: float


def attempt(kind: str, folder: Path, data: Path, *, number: int | None = None, after: float | None = None,
            victim: str = "all") -> Attempt:  # fmt: skip
    """Do the work in a process, and kill it before its ``number``-th file operation, or ``after`` seconds.

    Args:
        kind: Of work.
        folder: Its own.
        data: What it is given.
        number: File operation before which it kills itself; None: never.
        after: Seconds from its beginning; None: never.
        victim: Of the kill after some time: ``all`` processes, the ``first``, or one ``worker``.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(kind, folder, data, number, theirs))
    process.start()
    theirs.close()
    began, said = time.monotonic(), None
    try:
        ours.recv()
        began = time.monotonic()
        if after is not None and not ours.poll(after):
            _kill(process.pid, victim)
        said = ours.recv() if ours.poll(ATTEMPT_S) else f"hangs: nothing in {ATTEMPT_S} s"
    except EOFError:
        pass
    seconds = time.monotonic() - began
    if isinstance(said, str) and said.startswith("hangs"):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    while _group(process.pid):  # workers end with the first process, after a checkpoint
        time.sleep(0.05)
    return Attempt(said=said, seconds=seconds)


def _kill(pid: int | None, victim: str) -> None:
    assert pid is not None
    if victim == "all":
        os.killpg(pid, signal.SIGKILL)
        return
    group = _group(pid)
    workers = [other for other, parent in group.items() if parent != pid and parent in group]  # of its fork server
    os.kill(workers[0] if victim == "worker" and workers else pid, signal.SIGKILL)


def _group(pid: int | None) -> dict[int, int]:
    """Parent of each process of a group that is not a zombie."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            found[int(path.parent.name)] = int(fields[1])
    return found


def reference(folder: Path, data: Path) -> dict[str, dict[str, Any]]:
    """By kind: what undisturbed work leaves, its number of file operations and its seconds."""
    file = folder / "reference.json"
    if file.exists():
        return json.loads(file.read_text())
    found = {}
    for kind in WORK:
        shutil.rmtree(folder / "whole" / kind, ignore_errors=True)
        done = attempt(kind, folder / "whole" / kind, data)
        if not isinstance(done.said, int):
            raise SystemExit(f"{kind}, undisturbed: {done.said}")
        found[kind] = {"outcome": outcome(folder / "whole" / kind), "events": done.said, "seconds": done.seconds}
    file.write_text(json.dumps(found))
    return json.loads(file.read_text())


def trial(number: int, folder: Path, data: Path, whole: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The kills of trial ``number``, each with what came of the whole trial."""
    rng = np.random.default_rng([20261126, number])
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    known, place = whole[kind], folder / "trials" / f"{number:04}"
    shutil.rmtree(place, ignore_errors=True)
    kills: list[dict[str, Any]] = []
    error = None
    for _ in range(int(rng.integers(1, 3))):
        share, by_time = float(rng.random()), bool(kind == "study" or rng.random() < 0.4)
        victim = str(rng.choice(["all", "first", "worker"])) if kind == "study" else "all"
        event = None if by_time else int(share * known["events"])
        after = share * known["seconds"] if by_time else None
        done = attempt(kind, place, data, number=event, after=after, victim=victim)
        if isinstance(done.said, int):
            break  # it was done before the moment came
        last = place.parent / f"{place.name}.last"
        where = victim if by_time else last.read_text()
        if done.said is not None and not (by_time and victim == "worker"):
            error = done.said
            break
        kills.append({"kind": kind, "way": "time" if by_time else "file", "share": share, "where": where})
    (place.parent / f"{place.name}.last").unlink(missing_ok=True)
    if error is None:
        done = attempt(kind, place, data)
        error = None if isinstance(done.said, int) else str(done.said)
    same, difference = False, None
    if error is None:
        found = json.loads(json.dumps(outcome(place)))
        same = found == known["outcome"]
        losses = [(found[k]["final"], v["final"]) for k, v in known["outcome"].items() if isinstance(v, dict)]
        difference = max((abs(a - b) for a, b in losses), default=0.0)
    if same:
        shutil.rmtree(place)  # what went wrong stays to be looked at
    return [row | {"trial": number, "same": same, "difference": difference, "error": error} for row in kills] or [
        {"trial": number, "kind": kind, "way": None, "same": same, "difference": difference, "error": error}
    ]


def as_record(rows: list[dict[str, Any]]) -> Record:
    """One step a kill: its share of the work, whether all came out the same, how far the final losses differ."""
    kills = [row for row in rows if row["way"]]
    table: list[tuple[int, str, str, float]] = []
    for step, row in enumerate(sorted(kills, key=lambda row: row["trial"]), start=1):
        name = f"{row['kind']}/{row['way']}"
        difference = np.nan if row["difference"] is None else row["difference"]
        table += [(step, name, "share", row["share"]), (step, name, "same", float(row["same"])),
                  (step, name, "loss_difference", difference)]  # fmt: skip
    step, split, metric, value = zip(*table, strict=True)
    zeros = np.zeros(len(table), dtype=np.int64)
    columns = {
        "step": np.array(step), "tokens": zeros, "flops": zeros.astype(float), "wall_s": zeros.astype(float),
        "depth": zeros, "phase": zeros, "split": np.array(split, dtype=object),
        "metric": np.array(metric, dtype=object), "value": np.array(value),
    }  # fmt: skip
    config = {"kills": len(kills), "trials": len({row["trial"] for row in kills})}
    return Record(header=header(plan(), seed=0, name="kills", config=config), columns=columns)


@click.command(help="End work of every kind by kill -9 at random moments, take it up again, compare.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory of the study.")
@click.option("--kills", "wanted", default=200, show_default=True, help="How many, at least.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time.")
@click.option("--record", "file", type=click.Path(path_type=Path), help="Write what was found as a Record, and end.")
def main(out: Path, wanted: int, jobs: int, file: Path | None) -> None:
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    log = out / "kills.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if file is not None:
        write_parquet(as_record(rows), file)
        click.echo(f"{file}: {summary(rows)}")
        return
    data = prepare(out)
    whole = reference(out, data)
    done = {row["trial"] for row in rows}
    numbers = (number for number in itertools.count() if number not in done)
    pending: set[Future[list[dict[str, Any]]]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while pending or sum(row["way"] is not None for row in rows) < wanted:
            while len(pending) < jobs and sum(row["way"] is not None for row in rows) < wanted:
                pending.add(pool.submit(trial, next(numbers), out, data, whole))
            ended, pending = wait(pending, return_when=FIRST_COMPLETED)
            for new in (future.result() for future in ended):
                with log.open("a") as lines:
                    lines.write("".join(json.dumps(row) + "\n" for row in new))
                rows += new
                for row in new:
                    end = "same" if row["same"] else row["error"] or "OTHER"
                    share, where = row.get("share", 1.0), row.get("where", "-")
                    click.echo(f"{row['trial']:4} {row['kind']:<7}{share:5.2f} {where:<40}{end}")
    click.echo(summary(rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """One line."""
    kills = [row for row in rows if row["way"]]
    lost = sum(row["error"] is not None for row in kills)
    other = sum(row["error"] is None and not row["same"] for row in kills)
    return f"{len(kills)} kills, {lost} unrecoverable, {other} with another end"


if __name__ == "__main__":
    main()
