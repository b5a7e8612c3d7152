"""Other people's trainers, alone and in several processes: kinds 2, 4 and 9."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from pathlib import Path

import torch
from torch import nn

from latebloom import train
from latebloom.theory import InputError
from tests.cases.growing import by_decay
from tests.cases.models import Gpt, Settings, batch, loss_of, muon_and_adamw, stirred
from tests.cases.table import PLAN, Wrong, case, check, held, refused

# 2: wrappers


@case(2, "DistributedDataParallel in one's own loop", two_processes=True)
def _(_: Path) -> str:
    from tests.cases import processes
    from tests.ranks import on_ranks

    seen = [on_ranks(processes.own_loop, 2, told) for told in ("wrapper", "inside")]
    return check(seen[0] == seen[1] and len(set(seen[0])) == 1, f"weights of both processes {set(seen[0])}"[:60])


@case(2, "two processes, nothing is known to reduce gradients", "refused", two_processes=True)
def _(_: Path) -> str:
    from tests.cases import processes
    from tests.ranks import on_ranks

    error = on_ranks(processes.own_loop, 2, "unwrapped")[0]
    raise error if isinstance(error, Exception) else Wrong("grown")


@case(2, "FSDP2: gathered, grown, sharded anew as the page says", two_processes=True)
def _(_: Path) -> str:
    from tests.cases import processes
    from tests.ranks import on_ranks

    seen, alone = on_ranks(processes.sharded, 2, 2), processes.sharded(1)
    good = seen[0] == seen[1] and isinstance(seen[0], list) and torch.allclose(*map(torch.tensor, (seen[0], alone)))
    return check(good, f"losses of two processes and of one without shards: {seen[0]} {alone}"[:230])


@case(2, "a wrapper inside the model", "refused")
def _(_: Path) -> str:
    model = nn.DataParallel(Gpt(Settings()))
    refused(model, lambda: train.grow(model, depth=4))
    return "grown"


def two_trainers(trainer: str, folder: Path) -> str:
    """Killed before the expansion, resumed, killed after it, resumed: what a run without a stop gives."""
    from tests.cases import processes
    from tests.ranks import on_ranks

    environment = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}

    def on_two(name: str, *at: int) -> list:
        return on_ranks(getattr(processes, trainer), 2, str(folder / name), *at, seconds=240, **environment)

    whole = on_two("whole", 0, 1)
    killed = [on_two("stopped", 0, 1, 5), on_two("stopped", 3, 1, 10)]  # it grows at 6 and saves every 3
    ends = on_two("stopped", 9, 1)
    check(killed == [[-9, -9], [-9, -9]], f"not killed: {killed}"[:200])
    good = len({*whole, *ends}) == 1 and isinstance(whole[0], str)
    seen = "; ".join(dict.fromkeys(map(str, (*whole, *ends))))  # one digest, or whatever else a process ended with
    return check(good, f"killed at 5 and at 10, resumed; weights of both processes, and of the run without: {seen}")


@case(2, "Hugging Face's Trainer in two processes, killed before and after it grows", two_processes=True)
def _(folder: Path) -> str:
    return two_trainers("hugging_face", folder)


@case(2, "Lightning in two processes, killed before and after it grows", two_processes=True)
def _(folder: Path) -> str:
    return two_trainers("lightning", folder)


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

    from tests.cases import processes

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        ends = [processes.hugging_face(str(folder), *at) for at in ((0, 1), (9, 1), (9, 3), (3, 1))]
    return check(len(set(ends)) == 1, "weights equal those of the run without a stop")


@case(4, "Hugging Face's Trainer, killed while it wrote the last checkpoint", "refused")
def _(folder: Path) -> str:
    import accelerate  # noqa: F401

    from tests.cases import processes

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        processes.hugging_face(str(folder), 0, 1)
        (folder / "checkpoint-6" / "optimizer.pt").write_bytes(b"PK")  # cut
        for missing in ("rng_state.pth", "scheduler.pt", "optimizer.pt"):
            (folder / "checkpoint-9" / missing).unlink()
            try:
                processes.hugging_face(str(folder), 9, 3)
                raise Wrong(f"resumed without {missing}")
            except InputError as error:
                check(missing in str(error) and str(error).endswith("checkpoint-3"), str(error))
                last = error
    raise last


@case(4, "accelerate in two processes, killed before and after it grows, with an average", two_processes=True)
def _(folder: Path) -> str:
    import accelerate  # noqa: F401

    return two_trainers("accelerated", folder)


@case(4, "Lightning, resumed past it")
def _(folder: Path) -> str:
    import lightning  # noqa: F401

    from tests.cases import processes

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        ends = [processes.lightning(str(folder), *at) for at in ((0, 1), (9, 1), (9, 3), (6, 1))]
    return check(len(set(ends)) == 1, "weights equal those of the run without a stop")


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
