"""Recipes: every figure has one, and every command in it is one that this program takes, with files that are there."""

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from latebloom import cli
from latebloom.paper_figures import registry
from latebloom.paper_figures.paths import RECIPES
from latebloom.train.experiments.study import price, read_study

ROOT = Path(__file__).resolve().parent.parent
ENDS_BEFORE = {"fig02", "fig03", "fig13", "fig14", "fig20"}  # they need records of names of their own
RUN = ("plan", "transfer", "schedule", "pilots")  # cheap, and what they write others need: run as they stand


def lines(recipe):
    """The commands of a shell script, as words."""
    for line in recipe.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] != "set":
            yield words


def command_of(name):
    return cli.cli.get_command(click.Context(cli.cli), name)


@pytest.mark.parametrize("name", registry.FIGURES)
def test_a_recipe_is_made_of_commands_that_are_taken(name, tmp_path, monkeypatch):
    recipe = registry.recipe(name)
    text = recipe.read_text()
    assert "hosen by us*, since it does not say: " in text
    assert list(lines(recipe)), "a recipe without a command"
    (tmp_path / "paper_figures").symlink_to(ROOT / "paper_figures")
    monkeypatch.chdir(tmp_path)
    for program, *words in lines(recipe):
        if program == "python":
            module = words[1].replace("latebloom.", "").replace(".", "/")
            assert words[0] == "-m" and (ROOT / f"{module}.py").exists(), words
            continue
        assert program == "latebloom"
        command = command_of(words[0])
        options = {option for each in command.params for option in each.opts}
        for path in (Path(word) for word in words if word.endswith((".json", ".toml"))):
            assert path.exists() or "--out" in words, f"{path} is not there, and no command before makes it"
        if words[0] == "study":
            words = [*words[:2], "--price"]
        elif "--print-config" in options and words[0] not in RUN:
            words = [*words, "--print-config"]
        elif words[0] not in RUN:
            parsed = command.commands[words[1]] if isinstance(command, click.Group) else command
            rest = words[2:] if isinstance(command, click.Group) else words[1:]
            parsed.make_context(parsed.name, rest)  # refuses what it does not know
            continue
        result = CliRunner().invoke(cli.cli, words, catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)


@pytest.mark.parametrize("name", registry.FIGURES)
def test_a_recipe_draws_its_own_figure_or_the_runs_that_it_made(name):
    drawn = [words[2:] for words in lines(registry.recipe(name)) if words[1] == "figures"]
    for words in drawn:
        if "--only" in words:
            assert words[words.index("--only") + 1] == name and words.count("--only") == 1, words
        else:
            assert words[0].startswith("records"), words
    ends = list(lines(registry.recipe(name)))[-1]
    assert ends[1] == "figures" or name in ENDS_BEFORE, f"{ends} is the last command, and nothing is drawn"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_study_at_the_papers_scale_can_be_declared(path):
    study = read_study(path)
    assert study.name == path.stem
    assert price(study) > 1e18
    assert "chosen by us" in path.read_text()
    assert any(path.name in recipe.read_text() for recipe in RECIPES.glob("*.sh"))


def test_no_recipe_is_left_over():
    assert {registry.recipe(name) for name in registry.FIGURES} == set(RECIPES.glob("*.sh"))
