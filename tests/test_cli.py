"""The command line as a newcomer meets it: one line for every mistake, exit code 2, nothing written."""

import json

import pytest

from latebloom import cli
from latebloom.paper_figures import registry
from latebloom.theory import read_plan
from tests.helpers import python_seconds

SEVEN_B = ["plan", "--model", "gpt2-7b", "--steps", "100000", "--batch-tokens", "524288"]


def run(capsys, *args):
    """(exit code, standard output, standard error) of a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(args))
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plan_for_7b_in_under_a_second(in_empty_directory):
    seconds, run = python_seconds("-m", "latebloom", *SEVEN_B, "--u-mix", "0.12")
    assert run.returncode == 0, run.stderr
    assert seconds < 1.0
    plan = read_plan("plan.json")
    assert plan.tau == 83_000
    assert plan.predicted.saving_same_horizon == pytest.approx(0.799, abs=1e-3)


def test_plan_round(capsys):
    assert run(capsys, *SEVEN_B, "--budget", "0.25", "--out", "a.json")[0] == 0
    assert run(capsys, *SEVEN_B, "--u-mix-area", "400", "--out", "b.json")[0] == 0
    code, out, _ = run(capsys, "plan", "check", "a.json", "b.json")
    assert code == 0
    assert out.count("a valid plan") == 2
    code, out, _ = run(capsys, "plan", "diff", "a.json", "b.json")
    assert code == 1
    assert "$.stages[1].start_step: 77915 ->" in out
    assert run(capsys, "plan", "diff", "a.json", "a.json") == (0, "", "")
    code, out, _ = run(capsys, "plan", "show", "a.json")
    assert "from step 77915: 60 blocks, new blocks random in order stack" in out
    assert json.loads(run(capsys, "plan", "schema")[1])["$ref"] == "#/$defs/Plan"
    assert run(capsys, *SEVEN_B, "--u-mix", "0.12", "--json", "--out", "c.json")[1].startswith("{")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "command = 'trian': is not a command; did you mean 'train'?"),
        (["plan", "--modle", "x"], "option = '--modle': is not an option here; did you mean '--model'?"),
        (["plan", "--steps", "5", "--batch-tokens", "64"], "--model = None: is required"),
        (
            ["plan", "--model", "gpt2-7b", "--steps", "x", "--batch-tokens", "1"],
            "--steps = 'x': is not a valid integer; see `latebloom plan make --help`",
        ),
        (
            [*SEVEN_B[:-1], "500", "--u-mix", "0.1"],
            "batch_tokens = 500: is not a multiple of the context 1024; use 1024",
        ),
        ([*SEVEN_B], "give --u-mix, --pilot or --budget"),
        ([*SEVEN_B, "--u-mix", "120"], "--u-mix = 120.0: must be a share of peak_lr x steps in (0, 1)"),
        ([*SEVEN_B, "--u-mix", "0.97"], "no expansion mixes within 100000 steps; train longer, or do not grow"),
        ([*SEVEN_B, "--u-mix", "0.1", "--u-mix-area", "3"], "stands beside --u-mix-area; give one of them"),
        ([*SEVEN_B, "--budget", "0.01"], "budget = 0.01: must lie in (0.03741, 1]"),
        ([*SEVEN_B, "--u-mix", "0.1", "--small-depth", "60"], "small_depth = 60: must be below the full depth 60"),
        ([*SEVEN_B, "--u-mix", "0.1", "--depth", "-3"], "small_depth = 1: must be below the full depth -3"),
        ([*SEVEN_B, "--u-mix", "0.1", "--init", "copi"], "did you mean 'copy'?"),
        (
            [*SEVEN_B, "--u-mix", "0.1", "--init", "copy", "--small-depth", "0"],
            "cannot copy from a model without blocks",
        ),
        ([*SEVEN_B, "--u-mix", "0.1", "--peak-lr", "nan"], "peak_lr = nan: must be a finite number"),
        ([*SEVEN_B, "--u-mix", "0.1", "--warmup", "0.95"], "decay_steps = 10000: does not fit"),
        ([*SEVEN_B, "--u-mix", "0.1", "--pilot", "x"], "stands beside --pilot, which measures the mixing area"),
        ([*SEVEN_B, "--u-mix-area", "0"], "mixing_area = 0.0: must be positive"),
        (
            ["plan", "--model", "gpt2-tiny", "--steps", "40", "--batch-tokens", "1024", "--u-mix", "0.1"],
            "--peak-lr = None: has no default for 40 steps",
        ),
        (
            [*SEVEN_B, "--pilot", str(registry.DATA / "stdlib_fixed.parquet")],
            "is a run of another model than gpt2-7b: gpt2-tiny, width 96, vocabulary 4096",
        ),
        ([*SEVEN_B, "--u-mix", "0.1", "--out", "/proc/x.json"], "path = '/proc/x.json': cannot be used"),
        ([*SEVEN_B, "--pilot", "nowhere"], "record = 'nowhere': is not there"),
        (
            ["plan", "check", "none.json"],
            "path = 'none.json': cannot be read (No such file or directory); a file with a Plan",
        ),
        (["plan", "check"], "PATHS... = None: is required; see `latebloom plan check --help`"),
        (["plan", "--steps"], "--steps = None: requires an argument"),
        ([*SEVEN_B, "--schedule", "wsx"], "--schedule = 'wsx': is not a choice here; did you mean 'wsd'?"),
        (["fit", "x.csv", "--replicas", "-1"], "--replicas = '-1': is not in the range x>=0"),
        (["plan", "diff", "a", "b", "c"], "argument = 'c': is not expected here; leave it out"),
        (["data", "prepar"], "command = 'prepar': is not a command; did you mean 'prepare'?"),
        (["figures", "--only", "fig99"], "figure = 'fig99': is not a figure"),
        (["report", "nowhere"], "run = 'nowhere': holds neither result.json nor record.jsonl"),
    ],
)
def test_every_mistake_is_one_line(capsys, in_empty_directory, args, message):
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert err.startswith("latebloom: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(in_empty_directory.iterdir()) == []


def test_bad_plan_names_the_json_path(capsys, in_empty_directory):
    run(capsys, *SEVEN_B, "--u-mix", "0.12")
    text = (in_empty_directory / "plan.json").read_text()
    (in_empty_directory / "bad.json").write_text(text.replace('"depth": 60', '"depth": 0'))
    code, _, err = run(capsys, "plan", "check", "bad.json")
    assert code == 2
    assert err.startswith("latebloom: bad.json: $.stages[1].depth = 0: must be larger than the depth before it, 1")


FILES = {
    "huge.csv": "step,loss,lr\n1,3,1e300\n2,3,1e300\n",
    "tokens.csv": "step,loss,lr\n1,3,.1\n1e15,2,.1\n",
    "inf.csv": "step,loss,lr\n1,3,.1\ninf,2,.1\n",
    "demo/result.json": "{",
    "other/result.json": '{"retention": 1}',
    "bpe/encoder.json": "{",
    "bpe/vocab.bpe": "x",
    "a.txt": "late bloom " * 1000,
    "stored/quick/saxe.json": "[]",
}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "huge.csv"], "lr = 1e+300: is the largest learning rate, and not in 1e-30 ... 1e+30"),
        (["fit", "tokens.csv"], "tokens.csv:3: step = 1000000000000000.0: must increase, in whole updates up to 1000"),
        (["fit", "inf.csv"], "inf.csv:3: step = inf: must increase"),
        (["report", "demo"], "result = 'demo/result.json': is not JSON"),
        (["report", "other"], "result = 'other/result.json': has no number 'measured_final_loss'"),
        (["plan", "check", "."], "path = '.': cannot be read (Is a directory); a file with a Plan belongs there"),
        ([*SEVEN_B, "--u-mix", ".1", "--out", ""], "--out = '': is not a path"),
        (["train", "p.json", "--out", ""], "--out = '': is not a path"),
        (["train", "p.json", "--data", "s3://b/d"], "--data = 's3://b/d': is a URL and not a path: copy it from or to"),
        (["record", "gs://b/run"], "RUN = 'gs://b/run': is a URL"),
        (["coord-check", "--lr", "nan"], "--lr = nan: must lie in (0, 10]; give such as 0.002"),
        (
            ["data", "prepare", "a.txt", "--out", "d", "--vocab-size", "99999999999"],
            "vocab_size = 99999999999: must be",
        ),
        (
            ["data", "prepare", "a.txt", "--out", "d", "--tokenizer", "gpt2", "--bpe-dir", "bpe"],
            "--bpe-dir = 'bpe': holds no encoder.json and vocab.bpe that belong together",
        ),
        (["validate", "--quick", "--only", "saxe", "--json", "bpe"], "--json = 'bpe': is a directory"),
        (
            ["validate", "--quick", "--only", "saxe", "--out", "stored"],
            "--out = 'stored/quick/saxe.json': is not a result that was stored here",
        ),
    ],
)
def test_mistakes_in_files_and_numbers(capsys, in_empty_directory, args, message):
    for name, text in FILES.items():
        (in_empty_directory / name).parent.mkdir(parents=True, exist_ok=True)
        (in_empty_directory / name).write_text(text)
    code, out, err = run(capsys, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_no_arguments_is_help(capsys):
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "Commands:" in err


@pytest.mark.parametrize("command", ["plan", "study", "import"])
def test_h_is_help_where_a_subcommand_may_be_left_out(capsys, command):
    code, out, _ = run(capsys, command, "-h")
    assert code == 0
    assert "-h, --help" in out


def test_no_memory_is_one_line(capsys, monkeypatch):
    def full(**_):
        raise RuntimeError("[enforce fail]\nDefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(cli.cli, "main", full)
    code, _, err = run(capsys)
    assert code == 1
    assert err.startswith("latebloom: out of memory (DefaultCPUAllocator: can't allocate memory")
    assert err.count("\n") == 1


def test_a_plan_from_short_pilots_says_what_they_leave_open(capsys, in_empty_directory):
    pilots = [str(registry.DATA / f"stdlib_{name}.parquet") for name in ("fixed", "small", "one_layer")]
    plan = ["plan", "--model", "gpt2-tiny", "--steps", "6000", "--batch-tokens", "768", "--peak-lr", "0.015"]
    code, out, _ = run(capsys, *plan, "--law", "area", "--tolerance", "0.05", "--pilot", *pilots)
    assert code == 0
    assert "A pilot of 1 block alone for all 6000 steps would tell." in out
    assert "Left open by the pilots" in read_plan("plan.json").provenance.reason
