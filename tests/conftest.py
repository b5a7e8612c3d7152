"""One thread a process: small matrices thrash otherwise, and pytest-xdist runs one process a core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
