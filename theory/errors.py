"""The one error a user can cause: it names the value, the rule and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["UNPRINTABLE", "InputError", "RunError", "nearest"]

# Control characters but tab and line feed, marks that turn the direction of text, lone surrogates: a terminal obeys the
# first, a reader is deceived by the second, and no file can hold the third.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class RunError(RuntimeError):
    """A run that was asked for rightly and failed; the command line prints its one line and exits with 1."""


class InputError(ValueError):
    """A request that cannot be carried out as given.

    Args:
        name: What was given: an argument, an option, a JSON path or a file.
        value: The offending value.
        rule: What holds for it, in words.
        fix: What to do instead.

    The message is one line, ``name = value: rule; fix``; the command line prints it and exits with 2.
    """

    def __init__(self, name: str, value: object, rule: str, fix: str):
        self.name, self.value, self.rule, self.fix = name, value, rule, fix
        shown = repr(value)
        if len(shown) > 80:
            shown = f"{shown[:38]}...{shown[-39:]}"  # a path is known by its end
        line = f"{name} = {shown}: {rule}; {fix}".replace("\n", " ")
        super().__init__(UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], line))

    def __reduce__(self):
        return type(self), (self.name, self.value, self.rule, self.fix)

    def under(self, parent: str) -> InputError:
        """The same error with ``parent`` before its name (``$.schedule`` + ``steps``)."""
        name = self.name if self.name.startswith("[") else f".{self.name}"
        return InputError(f"{parent}{name}", self.value, self.rule, self.fix)

    def within(self, source: object) -> InputError:
        """The same error with the file ``source`` before its name (``plan.json: $.schedule``)."""
        return InputError(f"{source}: {self.name}", self.value, self.rule, self.fix)


def nearest(word: object, known: Iterable[str], *, also: str = "valid") -> str:
    """What to do about an unknown ``word``: the nearest of the ``known`` ones, or where none is near, all of them.

    Args:
        word: What was given.
        known: The valid words.
        also: What stands before them where all are listed.

    >>> nearest("trian", ["train", "fit"])
    "did you mean 'train'?"
    """
    import difflib

    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"{also}: {', '.join(names)}"
