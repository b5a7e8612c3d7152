"""What explorer and report share: pages of one file, made by Jinja2 from the templates and scripts in ``web/``."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from latebloom.paper_figures.paths import WEB

__all__ = ["render_page"]


def render_page(template: str, values: Mapping[str, Any], *, scripts: Sequence[str]) -> str:
    """A page with its style and scripts in it; whatever is put into it is escaped.

    Args:
        template: File in ``web/``.
        values: What the template shows.
        scripts: Files in ``web/``, in the order in which they need one another.
    """
    return _environment().get_template(template).render({"scripts": [_script(name) for name in scripts], **values})


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _script(name: str) -> str:
    """A module as a plain script: all of a page's modules share one scope, so that imports and exports go."""
    text = (WEB / name).read_text(encoding="utf-8")
    return re.sub(r"^import .*\n|^export (?=const|function|class)", "", text, flags=re.MULTILINE)
