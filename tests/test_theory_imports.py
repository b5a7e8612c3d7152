"""The shape of the packages: what `import latebloom.theory` loads, which way imports point, what every function
documents.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import latebloom

LATEBLOOM = Path(latebloom.__file__).parent  # in a checkout as in a wheel
HEAVY = ("torch", "sympy", "pandas", "matplotlib", "scipy.optimize", "pyarrow")


@pytest.mark.parametrize(
    "module",
    [
        "latebloom.theory",
        "latebloom.cli",
        "latebloom.theory.commands",
        "latebloom.train.data.commands",
        "latebloom.train.experiments.commands",
        "latebloom.train.interop.commands",
        "latebloom.train.run.commands",
        "latebloom.sim.commands",
        "latebloom.paper_figures.commands",
    ],
)
def test_no_heavy_library_is_loaded_at_import(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def _public_functions():
    for package in ("theory", "sim", "train"):
        for path in sorted((LATEBLOOM / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            exported = {
                element.value
                for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
                for element in getattr(node.value, "elts", [])
            }
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in exported:
                    yield pytest.param(node, id=f"{path.relative_to(LATEBLOOM)}:{node.name}")


@pytest.mark.parametrize("node", list(_public_functions()))
def test_what_is_exported_is_documented(node):
    assert ast.get_docstring(node)


def test_exports_exist():
    for package in ("theory", "sim", "train"):
        module = importlib.import_module(f"latebloom.{package}")
        for name in module.__all__:
            assert hasattr(module, name), f"{package}.{name}"
