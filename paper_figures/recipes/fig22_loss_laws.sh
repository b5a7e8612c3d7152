#!/bin/sh
# Figure 22 is at the published scales (25M to 124M): fetch the public curves that docs/accuracy.md names.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
python -m tests.benchmarks.loss_laws --data curves --parquet records/loss_laws.parquet
latebloom figures --only fig22 --data records
