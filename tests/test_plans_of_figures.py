"""Plans of small runs that figures show: each is readable, and a committed Record of that name ran that very plan."""

from pathlib import Path

import pytest

from latebloom.paper_figures.paths import DATA
from latebloom.theory import read_plan, read_record

PLANS = Path(__file__).resolve().parent.parent / "paper_figures" / "plans"


@pytest.mark.parametrize("path", sorted(PLANS.rglob("*.json")), ids=lambda path: path.stem)
def test_a_record_of_a_plans_name_ran_that_plan(path):
    plan = read_plan(path)
    assert plan.name == path.stem
    for file in (DATA / path.parent.name).glob(f"{path.stem}_s*.parquet"):
        assert read_record(file).header.plan_digest == plan.digest
