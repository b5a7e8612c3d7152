"""From measured runs to landscapes: readers of curves, the fit engine, the fits of each law."""
