"""Whether pilots reach far enough: a loss that falls faster and faster follows no law that could be carried on.

Between two annealed horizons the small depth's loss falls by the share -d ln loss/d ln area an e-fold. Where runs of a
few hundred steps were followed to a few thousand (``paper_figures/data/studies``), a share that rose by half or more
from one doubling to the next fell again after it, and extrapolations from before the bend were up to 5 % too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latebloom.theory.fitting.annealed_ends import falls
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from latebloom.theory.fitting.annealed_ends import AnnealedEnd
    from latebloom.theory.menu import MenuArm

__all__ = ["short_pilots_text"]

FASTER = 1.5  # of the share before
SLOW = 0.02  # a smaller share of the loss an e-fold is no cliff
BEYOND = 1.1  # multiple of the longest pilot's area up to which an arm counts as seen


def short_pilots_text(ends: Sequence[AnnealedEnd], menu: Sequence[MenuArm]) -> str | None:
    """What to say of pilots that end while the small depth's loss falls faster and faster; None if they reach.

    Args:
        ends: Of pilots; those of the small depth count, over seeds of one horizon their mean.
        menu: Arms that would be trained.

    Returns:
        A sentence that names what fell how fast, and the pilot that mends it; None also if no arm of the menu goes
        beyond the pilots.
    """
    small = [end for end in ends if end.kind == "small"]
    ends_apart, shares = falls(ends, "small")
    if len(shares) < 2:
        return None
    chosen, (before, last) = ends_apart[-3:], shares[-2:]
    arms = [arm for arm in menu if arm.depths == (small[0].depth,) and arm.area_before > BEYOND * chosen[-1].area]
    if not arms or last < max(FASTER * before, SLOW):
        return None
    wanted = max(arm.steps for arm in arms)
    return (
        f"Pilots too short: {blocks_text(small[0].depth)} fell {max(before, 0):.2g} of its loss an e-fold of steps up "
        f"to step {chosen[1].steps} and {last:.2g} from there to {chosen[2].steps}. A fall that gets faster follows no "
        f"law yet, so all that is said of longer runs is a guess: anneal that depth at step {wanted} too."
    )
