#!/bin/sh
# Figure 24 is theory, the same at every scale; for a plan of your own:
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: the mixing area.
set -e
latebloom plan --model gpt2-124m --steps 100000 --batch-tokens 524288 --u-mix 0.12 --out one.json
latebloom schedule one.json
latebloom figures --only fig24
