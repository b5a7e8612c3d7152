"""The table of docs/choose.md: rows of table 7 of the committed records. ``python -m tests.choose_table`` writes it."""

import re
from pathlib import Path

from latebloom.paper_figures.figures import tab07_equal_compute
from latebloom.paper_figures.registry import load_records
from tests.helpers import with_between

PAGE = Path(__file__).parent.parent / "docs" / "choose.md"
MARKERS = ("<!-- table 7: python -m tests.choose_table -->\n", "<!-- end of table 7 -->")


def table() -> str:
    """Of each model the row of most seeds and, among those, most compute."""
    chosen = {}
    rows = tab07_equal_compute.prepare(load_records(tab07_equal_compute.RECORDS))
    for row in rows:
        model = row[:2]  # and its batch
        if model not in chosen or int(row[-1]) >= int(chosen[model][-1]):
            chosen[model] = row
    lines = [
        "| model | tokens a step | tokens a parameter | best fixed depth | best growth | full depth | "
        "growth − best fixed | seeds |"
    ]
    lines.append("|" + "---|" * 8)
    for model, batch, tokens, _, *rest in chosen.values():
        lines.append("| " + " | ".join((model, batch, tokens, *rest)) + " |")
    below = [row[5] for row in rows if row[7].startswith("-")]
    by_one = all(re.match(r"(\d+) → (\d+) at", way) and int(way[4]) - int(way[0]) == 1 for way in below)
    lines += [
        "",
        f"Of all {len(rows)} models and amounts of compute of the table in full, growth ends below the best fixed",
        f"depth in {len(below)}{', in each of them by adding one block' if by_one else ''}.",
    ]
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table as it is today."""
    return with_between(page, MARKERS, table())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
