"""Updates of whole tensors where each rank holds rows of them: every tensor has one owner, which computes its update.

A polar factor or a norm needs the whole tensor. Rows of many tensors travel to their owners in one message, updates
return in another: two exchanges for a bucket of tensors, whatever their number and shapes, and no rank repeats what
another does. Owners are chosen by cost, the costliest tensor first, each to the rank with the least so far. What an
owner computes does not depend on who it is: updates are those of a single process bit for bit.

Where groups of ranks hold replicas, owners are chosen among all ranks, too: an owner gets the rows of its own group,
and sends the update to every group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from latebloom.theory.architectures.tensors import TensorSpec
from latebloom.train.ranks import Ranks

__all__ = ["Owners", "matrix_shape"]

QUINTICS = 5  # of the polar factor: they give the ratio of costs between shapes


class Owners:
    """Which rank computes the update of which tensor.

    Args:
        tensors: What each whole tensor is, by its name in the model.
        ranks: Among which rows are divided.

    ``owner`` is the rank by name, ``loads`` the multiply-adds of each rank.
    """

    def __init__(self, tensors: dict[str, TensorSpec], ranks: Ranks):
        self.tensors, self.ranks = tensors, ranks
        self.costs = {name: _cost(tensor) for name, tensor in tensors.items()}
        self.loads = [0.0] * ranks.world
        self.owner: dict[str, int] = {}
        for name in sorted(tensors, key=lambda name: (-self.costs[name], name)):
            rank = self.loads.index(min(self.loads))
            self.owner[name] = rank
            self.loads[rank] += self.costs[name]

    def buckets(self, names: Sequence[str], elements: int) -> Iterator[list[str]]:
        """``names`` in parts, each of at most ``elements`` numbers an owner, or of one tensor that is larger.

        Args:
            names: Of tensors.
            elements: Bound, which bounds the memory of an exchange.
        """
        queues: list[list[str]] = [[] for _ in range(self.ranks.world)]
        for name in names:
            queues[self.owner[name]].append(name)
        while any(queues):
            bucket = []
            for queue in queues:
                held = 0
                while queue and (held == 0 or held + self.tensors[queue[0]].size <= elements):
                    held += self.tensors[queue[0]].size
                    bucket.append(queue.pop(0))
            yield bucket

    def updates(
        self, rows: dict[str, Tensor], compute: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """This rank's rows of ``compute`` of the whole tensors.

        Args:
            rows: This rank's rows, by name; of one dtype; the same names on every rank.
            compute: Whole results, of the tensors' shapes, by name.
        """
        if not rows:
            return {}
        world, me = range(self.ranks.world), self.ranks.rank
        group = range(self.ranks.replica * self.ranks.shard, (self.ranks.replica + 1) * self.ranks.shard)
        by_owner = [[name for name in sorted(rows) if self.owner[name] == rank] for rank in world]
        mine = by_owner[me]
        given = [rows[name].reshape(-1) for rank in group for name in by_owner[rank]]
        sent = torch.cat(given) if given else next(iter(rows.values())).new_empty(0)
        held_sizes = [sum(rows[name].numel() for name in names) for names in by_owner]
        mine_sizes = [sum(self._numel(name, rank) for name in mine) for rank in world]
        sent_sizes, received_sizes = ([n * (rank in group) for rank, n in enumerate(sizes)]
                                      for sizes in (held_sizes, mine_sizes))  # fmt: skip
        received = self.ranks.exchange(sent, sent_sizes, received_sizes)
        parts_of_group = received.split([received_sizes[rank] for rank in group])
        pieces = [
            dict(zip(mine, part.split([self._numel(name, rank) for name in mine]), strict=True)) if mine else {}
            for rank, part in zip(group, parts_of_group, strict=True)
        ]
        wholes = {name: torch.cat([part[name] for part in pieces]).view(self.tensors[name].shape) for name in mine}
        computed = {name: whole.to(sent.dtype) for name, whole in compute(wholes).items()}
        returned = [computed[name][self._slice(name, rank)].reshape(-1) for rank in world for name in mine]
        answer = torch.cat(returned) if returned else sent.new_empty(0)
        answers = self.ranks.exchange(answer, mine_sizes, held_sizes)
        ordered = [name for names in by_owner for name in names]
        parts = answers.split([rows[name].numel() for name in ordered])
        return {name: part.view(rows[name].shape) for name, part in zip(ordered, parts, strict=True)}

    def _slice(self, name: str, rank: int) -> slice:
        return self.ranks.rows(self.tensors[name].shape[0], rank)

    def _numel(self, name: str, rank: int) -> int:
        rows = self._slice(name, rank)
        return (rows.stop - rows.start) * math.prod(self.tensors[name].shape[1:])


def _cost(tensor: TensorSpec) -> float:
    """Multiply-adds of a tensor's polar factors; the elements of a vector."""
    if len(tensor.shape) < 2:
        return float(tensor.size)
    small, large = sorted(matrix_shape(tensor))
    return float(tensor.matrices * QUINTICS * (2 * small**2 * large + small**3))


def matrix_shape(tensor: TensorSpec) -> tuple[int, int]:
    """(rows, columns) of each matrix that a tensor holds.

    Args:
        tensor: With two axes or three.
    """
    rows = tensor.shape[1] if len(tensor.shape) == 3 else tensor.shape[0] // tensor.matrices
    return rows, tensor.shape[-1]
