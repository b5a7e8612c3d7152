"""GPT-2 at any depth, zero included: the skeleton that the families of :mod:`latebloom.train.model.registry` fill.

Zero layers: token and position embeddings, final norm, and a head that is the token table or a matrix of its own. Each
block adds attention and an MLP, each after a norm; blocks are identical in code, so that depth is data.

Shapes: B batch, T tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape, block_tensors, outer_tensors, tensor_of
from latebloom.theory.architectures.tensors import TensorSpec
from latebloom.train.config import LOGITS_AT_ONCE, Activations
from latebloom.train.model.activations import checkpointed
from latebloom.train.model.memory import has_fused_loss
from latebloom.train.model.registry import modules_of

__all__ = ["GPT2", "Block", "generator", "head_loss", "init_block_", "init_gpt2_", "init_tensor_"]

FUSED = has_fused_loss()


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        shape: Says the family, whose modules the block is filled with.
    """

    activations: Activations = "keep"  # for the backward pass; the loop sets it

    def __init__(self, shape: GPT2Shape):
        super().__init__()
        self.shape = shape
        self.products = sum(tensor.kind == "hidden" for tensor in block_tensors(shape))  # a tensor, a product
        modules = modules_of(shape)
        self.norm1 = modules.norm(shape)
        self.attention = modules.attention(shape)
        self.norm2 = modules.norm(shape)
        self.mlp = modules.mlp(shape)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return checkpointed(self.branches, x_BTD, self.activations, products=self.products)

    def branches(self, x_BTD: Tensor) -> Tensor:
        """The block itself.

        Args:
            x_BTD: The residual stream.
        """
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD))
        return x_BTD + self.mlp(self.norm2(x_BTD))


class GPT2(nn.Module):
    """GPT-2, or another family's model, of ``depth`` blocks.

    Args:
        shape: Width, heads, vocabulary, context.
        depth: Number of blocks, >= 0.
        seed: Of the initialisation, see :func:`init_gpt2_`.
    """

    replayed: tuple[int, ...] | None = None  # blocks passed, where some are passed again; the loop sets it

    def __init__(self, shape: GPT2Shape, depth: int, *, seed: int = 0):
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width) if has_positions(shape) else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(depth))
        self.norm = modules_of(shape).norm(shape)
        self.head = None if shape.tied_head else nn.Linear(shape.width, shape.vocab_size, bias=False)
        if not self.tokens.weight.is_meta:
            init_gpt2_(self, seed=seed)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def head_weight(self) -> Tensor:
        """Matrix of the head, (V, D): the token table's where they are tied."""
        return self.tokens.weight if self.head is None else self.head.weight

    @property
    def passed(self) -> tuple[int, ...]:
        """Numbers of the blocks that a token passes, in order."""
        return self.replayed or tuple(range(self.depth))

    def features(self, ids_BT: Tensor) -> Tensor:
        """What the head sees, (B, T, D).

        Args:
            ids_BT: Tokens.
        """
        x_BTD = self.tokens(ids_BT)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions.weight[: ids_BT.shape[1]]
        for index in self.passed:
            x_BTD = self.blocks[index](x_BTD)
        return self.norm(x_BTD)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, T, V).

        Args:
            ids_BT: Tokens.
        """
        return F.linear(self.features(ids_BT), self.head_weight)

    def next_logits(self, ids_BT: Tensor) -> Tensor:
        """Logits of the token after the last one, (B, V).

        Args:
            ids_BT: Tokens.
        """
        return F.linear(self.features(ids_BT)[:, -1], self.head_weight)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy of ``targets_BT``, nats per token.

        Args:
            ids_BT: Tokens.
            targets_BT: The next ones.
        """
        return head_loss(self.features(ids_BT).flatten(0, 1), self.head_weight, targets_BT.flatten())


def head_loss(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy of the head; in float32 by torch's fused loss, which never holds more than some logits.

    At GPT-2's vocabulary it takes half the time of the plain one on a CPU. Below float32 it returns the loss itself
    rounded to the low precision, so that is left to the plain one, as is torch before 2.13.

    Args:
        x_ND: Features.
        weight_VD: Head.
        targets_N: Token numbers.
    """
    n, width = x_ND.shape
    full_precision = x_ND.dtype == torch.float32 and not torch.is_autocast_enabled(x_ND.device.type)
    if FUSED and full_precision and n >= width and len(weight_VD) > width:
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=max(1, min(n, LOGITS_AT_ONCE // len(weight_VD))))
        return F.linear_cross_entropy(x_ND, weight_VD, targets_N, options=options)
    return F.cross_entropy(F.linear(x_ND, weight_VD).float(), targets_N)


def has_positions(shape: GPT2Shape) -> bool:
    """Whether the family has a table of positions; else they are in its attention."""
    return any(tensor.name == "positions.weight" for tensor in outer_tensors(shape))


def init_gpt2_(model: GPT2, *, seed: int) -> None:
    """Initialise in place, each tensor from a generator of its own, so that the trunk does not depend on the depth.

    GPT-2's scheme: normal, standard deviation 0.02 for embeddings and head and 0.02 sqrt(768/D) for matrices (GPT-2's
    at 124M, and a spectral norm that does not depend on the width), zero biases; the last matrix of each residual
    branch is divided by sqrt(2 L). Norms begin as the identity.

    Args:
        model: To be initialised.
        seed: Of the initialisation.
    """
    for tensor in outer_tensors(model.shape):
        parameter, draws = model.get_parameter(tensor.name), tensor.name.removesuffix(".weight")
        init_tensor_(parameter, tensor, depth=model.depth, seed=seed, name=draws)
    for index, block in enumerate(model.blocks):
        init_block_(block, depth=model.depth, seed=seed, name=f"blocks.{index}")


def init_block_(block: nn.Module, *, depth: int, seed: int, name: str) -> None:
    """Initialise one block of a model of ``depth`` as :func:`init_gpt2_` does.

    Args:
        block: To be initialised.
        depth: Blocks of the model.
        seed: Of the initialisation.
        name: In the model, such as ``blocks.3``.

    Raises:
        InputError: if the family does not state one of its tensors.
    """
    assert isinstance(block, Block)
    for key, parameter in block.named_parameters():
        tensor = tensor_of(block.shape, f"blocks.0.{key}")
        init_tensor_(parameter, tensor, depth=depth, seed=seed, name=f"{name}.{key}")


@torch.no_grad()
def init_tensor_(parameter: Tensor, tensor: TensorSpec, *, depth: int, seed: int, name: str) -> None:
    """Initialise one tensor of a model of ``depth`` as :func:`init_gpt2_` does.

    Args:
        parameter: To be initialised, whole.
        tensor: What the family states of it.
        depth: Blocks of the model.
        seed: Of the initialisation.
        name: By which it draws.
    """
    if tensor.initial is not None:
        parameter.fill_(tensor.initial)
        return
    std = 0.02
    if tensor.kind == "hidden":
        std *= math.sqrt(768 / min(tensor.shape[-2:]))
    if tensor.ends_branch:
        std /= math.sqrt(2 * max(depth, 1))
    parameter.normal_(0.0, std, generator=generator(seed, name, parameter.device))


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on ``seed`` and ``name`` only.

    Args:
        seed: Of the initialisation.
        name: Of the tensor.
        device: Where it draws.
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little") >> 1
    return torch.Generator(device).manual_seed(number)
