"""The operators' table, measured: does growing keep the function, can the new blocks train, do they learn features?

A model of two blocks, a few updates old, is grown to four by each operator. Measured are

    change     RMS of the change of the logits at growth over their RMS; 0 exactly: function-preserving
    reached    share of the new blocks' matrices with a gradient at the first update, and at the second
    feature    after ``updates`` updates of Muon-NSGD, RMS of the change of what the new blocks add to the residual
               stream, over the RMS of the stream, in a narrow and in a wide model

and from them the paper's three columns: it *keeps the function* if change is 0; it is *trainable* if every new matrix
is reached by the second update; it *learns features* if feature is at least a quarter of ``random``'s in both widths
(FEATURE, a choice), so that it neither stands still nor fades with the width. The first two are promised by
:data:`latebloom.theory.expansion.INITS`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.expansion import INITS, ORDERS, Init, Order
from latebloom.theory.plan import Optimizer, Plan, Stage
from latebloom.theory.record import Record, header, values_record, write_parquet
from latebloom.theory.schedules import Constant
from latebloom.theory.words import text_table
from latebloom.train.experiments.feature_probe import BlockKind, probe_batch, probe_shape, residual_stream, update_
from latebloom.train.growth.operators import grow_blocks
from latebloom.train.model.tensors import describe
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.build import build_optimizer

__all__ = ["OperatorRow", "growth_record", "growth_table", "table_text"]

FEATURE = 0.25
LR = 0.02


@dataclass(frozen=True, kw_only=True)
class OperatorRow:
    """One operator in one order.

    Attributes:
        init: How new blocks began.
        order: Where they stood.
        change: RMS of the change of the logits at growth over their RMS.
        reached: Share of the new blocks' matrices with a gradient, at the first and at the second update.
        feature: RMS of the change of what the new blocks add, over the RMS of the stream, a value a width.
        keeps_function: Whether ``change`` is 0.
        trainable: Whether every new matrix is reached by the second update.
        learns_features: Whether ``feature`` is at least a quarter of ``random``'s at every width.
    """

    init: str
    order: str
    change: float
    reached: tuple[float, float]
    feature: tuple[float, ...]
    keeps_function: bool
    trainable: bool
    learns_features: bool


def growth_table(
    *,
    widths: Sequence[int] = (32, 128),
    orders: Sequence[Order] = ("stack",),
    inits: Sequence[Init] = tuple(INITS),
    updates: int = 8,
    seed: int = 0,
    blocks: BlockKind = "gpt2",
) -> list[OperatorRow]:
    """Measure ``inits`` x ``orders`` (a second or two on a CPU).

    Args:
        widths: Of the models compared.
        orders: Of the blocks.
        inits: Of new blocks.
        updates: Before the feature is measured.
        seed: Of weights and tokens.
        blocks: Kind of the blocks, ``gpt2`` or ``llama``.
    """
    base = {width: _trained(width, seed, blocks) for width in widths}
    random = {width: _measure(base[width], "random", "stack", updates, seed)[2] for width in widths}
    rows = []
    for init in inits:
        for order in orders:
            measured = [_measure(base[width], init, order, updates, seed) for width in widths]
            change, reached = measured[0][0], measured[0][1]
            feature = tuple(m[2] for m in measured)
            rows.append(
                OperatorRow(
                    init=init,
                    order=order,
                    change=change,
                    reached=reached,
                    feature=feature,
                    keeps_function=change == 0.0,
                    trainable=reached[1] == 1.0,
                    learns_features=all(f >= FEATURE * random[w] for f, w in zip(feature, widths, strict=True)),
                )
            )
    return rows


def growth_record(rows: Sequence[OperatorRow]) -> Record:
    """The table as a Record: metric = init/order, split = what was measured.

    Args:
        rows: From :func:`growth_table`, of two widths.
    """
    plan = Plan(
        name="what ways of growing do to a small model", model=probe_shape(32, heads=2), batch_tokens=1024,
        schedule=Constant(steps=8, peak_lr=LR), stages=(Stage(start_step=0, depth=2), Stage(start_step=1, depth=4)),
    )  # fmt: skip
    values: list[tuple[str, str, float]] = []
    for row in rows:
        found = {
            "change": row.change, "reached at first": row.reached[0], "reached at second": row.reached[1],
            "feature narrow": row.feature[0], "feature wide": row.feature[-1],
        }  # fmt: skip
        values += [(split, f"{row.init}/{row.order}", value) for split, value in found.items()]
    return values_record(header(plan, seed=0), values)


def table_text(rows: Sequence[OperatorRow]) -> str:
    """The table as text.

    Args:
        rows: From :func:`growth_table`.
    """
    yes = {True: "yes", False: "no"}
    head = ("init", "order", "change", "reached", "feature", "keeps function", "trainable", "learns features")
    cells = [
        (r.init, r.order, f"{r.change:.4f}", " ".join(f"{x:.2f}" for x in r.reached),
         " ".join(f"{x:.4f}" for x in r.feature), yes[r.keeps_function], yes[r.trainable], yes[r.learns_features])
        for r in rows
    ]  # fmt: skip
    return text_table("<<><<<<<", head, cells)


def _trained(width: int, seed: int, blocks: BlockKind) -> tuple[GPT2, Tensor]:
    """A model of two blocks after a few updates, and its batch."""
    model = GPT2(probe_shape(width, heads=2, blocks=blocks), 2, seed=seed)
    ids = probe_batch(seed)
    _update(model, ids, 5)
    return model, ids


def _update(model: GPT2, ids: Tensor, count: int) -> None:
    """Updates of a fresh Muon-NSGD at one learning rate."""
    optimizer = build_optimizer(model, Optimizer(name="muon_nsgd"))
    for group in optimizer.param_groups:
        group["lr"] = LR
    update_(model, optimizer, ids, count)


def _measure(
    base: tuple[GPT2, Tensor], init: Init, order: Order, updates: int, seed: int
) -> tuple[float, tuple[float, float], float]:
    """(change, reached, feature) of one operator in one width."""
    before, ids = base
    model = copy.deepcopy(before)
    shape, inputs = model.shape, ids[:, :-1]
    renamed = grow_blocks(
        model, Stage(start_step=1, depth=4, init=init, order=order),
        init_block=lambda block, j: init_block_(block, depth=4, seed=seed + 1, name=f"blocks.{j}"),
        make_block=lambda: Block(shape),
    )  # fmt: skip
    old = set(renamed.values())
    new = {int(name.split(".")[1]) for name, _ in model.named_parameters() if name not in old}
    with torch.no_grad():
        logits = before(inputs)
        change = float((model(inputs) - logits).norm() / logits.norm())
    first, stream = _added(model, new, inputs)
    described = describe(model)
    matrices = [
        (name, p) for name, p in model.named_parameters() if name not in old and described(name, p).kind in MATRIX_KINDS
    ]
    reached = []
    for _ in range(2):
        model.zero_grad()
        model.loss(inputs, ids[:, 1:]).backward()
        grads = [p.grad for name, p in matrices if p.grad is not None]
        reached.append(sum(bool(g.abs().max() > 0) for g in grads) / len(grads))
        _update(model, ids, 1)
    _update(model, ids, updates - 2)
    last, _ = _added(model, new, inputs)
    return change, (reached[0], reached[1]), float((last - first).norm() / stream.norm())


def _added(model: GPT2, new: set[int], inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the new blocks add to the stream, and the stream that reaches the final norm."""
    stream = residual_stream(model, inputs)
    added = torch.zeros_like(stream[0])
    for index in sorted(new):
        added = added + (stream[index + 1] - stream[index])
    return added, stream[-1]


if __name__ == "__main__":
    measured = growth_table(orders=tuple(ORDERS))
    if len(sys.argv) > 1:  # python -m latebloom.train.experiments.growth_table FILE.parquet
        write_parquet(growth_record(measured), sys.argv[1])
    print(table_text(measured))
