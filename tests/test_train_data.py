"""Shards and batches: a pure function of (seed, step), checked files, and every way data can be wrong."""

import json

import numpy as np
import pytest

from latebloom.theory import InputError
from latebloom.train.data.corpus import prepare, python_stdlib_corpus
from latebloom.train.data.shards import open_shards
from latebloom.train.data.sources import find_files
from tests.helpers import batches_of, tiny_plan


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """40 files of text in which words repeat, so that a BPE has something to learn."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    words = np.array(["grow", "depth", "late", "bloom", "step", "loss", "layer", "width"])
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(" ".join(rng.choice(words, 400)))
    return folder


@pytest.fixture
def shards(corpus, tmp_path):
    prepare(sorted(corpus.iterdir()), tmp_path / "data", tokenizer="bytes", val_share=0.2)
    return tmp_path / "data"


def test_prepare_splits_whole_files_by_content(corpus, tmp_path):
    manifest = prepare(sorted(corpus.iterdir()), tmp_path / "a", tokenizer="bytes", val_share=0.2)
    total = sum(p.stat().st_size + 1 for p in corpus.iterdir())  # each with its end
    assert sum(entry.tokens for entry in manifest.files) == total
    again = prepare(sorted(corpus.iterdir(), reverse=True), tmp_path / "b", tokenizer="bytes", val_share=0.2)
    assert {e.split: e.tokens for e in again.files} == {e.split: e.tokens for e in manifest.files}


def test_bpe_is_trained_here_and_decodes(corpus, tmp_path):
    from tokenizers import Tokenizer

    manifest = prepare(sorted(corpus.iterdir()), tmp_path / "d", tokenizer="bpe", vocab_size=300, val_share=0.2)
    shards = open_shards(tmp_path / "d")
    assert manifest.vocab_size <= 300
    assert sum(e.tokens for e in manifest.files) < 0.5 * manifest.source_bytes
    text = Tokenizer.from_file(str(tmp_path / "d" / "tokenizer.json")).decode(shards.val[0][:50].tolist())
    assert "bloom" in text


def test_batches_are_a_function_of_seed_and_step(shards):
    plan = tiny_plan(steps=50, tau=None)
    one, two = (batches_of(shards, plan, seed=3) for _ in range(2))
    for step in (0, 7, 49):
        x, y = one.train(step)
        assert x.shape == y.shape == (4, 16)
        assert np.array_equal(x[:, 1:], y[:, :-1])
        assert np.array_equal(x, two.train(step)[0])
    assert not np.array_equal(one.train(0)[0], one.train(1)[0])
    assert not np.array_equal(one.train(0)[0], batches_of(shards, plan, seed=4).train(0)[0])


def test_an_epoch_sees_every_window_once_and_the_next_in_another_order(shards):
    plan = tiny_plan(steps=5, tau=None)
    batches = batches_of(shards, plan, seed=0)
    windows = len(batches.windows["train"])
    seen = np.concatenate([batches.train(step)[0] for step in range(2 * windows // 4)])
    tokens = np.asarray(batches.splits["train"][0])
    expected = {tokens[i * 16 : i * 16 + 16].tobytes() for i in range(windows)}
    first = [row.astype(tokens.dtype).tobytes() for row in seen[:windows]]
    second = [row.astype(tokens.dtype).tobytes() for row in seen[windows : 2 * windows]]
    assert set(first) == expected
    assert first != second


def test_validation_is_fixed_and_apart(shards):
    plan = tiny_plan(steps=5, tau=None)
    a, b = (batches_of(shards, plan, seed=s).val(64)[0] for s in (0, 1))
    assert np.array_equal(a, b)
    assert a.shape == (4, 16)


def test_foreign_shards(tmp_path):
    """nanoGPT's headerless uint16 and llm.c's two formats give the same tokens."""
    tokens = np.arange(5000) % 256
    folders = {"nano": None, "llmc16": (20240520, "<u2"), "llmc32": (20240801, "<u4")}
    batches = {}
    for name, kind in folders.items():
        folder = tmp_path / name
        folder.mkdir()
        for split in ("train", "val"):
            if kind is None:
                tokens.astype("<u2").tofile(folder / f"{split}.bin")
                continue
            header = np.zeros(256, dtype="<i4")
            header[:3] = kind[0], 1, len(tokens)
            with (folder / f"shard_{split}_000.bin").open("wb") as file:
                header.tofile(file)
                tokens.astype(kind[1]).tofile(file)
        batches[name] = batches_of(folder, tiny_plan(steps=5, tau=None), seed=0).train(2)[0]
    assert np.array_equal(batches["nano"], batches["llmc16"])
    assert np.array_equal(batches["nano"], batches["llmc32"])


@pytest.mark.parametrize("count", [8192, 20_000])
def test_a_changed_token_anywhere_in_foreign_shards_is_noticed(tmp_path, count):
    """The digest of shards without a manifest sees all of them, the middle too."""
    tokens = (np.arange(count) % 256).astype("<u2")
    digests = []
    for change in (None, 0, count // 2, count - 1):
        if change is not None:
            tokens[change] += 1
        for split in ("train", "val"):
            tokens.tofile(tmp_path / f"{split}.bin")
        digests.append(open_shards(tmp_path).digest)
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"manifest\.json: \$ = '\{': is not JSON"),
        ("[]", r"manifest\.json: \$ = \[\]: must be an object that describes a Manifest"),
        ('{"tokenizr": 1}', r"manifest\.json: \$.*"),
    ],
)
def test_a_broken_manifest_names_its_file(shards, content, message):
    (shards / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_shards(shards)


def _edit(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "train.bin").unlink(), r"train\.bin = None: is missing; \d+ bytes are expected"),
        (lambda d: _edit(d / "train.bin", lambda c: c.pop()), r"train\.bin = \d+: bytes, but the manifest says \d+"),
        (lambda d: _edit(d / "val.bin", lambda c: c.__setitem__(9, c[9] ^ 1)), r"val\.bin = .* is not the SHA-256"),
        (lambda d: _edit(d / "manifest.json", lambda c: c.__setitem__(slice(0, 1), b"[")), r"\$ = .*is not JSON"),
        (
            lambda d: (d / "manifest.json").write_text(
                json.dumps(json.loads((d / "manifest.json").read_text()) | {"files": [
                    {"name": "../x", "split": "train", "bytes": 1, "tokens": 1, "sha256": "0" * 64}]})),
            r"\$\.files\[0\]\.name = '\.\./x'",
        ),
    ],
)  # fmt: skip
def test_damaged_data_is_named(shards, damage, message):
    damage(shards)
    with pytest.raises(InputError, match=message):
        open_shards(shards)


def test_what_does_not_fit_the_plan_is_refused(shards, tmp_path):
    plan = tiny_plan(steps=5, tau=None)
    with pytest.raises(InputError, match=r"the plan needs 6,400,000; give more text, or allow \d+\.\d epochs"):
        batches_of(shards, tiny_plan(steps=100_000, tau=None), seed=0)
    batches_of(shards, tiny_plan(steps=100_000, tau=None), seed=0, repeat=True)
    small = plan.replace(model=plan.model.replace(vocab_size=100))
    with pytest.raises(InputError, match="vocab_size = 100: is smaller than the data's vocabulary of 256"):
        batches_of(shards, small, seed=0)
    (shards / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"token id = \d+: is not in the model's vocabulary of 100"):
        batches_of(shards, small, seed=0).train(0)
    with pytest.raises(InputError, match="fewer than one batch of"):
        batches_of(shards, plan.replace(batch_tokens=16 * 10**6), seed=0)
    (shards / "val.bin").unlink()
    with pytest.raises(InputError, match="has no val shard"):
        open_shards(shards)
    (shards / "val.bin").write_bytes(b"odd")
    with pytest.raises(InputError, match="not a whole number of uint16 tokens"):
        open_shards(shards)


def test_prepare_refuses(corpus, tmp_path):
    files = sorted(corpus.iterdir())
    with pytest.raises(InputError, match="files = 0"):
        prepare([], tmp_path / "x")
    with pytest.raises(InputError, match="too little"):
        prepare(files[:1], tmp_path / "x")
    with pytest.raises(InputError, match="is not empty"):
        prepare(files, corpus)
    with pytest.raises(InputError, match="tokenizer = 'words': is unknown"):
        prepare(files, tmp_path / "x", tokenizer="words")
    with pytest.raises(InputError, match="is not a file or directory"):
        find_files([tmp_path / "none"])
    with pytest.raises(InputError, match="is not a directory of token shards"):
        open_shards(tmp_path / "none")
    assert not (tmp_path / "x").exists()


def test_every_python_has_a_corpus():
    files = python_stdlib_corpus()
    assert sum(path.stat().st_size for path in files) > 5e6
    assert all("test" not in path.parts for path in files)
