"""No public name stands for two things, and README's tree names every module."""

import importlib
import inspect
import re

from .helpers import PACKAGES, ROOT, public_modules
from .readme_tree import tree, written


def _homes():
    """Every public class and function -> the modules that define one of its name."""
    homes = {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name in module.__all__:
            item = getattr(module, name)
            if (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__ == module_name:
                homes.setdefault(name, []).append(module_name)
    return homes


def test_no_public_name_stands_for_two_things():
    twice = {name for name, modules in _homes().items() if len(modules) > 1}
    assert not twice, f"rename one of each: {sorted(twice)}"


def test_readme_names_every_module():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert written(text) == text, "run python -m tests.readme_tree"


def test_the_tree_holds_every_module_file():
    named = re.findall(r"^ +(\w+\.py)\b", tree(), re.MULTILINE)
    files = [path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(files)


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/.]+/[\w.]*)`", text) if "NAME" not in name and "*" not in name}
    absent = {name for name in named if not (ROOT / name).exists()}
    assert not absent, f"not there: {sorted(absent)}"
