"""Where figures read and write: the one place that knows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "OUTPUT", "STYLE"]

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"  # committed Records, Parquet
STYLE = HERE / "latebloom.mplstyle"
OUTPUT = Path("figures")  # below the current directory
