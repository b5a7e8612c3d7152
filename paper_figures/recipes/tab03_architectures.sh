#!/bin/sh
# Table 3 is counted from the published shapes:
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
latebloom figures --only tab03
