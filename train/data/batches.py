"""Which tokens step k sees: a pure function of (seed, k), and a thread that has them ready.

Windows of ``context`` tokens come in an order drawn anew every epoch. The batch of a step does not depend on
micro-batches, restarts, the number of processes, or whether it was made ahead of time.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.theory.errors import InputError
from latebloom.train.data.shards import SPLITS, Shards

__all__ = ["Batches", "Prefetch"]


class Batches:
    """Windows of ``context`` + 1 tokens: train batches by step, and a fixed set for validation.

    Args:
        shards: Opened data.
        shape: Of the model: its context and vocabulary.
        batch_tokens: Of each update.
        steps: Updates that are to be made.
        seed: Of the order.
        repeat: Allow more than one epoch.
        rank: Whose sequences of each train batch are cut, an equal share in order.
        world: How many ranks share a batch.

    Raises:
        InputError: if there are too few tokens for a batch, for validation, or for all steps without repeating, or
            ranks cannot share a batch equally.
    """

    def __init__(
        self,
        shards: Shards,
        shape: GPT2Shape,
        *,
        batch_tokens: int,
        steps: int,
        seed: int,
        repeat: bool = False,
        rank: int = 0,
        world: int = 1,
    ):
        self.context, self.vocab_size = shape.context, shape.vocab_size
        self.per_step = batch_tokens // self.context
        if self.per_step % world:
            rule = f"is not a multiple of {world} ranks x {self.context} tokens"
            raise InputError("batch_tokens", batch_tokens, rule, "start another number of ranks, or plan another batch")
        self.share = slice(rank * self.per_step // world, (rank + 1) * self.per_step // world)
        self.seed = seed
        self.folder = shards.folder
        self.data_digest = shards.digest
        self.splits = {"train": shards.train, "val": shards.val}
        self.windows = {split: self._starts(split) for split in SPLITS}
        have, need = len(self.windows["train"]), self.per_step
        if have < need:
            rule = f"has {have} windows of {self.context} tokens, fewer than one batch of {need}"
            raise InputError("--data", str(shards.folder), rule, "give more text or a smaller batch")
        if not len(self.windows["val"]):
            rule = f"has no validation window of {self.context} tokens"
            raise InputError("--data", str(shards.folder), rule, "give more text or a smaller context")
        if shards.vocab_size and shards.vocab_size > self.vocab_size:
            rule = f"is smaller than the data's vocabulary of {shards.vocab_size}"
            raise InputError("vocab_size", self.vocab_size, rule, "make the plan for this data")
        epochs = steps * need / have
        if epochs > 1 and not repeat:
            rule = f"has {have * self.context:,} tokens, the plan needs {steps * batch_tokens:,}"
            fix = f"give more text, or allow {epochs:.1f} epochs with --repeat-data"
            raise InputError("--data", str(shards.folder), rule, fix)

    def train(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of this rank in update ``step``, int64, (sequences, context).

        Args:
            step: Updates done before it.
        """
        first = step * self.per_step
        positions = np.arange(first, first + self.per_step)[self.share]
        epochs, places = np.divmod(positions, len(self.windows["train"]))
        rows = [self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)]
        return self._cut("train", self.windows["train"][rows], step)

    def val(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of a fixed set of validation windows, spread evenly over the split.

        Args:
            tokens: About how many.
        """
        starts = self.windows["val"]
        count = max(1, min(len(starts), tokens // self.context))
        return self._cut("val", starts[np.linspace(0, len(starts) - 1, count).round().astype(int)], None)

    def _starts(self, split: str) -> np.ndarray:
        """(shard, offset) of every window."""
        pairs = [
            np.column_stack([np.full(n, i), np.arange(n) * self.context])
            for i, tokens in enumerate(self.splits[split])
            if (n := max(0, (len(tokens) - 1) // self.context)) > 0
        ]
        return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=int)

    @lru_cache(maxsize=2)  # noqa: B019  one object a run, two epochs at a boundary
    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.windows["train"]))

    def _cut(self, split: str, starts: np.ndarray, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        windows = np.stack([self.splits[split][i][o : o + self.context + 1] for i, o in starts]).astype(np.int64)
        if windows.max() >= self.vocab_size:
            where = f"{self.folder}, {split} split" + (f", step {step}" if step is not None else "")
            rule = f"is not in the model's vocabulary of {self.vocab_size} ({where})"
            raise InputError("token id", int(windows.max()), rule, "use the tokenizer that the plan was made for")
        return windows[:, :-1], windows[:, 1:]


class Prefetch:
    """The train batches of ``batches``, the next one made by a thread while the device is busy with this one.

    What it returns is what ``batches.train`` returns, whatever order steps are asked for in; an error of the thread
    is raised where its batch is asked for.

    Args:
        batches: Where they come from.
    """

    def __init__(self, batches: Batches):
        self.batches = batches
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._next: tuple[int, Future] | None = None

    def train(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of update ``step``.

        Args:
            step: Updates done before it.
        """
        ready = self._next[1] if self._next and self._next[0] == step else None
        batch = ready.result() if ready else self.batches.train(step)
        self._next = step + 1, self._pool.submit(self.batches.train, step + 1)
        return batch

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
