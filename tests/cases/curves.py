"""Curves, results and defaults: kinds 16 to 21."""

from __future__ import annotations

from pathlib import Path

from latebloom.theory import wsd
from latebloom.theory.schedules import Piecewise, Tail
from latebloom.train.data.corpus import prepare
from tests.cases.data import text
from tests.cases.table import PLAN, case, check

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


# 20: a default that is a number nobody means


@case(20, "transfer to another horizon or batch without the base's", "refused")
def _(_: Path) -> str:
    from latebloom.theory.commands_transfer import transfer_command

    for option in ("--batch", "--steps"):
        transfer_command.main(["--base-width", "256", "--base-depth", "4", option, "20000"], standalone_mode=False)
    return "printed"


# 21: schedules without a peak, records without rows


@case(21, "a table of rates, and the tail of a schedule, at another peak")
def _(_: Path) -> str:
    table = Piecewise(at=(0, 5, 15, 20), rate=(0.0, 0.02, 0.02, 0.0)).with_peak(0.5)
    tail = Tail(base=wsd(steps=40, peak_lr=0.02), start_step=20).with_peak(0.5)
    return check(abs(table.peak - 0.5) < 1e-12 and abs(tail.peak - 0.5) < 1e-12, "peaks of .5")
