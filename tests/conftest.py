"""One thread a process: small matrices thrash otherwise, and pytest-xdist runs one process a core.

On the CPU also where there is a GPU: what is asked bit for bit holds there alone.
"""

import gc
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # whoever set it; before torch is loaded, here and in what tests start
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_finish():
    """Modules stay: looking for garbage among them again and again took a tenth of the suite's processor time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _powered():
    """No test cuts the power, so that none waits for the disk; a killed process leaves what it wrote all the same."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of thirty texts of four words, a byte a token: the data of runs of which only equality is asked."""
    import numpy as np  # here: its BLAS reads the number of threads when it is loaded

    from latebloom.train.data.corpus import prepare

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(30):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(["grow", "depth", "late", "bloom"], 300)))
    prepare(sorted(folder.glob("*.txt")), folder / "data", tokenizer="bytes", val_share=0.2)
    return folder / "data"
