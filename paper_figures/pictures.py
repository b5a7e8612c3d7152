"""Pictures of figures as files: the same bytes twice, and narrower than they were laid out with letters that shrink."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_picture"]

METADATA: dict[str, dict[str, Any]] = {  # none that changes from run to run
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}


def write_picture(figure: Figure, path: Path, scale: float = 1.0) -> None:
    """Write ``figure`` as PDF, SVG or PNG, everything in it ``scale`` times its size.

    Args:
        figure: Laid out at its own size.
        path: Its suffix says as what.
        scale: Of lengths, letters and lines among them.
    """
    import matplotlib as mpl

    metadata = METADATA[path.suffix]
    if path.suffix == ".png":
        dots = mpl.rcParams["savefig.dpi"]
        figure.savefig(path, metadata=metadata, dpi=scale * (figure.dpi if dots == "figure" else float(dots)))
    elif scale == 1 or path.suffix == ".svg":
        figure.savefig(path, metadata=metadata)
        if scale != 1:
            _scale_svg(path, scale)
    else:
        _write_scaled_pdf(figure, path, scale, metadata)


def _scale_svg(path: Path, scale: float) -> None:
    """The size on the page; what is inside keeps its coordinates, the viewBox."""
    head, svg, rest = path.read_text(encoding="utf-8").partition("<svg ")
    sized = re.sub(
        r'(width|height)="([\d.]+)pt"', lambda size: f'{size[1]}="{scale * float(size[2]):.6g}pt"', rest, count=2
    )
    path.write_text(head + svg + sized, encoding="utf-8")


def _write_scaled_pdf(figure: Figure, path: Path, scale: float, metadata: dict[str, Any]) -> None:
    """matplotlib has no scale for PDF: its page is made smaller, and begins with a change of coordinates."""
    from matplotlib.backends.backend_pdf import Op, PdfPages

    with PdfPages(path, metadata=metadata) as pages:
        file = pages._ensure_file()
        new_page = file.newPage

        def smaller(width: float, height: float) -> None:
            new_page(width * scale, height * scale)
            file.output(scale, 0, 0, scale, 0, 0, Op.concat_matrix)

        file.newPage = smaller
        pages.savefig(figure)
