"""Every figure and table of the project: its name, the module that makes it, and the Records that it reads.

A module of :mod:`latebloom.paper_figures.figures` declares

    RECORDS     names of Records below ``data/``, without suffix, all needed; patterns such as ``studies/*/*`` take what
                there is, of which some must be
    MADE_BY     only with patterns: the command that makes such Records
    prepare     records -> what the next three take, where it is dear to compute; without it they take the records
    make        -> Figure
    caption     -> what it shows, its numbers computed
    data        -> Table for the CSV; without it the CSV holds the points of the labelled lines

and never simulates or trains. ``recipes/NAME.sh`` says which commands make the same data at the paper's scale.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latebloom.paper_figures.config import FigureConfig
from latebloom.paper_figures.missing import MissingRecords, require
from latebloom.paper_figures.paths import DATA, RECIPES, STYLE
from latebloom.paper_figures.pictures import write_picture
from latebloom.paper_figures.tables import csv_text, line_points
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.record import RECORD_FILE, Record, checkout_commit, read_record, record_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "content_of", "draw", "load_records", "module", "recipe", "save_figure", "save_runs"]

FIGURES = {
    "fig01": "fig01_fixed_against_progressive",
    "fig02": "fig02_theory_against_simulation",
    "fig03": "fig03_initialisations_and_orders",
    "fig04": "fig04_predicted_gaps",
    "fig05": "fig05_mixing_after_expansion",
    "fig06": "fig06_schedules",
    "fig07": "fig07_area_collapse",
    "fig08": "fig08_initialisations",
    "fig09": "fig09_orders",
    "fig10": "fig10_stages",
    "fig11": "fig11_small_depths",
    "fig12": "fig12_optimizers",
    "fig13": "fig13_lr_transfer",
    "fig14": "fig14_bounds",
    "fig15": "fig15_scaling",
    "fig16": "fig16_architectures",
    "fig17": "fig17_limits_of_growing",
    "fig18": "fig18_map_of_transfer",
    "fig19": "fig19_recipes",
    "fig20": "fig20_timing_laws",
    "fig21": "fig21_verdict_map",
    "fig22": "fig22_loss_laws",
    "fig23": "fig23_frozen_predictions",
    "fig24": "fig24_qualifying_exam",
    "fig25": "fig25_horizon",
    "kills": "kills",
    "tab01": "tab01_initialisations",
    "tab02": "tab02_savings",
    "tab03": "tab03_architectures",
    "tab04": "tab04_lr_transfer",
    "tab05": "tab05_rate_across_expansion",
    "tab06": "tab06_controls",
    "tab07": "tab07_equal_compute",
}
RUNS = "own_runs"  # the figure of anyone's records
PATTERN = "*"  # in a name of RECORDS: as many as there are


def module(name: str) -> ModuleType:
    """The module that makes a figure.

    Args:
        name: Of the figure, such as 'fig01'.

    Raises:
        InputError: with the nearest name, if there is none.
    """
    if name not in FIGURES:
        raise InputError("figure", name, "is not a figure", nearest(name, FIGURES))
    return importlib.import_module(f"latebloom.paper_figures.figures.{FIGURES[name]}")


def recipe(name: str) -> Path:
    """The commands that make the data of a figure at the paper's scale, a shell script.

    Args:
        name: Of the figure, such as 'fig01'.
    """
    return RECIPES / f"{FIGURES[name]}.sh"


def load_records(names: Sequence[str], folder: Path = DATA, *, made_by: str = "git checkout") -> dict[str, Record]:
    """Read Records by name.

    Args:
        names: Of files below ``folder``, without their suffix, of run directories, or patterns of such names.
        folder: Where the records are.
        made_by: The command that makes what is missing, for the message.

    Raises:
        MissingRecords: naming the record that is missing; a figure is never drawn from less.
    """
    return {name: _read(path) for name, path in _paths(names, folder, made_by).items()}


def content_of(name: str, folder: Path = DATA) -> Any:
    """What figure ``name`` is drawn from.

    Args:
        name: Of the figure, such as 'fig01'.
        folder: Where the records are.

    Raises:
        MissingRecords: if a record that it needs is not there.
    """
    made = module(name)
    return _prepared(made, _records_of(made, folder))


def draw(name: str, folder: Path = DATA, config: FigureConfig | None = None) -> Figure:
    """Make figure ``name`` from its records.

    Args:
        name: Of the figure, such as 'fig01'.
        folder: Where the records are.
        config: How it looks.
    """
    return _draw(module(name), content_of(name, folder), config or FigureConfig())


def save_figure(
    name: str, output: Path, folder: Path = DATA, config: FigureConfig | None = None, *, command: str | None = None
) -> list[Path]:
    """Draw figure ``name`` and write its pictures, CSV, caption and sidecar, the same bytes on one environment.

    Args:
        name: Of the figure, such as 'fig01'.
        output: Directory to write to; it is made if need be.
        folder: Where the records are.
        config: How it looks, and as which pictures.
        command: That draws it, for the sidecar.

    Returns:
        The files written: pictures, then CSV, caption (.txt) and sidecar (.json).

    Raises:
        MissingRecords: if a record that it needs is not there; nothing is written.
    """
    made = module(name)
    paths = _paths(made.RECORDS, folder, _made_by(made))
    records = _records_of(made, folder)
    told = {
        "figure": FIGURES[name],
        "command": command or f"latebloom figures --only {name}",
        "recipe": f"paper_figures/recipes/{recipe(name).name}",
    }
    return _save(made, records, paths, output / FIGURES[name], config or FigureConfig(), told)


def save_runs(runs: Sequence[Path], output: Path, config: FigureConfig | None = None) -> list[Path]:
    """The figure of anyone's records: their losses against steps and against compute.

    Args:
        runs: Run directories or record files, or directories of those.
        output: Directory to write to; it is made if need be.
        config: How it looks, and as which pictures.

    Raises:
        InputError: if one is no record, or there is none.
    """
    found = [inner for path in runs for inner in _runs_at(path)]
    paths = {record_name(path): path for path in found}
    if len(paths) < len(found):  # runs of one name in different folders
        paths = {str(path): path for path in found}
    made = importlib.import_module(f"latebloom.paper_figures.figures.{RUNS}")
    records = {name: _read(path) for name, path in paths.items()}
    told = {"figure": RUNS, "command": "latebloom figures " + " ".join(str(path) for path in runs), "recipe": None}
    return _save(made, records, paths, output / RUNS, config or FigureConfig(), told)


def _runs_at(path: Path) -> list[Path]:
    """A run or record file itself; those in a directory that is not a run."""
    if not path.is_dir() or (path / RECORD_FILE).exists():
        return [path]
    found = sorted([*path.rglob("*.parquet"), *(file.parent for file in path.rglob(RECORD_FILE))])
    if not found:
        raise InputError("runs", str(path), "holds no run and no record", "name run directories or record files")
    return found


def _made_by(made: ModuleType) -> str:
    return getattr(made, "MADE_BY", "git checkout")


def _records_of(made: ModuleType, folder: Path) -> dict[str, Record]:
    return load_records(made.RECORDS, folder, made_by=_made_by(made))


def _paths(names: Sequence[str], folder: Path, made_by: str) -> dict[str, Path]:
    """The file or run directory of each record, patterns resolved, in order."""
    paths: dict[str, Path] = {}
    for name in names:
        if PATTERN in name:
            files = [*folder.glob(f"{name}.parquet"), *(f.parent for f in folder.glob(f"{name}/{RECORD_FILE}"))]
            found = {str(path.relative_to(folder).with_name(record_name(path))): path for path in files}
        elif (folder / f"{name}.parquet").exists():
            found = {name: folder / f"{name}.parquet"}
        else:
            found = {name: folder / name} if (folder / name / RECORD_FILE).exists() else {}
        if not found and PATTERN not in name:
            rule = "is a record that this figure needs and is not there"
            raise MissingRecords("record", str(folder / f"{name}.parquet"), rule, f"make it: {made_by}")
        paths |= dict(sorted(found.items()))
    if names:
        require(paths, str(folder / names[0]), made_by)
    return paths


@functools.lru_cache(maxsize=2048)
def _read(path: Path) -> Record:
    return read_record(path)


def _prepared(made: ModuleType, records: Mapping[str, Record]) -> Any:
    return made.prepare(records) if hasattr(made, "prepare") else records


def _draw(made: ModuleType, prepared: Any, config: FigureConfig) -> Figure:
    import matplotlib as mpl

    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    with plt.style.context(_styles(config)):
        figure: Figure = made.make(prepared)
        width, height = figure.get_size_inches()
        if config.width is not None and config.width > width:
            figure.set_size_inches(config.width, height * config.width / width)
    return figure


def _styles(config: FigureConfig) -> list[Any]:
    """Style sheets, later ones over earlier ones; sizes of letters stay ours under matplotlib's, so that labels fit."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    if config.style is None:
        return [STYLE]
    if config.style in plt.style.available:
        ours = mpl.rc_params_from_file(STYLE, use_default_template=False)
        return [STYLE, config.style, {name: value for name, value in ours.items() if name.endswith("size")}]
    if not Path(config.style).is_file():
        rule = "is neither a style sheet of matplotlib nor a file"
        raise InputError("--style", config.style, rule, nearest(config.style, plt.style.available))
    return [STYLE, config.style]


def _save(
    made: ModuleType,
    records: Mapping[str, Record],
    paths: Mapping[str, Path],
    stem: Path,
    config: FigureConfig,
    told: dict[str, Any],
) -> list[Path]:
    """Everything about one figure, beside one another."""
    import matplotlib.pyplot as plt

    prepared = _prepared(made, records)
    figure = _draw(made, prepared, config)
    caption = made.caption(prepared)
    table = made.data(prepared) if hasattr(made, "data") else line_points(figure)
    stem.parent.mkdir(parents=True, exist_ok=True)
    scale = 1.0 if config.width is None else config.width / float(figure.get_size_inches()[0])
    with plt.style.context(_styles(config)):
        _fix_layout(figure)
        for suffix in config.format:
            write_picture(figure, Path(f"{stem}.{suffix}"), scale)
    plt.close(figure)
    texts = {
        "csv": csv_text(table),
        "txt": caption + "\n",
        "json": json.dumps(told | {"caption": caption} | _sources(records, paths, config), indent=1) + "\n",
    }
    for ending, text in texts.items():
        Path(f"{stem}.{ending}").write_text(text, encoding="utf-8")
    return [Path(f"{stem}.{kind}") for kind in (*config.format, *texts)]


def _fix_layout(figure: Figure) -> None:
    """Lay the figure out once, to six digits: the solver's last ones differ from run to run, and name clips in SVG."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(value, 6) for value in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def _sources(records: Mapping[str, Record], paths: Mapping[str, Path], config: FigureConfig) -> dict[str, Any]:
    """What a figure was made from: looks, code, and each record with its plan."""
    import matplotlib as mpl

    return {
        "width": config.width,
        "style": config.style,
        "commit": checkout_commit(),
        "matplotlib": mpl.__version__,
        "records": {
            name: {"sha256": _sha256(paths[name]), "plan": record.header.plan_digest, "seed": record.header.seed}
            for name, record in records.items()
        },
    }


def _sha256(path: Path) -> str:
    file = path / RECORD_FILE if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()
