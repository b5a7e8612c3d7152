"""The index of equations: ``python -m latebloom.theory.derivations.index`` writes ``docs/equations.md``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import click

from latebloom import theory

__all__ = ["entries", "problems", "render"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "equations.md"
Entry = tuple[str, str, str, str, str]


def entries() -> list[tuple[str, Entry]]:
    """(module, entry) of every ``EQUATIONS`` in the package, in alphabetical order of modules."""
    found = []
    for module in sorted(m.name for m in pkgutil.walk_packages(theory.__path__, "latebloom.theory.")):
        if not module.endswith((".index",)):
            found += [(module, entry) for entry in getattr(importlib.import_module(module), "EQUATIONS", ())]
    return found


def problems() -> list[str]:
    """Everything named by an entry that does not exist, one line each."""
    wrong = []
    for module, entry in entries():
        if len(entry) != 5:
            wrong.append(f"{module}: {entry[0]}: needs formula, function, proof, test and figure")
            continue
        formula, function, proof, test, figure = entry
        checks = {function: _resolves(function), test: _has_test(test)}
        if proof:
            checks[proof] = _resolves(f"latebloom.theory.derivations.{proof}")
        if figure:
            checks[figure] = any((ROOT / "paper_figures").rglob(f"{figure}.py"))
        wrong += [f"{module}: {formula}: {name} does not exist" for name, good in checks.items() if not good]
    return wrong


def render() -> str:
    """The page, Markdown."""
    lines = [
        "# Equations",
        "",
        "Written by `python -m latebloom.theory.derivations.index`; do not edit. Each closed form with the function",
        "that computes it, the sympy derivation that proves it (`theory/derivations/`), the test that checks it by",
        "other means, and the figure that shows it. How they hang together: [derivation.md](derivation.md).",
        "",
        "| equation | function | proof | test | figure |",
        "|---|---|---|---|---|",
    ]
    for _, (formula, function, proof, test, figure) in entries():
        file, _, name = test.partition("::")
        cells = [
            f"`{formula.replace('|', chr(92) + '|')}`",
            f"`{function.removeprefix('latebloom.theory.').replace(':', '.')}`",
            f"`{proof.replace(':', '.')}`" if proof else "by brute force",
            f"`{Path(file).stem}::{name}`",
            f"`{figure}`" if figure else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _resolves(path: str) -> bool:
    module, _, attribute = path.partition(":")
    try:
        value = importlib.import_module(module)
        for name in attribute.split("."):
            value = getattr(value, name)
    except (ImportError, AttributeError):
        return False
    return True


def _has_test(test: str) -> bool:
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.exists() and f"def {name}(" in path.read_text()


@click.command()
def main() -> None:
    """Check every entry and write the page."""
    wrong = problems()
    if wrong:
        raise click.ClickException("\n".join(wrong))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
    click.echo(f"{PAGE.relative_to(ROOT)}: {len(entries())} equations")


if __name__ == "__main__":
    main()
