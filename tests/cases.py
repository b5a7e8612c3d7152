"""Situations from other people's reports, by kind of fault, and what happens here: ``python -m tests.cases``.

Each row is right, or refused with the reason; both are what a user can live with, silence is not. A case returns what
it saw if that is right, raises :class:`Wrong` if it is not, and an InputError if it is refused, which must leave
everything as it was. ``python -m tests.cases --processes`` adds those that start two processes.
"""

from __future__ import annotations

import bz2
import contextlib
import copy
import gzip
import io
import json
import lzma
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from latebloom import train
from latebloom.theory import GPT2Shape, InputError, Optimizer, Plan, Stage, wsd
from latebloom.theory.schedules import Piecewise, Tail
from latebloom.train.data.batches import Batches
from latebloom.train.data.corpus import prepare
from latebloom.train.data.shards import open_shards
from latebloom.train.data.sources import documents, find_files
from latebloom.train.data.tokenizers import END, find_tokenizer
from tests import case_models as models
from tests.case_models import ENDS, Gpt, Settings, batch, loss_of, muon_and_adamw, stirred

__all__ = ["CASES", "Case", "Wrong", "outcome"]

WORDS = ["river", "stone", "lantern", "window", "garden", "winter", "morning", "letter", "quiet", "harbour"]
PLAN = Plan(
    name="p", model=GPT2Shape(name="s", width=16, heads=2, vocab_size=64, context=16), batch_tokens=64,
    schedule=wsd(steps=12, peak_lr=1e-2), optimizer=Optimizer(name="adamw"),
    stages=(Stage(start_step=0, depth=1), Stage(start_step=6, depth=3)),
)  # fmt: skip


class Wrong(Exception):
    """Neither right nor refused."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One situation.

    Attributes:
        kind: Number of its kind of fault.
        what: The situation, in words.
        run: Given an empty folder, says what it saw.
        expected: ``right`` or ``refused``.
        two_processes: Whether it starts two.
    """

    kind: int
    what: str
    run: Callable[[Path], str]
    expected: str
    two_processes: bool = False


CASES: list[Case] = []


def case(kind: int, what: str, expected: str = "right", *, two_processes: bool = False) -> Callable:
    def keep(run: Callable[[Path], str]) -> Callable[[Path], str]:
        CASES.append(Case(kind=kind, what=what, run=run, expected=expected, two_processes=two_processes))
        return run

    return keep


def outcome(one: Case, folder: Path) -> tuple[str, str]:
    """(``right``, ``refused``, ``WRONG`` or ``skipped``; what was seen).

    Args:
        one: To be run.
        folder: Empty.
    """
    torch.manual_seed(0)
    try:
        return "right", one.run(folder)
    except InputError as error:
        return "refused", str(error)
    except ImportError as error:
        return "skipped", f"needs {error.name}"
    except Wrong as error:
        return "WRONG", str(error)


def check(good: bool, seen: str) -> str:
    if not good:
        raise Wrong(seen)
    return seen


def held(optimizers: list[torch.optim.Optimizer]) -> set[int]:
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def refused(model: nn.Module, grow: Callable[[], object], optimizers: tuple[torch.optim.Optimizer, ...] = ()) -> None:
    """Growth that raises must leave model and optimizers as they were; the error is passed on."""
    before = dict(model.named_parameters())
    groups = [[list(map(id, g["params"])) for g in o.param_groups] for o in optimizers]
    config = copy.deepcopy(vars(model.config)) if hasattr(model, "config") else {}
    try:
        grow()
    except Exception:
        now = dict(model.named_parameters())
        same = list(now) == list(before) and all(now[name] is p for name, p in before.items())
        same = same and groups == [[list(map(id, g["params"])) for g in o.param_groups] for o in optimizers]
        if not same or config != (vars(model.config) if hasattr(model, "config") else {}):
            raise Wrong("refused after it had changed") from None
        raise


def keeps(model: nn.Module, **growth: object) -> str:
    """Grow to four blocks by copies with their last maps zeroed: the function stays, every block takes part."""
    ids, _ = batch(0)
    before = stirred(model)(ids).detach()
    count = len(model.blocks)
    refused(model, lambda: train.grow(model, depth=4, **{"init": "copy_zero_last", "order": "inter"} | growth))
    after = model(ids)
    after.square().sum().backward()
    idle = [i for i, block in enumerate(model.blocks) if all(p.grad is None for p in block.parameters())]
    change = float((after - before).abs().max())
    return check(change == 0 and not idle, f"{count} -> {len(model.blocks)} blocks, change {change:.2g}, idle {idle}")


# 1: one optimizer is believed to hold everything


@case(1, "Muon alone is given, AdamW holds the rest", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    optimizers = muon_and_adamw(model)
    refused(model, lambda: train.grow(model, optimizers[0], depth=4), tuple(optimizers))
    return "grown"


@case(1, "Muon and AdamW, both given")
def _(_: Path) -> str:
    model = Gpt(Settings(n_layer=1))
    optimizers = muon_and_adamw(model)
    for step in range(6):
        if step == 3:
            train.grow(model, optimizers, depth=4, init="copy_zero_last")
            start = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.zero_grad()
        loss_of(model, step).backward()
        for optimizer in optimizers:
            optimizer.step()
    left = [name for name, p in model.named_parameters() if id(p) not in held(optimizers)]
    still = [name for name, p in model.named_parameters() if torch.equal(p, start[name])]
    matrices = all(p.ndim == 2 for group in optimizers[0].param_groups for p in group["params"])
    return check(not left and not still and matrices, f"{len(left)} in no optimizer, {len(still)} never moved")


@case(1, "three optimizers, one of them wrapped by a trainer")
def _(_: Path) -> str:
    model = Gpt(Settings())
    inside, vectors, outside = [], [], []
    for name, p in model.named_parameters():
        (outside if ".h." not in name else inside if p.ndim == 2 else vectors).append(p)
    wrapped = type("Wrapped", (), {})()
    wrapped.optimizer = torch.optim.Muon(inside, lr=0.02)
    others = [torch.optim.AdamW(vectors), torch.optim.SGD(outside, lr=0.1)]
    train.grow(model, [wrapped, *others], depth=3)
    left = sum(id(p) not in held([wrapped.optimizer, *others]) for p in model.parameters())
    return check(left == 0 and len(others[1].param_groups[0]["params"]) == len(outside), f"{left} in no optimizer")


# 2: wrappers


@case(2, "DistributedDataParallel in one's own loop", two_processes=True)
def _(_: Path) -> str:
    from tests import case_processes
    from tests.ranks import on_ranks

    seen = [on_ranks(case_processes.own_loop, 2, told) for told in ("wrapper", "inside")]
    return check(seen[0] == seen[1] and len(set(seen[0])) == 1, f"weights of both processes {set(seen[0])}"[:60])


@case(2, "two processes, nothing is known to reduce gradients", "refused", two_processes=True)
def _(_: Path) -> str:
    from tests import case_processes
    from tests.ranks import on_ranks

    error = on_ranks(case_processes.own_loop, 2, "unwrapped")[0]
    raise error if isinstance(error, Exception) else Wrong("grown")


@case(2, "a wrapper inside the model", "refused")
def _(_: Path) -> str:
    model = nn.DataParallel(Gpt(Settings()))
    refused(model, lambda: train.grow(model, depth=4))
    return "grown"


def two_trainers(trainer: str, folder: Path) -> str:
    from tests import case_processes
    from tests.ranks import on_ranks

    environment = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    run = getattr(case_processes, trainer)
    whole = on_ranks(run, 2, str(folder), 0, 1, seconds=240, **environment)
    again = on_ranks(run, 2, str(folder), 9, 1, seconds=240, **environment)
    return check(len({*whole, *again}) == 1 and isinstance(whole[0], str), f"whole {whole}, resumed {again}"[:200])


@case(2, "Hugging Face's Trainer in two processes, grown, resumed past it", two_processes=True)
def _(folder: Path) -> str:
    return two_trainers("hugging_face", folder)


@case(2, "Lightning in two processes, grown, resumed past it", two_processes=True)
def _(folder: Path) -> str:
    return two_trainers("lightning", folder)


# 3: the order of an optimizer's parameters


def same_as_deep(groups: Callable[[nn.Module], list], order: str, bias: bool) -> str:
    """States of a grown optimizer, loaded into one over a model made deep, belong to the same parameters."""
    small = Gpt(Settings(bias=bias))
    optimizer = torch.optim.AdamW(groups(small), lr=1e-3)
    for step in range(4):
        if step == 2:
            train.grow(small, optimizer, depth=5, order=order, init="copy_zero_last")
        optimizer.zero_grad()
        loss_of(small, step).backward()
        optimizer.step()
    deep = Gpt(Settings(n_layer=5, bias=bias))
    other = torch.optim.AdamW(groups(deep), lr=1e-3)
    deep.load_state_dict(small.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares its tensors otherwise
    for model, one in ((small, optimizer), (deep, other)):
        one.zero_grad()
        loss_of(model, 9).backward()
        one.step()
    apart = [n for n, p in small.named_parameters() if not torch.equal(p, deep.get_parameter(n))]
    return check(not apart, f"{order}: {len(apart)} parameters differ after the next update")


def by_decay(model: nn.Module) -> list:
    wide = [p for p in model.parameters() if p.ndim >= 2]
    return [{"params": wide, "weight_decay": 0.1}, {"params": [p for p in model.parameters() if p.ndim < 2]}]


def by_sorted_name(model: nn.Module) -> list:
    return [{"params": [p for _, p in sorted(model.named_parameters())]}]


@case(3, "decay groups, a model made deep loads them")
def _(_: Path) -> str:
    return "; ".join(
        same_as_deep(by_decay, order, bias=order != "last") for order in ("stack", "inter", "last", "first")
    )


@case(3, "named groups")
def _(_: Path) -> str:
    return same_as_deep(lambda model: [{"params": list(model.named_parameters())}], "inter", bias=False)


@case(3, "groups sorted by name, as minGPT has them")
def _(_: Path) -> str:
    return same_as_deep(by_sorted_name, "inter", bias=True)


# 4: resumed past an expansion


@case(4, "one's own loop: made deep, or grown again, then loaded")
def _(_: Path) -> str:
    def go(stop: int | None = None, saved: dict | None = None, deep: bool = False):
        model = Gpt(Settings(n_layer=3 if deep else 1))
        optimizers = muon_and_adamw(model)
        first = 0
        if saved:
            first = saved["step"]
            if not deep:
                train.grow(model, optimizers, depth=3, init="copy", order="inter")
            model.load_state_dict(saved["model"])
            for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(copy.deepcopy(state))
        for step in range(first, 8):
            if step == stop:
                return {"model": copy.deepcopy(model.state_dict()), "step": step,
                        "optimizers": [copy.deepcopy(o.state_dict()) for o in optimizers]}  # fmt: skip
            if step == 3:
                train.grow(model, optimizers, depth=3, init="copy_zero_last", order="inter")
            model.zero_grad()
            loss_of(model, step).backward()
            for optimizer in optimizers:
                optimizer.step()
        return float(loss_of(model, 99))

    torch.manual_seed(0)
    whole = go()
    torch.manual_seed(0)
    saved = go(stop=5)
    ends = [whole, go(saved=saved), go(saved=saved, deep=True)]
    return check(len(set(ends)) == 1, f"losses {ends}")


@case(4, "weights are loaded into a shallow model that follows them")
def _(_: Path) -> str:
    from latebloom.train.growth.loading import grow_on_load

    model, deep = Gpt(Settings(n_layer=1)), stirred(Gpt(Settings(n_layer=3)))
    optimizers = muon_and_adamw(model)
    stop = grow_on_load(model, PLAN, lambda: optimizers)
    model.load_state_dict(deep.state_dict())
    stop()
    left = sum(id(p) not in held(optimizers) for p in model.parameters())
    same = torch.equal(model(batch(0)[0]), deep(batch(0)[0]))
    return check(same and left == 0, f"{len(model.blocks)} blocks, {left} in no optimizer")


@case(4, "a shallow checkpoint is loaded into a grown model", "refused")
def _(_: Path) -> str:
    from latebloom.train.growth.loading import grow_on_load

    model = Gpt(Settings(n_layer=3))
    grow_on_load(model, PLAN)
    model.load_state_dict(Gpt(Settings(n_layer=1)).state_dict(), strict=False)
    return "loaded"


@case(4, "Hugging Face's Trainer, resumed past it")
def _(folder: Path) -> str:
    import accelerate  # noqa: F401

    from tests import case_processes

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        ends = [case_processes.hugging_face(str(folder), *at) for at in ((0, 1), (9, 1), (9, 3), (3, 1))]
    return check(len(set(ends)) == 1, "weights equal those of the run without a stop")


@case(4, "Lightning, resumed past it")
def _(folder: Path) -> str:
    import lightning  # noqa: F401

    from tests import case_processes

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        ends = [case_processes.lightning(str(folder), *at) for at in ((0, 1), (9, 1), (9, 3), (6, 1))]
    return check(len(set(ends)) == 1, "weights equal those of the run without a stop")


# 5: depth lives elsewhere, too


for kind_of_model, expected in (
    (models.Numbered, "right"), (models.OtherCount, "right"), (models.Windows, "right"), (models.Scales, "refused"),
    (models.ScaleList, "refused"), (models.Halves, "refused"), (models.OddCount, "refused"), (models.Alias, "refused"),
):  # fmt: skip
    case(5, (kind_of_model.__doc__ or "").splitlines()[0].rstrip("."), expected)(
        lambda _, made=kind_of_model: keeps(made(Settings()))
    )


@case(5, "the same scales, new blocks at random", "refused")
def _(_: Path) -> str:
    return keeps(models.Scales(Settings()), init="random")


@case(5, "a second list that cannot be tried: the model wants frames", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    model.gates = nn.ParameterList(torch.ones(()) for _ in model.blocks)
    refused(model, lambda: train.grow(model, depth=4, init="copy"))
    return "grown"


# 6: a promise whose test may be skipped


@case(6, "post-norm blocks whose call needs a second argument", "refused")
def _(_: Path) -> str:
    return keeps(models.PostNormGpt(Settings()))


@case(6, "pre-norm blocks that need a mask, no example", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    refused(model, lambda: train.grow(model, depth=4, init="copy_zero_last", last_linear=ENDS))
    return "grown"


@case(6, "the same with an example")
def _(_: Path) -> str:
    model = stirred(models.Frames(Settings()))
    example = (torch.randn(2, 4, 16), torch.zeros(1))
    before = model(*example)
    train.grow(model, depth=4, init="copy_zero_last", last_linear=ENDS, example=example)
    return check(torch.equal(model(*example), before), "function kept")


@case(6, "an example that the model does not run on", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    refused(model, lambda: train.grow(model, depth=4, example=torch.zeros(2, 3)))
    return "grown"


# 7: what depends on depth or place


for kind_of_model in (models.ByDepth, models.EveryOther, models.LastSkipped):
    case(7, (kind_of_model.__doc__ or "").splitlines()[0].rstrip("."), "refused")(
        lambda _, made=kind_of_model: keeps(made(Settings()))
    )


@case(7, "ends of branches are scaled by the depth after the initialiser")
def _(_: Path) -> str:
    model = Gpt(Settings(width=64))
    train.grow(model, depth=8, init="random")
    std = float(torch.stack([b.c_proj.weight.std() for b in model.blocks[2:]]).mean())
    return check(abs(std / (0.02 / 16**0.5) - 1) < 0.05, f"std {std:.5f}, of a fresh model of 8 blocks {0.02 / 4:.5f}")


class Switched(Gpt):
    """A model with a switch that it does not remember."""

    def __init__(self, config: Settings, scaled: bool = False):
        super().__init__(config)
        if not scaled:
            for name, p in self.named_parameters():
                if name.endswith(("out_proj.weight", ".c_proj.weight")):
                    nn.init.normal_(p, std=0.02)


@case(7, "the same, by a switch of the constructor that the model does not keep")
def _(_: Path) -> str:
    seen = []
    for scaled in (True, False):
        model = Switched(Settings(width=64), scaled=scaled)
        train.grow(model, depth=8, init="random", last_linear=ENDS)
        seen.append(float(torch.stack([b.c_proj.weight.std() for b in model.blocks[2:]]).mean()))
    good = abs(seen[0] / 0.005 - 1) < 0.05 and abs(seen[1] / 0.02 - 1) < 0.05
    return check(good, f"std {seen[0]:.4f} with it, {seen[1]:.4f} without")


@case(7, "GPT-2 of Hugging Face")
def _(_: Path) -> str:
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=2))
    train.grow(model, depth=8, init="random")
    std = float(torch.stack([b.mlp.c_proj.weight.std() for b in list(model.transformer.h)[2:]]).mean())
    return check(abs(std / 0.005 - 1) < 0.05, f"std {std:.5f}")


# 8: before anything has changed


def empty(optimizer_of: Callable[[nn.Module], torch.optim.Optimizer]) -> str:
    model = models.Empty()
    optimizer = optimizer_of(model)
    grow = lambda: train.grow(  # noqa: E731
        model, optimizer, depth=2, init="random", blocks="blocks", make_block=lambda: models.Mixer(Settings())
    )
    refused(model, grow, (optimizer,))
    return check(all(id(p) in held([optimizer]) for p in model.parameters()), "all in the optimizer")


case(8, "from no blocks, an optimizer without vectors", "refused")(
    lambda _: empty(lambda model: torch.optim.AdamW(model.parameters()))
)
case(8, "the optimizer of another model", "refused")(
    lambda _: empty(lambda model: torch.optim.AdamW(models.Empty().parameters()))
)


@case(8, "an initialiser of the caller's that fails half-way")
def _(_: Path) -> str:
    model = Gpt(Settings())

    def fail(block: nn.Module, index: int) -> None:
        if index == 3:
            raise RuntimeError("mine")

    try:
        refused(model, lambda: train.grow(model, depth=4, init="random", init_block=fail))
    except RuntimeError as error:
        return check(len(model.blocks) == 2 and model.config.n_layer == 2, f"RuntimeError: {error}; as it was")
    raise Wrong("no error")


@case(8, "an initialisation that there is not", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    refused(model, lambda: train.grow(model, depth=4, init="copy_zero"))
    return "grown"


# 9: PlanLR and what it is not told about


@case(9, "groups with rates of their own", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    groups = by_decay(model)
    train.PlanLR(torch.optim.AdamW([groups[0] | {"lr": 1e-3}, groups[1] | {"lr": 1e-2}]), PLAN)
    return "set to one rate"


@case(9, "stepped beyond the plan", "refused")
def _(_: Path) -> str:
    optimizer = torch.optim.SGD(Gpt(Settings()).parameters(), lr=0.1)
    scheduler = train.PlanLR(optimizer, PLAN)
    for _step in range(PLAN.steps + 1):
        optimizer.step()
        scheduler.step()
    return "a rate of 0"


# 10: layers that store weights transposed


@case(10, "Muon-NSGD on Hugging Face's Conv1D and on nn.Linear")
def _(_: Path) -> str:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    theirs = transformers.GPT2LMHeadModel(config)
    weight = theirs.transformer.h[0].mlp.c_fc.weight
    turned = nn.Parameter(weight.detach().T.clone())
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    turned.grad = weight.grad.T.clone()
    for name, p in (("h.0.mlp.c_fc.weight", weight), ("h.0.mlp.up.weight", turned)):
        train.MuonNSGD([(name, p)], lr=0.1).step()
    off = float((weight.T - turned).abs().max())
    return check(off < 1e-5, f"largest difference {off:.1e}")


@case(10, "GPT-2 of Hugging Face keeps its function under every promise")
def _(_: Path) -> str:
    import transformers

    for init in ("zero", "zero_last", "copy_zero_last", "copy_zero_norm", "identity"):
        config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=16)
        model = stirred(transformers.GPT2LMHeadModel(config)).eval()
        before = model(batch(0)[0]).logits
        train.grow(model, depth=4, init=init, order="inter")
        check(torch.equal(model(batch(0)[0]).logits, before), init)
    return "five initialisations"


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


# 18: results keyed by a name


@case(18, "a sweep in a folder where another one stands", "refused")
def _(folder: Path) -> str:
    from latebloom.train.config import TrainConfig
    from latebloom.train.experiments.lr_transfer import lr_transfer

    for i in range(30):
        (folder / f"{i}.txt").write_text(text(300 + i))
    prepare(sorted(folder.glob("*.txt")), folder / "d", tokenizer="bytes", val_share=0.2)
    prepare(sorted(folder.glob("*.txt"))[:25], folder / "e", tokenizer="bytes", val_share=0.2)
    plan = PLAN.replace(model=PLAN.model.replace(vocab_size=256), stages=PLAN.stages[:1])
    for data in ("d", "e"):
        lr_transfer(plan, data=folder / data, out=folder / "sweep", lrs=(1e-4, 1e-3, 0.01, 3.0), width=32, depth=2,
                    steps=100, config=TrainConfig(quiet=True, evals=0, eval_tokens=256))  # fmt: skip
    return "used again"


# 20: a default that is a number nobody means


@case(20, "transfer to another horizon or batch without the base's", "refused")
def _(_: Path) -> str:
    from latebloom.theory.commands_transfer import transfer_command

    for option in ("--batch", "--steps"):
        transfer_command.main(["--base-width", "256", "--base-depth", "4", option, "20000"], standalone_mode=False)
    return "printed"


# 21: schedules without a peak, records without rows


@case(21, "a table of rates, and the tail of a schedule, at another peak")
def _(_: Path) -> str:
    table = Piecewise(at=(0, 5, 15, 20), rate=(0.0, 0.02, 0.02, 0.0)).with_peak(0.5)
    tail = Tail(base=wsd(steps=40, peak_lr=0.02), start_step=20).with_peak(0.5)
    return check(abs(table.peak - 0.5) < 1e-12 and abs(tail.peak - 0.5) < 1e-12, "peaks of .5")


# 13 of the report's list: averages, adapters, frozen blocks


@case(5, "an average of the weights grows with the model")
def _(_: Path) -> str:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = stirred(Gpt(Settings()))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    before = average(batch(0)[0])
    train.grow(model, depth=4, init="copy_zero_last", order="inter", averages=[average])
    kept = torch.equal(average(batch(0)[0]), before)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)
    for _step in range(200):
        average.update_parameters(model)
    off = max(float((a - p).abs().max()) for a, p in zip(average.module.parameters(), model.parameters(), strict=True))
    return check(
        kept and off < 1e-5, f"{len(average.module.blocks)} blocks, {off:.1e} from the model after 200 updates"
    )


@case(1, "blocks that are frozen, new ones at random", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for block in model.blocks:
        block.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    refused(model, lambda: train.grow(model, optimizer, depth=4, init="random"), (optimizer,))
    return "grown"


@case(6, "adapters (LoRA): function kept, new adapters train")
def _(_: Path) -> str:
    import peft
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "o_proj", "down_proj"])
    model = stirred(peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    before = model(batch(0)[0]).logits
    train.grow(model, optimizer, depth=4, init="copy_zero_last")
    new = {n: p for n, p in model.named_parameters() if ".layers.3." in n and p.requires_grad}
    good = torch.equal(model(batch(0)[0]).logits, before) and all(id(p) in held([optimizer]) for p in new.values())
    return check(good and len(new) == 6, f"{len(new)} adapters of a new block in the optimizer")


@case(6, "bfloat16 and blocks compiled one by one")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for i, block in enumerate(model.blocks):
        model.transformer["h"][i] = torch.compile(block, backend="eager")
    seen = keeps(model)
    return f"{seen}; bfloat16 {keeps(Gpt(Settings()).bfloat16())}"


@case(14, "tokens beyond the model's vocabulary", "refused")
def _(folder: Path) -> str:
    foreign(folder, 120_000, lambda path, tokens: tokens.astype("<u4").tofile(path))
    Batches(open_shards(folder), PLAN, seed=0).train(0)
    return "trained on"


def main() -> None:
    """Print the table; exit 1 if a row is WRONG or not as expected."""
    processes, bad = "--processes" in sys.argv, 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'kind':>4}  {'':8}  situation")
    for one in sorted(CASES, key=lambda c: c.kind):
        if one.two_processes and not processes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict, seen = outcome(one, Path(folder))
            seen = seen.replace(folder, "DIR")
        bad += verdict not in (one.expected, "skipped")
        print(f"{one.kind:>4}  {verdict:8}  {one.what}\n{'':16}{seen[:230]}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
