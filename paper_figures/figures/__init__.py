"""One module a figure: ``RECORDS``, ``make(records)`` and ``caption(records)``."""
