#!/bin/sh
# The figure of kills has no larger scale: what is killed is small on purpose; about two hours of a core.
# *Chosen by us*, since it does not say: everything; arXiv 2511.04981 speaks of no faults.
set -e
python -m tests.faults.kills --out kills
python -m tests.faults.kills --out kills --record records/kills.parquet
latebloom figures --only kills --data records
