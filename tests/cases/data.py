"""Data as people have them: kinds 11 to 15."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from latebloom.theory import InputError
from latebloom.train.data.corpus import prepare
from latebloom.train.data.shards import open_shards
from latebloom.train.data.sources import documents, find_files
from latebloom.train.data.tokenizers import END, find_tokenizer
from tests.cases.table import PLAN, case, check, refusal_says
from tests.helpers import batches_of

WORDS = ["river", "stone", "lantern", "window", "garden", "winter", "morning", "letter", "quiet", "harbour"]


# 11: any bytes are text


def text(count: int) -> str:
    rng = np.random.default_rng(count)
    return " ".join(rng.choice(WORDS, count)) + ".\n"


def shards(paths: list[Path], out: Path, tokenizer: str = "bytes", **options: object):
    manifest = prepare(paths, out, **{"tokenizer": tokenizer, "val_share": 0.2, "vocab_size": 300} | options)
    return manifest, open_shards(out)


def decoded(tokens: np.ndarray) -> str:
    return bytes(np.asarray(tokens).astype(np.uint8)).decode(errors="strict").replace("\0", "")


@case(11, "UTF-16 with its mark, UTF-8 with one")
def _(folder: Path) -> str:
    said = "jardín Straße " * 2000
    for encoding in ("utf-16", "utf-8-sig"):
        (folder / f"{encoding}.txt").write_text(said, encoding=encoding)
        _, found = shards([folder / f"{encoding}.txt"], folder / encoding)
        check(decoded(found.train[0]) + decoded(found.val[0]) == said, encoding)
    return "the text itself"


@case(11, "Latin-1 without a word", "refused")
def _(folder: Path) -> str:
    (folder / "a.txt").write_bytes(("jardín " * 3000).encode("latin-1"))
    shards([folder / "a.txt"], folder / "out")
    return "prepared"


@case(11, "archives and PDFs by any name: each said to be what it is", "refused")
def _(folder: Path) -> str:
    (folder / "a.txt").write_text(text(2000))
    archive = Path(shutil.make_archive(str(folder / "b"), "zip", folder, "a.txt"))
    packed = Path(shutil.make_archive(str(folder / "c"), "gztar", folder, "a.txt"))
    (folder / "d.txt").write_bytes(b"%PDF-1.7\n" + bytes(range(256)))
    for path, what in ((archive, "a zip archive"), (packed, "a tar archive"), (folder / "d.txt", "a PDF")):
        try:
            with refusal_says(f"is {what}, not text"):
                shards([path], folder / path.stem)
        except InputError as error:
            last = error
    raise last


@case(11, "a folder of which nothing is text: its files are named", "refused")
def _(folder: Path) -> str:
    (folder / "in").mkdir()
    (folder / "in" / "page.html").write_text(f"<p>{text(2000)}</p>")
    with refusal_says("page.html: neither text nor a table"):
        shards([folder / "in"], folder / "out")
    return "prepared"


@case(11, "rows whose text is null")
def _(folder: Path) -> str:
    rows = [{"text": text(200 + i) if i % 3 else None} for i in range(60)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, found = shards([folder / "a.jsonl"], folder / "out")
    ends = np.concatenate([np.flatnonzero(np.asarray(part) == 0) for part in (found.train[0], found.val[0])])
    return check(len(ends) == 40 and not np.any(np.diff(ends) == 1), f"{len(ends)} documents")


@case(11, "Latin-1 named")
def _(folder: Path) -> str:
    (folder / "a.txt").write_bytes(("jardín " * 3000).encode("latin-1"))
    _, found = shards([folder / "a.txt"], folder / "out", encoding="latin-1")
    return check(decoded(found.train[0]).startswith("jardín "), "read")


@case(11, "UTF-16 without its mark", "refused")
def _(folder: Path) -> str:
    (folder / "a.txt").write_bytes(("garden " * 3000).encode("utf-16-le"))
    shards([folder / "a.txt"], folder / "out")
    return "prepared"


@case(11, "gz, bz2, xz and zst of text and of tables")
def _(folder: Path) -> str:
    import pyarrow as pa

    rows = "".join(json.dumps({"id": i, "text": text(80 + i)}) + "\n" for i in range(40)).encode()
    (folder / "a.jsonl").write_bytes(rows)
    packed = {"gz": gzip.compress(rows), "bz2": bz2.compress(rows), "xz": lzma.compress(rows)}
    packed["zst"] = pa.Codec("zstd").compress(rows, asbytes=True)
    expected = shards([folder / "a.jsonl"], folder / "plain")[0].files
    for name, content in packed.items():
        (folder / f"a.jsonl.{name}").write_bytes(content)
        check(shards([folder / f"a.jsonl.{name}"], folder / name)[0].files == expected, name)
    return "the same shards as unpacked"


@case(11, "CSV, JSON and .JSONL; pictures beside them are named as left out")
def _(folder: Path) -> str:
    source = folder / "in"
    source.mkdir()
    rows = [{"id": i, "text": text(60 + i)} for i in range(30)]
    (source / "a.JSONL").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source / "b.json").write_text(json.dumps(rows))
    (source / "c.csv").write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in rows))
    (source / "picture.png").write_bytes(b"\x89PNG")
    (source / "README.md").write_text("a card")
    found = find_files([source])
    count = sum(1 for _ in documents(found.files))
    return check(count == 90 and len(found.left_out) == 2, f"{count} documents; left out {len(found.left_out)}")


@case(11, "a picture named as text", "refused")
def _(folder: Path) -> str:
    (folder / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)
    shards([folder / "a.txt"], folder / "out")
    return "prepared"


@case(11, "a folder of books with what tells of them: manifest, index, README, checksums, hidden and empty files")
def _(folder: Path) -> str:
    source = folder / "in"
    (source / ".git").mkdir(parents=True)
    for i in range(30):
        (source / f"{i:02d}.txt").write_text(text(100 + i))
    kept = find_files([source]).files
    (source / "manifest.json").write_text(json.dumps([{"file": f"{i:02d}.txt", "bytes": 9} for i in range(30)]))
    (source / "index.csv").write_text("file,title\n00.txt,River\n")
    (source / "state.json").write_text("{}")
    for name in ("README.md", "LICENSE.txt", "SHA256SUMS.txt", ".DS_Store", ".git/a.txt", "sums.sha256"):
        (source / name).write_text("beside")
    (source / "30.txt").touch()
    found = find_files([source])
    check(found.files == kept, f"{len(found.files)} files")
    return check(
        len(found.left_out) == 10, f"30 books; left out {'; '.join(line[-40:] for line in found.left_out[:3])}"
    )


@case(11, "its manifest, named itself", "refused")
def _(folder: Path) -> str:
    (folder / "manifest.json").write_text(json.dumps([{"file": "a.txt"}]))
    shards([folder / "manifest.json"], folder / "out")
    return "prepared"


@case(11, "texts and tables of text in one folder")
def _(folder: Path) -> str:
    (folder / "a.txt").write_text(text(500))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": text(60 + i)}) + "\n" for i in range(20)))
    (folder / "c.json").write_text(json.dumps({"id": 1, "text": text(30)}))
    count = sum(1 for _ in documents(find_files([folder]).files))
    return check(count == 22, f"{count} documents")


@case(11, "tables whose text has another name, beside a note", "refused")
def _(folder: Path) -> str:
    (folder / "notes.txt").write_text(text(100))
    (folder / "b.jsonl").write_text("".join(json.dumps({"content": text(60 + i)}) + "\n" for i in range(20)))
    shards([folder], folder / "out")
    return "prepared"


# 12: the user's split


def named_files(folder: Path, names: dict[str, str]) -> list[Path]:
    for name, word in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{word} " * 2000)
    return [folder / name for name in names]


def words_of(found) -> tuple[set[str], set[str]]:
    return tuple({w for t in split for w in decoded(t).split()} for split in (found.train, found.val))


@case(12, "train, valid and test files in a folder")
def _(folder: Path) -> str:
    named_files(folder / "in", {"train.txt": "alpha", "valid.txt": "omega", "test.txt": "sigma"})
    manifest, found = shards([folder / "in"], folder / "out")
    seen = words_of(found)
    return check(seen == ({"alpha"}, {"omega"}) and len(manifest.left_out) == 1, f"{seen}; {manifest.left_out}")


@case(12, "folders named train and validation")
def _(folder: Path) -> str:
    named_files(folder / "in", {"train/a.txt": "alpha", "train/b.txt": "beta", "validation/a.txt": "omega"})
    return check(
        (seen := words_of(shards([folder / "in"], folder / "out")[1])) == ({"alpha", "beta"}, {"omega"}), str(seen)
    )


@case(12, "--val names the file")
def _(folder: Path) -> str:
    files = named_files(folder, {"a.txt": "alpha", "b.txt": "omega"})
    _, found = shards(files[:1], folder / "out", val_files=files[1:])
    return check((seen := words_of(found)) == ({"alpha"}, {"omega"}), str(seen))


@case(12, "a saved DatasetDict, and the folder of a hub's data set")
def _(folder: Path) -> str:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    datasets.disable_progress_bars()
    words = {"train": "alpha", "validation": "omega", "test": "sigma"}
    tables = {
        name: datasets.Dataset.from_dict({"text": [f"{word} " * (60 + i) for i in range(30)]})
        for name, word in words.items()
    }
    datasets.DatasetDict(tables).save_to_disk(str(folder / "saved"))
    (folder / "hub" / "data").mkdir(parents=True)
    (folder / "hub" / "README.md").write_text("---\nlicense: mit\n---\na card")
    for name, word in words.items():
        pq.write_table(
            pa.table({"text": [f"{word} " * (60 + i) for i in range(30)]}),
            folder / "hub" / "data" / f"{name}-00000-of-00001.parquet",
        )
    for name, options in (("saved", {}), ("hub", {}), ("loaded", {"dataset": str(folder / "hub")})):
        paths = [] if options else [folder / name]
        seen = words_of(shards(paths, folder / f"out-{name}", **options)[1])
        check(seen == ({"alpha"}, {"omega"}), f"{name}: {seen}")
    chosen = words_of(shards([folder / "saved"], folder / "chosen", dataset_split="test")[1])
    return check(chosen == ({"sigma"}, {"sigma"}), "its own splits, and --dataset-split where it is given")


@case(12, "a split that a saved data set has not", "refused")
def _(folder: Path) -> str:
    import datasets

    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["x"]})}).save_to_disk(str(folder / "saved"))
    shards([folder / "saved"], folder / "out", dataset_split="dev")
    return "prepared"


# 13: where documents end


@case(13, "documents end with a token, in bpe and bytes")
def _(folder: Path) -> str:
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"start{i} {text(30)} stop"}) + "\n" for i in range(60))
    )
    for tokenizer, end in (("bpe", None), ("bytes", 0)):
        _, found = shards([folder / "a.jsonl"], folder / tokenizer, tokenizer)
        made = find_tokenizer(folder / tokenizer)
        end = made.token_to_id(END) if end is None else end
        count = sum(int((np.asarray(t) == end).sum()) for t in (*found.train, *found.val))
        check(count == 60 and found.train[0][-1] == end, f"{tokenizer}: {count} ends")
    return "60 ends for 60 documents"


@case(13, "<|endoftext|> between the stories of one file")
def _(folder: Path) -> str:
    (folder / "a.txt").write_text(f"\n{END}\n".join(text(40 + i) for i in range(50)))
    manifest, _ = shards([folder / "a.txt"], folder / "out", "bpe")
    return check(manifest.source_files == 50, f"{manifest.source_files} documents")


@case(13, "the same words inside a row are text")
def _(folder: Path) -> str:
    rows = [f"{text(40 + i)} {END} {text(20)}" for i in range(30)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    _, found = shards([folder / "a.jsonl"], folder / "out", "bpe")
    end = find_tokenizer(folder / "out").token_to_id(END)
    count = sum(int((np.asarray(t) == end).sum()) for t in (*found.train, *found.val))
    return check(count == 30, f"{count} ends for 30 rows")


# 14: shards made elsewhere


def foreign(folder: Path, vocabulary: int, write: Callable[[Path, np.ndarray], None], name: str = "{}.bin") -> str:
    counts = {"train": 20_000, "val": 4_000}
    made = {split: (np.arange(n) * 7919 % vocabulary) for split, n in counts.items()}
    for split, tokens in made.items():
        write(folder / name.format(split), tokens)
    found = open_shards(folder)
    same = all(np.array_equal(getattr(found, split)[0], tokens) for split, tokens in made.items())
    return check(same, f"{len(found.train[0])} tokens of {found.train[0].dtype}")


for dtype, vocabulary, expected in (
    ("<u2", 50257, "right"), ("<u4", 120_000, "right"), ("<i4", 200, "right"), ("<i8", 50_000, "right"),
    ("u1", 65, "refused"),
):  # fmt: skip
    case(14, f"numbers without a header, {dtype}, {vocabulary} of them", expected)(
        lambda folder, d=dtype, v=vocabulary: foreign(folder, v, lambda path, tokens: tokens.astype(d).tofile(path))
    )


@case(14, "NumPy arrays, under .npy and under .bin")
def _(folder: Path) -> str:
    def save(path: Path, tokens: np.ndarray) -> None:
        with path.open("wb") as file:
            np.save(file, tokens.astype("<u4"))

    for name in ("{}.npy", "{}.bin"):
        (inside := folder / name[3:]).mkdir()
        foreign(inside, 200, save, name)
    return "read as what they say"


@case(14, "Megatron's .bin and .idx")
def _(folder: Path) -> str:
    def save(path: Path, tokens: np.ndarray) -> None:
        tokens.astype("<i4").tofile(path)
        sizes = np.array([1000] * (len(tokens) // 1000), "<i4")
        ends = np.arange(len(sizes) + 1, dtype="<i8")
        head = b"MMIDIDX\0\0" + np.array([1], "<u8").tobytes() + bytes([4]) + np.array([len(sizes)], "<u8").tobytes()
        head += np.array([len(ends)], "<u8").tobytes()
        path.with_suffix(".idx").write_bytes(head + sizes.tobytes() + (ends[:-1] * 4000).tobytes() + ends.tobytes())

    return foreign(folder, 3000, save, "corpus_{}_text_document.bin")


@case(14, "other files beside the shards are none")
def _(folder: Path) -> str:
    for name in ("trainer_state.bin", "optimizer_train.bin", "validator.bin"):
        (folder / name).write_bytes(b"\x01\x02" * 500)
    return foreign(folder, 50257, lambda path, tokens: tokens.astype("<u2").tofile(path))


@case(14, "a torch file under a shard's name", "refused")
def _(folder: Path) -> str:
    return foreign(folder, 200, lambda path, tokens: torch.save(torch.tensor(tokens), path))


@case(14, "tokens beyond the model's vocabulary", "refused")
def _(folder: Path) -> str:
    foreign(folder, 120_000, lambda path, tokens: tokens.astype("<u4").tofile(path))
    batches_of(folder, PLAN, seed=0).train(0)
    return "trained on"


# 15: memory and time of one large document


@case(15, "one long line of one character: time of the tokenizer")
def _(folder: Path) -> str:
    import time

    from latebloom.train.data.tokenizers import make_encoding

    start = time.process_time()
    texts = ["-" * 400_000, *[text(100)] * 30]
    made = make_encoding("bpe", train_texts=lambda: texts, vocab_size=400, bpe_dir=None, saved=folder / "none")
    made.encode(texts[:1])
    seconds = time.process_time() - start
    return check(seconds < 20, f"400,000 characters in {seconds:.1f} s")


@case(15, "one large file is read in parts, and has the tokens of the whole")
def _(folder: Path) -> str:
    from latebloom.train.data import corpus

    (folder / "a.txt").write_text(text(400_000))
    held = [
        len(p.text)
        for p in corpus._parts(corpus._split(documents(find_files([folder / "a.txt"]).files), 0.2, has_val=False))
    ]
    _, found = shards([folder / "a.txt"], folder / "out", "bpe")
    made = find_tokenizer(folder / "out")
    whole = (folder / "a.txt").read_text()
    ids = made.encode(whole[: round(len(whole) * 0.8)]).ids
    same = np.array_equal(found.train[0][:-1], ids)
    return check(max(held) <= 2 * corpus.CHUNK and same, f"{len(whole):,} characters in parts of up to {max(held):,}")
