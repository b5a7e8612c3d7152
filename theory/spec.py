"""Frozen, strictly validated plain data, of which Plans, schedules and headers are made.

A :class:`Spec` obeys the same rules whether it is built in Python or read from JSON: field types and bounds stand in
the annotations (``Annotated[int, Meta(ge=1)]``), rules between fields in :meth:`Spec.check`. msgspec does the typing
and the JSON Schema; this module adds what a file from a stranger needs: duplicate keys, NaN, infinities and huge
integers are refused, and every refusal says where (JSON path), what, which rule and what to do.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import typing
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from latebloom.theory.errors import UNPRINTABLE, InputError, nearest

__all__ = [
    "Count",
    "Fraction",
    "NonNegative",
    "Positive",
    "Spec",
    "canonical_json",
    "decode",
    "digest",
    "finite_plain",
    "flatten",
    "from_plain",
    "json_object",
    "json_schema",
    "read_spec",
]

Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[float, Meta(gt=0, le=1e30)]
NonNegative = Annotated[float, Meta(ge=0, le=1e30)]
Fraction = Annotated[float, Meta(ge=0, le=1)]

LARGEST_FILE = 1 << 28  # bytes of JSON; the largest plan that this project has made has a few megabytes
LARGEST_INTEGER = 2**53  # the integers that every JSON reader keeps exactly (RFC 8259, section 6)
S = TypeVar("S", bound="Spec")


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all plain-data values. Subclasses declare annotated fields and may override :meth:`check`."""

    def __post_init__(self) -> None:
        for name, annotation in _annotations(type(self)).items():
            value = getattr(self, name)
            if getattr(value, "shape", None) == () and hasattr(value, "item"):  # numpy's scalars
                value = value.item()
                msgspec.structs.force_setattr(self, name, value)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(name, value, "must be a finite number", "give a finite value")
            if isinstance(value, str):
                _check_text(name, value)
            try:
                plain = msgspec.convert(value, annotation, strict=True)
            except msgspec.ValidationError as error:
                rule, path = _split(str(error))
                raise InputError(
                    name + path.removeprefix("$"), value, rule, _hint(value, _literals(annotation))
                ) from None
            if type(plain) is not type(value):  # 1 -> 1.0, list -> tuple: equal values must have equal digests
                msgspec.structs.force_setattr(self, name, plain)
        self.check()

    def check(self) -> None:
        """Refuse fields that do not fit together.

        Raises:
            InputError: naming the field, its value, the rule and the fix.
        """

    @classmethod
    def from_older(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """The fields of a file, as JSON holds them, with what older versions wrote brought up to date."""
        return plain

    def replace(self: S, **changes: Any) -> S:
        """A copy with ``changes``, validated anew."""
        return msgspec.structs.replace(self, **changes)

    def to_json(self, *, indent: int = 2) -> str:
        """JSON text that :func:`decode` reads back to an equal value."""
        return json.dumps(msgspec.to_builtins(self), indent=indent, allow_nan=False, ensure_ascii=False) + "\n"


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    """Field annotations with their bounds. A nested Spec is checked by type alone: building it validated it."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(cls)}


def canonical_json(spec: Spec) -> bytes:
    """The byte string that is hashed: UTF-8, keys sorted, no white space, shortest round-trip floats, no null fields.

    Without nulls a field that is added to the format as optional leaves the digests of what was written before.

    Args:
        spec: Any Spec.
    """
    plain = _without_null(msgspec.to_builtins(spec))
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def _without_null(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_null(value) for key, value in node.items() if value is not None}
    return [_without_null(value) for value in node] if isinstance(node, list | tuple) else node


def digest(spec: Spec) -> str:
    """SHA-256 of :func:`canonical_json`, as 64 hexadecimal digits.

    Args:
        spec: Any Spec.
    """
    return hashlib.sha256(canonical_json(spec)).hexdigest()


def json_schema(cls: type[Spec]) -> dict[str, Any]:
    """JSON Schema (2020-12) of ``cls``.

    Args:
        cls: The Spec that is described.
    """
    schema = msgspec.json.schema(cls)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_spec(path: str | Path, cls: type[S]) -> S:
    """Read ``cls`` from a JSON file.

    Args:
        path: The file.
        cls: The Spec that it holds.

    Raises:
        InputError: naming the file and the JSON path, the value, the rule and the fix; or why it cannot be read.
    """
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for, a device has no end
            raise InputError("path", str(path), "is not a file", f"a file with a {cls.__name__} belongs there")
        if path.is_file() and (size := path.stat().st_size) > LARGEST_FILE:
            rule = f"has {size:,} bytes, more than {LARGEST_FILE:,}"
            raise InputError("path", str(path), rule, f"a file with a {cls.__name__} belongs there")
        text = path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        rule = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError("path", str(path), rule, f"a file with a {cls.__name__} belongs there") from None
    return decode(text, cls, source=path)


def decode(text: str | bytes, cls: type[S], *, source: object = None) -> S:
    """Read ``cls`` from JSON text.

    Args:
        text: JSON in UTF-8.
        cls: The Spec that it holds.
        source: The file it came from, for messages.

    Raises:
        InputError: naming source and JSON path, the value, the rule and the fix (with the nearest valid name).
    """
    try:
        return _decode(text, cls)
    except InputError as error:
        raise (error if source is None else error.within(source)) from None


def _decode(text: str | bytes, cls: type[S]) -> S:
    plain = json_object(text, wanted=f"an object that describes a {cls.__name__}")
    return from_plain(plain, cls)


def from_plain(plain: dict[str, Any], cls: type[S]) -> S:
    """``cls`` from plain data as a file holds it.

    Args:
        plain: Field -> value.
        cls: The Spec to build.

    Raises:
        InputError: naming the path below ``$``, the value, the rule and the fix (with the nearest valid name).
    """
    plain = cls.from_older(plain)
    try:
        return msgspec.convert(plain, cls, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(error, plain, cls) from None


def json_object(text: str | bytes, *, wanted: str = "an object") -> dict[str, Any]:
    """The JSON object that ``text`` is.

    Args:
        text: JSON.
        wanted: What it must be, for the message.

    Raises:
        InputError: naming the path below ``$``, if it is no JSON object, names a key twice, or holds a number that is
            not finite or an integer beyond 2^53.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_Pairs)
    except UnicodeDecodeError as error:
        raise InputError("$", error.object[:20], "must be UTF-8 text", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 10) : error.pos + 10]
        rule = f"is not JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        raise InputError("$", near, rule, "correct it there") from None
    except (ValueError, RecursionError) as error:
        raise InputError("$", type(error).__name__, "is not JSON of a reasonable size", "check the file") from None
    plain = finite_plain(tree)
    if not isinstance(plain, dict):
        raise InputError("$", plain, f"must be {wanted}", "wrap it in { }")
    return plain


def finite_plain(tree: Any) -> Any:
    """``tree`` of plain data as it is, once its numbers are checked.

    Args:
        tree: Dictionaries, lists, strings, numbers.

    Raises:
        InputError: naming the path below ``$``, if a number is not finite or an integer beyond 2^53, or it is nested
            too deeply.
    """
    try:
        return _plain(tree, "$")
    except RecursionError:
        raise InputError("$", "...", "is nested too deeply", "check the file") from None


class _Pairs(list):
    """The pairs of one JSON object, duplicates kept."""


def _plain(node: Any, path: str) -> Any:
    if isinstance(node, _Pairs):
        unique = dict(node)
        if len(unique) < len(node):
            counts = Counter(key for key, _ in node)
            key = next(key for key, _ in node if counts[key] > 1)
            raise InputError(f"{path}.{key}", unique[key], "stands more than once", "keep one of them")
        node = unique
    if isinstance(node, str):
        _check_text(path, node)
    if isinstance(node, dict):
        for key in node:
            _check_text(f"{path}: a key", key)
        return {key: _plain(value, f"{path}.{key}") for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, f"{path}[{i}]") for i, value in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        raise InputError(path, node, "must be a finite number", "give a finite value")
    if isinstance(node, int) and abs(node) > LARGEST_INTEGER:
        raise InputError(path, f"{str(node)[:12]}...", "is larger than 2^53", "give a smaller integer")
    return node


def _check_text(name: str, text: str) -> None:
    if found := UNPRINTABLE.search(text):
        rule = f"holds the character {found[0]!r}, which cannot be shown"
        raise InputError(name, text, rule, "leave it out")


def _split(message: str) -> tuple[str, str]:
    """msgspec's message as (rule, path)."""
    match = re.fullmatch(r"(.*?)(?: - at `(?:key in )?(\$.*?)`)?", message, re.DOTALL)
    assert match is not None
    rule = match[1].replace("`", "")
    return rule[0].lower() + rule[1:], match[2] or "$"


def _tokens(path: str) -> list[str | int]:
    return [int(i) if i else name for name, i in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path)]


def _explain(error: msgspec.ValidationError, plain: Any, cls: type[Spec]) -> InputError:
    rule, path = _split(str(error))
    if isinstance(error.__cause__, InputError):
        return error.__cause__.under(path)
    value: Any = plain
    for token in _tokens(path):
        try:
            value = value[token]
        except (KeyError, IndexError, TypeError):
            break
    field = re.search(r"field (\S+)", rule)
    if field and "unknown" in rule:
        names = _field_names(cls, _tokens(path), plain)
        fix = nearest(field[1], names, also="valid here")
        inner = value.get(field[1]) if isinstance(value, dict) else value
        return InputError(f"{path}.{field[1]}", inner, "is not a field here", fix)
    if field and "missing" in rule:
        return InputError(f"{path}.{field[1]}", None, "is required", f"add {field[1]!r}")
    return InputError(path, value, rule, _hint(value, _choices(cls, _tokens(path), plain)))


def _hint(value: Any, choices: list[str]) -> str:
    """What to do about ``value``, with the nearest of the valid ``choices`` if there are any."""
    if not choices:
        return "give a value that fits"
    return nearest(value, choices)


def _structs(annotation: Any) -> list[type[Spec]]:
    """The Spec classes that an annotation admits, through unions, Annotated and sequences."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    arguments = typing.get_args(annotation)
    return [cls for argument in arguments if argument is not Ellipsis for cls in _structs(argument)]


def _at(cls: type[Spec], tokens: list[str | int], plain: Any) -> Any:
    """The annotation at a path, choosing union members by their tag."""
    annotation: Any = cls
    for token in tokens:
        candidates = _structs(annotation)
        if isinstance(token, str):
            tagged = [c for c in candidates if _tag_matches(c, plain)]
            found = [_annotations(c)[token] for c in tagged or candidates if token in _annotations(c)]
            if not found:
                return None
            annotation = found[0]
        else:
            annotation = typing.get_args(annotation)[0] if typing.get_args(annotation) else None
        try:
            plain = plain[token]
        except (KeyError, IndexError, TypeError):
            return annotation
    return annotation


def _tag_matches(cls: type[Spec], plain: Any) -> bool:
    config = cls.__struct_config__
    return config.tag is None or (isinstance(plain, dict) and plain.get(config.tag_field) == config.tag)


def _field_names(cls: type[Spec], tokens: list[str | int], plain: Any) -> list[str]:
    node = plain
    for token in tokens:
        node = node[token]
    candidates = _structs(_at(cls, tokens, plain))
    tagged = [c for c in candidates if _tag_matches(c, node)] or candidates
    return sorted({name for c in tagged for name in _annotations(c)})


def _choices(cls: type[Spec], tokens: list[str | int], plain: Any) -> list[str]:
    if not tokens:
        return []
    literals = _literals(_at(cls, tokens, plain))
    if literals:
        return literals
    parent = _at(cls, tokens[:-1], plain) if len(tokens) > 1 else cls
    tags = [c.__struct_config__ for c in _structs(parent)]
    return [str(t.tag) for t in tags if t.tag is not None and t.tag_field == tokens[-1]]


def _literals(annotation: Any) -> list[str]:
    """The values that Literals in an annotation admit."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    return [choice for argument in typing.get_args(annotation) for choice in _literals(argument)]


def flatten(spec: Spec) -> dict[str, Any]:
    """Every leaf value by its JSON path.

    Args:
        spec: Any Spec.
    """
    leaves: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif isinstance(node, list | tuple) and node:
            for i, value in enumerate(node):
                walk(value, f"{path}[{i}]")
        else:
            leaves[path] = node

    walk(msgspec.to_builtins(spec), "$")
    return leaves
