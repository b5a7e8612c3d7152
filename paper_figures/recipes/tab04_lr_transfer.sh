#!/bin/sh
# Table 4 evaluated for 124M to 7B:
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
latebloom transfer --base-width 768 --base-depth 12 --width 3072 --depth 60
latebloom figures --only tab04
