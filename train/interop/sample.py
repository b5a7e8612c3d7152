"""Text from a run: sampling, and HellaSwag from a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from latebloom.theory.errors import InputError
from latebloom.train.data.tokenizers import END, find_tokenizer
from latebloom.train.model.transformer import GPT2, generator
from latebloom.train.run import checkpoint
from latebloom.train.run.device import usable_device
from latebloom.train.run.directory import RunDirectory

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HellaSwag", "hellaswag", "load_run", "sample"]


@dataclass(frozen=True, kw_only=True)
class HellaSwag:
    """Share of endings chosen rightly.

    Attributes:
        examples: Number of them.
        accuracy: By log-probability of the ending (lm-eval's acc).
        accuracy_normalised: By log-probability per character of the ending (acc_norm).
    """

    examples: int
    accuracy: float
    accuracy_normalised: float


def load_run(run: Path, *, device: str = "cpu") -> tuple[GPT2, Tokenizer]:
    """The model of a run's newest complete checkpoint, and its tokenizer.

    Args:
        run: The run's directory.
        device: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        InputError: if there is no checkpoint or no tokenizer.
    """
    directory = RunDirectory(run)
    path, _ = directory.newest_checkpoint()
    manifest = checkpoint.manifest_of(path)
    plan = checkpoint.saved_plan(path)
    tokenizer = find_tokenizer(*directory.tokenizer_folders)
    if tokenizer is None:
        rule = "has no tokenizer.json, nor have its data"
        raise InputError("run", str(run), rule, "put the tokenizer.json of its shards there")
    model = GPT2(plan.model, manifest.depth)
    model.replayed = plan.stages[manifest.stage].replayed
    model.load_state_dict(checkpoint.load(path)[1])
    return model.to(usable_device(device)).eval(), tokenizer


@torch.no_grad()
def sample(
    model: GPT2,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = 50,
    seed: int = 0,
) -> str:
    """``prompt`` and up to ``tokens`` more; the model sees the last ``context`` of them.

    Args:
        model: As from :func:`load_run`.
        tokenizer: The same.
        prompt: May be empty.
        tokens: How many to draw.
        temperature: 0 takes the likeliest.
        top_k: Draw among so many; None: all.
        seed: Of the draws.

    Raises:
        InputError: for a number out of range, or a prompt with tokens that the model does not have.
    """
    for name, value, good in (
        ("--tokens", tokens, tokens >= 1), ("--temperature", temperature, 0 <= temperature < 1e6),
        ("--top-k", top_k, top_k is None or top_k >= 1),
    ):  # fmt: skip
        if not good:
            raise InputError(name, value, "is out of range", "give a positive number (temperature may be 0)")
    device = model.tokens.weight.device
    ids = tokenizer.encode(prompt).ids or [tokenizer.token_to_id(END) or 0]
    if max(ids) >= model.shape.vocab_size:
        rule = f"is not in the model's vocabulary of {model.shape.vocab_size}"
        raise InputError("token id", max(ids), rule, "use the tokenizer of the training data")
    known = min(model.shape.vocab_size, tokenizer.get_vocab_size())  # the rest is padding
    draws = generator(seed, "sample")
    for _ in range(tokens):
        window = torch.tensor([ids[-model.shape.context :]], device=device)
        logits = model.next_logits(window)[0, :known].float().cpu()
        if temperature == 0:
            ids.append(int(logits.argmax()))
            continue
        if top_k is not None and top_k < known:
            logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
        ids.append(int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=draws)))
    return tokenizer.decode(ids if tokenizer.encode(prompt).ids else ids[1:])


@torch.no_grad()
def hellaswag(model: GPT2, tokenizer: Tokenizer, path: Path, *, limit: int | None = None) -> HellaSwag:
    """Score the four endings of each example of HellaSwag (Zellers et al., arXiv 1905.07830) in a JSON-lines file.

    Text, tokens and both scores are those of lm-eval's task of this name, which runs on an export, too:
    ``lm_eval --model hf --model_args pretrained=DIR --tasks hellaswag``.

    Args:
        model: As from :func:`load_run`.
        tokenizer: The same.
        path: Lines with ``endings``, ``label``, and ``activity_label``, ``ctx_a``, ``ctx_b`` or else ``ctx``.
        limit: Take so many.

    Raises:
        InputError: naming the line that is not such an example, or an ending that the model cannot see whole.
    """
    count = plain = normalised = 0
    for context, endings, label in _examples(Path(path)):
        if limit is not None and count == limit:
            break
        sums = torch.tensor([_score(model, tokenizer, context, ending) for ending in endings])
        plain += int(sums.argmax()) == label
        normalised += int((sums / torch.tensor([len(ending) for ending in endings])).argmax()) == label
        count += 1
    if not count:
        raise InputError("--data", str(path), "has no example", "give HellaSwag's validation file")
    return HellaSwag(examples=count, accuracy=plain / count, accuracy_normalised=normalised / count)


def _examples(path: Path) -> Iterator[tuple[str, list[str], int]]:
    if not path.is_file():
        raise InputError("--data", str(path), "is not a file", "give HellaSwag's validation file (JSON lines)")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = msgspec.json.decode(line)
                context = row["ctx"]
                if "activity_label" in row:
                    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
                context, *endings = (_clean(text) for text in [context, *row["endings"]])
                label = int(row["label"])
                if not (isinstance(row["endings"], list) and 0 <= label < len(endings) and all([context, *endings])):
                    raise ValueError
            except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, AttributeError):
                shown = line[:40].decode(errors="replace")
                rule = "has no ctx, endings, label: a text, texts, the number of one"
                raise InputError(f"{path}:{number}", shown, rule, "check the file") from None
            yield context, endings, label


def _clean(text: str) -> str:
    """Without the marks that WikiHow left in HellaSwag: a title begins a sentence, other brackets go."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _score(model: GPT2, tokenizer: Tokenizer, context: str, ending: str) -> float:
    """Log-probability of the ending's tokens, those that the whole text has beyond the context's."""
    begin = tokenizer.encode(context.rstrip()).ids
    end = tokenizer.encode(f"{context} {ending}").ids[len(begin) :]
    begin = begin or [tokenizer.token_to_id(END) or 0]
    if len(end) > model.shape.context:
        rule = f"is longer than the model's context of {model.shape.context}"
        raise InputError("ending", f"{len(end)} tokens: {ending}", rule, "score a model with a longer context")
    ids = torch.tensor([(begin + end)[-model.shape.context - 1 :]], device=model.tokens.weight.device)
    logs = model(ids[:, :-1]).float().log_softmax(-1).gather(-1, ids[:, 1:, None])[0, -len(end) :, 0]
    return float(logs.sum())
