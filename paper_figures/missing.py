"""What is said where a figure's Records are not there: it is left out, never drawn from less."""

from __future__ import annotations

from latebloom.theory.errors import InputError

__all__ = ["MissingRecords", "require"]


class MissingRecords(InputError):
    """Records that a figure needs are not there."""


def require(found: object, what: str, made_by: str) -> None:
    """Refuse to draw without ``found``.

    Args:
        found: What was found; nothing if it is empty or false.
        what: What was looked for, in words.
        made_by: The command that makes it.

    Raises:
        MissingRecords: with that command.
    """
    if not found:
        raise MissingRecords("records", what, "are not all there, and this figure needs them", f"make them: {made_by}")
