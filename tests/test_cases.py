"""Every case of ``tests/cases`` is right, or refused with a reason, as it says."""

import os

import pytest

from tests.cases.all import CASES
from tests.cases.table import outcome


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # trainers'
@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.kind}-{one.what[:48]}")
def test_case(one, tmp_path, monkeypatch):
    if one.two_processes and not os.environ.get("LATEBLOOM_PROCESSES"):
        pytest.skip("starts two processes: python -m tests.cases --processes, or set LATEBLOOM_PROCESSES=1")
    monkeypatch.chdir(tmp_path)
    verdict, seen = outcome(one, tmp_path)
    if verdict == "skipped":
        pytest.skip(seen)
    assert verdict == one.expected, seen
