"""The dry run: the 7B numbers of the design, and a process that loads no torch."""

import re

import pytest

from latebloom.theory import InputError, Optimizer, plan_expansion, preset, write_plan, wsd
from latebloom.train.model.memory import has_fused_loss, head_bytes
from latebloom.train.run.dryrun import GIB, dry_run, fit_text
from tests.helpers import python_seconds


@pytest.fixture
def plan():
    model, depth = preset("gpt2-7b")
    return plan_expansion(
        model=model, small_depth=1, full_depth=depth, schedule=wsd(steps=100_000, peak_lr=0.03), batch_tokens=524_288,
        mixing_area=360.0,
    )  # fmt: skip


def test_seven_billion(plan):
    d = dry_run(plan)
    assert d.phases[-1].parameters == pytest.approx(6.955e9, rel=1e-4)
    assert d.phases[-1].flops_per_token == pytest.approx(43.96e9, rel=1e-4)
    assert [round(x / GIB, 1) for x in (d.weights, d.gradients, d.optimizer_state)] == [25.9, 25.9, 25.9]
    unit = 8192 * 3072 / GIB  # one byte for each token and column; the residual stream is float32
    gib = {mode: size / GIB for mode, size in d.activations.items()}
    assert gib["recompute"] == pytest.approx(unit * (60 * 4 + 4), rel=0.01)
    assert gib["selective"] == pytest.approx(unit * (60 * (4 + 2 * (3 + 1 + 1 + 4)) + 4), rel=0.01)
    assert gib["keep"] == pytest.approx(unit * (60 * (4 + 4 + 2 * (1 + 3 + 1 + 1 + 4 + 4)) + 4), rel=0.01)
    memory = {mode: dry_run(plan, activations=mode).memory for mode in gib}
    assert memory["keep"] > memory["selective"] > memory["recompute"] > d.weights + d.gradients + d.optimizer_state
    assert [round(p.head_share, 2) for p in d.phases] == [0.56, 0.02]
    assert d.seconds == pytest.approx(d.flops / (790e12 * 0.5))
    assert dry_run(plan.replace(optimizer=Optimizer(name="adamw"))).optimizer_state == 2 * d.optimizer_state
    assert dry_run(plan, devices=8).computing_seconds == pytest.approx(d.computing_seconds / 8)


def test_what_does_not_fit_is_told_what_makes_it_fit(plan):
    assert fit_text(plan, activations="recompute").startswith("Fits one H200 (139 GiB): ")
    said = fit_text(plan, dtype="float32")
    assert said.startswith("Does not fit one H200 (139 GiB): it takes ")
    mode, sequences, gib = re.search(r"--activations (\w+) --microbatch (\d+): ([\d.]+) GiB", said).groups()
    memory = dry_run(plan, activations=mode, micro_sequences=int(sequences), dtype="bfloat16").memory
    assert memory <= 139 * GIB
    assert f"{memory / GIB:.1f}" == gib
    assert fit_text(plan, memory_gib=50).startswith("Does not fit one device (50 GiB): it takes ")
    assert fit_text(plan, memory_gib=50).endswith("no other options make it fit. Train on more devices.")
    with pytest.raises(InputError, match="--device-memory"):
        fit_text(plan, memory_gib=0)


def test_command_prints_it_in_under_a_second_without_torch(plan, tmp_path):
    write_plan(plan, tmp_path / "plan.json")
    code = (
        "import sys; from latebloom import cli\ntry: cli.main(['train', '--plan', sys.argv[1], '--dry-run'])\n"
        "finally: print('torch' in sys.modules)"
    )
    seconds, run = python_seconds("-c", code, str(tmp_path / "plan.json"))
    assert run.returncode == 0, run.stderr
    assert seconds < 1.0
    for text in ("parameters 6.955B", "FLOPs per token 43.96 G", "77.7 GiB", "days"):
        assert text in run.stdout
    assert run.stdout.rstrip().endswith("False")


def test_the_fused_loss_is_counted_where_torch_has_it(monkeypatch):
    import importlib.metadata

    import torch

    assert has_fused_loss() == hasattr(torch.nn, "LinearCrossEntropyOptions")
    for version, has in (("2.9.1", False), ("2.12.1+cu130", False), ("2.13.0+cpu", True), ("3.0.0", True)):
        monkeypatch.setattr(importlib.metadata, "version", lambda _, v=version: v)
        assert has_fused_loss() == has
        held = head_bytes(preset("gpt2-124m")[0], 8192, "float32")[1]
        assert (held < 12 * 8192 * 50304) == has


@pytest.mark.parametrize("bad", [{"mfu": 1.5}, {"mfu": 0.0}, {"peak_tflops": -1.0}, {"devices": 0}])
def test_bad_input(plan, bad):
    with pytest.raises(InputError, match="is out of range"):
        dry_run(plan, **bad)
