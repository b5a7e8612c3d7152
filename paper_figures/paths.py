"""Where figures read and write: the one place that knows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "OUTPUT", "RECIPES", "STYLE"]

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"  # committed Records, Parquet
RECIPES = HERE / "recipes"  # how to make the same data at the paper's scale
STYLE = HERE / "latebloom.mplstyle"
OUTPUT = Path("figures")  # below the current directory
