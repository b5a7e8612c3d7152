r"""Muon-NSGD, and Muon with AdamW.

Muon-NSGD (arXiv 2511.04981): one learning rate eta for everything,

    matrices   W <- (1 - eta lambda) W - eta sqrt(rows/columns) polar(M)     Muon (Jordan et al. 2024; Bernstein 2025)
    vectors    w <- w - eta m/(|m|_2 + eps)                                   normalised SGD

with momentum M_t = mu M_{t-1} + (1 - mu) G_t, Nesterov's (1 - mu) G + mu M in its place, and polar(M) = U V' from the
singular value decomposition. The scale sqrt(fan_out/fan_in) is the spectral condition's (Yang et al., arXiv
2310.17813), not clamped. Query, key and value are three matrices, stacked experts as many as there are; the model's
family says so. Embedding and tied head are a matrix like any other (rows = V), as in the paper; it does not publish its
constants, here mu = 0.95; :mod:`latebloom.train.optim.polar` says how polar(M) is computed.

``muon_adamw`` keeps Muon for the blocks' matrices and gives embeddings and vectors to AdamW (Loshchilov & Hutter,
arXiv 1711.05101) at :data:`latebloom.theory.optimizers.ADAMW_FACTOR` times the learning rate: the ratio of the paper's
eta_ref, 0.3 for AdamW and 10 for Muon-NSGD. Which rule takes which kind of tensor stands in
:data:`latebloom.theory.optimizers.OPTIMIZERS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.optimizers import OPTIMIZERS, RuleName, rule_of
from latebloom.train.model.tensors import Describe, inferred_tensor, matrices_of
from latebloom.train.optim.polar import polar_express, zolotarev

__all__ = ["MuonNSGD"]

BATCH_ELEMENTS = 1 << 28  # of one batch of polar factors: 3 GiB with what the quintics hold in bfloat16
ADAMW_BETA1 = 0.9  # chosen: ``momentum`` is Muon's here


class MuonNSGD(torch.optim.Optimizer):
    """Muon on matrices, normalised SGD on vectors, one learning rate; or AdamW on all but the blocks' matrices.

    Args:
        named_parameters: (name, parameter) pairs.
        lr: eta. A scheduler sets it.
        momentum: mu.
        nesterov: Look ahead.
        weight_decay: lambda, decoupled, on matrices.
        eps: Keeps zero gradients zero instead of 0/0.
        beta2: AdamW's second beta; its first is 0.9.
        name: ``muon_nsgd`` or ``muon_adamw``: which update rule takes which kind of tensor
            (:data:`latebloom.theory.optimizers.OPTIMIZERS`).
        describe: What a parameter is, by its name and itself: its kind, and how many matrices it holds. By default
            :func:`latebloom.train.model.tensors.inferred_tensor`.

    Raises:
        InputError: if a parameter's kind is not known.
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
        name: Literal["muon_nsgd", "muon_adamw"] = "muon_nsgd",
        describe: Describe = inferred_tensor,
    ):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "eps": eps}
        self.describe = describe
        members: dict[tuple[RuleName, bool], list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for parameter_name, p in named_parameters:
            kind = describe(parameter_name, p).kind
            members[rule_of(name, kind), kind in MATRIX_KINDS].append((parameter_name, p))
        groups = []
        for (rule, is_matrix), pairs in members.items():
            group: dict[str, Any] = {"params": pairs, "rule": rule}
            if rule == "adamw":
                group |= {
                    "beta2": beta2,
                    "lr_factor": OPTIMIZERS[name].rate_factors[rule],
                    "weight_decay": weight_decay * is_matrix,
                }
            groups.append(group)
        super().__init__(groups, defaults)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: torch's leave out attributes of subclasses."""
        return super().__getstate__() | {"describe": self.describe}

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
            weights, grads = _with_gradients([p for _, p in pairs])
            buffers = []
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
                torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _adamw(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        """w <- (1 - eta lambda) w - eta (m/(1 - beta1^t))/(sqrt(v/(1 - beta2^t)) + eps), t a parameter's own steps."""
        beta1, beta2, lr = ADAMW_BETA1, group["beta2"], group["lr"]
        for p in parameters:
            if "step" not in self.state[p]:
                self.state[p] |= {"step": torch.zeros(()), "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        first, second, steps = ([self.state[p][key] for p in parameters] for key in ("m", "v", "step"))
        weights, grads = _with_gradients(parameters)
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        counts = [int(step) for step in steps]  # kept on the CPU: no look at the device
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [(1 - beta2**t) ** 0.5 for t in counts])
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(weights, first, roots, [-lr / (1 - beta1**t) for t in counts])

    def _muon(self, group: dict[str, Any], pairs: list[tuple[str, nn.Parameter]]) -> None:
        """Apply the polar factors of the directions; on a GPU of many matrices of a shape in one batch."""
        shapes: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)
        for name, p in pairs:
            assert p.grad is not None
            count = self.describe(name, p).matrices
            parts = [matrices_of(t, count) for t in (p, p.grad, self.state[p]["momentum"])]
            shapes[parts[0][0].shape] += zip(*parts, strict=True)
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


def _with_gradients(parameters: list[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """``parameters``, each of which has a gradient, and the gradients, as torch's ``_foreach`` functions take them."""
    return list(parameters), [p.grad for p in parameters if p.grad is not None]


def _directions(group: dict[str, Any], grads: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
    """Move the momenta ``buffers``; return them, looking ahead under Nesterov, as tensors of their own."""
    torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
    if group["nesterov"]:
        return list(torch._foreach_lerp(grads, buffers, group["momentum"]))
    return list(torch._foreach_mul(buffers, 1.0))


def takes_rational(weight: Tensor) -> bool:
    """Whether ``weight`` takes its polar factor from Cholesky inverses: on a CPU, in the precisions that LAPACK has."""
    return weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
