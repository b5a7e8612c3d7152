"""The processes that train one model together: which of them this one is, and everything that they tell each other.

``torchrun`` or a scheduler starts one process a device and says by the environment who is who: RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT. A process that is alone joins nothing: its sums are its numbers, its rows are all
rows, and torch.distributed is never loaded. No other module but :mod:`latebloom.train.model.sharding` imports
torch.distributed, and :mod:`latebloom.train.growth.wrappers` for the wrappers of other people's trainers.

Texts, such as a refusal, go through the key-value store of the launcher, numbers and tensors through collective
operations. Every rank makes the same calls in the same order: nothing here may be called by one rank alone.

Tensors are divided among groups of S successive ranks; W/S groups hold a replica each (hybrid sharding, HSDP). By
default S = W: one group of all ranks, and no replica.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from latebloom.theory.errors import InputError, RunError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["ALONE", "PeerLost", "Ranks", "exit_process", "joined", "refuse_ranks", "restarts", "rows_of", "speaks",
           "world_size"]  # fmt: skip

JOIN_S = 300  # seconds that a rank waits for the others to start
ANSWER_S = 5  # seconds that a rank has to say that it is there, once another one is lost
SETTLE_S = 30  # seconds that a rank waits at its end for the threads of its process group
TIMEOUT_S = 300.0  # seconds after which a collective operation is given up, unless a run says otherwise
SILENT = re.compile(r"timed out|timeout", re.IGNORECASE)
LOST = re.compile(r"gloo|nccl|connection|socket|broken pipe|timed out|timeout|store", re.IGNORECASE)


class PeerLost(RunError):
    """A rank ended or fell silent; the last checkpoint is good. Exit code 75: try again later (sysexits.h)."""

    exit_code = 75


class Ranks:
    """One process among those that train a model; by default the only one.

    Args:
        rank: Its number.
        world: How many there are.
        local_rank: Its number on its machine, which is that of its device.
        store: The launcher's key-value store; None for one that is alone.
        shard: S, ranks among which tensors are divided, a divisor of ``world``; None: all of them.
        timeout: Seconds after which a rank that says nothing is given up.
    """

    def __init__(
        self,
        *,
        rank: int = 0,
        world: int = 1,
        local_rank: int = 0,
        store: Any = None,
        shard: int | None = None,
        timeout: float = TIMEOUT_S,
    ):
        self.rank, self.world, self.local_rank, self.store = rank, world, local_rank, store
        self.shard, self.timeout = shard or world, timeout
        self.step = 0  # updates done, for what is said of a rank that is lost
        self._group: Any = None  # of torch.distributed; None: all ranks' first one
        self._asked: list[int] = []  # signals that this process got
        self._agreed: int | None = None
        self._talks = 0
        self._mesh: DeviceMesh | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return self.world == 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and shows what all have in common."""
        return self.rank == 0

    @property
    def replicas(self) -> int:
        """Number of groups that hold the whole model."""
        return self.world // self.shard

    @property
    def replica(self) -> int:
        """Which of them this rank is in."""
        return self.rank // self.shard

    def rows(self, count: int, rank: int | None = None) -> slice:
        """Rows of a tensor with ``count`` rows that a rank holds: :func:`rows_of`.

        Args:
            count: Length of the tensor's first axis.
            rank: Whose; None: this one's.
        """
        return rows_of(count, (self.rank if rank is None else rank) % self.shard, self.shard)

    def device_name(self, name: str) -> str:
        """``cuda:LOCAL_RANK`` for ``cuda`` and, where there is a GPU, ``auto``; other names stay.

        Args:
            name: As in the configuration.
        """
        if self.alone or name not in ("auto", "cuda"):
            return name
        import torch

        return f"cuda:{self.local_rank}" if name == "cuda" or torch.cuda.is_available() else "cpu"

    def mesh(self, device_type: str) -> DeviceMesh:
        """The ranks as fully_shard takes them: in a line, or with replicas as W/S lines of S.

        Args:
            device_type: ``cpu`` or ``cuda``.
        """
        if self._mesh is None:
            from torch.distributed.device_mesh import init_device_mesh

            axes: dict[str, int] = {"replicate": self.replicas, "shard": self.shard}
            if self.replicas == 1:
                del axes["replicate"]
            self._mesh = init_device_mesh(device_type, tuple(axes.values()), mesh_dim_names=tuple(axes))
        return self._mesh

    def ask_to_stop(self, number: int) -> None:
        """Have all ranks stop after the step, as signal ``number`` asks; may be called by one rank alone.

        Args:
            number: Of a signal.
        """
        self._asked.append(number)

    @property
    def stop(self) -> int | None:
        """The signal by which all ranks stop after this step; None: they go on."""
        if self.alone:
            return self._asked[0] if self._asked else None
        return self._agreed

    def sum(self, numbers: Tensor) -> list[float]:
        """Sum of ``numbers`` over the ranks, with which they agree on :attr:`stop`, too: one look at the device.

        Args:
            numbers: One axis; on this rank's device.
        """
        if self.alone:
            return numbers.tolist()
        import torch
        import torch.distributed as dist

        interrupted = signal.SIGINT in self._asked
        terminated = any(number != signal.SIGINT for number in self._asked)
        message = torch.cat([numbers, numbers.new_tensor([float(terminated), float(interrupted)])])
        dist.all_reduce(message)
        *sums, terminations, interruptions = message.tolist()
        if self._agreed is None and (terminations or interruptions):
            self._agreed = int(signal.SIGTERM if terminations else signal.SIGINT)
        return sums

    def exchange(self, sent: Tensor, sent_sizes: Sequence[int], received_sizes: Sequence[int]) -> Tensor:
        """Give each rank its part of ``sent``; return what the others, and this one, gave to this one.

        Args:
            sent: One axis: parts in the order of ranks.
            sent_sizes: Lengths of those parts.
            received_sizes: Lengths of the parts of the result.
        """
        import torch.distributed as dist

        received = sent.new_empty(sum(received_sizes))
        dist.all_to_all_single(received, sent, list(received_sizes), list(sent_sizes))
        return received

    def texts(self, text: str) -> list[str]:
        """Every rank's ``text``, in the order of ranks.

        Args:
            text: This rank's.
        """
        if self.alone:
            return [text]
        self._talks += 1
        key = f"text/{self._talks}"
        self.store.set(f"{key}/{self.rank}", text or " ")
        self.barrier()  # notices at once if a rank has ended; waiting for its key would not
        texts = [self.store.get(f"{key}/{rank}").decode().removesuffix(" ") for rank in range(self.world)]
        self.barrier()  # the store may end with the process of rank 0
        return texts

    def beside(self, name: str) -> Ranks:
        """The same ranks with a process group and keys of their own, for another thread to talk by.

        Args:
            name: Of what the thread does.
        """
        other = Ranks(
            rank=self.rank, world=self.world, local_rank=self.local_rank, store=self.store, shard=self.shard,
            timeout=self.timeout,
        )  # fmt: skip
        if not self.alone:
            import torch.distributed as dist

            other._group = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=self.timeout))
            other.store = dist.PrefixStore(name, self.store.clone())
        return other

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.alone:
            return
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.zeros(1), group=self._group)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What every rank does in its way: it succeeds on all ranks, or is refused on all.

        The lowest rank that was refused says why; the others end silently, with the same exit code.

        Raises:
            InputError: what the body raised on this rank.
            SystemExit: 2, if another one speaks.
        """
        if self.alone:
            yield
            return
        refusal: InputError | None = None
        try:
            yield
        except InputError as error:
            refusal = error
        verdicts = self.texts("refused" if refusal else "")
        if not any(verdicts):
            return
        if refusal and not any(verdicts[: self.rank]):
            raise refusal
        raise SystemExit(2)

    def check_same(self, values: dict[str, str]) -> None:
        """Refuse ranks that were given different things.

        Args:
            values: This rank's, by what they are, such as ``plan``.

        Raises:
            InputError: naming the first rank that differs from rank 0, and in what.
        """
        given = [json.loads(text) for text in self.texts(json.dumps(values))]
        with self.together():
            for rank, other in enumerate(given):
                for name, value in given[0].items():
                    if other.get(name) != value:
                        rule = f"of rank {rank} is not that of rank 0, {value!r}"
                        fix = "give all ranks the same plan, settings and data"
                        raise InputError(name, other.get(name), rule, fix)


ALONE = Ranks()


def rows_of(count: int, rank: int, world: int) -> slice:
    """Rows that ``rank`` of ``world`` holds of a tensor with ``count`` rows, as torch.chunk cuts it.

    Args:
        count: Length of the first axis.
        rank: Whose rows.
        world: Number of ranks.

    >>> [rows_of(5, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None), slice(5, 5, None)]
    """
    size = -(-count // world)
    return slice(min(rank * size, count), min((rank + 1) * size, count))


def world_size() -> int:
    """Number of processes that the launcher started, by the environment; 1 without a launcher.

    Raises:
        InputError: if WORLD_SIZE is no number.
    """
    return _number("WORLD_SIZE", 1)


def restarts() -> int:
    """How often torchrun has started these processes again, as it does after a failure under ``--max-restarts``."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def speaks() -> bool:
    """Whether this process prints what all have in common."""
    return world_size() == 1 or _number("RANK", None) == 0


def refuse_ranks(what: str) -> None:
    """Refuse to go on as one of several processes.

    Args:
        what: Which runs in one process only.

    Raises:
        InputError: if a launcher started several.
    """
    if world_size() > 1:
        rule = f"processes were started; {what} runs in one"
        raise InputError("WORLD_SIZE", world_size(), rule, "start it without torchrun or srun")


@contextlib.contextmanager
def joined(device: str = "auto", shard: int | None = None, timeout: float = TIMEOUT_S) -> Iterator[Ranks]:
    """The ranks that the launcher started, for as long as the context lasts; :data:`ALONE`'s like without a launcher.

    Args:
        device: Of the configuration: it says how tensors travel.
        shard: Ranks among which tensors are divided; None: all.
        timeout: Seconds after which a rank that says nothing is given up.

    Raises:
        InputError: if the environment is incomplete, a rank does not come, or ``shard`` does not divide the ranks.
        PeerLost: if a rank ends or falls silent while the others need it.
    """
    world = world_size()
    if world % (shard or 1):
        raise InputError("--shard", shard, f"does not divide the {world} ranks", "give a divisor, or leave it out")
    if world == 1:
        yield Ranks()
        return
    ranks = _join(world, device, shard, timeout)
    import torch.distributed as dist

    try:
        yield ranks
        _settle()
    except RunError:  # on every rank the same: the first one says it
        if ranks.is_first:
            raise
        raise SystemExit(1) from None
    except RuntimeError as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, PeerLost) or not LOST.search(line):
            raise
        where = f"rank {ranks.rank} of {world}, step {ranks.step}, {_collective(error)}"
        why = f"silent for {timeout:g} s, --rank-timeout" if SILENT.search(line) else line[:120]
        raise PeerLost(f"{where}: {_silent(ranks)} lost ({why}); resume the run") from None
    dist.destroy_process_group()


def _collective(error: BaseException) -> str:
    """The function of torch.distributed that was given up, such as all_reduce."""
    frames = traceback.extract_tb(error.__traceback__)
    called = [frame.name for frame in frames if "distributed_c10d" in frame.filename and frame.name != "wrapper"]
    return called[-1] if called else frames[-1].name


def _silent(ranks: Ranks) -> str:
    """Which ranks say nothing any more, in words; the others tell the store within :data:`ANSWER_S` that they live."""
    missing = []
    try:
        ranks.store.set(f"alive/{ranks.rank}", "yes")
        for other in range(ranks.world):
            try:
                ranks.store.wait([f"alive/{other}"], datetime.timedelta(seconds=ANSWER_S))
            except RuntimeError:
                ranks.store.get(f"here/{ranks.rank}")  # raises if it is the store that is gone
                missing.append(other)
    except RuntimeError:
        return "another rank is"
    if not missing:
        return "another rank was"
    return f"rank {missing[0]} is" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))} are"


def _settle() -> None:
    """Wait for all ranks, and for the threads of this one's process group to let go of what they were given.

    A thread of Gloo drops a collective's tensor after the result is there, for which it needs the interpreter; where
    the interpreter is being closed by then, the process aborts ("terminate called without an active exception").
    """
    import torch
    import torch.distributed as dist

    message = torch.zeros(1)
    given = weakref.ref(message)
    dist.all_reduce(message)
    del message
    deadline = time.monotonic() + SETTLE_S
    while given() is not None and time.monotonic() < deadline:
        time.sleep(0.001)


def exit_process(code: int | str | None) -> NoReturn:
    """End this process with ``code``: as always, or at once where it ends in the midst of its process group.

    A rank whose peer is lost has threads in its process group that still wait for it. Closing the interpreter under
    them may abort the process, and a launcher would see SIGABRT instead of the exit code.

    Args:
        code: As of :class:`SystemExit`.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(code)
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _join(world: int, device: str, shard: int | None, timeout: float) -> Ranks:
    """Meet the other ranks."""
    rank, local_rank = _number("RANK", None), _number("LOCAL_RANK", 0)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(name, None, "is not set, but WORLD_SIZE is", "start with torchrun, or set it")
    if not 0 <= rank < world:
        raise InputError("RANK", rank, f"is not below WORLD_SIZE = {world}", "start with torchrun")
    import torch
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=datetime.timedelta(seconds=JOIN_S)))
    # The port outlives a restart by torchrun: addresses of the attempt before must not be found again.
    store = dist.PrefixStore(f"attempt{restarts()}", store)
    store.set(f"here/{rank}", "yes")
    for other in range(world):
        try:
            store.wait([f"here/{other}"], datetime.timedelta(seconds=JOIN_S))
        except RuntimeError:
            rule = f"has not come within {JOIN_S} s"
            raise InputError("rank", other, rule, "look at its machine and its output") from None
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=timeout),
    )  # fmt: skip
    return Ranks(rank=rank, world=world, local_rank=local_rank, store=store, shard=shard, timeout=timeout)


def _number(name: str, default: int | None) -> int:
    """A number of the environment."""
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdigit():
        rule = "is not a number" if text else "is not set, but WORLD_SIZE is"
        raise InputError(name, text or None, rule, "start with torchrun, or unset WORLD_SIZE")
    return int(text)
