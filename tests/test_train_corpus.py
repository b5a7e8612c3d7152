"""Documents from every source, GPT-2's tokenizer from files, and a preparation that goes on where it was killed."""

import json

import numpy as np
import pytest

from latebloom import cli
from latebloom.theory import InputError
from latebloom.train.data import corpus as module
from latebloom.train.data.batches import Prefetch
from latebloom.train.data.corpus import prepare
from latebloom.train.data.shards import open_shards
from latebloom.train.data.sources import find_files
from latebloom.train.data.tokenizers import END, Encoding, byte_tokenizer, find_tokenizer
from tests.helpers import batches_of, tiny_plan

RNG = np.random.default_rng(0)
WORDS = np.array(["grow", "depth", "late", "bloom", "step", "loss", "I'll", "naïve", "12", "\n\n"])
TEXTS = [" ".join(RNG.choice(WORDS, 120)) for _ in range(60)]


@pytest.fixture(scope="module")
def bpe_dir(tmp_path_factory):
    """GPT-2's two files in small: its 256 bytes in its order, three merges, and the end of text."""
    folder = tmp_path_factory.mktemp("bpe")
    kept = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    chars = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    merges = [("l", "o"), ("Ġ", "lo"), ("lo", "o")]
    vocab = [*chars, *("".join(m) for m in merges), END]
    (folder / "encoder.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return folder


def source(kind, folder):
    """TEXTS as files of a kind; those that are found there."""
    folder.mkdir()
    if kind == "text":
        for i, text in enumerate(TEXTS):
            (folder / f"{i:02d}.txt").write_text(text)
    elif kind == "jsonl":
        (folder / "a.jsonl").write_text("".join(json.dumps({"id": 1, "text": t}) + "\n" for t in TEXTS))
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": TEXTS, "n": list(range(len(TEXTS)))}), folder / "a.parquet", row_group_size=7)
    else:
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(str(folder / "saved"))
        folder = folder / "saved"
    return [file for file, _ in find_files([folder]).files]


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet", "dataset"])
def test_every_source_gives_the_same_shards(kind, tmp_path):
    manifest = prepare(source(kind, tmp_path / "in"), tmp_path / "out", tokenizer="bytes", val_share=0.2)
    expected = prepare(source("text", tmp_path / "in2"), tmp_path / "out2", tokenizer="bytes", val_share=0.2)
    assert manifest.files == expected.files
    assert manifest.source_files == len(TEXTS)


def test_a_data_set_by_name(tmp_path):
    """`datasets.load_dataset` on a directory is the path that a hub's name takes."""
    pytest.importorskip("datasets")
    source("jsonl", tmp_path / "in")
    manifest = prepare([], tmp_path / "out", dataset=str(tmp_path / "in"), tokenizer="bytes", val_share=0.2)
    assert manifest.source_files == len(TEXTS)


def test_gpt2_tokens_by_tiktoken_equal_those_of_tokenizers(bpe_dir, tmp_path):
    """Two implementations of one tokenizer; each document ends with the end-of-text token."""
    pytest.importorskip("tiktoken")
    manifest = prepare(
        source("text", tmp_path / "in"), tmp_path / "d", tokenizer="gpt2", bpe_dir=bpe_dir, val_share=0.2
    )
    assert manifest.vocab_size == 260
    shards, made = open_shards(tmp_path / "d"), find_tokenizer(tmp_path / "d")
    documents = np.split(shards.train[0], np.flatnonzero(shards.train[0] == 259) + 1)
    assert len(documents[-1]) == 0
    texts = {made.decode(d[:-1].tolist()) for d in documents[:-1]}
    assert texts <= set(TEXTS)
    for document in documents[:-1]:
        assert made.encode(made.decode(document[:-1].tolist())).ids == document[:-1].tolist()
    assert 256 in shards.train[0] or 257 in shards.train[0]  # merges are used


def test_bytes_tokenizer_is_the_bytes():
    text = "naïve \n\n\t€ \x00 it's   12"
    assert byte_tokenizer().encode(text).ids == list(text.encode())
    assert byte_tokenizer().decode(list(text.encode())) == text


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_killed_at_any_piece_it_goes_on(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 5000)
    files = source("text", tmp_path / "in")
    settings = dict(tokenizer=tokenizer, vocab_size=300, val_share=0.2)
    whole = prepare(files, tmp_path / "whole", **settings)
    calls = []

    def stop(count, _):
        calls.append(count)
        if len(calls) in (2, 3):
            with (tmp_path / ".out.part" / "train.bin").open("ab") as file:
                file.write(b"torn")  # what a kill in the next write leaves
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            prepare(files, tmp_path / "out", on_progress=stop, **settings)
    assert prepare(files, tmp_path / "out", on_progress=stop, **settings) == whole
    assert len(set(calls)) == len(calls)  # no document was done twice
    assert not (tmp_path / ".out.part").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_the_end_of_each_of_few_documents_is_held_out(count, tmp_path):
    texts = [f"{i}" * 5000 + "x" * 5000 for i in range(count)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    manifest = prepare(sorted(tmp_path.glob("*.txt")), tmp_path / "d", tokenizer="bytes", val_share=0.25)
    shards = open_shards(tmp_path / "d")
    assert manifest.source_files == count
    train, val = (bytes(np.asarray(split[0]).astype(np.uint8)) for split in (shards.train, shards.val))
    assert train.decode() == "".join(text[:7500] + "\0" for text in texts)  # the byte 0 ends each
    assert val.decode() == ("x" * 2500 + "\0") * count


def test_a_large_vocabulary_takes_uint32(tmp_path, monkeypatch):
    big = lambda *_, **__: Encoding(  # noqa: E731
        encode=lambda ts: [np.array([70_000, 1])] * len(ts), size=70_001, saved="{}", end=None
    )
    monkeypatch.setattr(module, "make_encoding", big)
    prepare(source("text", tmp_path / "in"), tmp_path / "out", val_share=0.2)
    shards = open_shards(tmp_path / "out")
    assert shards.train[0].dtype.itemsize == 4
    assert set(np.asarray(shards.train[0])) == {1, 70_000}


def test_prefetch_changes_no_batch_and_passes_errors_on(tmp_path):
    prepare(source("text", tmp_path / "in"), tmp_path / "d", tokenizer="bytes", val_share=0.2)
    plan = tiny_plan(steps=50, tau=None)
    batches = batches_of(tmp_path / "d", plan, seed=3)
    ahead = Prefetch(batches)
    for step in (0, 1, 2, 9, 10, 3):
        for a, b in zip(ahead.train(step), batches.train(step), strict=True):
            assert np.array_equal(a, b)
    ahead.train(4)
    ahead._next[1].result()  # batch 5 is made; batch 6 will not be
    batches.vocab_size = 40
    ahead.train(5)
    with pytest.raises(InputError, match="token id"):
        ahead.train(6)
    ahead.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\nno\n', r"a\.jsonl:2 = 'no\\n': is not JSON"),
        ("a.jsonl", '{"body": "x"}\n', r"a\.jsonl:1 = \['body'\]: has no text under 'text'; give --text-key"),
        ("a.parquet", "PAR1", r"a\.parquet = 'a\.parquet': is not Parquet"),
    ],
)
def test_bad_documents_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        prepare([tmp_path / name], tmp_path / "out", tokenizer="bytes")


def test_bad_requests(tmp_path, bpe_dir):
    files = source("text", tmp_path / "in")
    with pytest.raises(InputError, match="--bpe-dir = None: is required for the tokenizer gpt2"):
        prepare(files, tmp_path / "out", tokenizer="gpt2")
    with pytest.raises(InputError, match=r"encoder\.json = None: is not there"):
        prepare(files, tmp_path / "out", tokenizer="gpt2", bpe_dir=tmp_path)


def test_command(tmp_path, capsys):
    source("jsonl", tmp_path / "in")
    args = ["data", "prepare", str(tmp_path / "in"), "--tokenizer", "bytes", "--out", str(tmp_path / "d"), "--json"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*args, "--val-share", "0.2"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["source_files"] == len(TEXTS)
