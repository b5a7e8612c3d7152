"""Files from strangers: nothing executes, nothing is written outside, one line answers, memory and time are bounded."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.faults import hostile
from tests.faults.hostile import watch
from tests.helpers import ROOT, needs_checkout


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What became of every input, from one process that has everything loaded and forks for each."""
    pytest.importorskip("tensorboard")
    command = [sys.executable, "-m", "tests.faults.hostile", str(tmp_path_factory.mktemp("hostile"))]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


@needs_checkout
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set by what Linux says of a process")
@pytest.mark.parametrize("name", list(hostile.INPUTS))
def test_a_hostile_input_does_nothing(name, found):
    assert found[name]["wrong"] == []


def test_there_are_inputs_of_every_kind():
    kinds = Counter(name.split()[0] for name in hostile.INPUTS)
    assert len(hostile.INPUTS) >= 60
    assert {"plan", "train", "shards", "run", "record", "Parquet", "curve", "events", "Hugging", "text"} <= set(kinds)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set by what Linux says of a process")
def test_the_watch_sees_what_it_should(tmp_path, monkeypatch):
    """A command that executes, writes outside, leaves a canary and dies: each is noticed."""

    def evil(*_):
        os.system("true")
        (tmp_path / "outside").write_text("x")
        (tmp_path / "input" / "canary").touch()
        raise RuntimeError("\x1b[2J")

    base = tmp_path / "given"
    base.mkdir()
    (base / "plan.json").write_text("{}")
    monkeypatch.setattr(watch.cli, "main", evil)
    seen = hostile.watched("plan 1e999", tmp_path / "input", base)
    wrong = " ".join(hostile.judge(seen))
    assert all(word in wrong for word in ("ended as RuntimeError", "os.system", "canary", "escapes"))
    assert any("outside" in what for what in seen["done"])
