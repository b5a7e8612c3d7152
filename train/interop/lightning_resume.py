"""Lightning goes on within an epoch where it was: random numbers of every process, and the place in the loader.

Lightning's checkpoints hold neither. Resumed within an epoch it takes the first batches again, in another order if they
are shuffled, and draws other numbers for dropout and for new blocks. What is kept here beside its own state: the random
numbers of each process when the loader was begun, which give its order, and those when the checkpoint was written. On
resume the loader is begun with the first, its batches so far are taken and left, and training goes on with the second.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from latebloom.theory.errors import InputError

__all__ = ["LoaderPlace"]

Numbers = dict[str, Any]  # random numbers of one process, as plain data and tensors


class LoaderPlace:
    """Random numbers and the place in the training loader of a Lightning trainer, to be saved and restored.

    Loaders that keep their own place (``state_dict`` and ``load_state_dict``, such as torchdata's) are left to
    Lightning. Batches that are drawn from a generator of the loader's or of its sampler's are restored with it. What is
    no function of these is not: a stream that is read once, and what persistent workers draw beyond an epoch.
    """

    def __init__(self) -> None:
        self._began: Numbers | None = None  # when the loader was begun
        self._restored: dict[str, Any] | None = None
        self._begun_early = False  # by Lightning, before its first hook

    def state(self, trainer: Trainer) -> dict[str, Any]:
        """What is saved: to be called by every process.

        Args:
            trainer: In training.
        """
        ours = {"began": self._began, "now": _numbers(trainer)}
        held: list[Any] = [ours]
        if trainer.world_size > 1:
            held = [None] * trainer.world_size
            torch.distributed.all_gather_object(held, ours)
        return {"batches": trainer.fit_loop.epoch_loop.batch_progress.current.ready, "processes": held}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on there once training starts.

        Args:
            state: From :meth:`state`.
        """
        self._restored = state

    def training_starts(self, trainer: Trainer) -> None:
        """Begin the loader where it was, if training is resumed.

        Args:
            trainer: Whose loader Lightning has begun.

        Raises:
            InputError: if another number of processes saved the checkpoint.
        """
        self._begun_early = True
        state, self._restored = self._restored, None
        if state is None:
            return
        if len(state["processes"]) != trainer.world_size:
            rule = f"is not the {len(state['processes'])} processes that saved the checkpoint: each has its own data"
            raise InputError("world_size", trainer.world_size, rule, "resume with as many processes")
        ours, loop = state["processes"][trainer.global_rank], trainer.fit_loop
        progress = loop.epoch_loop.batch_progress.current
        if ours["began"] is None or not (
            loop.restarted_mid_epoch and progress.completed < trainer.num_training_batches
        ):
            _set_numbers(trainer, ours["now"])
            _finish(trainer)
            return
        over = state["batches"] >= trainer.num_training_batches  # saved after the last batch: Lightning begins anew
        self._began = ours["now"] if over else ours["began"]
        _set_numbers(trainer, self._began)
        epochs: Any = loop.epoch_progress.current
        for sampler in _samplers(trainer):
            if hasattr(sampler, "set_epoch"):  # Lightning does so after this
                sampler.set_epoch(epochs.processed)
        self._begin(trainer)
        if not over:
            if not _keep_their_place(trainer):
                _leave_out(trainer, state["batches"])
            _set_numbers(trainer, ours["now"])

    def epoch_starts(self, trainer: Trainer) -> None:
        """Remember the random numbers with which the loader is begun.

        Args:
            trainer: At the start of an epoch.
        """
        self._began = _numbers(trainer)
        loop = trainer.fit_loop
        begins_itself = trainer.current_epoch > 0 and not loop.is_resuming and not loop.epoch_loop.restarting
        if self._begun_early and not begins_itself:
            self._begin(trainer)

    def _begin(self, trainer: Trainer) -> None:
        self._begun_early = False
        if not _keep_their_place(trainer):
            fetcher: Any = trainer.fit_loop._data_fetcher
            iter(fetcher)


def _finish(trainer: Trainer) -> None:
    """Let a finished epoch have no more batches: Lightning would train on one more of it where nothing is validated."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    fetcher.iterator = iter(())
    getattr(fetcher, "batches", []).clear()


def _leave_out(trainer: Trainer, count: int) -> None:
    """Take ``count`` batches from the loader; Lightning counts them itself."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    for _ in range(count):
        next(fetcher)
    fetcher.fetched -= count


def _loaders(trainer: Trainer) -> list[Any]:
    fetcher = trainer.fit_loop._data_fetcher
    return [] if fetcher is None else fetcher.combined_loader.flattened


def _keep_their_place(trainer: Trainer) -> bool:
    return all(hasattr(loader, "load_state_dict") for loader in _loaders(trainer))


def _samplers(trainer: Trainer) -> list[Any]:
    found = []
    for loader in _loaders(trainer):
        batches = getattr(loader, "batch_sampler", None)
        found += [getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)]
    return found


def _generators(trainer: Trainer) -> list[torch.Generator]:
    """Of loaders and their samplers, each once."""
    held = [getattr(holder, "generator", None) for holder in (*_loaders(trainer), *_samplers(trainer))]
    return list({id(generator): generator for generator in held if isinstance(generator, torch.Generator)}.values())


def _numbers(trainer: Trainer) -> Numbers:
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], place, has_gauss, gauss),
        "generators": [generator.get_state() for generator in _generators(trainer)],
    }


def _set_numbers(trainer: Trainer, numbers: Numbers) -> None:
    torch.set_rng_state(numbers["torch"])
    if torch.cuda.is_available() and len(numbers["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(numbers["cuda"])
    version, words, gauss = numbers["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(numbers["numpy"])  # noqa: NPY002
    for generator, state in zip(_generators(trainer), numbers["generators"], strict=False):
        generator.set_state(state)
