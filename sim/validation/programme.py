"""Runs the checks: one process a core with one thread each, results stored as they come, in the order of the table."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from latebloom.sim.claims import Claim, claim_data
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole

__all__ = ["CHECKS", "run_programme"]

# check: its home; the longest first, so that cores end together. A result stands under the name of its check.
CHECKS = {
    "muon_regret": "regret",
    "normalised_law": "expansions",
    "adam_regret": "regret",
    "sgd_regret": "regret",
    "depth_slopes": "transfer",
    "area_law": "expansions",
    "cold_starts": "retention",
    "coupled_kappa": "retention",
    "noise_floors": "dynamics",
    "memory": "expansions",
    "copies": "expansions",
    "initialisations": "expansions",
    "stages": "expansions",
    "width_slopes": "transfer",
    "one_step_optima": "transfer",
    "muon_hits": "dynamics",
    "time_scaling": "dynamics",
    "edge_of_stability": "dynamics",
    "saxe": "dynamics",
}


def run_programme(
    out: Path | None,
    *,
    quick: bool,
    only: tuple[str, ...] = (),
    processes: int | None = None,
    on_done: Callable[[str, list[dict], bool], None] | None = None,
) -> dict[str, list[dict]]:
    """Claims of every check, by check; those stored under ``out`` are not computed again.

    Args:
        out: Directory of results, one JSON file a check; None stores nothing.
        quick: The small version of each check.
        only: Names of checks; all by default.
        processes: At once; one a core by default.
        on_done: Called with (check, its claims, whether they were stored before) as each is done.

    Raises:
        InputError: if what stands under ``out`` is no result.
    """
    names = [name for name in CHECKS if not only or name in only]
    found: dict[str, list[dict]] = {}
    for name in names:
        path = _path(out, name, quick)
        if path is not None and path.is_file():
            try:
                found[name] = list(json.loads(path.read_text(encoding="utf-8"))["claims"])
            except (ValueError, LookupError, TypeError):
                rule = "is not a result that was stored here"
                raise InputError("--out", str(path), rule, "remove it, and it is computed anew") from None
            if on_done is not None:
                on_done(name, found[name], True)
    missing = [name for name in names if name not in found]
    for name, claims in _computed(missing, quick, processes or _cores()):
        path = _path(out, name, quick)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            result = {"check": name, "quick": quick, "claims": claims}
            write_whole(path, json.dumps(result, indent=1, allow_nan=False))
        found[name] = claims
        if on_done is not None:
            on_done(name, claims, False)
    return {name: found[name] for name in names}


def _computed(names: list[str], quick: bool, processes: int) -> Iterator[tuple[str, list[dict]]]:
    if processes == 1 or len(names) <= 1:
        for name in names:
            yield name, _check(name, quick)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(names)), mp_context=context) as pool:
        jobs = {pool.submit(_check, name, quick): name for name in names}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check(name: str, quick: bool) -> list[dict]:
    import torch

    torch.set_num_threads(1)  # small products thrash on more
    check = getattr(importlib.import_module(f"latebloom.sim.validation.{CHECKS[name]}"), name)
    claims: list[Claim] = check(quick=quick)
    return [claim_data(claim) for claim in claims]


def _path(out: Path | None, name: str, quick: bool) -> Path | None:
    return None if out is None else out / ("quick" if quick else "full") / f"{name}.json"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
