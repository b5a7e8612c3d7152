"""Numbers and tables as people read them: amounts of compute, depths, counts. Files hold the numbers themselves."""

from __future__ import annotations

from collections.abc import Sequence

from latebloom.theory import checks

__all__ = ["amount_text", "blocks_text", "count_text", "text_table"]


def amount_text(amount: float, *, digits: int = 3) -> str:
    """A large amount for people: FLOPs, tokens, parameters.

    Args:
        amount: >= 0.
        digits: How many of them are shown, >= 1.

    Raises:
        InputError: if the amount is negative or not finite, or no digit is asked for.

    >>> amount_text(2.649e12), amount_text(2.649e12, digits=2), amount_text(750)
    ('2.65e12', '2.6e12', '750')
    """
    checks.whole("digits", digits, 1)
    return f"{float(checks.non_negative('amount', amount)):.{digits}g}".replace("e+", "e").replace("e0", "e")


def count_text(number: int, noun: str) -> str:
    """How many of something there are.

    Args:
        number: >= 0.
        noun: In the singular, one that takes an s.

    Raises:
        InputError: if the number is not whole, or negative.

    >>> count_text(1, "seed"), count_text(3, "seed")
    ('1 seed', '3 seeds')
    """
    checks.whole("number", number, 0)
    return f"{number} {noun}{'' if number == 1 else 's'}"


def blocks_text(depth: int, *later: int) -> str:
    """A depth, or those that a run grows through, for people.

    Args:
        depth: Number of blocks, >= 0.
        later: Depths that it is grown to, in order.

    Raises:
        InputError: if one is not a whole number >= 0.

    >>> blocks_text(1), blocks_text(4), blocks_text(1, 4)
    ('1 block', '4 blocks', '1 -> 4 blocks')
    """
    for each in (depth, *later):
        checks.whole("depth", each, 0, fix="give the number of blocks")
    *before, last = depth, *later
    return f"{''.join(f'{each} -> ' for each in before)}{last} block{'s' if before or last != 1 else ''}"


def text_table(sides: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of aligned columns, two spaces apart.

    Args:
        sides: A letter a column: ``<`` for words, ``>`` for numbers.
        head: Names of the columns.
        rows: Cells of each row.

    >>> print(text_table("<>", ("pilot", "steps"), [("small", "100"), ("full", "50")]))
    pilot  steps
    small    100
    full      50
    """
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for side, cell, width in zip(sides, line, widths, strict=True)).rstrip()
        for line in lines
    )
