"""A model of which each rank holds its rows of every tensor: torch's fully_shard, a group a block and one for the rest.

Blocks are gathered for their forward and backward pass and dropped after each; embeddings, norm and head stay from the
forward to the backward pass. A model is made empty, at its full depth: fully_shard cannot add a block later, so growth
makes another model and moves rows (:mod:`latebloom.train.growth.shards`), which needs no communication.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape, outer_tensors
from latebloom.train.config import Activations, DType
from latebloom.train.model.transformer import GPT2, Block, init_block_, init_tensor_
from latebloom.train.ranks import Ranks

__all__ = ["OwnRows", "empty_block", "init_rows_", "local", "sharded_model"]


def local(tensor: Tensor) -> Tensor:
    """This rank's rows of a sharded tensor.

    Args:
        tensor: A DTensor, or one that is not sharded, which is returned.
    """
    return getattr(tensor, "_local_tensor", tensor)


def sharded_model(
    shape: GPT2Shape,
    depth: int,
    *,
    ranks: Ranks,
    device: torch.device,
    activations: Activations = "keep",
    gather: DType = "float32",
    compile_backend: str | None = None,
) -> GPT2:
    """A model without values, of which each tensor lies in rows on the ranks.

    Args:
        shape: Of the model.
        depth: Its blocks.
        ranks: Among which it is divided.
        device: Of this rank.
        activations: What blocks keep.
        gather: Of the blocks' weights while they are gathered; gradients are summed in float32. Embeddings, last norm
            and head are gathered in float32 always, as the residual stream has their dtype.
        compile_backend: Compiles each block, if given.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = ranks.mesh(device.type)
    precision = MixedPrecisionPolicy()
    if gather == "bfloat16":
        precision = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    with torch.device("meta"):
        model = GPT2(shape, depth)
    for block in model.blocks:
        block.activations = activations  # type: ignore[assignment]  # torch types attributes as tensors
        if compile_backend is not None:
            block.compile(backend=compile_backend, dynamic=False)
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=precision)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for method in ("loss", "next_logits"):
        register_fsdp_forward_method(model, method)
    return model.to_empty(device=device)


def empty_block(shape: GPT2Shape, device: torch.device | str) -> Block:
    """A whole block without values.

    Args:
        shape: Of its model.
        device: Where it lies.
    """
    with torch.device("meta"):
        block = Block(shape)
    return block.to_empty(device=device)


@torch.no_grad()
def init_rows_(model: GPT2, *, ranks: Ranks, seed: int) -> None:
    """What :func:`latebloom.train.model.transformer.init_gpt2_` draws, in rows.

    Each tensor is drawn whole, as at any number of ranks and on the CPU as there, one block at a time.

    Args:
        model: From :func:`sharded_model`.
        ranks: Among which it is divided.
        seed: Of the initialisation.
    """
    parameters = dict(model.named_parameters())
    for tensor in outer_tensors(model.shape):
        whole = torch.empty(tensor.shape)
        init_tensor_(whole, tensor, depth=model.depth, seed=seed, name=tensor.name.removesuffix(".weight"))
        local(parameters[tensor.name]).copy_(whole[ranks.rows(len(whole))])
    for index in range(model.depth):
        block = empty_block(model.shape, "cpu")
        init_block_(block, depth=model.depth, seed=seed, name=f"blocks.{index}")
        for key, whole in block.named_parameters():
            local(parameters[f"blocks.{index}.{key}"]).copy_(whole[ranks.rows(len(whole))])


class OwnRows:
    """This rank's rows of a sharded model as ordinary parameters, which any optimizer updates in place.

    Args:
        model: From :func:`sharded_model`.

    ``parameters`` holds them by name.
    """

    def __init__(self, model: GPT2):
        self._model = model
        self._sharded = dict(model.named_parameters())
        self.parameters = {name: nn.Parameter(local(p.detach())) for name, p in self._sharded.items()}

    def take_gradients(self) -> None:
        """Take what the backward pass left; fully_shard may have moved the rows, too, when it first ran."""
        for name, p in self._sharded.items():
            mine = self.parameters[name]
            mine.data = local(p.data)
            mine.grad = None if p.grad is None else local(p.grad)

    def drop_gradients(self) -> None:
        """Free the gradients."""
        for name, p in self._sharded.items():
            p.grad = self.parameters[name].grad = None

    def end_pass(self) -> None:
        """Drop what a forward pass gathered that no backward pass follows."""
        self._model.reshard()  # type: ignore[operator]  # fully_shard gives it

    def values(self) -> dict[str, Tensor]:
        """The rows by name."""
        return {name: local(p.detach()) for name, p in self._sharded.items()}

    @torch.no_grad()
    def fill(self, values: dict[str, Tensor]) -> None:
        """Copy this rank's rows of some tensors.

        Args:
            values: By name.
        """
        for name, value in values.items():
            local(self._sharded[name]).copy_(value)
