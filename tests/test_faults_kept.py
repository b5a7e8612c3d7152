"""What is the user's stays the user's: directories, links, terminals, names, paths; and settings are read as typed."""

import getpass
import html
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

import pytest

from latebloom import cli
from latebloom.paper_figures.report import write_report
from latebloom.theory import InputError, read_record, write_plan
from latebloom.theory.files import UNFINISHED, hold, unfinished_directory, write_whole
from latebloom.theory.record import write_parquet
from latebloom.train.config import TrainConfig, shown_settings
from latebloom.train.data.corpus import prepare
from latebloom.train.experiments.demo import demo
from latebloom.train.model.hf import export
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import resume, train
from tests.helpers import tiny_plan

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=64, log_every=2, checkpoint_every=4, repeat_data=True, device="cpu"
)  # fmt: skip


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run, in a directory whose path has a word of its own."""
    out = tmp_path_factory.mktemp("secret-place") / "run"
    train(tiny_plan(steps=8, tau=4), data=data, out=out, config=CONFIG)
    return out


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for i in range(4):
        (folder / f"{i}.txt").write_text(f"late bloom {i} " * 500)
    return sorted(folder.iterdir())


def made_by(what, run, texts, out):
    if what == "prepare":
        prepare(texts, out, tokenizer="bytes", val_share=0.3)
    else:
        export(run, out)


@pytest.mark.parametrize("what", ["prepare", "export"])
def test_what_is_the_users_stays(what, run, texts, tmp_path):
    """OUT.part, .OUT.part and links there are not ours: the first is no matter, the others are refused."""
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "precious").write_text("kept")
    made_by(what, run, texts, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part"]
    assert not (tmp_path / "out" / UNFINISHED).exists()
    (tmp_path / ".other.part").mkdir()
    (tmp_path / ".other.part" / "precious").write_text("kept")
    (tmp_path / ".linked.part").symlink_to(tmp_path / "out.part")
    for name in ("other", "linked"):
        with pytest.raises(InputError, match="is in the way, and was not made here; move it away"):
            made_by(what, run, texts, tmp_path / name)
    assert [path.read_text() for path in sorted(tmp_path.glob("*/precious"))] == ["kept"] * 3  # one by its link
    assert len({path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}) == 1  # weights are not 0600


@pytest.mark.parametrize("what", ["prepare", "export"])
def test_one_process_makes_a_directory(what, run, texts, tmp_path):
    with unfinished_directory(tmp_path / "out"):
        with pytest.raises(InputError, match=f"--out = .*is in use by process {os.getpid()} on "):
            made_by(what, run, texts, tmp_path / "out")
        code = (
            "import sys; from pathlib import Path; from latebloom.theory.files import unfinished_directory\n"
            "with unfinished_directory(Path(sys.argv[1])): pass"
        )
        second = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True)
        assert f"is in use by process {os.getpid()}" in second.stderr
    made_by(what, run, texts, tmp_path / "out")


def test_shards_that_a_power_failure_cut_are_made_anew(texts, tmp_path):
    def stop(count, _):
        raise KeyboardInterrupt

    whole = prepare(texts, tmp_path / "whole", tokenizer="bytes", val_share=0.3)
    with pytest.raises(KeyboardInterrupt):
        prepare(texts, tmp_path / "out", tokenizer="bytes", val_share=0.3, on_progress=stop)
    with (tmp_path / ".out.part" / "train.bin").open("r+b") as file:
        file.truncate(100)
    assert prepare(texts, tmp_path / "out", tokenizer="bytes", val_share=0.3) == whole


def test_a_demo_takes_nothing_away(tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "demo.json").write_text('{"steps": 77}')
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="was begun with other settings: steps 77 there and 800 here"):
        demo(out)
    (out / "demo.json").unlink()
    with pytest.raises(InputError, match="is not empty and not a demo's directory"):
        demo(out)
    assert sorted(path.name for path in out.iterdir()) == ["lock", "notes.txt"]
    (out / "notes.txt").unlink()
    with hold(out / "lock", name="--out", value="demo"), pytest.raises(InputError, match="is in use by process"):
        demo(out)


def test_links_and_files_of_another_kind_are_not_written_over(run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / ".plan.json.part").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link") as refused:
        write_whole(tmp_path / "plan.json", "content")
    assert refused.value.filename == str(tmp_path / "plan.json")
    (tmp_path / "report.html").symlink_to(precious)
    (tmp_path / "record.jsonl").write_bytes((run / "record.jsonl").read_bytes())
    write_report(tmp_path)  # takes the link's place
    assert not (tmp_path / "report.html").is_symlink()
    (tmp_path / "x.parquet").symlink_to(precious)
    for name, rule in (("x.parquet", "is a link"), ("record.jsonl", "is there and is no Parquet file")):
        with pytest.raises(InputError, match=rule):
            write_parquet(read_record(run), tmp_path / name)
    assert precious.read_text() == "kept"


# The word in the run's path, the directory of all tests, who runs them and where: as words, for a host may be "vm".
SECRETS = re.compile(rf"secret-place|{tempfile.gettempdir()}/|/root\b|\b({getpass.getuser()}|{socket.gethostname()})\b")


def shared(run, data, tmp_path):
    """Every file that is made to be given away, by name: text of all, that of Parquet's header included."""
    write_parquet(read_record(run), tmp_path / "record.parquet")
    files = [run / "record.jsonl", run / "plan.json", tmp_path / "record.parquet", write_report(run)]
    files += [*RunDirectory(run).newest_checkpoint()[0].iterdir(), *export(run, tmp_path / "hf").iterdir()]
    files += [data / "manifest.json", run / "id.txt"]
    return {path.name: text_of(path) for path in files}


def text_of(path):
    """A file's text; of tensors the header, as their numbers may spell anything."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        content = content[8 : 8 + int.from_bytes(content[:8], "little")]
    return content.decode("utf-8", "replace")


def test_what_is_shared_names_no_path_host_or_user(run, data, tmp_path):
    contents = shared(run, data, tmp_path)
    assert {"record.jsonl", "report.html", "README.md", "state.json", "record.parquet"} <= set(contents)
    for name, content in contents.items():
        own = re.sub(r"<(style|script)>.*?</\1>", "", content, flags=re.DOTALL)  # not the page's looks and library
        assert SECRETS.search(own) is None, name


def test_the_name_of_a_model_to_start_from_is_kept_and_its_path_is_not(run, data, tmp_path):
    export(run, tmp_path / "secret-place" / "given")
    plan = tiny_plan(steps=4, tau=None, full=3)
    config = CONFIG.replace(init_from=str(tmp_path / "secret-place" / "given"))
    assert shown_settings(config)["init_from"] == "given"
    plan = plan.replace(model=plan.model.replace(name="tiny"))
    train(plan, data=data, out=tmp_path / "run", config=config)
    assert read_record(tmp_path / "run").header.config["init_from"] == "given"
    assert "secret-place" not in (tmp_path / "run" / "record.jsonl").read_text()
    resume(tmp_path / "run")  # what decides the numbers is compared by that name
    header, rest = (tmp_path / "run" / "record.jsonl").read_text().split("\n", 1)
    old = header.replace('"init_from":"given"', f'"init_from":{json.dumps(config.init_from)}')
    assert old != header
    (tmp_path / "run" / "record.jsonl").write_text(f"{old}\n{rest}")  # as records of before hold it
    resume(tmp_path / "run")


def test_a_model_card_holds_no_mark_up_of_a_plans_name(data, tmp_path):
    plan = tiny_plan(steps=4, tau=2).replace(name="<script>alert(1)</script> [x](javascript:1) | `")
    train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    card = (export(tmp_path / "run", tmp_path / "hf") / "README.md").read_text()
    assert "<script>" not in card and "](" not in card.split("## Plan")[0]
    assert html.escape("<script>") in card


@pytest.mark.parametrize("text", ["a\x1b]0;x\x07", "a\x00", "a\u202eb", "\ud800"])
def test_names_that_a_terminal_would_obey_are_refused(text, tmp_path):
    with pytest.raises(InputError, match="which cannot be shown; leave it out") as refusal:
        tiny_plan().replace(name=text)
    assert str(refusal.value).isprintable()
    with pytest.raises(InputError) as refusal:
        raise InputError(f"{text}: column", text, "is not there", "name another")
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('peak_tflops = "1e-3"', r"peak_tflops = '1e-3'"),
        ("quiet = 1", "quiet = 1"),
        ("seed = 010", "is not TOML"),
        ('seed = "12"', "seed = '12'"),
        ("seed: 12", "is not TOML"),
        ("repeat_data = no", "is not TOML"),
    ],
)
def test_settings_are_read_typed(line, message, data, tmp_path, capsys):
    write_plan(tiny_plan(steps=4, tau=2), tmp_path / "plan.json")
    (tmp_path / "run.toml").write_text(line + "\n")
    arguments = ["train", tmp_path / "plan.json", "--config", tmp_path / "run.toml", "--data", data]
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments), "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_has_a_name_of_its_own_that_says_nothing(run, data, tmp_path):
    train(tiny_plan(steps=4, tau=2), data=data, out=tmp_path / "run", config=CONFIG)
    ids = RunDirectory(run).id, RunDirectory(tmp_path / "run").id
    assert len(set(ids)) == 2 and all(len(name) == 16 and int(name, 16) >= 0 for name in ids)
    resume(tmp_path / "run")
    assert RunDirectory(tmp_path / "run").id == ids[1]
