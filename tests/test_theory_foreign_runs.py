"""Records of anybody's curves: every format that loggers write, schedules found in logged rates, what is refused."""

import json

import numpy as np
import pytest

from latebloom.theory import InputError
from latebloom.theory.arms import arms_of
from latebloom.theory.controls import compared
from latebloom.theory.fitting.foreign_runs import (
    RunDescription,
    read_run_list,
    read_runs,
    record_of_curve,
    schedule_of_rates,
)
from latebloom.theory.fitting.readers import read_curves
from latebloom.theory.plan import Stage
from latebloom.theory.record import write_parquet
from latebloom.theory.schedules import WSD, Cosine, Piecewise, Tail
from tests.helpers import synthetic_record, tiny_plan

STEPS = 400
SCHEDULE = WSD(steps=STEPS, peak_lr=1e-3, warmup_steps=20, decay_steps=80)
STEP = np.arange(10, STEPS + 1, 10)
LR = SCHEDULE.lrs()[np.minimum(STEP, STEPS - 1)]
LOSS = 2.0 + 1.5 * (STEP / STEPS) ** -0.2
VAL = LOSS + 0.1
EVALS = STEP % 50 == 0
BASE = tiny_plan(steps=STEPS, tau=None, small=1, full=1)
FIXED = RunDescription(depths=(1,))


def rows():
    for step, lr, loss, val, here in zip(STEP.tolist(), LR.tolist(), LOSS.tolist(), VAL.tolist(), EVALS, strict=True):
        yield step, lr, loss, val if here else None


def table(path, head, lines, comma=","):
    path.write_text("\n".join(comma.join("" if v is None else str(v) for v in line) for line in [head, *lines]))


def nanogpt(path):
    lines = ["tokens per iteration will be: 8,192"]
    for step, _, loss, val in rows():
        if val:
            lines.append(f"step {step}: train loss {loss:.6f}, val loss {val:.6f}")
        lines.append(f"iter {step}: loss {loss:.6f}, time 107.20ms, mfu 31.66%")
    path.write_text("\n".join(lines))


def llmc(path):
    path.write_text("".join(
        f"s:{step} trl:{loss:.6f} lr:{lr:.6e} norm:0.4\n" + (f"s:{step} tel:{val:.6f}\n" if val else "")
        for step, lr, loss, val in rows()
    ))  # fmt: skip


def history(val_key="val/loss", lr_key="train/lr", loss_key="train/loss", step_key="_step"):
    out = []
    for step, lr, loss, val in rows():
        out.append({step_key: step, loss_key: loss, lr_key: lr, "tag": "x"})
        if val:
            out.append({step_key: step, val_key: val})
    return out


def hugging_face(path):
    log = history("eval_loss", "learning_rate", "loss", "step")
    path.write_text(json.dumps({"global_step": STEPS, "log_history": [*log, {"step": STEPS, "train_loss": 3.9}]}))


def lightning(path):
    lines = []
    for step, lr, loss, val in rows():
        lines += [("", lr, step, None, None), (0, None, step, loss, None)]
        if val:
            lines.append((0, None, step, None, val))
    table(path, ("epoch", "lr-AdamW", "step", "train_loss", "val_loss"), lines)


def columns(path):
    import pandas as pd

    pd.DataFrame(history()).to_json(path)


def wandb_parquet(path):
    import pandas as pd

    pd.DataFrame(history()).to_parquet(path)


def resumed(path):
    lines = [(s, lr, loss, val) for s, lr, loss, val in rows()]
    cut = [line for line in lines if line[0] <= 250]
    again = [(s, lr, loss + 9.0, val and val + 9.0) for s, lr, loss, val in cut if s > 150]  # what is repeated later
    table(path, ("Step", "lr", "loss", "val_loss"), [*(line for line in cut if line[0] <= 150), *again,
                                                     *(line for line in lines if line[0] > 150)])  # fmt: skip


HEAD = ("step", "lr", "loss", "val_loss")
FORMATS = {
    "plain.csv": lambda path: table(path, HEAD, rows()),
    "tabs.tsv": lambda path: table(path, HEAD, rows(), "\t"),
    "spaces.csv": lambda path: table(path, HEAD, rows(), ", "),
    "newest_first.csv": lambda path: table(path, HEAD, list(rows())[::-1]),
    "comment.csv": lambda path: (table(path, HEAD, rows()), path.write_text("# exported\n" + path.read_text())),
    "decimal_commas.csv": lambda path: (
        table(path, HEAD, rows(), ";"), path.write_text(path.read_text().replace(".", ",")),
    ),
    "utf16.csv": lambda path: (table(path, HEAD, rows()), path.write_bytes(path.read_text().encode("utf-16"))),
    "resumed.csv": resumed,
    "metrics.csv": lightning,
    "trainer_state.json": hugging_face,
    "list.json": lambda path: path.write_text(json.dumps(history())),
    "columns.json": columns,
    "megatron.jsonl": lambda path: path.write_text(
        "\n".join(
            json.dumps(row | ({"lm loss validation ppl": 9.0} if "lm loss validation" in row else {"loss scale": 1.0}))
            for row in history("lm loss validation", "learning-rate", "lm loss", "iteration")
        )
    ),
    "torchtitan.jsonl": lambda path: path.write_text(
        "\n".join(map(json.dumps, history("validation_metrics/loss", "lr", "loss_metrics/global_avg_loss", "step")))
    ),
    "history.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, history()))),
    "nan_rows.jsonl": lambda path: path.write_text(
        "\n".join(json.dumps(row | ({"train/loss": float("nan")} if "val/loss" in row else {})) for row in history())
    ),
    "history.parquet": wandb_parquet,
    "llmc.log": llmc,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, name):
    FORMATS[name](tmp_path / name)
    record = record_of_curve([tmp_path / name], FIXED, BASE)
    step, loss = record.curve()
    assert step.tolist() == STEP[EVALS].tolist()
    assert loss == pytest.approx(VAL[EVALS], abs=1e-6)
    assert record.plan.schedule == SCHEDULE.replace(peak_lr=record.plan.schedule.peak)
    assert record.plan.schedule.peak == pytest.approx(1e-3)
    assert record.columns["flops"][-1] > 0 and record.final() == loss[-1]


def test_a_log_without_rates_takes_the_declared_schedule(tmp_path):
    nanogpt(tmp_path / "train.log")
    told = FIXED.replace(peak_lr=1e-3, warmup_steps=20, decay=0.2)
    record = record_of_curve([tmp_path / "train.log"], told, BASE)
    assert record.plan.schedule == SCHEDULE
    assert record.final() == pytest.approx(VAL[-1], abs=1e-6)
    with pytest.raises(InputError, match="peak_lr = None: is neither logged nor declared; say peak_lr, warmup_steps"):
        record_of_curve([tmp_path / "train.log"], FIXED, BASE)


def test_tensorboards_download_is_a_file_a_tag(tmp_path):
    for tag, values in {"val_loss": VAL, "train_lr": LR}.items():
        table(tmp_path / f"run-a-tag-{tag}.csv", ("Wall time", "Step", "Value"), zip(STEP, STEP, values, strict=True))
    files = [tmp_path / "run-a-tag-val_loss.csv", tmp_path / "run-a-tag-train_lr.csv"]
    record = record_of_curve(files, FIXED, BASE)
    assert record.plan.schedule.decay_steps == 80 and record.final() == pytest.approx(VAL[-1])
    (curve,) = read_curves(files)
    assert curve.name == "a"


def test_wandbs_offline_file(tmp_path):
    """Framed as W&B frames it: LevelDB's blocks, a record in parts where it crosses one."""
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="pip install wandb to read its own files")
    content = bytearray(b":W&B\xe1\xbe\x00")
    for row in history():
        record = proto.Record()
        for key, value in row.items():
            record.history.item.add(key=key, value_json=json.dumps(value if key != "tag" else "x" * 1500))
        data, kind = record.SerializeToString(), 1
        while data or kind == 1:
            left = 32768 - len(content) % 32768
            if left < 7:
                content += b"\0" * left
                continue
            part, data = data[: left - 7], data[left - 7 :]
            form = (1 if not data else 2) if kind == 1 else (4 if not data else 3)
            content += b"\0\0\0\0" + len(part).to_bytes(2, "little") + bytes([form]) + part
            kind = 0
    (tmp_path / "run-x.wandb").write_bytes(content)
    record = record_of_curve([tmp_path / "run-x.wandb"], FIXED, BASE)
    assert record.final() == VAL[-1] and record.plan.schedule.decay_steps == 80


def test_a_training_loss_stands_in_and_it_is_said(tmp_path):
    table(tmp_path / "c.csv", HEAD[:3], [row[:3] for row in rows()])
    record = record_of_curve([tmp_path / "c.csv"], FIXED, BASE)
    assert record.header.config["loss"].startswith("loss, a training loss, as means of 1 points")
    assert record.final() == LOSS[-1]


@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        SCHEDULE.replace(final=0.1),
        SCHEDULE.replace(decay_steps=0),
        SCHEDULE.replace(warmup_steps=0, decay_steps=400),
        Cosine(steps=STEPS, peak_lr=1e-3, warmup_steps=20),
        Cosine(steps=STEPS, peak_lr=1e-3, warmup_steps=20, final=0.1),
    ],
)
@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("late", [0, 1])
def test_schedules_are_found_in_logged_rates(schedule, every, late):
    """Of the update to come, or of the one that is done, as trainers log it."""
    step = np.arange(0, STEPS, every)
    found = schedule_of_rates(step + late, schedule.lrs()[step], steps=STEPS)
    assert found.lrs() == pytest.approx(schedule.lrs(), abs=0.02 * 1e-3)
    if isinstance(schedule, WSD):
        assert found.warmup_steps == schedule.warmup_steps


@pytest.mark.parametrize("late", [0, 1])
def test_another_shape_is_kept_as_it_was_logged(late):
    rates = 1e-3 * np.where(np.arange(STEPS) % 100 < 50, 1.0, 0.3)
    found = schedule_of_rates(np.arange(STEPS) + late, rates, steps=STEPS)
    assert isinstance(found, Piecewise)
    assert found.lrs()[:-1] == pytest.approx(rates[:-1], abs=1e-12)


class TestRefusals:
    def refuse(self, tmp_path, message, run=FIXED, lines=None, base=BASE):
        table(tmp_path / "c.csv", HEAD, rows() if lines is None else lines)
        with pytest.raises(InputError, match=message):
            record_of_curve([tmp_path / "c.csv"], run, base)

    def test_units(self, tmp_path):
        tokens = [(step * BASE.batch_tokens, lr, loss, val) for step, lr, loss, val in rows()]
        self.refuse(tmp_path, "are all multiples of the 64 tokens of a step: they count tokens", lines=tokens)
        perplexity = [(step, lr, np.exp(loss), val and np.exp(val)) for step, lr, loss, val in rows()]
        small = BASE.replace(model=BASE.model.replace(vocab_size=8))
        self.refuse(tmp_path, "which guessing gives: not nats a token", lines=perplexity, base=small)
        large = [(step * 10**6, *rest) for step, *rest in rows()]
        self.refuse(
            tmp_path,
            "step = 20000000.0: must increase, in whole updates up to 10000000; give updates",
            lines=large,
        )

    def test_horizon(self, tmp_path):
        self.refuse(tmp_path, "steps = 800: is the horizon, but the losses end at step 400", FIXED.replace(steps=800))
        diverged = [(*row[:3], float("nan") if row[0] >= 400 else row[3]) for row in rows()]
        self.refuse(tmp_path, "is the last loss, at step 400: the run diverged", lines=diverged)

    def test_rates(self, tmp_path):
        told = FIXED.replace(peak_lr=1e-3, warmup_steps=20, decay=0.5)
        self.refuse(tmp_path, r"lr = 0.00095: was logged at step 210|was logged at step 2\d0, where the declared", told)
        self.refuse(tmp_path, "warmup_steps = None: is not declared", FIXED.replace(peak_lr=1e-3))
        self.refuse(tmp_path, "decay_steps = None: is not declared", FIXED.replace(peak_lr=1e-3, warmup_steps=20))
        groups = [(step, lr, lr / 2, loss) for step, lr, loss, _ in rows()]
        table(tmp_path / "g.csv", ("step", "lr-Muon/pg1", "lr-Muon/pg2", "val_loss"), groups)
        with pytest.raises(InputError, match="may be any of lr-Muon/pg1, lr-Muon/pg2, which differ"):
            record_of_curve([tmp_path / "g.csv"], FIXED, BASE)

    def test_descriptions(self, tmp_path):
        self.refuse(tmp_path, "needs one step for each of 1 expansions", RunDescription(depths=(1, 3)))
        self.refuse(tmp_path, "stands beside decay_steps", FIXED.replace(decay=0.1, decay_steps=3))

    def test_lists(self, tmp_path):
        path = tmp_path / "runs.toml"
        table(tmp_path / "c.csv", HEAD, rows())
        for text, message in {
            "width = 8\n": "runs.toml: run = None: lists no runs",
            "[[run]]\ndepths = [1]\n": r"run\[0\].curve = None: is required",
            '[[run]]\ncurve = "c.csv"\ndepths = [1]\nseeds = 3\n': r"seeds = 3: is not said.*did you mean 'seed'",
            '[[run]]\ncurve = "x.csv"\ndepths = [1]\n': r"run\[0\]: curve = .*is not there",
            '[[run]]\ncurve = "c.csv"\n': r"run\[0\]: .*depths",
            2 * '[[run]]\ncurve = "c.csv"\ndepths = [1]\n': "name = 'c': stands for several runs",
        }.items():
            path.write_text(text)
            with pytest.raises(InputError, match=message):
                read_run_list(path, BASE)
        path.write_text('[[run]]\ncurve = "c.csv"\ndepths = [1]\n')
        with pytest.raises(InputError, match="model = None: is not said: FLOPs follow from its sizes"):
            read_run_list(path)

    def test_a_bare_curve_is_no_run(self, tmp_path):
        table(tmp_path / "c.csv", HEAD, rows())
        with pytest.raises(InputError, match="is a loss curve, which says neither depth nor schedule"):
            read_runs([tmp_path / "c.csv"])
        with pytest.raises(InputError, match="is a directory without record.jsonl"):
            read_runs([tmp_path])


def test_a_list_of_runs_with_a_model_of_its_own(tmp_path):
    table(tmp_path / "c.csv", HEAD, rows())
    (tmp_path / "runs.toml").write_text(
        'width = 8\nheads = 2\ncontext = 16\nvocab_size = 64\nbatch_tokens = 32\noptimizer = "adamw"\npeak_lr = 1e-3\n'
        "warmup_steps = 20\ndecay = 0.2\n"
        '[[run]]\ncurve = "c.csv"\ndepths = [1, 3]\nexpanded_at = [200]\ninit = "copy"\nname = "grown"\n'
        '[[run]]\ncurve = "c.csv"\ndepths = [3]\nseed = 2\n'
    )
    grown, fixed = read_run_list(tmp_path / "runs.toml")
    assert grown.plan.stages == (Stage(start_step=0, depth=1), Stage(start_step=200, depth=3, init="copy"))
    assert grown.plan.schedule == SCHEDULE and grown.plan.optimizer.name == "adamw" and grown.plan.batch_tokens == 32
    assert (grown.header.name, fixed.header.name, fixed.header.seed) == ("grown", "c", 2)
    assert grown.columns["depth"].tolist() == [1 if step <= 200 else 3 for step in grown.columns["step"]]
    write_parquet(grown, tmp_path / "grown.parquet")
    paths = [tmp_path / "grown.parquet", tmp_path / "runs.toml"]
    assert [path for path, _ in read_runs(paths)] == [paths[0], paths[1], paths[1]]


def test_a_cold_start_begins_within_the_schedule(tmp_path):
    table(tmp_path / "c.csv", HEAD, rows())
    cold = FIXED.replace(peak_lr=1e-3, warmup_steps=20, decay_steps=80, skipped_steps=100, lr="lr", loss="val_loss")
    with pytest.raises(InputError, match="was logged at step 10, where the declared schedule has 0.001"):
        record_of_curve([tmp_path / "c.csv"], cold, BASE)
    table(tmp_path / "c.csv", ("step", "val_loss"), [(row[0], row[2]) for row in rows()])
    plan = record_of_curve([tmp_path / "c.csv"], cold.replace(lr=None), BASE).plan
    assert plan.schedule == Tail(base=SCHEDULE.replace(steps=500), start_step=100)


def test_arms_are_known_by_what_they_did():
    """Under whatever names; what is no control is left out and said."""
    plan = tiny_plan(steps=200, tau=120, small=1, full=4)
    made = {"mine": plan} | {f"run {i}": each.plan(plan) for i, each in enumerate(compared((2,)))}
    records = [synthetic_record(p, np.array([0, p.steps]), np.array([5.0, 4.0]), name=name) for name, p in made.items()]
    (arms,), left_out = arms_of(records)
    assert {name: record.header.name for name, record in arms.items()} == {"progressive": "mine"} | {
        each.name: f"run {i}" for i, each in enumerate(compared((2,)))
    }
    assert left_out == []
    other = synthetic_record(
        tiny_plan(steps=77, tau=None, full=4), np.array([0, 77]), np.array([5.0, 4.0]), name="short"
    )
    seed = synthetic_record(plan, np.array([0, 200]), np.array([5.0, 4.0]), name="again", seed=1)
    _, left_out = arms_of([*records, other])
    assert left_out == ["short is left out: no control of mine, or one that is there already."]
    short = synthetic_record(
        tiny_plan(steps=80, tau=None, full=4), np.array([0, 80]), np.array([5.0, 4.0]), name="warmed up anew"
    )
    # as long as a cold start, but with a warm-up and a decay of its own
    (arms,), left_out = arms_of([records[0], short])
    assert set(arms) == {"progressive"} and "warmed up anew is left out" in left_out[0]
    lone = synthetic_record(tiny_plan(steps=77, tau=None), np.array([0, 77]), np.array([5.0, 4.0]), name="lone", seed=1)
    (_, again), left_out = arms_of([*records, seed, lone])
    assert {name: record.header.name for name, record in again.items()} == {"progressive": "again"}
    assert left_out == ["lone is left out: of seed 1, and no run of seed 0 again."]
    later = synthetic_record(
        tiny_plan(steps=200, tau=140, small=1, full=4), np.array([0, 200]), np.array([5.0, 4.0]), name="later", seed=1
    )
    with pytest.raises(InputError, match="grow, all of them; name the one to judge with --progressive"):
        arms_of([*records, later])
    _, left_out = arms_of([*records, later], progressive="mine")
    assert left_out == ["later is left out: of seed 1, and no run of seed 0 again."]
    with pytest.raises(InputError, match="do not hold a run that grows"):
        arms_of([other])
