"""README's table of where growing paid, and what is said beside it, from committed Records."""

import re

import numpy as np
import pytest

from latebloom.theory.record import read_record
from latebloom.train.experiments.study import read_study, study_table
from tests.benchmarks.timing_laws import RECORDS, STUDIES
from tests.evidence_table import CELLS, PAGE, SHARES, cell, finals, written


def test_the_table_is_what_the_records_say():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "python -m tests.evidence_table"


@pytest.mark.parametrize(("name", "compute", "arm"), CELLS.values(), ids=CELLS)
def test_gaps_are_to_the_fixed_depth_of_the_lowest_mean(name, compute, arm):
    """Once more from the Records alone, and as a study's own table tells them."""
    depth = int(cell(name, compute, arm)[0].split()[0])
    study = read_study(STUDIES / f"{name}.toml")
    rows = {row.arm: row for row in study_table(study, finals(study))}
    others = [row for row in rows.values() if row.compute == compute and not row.grown]
    assert all(row.above_best_fixed >= 0 for row in others) and rows[f"fixed-{depth}-C{compute}"].above_best_fixed == 0
    for share, gap in zip(SHARES, cell(name, compute, arm)[1], strict=True):
        grown = f"{arm.format(share)}-C{compute}"
        paths = {path.stem.rpartition("-s")[2]: path for path in (RECORDS / name).glob(f"{grown}-s*.parquet")}
        ends = {s: (path, RECORDS / name / f"fixed-{depth}-C{compute}-s{s}.parquet") for s, path in paths.items()}
        direct = [read_record(a).final() - read_record(b).final() for a, b in ends.values() if b.exists()]
        assert len(direct) == len(gap.values)
        if direct:
            assert np.mean(direct) == pytest.approx(gap.values.mean(), abs=1e-12)
            assert rows[grown].above_best_fixed == pytest.approx(gap.values.mean(), abs=1e-12)


def test_what_is_said_above_the_table_holds():
    """In cells of several seeds growing pays by that share of the loss; with a head untied nothing is told apart."""
    said = re.search(r"by ([\d.]+) to ([\d.]+) % of the loss", PAGE.read_text(encoding="utf-8"))
    shares = []
    for told, (name, compute, arm) in CELLS.items():
        best, gaps = cell(name, compute, arm)
        for gap in gaps:
            if len(gap.values) > 2:
                share = -100 * gap.values.mean() / float(best.split()[-1])
                if "untied" in told:
                    assert abs(gap.values.mean()) < 2 * gap.values.std(ddof=1) / len(gap.values) ** 0.5, told
                else:
                    shares.append(share)
    assert tuple(f"{share:.1f}".removeprefix("0") for share in (min(shares), max(shares))) == said.groups()
