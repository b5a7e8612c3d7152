"""Files of every format that was ever written, and are read for ever: plans, runs, checkpoints, records, shards.

``golden/run_1`` was written on 2026-11-25 (commit 250f930), ``run_2`` by two ranks, the rest when this test was. A new
version of a format adds a file here and takes none away.
"""

import hashlib
import shutil
from pathlib import Path

import pytest

from latebloom.theory import read_plan, read_record
from latebloom.theory.plan import Plan
from latebloom.theory.spec import decode
from latebloom.train.data.shards import open_shards
from latebloom.train.data.tokenizers import find_tokenizer
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import resume

GOLDEN = Path(__file__).parent / "golden"
# A run of six steps goes on from step 4 on whatever processor this is: rounding differs, the loss does not.
LOSS = 1e-3


@pytest.mark.parametrize(
    ("file", "version", "digest"),
    [
        ("plan_version_1.json", 1, "38107a1aedb3ffcbbdd082d4f61940b4b3dc420e14823b164ae8dfcb630634a5"),
        ("plan_version_2.json", 2, "ee49ffe4adb1f0ae524026cb4185a898a3a970abf0487f4a89b5f1f079efba48"),
        ("run_1/plan.json", 1, "c9043835b32c1e5bb846b6332a350ac774dcb0e21f4e37dc8624b1574c678262"),
        ("run_2/plan.json", 1, "c9043835b32c1e5bb846b6332a350ac774dcb0e21f4e37dc8624b1574c678262"),
    ],
)
def test_plans_and_predictions(file, version, digest):
    plan = read_plan(GOLDEN / file)
    assert (plan.schema_version, plan.digest) == (version, digest)
    assert decode(plan.to_json(), Plan) == plan
    assert plan.predicted.menu is None or plan.predicted.menu[0].loss.median == 2.0


@pytest.mark.parametrize(
    ("run", "version", "final", "content"),
    [
        ("run_1", 1, 4.429681897163391, "bddbc7cfefecdf054f92b3fa4994912cc64373ed68d3180e9b93fee2688fb23c"),
        ("run_2", 2, 4.429681718349457, "a61c278d2d15448e078dbe01f2014217b1715f30722b55ed38bfc9c6b321d3f0"),
    ],
)
def test_checkpoints_are_read_and_gone_on_with(run, version, final, content, tmp_path):
    path, passed = RunDirectory(GOLDEN / run).newest_checkpoint()
    manifest = checkpoint.manifest_of(path)
    assert (manifest.checkpoint_version, manifest.step, manifest.stage, manifest.depth) == (version, 4, 1, 2)
    assert passed == []
    state, weights, moments = checkpoint.load(path)
    held = hashlib.sha256()
    for name in sorted(weights):
        held.update(name.encode() + weights[name].numpy().tobytes())
    for name in sorted(moments):
        for key in sorted(moments[name]):
            held.update(f"{name}|{key}".encode() + moments[name][key].numpy().tobytes())
    assert held.hexdigest() == content and state.step == 4
    out = shutil.copytree(GOLDEN / run, tmp_path / "run")
    assert resume(out, data=GOLDEN / "shards_1").final() == pytest.approx(final, abs=LOSS)


@pytest.mark.parametrize("file", ["run_1", "run_1/record.jsonl", "record_1.parquet"])
def test_records(file):
    record = read_record(GOLDEN / file)
    assert record.header.record_version == 1 and len(record) == 17
    assert record.final() == 4.429681897163391
    assert record.plan.digest == record.header.plan_digest == read_plan(GOLDEN / "run_1" / "plan.json").digest


@pytest.mark.parametrize(
    ("folder", "train", "val", "digest"),
    [
        ("shards_1", 5256, 1315, "bdd5d36befe65853db8d0c2eff14f94f3801fe05e55c3b3355c312019e81df11"),
        ("shards_llmc", 600, 200, "d500151d98dd77ec712cbc72aeeb0e1bb914449deef93385623ae65d00358598"),
        ("shards_llmc_uint32", 600, 200, "a7a6a83b0f3dc7d56e8ef9a8faf2cde65b48c48b756d1635639b8603ed992666"),
    ],
)
def test_shards_and_their_tokenizer(folder, train, val, digest):
    shards = open_shards(GOLDEN / folder)
    assert (len(shards.train[0]), len(shards.val[0]), shards.digest) == (train, val, digest)
    if folder == "shards_1":
        text = bytes(shards.val[0].astype("u1")).decode()
        assert find_tokenizer(GOLDEN / folder).encode(text).ids == shards.val[0].tolist()
