"""What the documentation says can be done: every command is one, every Python block runs, every link leads somewhere.

Commands are read by the command line's own parser, settings included, and not carried out; those of the tutorial are
carried out, with fewer steps.
"""

import glob
import json
import re
import shlex
import sysconfig
from pathlib import Path

import click
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from latebloom.cli import cli
from latebloom.paper_figures.registry import FIGURES
from latebloom.theory.plan import write_plan

from . import choose_table
from .helpers import CHECKOUT, needs_checkout, tiny_plan

pytestmark = needs_checkout

GENERATED = {"reference", "_build"}  # by `make docs`
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "examples" / "README.md",
    *(path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if not GENERATED & set(path.parts)),
]
IDS = [str(path.relative_to(CHECKOUT)) for path in PAGES]


def blocks(page, *languages):
    """Texts of the fenced blocks of ``page`` in one of ``languages``, in order."""
    found = re.findall(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def command_lines(page):
    """Each command of the page's shell blocks, as words; several on a line are several."""
    commands = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            starts = [[]]
            for word in lexer:
                if word in ("&&", "||", "|", ";", "do"):
                    starts.append([])
                else:
                    starts[-1].append(word)
            commands += [words for words in starts if words and words[0] in ("latebloom", "make")]
    return [words[: words.index(">")] if ">" in words else words for words in commands]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_is_one(page, monkeypatch, capsys):
    parsed = []

    def parse_only(command, context):
        parsed.append(context.command_path)
        if "print_config" in context.params:  # its settings are checked, and nothing else is done
            context.params["print_config"] = True
            context.invoke(command.callback, **context.params)

    monkeypatch.setattr(click.Command, "invoke", parse_only)
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    commands = command_lines(page)
    for program, *words in commands:
        if program == "make":
            assert words[0] in targets, f"make {words[0]}"
        elif "--help" not in words and words != ["--version"]:
            cli.main(words, prog_name="latebloom", standalone_mode=False)
            assert parsed.pop().split()[1] == words[0]
    capsys.readouterr()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.stem)
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    """From top to bottom, in a folder where a plan lies."""
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    write_plan(tiny_plan(), "plan.json")
    names = {}
    for i, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, block {i}", "exec"), names)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file(page):
    """Targets inside the folder of pages are checked by Sphinx as well, with their headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_answers_what_people_ask_first():
    """Each question of the list has a link to a heading that answers it: one click."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    for question in ("longer, better", "How sure", "pilots cost", "AdamW", "stop, restart, undo", "too late to grow"):
        row = next((line for line in text.splitlines() if line.startswith("|") and question in line), None)
        assert row, question
        (target, heading) = re.findall(r"\]\(([^)#]+)#?([^)]*)\)", row)[0]
        answer = (CHECKOUT / target).read_text(encoding="utf-8")
        slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", answer, re.M)]
        assert not heading or heading in slugs, f"{target}: {heading}"


def test_readme_counts_the_figures():
    tables = sum(name.startswith("tab") for name in FIGURES)
    assert f"draws {len(FIGURES) - tables} figures and {tables} tables" in (CHECKOUT / "README.md").read_text("utf-8")


def test_the_table_of_how_to_choose_is_that_of_the_records():
    page = choose_table.PAGE.read_text(encoding="utf-8")
    assert choose_table.written(page) == page, "python -m tests.choose_table"


def test_the_tutorial_runs(tmp_path, monkeypatch):
    """Its commands, one after the other, for 60 steps instead of 200, on a tenth of the text."""
    monkeypatch.chdir(tmp_path)
    commands = [words[1:] for words in command_lines(CHECKOUT / "docs" / "tutorial.md") if words[0] == "latebloom"]
    text = str(Path(sysconfig.get_paths()["stdlib"]) / "email")
    named = dict.fromkeys(Path(word).stem for words in commands for word in words if word.startswith("pilots/"))
    shorter = {"200": "60", "--stdlib": text}
    for words in commands:
        words = [shorter.get(word, word) for word in words]
        for long, short in shorter.items():
            words = [word.replace(long, short) if "/" in word and not word.startswith("/") else word for word in words]
        words = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
        if words[0] == "train" and "--dry-run" not in words:
            words += ["--evals", "2", "--eval-tokens", "2048", "--quiet"]
        assert not cli.main(words, prog_name="latebloom", standalone_mode=False), words
        if words[0] == "pilots":
            pilots = json.loads(Path("pilots/manifest.json").read_text())["pilots"]
            shorter |= dict(zip(named, (pilot["plan"]["name"] for pilot in pilots), strict=True))
    for made in ("plan.json", "grow.json", "best/report.html", "grown/report.html", "best-hf/model.safetensors"):
        assert Path(made).exists(), made
