#!/bin/sh
# Table 1 at other widths and block kinds: a few seconds on any computer.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: widths 32 and 128.
set -e
python -m latebloom.train.experiments.growth_table records/growth_operators.parquet
latebloom figures --only tab01 --data records
