"""Settings of a command, declared once in a Spec: here they become command-line options and a file for ``--config``.

A field of a Spec says name, type, bounds, choices and default; the line of its class docstring under ``Attributes:``
says what it is. :func:`settings` makes a click option of each and gives the command the Specs, built from the options,
the file of ``--config`` and the defaults, in this order. ``--print-config`` writes the file that ``--config`` reads.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import msgspec

from latebloom.theory import spec
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.spec import Spec

__all__ = [
    "ChoosingGroup",
    "LocalPath",
    "Setting",
    "SettingOption",
    "attribute_lines",
    "config_text",
    "read_config",
    "settings",
]

CONFIG_HELP = "TOML, YAML or JSON file with the settings below; an option given here wins over it."
PRINT_HELP = "Print the settings below as a file for --config; do nothing else."
LARGEST_SHOWN = 1e9  # bounds from here on are checked, but not worth a place in --help


class LocalPath(click.Path):
    """A path of this machine. An empty one, as an unset shell variable leaves it, would mean the current directory.

    A URL is no path: shards are mapped into memory, runs locked, checkpoints renamed, which object stores do not offer.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it is one of this machine.

        Args:
            value: As given.
            param: Whose it is.
            ctx: Of the command.
        """
        if value == "":
            self.fail("'' is not a path", param, ctx)
        if re.match(r"\w[\w+.-]+://", str(value)):
            self.fail(f"{value!r} is a URL and not a path: copy it from or to there by other means", param, ctx)
        return super().convert(value, param, ctx)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a Spec, as the command line and a file of settings see it.

    Attributes:
        name: Key in the file; the option is ``--name`` with dashes.
        owner: The Spec that declares it.
        field: Name of the field there.
        annotation: Its type with bounds.
        default: Its default; ``msgspec.NODEFAULT`` where it must be given.
        help: Its line in the docstring.
        choices: Names that are valid where the annotation leaves them open, as those of a registry.
    """

    name: str
    owner: type[Spec]
    field: str
    annotation: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()


class SettingOption(click.Option):
    """The option of a :class:`Setting`; None where it was not given, so that the file and the default come after it.

    Args:
        setting: What it sets.
    """

    def __init__(self, setting: Setting):
        self.setting = setting
        flag = setting.name.replace("_", "-")
        text, unset = _help_and_unset(setting.help)
        self.shown_default = _shown(setting.default) or unset
        base, bounds = _unwrap(setting.annotation)
        names = [setting.name, f"--{flag}/--no-{flag}" if base is bool else f"--{flag}"]
        kind = click.BOOL if base is bool else _click_type(base, bounds, setting)
        super().__init__(names, type=kind, default=None, help=text)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """What stands in brackets after the help."""
        extra = super().get_help_extra(ctx)
        if self.setting.default is msgspec.NODEFAULT:
            extra["required"] = "required"
        elif self.shown_default:
            extra["default"] = self.shown_default
        return extra


class ChoosingGroup(click.Group):
    """A group whose subcommand may be left out: it is then chosen by the words that follow.

    Args:
        name: Of the group.
        usual: Its command that takes the words unless ``other`` does.
        other: Its second command.
        is_other: Whether a word that belongs to no option says that the second one is meant.
    """

    def __init__(self, name: str, *, usual: click.Command, other: click.Command, is_other: Callable[[str], bool]):
        super().__init__(name, commands={str(each.name): each for each in (usual, other)}, help=usual.help)
        self.usual, self.other, self.is_other = usual, other, is_other

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The subcommand's name in front, then the words."""
        if not args or args[0] not in self.commands:
            chosen = self.other if any(map(self.is_other, self._own_words(args, ctx.help_option_names))) else self.usual
            args = [str(chosen.name), *args]
        return super().parse_args(ctx, args)

    def _own_words(self, args: list[str], help_names: list[str]) -> list[str]:
        """Those of ``args`` that are neither options nor their values."""
        with click.Context(
            self.usual, resilient_parsing=True, ignore_unknown_options=True, help_option_names=help_names
        ) as ctx:
            values, rest, _ = self.usual.make_parser(ctx).parse_args(list(args))
        named = [values.get(str(p.name)) for p in self.usual.params if isinstance(p, click.Argument)]
        words = [word for value in named for word in (value if isinstance(value, tuple | list) else [value])]
        return [word for word in (*words, *rest) if isinstance(word, str) and not word.startswith("-")]


def settings(
    specs: Mapping[str, type[Spec]],
    *,
    without: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    choices: Mapping[str, Collection[str]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a click callback: options for every field of ``specs``, ``--config`` and ``--print-config``.

    Args:
        specs: Parameter of the callback -> the Spec that it takes.
        without: Fields that the command decides itself; they keep their defaults. ``Spec.field`` where two Specs have
            a field of that name.
        renamed: Field -> setting, where the field's own name says too little on the command line.
        choices: Field -> the names that a registry holds for it.

    Returns:
        The decorator. The callback is called with a Spec for each key of ``specs`` instead of its fields.

    Raises:
        InputError: by the command, if a setting is missing, unknown, of a wrong type or out of bounds; it names the
            option, or the file and the key.
    """
    table = [
        setting
        for cls in specs.values()
        for setting in _settings_of(cls, renamed or {}, choices or {})
        if setting.field not in without and f"{cls.__name__}.{setting.field}" not in without
    ]

    def decorate(callback: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(callback)
        def command(*, config_file: Path | None, print_config: bool, **parameters: Any) -> Any:
            given = {setting.name: parameters.pop(setting.name) for setting in table}
            given = {name: value for name, value in given.items() if value is not None}
            built = _build(specs, table, given, config_file)
            if print_config:
                click.echo(config_text(table, built), nl=False)
                return None
            return callback(**parameters, **{name: built[cls] for name, cls in specs.items()})

        file = LocalPath(path_type=Path)
        own = [
            click.Option(["config_file", "--config"], type=file, help=CONFIG_HELP),
            click.Option(["--print-config"], is_flag=True, help=PRINT_HELP),
            *(SettingOption(setting) for setting in table),
        ]
        command.__click_params__ = [*getattr(callback, "__click_params__", []), *reversed(own)]  # type: ignore[attr-defined]
        return command

    return decorate


def config_text(table: Collection[Setting], built: Mapping[type[Spec], Spec]) -> str:
    """The values of ``table`` as TOML with their help as comments; what is None stands there as a comment.

    Args:
        table: Settings to write, in this order.
        built: Spec class -> the Spec that holds their values.

    Returns:
        Text that :func:`read_config` reads.
    """
    import tomlkit

    document = tomlkit.document()
    for setting in table:
        value = msgspec.to_builtins(getattr(built[setting.owner], setting.field))
        text, unset = _help_and_unset(setting.help)
        document.add(tomlkit.comment(text + (f" Not set: {unset}." if unset else "")))
        if value is None:
            document.add(tomlkit.comment(f"{setting.name} ="))
        else:
            document.add(setting.name, tomlkit.item(value))
    return tomlkit.dumps(document)


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a file of settings: JSON or YAML by its name (a run's config.json), TOML otherwise.

    Args:
        path: The file.

    Raises:
        InputError: naming the file, the key, the value and the rule, if it cannot be read, is not what its name says,
            names a key twice or holds a number that is not finite.
    """
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        rule = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError("--config", str(path), rule, "give a file such as --print-config writes") from None
    try:
        if path.suffix == ".json":
            return spec.json_object(text)
        return spec.finite_plain(_yaml(text) if path.suffix in (".yaml", ".yml") else _toml(text))
    except InputError as error:
        name = error.name.removeprefix("$").removeprefix(".") or "file"
        raise InputError(name, error.value, error.rule, error.fix).within(path) from None


def attribute_lines(cls: type) -> dict[str, str]:
    """The text of each field of ``cls`` under ``Attributes:`` in its docstring, without markup.

    Args:
        cls: A Spec, or any documented class.
    """
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    section = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in entries}


def _settings_of(cls: type[Spec], renamed: Mapping[str, str], choices: Mapping[str, Collection[str]]) -> list[Setting]:
    lines = attribute_lines(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    return [
        Setting(
            name=renamed.get(field.name, field.name),
            owner=cls,
            field=field.name,
            annotation=hints[field.name],
            default=field.default,
            help=lines.get(field.name, ""),
            choices=tuple(choices.get(field.name, ())),
        )
        for field in msgspec.structs.fields(cls)
    ]


def _build(
    specs: Mapping[str, type[Spec]], table: list[Setting], given: dict[str, Any], path: Path | None
) -> dict[type[Spec], Spec]:
    """The Specs, from the options that were ``given``, then the file, then the defaults."""
    from_file = {} if path is None else read_config(path)
    for name, value in from_file.items():
        if name in (known := [setting.name for setting in table]):
            continue
        if any(name in cls.__struct_fields__ for cls in specs.values()):
            raise InputError(f"{path}: {name}", value, "is decided by this command itself", "leave it out")
        raise InputError(f"{path}: {name}", value, "is not a setting here", nearest(name, known))
    values = from_file | given
    built = {}
    for cls in specs.values():
        own = {setting.field: setting for setting in table if setting.owner is cls}
        for setting in own.values():
            if setting.default is msgspec.NODEFAULT and setting.name not in values:
                fix = f"see `{click.get_current_context().command_path} --help`"
                raise InputError(f"--{setting.name.replace('_', '-')}", None, "is required", fix)
        try:
            plain = {field: values[setting.name] for field, setting in own.items() if setting.name in values}
            built[cls] = spec.from_plain(plain, cls)
        except InputError as error:
            field, rest = re.fullmatch(r"\$?\.?(\w*)(.*)", error.name, re.DOTALL).groups()  # type: ignore[union-attr]
            name = own[field].name if field in own else field
            named = InputError(name + rest, error.value, error.rule, error.fix)
            raise (named.within(path) if name in from_file and name not in given else named) from None
    return built


def _toml(text: bytes) -> dict[str, Any]:
    from tomlkit import parse
    from tomlkit.exceptions import ParseError

    try:
        return parse(text.decode()).unwrap()
    except UnicodeDecodeError as error:
        raise InputError("$", error.object[:20], "must be UTF-8 text", "save the file as UTF-8") from None
    except ParseError as error:
        line = text.decode().splitlines()[error.line - 1 : error.line]
        shown = line[0].strip() if line else ""
        if twice := re.match(r'Key "(.*)" already exists', str(error)):
            value = shown.partition("=")[2].strip() if twice[1] in shown else f"[{twice[1]}]"
            raise InputError(twice[1], value, "stands more than once", "keep one of them") from None
        rule = f"is not TOML ({str(error).rstrip('.')})"
        raise InputError("$", shown, rule, "correct it there") from None


def _yaml(text: bytes) -> dict[str, Any]:
    """YAML 1.2, in which 1e-3 is a number and ``on`` a word."""
    try:
        from ruamel.yaml import YAML, YAMLError
    except ImportError:
        raise InputError("$", None, "needs ruamel.yaml", "pip install 'latebloom[yaml]', or write TOML") from None
    try:
        plain = YAML(typ="safe", pure=True).load(text.decode())
    except UnicodeDecodeError as error:
        raise InputError("$", error.object[:20], "must be UTF-8 text", "save the file as UTF-8") from None
    except YAMLError as error:
        place, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        line = "".join(text.decode().splitlines()[place.line : place.line + 1]).strip() if place else ""
        if twice := re.match(r'found duplicate key "(.*?)"', problem):
            raise InputError(twice[1], line.partition(":")[2].strip(), "stands more than once", "keep one") from None
        rule = f"is not YAML ({problem}{f', line {place.line + 1}' if place else ''})"
        raise InputError("$", line, rule, "correct it there") from None
    if not isinstance(plain, dict):
        raise InputError("$", str(plain)[:40], "must be keys and values", "give `name: value` a line")
    return plain


def _unwrap(annotation: Any) -> tuple[Any, msgspec.Meta]:
    """The type without ``| None`` and bounds, and the bounds."""
    bounds = msgspec.Meta()
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation, bounds = typing.get_args(annotation)[:2]
        elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
            members = [member for member in typing.get_args(annotation) if member is not type(None)]
            assert len(members) == 1, f"{annotation}: an option has one type"
            annotation = members[0]
        else:
            return annotation, bounds


def _click_type(base: Any, bounds: msgspec.Meta, setting: Setting) -> click.ParamType:
    if setting.choices:
        return click.Choice(setting.choices)
    if typing.get_origin(base) is Literal:
        return click.Choice([str(choice) for choice in typing.get_args(base)])
    if typing.get_origin(base) is tuple:
        return CommaSeparated(typing.get_args(base)[0], setting)
    if base is str:
        return Text(empty=not bounds.min_length)
    low = bounds.ge if bounds.ge is not None else bounds.gt
    high = bounds.le if bounds.le is not None else bounds.lt
    high = None if high is not None and high >= LARGEST_SHOWN else high
    number: Any = {int: click.INT, float: click.FLOAT}[base]
    if low is None and high is None:
        return number
    in_range: Any = {int: click.IntRange, float: click.FloatRange}[base]
    return in_range(low, high, min_open=bounds.gt is not None, max_open=high is not None and bounds.lt is not None)


class Text(click.ParamType):
    """A word; an empty one, as an unset shell variable leaves it, only where ``empty``."""

    name = "text"

    def __init__(self, *, empty: bool):
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and not self.empty:
            self.fail("'' is empty", param, ctx)
        return value


class CommaSeparated(click.ParamType):
    """Values between commas, each of type ``item``."""

    name = "list"

    def __init__(self, item: Any, setting: Setting):
        self.item, self.setting = _unwrap(item)[0], setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        option, words = f"--{self.setting.name.replace('_', '-')}", [word.strip() for word in value.split(",")]
        if typing.get_origin(self.item) is Literal:
            choices = typing.get_args(self.item)
            for word in words:
                if word not in choices:
                    fix = f"valid: {', '.join(choices)}, separated by commas"
                    raise InputError(option, word, "is not one of its values", fix)
            return tuple(words)
        try:
            return tuple(self.item(word) for word in words)
        except ValueError:
            kind, example = ("whole numbers", "0,1,2") if self.item is int else ("numbers", "0.005,0.01,0.02,0.04")
            raise InputError(option, value, f"is not a list of {kind}", f"give such as {example}") from None


def _help_and_unset(text: str) -> tuple[str, str]:
    """A field's text without its last sentence ``None: ...``, and what that says: what holds where it is not set."""
    match = re.fullmatch(r"(.*?) ?None: (.*?)\.?", text)
    return (match[1], match[2]) if match else (text, "")


def _shown(default: Any) -> str:
    """A default as one would type it."""
    if default is None or default is False or default is msgspec.NODEFAULT:
        return ""
    if default is True:
        return "on"
    if isinstance(default, tuple):
        return ",".join(str(item) for item in default)
    if isinstance(default, float) and default and math.log10(abs(default)) < -4:
        return f"{default:g}"
    return str(default)
