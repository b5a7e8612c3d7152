"""Loss curves from Records, CSV, JSON lines, TensorBoard and W&B exports; the fit command on them; damaged files."""

import gzip
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from latebloom.theory import InputError, fixed_depth
from latebloom.theory.commands import LAW_NAMES, fit_command
from latebloom.theory.fitting.readers import block_means, rates_from_log, read_curves
from latebloom.theory.landscapes import LAWS, MomentumLaw, TwoValleys
from latebloom.theory.landscapes.effective_rate import turning_rates
from latebloom.theory.landscapes.lr_history import GroupRates
from latebloom.theory.record import RecordWriter, header
from tests.helpers import tiny_plan

LAW = MomentumLaw(floor=2.0, amplitude=0.5, gain=5.0, exponent=0.6, forgetting=0.05)
EXAMPLE = {
    "floor": 2.0, "amplitude": 0.3, "noise": 0.3, "exponent": 0.6, "saturation": 0.012, "delay": 0.0, "memory": 10.0,
    "tail": 0.3, "rate_power": 0.65, "cooling": 0.1, "other_share": 0.17, "other_memory": 0.15, "other_tail": 0.25,
    "other_power": 0.8, "reference_area": 6.0, "reference_lr": 0.02, "reference_other": 1.0,
}  # fmt: skip
RATES = np.concatenate([np.full(200, 0.02), np.linspace(0.02, 0.002, 201)])
STEP = np.arange(0, 401, 10)
LOSS = np.concatenate([[9.0], LAW.loss(RATES, STEP[1:])])


def csv_file(path, columns):
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(names), *(",".join("" if v is None else str(v) for v in row) for row in rows)]))
    return path


def same(curve, *, tolerance=1e-12):
    assert curve.step.tolist() == STEP[1:].tolist()
    assert curve.loss == pytest.approx(LOSS[1:], rel=tolerance)
    assert curve.schedule == pytest.approx(RATES[:400], abs=1e-6 + 0.02 * tolerance)


@pytest.mark.parametrize("names", [("step", "lr", "loss"), ("Iteration", "optim/learning_rate", "train/loss")])
def test_csv(tmp_path, names):
    step, lr, loss = names
    path = csv_file(tmp_path / "run.csv", {step: STEP, lr: RATES[STEP], loss: LOSS, "note": ["x"] * len(STEP)})
    (curve,) = read_curves([path])
    assert curve.name == "run"
    same(curve)


def test_gzipped(tmp_path):
    path = csv_file(tmp_path / "run.csv", {"step": STEP, "lr": RATES[STEP], "loss": LOSS})
    (tmp_path / "run.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    (curve,) = read_curves([tmp_path / "run.csv.gz"])
    assert curve.name == "run"
    same(curve)


def test_wandb_export_of_several_runs_in_two_files(tmp_path):
    """One panel a file, a column a run with its smallest and largest, gaps where a run did not log."""
    lr = csv_file(tmp_path / "lr.csv", {"Step": STEP, "a - train/lr": RATES[STEP], "b - train/lr": RATES[STEP]})
    gaps = [None if i % 2 else v for i, v in enumerate(LOSS)]
    columns = {"Step": STEP, "a - train/loss": LOSS, "a - train/loss__MIN": LOSS, "a - train/loss__MAX": LOSS,
               "b - train/loss": gaps}  # fmt: skip
    loss = csv_file(tmp_path / "loss.csv", columns)
    first, second = read_curves([lr, loss])
    assert (first.name, second.name) == ("a", "b")
    same(first)
    assert second.step.tolist() == STEP[2::2].tolist()


def test_wandb_history_as_json_lines(tmp_path):
    """Keys that are logged at different steps, strings, a torn last line."""
    rows = [
        {"_step": int(s), "train/loss": float(v), "_runtime": 1.5, "tag": "x"} for s, v in zip(STEP, LOSS, strict=True)
    ]
    rows += [{"_step": int(s) + 1, "train/lr": float(RATES[min(s + 1, 400)])} for s in STEP]
    rows.sort(key=lambda row: row["_step"])
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + '\n{"_step": 4')
    (curve,) = read_curves([path])
    assert curve.loss == pytest.approx(LOSS[1:], rel=1e-12)
    assert curve.schedule[1:] == pytest.approx(RATES[1:400], abs=1e-4)


def test_record(tmp_path):
    plan = fixed_depth(tiny_plan(steps=400), name="fixed")
    with RecordWriter(tmp_path / "run" / "record.jsonl", header(plan, seed=0)) as writer:
        for step in STEP:
            row = {"step": int(step), "tokens": 0, "flops": 0.0, "wall_s": 0.0, "depth": 3, "phase": 0, "split": "val",
                   "metric": "loss", "value": float(LOSS[step // 10])}  # fmt: skip
            writer.write([row])
    (curve,) = read_curves([tmp_path / "run"])
    assert curve.schedule == plan.schedule
    assert curve.loss == pytest.approx(LOSS[1:])


def test_tensorboard(tmp_path):
    """Written by PyTorch's own writer."""
    pytest.importorskip("tensorboard", reason="pip install 'latebloom[tensorboard]' to read event files")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "run") as writer:
        for step, loss in zip(STEP.tolist(), LOSS.tolist(), strict=True):
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("train/lr", RATES[step], step)
    (curve,) = read_curves([tmp_path / "run"])
    same(curve, tolerance=1e-6)  # event files hold 32-bit numbers


def test_tensorboard_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"x")
    with pytest.raises(InputError, match=r"needs the tensorboard package; pip install 'latebloom\[tensorboard\]'"):
        read_curves([tmp_path])


def test_learning_rates_between_logged_steps():
    """Jumps between flat stretches hold the old value up to the step that has the new one; ramps are straight lines."""
    step = np.array([0, 10, 20, 30, 40, 50])
    stairs = rates_from_log(step, np.array([1.0, 1, 1, 0.3, 0.3, 0.3]), updates=50)
    assert stairs[29] == 1.0
    assert stairs[30] == 0.3
    ramp = rates_from_log(step, np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.0]), updates=50)
    assert ramp == pytest.approx(1 - np.arange(50) / 50)
    warm = rates_from_log(step + 100, np.full(6, 2.0), updates=120, warmup=50)
    assert warm[:50] == pytest.approx(2.0 * np.arange(1, 51) / 50)
    assert np.all(warm[50:] == 2.0)


def test_blocks_keep_means_and_the_end(tmp_path):
    path = csv_file(tmp_path / "run.csv", {"step": STEP, "lr": RATES[STEP], "loss": LOSS})
    (curve,) = read_curves([path])
    short = block_means(curve, points=10)
    assert len(short.step) == 10
    assert short.loss[-1] == pytest.approx(curve.loss[-4:].mean())
    (late,) = read_curves([path], burn_in=0.5)
    assert late.step[0] == 210


class TestBadFiles:
    def refuse(self, tmp_path, text, message, name="run.csv", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError, match=message):
            read_curves([path], **options)

    def test_csv(self, tmp_path):
        good = "step,lr,loss\n1,0.1,3\n2,0.1,2.9\n"
        self.refuse(tmp_path, "", "holds no rows")
        self.refuse(tmp_path, "step,loss\n1,3\n", "run: lr column = None: is not found among loss; name it with --lr")
        self.refuse(tmp_path, "a,lr,loss\n1,0.1,3\n", "step column = None: is not found among a, lr, loss")
        self.refuse(tmp_path, good + "2,0.1,2.8\n", "run.csv:4: step = 2.0: must increase")
        self.refuse(tmp_path, good + "1.5,0.1,2.8\n", "run.csv:4: step = 1.5")
        self.refuse(tmp_path, good + "3,0.1,nan\n", r"run: loss = nan: must be a positive number \(step 3\)")
        self.refuse(tmp_path, good + "3,-0.1,2.8\n", r"lr = -0.1: is not a learning rate \(step 3\)")
        self.refuse(tmp_path, "step,lr,loss\n0,0.1,3\n", "has no update done")
        self.refuse(tmp_path, "step,lr,a/loss,b/loss\n1,0.1,3,3\n", "may be any of a/loss, b/loss; name it with --loss")
        self.refuse(tmp_path, good, "loss column = 'x': is not among", loss="x")
        self.refuse(tmp_path, good, "step column = 'x': is not among", step="x")
        self.refuse(tmp_path, good, "warmup = 5: overlaps the log, which begins at step 1", warmup=5)
        self.refuse(tmp_path, good, "burn_in = 1.0", burn_in=1.0)
        self.refuse(tmp_path, b"\xff\xfe\x00", "neither CSV")
        self.refuse(tmp_path, "step,lr,loss", "neither CSV", name="run.csv.gz")

    def test_schedule_shorter_than_the_losses(self, tmp_path):
        text = "step,lr,loss\n1,0.1,3\n2,0.1,2.9\n50,,2\n"
        self.refuse(tmp_path, text, "lie beyond the learning rates, which end at step 2")

    def test_json_lines(self, tmp_path):
        self.refuse(tmp_path, '{"step": 1\n{"step": 2}\n', "run.jsonl:1 = .*is not JSON", "run.jsonl")
        self.refuse(tmp_path, '{"step": 1}\n[2]\n', "run.jsonl:2 = .*not a JSON object", "run.jsonl")

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="is not there"):
            read_curves([tmp_path / "x"])

    def test_grown_records_are_for_the_area_law(self, tmp_path):
        with RecordWriter(tmp_path / "record.jsonl", header(tiny_plan(), seed=0)):
            pass
        with pytest.raises(InputError, match="grows: a loss law knows one depth; use --law area"):
            read_curves([tmp_path])


class TestFitCommand:
    def run(self, *args):
        return CliRunner().invoke(fit_command, [*map(str, args), "--replicas", "2"], catch_exceptions=False)

    def files(self, tmp_path):
        flat = np.full(401, 0.02)
        one = csv_file(tmp_path / "decay.csv", {"step": STEP, "lr": RATES[STEP], "loss": LOSS})
        loss = np.concatenate([[9.0], LAW.loss(flat, STEP[1:])])
        return one, csv_file(tmp_path / "flat.csv", {"step": STEP, "lr": flat[STEP], "loss": loss})

    def test_named_law_as_json(self, tmp_path):
        result = self.run(*self.files(tmp_path), "--law", "momentum", "--json")
        table = json.loads(result.output)
        assert table["law"] == "momentum"
        assert table["parameters"]["floor"]["value"] == pytest.approx(2.0, rel=0.01)
        assert set(table["runs"]) == {"decay", "flat"}

    def test_text_says_what_stays_open(self, tmp_path):
        output = self.run(self.files(tmp_path)[1], "--law", "momentum").output
        assert "momentum: open: " in output
        assert "A run that lowers its learning rate would" in output

    def test_help_names_every_law(self):
        assert all(name in LAW_NAMES for name in LAWS)

    def test_best_law_is_chosen_by_held_out_error(self, tmp_path):
        output = self.run(*self.files(tmp_path)).output.splitlines()
        assert output[0].split() == ["law", "held-out", "error"]
        one_rate = [law for law in LAWS.values() if "other" not in law.scales.values()]
        assert output[1].split()[0] == output[len(one_rate) + 1].split(":")[0]

    def two_rate_files(self, tmp_path):
        law = TwoValleys(**EXAMPLE | {"other_share": 0.3})
        for name, cool in (("one", 200), ("two", 100), ("three", 50)):
            shape = np.clip((401 - np.arange(401)) / (401 - cool), 0, 1)
            loss = law.loss(GroupRates(matrices=RATES, others=shape), STEP[1:])
            columns = {"step": STEP, "lr": RATES[STEP], "aux_shape": shape[STEP], "loss": [9.0, *loss]}
            yield csv_file(tmp_path / f"{name}.csv", columns)

    def test_two_rates_are_fitted_by_the_law_of_two_and_predict_another_run(self, tmp_path):
        one, two, three = self.two_rate_files(tmp_path)
        table = json.loads(self.run(one, three, "--predict", two, "--json").output)
        assert table["law"] == "two_valleys" and set(table["runs"]) == {"one", "three"}
        assert table["predicted"]["two"]["alone"] < 1e-3 and table["predicted"]["two"]["carried"] < 1e-3
        assert "predicted run" in self.run(one, "--predict", two, "--law", "power").output
        (curve,) = read_curves([one], other_lr="aux_shape")
        assert curve.schedule.others[:100] == pytest.approx(1.0) and curve.schedule.others[300] == pytest.approx(
            101 / 201
        )
        (plain,) = read_curves([one])
        assert plain.schedule == pytest.approx(curve.schedule.matrices)
        (turned,) = read_curves([one], other_lr="aux_shape", weight_decay=0.1)
        assert (curve.schedule.angles, turned.schedule.angles) == (False, True)
        with pytest.raises(InputError, match="is not among"):
            read_curves([one], other_lr="no such column")

    def test_weight_decay_makes_turning_rates(self, tmp_path):
        (curve,) = read_curves([self.files(tmp_path)[1]], weight_decay=0.1)
        assert curve.schedule[0] == 0.02 / 0.5
        assert curve.schedule == pytest.approx(turning_rates(np.full(400, 0.02), weight_decay=0.1, initial_size=0.5))

    def test_predictions_are_for_laws_of_curves(self, tmp_path):
        with pytest.raises(InputError, match="--predict"):
            self.run(*self.files(tmp_path), "--law", "size", "--predict", tmp_path / "flat.csv")

    def test_unknown_law(self, tmp_path):
        with pytest.raises(InputError, match="did you mean 'momentum'"):
            self.run(*self.files(tmp_path), "--law", "momentun")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss,lr\n1,3.0,.1\n2,oops,.1\n", r"run\.csv:3: loss = 'oops': is not a number; correct or empty it"),
        ("step,loss,lr\n1,3.0,.1\nx,2.9,.1\n", r"run\.csv:3: step = 'x': is not a number of updates; correct it"),
        ("step,loss,loss,lr\n1,3.0,3.0,.1\n", r"run\.csv:1: column = 'loss': stands more than once; rename"),
        ("step,loss,lr\n2,3.0,.1\n1,2.9,.1\n", r"run\.csv:3: step = 1\.0: must increase"),
        ('{"step": 1, "loss": 3}\n\n{"step": 2, "loss": [1]}\n', r"run\.csv:3: loss = \[1\]: is not a number"),
    ],
)
def test_a_bad_word_is_named_by_file_line_and_column(tmp_path, text, message):
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_curves([tmp_path / "run.csv"])


def test_a_column_of_words_that_is_not_asked_for_is_no_matter(tmp_path):
    rows = "\n".join(f"{step},{4 - step / 100},.1,night" for step in range(1, 31))
    (tmp_path / "run.csv").write_text(f"step,loss,lr,note\n{rows}\n")
    assert len(read_curves([tmp_path / "run.csv"])[0].step) == 30
