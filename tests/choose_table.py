"""The table of docs/choose.md: rows of table 7 of the committed records. ``python -m tests.choose_table`` writes it."""

from pathlib import Path

from latebloom.paper_figures.figures import tab07_equal_compute
from latebloom.paper_figures.registry import load_records

PAGE = Path(__file__).parent.parent / "docs" / "choose.md"
MARKERS = ("<!-- table 7: python -m tests.choose_table -->\n", "<!-- end of table 7 -->")


def table() -> str:
    """Of each model the row of most seeds and, among those, most compute."""
    chosen = {}
    for row in tab07_equal_compute.prepare(load_records(tab07_equal_compute.RECORDS)):
        if row[0] not in chosen or int(row[-1]) >= int(chosen[row[0]][-1]):
            chosen[row[0]] = row
    lines = [
        "| model | tokens a parameter | best fixed depth | best growth | full depth | growth − best fixed | seeds |"
    ]
    lines.append("|" + "---|" * 7)
    for model, tokens, _, *rest in chosen.values():
        lines.append("| " + " | ".join((model, tokens, *rest)) + " |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table as it is today."""
    before, rest = page.split(MARKERS[0])
    return before + MARKERS[0] + table() + MARKERS[1] + rest.split(MARKERS[1])[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
