"""Prints the table of cases."""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch

from tests.cases.all import CASES
from tests.cases.table import outcome


def main() -> None:
    """Print the table; exit 1 if a row is WRONG or not as expected."""
    processes, bad, counts = "--processes" in sys.argv, 0, Counter()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'kind':>4}  {'':8}  situation")
    for one in sorted(CASES, key=lambda c: c.kind):
        if one.two_processes and not processes:
            counts["left out (--processes runs them)"] += 1
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict, seen = outcome(one, Path(folder))
            seen = seen.replace(folder, "DIR")
        counts[verdict] += 1
        bad += verdict not in (one.expected, "skipped")
        print(f"{one.kind:>4}  {verdict:8}  {one.what}\n{'':16}{seen[:230]}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; {bad} not as they should be")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
