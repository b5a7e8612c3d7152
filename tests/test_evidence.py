"""README's sentence on where growing paid, from committed Records: every number in it is computed again here."""

import re

import numpy as np
import pytest

from latebloom.theory.record import read_record
from latebloom.train.experiments.study import read_study, study_arms, study_table
from tests.benchmarks.timing_laws import RECORDS, ROOT, STUDIES

CELLS = [  # study, compute, grown arms of which README tells the gap
    ("map_bytes_far", 350, [f"grown-1-2-x{share}-copy_zero_last-stack-C350" for share in (0.5, 0.7)]),
    ("recipes_w16", 400, [f"best-1-2-at-{share}-C400" for share in (0.5, 0.7)]),
]

RATES = {0.014: "far_rate_014", 0.02: "map_bytes_far", 0.028: "far_rate_028"}
GROWN = "grown-1-2-x0.5-copy_zero_last-stack-C350"


def finals(study):
    names = [f"{arm.name}-s{seed}" for arm in study_arms(study) for seed in study.seeds]
    paths = {name: RECORDS / study.name / f"{name}.parquet" for name in names}
    return {name: read_record(path).final() for name, path in paths.items() if path.exists()}


def sentence():
    text = re.search(r"<!-- evidence -->(.*?)<!-- end of evidence -->", (ROOT / "README.md").read_text(), re.S)
    return " ".join(text[1].split())


@pytest.mark.parametrize(("name", "compute", "arms"), CELLS)
def test_where_growing_paid(name, compute, arms):
    study = read_study(STUDIES / f"{name}.toml")
    measured = finals(study)
    rows = {row.arm: row for row in study_table(study, measured) if row.compute == compute}
    best = f"fixed-1-C{compute}"
    others = [row for arm, row in rows.items() if not row.grown and arm != best]
    assert len(others) >= 2 and all(row.above_best_fixed > 0 for row in others)  # one block is the best fixed depth
    said = []
    for arm in arms:
        seeds = [seed for seed in study.seeds if f"{arm}-s{seed}" in measured]
        gap = np.array([measured[f"{arm}-s{seed}"] - measured[f"{best}-s{seed}"] for seed in seeds])
        assert rows[arm].above_best_fixed == pytest.approx(gap.mean(), abs=1e-12)
        said.append(f"{-gap.mean():.4f} +- {gap.std(ddof=1) / len(gap) ** 0.5:.4f}".replace("0.", "."))
        assert f"{len(gap)} seeds" in sentence()
    assert f"{said[0]} and {said[1]}" in sentence(), said


def test_either_at_its_best_rate():
    """Over the seeds that were trained at every rate."""
    ends = {rate: finals(read_study(STUDIES / f"{name}.toml")) for rate, name in RATES.items()}
    seeds = [s for s in range(6) if all(f"{arm}-s{s}" in at for at in ends.values() for arm in (GROWN, "fixed-1-C350"))]

    def best(arm):
        losses = [np.array([at[f"{arm}-s{seed}"] for seed in seeds]) for at in ends.values()]
        return min(losses, key=lambda of_seeds: of_seeds.mean())

    gap = best("fixed-1-C350") - best(GROWN)
    assert len(seeds) >= 2
    said = f"{gap.mean():.4f} +- {gap.std(ddof=1) / len(gap) ** 0.5:.4f} ({len(seeds)} seeds)".replace("0.", ".")
    assert said in sentence(), said


def test_where_it_did_not():
    below_full = below_best = count = 0
    for path in sorted(STUDIES.glob("*.toml")):
        study = read_study(path)
        measured = finals(study)
        for arm in study_arms(study):
            if not arm.name.startswith("grown-"):
                continue
            for seed in study.seeds:
                named = {depth: f"fixed-{depth}-C{arm.compute}-s{seed}" for depth in study.depths}
                fixed = {depth: measured[name] for depth, name in named.items() if name in measured}
                ended = measured.get(f"{arm.name}-s{seed}")
                if ended is None or arm.plan.depth not in fixed:
                    continue
                count += 1
                below_full += ended < fixed[arm.plan.depth]
                if ended < min(fixed.values()):
                    below_best += 1
                    assert [stage.depth for stage in arm.plan.stages] == [1, 2], arm.name
    said = f"depth that they grow to in {below_full} of {count} runs and below the best fixed depth in {below_best}, "
    assert said in sentence(), (below_full, below_best, count)
