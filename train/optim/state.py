"""An optimizer's state by the names of parameters: what checkpoints hold and what growth carries over."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["load_named_state", "named_state"]


def named_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Each parameter's state by its name; a parameter that was never updated has an empty one, said explicitly.

    Args:
        optimizer: Over named parameters.
    """
    state = {}
    for group in optimizer.param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            held = optimizer.state.get(p, {})
            state[name] = {key: value for key, value in held.items() if isinstance(value, Tensor)}
    return state


def load_named_state(optimizer: torch.optim.Optimizer, state: dict[str, dict[str, Tensor]]) -> None:
    """Give each parameter the state that stands under its name; names that are absent keep none.

    Args:
        optimizer: Over named parameters.
        state: From :func:`named_state`.
    """
    for group in optimizer.param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            held = state.get(name, {})
            optimizer.state.pop(p, None)
            if held:
                on_device = group.get("fused") or not held.keys() & {"step"}
                optimizer.state[p] = {
                    key: value.clone().to(p.device) if key != "step" or on_device else value.clone()
                    for key, value in held.items()
                }
