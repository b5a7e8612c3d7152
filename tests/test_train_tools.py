"""sample, hellaswag, doctor, coord-check, lr-transfer: what they print, and that they can say no."""

import json
import shutil

import numpy as np
import pytest
import torch

from latebloom import cli
from latebloom.theory import InputError, fixed_depth, write_plan
from latebloom.train.data.corpus import prepare
from latebloom.train.interop.sample import hellaswag, load_run, sample
from latebloom.train.run import checkpoint
from latebloom.train.run.commands import _file_name
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, train
from tests.helpers import tiny_plan

WORDS = ["grow", "depth", "late", "bloom"]


def run_command(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(map(str, args)))
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    rng = np.random.default_rng(0)
    for i in range(30):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(WORDS, 300)))
    prepare(sorted(folder.glob("*.txt")), folder / "data", tokenizer="bytes", val_share=0.2)
    return folder / "data"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A model that has learnt to spell four words."""
    out = tmp_path_factory.mktemp("run") / "run"
    plan = fixed_depth(tiny_plan(steps=150, tau=None, peak_lr=0.05), name="speller", depth=1)
    config = TrainConfig(quiet=True, evals=0, eval_tokens=256, repeat_data=True, device="cpu")
    train(plan.replace(batch_tokens=256), data=data, out=out, config=config)
    return out


def test_sample_spells_the_words(run, capsys):
    code, out, _ = run_command(capsys, "sample", run, "late blo", "--tokens", 40, "--temperature", 0)
    assert code == 0
    assert out.startswith("late bloom ")
    assert len(out.rstrip("\n").encode()) == 48
    model, tokenizer = load_run(run)
    a, b, c = (sample(model, tokenizer, "", tokens=30, seed=seed) for seed in (1, 1, 2))
    assert a == b != c


def test_sampling_window_and_top_k(run):
    """Greedy, top-1 and a temperature near zero agree, past the context of 16 too."""
    model, tokenizer = load_run(run)
    greedy = sample(model, tokenizer, "grow", tokens=30, temperature=0)
    assert sample(model, tokenizer, "grow", tokens=30, top_k=1) == greedy
    assert sample(model, tokenizer, "grow", tokens=30, temperature=1e-3) == greedy
    with pytest.raises(InputError, match="--top-k = 0: is out of range"):
        sample(model, tokenizer, "grow", top_k=0)


def test_hellaswag_prefers_words_that_it_knows(run, tmp_path, capsys):
    rows = [
        {"ctx": "late bloom", "endings": ["grow", "zzzz", "qxqx", "jjjj"], "label": 0},
        {"ctx": "grow", "endings": ["qqqq", "depth", "zzzz", "vvvv"], "label": "1"},
    ]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run_command(capsys, "hellaswag", run, "--data", tmp_path / "h.jsonl", "--json")
    assert code == 0
    assert json.loads(out) == {"examples": 2, "accuracy": 1.0, "accuracy_normalised": 1.0}
    (tmp_path / "bad.jsonl").write_text('{"ctx": "x"}\n')
    with pytest.raises(InputError, match=r"bad\.jsonl:1 = .* has no ctx, endings, label"):
        hellaswag(*load_run(run), tmp_path / "bad.jsonl")


def test_hellaswag_normalises_by_characters(run, tmp_path, monkeypatch):
    """Not by tokens or bytes: four letters of two bytes each at -4.0 lose to six of one byte at -4.5, -1 to -.75."""
    scores = {"éééé": -4.0, "abcdef": -4.5}
    monkeypatch.setattr(
        "latebloom.train.interop.sample._score", lambda model, tokenizer, context, ending: scores[ending]
    )
    row = {"ctx": "x", "endings": list(scores), "label": 1}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    found = hellaswag(*load_run(run), tmp_path / "rows.jsonl")
    assert (found.accuracy, found.accuracy_normalised) == (0, 1)


def test_doctor(capsys):
    code, out, _ = run_command(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["packages"]["torch"] == torch.__version__
    assert found["devices"][0]["matmul_tflops"]["float32"] > 0
    assert "matrix products" in run_command(capsys, "doctor")[1]


def test_coordinate_check_passes_by_the_rules_and_fails_without():
    pytest.importorskip("latebloom.theory.transfer")
    from latebloom.train.experiments.coord_check import coord_check

    sizes = dict(widths=(32, 64, 128), depths=(2, 4, 8), seeds=1)
    assert coord_check(optimizer="adamw", lr=1e-4, **sizes).passed
    assert coord_check(optimizer="muon_adamw", **sizes).passed
    without = coord_check(optimizer="adamw", lr=1e-4, rule="none", **sizes)
    assert without.width_exponent > 0.4
    assert coord_check(optimizer="muon_nsgd", rule="none", **sizes).depth_exponent > 0.4
    with pytest.raises(InputError, match="optimizer = 'nsgd': is not one of the trainer's; use muon_nsgd, muon_adamw"):
        coord_check(optimizer="nsgd", **sizes)


def test_learning_rate_transfer(data, tmp_path, capsys):
    pytest.importorskip("latebloom.theory.transfer")
    from latebloom.train.experiments.lr_transfer import vertex

    lrs = np.geomspace(0.01, 0.08, 4)
    losses = 2 + 0.1 * np.log(lrs / 0.03) ** 2
    assert vertex(lrs, losses) == pytest.approx(0.03, rel=1e-9)
    with pytest.raises(InputError, match="the optimum is not bracketed; extend the sweep"):
        vertex(lrs, lrs)
    with pytest.raises(InputError, match=r"diverged next to the best rate.*between 0.02 and 0.04"):
        vertex([0.01, 0.02, 0.04, 0.08], [2.0, 1.0, np.inf, np.inf])
    write_plan(fixed_depth(tiny_plan(steps=20, tau=None), name="small", depth=1), tmp_path / "plan.json")
    args = ("lr-transfer", tmp_path / "plan.json", "--data", data, "--lrs", "0.0005,0.05,0.5,500", "--width", 64,
            "--depth", 4, "--steps", 80, "--out", tmp_path / "out", "--repeat-data")  # fmt: skip
    code, out, err = run_command(capsys, *args, "--plot", tmp_path / "curve.svg", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["target_peak_lr"] == pytest.approx(result["optimum"] / 2)  # sqrt(20/80)
    assert result["factors"]["hidden"] == pytest.approx(1 / 4)  # four times as deep
    assert result["base"] == {"width": 32, "depth": 1}
    assert result["losses"][3] is None  # diverged
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")
    before = (tmp_path / "out" / "lr-0.05" / "record.jsonl").read_bytes()
    text = run_command(capsys, *args)[1]
    assert "T^-0.5 assumed" in text
    code, out, err = run_command(capsys, *args, "--horizons", "40", "--json")
    assert (code, err) == (0, "")
    swept = json.loads(out)
    (first, best), (second, there) = swept["optima"]
    assert (first, second, best) == (20, 40, result["optimum"])
    assert swept["horizon_exponent"] == pytest.approx(np.log(best / there) / np.log(2))  # fitted to two optima
    assert swept["target_peak_lr"] == pytest.approx(best * (20 / 80) ** swept["horizon_exponent"])
    assert f"fitted to {best:.3g} at 20 steps" in run_command(capsys, *args, "--horizons", "40")[1]
    other = [0.1 if word == "0.05" else word for word in args]
    other[1] = tmp_path / "other.json"
    write_plan(fixed_depth(tiny_plan(steps=22, tau=None), name="small", depth=1), other[1])
    code, _, err = run_command(capsys, *other)
    assert (code, "lr-0.0005/record.jsonl: $.schedule.steps = 20: is not 22, which is asked for now" in err) == (
        2,
        True,
    )
    assert "--base-width 32 --base-depth 1` makes a plan that applies them" in text
    assert (tmp_path / "out" / "lr-0.05" / "record.jsonl").read_bytes() == before  # finished runs are kept
    code, _, err = run_command(capsys, *args[:5], "0.1,x", *args[6:])
    assert code == 2
    assert "--lrs = '0.1,x': is not a list of numbers" in err


def _copy(run, to, name, content):
    shutil.copytree(run, to)
    (to / name).write_bytes(content)
    return to


def test_damaged_files_of_a_run_are_named(run, data, tmp_path, capsys):
    for name, content, command, message in (
        ("config.json", b"{", "resume", "config.json: $ = '{': is not JSON"),
        ("config.json", b'{"seed": "x"}', "resume", "config.json: $.seed = 'x': expected int, got str"),
        ("data.txt", b"\xff\xfe", "resume", "is not a directory of token shards"),
        ("tokenizer.json", b"{", "sample", "tokenizer.json': is not a tokenizer"),
    ):
        damaged = _copy(run, tmp_path / f"{len(list(tmp_path.iterdir()))}", name, content)
        code, _, err = run_command(capsys, command, damaged)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_tensors_that_are_none_are_named_though_the_manifest_vouches_for_them(run, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    state = (RunDirectory(run).newest_checkpoint()[0] / "state.json").read_bytes()
    (tmp_path / "state.json").write_bytes(state)
    shutil.copy(RunDirectory(run).newest_checkpoint()[0] / "optimizer.safetensors", tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors': is not a safetensors file"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "row", [{"ctx": 5, "endings": ["a"], "label": 0}, {"ctx": "a", "endings": ["b", 5], "label": 0},
            {"ctx": "a", "endings": "bc", "label": 0}, {"ctx": "a", "endings": ["", "b"], "label": 0}],
)  # fmt: skip
def test_hellaswag_refuses_rows_of_other_types(run, tmp_path, row):
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"bad\.jsonl:1 = .* has no ctx, endings, label"):
        hellaswag(*load_run(run), tmp_path / "bad.jsonl")


@pytest.mark.parametrize(("name", "folder"), [("../x/ y", "x--y"), ("gpt2-7b.1", "gpt2-7b.1"), ("..", "")])
def test_a_plans_name_never_leads_out_of_the_runs(name, folder):
    assert _file_name(name) == folder  # where that is empty the plan's digest serves
