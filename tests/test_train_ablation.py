"""Ways of growing side by side: what the arms are, that branches are used, and what the command prints."""

import json

import pytest

from latebloom import cli
from latebloom.theory import InputError, read_record, write_plan
from latebloom.theory.controls import cold_start, equal_compute, fixed_depth
from latebloom.train.config import TrainConfig
from latebloom.train.data.corpus import prepare
from latebloom.train.experiments.ablation import AblationArm, Ranking, ablate, growths, lowest_of_each_start
from latebloom.train.run import checkpoint
from tests.helpers import in_this_process, tiny_plan

PLAN = tiny_plan(steps=20, tau=12, full=4)
CONFIG = TrainConfig(quiet=True, evals=2, eval_tokens=256, log_every=4, repeat_data=True, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "text.txt").write_text("grow depth late bloom " * 2000)
    prepare([folder / "text.txt"], folder / "data", tokenizer="bytes")
    return folder / "data"


def test_ways_of_growing_that_differ():
    names = lambda small: [p.name for p in growths(PLAN, small, ["random", "copy"], ["stack", "last"])]  # noqa: E731
    assert names(0) == ["grown-0-random"]
    assert names(1) == ["grown-1-random", "grown-1-copy"]
    assert names(2) == ["grown-2-random-stack", "grown-2-copy-stack", "grown-2-copy-last"]  # random: on top both times
    assert growths(PLAN, 2, ["copy"], ["last"])[0].stages[1] == PLAN.stages[1].replace(init="copy", order="last")


def test_every_arm_is_the_run_of_its_plan(data, tmp_path, monkeypatch, capsys):
    in_this_process(monkeypatch)
    write_plan(PLAN, tmp_path / "plan.json")
    args = [
        "ablate",
        str(tmp_path / "plan.json"),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "ways"),
        "--small",
        "0,2",
    ]
    args += ["--init", "copy_zero_last,random", "--order", "inter", "--seeds", "2", "--eval-tokens", "256"]
    args += ["--repeat-data", "--device", "cpu", "--parquet", str(tmp_path / "parquet")]
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index(next(x for x in lines if x.startswith("arm"))) + 1
    table, told = [line.split() for line in lines[begin:-2]], lines[-2:]
    assert [line[: len("Growing from 0 ends at ")] for line in told] == [f"Growing from {d} ends at " for d in (0, 2)]
    arms = {"fixed", "equal_compute", "cold_start", "small-0", "small-2", "small_equal_compute-0",
            "small_equal_compute-2", "depth_equal_compute-2", "grown-0-random",
            "grown-2-copy_zero_last-inter", "grown-2-random-inter"}  # fmt: skip
    assert {row[0] for row in table} == arms
    assert [float(row[1]) for row in table] == sorted(float(row[1]) for row in table)
    expected = {
        "fixed-s1": fixed_depth(PLAN, name="fixed-s1"),
        "small-2-s1": fixed_depth(PLAN, name="small-2-s1", depth=2),
        "equal_compute-s1": equal_compute(PLAN, name="equal_compute-s1"),
        "cold_start-s1": cold_start(PLAN, name="cold_start-s1"),
    }
    for name, plan in expected.items():
        record = read_record(tmp_path / "ways" / name)
        assert (record.plan, record.header.seed) == (plan, 1)
    grown = read_record(tmp_path / "parquet" / "ways_grown_2_random_inter_s1.parquet")
    trunk = read_record(tmp_path / "ways" / "small-2-s1")
    assert grown.curve(split="train")[1][0] == trunk.curve(split="train")[1][0]  # at step 10, before it grew
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ways").glob("*/record.jsonl")}
    with pytest.raises(SystemExit):
        cli.main([*args, "--json"])
    assert len(json.loads(capsys.readouterr().out)) == len(arms)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing was trained twice


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"plan": PLAN.replace(batch_tokens=128)},
            r"fixed-s0/record\.jsonl: \$\.batch_tokens = 64: is not 128, which is",
        ),
        ({"config": CONFIG.replace(dtype="bfloat16")}, r"record\.jsonl: \$\.dtype = 'float32': is not 'bfloat16'"),
        ({"data": "other"}, r"record\.jsonl: data = '[0-9a-f]{16}': is not the digest of the data that are given now"),
    ],
    ids=["plan", "settings", "data"],
)
def test_results_of_something_else_are_not_reused(change, message, data, tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    (tmp_path / "text.txt").write_text("bloom late depth grow " * 2000)
    prepare([tmp_path / "text.txt"], tmp_path / "other", tokenizer="bytes")
    asked = {"plan": PLAN, "data": data, "config": CONFIG}
    ways = {"out": tmp_path / "ways", "small": [1], "inits": ["random"], "orders": ["stack"]}
    ranking = ablate(asked.pop("plan"), **asked, **ways)
    files = {path: path.read_bytes() for path in (tmp_path / "ways").glob("*/record.jsonl")}
    asked = {"plan": PLAN, "data": data, "config": CONFIG} | change
    asked["data"] = tmp_path / "other" if asked["data"] == "other" else data
    with pytest.raises(InputError, match=message):
        ablate(asked.pop("plan"), **asked, **ways)
    assert {path: path.read_bytes() for path in files} == files
    again = ablate(PLAN, data=data, config=CONFIG.replace(microbatch=2, device="auto"), **ways)  # only rounding
    assert again.arms == ranking.arms


def test_an_arm_stopped_before_its_first_checkpoint_begins_anew(data, tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    ways = {"out": tmp_path / "ways", "small": [1], "inits": ["random"], "orders": ["stack"]}

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            ablate(PLAN, data=data, config=CONFIG, **ways)
    assert len(ablate(PLAN, data=data, config=CONFIG, **ways).arms) == 7


def test_the_lowest_arm_of_each_compute_is_named():
    losses = {
        "fixed": 2.0,
        "grown-1-random": 2.2,
        "small_equal_compute-1": 2.1,
        "grown-1-copy": 2.3,
        "grown-0-random": 3,
    }
    flops = {
        "fixed": 9.0,
        "grown-1-random": 5.0,
        "small_equal_compute-1": 5.05,
        "grown-1-copy": 5.0,
        "grown-0-random": 4,
    }
    arms = [AblationArm(name=name, losses=(loss,), flops=flops[name]) for name, loss in losses.items()]
    ranking = Ranking(arms=tuple(sorted(arms, key=lambda arm: arm.mean)), records={})
    assert lowest_of_each_start(ranking) == [
        "Growing from 0 ends at 3.0000 (grown-0-random); no arm of its compute ends lower.",
        "Growing from 1 ends at 2.2000 (grown-1-random); of its compute small_equal_compute-1 ends lowest, at 2.1000.",
    ]


def test_refusals(data, tmp_path):
    with pytest.raises(InputError, match="--small = 4: must lie below the full depth 4"):
        ablate(PLAN, data=data, out=tmp_path / "a", small=[4])
    with pytest.raises(InputError, match="must be two to compare"):
        ablate(fixed_depth(PLAN, name="x"), data=data, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
