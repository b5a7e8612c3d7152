"""Growing a model of which each rank holds rows: rows move, nothing is communicated, and no tensor is gathered.

The grown model is another one (:mod:`latebloom.train.model.sharding`). What a new block begins with is decided as in
:mod:`latebloom.train.growth.operators`. A fresh block is made whole, one at a time, from a generator that depends on
seed and name alone, and each rank keeps its rows of it: values do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latebloom.theory.expansion import INITS, placement, sources
from latebloom.theory.plan import Stage
from latebloom.train.growth.foreign import check_keeps
from latebloom.train.growth.operators import changed_weights, is_zeroed
from latebloom.train.model.tensors import Describe, is_vector

__all__ = ["grown_rows"]


@torch.no_grad()
def grown_rows(
    rows: dict[str, Tensor],
    stage: Stage,
    old: int,
    *,
    described: Describe,
    new_block: Callable[[], nn.Module],
    init_block: Callable[[nn.Module, int], None],
    own: Callable[[int], slice],
    fill: Callable[[dict[str, Tensor]], None],
) -> dict[str, str]:
    """Fill a grown model with the rows of the model before it.

    Args:
        rows: Of this rank, by name, before.
        stage: Grown to.
        old: Blocks before.
        described: What a tensor of the model is.
        new_block: Makes a whole block without values.
        init_block: Initialises a whole block at an index.
        own: Which rows this rank holds of a tensor with so many.
        fill: Takes rows by name; called for one block after another.

    Returns:
        New name of every tensor that was there before.

    Raises:
        InputError: if ``stage.init`` should keep the function and would not.
    """
    rule = INITS[stage.init]
    places = placement(stage.order, old, stage.depth)
    continued = sources(stage.order, old, stage.depth) if old else [0] * stage.depth
    outer = {name: tensor for name, tensor in rows.items() if not name.startswith("blocks.")}
    fill(outer)
    renamed = {name: name for name in outer}
    checked = False
    for index in range(stage.depth):
        if index in places:
            before, after = f"blocks.{places.index(index)}.", f"blocks.{index}."
            names = {name: after + name.removeprefix(before) for name in rows if name.startswith(before)}
            fill({new: rows[name] for name, new in names.items()})
            renamed |= names
            continue
        whole = None
        place = f"blocks.{index}."
        made_whole = rule.fresh or old == 0
        if made_whole or (rule.keeps_function and not checked):
            whole = new_block()
            init_block(whole, index)
        if whole is not None and made_whole:
            made = changed_weights(dict(whole.named_parameters()), rule, described, place)
            values = {key: p[own(len(p))] for key, p in made.items()}
        else:
            before = f"blocks.{continued[index]}."
            copied = {key.removeprefix(before): t for key, t in rows.items() if key.startswith(before)}
            values = changed_weights(copied, rule, described, place)
        vectors = {key for key, t in values.items() if is_vector(described, place + key, t)}
        zeroed = [key for key in values if is_zeroed(key, key in vectors, rule)]
        if whole is not None and rule.keeps_function and not checked:
            for key in zeroed:
                whole.get_parameter(key).zero_()
            check_keeps(whole, stage.init, zeroed)
            checked = True
        values |= {key: torch.zeros_like(values[key]) for key in zeroed}
        fill({place + key: tensor for key, tensor in values.items()})
    return renamed
