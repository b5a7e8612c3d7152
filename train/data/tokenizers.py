"""Tokenizers: bytes, a BPE trained on the spot, GPT-2's from files. Each is a ``tokenizer.json`` beside its tokens.

    bytes    256 tokens, one a byte; a document ends with the byte 0, which text does not hold
    bpe      byte-level BPE of a few thousand tokens, trained on the training documents; <|endoftext|> is the first
    gpt2     GPT-2's 50257 tokens from ``encoder.json`` and ``vocab.bpe``, encoded by tiktoken; a document ends with
             <|endoftext|>, as in nanoGPT's and llm.c's shards

Nothing is downloaded. Words in a text that look like <|endoftext|> are text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory.errors import InputError
from latebloom.theory.spec import read_spec
from latebloom.train.data.shards import Manifest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "END", "TOKENIZERS", "TOKENIZER_FILE", "Encoding", "byte_tokenizer", "find_tokenizer", "gpt2_tokenizer",
    "make_encoding", "with_end",
]  # fmt: skip

TOKENIZER_FILE = "tokenizer.json"  # beside the tokens, and in a run's directory
END = "<|endoftext|>"
LARGEST_TOKENIZER = 1 << 28  # bytes
LONGEST_REPLACEMENT = 1000  # letters of a rule that is no pattern or word of the vocabulary
LARGEST_VOCABULARY = 2**20  # the trainer sets so much aside at once
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>")
TOKENIZERS = ("bpe", "bytes", "gpt2")

LONGEST_WORD = 512  # characters; training a BPE takes time in the square of the longest run without a break
LONGEST_TOKEN = 128  # characters: rulers of dashes are not worth longer ones


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A tokenizer as a function on texts.

    Attributes:
        encode: Tokens of each text.
        size: Of the vocabulary.
        saved: The tokenizer as JSON.
        end: Token after each document; None if there is none.
    """

    encode: Callable[[Sequence[str]], list[np.ndarray]]
    size: int
    saved: str
    end: int | None


def make_encoding(
    name: str, *, train_texts: Callable[[], Iterable[str]], vocab_size: int, bpe_dir: Path | None, saved: Path
) -> Encoding:
    """The named tokenizer as a function on documents.

    Args:
        name: One of :data:`TOKENIZERS`.
        train_texts: The training documents, for ``bpe``.
        vocab_size: Of ``bpe``.
        bpe_dir: Where ``encoder.json`` and ``vocab.bpe`` are, for ``gpt2``.
        saved: A ``bpe`` that was trained before is read from here.

    Raises:
        InputError: for an unknown name, a vocabulary that is too small, or files that are missing.
    """
    if name == "bytes":
        return Encoding(encode=_bytes_of, size=256, saved=byte_tokenizer().to_str(), end=0)
    if name == "gpt2":
        return _gpt2_encoding(bpe_dir)
    if name != "bpe":
        raise InputError("tokenizer", name, "is unknown", f"valid: {', '.join(TOKENIZERS)}")
    from tokenizers import Tokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    made = Tokenizer.from_file(str(saved)) if saved.exists() else _train_bpe(train_texts(), vocab_size)
    text = made.to_str()
    made.encode_special_tokens = True  # in a text they are text

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(e.ids, dtype=np.int64) for e in made.encode_batch_fast(list(texts))]

    return Encoding(encode=encode, size=made.get_vocab_size(), saved=text, end=made.token_to_id(END))


def _bytes_of(texts: Sequence[str]) -> list[np.ndarray]:
    for text in texts:
        if "\x00" in text:
            rule = "ends a document among bytes, and stands in a text"
            raise InputError("character", "U+0000", rule, "take it out, or use --tokenizer bpe")
    return [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]


def byte_tokenizer() -> Tokenizer:
    """256 tokens whose ids are the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab={char: i for i, char in _byte_chars().items()}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def gpt2_tokenizer(bpe_dir: Path) -> Tokenizer:
    """GPT-2's tokenizer from its two files.

    Args:
        bpe_dir: With ``encoder.json`` and ``vocab.bpe``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    encoder, merges = _gpt2_files(bpe_dir)
    vocab = json.loads(encoder.read_text(encoding="utf-8"))
    lines = merges.read_text(encoding="utf-8").splitlines()[1:]
    made = Tokenizer(models.BPE(vocab=vocab, merges=[line.partition(" ")[::2] for line in lines if line]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return made


def find_tokenizer(*folders: Path) -> Tokenizer | None:
    """The tokenizer in the first of ``folders`` that has one; None if none has.

    Args:
        folders: Of a run, of data.

    Raises:
        InputError: if a file is not a tokenizer.
    """
    from tokenizers import Tokenizer

    for folder in folders:
        file = folder / TOKENIZER_FILE
        if file.is_file():
            try:
                made = Tokenizer.from_str(_harmless(file))
            except InputError:
                raise
            except Exception as error:  # the library raises nothing narrower
                rule = f"is not a tokenizer ({str(error)[:80]})"
                raise InputError("tokenizer", str(file), rule, "copy it from the data") from None
            made.no_padding()  # which may be to any length
            made.no_truncation()
            return made
        manifest = folder / "manifest.json"
        if manifest.is_file() and read_spec(manifest, Manifest).tokenizer == "bytes":
            return byte_tokenizer()
    return None


def _harmless(file: Path) -> str:
    """The text of a tokenizer's file, unless it would put long texts for short ones: the library aborts without memory.

    Raises:
        InputError: if it does, or is larger than any tokenizer.
    """
    if (size := file.stat().st_size) > LARGEST_TOKENIZER:
        rule = f"has {size:,} bytes, more than {LARGEST_TOKENIZER:,}"
        raise InputError("tokenizer", str(file), rule, "copy it from the data")
    text = file.read_text(encoding="utf-8")
    content = json.loads(text)
    parts = [content.get(name) for name in ("normalizer", "pre_tokenizer", "decoder", "post_processor")]
    while parts:
        part = parts.pop()
        if isinstance(part, str) and len(part) > LONGEST_REPLACEMENT:
            rule = f"puts in texts of {len(part):,} letters"
            raise InputError("tokenizer", str(file), rule, "copy it from the data")
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    return text


def with_end(tokenizer: Tokenizer, vocab_size: int) -> tuple[Tokenizer, str | None]:
    """``tokenizer`` with a token that ends a text, and its name: others' tools begin, stop and pad with one.

    The tokenizer's own if it has one; else, for bytes, the byte 0, with which documents end; else the first id that
    only the model has; else, for byte-level BPEs, the byte 0: text in which it stands loses it. None if there is none.

    Args:
        tokenizer: Unchanged.
        vocab_size: Of the model.
    """
    from tokenizers import Tokenizer

    for name in ENDS:
        index = tokenizer.token_to_id(name)
        if index is not None and index < vocab_size:
            return tokenizer, name
    content = json.loads(tokenizer.to_str())
    vocab, null = content["model"].get("vocab"), _byte_chars()[0]
    index = tokenizer.get_vocab_size()
    if index >= vocab_size or not content["model"].get("merges", True):
        if not isinstance(vocab, dict) or null not in vocab or any(null in token for token in vocab if token != null):
            return tokenizer, None
        index = vocab[END] = vocab.pop(null)
    added = {"id": index, "content": END, "special": True, "normalized": False}
    content["added_tokens"].append(added | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))
    return Tokenizer.from_str(json.dumps(content)), END


def _train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not 257 <= vocab_size <= LARGEST_VOCABULARY:
        rule = f"must be at least 257 for a byte-level BPE, and at most {LARGEST_VOCABULARY}"
        raise InputError("vocab_size", vocab_size, rule, "give such as 4096")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, special_tokens=[END],
        max_token_length=LONGEST_TOKEN,
    )  # fmt: skip
    made.train_from_iterator(_broken(texts), trainer)
    return made


def _broken(texts: Iterable[str]) -> Iterator[str]:
    """``texts`` with runs of more than :data:`LONGEST_WORD` letters, or blanks, cut up."""
    run = re.compile(rf"\S{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}")
    for text in texts:
        start = 0
        for match in run.finditer(text):
            yield text[start : match.end()]
            start = match.end()
        yield text[start:]


def _gpt2_encoding(bpe_dir: Path | None) -> Encoding:
    try:
        import tiktoken
        from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    except ImportError:
        raise InputError("tokenizer", "gpt2", "needs tiktoken", "pip install 'latebloom[data]'") from None
    if bpe_dir is None:
        fix = "give the directory with encoder.json and vocab.bpe; nothing is downloaded"
        raise InputError("--bpe-dir", None, "is required for the tokenizer gpt2", fix)
    encoder, merges = _gpt2_files(bpe_dir)
    try:
        ranks = data_gym_to_mergeable_bpe_ranks(vocab_bpe_file=str(merges), encoder_json_file=str(encoder))
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError):
        rule = "holds no encoder.json and vocab.bpe that belong together"
        raise InputError("--bpe-dir", str(bpe_dir), rule, "copy GPT-2's two files anew") from None
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's, borrowed
    coder = tiktoken.Encoding(
        "gpt2",
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens={END: len(ranks)},
        explicit_n_vocab=len(ranks) + 1,
    )
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        batch = coder.encode_ordinary_batch(list(texts), num_threads=threads)
        return [np.array(ids, dtype=np.int64) for ids in batch]

    return Encoding(encode=encode, size=coder.n_vocab, saved=gpt2_tokenizer(bpe_dir).to_str(), end=coder.eot_token)


def _gpt2_files(bpe_dir: Path) -> tuple[Path, Path]:
    files = bpe_dir / "encoder.json", bpe_dir / "vocab.bpe"
    for path in files:
        if not path.is_file():
            raise InputError(str(path), None, "is not there", "--bpe-dir names GPT-2's encoder.json and vocab.bpe")
    return files


def _byte_chars() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPEs."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}
