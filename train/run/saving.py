"""Checkpoints that are written while training goes on: a copy of one moment, a thread, one at a time.

The thread of each rank talks to those of the others by a process group of its own, so that what it says never comes
between the messages of an update. A checkpoint that cannot be written stops the run after the step in which that is
known, on all ranks after the same.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

from torch import Tensor

from latebloom.train.ranks import Ranks

__all__ = ["Saver", "snapshot"]


class Saver:
    """Runs one writing of a checkpoint beside the training, or none.

    Args:
        ranks: That train and write together.
        behind: Whether anything will be written beside the training; process groups are made only then.
    """

    def __init__(self, ranks: Ranks, *, behind: bool):
        self.ranks, self.behind = ranks, behind
        self.own_ranks = ranks.beside("checkpoints") if behind else ranks
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, write: Callable[[Ranks], object]) -> None:
        """Write in a thread, once the writing before is done.

        Args:
            write: Writes a copy of what there is now; gets the ranks to talk to.

        Raises:
            InputError: why the writing before failed.
            NonFiniteWeights: likewise.
        """
        self.wait()

        def run() -> None:
            try:
                write(self.own_ranks)
            except BaseException as failure:
                self._failure = failure
                self.ranks.ask_to_stop(signal.SIGTERM)  # all ranks come to wait() after the same step

        self._thread = threading.Thread(target=run, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            InputError: why it failed.
            NonFiniteWeights: likewise.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let what is being written be finished; a run that ends by an error of its own reports that one."""
        with contextlib.suppress(Exception, SystemExit):
            self.wait()


def snapshot(
    model: dict[str, Tensor], optimizer: dict[str, dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Copies in the host's memory, which later updates do not change.

    Args:
        model: Weights by name.
        optimizer: Optimizer state by name.
    """

    def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    return copied(model), {name: copied(held) for name, held in optimizer.items()}
