"""README's tree of modules, made from the first sentences of their docstrings: ``python -m tests.readme_tree``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .helpers import PACKAGES, ROOT, with_between

MARKS = ("<!-- tree: python -m tests.readme_tree -->\n", "<!-- end of tree -->")
NAME_WIDTH = 30
TEXT_WIDTH = 118 - NAME_WIDTH
REST = (
    ("src/latebloom/", "what is installed: links to the four folders, the command line, what users import"),
    ("docs/", "tutorial, how-to, theory, glossary, log; `make docs` builds them with the reference"),
    ("examples/", "recipes for one, 8 and 64 devices, torchrun, Slurm"),
    ("notebooks/", "seven, each under a minute: the same objects, narrated"),
    ("tests/", "flat, by package; benchmarks/ measures speed and accuracy"),
)


def _summary(path: Path) -> str:
    """First sentence of a module's docstring, cut at a clause where it is too long."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split()).replace("``", "")
    paragraph = re.sub(r":\w+:`~?([^`]*)`", lambda match: match[1].rpartition(".")[2], paragraph)
    sentence = re.split(r"(?<=[a-z0-9)\]'\"])\.(?= |$)", paragraph)[0]
    while len(sentence) > TEXT_WIDTH:
        whole = [match.start() for match in re.finditer(r"[;:] ", sentence) if match.start() > TEXT_WIDTH // 3]
        parts = [match.start() for match in re.finditer(r"[,;:] ", sentence)]
        cut = (whole or parts)[-1] if parts else sentence[:TEXT_WIDTH].rfind(" ")
        sentence = sentence[:cut]
    return sentence


def _line(indent: int, name: str, text: str) -> str:
    return f"{' ' * indent + name:<{NAME_WIDTH}}  {text}".rstrip()


def tree() -> str:
    """The tree as it must stand in README: every module of every room, a line each."""
    lines = []
    for package in PACKAGES:
        folder = ROOT / package
        lines.append(_line(0, f"{package}/", _summary(folder / "__init__.py")))
        lines += [_line(2, path.name, _summary(path)) for path in sorted(folder.glob("*.py")) if _is_named(path)]
        for room in sorted(path.parent for path in folder.glob("*/__init__.py")):
            lines.append(_line(2, f"{room.name}/", _summary(room / "__init__.py")))
            lines += [_line(4, path.name, _summary(path)) for path in sorted(room.glob("*.py")) if _is_named(path)]
    lines += [_line(0, name, text) for name, text in REST]
    return "\n".join(lines)


def _is_named(path: Path) -> bool:
    return path.name != "__init__.py"


def written(page: str) -> str:
    """The page with the tree as it is today."""
    return with_between(page, MARKS, f"```\n{tree()}\n```\n")


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text(encoding="utf-8")), encoding="utf-8")
