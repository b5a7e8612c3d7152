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
from latebloom.train.optim.owners import Owners, matrix_shape
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
        owners: Of the whole tensors, if parameters are this rank's rows of them.

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
        owners: Owners | None = None,
    ):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "eps": eps}
        self.describe, self.owners = describe, owners
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
        return super().__getstate__() | {"describe": self.describe, "owners": self.owners}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        in_rows: list[tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]] = []
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
            if self.owners is not None:
                in_rows.append((group, pairs))
            elif group["rule"] == "muon":
                self._muon(group, pairs)
            else:
                updates = _directions(group, grads, buffers)
                norms = torch._foreach_norm(updates)
                torch._foreach_add_(norms, group["eps"])
                torch._foreach_div_(updates, norms)
                torch._foreach_add_(weights, updates, alpha=-group["lr"])
        if self.owners is not None:
            self._in_rows(self.owners, in_rows)

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
            spec = self.describe(name, p)
            tensors = (p, p.grad, self.state[p]["momentum"])
            parts = [matrices_of(t, spec.matrices, transposed=spec.transposed) for t in tensors]
            shapes[parts[0][0].shape] += zip(*parts, strict=True)
        for (rows, columns), members in shapes.items():
            decay, rate = 1 - group["lr"] * group["weight_decay"], -group["lr"] * (rows / columns) ** 0.5
            size = _batch(members[0][0], rows, columns)
            for start in range(0, len(members), size):
                weights, grads, buffers = (list(t) for t in zip(*members[start : start + size], strict=True))
                polar = _polar(torch.stack(_directions(group, grads, buffers)))
                torch._foreach_mul_(weights, decay)
                torch._foreach_add_(weights, list(polar.to(weights[0].dtype)), alpha=rate)

    def _in_rows(self, owners: Owners, held: list[tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]]) -> None:
        """Both rules on rows: directions go to the owners of the tensors, whole updates come back in rows."""
        group_of = {name: group for group, pairs in held for name, _ in pairs}
        parameters = {name: p for _, pairs in held for name, p in pairs}
        by_dtype: dict[torch.dtype, list[str]] = defaultdict(list)
        for name, p in parameters.items():
            in_half = group_of[name]["rule"] == "muon" and not takes_rational(p)
            by_dtype[torch.bfloat16 if in_half else p.dtype].append(name)
        for dtype, names in by_dtype.items():
            for bucket in owners.buckets(names, BATCH_ELEMENTS):
                directions: dict[str, Tensor] = {}
                for group, _ in held:
                    members = [name for name in bucket if group_of[name] is group]
                    if members:
                        buffers = [self.state[parameters[name]]["momentum"] for name in members]
                        _, grads = _with_gradients([parameters[name] for name in members])
                        ahead = _directions(group, grads, buffers)
                        directions |= {name: t.to(dtype) for name, t in zip(members, ahead, strict=True)}
                updates = owners.updates(directions, lambda wholes: self._whole_updates(wholes, group_of))
                for name, update in updates.items():
                    p, group, rate = parameters[name], group_of[name], -group_of[name]["lr"]
                    if group["rule"] == "muon":
                        rows, columns = matrix_shape(owners.tensors[name])
                        p.mul_(1 - group["lr"] * group["weight_decay"])
                        rate *= (rows / columns) ** 0.5
                    p.add_(update.to(p.dtype), alpha=rate)

    def _whole_updates(self, directions: dict[str, Tensor], group_of: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
        """Polar factors of matrices, those of a shape in batches, and normalised vectors."""
        updates: dict[str, Tensor] = {}
        shapes: dict[torch.Size, list[tuple[str, Tensor]]] = defaultdict(list)
        for name, direction in directions.items():
            if group_of[name]["rule"] == "muon":
                matrices = matrices_of(direction, self.describe(name, direction).matrices)
                shapes[matrices[0].shape] += [(name, matrix) for matrix in matrices]
            else:
                updates[name] = direction / (torch.linalg.vector_norm(direction) + group_of[name]["eps"])
        polars: dict[str, list[Tensor]] = defaultdict(list)
        for (rows, columns), members in shapes.items():
            size = _batch(members[0][1], rows, columns)
            for start in range(0, len(members), size):
                part = members[start : start + size]
                for (name, _), polar in zip(part, _polar(torch.stack([m for _, m in part])), strict=True):
                    polars[name].append(polar)
        for name, parts in polars.items():
            updates[name] = (torch.stack if directions[name].ndim == 3 else torch.cat)(parts)
        return updates


def _with_gradients(parameters: list[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """``parameters``, each of which has a gradient, and the gradients, as torch's ``_foreach`` functions take them."""
    return list(parameters), [p.grad for p in parameters if p.grad is not None]


def _directions(group: dict[str, Any], grads: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
    """Move the momenta ``buffers``; return them, looking ahead under Nesterov, as tensors of their own."""
    torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
    if group["nesterov"]:
        return list(torch._foreach_lerp(grads, buffers, group["momentum"]))
    return list(torch._foreach_mul(buffers, 1.0))


def _batch(matrix: Tensor, rows: int, columns: int) -> int:
    """How many matrices of a shape are orthogonalised at once."""
    return 1 if takes_rational(matrix) else max(1, BATCH_ELEMENTS // (rows * columns))


def _polar(directions: Tensor) -> Tensor:
    """Polar factors of a stack, in the way that suits where they lie."""
    return zolotarev(directions) if takes_rational(directions) else polar_express(directions.bfloat16())


def takes_rational(weight: Tensor) -> bool:
    """Whether ``weight`` takes its polar factor from Cholesky inverses: on a CPU, in the precisions that LAPACK has."""
    return weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
