"""Where figures read and write: the one place that knows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "OUTPUT", "STYLE", "WEB"]

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"  # committed Records, Parquet
STYLE = HERE / "latebloom.mplstyle"
WEB = HERE / "web"  # templates, style and scripts of explorer and report
OUTPUT = Path("figures")  # below the current directory
