"""One run from plan to record: the loop, checkpoints, what a run takes, what it shows."""
