"""The settings of `latebloom plan`: its options, files and defaults come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from latebloom.theory.expansion import Init, Order, StatePolicy
from latebloom.theory.spec import Count, Spec

__all__ = ["PlanConfig"]


class PlanConfig(Spec, frozen=True, kw_only=True):
    """What a plan of a model is made from; rules between the numbers stand where they are used.

    Attributes:
        steps: Horizon in optimizer steps.
        batch_tokens: Tokens per step.
        small_depth: Depth before the expansion.
        schedule: Shape of the learning rate over the run.
        peak_lr: Peak learning rate. None: 10/sqrt(steps).
        base_width: Width at which --peak-lr was tuned. None: the model's.
        base_depth: Blocks at which --peak-lr was tuned. None: one rate at every depth.
        warmup: Share of the steps.
        decay: Share of the steps (wsd).
        u_mix: Mixing area as a share of peak_lr x steps, such as 0.12.
        u_mix_area: Mixing area in learning rate x steps.
        tolerance: Accepted price of growing, share of the final loss; not with --law field.
        budget: Share of the FLOPs of the full depth for all steps: what is spent with --law field, else at most.
        depths: Fixed depths between that would be trained too (--law field). None: those among the pilots.
        ladders: Consider growing through each of --depths on the way too (--law field).
        most_steps: Steps that the data allow (--law field). None: as many as the budget buys.
        grow: Write the best plan that grows, even where not growing is better (--law field).
        init: How new blocks begin; those with zero in their name, and identity, keep the function.
        order: Where new blocks stand: on top (stack, last), between the old (inter, middle) or below (first).
        optimizer_state: Kept at the expansion, new blocks starting with none, a copied or a warmed one; or reset.
        law: Fitted to pilots: field (every arm of equal compute), or when to grow by area, normalised, pair or reuse.
        seed: Of the fit to pilots and its bootstrap.
    """

    steps: int
    batch_tokens: int
    small_depth: int = 1
    schedule: Literal["wsd", "cosine", "linear", "constant"] = "wsd"
    peak_lr: float | None = None
    base_width: int | None = None
    base_depth: int | None = None
    warmup: float = 0.02
    decay: float = 0.1
    u_mix: float | None = None
    u_mix_area: float | None = None
    tolerance: float = 0.01
    budget: float | None = None
    depths: tuple[Count, ...] | None = None
    ladders: bool = False
    most_steps: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    grow: bool = False
    init: Init = "random"
    order: Order = "stack"
    optimizer_state: StatePolicy = "keep"
    law: str = "field"
    seed: Count = 0
