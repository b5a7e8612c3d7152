"""Every public signature and its docstring agree, and the examples in docstrings run.

For everything in a module's ``__all__`` each argument of a function, and each field of a dataclass or Spec, stands on a
line of its own under ``Args:`` or ``Attributes:``, nothing stands there that is not an argument, and a function that
raises InputError itself says so under ``Raises:``. A public method may go without ``Args:``; if it has the section, the
section is complete. Commands are left out: their options carry their own help.
"""

import ast
import dataclasses
import doctest
import importlib
import inspect
import textwrap

import click
import docstring_parser
import msgspec
import pytest

from .helpers import public_modules


def _signature_names(item):
    """Arguments of a function, or fields that a value of a class is made of."""
    if inspect.isclass(item):
        if issubclass(item, msgspec.Struct):
            return list(item.__struct_fields__)
        if dataclasses.is_dataclass(item):
            return [field.name for field in dataclasses.fields(item) if field.init]
        if "_fields" in vars(item):
            return list(item._fields)
        if getattr(item, "_is_protocol", False) or "__init__" not in vars(item):
            return []
        item = item.__init__
    return [name for name in inspect.signature(item).parameters if name != "self"]


def _documented_names(text):
    """Names under ``Args:`` and ``Attributes:``, one a line."""
    parsed = docstring_parser.parse(text, style=docstring_parser.DocstringStyle.GOOGLE)
    return [
        entry.arg_name.lstrip("*").split(" ")[0] if ", " not in entry.arg_name else entry.arg_name
        for entry in parsed.params
    ]


def _raises_itself(function):
    """Whether the body of ``function``, without functions inside it, raises InputError."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return False

    def nodes(node):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                yield child
                yield from nodes(child)

    return any(
        isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and getattr(node.exc.func, "id", None) == "InputError"
        for node in nodes(tree.body[0])
    )


def _inherited(cls):
    """Fields that a base class documents: they need not be repeated."""
    return {name for base in cls.__mro__[1:-1] for name in _documented_names(inspect.cleandoc(base.__doc__ or ""))}


def _faults_of(name, item, *, method):
    text = inspect.cleandoc(item.__doc__ or "") if inspect.isclass(item) else inspect.getdoc(item) or ""
    expected = _signature_names(item)
    documented = _documented_names(text)
    inherited = _inherited(item) if inspect.isclass(item) else set()
    if documented or not method:
        for argument in expected:
            if argument not in documented and argument not in inherited:
                yield f"{name}: {argument} is not documented on a line of its own"
    for argument in documented:
        if argument not in expected and (expected or not inspect.isclass(item)):
            yield f"{name}: {argument!r} is documented and is not an argument"
    raises = [entry.type_name for entry in docstring_parser.parse(text).raises]
    if not inspect.isclass(item) and _raises_itself(item) and "InputError" not in raises:
        yield f"{name}: raises InputError without 'Raises:'"


def faults(module):
    """What does not agree in ``module``, a line each."""
    lines = []
    for name in module.__all__:
        item = inspect.unwrap(getattr(module, name)) if callable(getattr(module, name)) else getattr(module, name)
        if isinstance(item, click.Command) or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(item):
            lines += _faults_of(name, item, method=False)
        elif inspect.isclass(item):
            lines += _faults_of(name, item, method=False)
            for method_name, member in vars(item).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if inspect.isfunction(member) and not method_name.startswith("_"):
                    bound = getattr(item, method_name)
                    lines += _faults_of(f"{name}.{method_name}", bound, method=True)
    return lines


@pytest.mark.parametrize("name", public_modules())
def test_signatures_and_docstrings_agree(name):
    found = faults(importlib.import_module(name))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", public_modules(everything=True))
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
