"""Wrappers around a model that grows: what they know of its parameters must be learnt anew.

``DistributedDataParallel`` reduces the gradients of the parameters that it was made with; those of new blocks would
differ between processes without a word. It is made anew in place, so that whoever holds it goes on with it. Trainers
hand their callbacks the model inside, so that its wrapper is looked for among all objects alive.
"""

from __future__ import annotations

import gc
import inspect

import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from latebloom.theory.errors import InputError

__all__ = ["data_parallel_around", "unwrapped", "wrap_again"]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that ``DistributedDataParallel``, ``torch.compile`` and averages of weights wrap.

    Args:
        model: Wrapped or not.
    """
    while True:
        if isinstance(model, DistributedDataParallel | torch.optim.swa_utils.AveragedModel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def data_parallel_around(model: nn.Module, *, caller_syncs: bool) -> list[DistributedDataParallel]:
    """The ``DistributedDataParallel`` wrappers that reduce gradients of ``model``.

    Args:
        model: Not wrapped.
        caller_syncs: Whether the caller sees to it that processes agree.

    Raises:
        InputError: if several processes are up, there is no such wrapper, and nobody said who reduces gradients.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return []
    # type(), not isinstance(): some objects alive raise when asked for their class
    alive = [o for o in gc.get_objects() if issubclass(type(o), DistributedDataParallel) and "module" in o._modules]
    around = [ddp for ddp in alive if any(m is model for m in ddp.module.modules())]
    world = torch.distributed.get_world_size()
    if world > 1 and not around and not caller_syncs:
        rule = "is one of several processes, and nothing is known to reduce the gradients of new blocks"
        fix = (
            "grow the DistributedDataParallel model, or wrap it anew or reduce them yourself and say caller_syncs=True"
        )
        raise InputError("model", f"{type(model).__name__} in {world} processes", rule, fix)
    return around


def wrap_again(ddp: DistributedDataParallel) -> None:
    """Make a wrapper anew in place, with the same settings; rank 0's parameters go to all ranks.

    Args:
        ddp: Whose module has grown.
    """
    kept = {name: vars(ddp)[name] for name in ("_forward_hooks", "_forward_pre_hooks", "training")}
    hooks = list(ddp._comm_hooks)
    # torch 2.13 renamed it, and warns of the old name
    asked = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in asked else "broadcast_buffers"
    settings = {
        "device_ids": ddp.device_ids, "output_device": ddp.output_device, "dim": ddp.dim,
        buffers: ddp.broadcast_buffers, "process_group": ddp.process_group,
        "bucket_cap_mb": None if ddp.bucket_bytes_cap_default else ddp.bucket_bytes_cap / 2**20,
        "find_unused_parameters": ddp.find_unused_parameters, "static_graph": ddp.static_graph,
        "gradient_as_bucket_view": ddp.gradient_as_bucket_view, "mixed_precision": ddp.mixed_precision,
    }  # fmt: skip
    for p in ddp.module.parameters():
        p.grad = None  # views into buckets that are gone
    DistributedDataParallel.__init__(ddp, ddp.module, **settings)
    vars(ddp).update(kept)
    for hook, state in hooks:
        ddp.register_comm_hook(state, hook)
