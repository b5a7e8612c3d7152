r"""Optimizers: Muon-NSGD, Muon with AdamW, torch's AdamW and SGD behind the same functions, state by parameter name.

Muon-NSGD (arXiv 2511.04981): one learning rate eta for everything,

    matrices   W <- (1 - eta lambda) W - eta sqrt(rows/columns) polar(M)     Muon (Jordan et al. 2024; Bernstein 2025)
    vectors    w <- w - eta m/(|m|_2 + eps)                                   normalised SGD

with momentum M_t = mu M_{t-1} + (1 - mu) G_t, Nesterov's (1 - mu) G + mu M in its place, and polar(M) = U V' from the
singular value decomposition. The scale sqrt(fan_out/fan_in) is the spectral condition's (Yang et al., arXiv
2310.17813), not clamped. Query, key and value are three matrices. Embedding and tied head are a matrix like any other
(rows = V), as in the paper; it does not publish its constants, here mu = 0.95; :mod:`latebloom.train.optim.polar` says
how polar(M) is computed.

``muon_adamw`` keeps Muon for the blocks' matrices and gives embeddings and vectors to AdamW (Loshchilov & Hutter,
arXiv 1711.05101) at ADAMW_FACTOR times the learning rate: the ratio of the paper's eta_ref, 0.3 for AdamW and 10 for
Muon-NSGD.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from latebloom.theory.plan import Optimizer as OptimizerSpec
from latebloom.theory.plan_transfer import ADAMW_FACTOR, size_factors
from latebloom.train.optim.polar import polar_express, zolotarev

if TYPE_CHECKING:
    from latebloom.train.model.transformer import GPT2

__all__ = ["MuonNSGD", "build_optimizer", "load_named_state", "named_state", "split_groups"]

BATCH_ELEMENTS = 1 << 28  # of one batch of polar factors: 3 GiB with what the quintics hold in bfloat16
ADAMW_BETA1 = 0.9  # chosen: ``momentum`` is Muon's here


def muon_nsgd_rule(name: str, parameter: Tensor) -> str:
    """Matrices, embedding and head included: Muon; vectors: normalised SGD."""
    return "muon" if parameter.ndim == 2 else "nsgd"


def muon_adamw_rule(name: str, parameter: Tensor) -> str:
    """The blocks' matrices: Muon; embeddings, head and vectors: AdamW."""
    return "muon" if parameter.ndim == 2 and name.startswith("blocks.") else "adamw"


class MuonNSGD(torch.optim.Optimizer):
    """Muon on matrices, normalised SGD on vectors, one learning rate; or AdamW where ``rule`` says so.

    Args:
        named_parameters: (name, parameter) pairs; names that end in ``qkv.weight`` hold three matrices.
        rule: ``muon``, ``nsgd`` or ``adamw`` for a parameter.
        lr: eta. A scheduler sets it.
        momentum: mu. nesterov: Look ahead.
        weight_decay: lambda, decoupled, on matrices.
        eps: Keeps zero gradients zero instead of 0/0.
        beta2: AdamW's second beta; its first is the smaller of ``momentum`` and 0.9.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
        beta2: float = 0.95,
        rule: Callable[[str, Tensor], str] = muon_nsgd_rule,
    ):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "eps": eps}
        members: dict[tuple[str, bool], list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for name, p in named_parameters:
            members[rule(name, p), p.ndim == 2].append((name, p))
        groups = []
        for (kind, is_matrix), pairs in members.items():
            group: dict[str, Any] = {"params": pairs, "rule": kind}
            if kind == "adamw":
                group |= {"beta2": beta2, "lr_factor": ADAMW_FACTOR, "weight_decay": weight_decay * is_matrix}
            groups.append(group)
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            pairs = [(n, p) for n, p in zip(group["param_names"], group["params"], strict=True) if p.grad is not None]
            if not pairs:
                continue
            if group["rule"] == "adamw":
                self._adamw(group, [p for _, p in pairs])
                continue
            grads, buffers = [p.grad for _, p in pairs], []
            for _, p in pairs:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                buffers.append(self.state[p]["momentum"])
            if group["rule"] == "muon":
                self._muon(group, pairs)
            else:
                updates = _directions(group, grads, buffers)
                norms = torch._foreach_norm(updates)
                torch._foreach_add_(norms, group["eps"])
                torch._foreach_div_(updates, norms)
                torch._foreach_add_([p for _, p in pairs], updates, alpha=-group["lr"])

    def _adamw(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        """w <- (1 - eta lambda) w - eta (m/(1 - beta1^t))/(sqrt(v/(1 - beta2^t)) + eps), t a parameter's own steps."""
        beta1, beta2, lr = ADAMW_BETA1, group["beta2"], group["lr"]
        for p in parameters:
            if "step" not in self.state[p]:
                self.state[p] |= {"step": torch.zeros(()), "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        first, second, steps = ([self.state[p][key] for p in parameters] for key in ("m", "v", "step"))
        grads = [p.grad for p in parameters]
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        counts = [int(step) for step in steps]  # kept on the CPU: no look at the device
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [(1 - beta2**t) ** 0.5 for t in counts])
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, first, roots, [-lr / (1 - beta1**t) for t in counts])

    def _muon(self, group: dict[str, Any], pairs: list[tuple[str, nn.Parameter]]) -> None:
        """Apply the polar factors of the directions; on a GPU of many matrices of a shape in one batch."""
        shapes: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)
        for name, p in pairs:
            parts = 3 if name.endswith("qkv.weight") else 1
            for member in zip(*(t.chunk(parts) for t in (p, p.grad, self.state[p]["momentum"])), strict=True):
                shapes[member[0].shape].append(member)
        for (rows, columns), members in shapes.items():
            decay, rate = 1 - group["lr"] * group["weight_decay"], -group["lr"] * (rows / columns) ** 0.5
            rational = takes_rational(members[0][0])
            size = 1 if rational else max(1, BATCH_ELEMENTS // (rows * columns))
            for start in range(0, len(members), size):
                weights, grads, buffers = (list(t) for t in zip(*members[start : start + size], strict=True))
                directions = torch.stack(_directions(group, grads, buffers))
                polar = zolotarev(directions) if rational else polar_express(directions.bfloat16())
                torch._foreach_mul_(weights, decay)
                torch._foreach_add_(weights, list(polar.to(weights[0].dtype)), alpha=rate)


def _directions(group: dict[str, Any], grads: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
    """Move the momenta ``buffers``; return them, looking ahead under Nesterov, as tensors of their own."""
    torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
    if group["nesterov"]:
        return torch._foreach_lerp(grads, buffers, group["momentum"])
    return torch._foreach_mul(buffers, 1.0)


def takes_rational(weight: Tensor) -> bool:
    """Whether ``weight`` takes its polar factor from Cholesky inverses: on a CPU, in the precisions that LAPACK has."""
    return weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)


def build_optimizer(model: GPT2, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The plan's optimizer over ``model``'s parameters; weight decay on matrices only. PlanLR sets learning rates.

    If ``spec`` has a base, each kind of parameter has a group of its own, with decay and epsilon of the model's size.
    """
    optimizer = _optimizer(model, spec)
    if spec.base is None:
        return optimizer
    split_groups(optimizer)
    for quantity in ("weight_decay", "eps"):
        factors = size_factors(spec, width=model.shape.width, depth=model.depth, quantity=quantity)  # type: ignore[arg-type]
        for group in optimizer.param_groups:
            if group["kind"] in factors:
                group[quantity] *= factors[group["kind"]]
    return optimizer


def _optimizer(model: nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if spec.name in ("muon_nsgd", "muon_adamw"):
        return MuonNSGD(
            named, lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=spec.weight_decay, eps=spec.eps,
            beta2=spec.beta2, rule=muon_nsgd_rule if spec.name == "muon_nsgd" else muon_adamw_rule,
        )  # fmt: skip
    groups = [
        {"params": [(n, p) for n, p in named if p.ndim == 2], "weight_decay": spec.weight_decay},
        {"params": [(n, p) for n, p in named if p.ndim != 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(spec.momentum, spec.beta2), eps=spec.eps, fused=True)
    if spec.name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov and spec.momentum > 0)
    from latebloom.theory.errors import InputError

    raise InputError("optimizer", spec.name, "is not one of the trainer's", "use muon_nsgd, muon_adamw, adamw or sgd")


def kind_of(name: str, parameter: Tensor) -> str:
    """The kind of :mod:`latebloom.theory.plan_transfer` that a parameter of
    :class:`latebloom.train.model.transformer.GPT2` is.
    """
    if name.startswith("blocks."):
        return "hidden" if parameter.ndim == 2 else "vector"
    return {"tokens": "head", "positions": "embedding"}.get(name.split(".")[0], "final_vector")


def split_groups(optimizer: torch.optim.Optimizer, kind: Callable[[str, Tensor], str] = kind_of) -> None:
    """Give each kind of parameter a group of its own, which holds it as ``kind``;
    :class:`latebloom.train.optim.plan_lr.PlanLR` reads it.

    Args:
        optimizer: Over named parameters.
        kind: One of :data:`latebloom.theory.plan_transfer.KINDS` for a name and parameter.
    """
    split = []
    for group in optimizer.param_groups:
        members: dict[str, list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for name, p in zip(group["param_names"], group["params"], strict=True):
            members[kind(name, p)].append((name, p))
        for found, pairs in members.items():
            named = {"param_names": [n for n, _ in pairs], "params": [p for _, p in pairs]}
            split.append(group | {"kind": found} | named)
    optimizer.param_groups[:] = split


def named_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Each parameter's state by its name; a parameter that was never updated has an empty one, said explicitly."""
    state = {}
    for group in optimizer.param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            held = optimizer.state.get(p, {})
            state[name] = {key: value for key, value in held.items() if isinstance(value, Tensor)}
    return state


def load_named_state(optimizer: torch.optim.Optimizer, state: dict[str, dict[str, Tensor]]) -> None:
    """Give each parameter the state that stands under its name; names that are absent keep none."""
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
