"""Where figures read and write: the one place that knows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "OUTPUT", "PREDICTIONS", "RECIPES", "STYLE", "WEB"]

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"  # committed Records, Parquet
RECIPES = HERE / "recipes"  # how to make the same data at the paper's scale
PREDICTIONS = HERE.parent / "studies" / "predictions"  # plans that predict arms of studies, frozen before they ran
STYLE = HERE / "latebloom.mplstyle"
WEB = HERE / "web"  # templates, style and scripts of explorer and report
OUTPUT = Path("figures")  # below the current directory
