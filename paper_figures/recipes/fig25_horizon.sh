#!/bin/sh
# Figure 25 is theory at 124M to 7B; the plans at both ends of it:
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: the mixing area.
set -e
latebloom plan --model gpt2-7b --steps 20000 --batch-tokens 524288 --u-mix-area 169.7 --out grow20000.json
latebloom plan --model gpt2-7b --steps 500000 --batch-tokens 524288 --u-mix-area 169.7 --out grow500000.json
latebloom figures --only fig25
