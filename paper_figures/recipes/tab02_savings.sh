#!/bin/sh
# Table 2 is counted from the published shapes; the price of one plan:
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
latebloom plan --model gpt2-7b --steps 100000 --batch-tokens 524288 --u-mix 0.12 --out 7b.json
latebloom train 7b.json --dry-run
latebloom figures --only tab02
