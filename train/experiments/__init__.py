"""Several runs for one question: the demo, ablations, learning-rate sweeps, coordinate checks."""
