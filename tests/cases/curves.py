"""Curves, results and defaults: kinds 16 to 21."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latebloom.theory import InputError, wsd
from latebloom.theory.fitting.foreign_runs import RunDescription, record_of_curve
from latebloom.theory.fitting.readers import read_curves
from latebloom.theory.schedules import WSD, Piecewise, Tail
from latebloom.train.data.corpus import prepare
from tests.cases.data import text
from tests.cases.table import PLAN, Wrong, case, check, refusal_says

STEPS, PEAK = 400, 1e-3
SCHEDULE = WSD(steps=STEPS, peak_lr=PEAK, warmup_steps=20, decay_steps=80)
TOLD = RunDescription(depths=(1,))


def logged() -> Iterator[tuple[int, float, float, float | None]]:
    """Step, rate, training loss and, every 50 steps, validation loss of a run."""
    for step in range(10, STEPS + 1, 10):
        loss = 2.0 + 1.5 * (step / STEPS) ** -0.2
        yield step, float(SCHEDULE.lr(min(step, STEPS - 1))), loss, loss + 0.1 if step % 50 == 0 else None


def read(paths: list[Path], told: RunDescription = TOLD):
    """The record of a curve, which must have the validation losses and the schedule that were logged."""
    record = record_of_curve(paths, told, PLAN.replace(schedule=SCHEDULE, stages=PLAN.stages[:1]))
    steps, losses = record.curve()
    expected = [(step, val) for step, _, _, val in logged() if val]
    same = steps.tolist() == [step for step, _ in expected] and np.allclose(losses, [val for _, val in expected])
    same = same and record.plan.schedule.decay_steps == 80 and abs(record.plan.schedule.peak / PEAK - 1) < 1e-6
    if not same:
        raise Wrong(f"{list(zip(steps.tolist(), losses.tolist(), strict=True))[:3]}; {record.plan.schedule}")
    return record


# 16: what the usual loggers write


@case(16, "Lightning's metrics.csv, written by its own logger")
def _(folder: Path) -> str:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(folder)
    for step, lr, loss, val in logged():
        logger.log_metrics({"lr-AdamW": lr}, step)
        logger.log_metrics({"train_loss": loss, "epoch": 0}, step)
        if val:
            logger.log_metrics({"val_loss": val, "epoch": 0}, step)
    logger.save()
    read([Path(logger.log_dir) / "metrics.csv"])
    return "validation losses and schedule as they were logged"


@case(16, "TensorBoard's event files, written by torch's writer, restarted in a second file")
def _(folder: Path) -> str:
    from torch.utils.tensorboard import SummaryWriter

    points = list(logged())
    for name, part in (("a", points[:25]), ("b", points[19:])):  # what it did again overlaps
        with SummaryWriter(folder, filename_suffix=name) as writer:
            for step, lr, loss, val in part:
                writer.add_scalar("train/lr", lr, step)
                writer.add_scalar("train/loss", loss, step)
                if val:
                    writer.add_scalar("val/loss", val, step)
    read([folder])
    return "one curve"


@case(16, "trainer_state.json, as the Trainer's own class writes it")
def _(folder: Path) -> str:
    from transformers import TrainerState

    history = []
    for step, lr, loss, val in logged():
        history.append({"epoch": step / 100, "grad_norm": 0.5, "learning_rate": lr, "loss": loss, "step": step})
        if val:
            history.append({"epoch": step / 100, "eval_loss": val, "eval_runtime": 1.0, "step": step})
    history.append({"step": STEPS, "train_loss": 4.0, "train_runtime": 9.0, "total_flos": 1e9})
    TrainerState(global_step=STEPS, log_history=history).save_to_json(str(folder / "trainer_state.json"))
    read([folder / "trainer_state.json"])
    return "validation losses and schedule as they were logged"


@case(16, "nanoGPT's log, whose rates nobody logged and which are declared")
def _(folder: Path) -> str:
    lines = []
    for step, _, loss, val in logged():
        lines += [f"step {step}: train loss {loss:.9f}, val loss {val:.9f}"] if val else []
        lines.append(f"iter {step}: loss {loss:.4f}, time 107.20ms, mfu 31.66%")
    (folder / "train.log").write_text("\n".join(lines))
    read([folder / "train.log"], TOLD.replace(peak_lr=PEAK, warmup_steps=20, decay=0.2))
    return "validation losses, at the schedule that was declared"


@case(16, "torchtitan's log, with a terminal's colours, and Megatron's, with its rates")
def _(folder: Path) -> str:
    titan, megatron = ["[rank0]:[titan] 2026-01-01 - root - INFO - Training starts at step 1"], []
    for step, lr, loss, val in logged():
        titan.append(f"[rank0]:[titan] - root - INFO - \x1b[31mstep: {step:2}  \x1b[32mloss: {loss:7.4f}  mfu: 1.00%")
        megatron.append(
            f" [2026-01-01 10:00:00] iteration {step:8}/ {STEPS:7} | consumed samples: {step * 256:12} | elapsed time "
            f"per iteration (ms): 500.0 | learning rate: {lr:.9E} | lm loss: {loss:.6E} | grad norm: 0.5 |"
        )
        if val:
            titan.append(f"[rank0]:[titan] - root - INFO - \x1b[33mvalidate step: {step:2}  val_loss: {val:.9f}")
            megatron.append(f" validation loss at iteration {step} | lm loss value: {val:.9E} | lm loss PPL: {9:E} |")
    (folder / "titan.log").write_text("\n".join(titan))
    (folder / "megatron.log").write_text("\n".join(megatron))
    read([folder / "titan.log"], TOLD.replace(peak_lr=PEAK, warmup_steps=20, decay=0.2))
    read([folder / "megatron.log"])
    return "validation losses, at the schedule that was declared and at the one that was logged"


@case(16, "a CSV whose head a restarted run wrote again")
def _(folder: Path) -> str:
    rows = [("step", "lr", "loss", "val_loss"), *logged()]
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*rows[:26], rows[0], *rows[20:]])
    read([folder / "a.csv"])
    return "one curve"


@case(16, "perplexities under the name of a loss", "refused")
def _(folder: Path) -> str:
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "lr", "perplexity"), *((s, lr, np.exp(v)) for s, lr, v, _ in logged())])
    read_curves([folder / "a.csv"])
    return "fitted"


# 17: what is assumed of the past


@case(17, "a log that begins late, without its warm-up: what is assumed is said")
def _(folder: Path) -> str:
    rows = [row for row in logged() if row[0] > 100]
    with (folder / "late.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "lr", "loss", "val_loss"), *rows])
    record = record_of_curve([folder / "late.csv"], TOLD, PLAN.replace(schedule=SCHEDULE, stages=PLAN.stages[:1]))
    said = str(record.header.config["schedule"])
    return check("none is logged before step 110, and no warm-up is assumed" in said, said)


@case(17, "no learning rate, logged or declared", "refused")
def _(folder: Path) -> str:
    (folder / "a.json").write_text(json.dumps([{"step": s, "val_loss": v} for s, _, _, v in logged() if v]))
    read([folder / "a.json"])
    return "assumed"


@case(17, "a declared schedule that the logged rates belie", "refused")
def _(folder: Path) -> str:
    rows = [{"step": s, "lr": lr, "val_loss": v} for s, lr, _, v in logged() if v]
    (folder / "a.json").write_text(json.dumps(rows))
    read([folder / "a.json"], TOLD.replace(peak_lr=2 * PEAK, warmup_steps=20, decay=0.2))
    return "believed"


# 18: results keyed by a name


@case(18, "a sweep in a folder where another one stands", "refused")
def _(folder: Path) -> str:
    from latebloom.train.config import TrainConfig
    from latebloom.train.experiments.lr_transfer import lr_transfer

    for i in range(30):
        (folder / f"{i}.txt").write_text(text(300 + i))
    prepare(sorted(folder.glob("*.txt")), folder / "d", tokenizer="bytes", val_share=0.2)
    prepare(sorted(folder.glob("*.txt"))[:25], folder / "e", tokenizer="bytes", val_share=0.2)
    plan = PLAN.replace(model=PLAN.model.replace(vocab_size=256), stages=PLAN.stages[:1])
    for data in ("d", "e"):
        lr_transfer(plan, data=folder / data, out=folder / "sweep", lrs=(1e-4, 1e-3, 0.01, 3.0), width=32, depth=2,
                    steps=100, config=TrainConfig(quiet=True, evals=0, eval_tokens=256))  # fmt: skip
    return "used again"


# 19: an error is given one cause


@case(19, "a file system without locks is not a run in use")
def _(folder: Path) -> str:
    from unittest import mock

    from latebloom.theory.files import hold

    for error in (OSError(95, "Operation not supported"), OSError(37, "No locks available")):
        with mock.patch("fcntl.flock", side_effect=error), hold(folder / "lock", name="--out", value="run"):
            pass
    try:
        with hold(folder / "lock", name="--out", value="run"), hold(folder / "lock", name="--out", value="run"):
            raise Wrong("held twice")
    except InputError as error:
        return check("is in use by process" in str(error), f"no locks: goes on; held: {error}")


@case(19, "a tokenizer file that is damaged, and one that is not there, are told apart")
def _(folder: Path) -> str:
    said = []
    for content in (None, "{"):
        (folder / "gpt2").mkdir(exist_ok=True)
        if content is not None:
            for name in ("encoder.json", "vocab.bpe"):
                (folder / "gpt2" / name).write_text(content)
        (folder / "a.txt").write_text(text(4000))
        try:
            prepare([folder / "a.txt"], folder / "out", tokenizer="gpt2", bpe_dir=folder / "gpt2", val_share=0.2)
        except InputError as error:
            said.append(str(error).replace(str(folder), ""))
    return check(len(set(said)) == 2, " | ".join(said))


@case(19, "what the Trainer prints has no step: not said to be damaged JSON", "refused")
def _(folder: Path) -> str:
    printed = [{"loss": loss, "learning_rate": lr, "epoch": step / 100} for step, lr, loss, _ in logged()]
    (folder / "out.log").write_text("\n".join(map(str, printed)))
    with refusal_says("trainer_state.json"):
        read_curves([folder / "out.log"])
    return "fitted"


# 20: a default that is a number nobody means


@case(20, "transfer to another horizon or batch without the base's", "refused")
def _(_: Path) -> str:
    from latebloom.theory.commands_transfer import transfer_command

    for option in ("--batch", "--steps"):
        transfer_command.main(["--base-width", "256", "--base-depth", "4", option, "20000"], standalone_mode=False)
    return "printed"


# 21: schedules without a peak, records without rows


@case(21, "a record that has only its head, fitted", "refused")
def _(folder: Path) -> str:
    from latebloom.theory.record import RecordWriter, header

    with RecordWriter(folder / "record.jsonl", header(PLAN.replace(stages=PLAN.stages[:1]), seed=0)):
        pass
    with refusal_says("none has been logged yet"):
        read_curves([folder / "record.jsonl"])
    return "fitted"


@case(21, "a table of rates, and the tail of a schedule, at another peak")
def _(_: Path) -> str:
    table = Piecewise(at=(0, 5, 15, 20), rate=(0.0, 0.02, 0.02, 0.0)).with_peak(0.5)
    tail = Tail(base=wsd(steps=40, peak_lr=0.02), start_step=20).with_peak(0.5)
    return check(abs(table.peak - 0.5) < 1e-12 and abs(tail.peak - 0.5) < 1e-12, "peaks of .5")
