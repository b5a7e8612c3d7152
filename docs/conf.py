"""How `make docs` builds this folder: the pages here, and a reference made from docstrings and from ``--help``."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import click

from latebloom.cli import COMMANDS, cli

HERE = Path(__file__).resolve().parent

project = "Latebloom"
author = "the Latebloom authors"
version = release = metadata.version("latebloom")
html_title = "Latebloom"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "text"  # what docstrings show as typed is seldom code
copybutton_exclude = ".linenos, .gp, .go"

apidoc_modules = [
    {
        "path": "../src/latebloom",
        "destination": "reference",
        "exclude_patterns": ["**/paper_figures", "**/__main__.py", "**/cli.py", "**/*commands*.py"],
        "automodule_options": {"members", "show-inheritance"},
        "follow_links": True,
        "separate_modules": True,
        "module_first": True,
        "no_headings": False,
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # torch describes its own methods
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")
BOUNDS = re.compile(r"Annotated\[(.*?), msgspec\.Meta\([^()]*\)\]")
INLINE = re.compile(r"(``.*?``|:\w+:`.*?`|`.*?`__?)")


def as_typed(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings here are plain text: what is indented is shown as typed; bars and stars are no markup."""
    made: list[str] = []
    in_section = in_block = False
    for line in lines:
        indented = line.startswith((" ", "\t"))
        if line and not indented:
            in_section = bool(SECTION.match(line))
            if in_block or (in_section and made and made[-1]):
                made.append("")
            in_block = False
        elif line and not in_section and not in_block:
            made += ["", "::", ""]
            in_block = True
        made.append(line if in_block else escaped(line))
    lines[:] = made


def escaped(line: str) -> str:
    """``line`` with what reStructuredText would take for markup escaped, outside of code and roles."""
    pieces = INLINE.split(line)
    for i in range(0, len(pieces), 2):
        text = pieces[i].replace("\\", "\\\\").replace("|", r"\|")
        text = re.sub(r"(?<!\w)\*(?=\w[^*]*\w?\*(?!\w))([^*]+)\*(?!\w)", "\0\\1\0", text)  # *stressed* stays
        text = text.replace("*", r"\*").replace("\0", "*")
        pieces[i] = re.sub(r"_(?!\w)", r"\_", text)
    return "".join(pieces)


def without_bounds(app, what, name, obj, options, signature, returns) -> tuple[str | None, str | None]:
    """Types without the bounds that msgspec checks."""
    while signature and BOUNDS.search(signature):
        signature = BOUNDS.sub(r"\1", signature)
    return signature, returns


def without_reexports(app, what, name, obj, skip, options) -> bool | None:
    """Each name stands once, where it is defined; commands stand on a page of their own."""
    if isinstance(obj, click.Command):
        return True
    here = app.env.current_document.autodoc_module
    if what == "module" and getattr(obj, "__module__", here) != here:
        return True
    return None


def write_commands(app) -> None:
    """``reference/commands.md``: what each command's ``--help`` says."""
    context = click.Context(cli, info_name="latebloom", max_content_width=100, terminal_width=100)
    text = ["# Commands", "", "What `latebloom COMMAND --help` prints.", ""]
    for name in COMMANDS:
        text += _help_of(cli.get_command(context, name), name, context)
    (HERE / "reference").mkdir(exist_ok=True)
    (HERE / "reference" / "commands.md").write_text("\n".join(text), encoding="utf-8")


def _help_of(command: click.Command, name: str, parent: click.Context) -> list[str]:
    here = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    text = [f"## {here.command_path}", "", "```text", command.get_help(here), "```", ""]
    if isinstance(command, click.Group):
        for each in command.list_commands(here):
            text += _help_of(command.get_command(here, each), each, here)
    return text


def setup(app) -> None:
    app.connect("autodoc-process-docstring", as_typed, priority=100)  # before napoleon reads the sections
    app.connect("autodoc-process-signature", without_bounds)
    app.connect("autodoc-skip-member", without_reexports)
    app.connect("builder-inited", write_commands)
