"""README's sentence on where growing paid, from committed Records: every number in it is computed again here."""

import re

import numpy as np
import pytest

from latebloom.theory.record import read_record
from latebloom.train.experiments.study import read_study, study_arms, study_table
from tests.benchmarks.timing_laws import RECORDS, ROOT, STUDIES

GROWN = [f"best-1-2-at-{share}-C400" for share in (0.3, 0.5, 0.7)]


def finals(study):
    names = [f"{arm.name}-s{seed}" for arm in study_arms(study) for seed in study.seeds]
    paths = {name: RECORDS / study.name / f"{name}.parquet" for name in names}
    return {name: read_record(path).final() for name, path in paths.items() if path.exists()}


def sentence():
    text = re.search(r"<!-- evidence -->(.*?)<!-- end of evidence -->", (ROOT / "README.md").read_text(), re.S)
    return " ".join(text[1].split())


@pytest.fixture(scope="module")
def recipes():
    study = read_study(STUDIES / "recipes_w16.toml")
    measured = finals(study)
    return study, measured, {row.arm: row for row in study_table(study, measured)}


def test_where_growing_paid(recipes):
    study, measured, rows = recipes
    one, two = rows["fixed-1-C400"], rows["fixed-2-C400"]
    assert one.above_best_fixed == 0 and two.above_best_fixed > 0  # one block is the best fixed depth
    said = []
    for arm in GROWN:
        seeds = [seed for seed in study.seeds if f"{arm}-s{seed}" in measured]
        gap = np.array([measured[f"{arm}-s{seed}"] - measured[f"fixed-1-C400-s{seed}"] for seed in seeds])
        assert rows[arm].above_best_fixed == pytest.approx(gap.mean(), abs=1e-12)
        said.append(f"{-gap.mean():.4f} +- {gap.std(ddof=1) / len(gap) ** 0.5:.4f}".replace("0.", "."))
        assert f"of {len(gap)} seeds" in sentence()
    assert f"{said[0]}, {said[1]} and {said[2]} nats below" in sentence(), said


def test_where_it_did_not(recipes):
    below_full = below_best = count = 0
    for path in sorted(STUDIES.glob("*.toml")):
        study = read_study(path)
        measured = finals(study)
        for arm in study_arms(study):
            if not arm.name.startswith("grown-"):
                continue
            for seed in study.seeds:
                fixed = [measured.get(f"fixed-{depth}-C{arm.compute}-s{seed}") for depth in study.depths]
                ended, full = measured.get(f"{arm.name}-s{seed}"), fixed[study.depths.index(study.full_depth)]
                if ended is None or full is None:
                    continue
                count += 1
                below_full += ended < full
                below_best += ended < min(loss for loss in fixed if loss is not None)
    said = f"below the full depth of equal compute in {below_full} of {count} runs and below the best fixed depth in "
    assert said + (f"{below_best}" if below_best else "none") in sentence(), (below_full, below_best, count)
