"""Several ranks on this machine for tests: processes of a fork server that has torch loaded, which talk by gloo."""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["free_port", "on_ranks"]

# torch._dynamo (models on the meta device) and scipy.special (polar factors) take 1.3 of a rank's 1.8 s of processor.
PRELOADED = [
    "torch", "torch.distributed.fsdp", "torch._dynamo", "torch.nn.modules.linear_cross_entropy", "safetensors.torch",
    "scipy.special", "latebloom.train.run.loop",
]  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_ranks(function: Callable[..., Any], world: int, *args: Any, seconds: float = 60, **environment: str) -> list:
    """What ``function(*args)`` returned or raised on each of ``world`` ranks, in their order.

    Of a rank that was killed, its exit code. SystemExit is returned as itself.

    Args:
        function: Of a module; what it returns is pickled.
        world: Number of ranks.
        args: Its arguments.
        seconds: After which a rank is given up.
        environment: Variables besides those of a launcher.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port, processes, pipes = free_port(), [], []
    for rank in range(world):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ours, theirs = context.Pipe(duplex=False)
        variables = {name: str(value) for name, value in names.items()} | environment
        process = context.Process(target=_rank, args=(function, args, variables, theirs))
        process.start()
        theirs.close()
        processes.append(process)
        pipes.append(ours)
    results = []
    for process, pipe in zip(processes, pipes, strict=True):
        try:
            results.append(pipe.recv() if pipe.poll(seconds) else TimeoutError("a rank did not end"))
        except EOFError:  # it was killed
            process.join()
            results.append(process.exitcode)
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    return results


def _rank(function: Callable[..., Any], args: tuple, variables: dict[str, str], pipe: Any) -> None:
    import torch

    gc.freeze()  # what was loaded before the fork stays
    os.fsync = lambda handle: None  # as in conftest.py
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        result = function(*args)
    except SystemExit as error:
        result = error
    except Exception as error:
        result = error
        if not type(error).__module__.startswith("latebloom"):
            traceback.print_exc()
    pipe.send(result)
    pipe.close()
