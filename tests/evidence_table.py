"""README's table of where growing paid, from the committed Records. ``python -m tests.evidence_table`` writes it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latebloom.theory.record import read_record
from latebloom.train.experiments.study import Study, read_study, study_arms, study_table
from tests.benchmarks.timing_laws import RECORDS, ROOT, STUDIES
from tests.helpers import with_between

PAGE = ROOT / "README.md"
MARKERS = ("<!-- evidence: python -m tests.evidence_table -->\n", "<!-- end of evidence -->")
SHARES = (0.5, 0.7)  # of the run, at which one block is grown to two
ONCE, RECIPE = "grown-1-2-x{}-copy_zero_last-stack", "best-1-2-at-{}"  # how studies name such runs

CELLS = {  # what the reader is told of it: study, compute, how its arms are called
    "a: width 16, bytes, batches of 4096": ("map_bytes_far", 350, ONCE),
    "b: width 16, bytes, batches of 1024": ("recipes_w16", 400, RECIPE),
    "c: as b, 1.4 times as long": ("crossing_w16", 1000, ONCE),
    "d: width 32, bytes": ("crossing_w32", 430, ONCE),
    "e: width 24, BPE 1024": ("map_bpe_w24", 1600, ONCE),
    "f: as a at .028, Python's library": ("python_w16", 400, ONCE),
    "as f, seeds declared before (`make demo-growing`)": ("demo_growing", 400, ONCE),
    "as f, 1.2 times as long": ("python_w16", 475, ONCE),
    "g: as d, Python's library": ("python_w32", 440, ONCE),
    "as g, 1.1 times as long": ("python_w32", 500, ONCE),
    "as d, 1.2 times as long": ("crossing_w32", 500, ONCE),
    "as a, head untied": ("untied_w16", 350, ONCE),
    "as b, head untied": ("untied_crossing_w16", 700, ONCE),
    "as c, head untied": ("untied_crossing_w16", 1000, ONCE),
}
RATES = {  # what the reader is told: compute, how the grown arm is called, studies by their learning rate
    "a": (
        350, ONCE, {0.014: "far_rate_014", 0.02: "map_bytes_far", 0.028: "far_rate_028", 0.04: "far_rate_040"}
    ),
    "b": (
        400, RECIPE,
        {0.01: "rate_010_w16", 0.014: "rate_014_w16", 0.02: "recipes_w16", 0.028: "rate_028_w16", 0.04: "rate_040_w16"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Gap:
    """Grown minus fixed, nats, one a seed."""

    values: np.ndarray

    @property
    def text(self) -> str:
        """Mean, standard error and number of seeds."""
        if len(self.values) == 0:
            return ""
        mean, n = f"{self.values.mean():+.4f}".replace("0.", "."), len(self.values)
        error = f"{self.values.std(ddof=1) / n**0.5:.4f}".replace("0.", ".") if n > 1 else "?"
        return f"{mean} ± {error} ({n})"


def finals(study: Study) -> dict[str, float]:
    """Final losses of a study's runs of which there are Records, by ``ARM-sSEED``."""
    names = [f"{arm.name}-s{seed}" for arm in study_arms(study) for seed in study.seeds]
    paths = {name: RECORDS / study.name / f"{name}.parquet" for name in names}
    return {name: read_record(path).final() for name, path in paths.items() if path.exists()}


def cell(name: str, compute: int, arm: str) -> tuple[str, list[Gap]]:
    """(Best fixed depth and what it ends at, gaps of one block grown to two at each of :data:`SHARES`)."""
    study = read_study(STUDIES / f"{name}.toml")
    measured = finals(study)
    rows = [row for row in study_table(study, measured) if row.compute == compute and not row.grown]
    assert len(rows) >= 2
    best = min(rows, key=lambda row: (-len(row.losses), row.mean))  # as study_table has it
    depth = int(best.arm.split("-")[1])
    ends = {share: f"{arm.format(share)}-C{compute}" for share in SHARES}
    gaps = [
        Gap(np.array([
            measured[f"{grown}-s{seed}"] - measured[f"{best.arm}-s{seed}"]
            for seed in study.seeds
            if {f"{grown}-s{seed}", f"{best.arm}-s{seed}"} <= measured.keys()
        ]))
        for grown in ends.values()
    ]  # fmt: skip
    return f"{depth} block{'s' * (depth > 1)}: {best.mean:.4f}", gaps


def at_best_rates(compute: int, arm: str, studies: Mapping[float, str]) -> tuple[list[float], Gap]:
    """(The rates of one block and of what grows at .5 T, gap), each at the rate at which it ends lowest.

    Over the seeds that were trained at .014, .02 and .028; other rates are open where those seeds were trained.
    """
    ends = {rate: finals(read_study(STUDIES / f"{name}.toml")) for rate, name in studies.items()}
    arms = (f"fixed-1-C{compute}", f"{arm.format(0.5)}-C{compute}")
    at_all = [ends[rate] for rate in (0.014, 0.02, 0.028)]
    seeds = [s for s in range(20) if all(f"{name}-s{s}" in at for name in arms for at in at_all)]
    rates, losses = [], []
    for name in arms:
        found = {r: [at.get(f"{name}-s{s}", np.nan) for s in seeds] for r, at in ends.items()}
        rates.append(min(found, key=lambda r: np.nan_to_num(np.mean(found[r]), nan=np.inf)))
        losses.append(np.array(found[rates[-1]]))
    return rates, Gap(losses[1] - losses[0])


def counts() -> tuple[int, int, int]:
    """Runs that grow once: how many end below the depth that they grow to, below every fixed depth; of how many.

    Those that end below every fixed depth of their seed all grow by one block.
    """
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
                    assert arm.plan.depth - arm.plan.stages[0].depth == 1, arm.name
    return below_full, below_best, count


def text() -> str:
    """The table and the sentence below it."""
    lines = ["| one block grown to two | best fixed depth | grown at .5 T | grown at .7 T |", "|---|---|---|---|"]
    for told, (name, compute, arm) in CELLS.items():
        best, gaps = cell(name, compute, arm)
        lines.append(f"| {told} | {best} | {' | '.join(gap.text for gap in gaps)} |")
    for told, tried in RATES.items():
        rates, gap = at_best_rates(*tried)
        best = " and ".join(f"{rate:g}"[1:] for rate in rates)
        lines.append(f"| as {told}, either at its best rate | 1 block, at {best} | {gap.text} | |")
    below_full, below_best, count = counts()
    lines.append("")
    lines.append(
        f"Of {count} runs that grow once, {below_full} end below the fixed depth that they grow to, {below_best} "
        "below\nevery fixed depth that was trained on their seed; all of the latter grow by one block."
    )
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table as it is today."""
    return with_between(page, MARKERS, text())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
