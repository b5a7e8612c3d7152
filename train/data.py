"""Token shards: how text becomes them, how they are checked, and which tokens step k sees.

A data directory holds ``train.bin`` and ``val.bin`` (nanoGPT's format: uint16 tokens, no header) or llm.c shards
(``*train*.bin``, ``*val*.bin``: 256 int32 of header, magic 20240520 for uint16 or 20240801 for uint32 tokens). Where
Latebloom made it, ``manifest.json`` says sizes, SHA-256, tokenizer and counts, and is checked whenever it is opened.

The batch of step k is a pure function of (seed, k): windows of ``context`` tokens in an order drawn anew every epoch.
It does not depend on micro-batches, restarts or the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from theory.errors import InputError
from theory.plan import Plan
from theory.spec import Count, Spec, decode

__all__ = ["Batches", "FileEntry", "Manifest", "Shards", "open_shards", "prepare", "python_stdlib_corpus", "text_files"]

MAGIC = {20240520: np.dtype("<u2"), 20240801: np.dtype("<u4")}
HEADER_BYTES = 256 * 4
SPLITS = ("train", "val")


class FileEntry(Spec, frozen=True, kw_only=True):
    """One shard file as it was written."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200)]
    split: str
    bytes: Count | int
    tokens: Count | int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(Spec, frozen=True, kw_only=True):
    """What ``prepare`` wrote."""

    version: int = 1
    tokenizer: str
    vocab_size: int
    source_files: int
    source_bytes: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Tokens of both splits, memory-mapped, and a digest of what they are."""

    folder: Path
    train: tuple[np.ndarray, ...]
    val: tuple[np.ndarray, ...]
    vocab_size: int | None
    digest: str


def prepare(
    files: Sequence[Path], out: Path, *, tokenizer: str = "bpe", vocab_size: int = 4096, val_share: float = 0.1
) -> Manifest:
    """Tokenise text files into ``out``, whole files to one split or the other, and write the manifest last.

    Args:
        files: Text files; every file's split follows from its content's hash, so it does not depend on the others.
        out: Directory to write, empty or absent.
        tokenizer: ``bpe``: byte-level BPE trained here on the training files; ``bytes``: 256 tokens.
        vocab_size: Of the BPE.
        val_share: Expected share of files in the validation split.

    Raises:
        InputError: if there are no files, too little text, or ``out`` is in use.
    """
    if not files:
        raise InputError("files", len(files), "must name at least one text file", "give files or directories")
    if not 0 < val_share < 1:
        raise InputError("val_share", val_share, "must lie in (0, 1)", "give such as 0.1")
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")
    if tokenizer not in ("bpe", "bytes"):
        raise InputError("tokenizer", tokenizer, "is unknown", "valid: bpe, bytes")
    texts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for path in files:
        text = _read_text(path)
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") / 2**64
        texts["val" if number < val_share else "train"].append(text)
    for split in SPLITS:
        if sum(map(len, texts[split])) < 1000:
            rule = f"leaves {sum(map(len, texts[split]))} characters of {split} text: too little"
            raise InputError("files", len(files), rule, "give more text, in more files")
    encode, size, saved = _tokenizer(tokenizer, texts["train"], vocab_size)
    dtype = np.dtype("<u2") if size <= 2**16 else np.dtype("<u4")
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    entries = []
    for split in SPLITS:
        tokens = np.concatenate(encode(texts[split])).astype(dtype)
        path = part / f"{split}.bin"
        with path.open("wb") as file:
            if dtype.itemsize == 4:  # nanoGPT's headerless format is uint16 only
                header = np.zeros(256, dtype="<i4")
                header[:3] = 20240801, 1, len(tokens)
                header.tofile(file)
            tokens.tofile(file)
        entries.append(
            FileEntry(name=path.name, split=split, bytes=path.stat().st_size, tokens=len(tokens), sha256=_sha256(path))
        )
    if saved is not None:
        (part / "tokenizer.json").write_text(saved, encoding="utf-8")
    manifest = Manifest(
        tokenizer=tokenizer,
        vocab_size=size,
        source_files=len(files),
        source_bytes=sum(len(t.encode()) for split in SPLITS for t in texts[split]),
        files=tuple(entries),
    )
    (part / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    if out.exists():
        out.rmdir()
    part.replace(out)
    return manifest


def open_shards(folder: Path) -> Shards:
    """Open and check a data directory.

    Raises:
        InputError: naming the file, what was expected and what is there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        rule = "is not a directory of token shards"
        raise InputError("--data", str(folder), rule, "make one with `latebloom data prepare`")
    manifest = None
    if (folder / "manifest.json").exists():
        manifest = decode((folder / "manifest.json").read_bytes(), Manifest)
        for entry in manifest.files:
            _check_file(folder / entry.name, entry)
    found = {split: tuple(_open(path) for path in _paths(folder, split, manifest)) for split in SPLITS}
    for split in SPLITS:
        if not found[split]:
            raise InputError("--data", str(folder), f"has no {split} shard (*{split}*.bin)", "prepare the data anew")
    if manifest:
        digest = hashlib.sha256("".join(entry.sha256 for entry in manifest.files).encode()).hexdigest()
    else:  # foreign shards: what they are called, how long they are, and how they begin and end
        state = hashlib.sha256()
        for split in SPLITS:
            for tokens in found[split]:
                state.update(f"{split}:{len(tokens)}".encode() + tokens[:4096].tobytes() + tokens[-4096:].tobytes())
        digest = state.hexdigest()
    return Shards(
        folder=folder,
        train=found["train"],
        val=found["val"],
        vocab_size=manifest.vocab_size if manifest else None,
        digest=digest,
    )


class Batches:
    """Windows of ``context`` + 1 tokens: train batches by step, and a fixed set for validation.

    Args:
        shards: Opened data.
        plan: Batch size, context, vocabulary and horizon.
        seed: Of the order.
        repeat: Allow more than one epoch.

    Raises:
        InputError: if there are too few tokens for a batch, for validation, or for the whole plan without repeating.
    """

    def __init__(self, shards: Shards, plan: Plan, *, seed: int, repeat: bool = False):
        self.context = plan.model.context
        self.vocab_size = plan.model.vocab_size
        self.per_step = plan.batch_tokens // self.context
        self.seed = seed
        self.folder = shards.folder
        self.splits = {"train": shards.train, "val": shards.val}
        self.windows = {split: self._starts(split) for split in SPLITS}
        have, need = len(self.windows["train"]), self.per_step
        if have < need:
            rule = f"has {have} windows of {self.context} tokens, fewer than one batch of {need}"
            raise InputError("--data", str(shards.folder), rule, "give more text or a smaller batch")
        if not len(self.windows["val"]):
            rule = f"has no validation window of {self.context} tokens"
            raise InputError("--data", str(shards.folder), rule, "give more text or a smaller context")
        if shards.vocab_size and shards.vocab_size > self.vocab_size:
            rule = f"is smaller than the data's vocabulary of {shards.vocab_size}"
            raise InputError("vocab_size", self.vocab_size, rule, "make the plan for this data")
        epochs = plan.steps * need / have
        if epochs > 1 and not repeat:
            rule = f"has {have * self.context:,} tokens, the plan needs {plan.steps * plan.batch_tokens:,}"
            fix = f"give more text, or allow {epochs:.1f} epochs with --repeat-data"
            raise InputError("--data", str(shards.folder), rule, fix)

    def train(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of update ``step``, int64, (sequences, context)."""
        first = step * self.per_step
        positions = np.arange(first, first + self.per_step)
        epochs, places = np.divmod(positions, len(self.windows["train"]))
        rows = [self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)]
        return self._cut("train", self.windows["train"][rows], step)

    def val(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """A fixed set of about ``tokens`` validation tokens, spread evenly over the split."""
        starts = self.windows["val"]
        count = max(1, min(len(starts), tokens // self.context))
        return self._cut("val", starts[np.linspace(0, len(starts) - 1, count).round().astype(int)], None)

    def _starts(self, split: str) -> np.ndarray:
        """(shard, offset) of every window."""
        pairs = [
            np.column_stack([np.full(n, i), np.arange(n) * self.context])
            for i, tokens in enumerate(self.splits[split])
            if (n := max(0, (len(tokens) - 1) // self.context)) > 0
        ]
        return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=int)

    @lru_cache(maxsize=2)  # noqa: B019  one object a run, two epochs at a boundary
    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.windows["train"]))

    def _cut(self, split: str, starts: np.ndarray, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        windows = np.stack([self.splits[split][i][o : o + self.context + 1] for i, o in starts]).astype(np.int64)
        if windows.max() >= self.vocab_size:
            where = f"{self.folder}, {split} split" + (f", step {step}" if step is not None else "")
            rule = f"is not in the model's vocabulary of {self.vocab_size} ({where})"
            raise InputError("token id", int(windows.max()), rule, "use the tokenizer that the plan was made for")
        return windows[:, :-1], windows[:, 1:]


def python_stdlib_corpus() -> list[Path]:
    """This interpreter's standard library as .py files in order of name, without installed packages, tests, tables."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings", "pydoc_data"}
    return sorted(p for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts))


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` name; a directory stands for its .txt, .md and .py files."""
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix in {".txt", ".md", ".py"})
        elif path.is_file():
            found.append(path)
        else:
            raise InputError("path", str(path), "is not a file or directory", "name text files")
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(str(path), error.strerror, "cannot be read", "check the file") from None


def _tokenizer(name: str, texts: list[str], vocab_size: int) -> tuple[Any, int, str | None]:
    """(encode a list of texts, vocabulary size, JSON of the tokenizer)."""
    if name == "bytes":
        return lambda ts: [np.frombuffer(t.encode(), dtype=np.uint8) for t in ts], 256, None
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size < 257:
        raise InputError("vocab_size", vocab_size, "must be at least 257 for a byte-level BPE", "give such as 4096")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    size = made.get_vocab_size()
    return (
        lambda ts: [np.array(e.ids) for e in made.encode_batch(ts)],
        size,
        made.to_str(),
    )


def _paths(folder: Path, split: str, manifest: Manifest | None) -> list[Path]:
    if manifest:
        return [folder / entry.name for entry in manifest.files if entry.split == split]
    return sorted(folder.glob(f"*{split}*.bin"))


def _open(path: Path) -> np.ndarray:
    head = np.fromfile(path, dtype="<i4", count=3)
    if len(head) == 3 and int(head[0]) in MAGIC and int(head[1]) in (1, 2):
        tokens = np.memmap(path, dtype=MAGIC[int(head[0])], mode="r", offset=HEADER_BYTES)
        if len(tokens) != head[2]:
            raise InputError(str(path), len(tokens), f"tokens, but its header says {head[2]}", "copy the shard anew")
        return tokens
    size = path.stat().st_size
    if size == 0 or size % 2:
        raise InputError(str(path), size, "bytes are not a whole number of uint16 tokens", "copy the shard anew")
    return np.memmap(path, dtype="<u2", mode="r")


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.exists():
        raise InputError(str(path), None, f"is missing; {entry.bytes} bytes are expected", "prepare the data anew")
    size = path.stat().st_size
    if size != entry.bytes:
        rule = f"bytes, but the manifest says {entry.bytes}: the file is short or changed"
        raise InputError(str(path), size, rule, "prepare the data anew")
    if (found := _sha256(path)) != entry.sha256:
        rule = f"is not the SHA-256 of the manifest, {entry.sha256[:16]}: the file was changed"
        raise InputError(str(path), found[:16], rule, "prepare the data anew")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain data, for ``--json``."""
    return json.loads(json.dumps(msgspec.to_builtins(manifest)))
