"""One rank among many that do not exist: torch's fake process group, fake tensors, and an account of every byte."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latebloom.theory.plan import Plan
from latebloom.train.config import Activations, DType
from latebloom.train.model.sharding import local, sharded_model
from latebloom.train.ranks import Ranks

__all__ = ["Bytes", "fake_rank", "peak_bytes"]


class Bytes(TorchDispatchMode):
    """Bytes of all storages that operations return, alive, and the most there were; fully_shard's resizes included.

    torch's MemTracker says the same, in a time quadratic in the depth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __enter__(self) -> Bytes:
        self._resize = torch.UntypedStorage.resize_

        def resize_(storage: torch.UntypedStorage, size: int) -> Any:
            result = self._resize(storage, size)
            if storage._cdata in self._sizes:
                self._count(storage._cdata, size)
            return result

        torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign,assignment]
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind.__name__ == "DTensor" for kind in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(local(leaf))
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            weakref.finalize(storage, self._free, storage._cdata)
        self._count(storage._cdata, storage.size())

    def _count(self, key: int, size: int) -> None:
        self.now += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


@contextlib.contextmanager
def fake_rank(world: int, shard: int | None = None) -> Iterator[Ranks]:
    """Rank 0 of ``world`` that talks to nobody; what others would send is not there."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
        try:
            ranks = Ranks(rank=0, world=world, shard=shard)
            ranks.mesh("cpu")  # before tensors are fake: it reads numbers
            yield ranks
        finally:
            dist.destroy_process_group()


def peak_bytes(
    plan: Plan,
    world: int,
    *,
    sequences: int,
    activations: Activations,
    dtype: DType,
    gather: DType = "float32",
    shard: int | None = None,
) -> int:
    """The most that a rank holds in the second of two micro-batches at full depth, with a momentum a weight."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = torch.device("cpu")
    with fake_rank(world, shard) as ranks, FakeTensorMode(), Bytes() as account:
        model = sharded_model(
            plan.model, plan.depth, ranks=ranks, device=device, activations=activations, gather=gather
        )
        momenta = [torch.zeros_like(local(p.detach())) for p in model.parameters()]
        ids = torch.zeros(sequences, plan.model.context, dtype=torch.long)
        for last in (False, True):
            account.peak = account.now
            if ranks.replicas > 1:
                model.set_requires_all_reduce(last)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16", cache_enabled=False):
                loss = model.loss(ids, ids)
            loss.backward()
            del loss
        assert momenta
        return account.peak
