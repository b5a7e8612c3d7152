"""How far pilots of a smaller width or batch carry: slope, depth gap and recovery beside those of the target's size.

    python -m tests.benchmarks.pilot_sizes [--json]

From committed Records (``paper_figures/data/pilot_sizes``, one seed): 1 -> 4 blocks of width 64 on bytes of novels,
context 64, 800 steps of 768 tokens, Muon-NSGD at .015, random blocks; the same at width 32, and there with half the
tokens a step. All else is the same, the steps too.

    slope      -d ln s/d ln T between 400 and 800 steps, per cent an e-fold, relative to the loss at 800
    depth_gap  (s - f)/s at 200, 400 and 800 steps, per cent
    recovered  (s - P)/(s - f) at 800 steps, grown at 160, 400 and 600
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from latebloom.theory.record import read_record

RECORDS = Path(__file__).resolve().parents[2] / "paper_figures" / "data" / "pilot_sizes"
HORIZON = 800
TAUS = (160, 400, 600)
SIZES = {"target": (64, 768), "half width": (32, 768), "half width, half batch": (32, 384)}


@dataclass(frozen=True, kw_only=True)
class PilotSize:
    """What pilots of one size say of growing, in per cent and shares."""

    slope: float
    depth_gap: tuple[float, ...]
    recovered: tuple[float, ...]


def pilot_size(width: int, batch_tokens: int) -> PilotSize:
    """Of the Records of one width and batch."""
    final = lambda name: read_record(RECORDS / f"w{width}_b{batch_tokens}_{name}.parquet").final()  # noqa: E731
    small, full = ({steps: final(f"{depth}-{steps}") for steps in (200, 400, HORIZON)} for depth in ("small", "full"))
    gap = small[HORIZON] - full[HORIZON]
    return PilotSize(
        slope=100 * (small[400] - small[HORIZON]) / np.log(2) / small[HORIZON],
        depth_gap=tuple(100 * (small[steps] - full[steps]) / small[steps] for steps in small),
        recovered=tuple((small[HORIZON] - final(f"grown-{HORIZON}-at-{tau}")) / gap for tau in TAUS),
    )


def main() -> None:
    """Print the three sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    found = {name: asdict(pilot_size(*size)) for name, size in SIZES.items()}
    if given.json:
        print(json.dumps(found))
        return
    for name, size in found.items():
        print(f"{name:<24}slope {size['slope']:5.2f} %")
        for quantity in ("depth_gap", "recovered"):
            print(f"{'':<24}{quantity} " + " ".join(f"{value:.2f}" for value in size[quantity]))


if __name__ == "__main__":
    main()
