"""Situations from other people's reports, by kind of fault, and what happens here: ``python -m tests.cases``.

Each row is right, or refused with the reason; both are what a user can live with, silence is not. A case returns what
it saw if that is right, raises :class:`tests.cases.table.Wrong` if it is not, and an InputError if it is refused, which
must leave everything as it was. ``python -m tests.cases --processes`` adds those that start two processes.
"""
