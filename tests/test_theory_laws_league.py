"""The league of loss laws on made-up data in the publishers' formats: protocols, splits, the JSON, what is skipped."""

import dataclasses
import itertools
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from latebloom.theory.errors import InputError
from latebloom.theory.landscapes import LAWS, FunctionalLaw, TwoValleys
from tests.benchmarks import loss_laws, track3
from tests.helpers import CHECKOUT, needs_checkout

LAW = FunctionalLaw(floor=2.5, amplitude=0.7, noise=3000.0, exponent=0.5, memory=200.0, tail=1.4)


def mpl_folder(folder):
    folder.mkdir(parents=True)
    t = 6000
    step = np.arange(loss_laws.MPL_WARMUP + 16, t + 1, 128)
    at = np.arange(t + 1)
    falls = {
        "cosine_24000": 0.5 + 0.5 * np.cos(np.pi * np.maximum(at - 2176, 0) / (t - 2176)),
        "constant_24000": np.ones(t + 1),
        "wsdcon_9": np.where(at < 4096, 1, 0.3),  # where it is logged, as the publishers do
        "wsd": np.clip((t - at) / (t - 4992), 0, 1),
    }
    for name, shape in falls.items():
        lr = 3e-4 * shape
        lr[: loss_laws.MPL_WARMUP] = 3e-4 * (np.arange(loss_laws.MPL_WARMUP) + 1) / loss_laws.MPL_WARMUP
        table = {"step": step, "lr": lr[step], "loss": LAW.loss(lr[:t], step)}
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)


def sweep_folder(folder):
    folder.mkdir(parents=True)
    runs, logs = [], []
    choices = itertools.product([1e-4, 5e-4, 1e-3, 2e-3], [15_000, 50_000], [("wsd", 0.2), ("wsd", 0.8), ("cos", 0.0)])
    for i, (lr, steps, (scheduler, decay)) in enumerate(choices):
        run = {"run_id": i, "lr": lr, "iters": steps, "scheduler": scheduler, "fract_decay": decay}
        run |= {"group": "main", "dataset": "slimpajama", "n_layer": 12, "n_embd": 768}
        run |= {"decay_type": "linear", "warmup": 300}
        last = 0.1 * lr if scheduler == "cos" else 0.0
        rates = loss_laws._sweep_rates(next(pd.DataFrame([run]).itertuples()), last)
        runs.append({**run, "final_val_loss": LAW.loss(rates, steps)[0]})
        logs.append({"run_id": i, "split": "train", "iter": steps, "lr": last, "loss": 3.0})
    runs.append({**runs[0], "run_id": 99, "lr": loss_laws.DIVERGED, "final_val_loss": 7.5})
    pd.DataFrame(runs).to_csv(folder / "runs.csv", index=False)
    pd.DataFrame(logs).to_csv(folder / "curves.csv.gz", index=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("curves")
    mpl_folder(root / "mpl" / "csv_400")
    sweep_folder(root / "lr_scheduling")
    (root / "mpl" / "csv_1").mkdir()
    return root


def test_splits_and_protocols(data):
    splits = loss_laws.lr_splits(data)
    assert {name: (len(s.fit), len(s.predict), len(s.cells)) for name, s in splits.items()} == {
        "lr_horizon": (12, 12, 3), "lr_peak": (12, 12, 6), "lr_schedule": (16, 8, 2),
    }  # fmt: skip
    assert all(c.step[0] > 25_000 for c in splits["lr_horizon"].predict)
    assert all(
        c.schedule[-1] / np.max(c.schedule) == pytest.approx(0.1, abs=1e-3) for c in splits["lr_schedule"].predict
    )
    (name, mpl), = loss_laws.mpl_splits(data).items()  # fmt: skip
    assert name == "mpl_400"
    assert [c.name for c in mpl.fit] == list(loss_laws.MPL_FIT)
    assert [c.name for c in mpl.predict] == ["wsd"]
    assert np.sum(mpl.fit[0].schedule[:2160]) == pytest.approx(3e-4 * 2161 / 2)


def test_the_law_that_made_the_data_wins(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(data), "--json", str(out), "--laws", "power,functional"])
    loss_laws.main()
    laws = json.loads(out.read_text())["laws"]
    assert set(laws["functional"]) == {"mpl_400", "lr_horizon", "lr_peak", "lr_schedule"}
    for split, row in laws["functional"].items():
        assert {"r2", "mean_rel_error", "worst_rel_error", "best_lr_rate", "seconds"} <= set(row)
        assert row["r2"] > max(0.999, laws["power"][split]["r2"])
        assert row["mean_rel_error"] < 1e-3
    assert laws["functional"]["lr_peak"]["best_lr_rate"] == 1
    assert laws["functional"]["lr_peak"]["regret"] == 0
    assert laws["functional"]["mpl_400"]["best_lr_rate"] is None
    said = capsys.readouterr().err
    assert "mpl/csv_1: skipped" in said
    assert "gpt_100m: skipped" in said
    assert "gemstones: skipped" in said
    assert "noisy_quadratic: skipped" in said


def track3_folder(folder):
    """Two configurations that part at step 400, two seeds of each, and batches that move all of them alike."""
    folder.mkdir()
    order, seeds = np.random.default_rng(0), np.random.default_rng(1)
    step = np.arange(10, 1001, 10)
    moved = np.exp(1e-3 * order.normal(size=len(step)))
    runs, points = [], []
    for config, count in (("1_plain", 600), ("2_late", 550)):
        run = {"config": config, "matrix_peak": 0.02, "weight_decay": 0.0, "steps": 1000, "family": "plain",
               "warmup_steps": 0, "aux_warmup_steps": 0, "warmup_kind": ""}  # fmt: skip
        for group in ("matrix", "aux"):
            run |= {
                f"{group}_end": 1000,
                f"{group}_cooldown_steps": count,
                f"{group}_power": 1.0,
                f"{group}_floor": 0.0,
            }
        shape = np.minimum(1, (1000 - np.arange(1000)) / count)
        loss = LAW.replace(noise=20.0, memory=5.0).loss(0.02 * shape, step) * moved
        for seed in "ab":
            runs.append({**run, "run": config + seed})
            noisy = loss * np.exp(1e-5 * seeds.normal(size=len(step)))
            points += [
                {"config": config, "run": config + seed, "step": s, "loss": value, "readout": "raw"}
                for s, value in zip(step, noisy, strict=True)
            ]
    pd.DataFrame(runs).to_csv(folder / "runs.csv", index=False)
    pd.DataFrame(points).to_csv(folder / "points.csv.gz", index=False)


def test_pairs_of_runs_that_read_the_same_batches(tmp_path, monkeypatch):
    track3_folder(tmp_path / "track3")
    pairs = track3.read_pairs("1->2; 1->absent")
    rows = track3.scores(tmp_path / "track3", FunctionalLaw, pairs)
    assert list(rows) == ["1->2"]
    row = rows["1->2"]
    assert row["error"] < 2e-4 < 5e-4 < row["alone"]
    assert row["same"] < 5e-5 and 0 < row["noise"] < 5e-5
    monkeypatch.setattr(track3, "PAIRS", "1->2")
    league = loss_laws.schedule_leagues(tmp_path, {"functional": FunctionalLaw})
    shown = loss_laws.league_record(league).columns
    kept = dict(zip(shown["split"], shown["value"], strict=True))
    assert set(shown["metric"]) == {"functional/track3_1->2"}
    assert (kept["mean_rel_error"], kept["alone"], kept["noise"]) == (row["error"], row["alone"], row["noise"])


def test_a_pair_tells_what_no_law_of_the_schedule_sees(tmp_path):
    track3_folder(tmp_path / "track3")
    runs, points = (pd.read_csv(tmp_path / "track3" / name) for name in ("runs.csv", "points.csv.gz"))
    late = points.config == "2_late"
    points.loc[late, "loss"] *= 1.003
    points.loc[late & (points.step <= 300), "loss"] *= 1.005
    points.to_csv(tmp_path / "track3" / "points.csv.gz", index=False)
    runs["optimizer"] = runs.config.map({"1_plain": "Muon", "2_late": "Aurora"})
    runs.to_csv(tmp_path / "track3" / "runs.csv", index=False)
    pairs = track3.read_pairs("1->2")
    row = track3.scores(tmp_path / "track3", FunctionalLaw, pairs)["1->2"]
    assert row["differ"] == ["optimizer"]
    alike = np.where(np.arange(250, 401, 10) <= 300, 1.003 * 1.005, 1.003) - 1  # the cool-downs begin at 400 and 450
    assert row["same"] == pytest.approx(np.mean(alike), rel=0.01)
    assert row["floor"] == pytest.approx(np.sum(alike) / 76, rel=0.01)
    assert row["error"] == pytest.approx(0.003 + 0.005 * 6 / 76, rel=0.1)
    assert 0.005 * 6 / 76 < row["shape"] < row["error"] / 5
    found = track3.configurations(tmp_path / "track3", {"1", "2_late"})
    (line,) = track3.unseen_differences(found, track3.read_pairs("1->2_late"))
    assert line.endswith("optimizer 1: 'Muon', 2_late: 'Aurora'")


def test_runs_of_a_pair_turn_in_one_unit(tmp_path):
    track3_folder(tmp_path / "track3")
    found = track3.configurations(tmp_path / "track3", {"1", "2"})
    plain, decayed = found["1"], dataclasses.replace(found["2"], weight_decay=0.1, others_peak=2.0)
    by_size = 0.02 / track3.INITIAL_SIZE
    assert [c.schedule.matrices[0] for c in track3.curves(TwoValleys, [plain])] == [0.02]
    both = track3.curves(TwoValleys, [plain, decayed])
    assert [c.schedule.matrices[0] for c in both] == pytest.approx([by_size, by_size])
    assert [c.schedule.others[0] for c in both] == [1, 2] and all(c.schedule.angles for c in both)
    assert all(c.schedule.max() == 0.02 for c in track3.curves(FunctionalLaw, [plain, decayed]))
    assert not np.any(plain.equal_rates(decayed)[1])


def test_tables_of_pairs_that_cannot_be_read(tmp_path, monkeypatch, capsys):
    track3_folder(tmp_path / "track3")
    file = tmp_path / "track3" / "runs.csv"
    runs = pd.read_csv(file)
    one_rate = runs.drop(columns=list(track3.AUX)).assign(warmup_steps=np.nan)
    stopped = runs.assign(steps=[400, 1000, 1000, 1000])
    for readable in (one_rate, stopped):
        readable.to_csv(file, index=False)
        found = track3.configurations(tmp_path / "track3", {"1"})["1"]
        assert len(found.matrices) == 1000 and found.matrices == pytest.approx(0.02 * found.others)
    for wrong, said in (
        (runs.drop(columns="matrix_power"), "columns = ['matrix_power']: are not there; it has config,"),
        (
            runs.assign(config="1_" + runs.config),
            "--pairs = '1': stands for 2 configurations of runs.csv; give the whole",
        ),
        (runs.assign(matrix_end=[900, 1000, 1000, 1000]), "1_plain.matrix_end = [900, 1000]: differs between its runs"),
        (runs.assign(matrix_peak="fast"), "1_plain.matrix_peak = 'fast': is no number"),
        (runs.assign(config="x"), "--pairs = '1->1': none of these pairs is there"),
    ):
        wrong.to_csv(file, index=False)
        monkeypatch.setattr(sys, "argv", ["track3", "--data", str(file.parent), "--pairs", "1->1"])
        with pytest.raises(SystemExit, match="2"):
            track3.main()
        assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="must be FITTED->PREDICTED; write"):
        track3.read_pairs("1->")


@needs_checkout
def test_the_page_of_accuracy_says_what_the_league_measured():
    """R2 and mean errors of the laws over schedules, digit for digit as they stand in the record."""
    rows = pd.read_parquet(CHECKOUT / "paper_figures" / "data" / "loss_laws.parquet")
    measured = {(row.metric, row.split): row.value for row in rows.itertuples()}
    text = (CHECKOUT / "docs" / "accuracy.md").read_text()
    table = re.findall(
        r"^\| (\w+) \| (\.\d+), (\.\d+) %[^|]*\| (\w+) (\.\d+), (\.\d+) %", text.partition("## Two learning")[0], re.M
    )
    assert len(table) == 7
    of_two = re.findall(r"\.\d+", re.search(r"`two_valleys` has ([^%]*) %", text)[1])
    for (split, r2, error, published, its_r2, its_error), two in zip(table, of_two, strict=True):
        for law, name, scale, said in (
            ("river_valley", "r2", 1, r2), ("river_valley", "mean_rel_error", 100, error),
            (published, "r2", 1, its_r2), (published, "mean_rel_error", 100, its_error),
            ("two_valleys", "mean_rel_error", 100, two),
        ):  # fmt: skip
            value = scale * measured[f"{law}/{split}", name]
            assert said == f"{value:.{len(said) - 1}f}".lstrip("0"), (split, law, name)
    pairs = re.findall(
        r"^\| ([^|]* -> [^|]*) \|[^|]*\|[^|]*\|[^|]*\| \**(\.\d+) %[^|]*\| (\.\d+) % \| (\.\d+) % \| (\.\d+) %",
        text,
        re.M,
    )
    assert len(pairs) == 7
    for pair, *numbers in pairs:
        split = f"track3_{pair.replace(' ', '')}"
        own = [measured[f"two_valleys/{split}", name] for name in ("mean_rel_error", "alone", "noise")]
        rest = [measured[f"{law}/{split}", "mean_rel_error"] for law in LAWS if law != "two_valleys"]
        assert numbers == [f"{100 * value:.3f}".lstrip("0") for value in (*own[:2], min(rest), own[2])], split
