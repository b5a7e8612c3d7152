"""Commands of token shards. torch is imported inside them, when they need it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from latebloom.theory.words import count_text
from latebloom.train.options import PATH

__all__ = ["data_command"]

SHOWN = 5  # lines of what was left out


@click.group("data")
def data_command() -> None:
    """Prepare token shards."""


@data_command.command("prepare")
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--stdlib", is_flag=True, help="Take the text of this Python's standard library.")
@click.option("--dataset", help="A Hugging Face data set: a directory, or a name (downloaded).")
@click.option("--dataset-config", help="Its configuration.")
@click.option("--dataset-split", help="Take this split of it; by default its own train and validation.")
@click.option("--val", "val_paths", multiple=True, type=PATH, help="Validation text, file or directory; repeatable.")
@click.option("--encoding", help="Of text files without a byte-order mark.  [default: utf-8]")
@click.option("--text-key", default="text", show_default=True, help="Field or column of the text.")
@click.option(
    "--tokenizer",
    type=click.Choice(["bpe", "bytes", "gpt2"]),
    default="bpe",
    show_default=True,
    help="bpe is trained here.",
)
@click.option("--vocab-size", type=int, default=4096, show_default=True, help="Of the BPE, trained here.")
@click.option("--bpe-dir", type=PATH, help="GPT-2's encoder.json and vocab.bpe.")
@click.option("--val-share", type=float, default=0.1, show_default=True, help="Share of documents held out.")
@click.option("--end-tokens/--no-end-tokens", default=True, show_default=True, help="Let each document end with one.")
@click.option("--out", type=PATH, required=True, help="New directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def prepare_command(
    paths: tuple[Path, ...],
    stdlib: bool,
    dataset: str | None,
    dataset_config: str | None,
    dataset_split: str | None,
    val_paths: tuple[Path, ...],
    encoding: str | None,
    text_key: str,
    tokenizer: str,
    vocab_size: int,
    bpe_dir: Path | None,
    val_share: float,
    end_tokens: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Tokenise documents into train.bin, val.bin and a manifest; called again after an interruption, it goes on.

    PATHS are text, .jsonl, .json, .csv, .parquet, each also as .gz, .bz2, .xz or .zst, directories of them, or of
    `datasets.save_to_disk`. Files named train, valid and test are taken at their word, unless --val says otherwise.
    """
    from latebloom.train.data.corpus import prepare, python_stdlib_corpus
    from latebloom.train.data.sources import find_files

    found = find_files(paths, val_paths, text_key=text_key, encoding=encoding)
    files = [file for file, split in found.files if split != "val" or not val_paths]
    files += python_stdlib_corpus() if stdlib else []
    live = sys.stderr.isatty() and not as_json

    def show_progress(count: int, size: int) -> None:
        click.echo(f"\r{count:,} documents, {size / 1e6:,.0f} MB", nl=False, err=True)

    manifest = prepare(
        files, out, tokenizer=tokenizer, vocab_size=vocab_size, val_share=val_share, text_key=text_key,
        bpe_dir=bpe_dir, dataset=dataset, dataset_config=dataset_config, dataset_split=dataset_split,
        val_files=val_paths, encoding=encoding, end_tokens=end_tokens, left_out=found.left_out,
        on_progress=show_progress if live else None,
    )  # fmt: skip
    if live:
        click.echo(err=True)
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    counts = ", ".join(f"{entry.split} {entry.tokens:,} tokens" for entry in manifest.files)
    end = "no token at their ends" if manifest.end_token is None else f"each ends with token {manifest.end_token}"
    click.echo(
        f"{out}: {count_text(manifest.source_files, 'document')}, {counts}, vocabulary {manifest.vocab_size}; {end}"
    )
    left = manifest.left_out or ()
    for line in left[:SHOWN]:
        click.echo(f"left out {line}")
    if len(left) > SHOWN:
        click.echo(f"left out {len(left) - SHOWN} more: all stand in {out / 'manifest.json'}")
