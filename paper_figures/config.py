"""How figures are drawn: the settings of `latebloom figures`; its options and files come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from latebloom.theory.spec import Spec

__all__ = ["FigureConfig", "Format"]

Format = Literal["pdf", "svg", "png"]


class FigureConfig(Spec, frozen=True, kw_only=True):
    """Looks and files; the CSV, the caption and the sidecar are always written.

    Attributes:
        format: Picture files to write.
        width: Of every figure in inches; heights in proportion, letters shrink with it, never grow. None: each its own.
        style: A style sheet of matplotlib, by name or file, put over this project's own. None: no other.
    """

    format: Annotated[tuple[Format, ...], Meta(min_length=1)] = ("pdf", "svg", "png")
    width: Annotated[float, Meta(ge=2, le=40)] | None = None
    style: Annotated[str, Meta(min_length=1)] | None = None
