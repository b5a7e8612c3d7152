"""One of two ranks is killed by the system, twenty times: the other says so, the run goes on as if never stopped."""

import os
import signal

import pytest

from latebloom.train import ranks as ranks_module
from latebloom.train.run import checkpoint
from latebloom.train.run.loop import train
from latebloom.train.run.trainee import Trainee
from tests.ranks import on_ranks
from tests.test_train_ranks import CONFIG, assert_same, go_on, held, plan_of, run

# Two ranks, twelve steps, an expansion at 6; checkpoints every fifth step, either side of the expansion, at the end.
KILLS = [
    *(("update", step) for step in (1, 2, 4, 5, 6, 7, 8, 10, 11)),
    ("before growth", 6), ("after growth", 6),
    *((f"{when} writing", moment) for moment in ("5-stage-0", "6-stage-0", "6-stage-1", "10-stage-1")
      for when in ("before", "after")),
    ("before writing", "12-stage-1"),
]  # fmt: skip


def killed(plan, data, out, event, moment):
    """A run whose last rank is killed by the system at a moment of an update, growth or the writing of a checkpoint."""
    updates, grows, writes = Trainee.update, Trainee.grow, checkpoint._write_tensors
    ranks_module.ANSWER_S = 0.5  # nobody is left who could answer

    def die(here, at, rank):
        if (here, at) == (event, moment) and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def update(self, **options):
        die("update", self.step, self.ranks.rank)
        return updates(self, **options)

    def grow(self):
        die("before growth", self.step, self.ranks.rank)
        grows(self)
        die("after growth", self.step, self.ranks.rank)

    def write(part, model, flat, ranks, shapes):
        name = part.name.removeprefix(".step-").removesuffix(".part").lstrip("0")
        die("before writing", name, ranks.rank)
        written = writes(part, model, flat, ranks, shapes)
        die("after writing", name, ranks.rank)
        return written

    Trainee.update, Trainee.grow, checkpoint._write_tensors = update, grow, write
    try:
        train(plan, data=data, out=out, config=CONFIG)
    except RuntimeError as error:
        return type(error).__name__, str(error)
    finally:
        Trainee.update, Trainee.grow, checkpoint._write_tensors = updates, grows, writes


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """The run that those of :data:`KILLS` must come to."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    return run(plan_of(), data, out), out


@pytest.mark.parametrize(("event", "moment"), KILLS)
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_as_if_never_stopped(
    event, moment, data, uninterrupted, tmp_path
):
    final, whole = uninterrupted
    (name, text), code = on_ranks(killed, 2, plan_of(), data, tmp_path / "cut", event, moment)
    assert name == "PeerLost" and text.endswith("resume the run") and "\n" not in text
    assert code == -signal.SIGKILL
    assert on_ranks(go_on, 2, tmp_path / "cut") == [final, final]
    assert_same(held(whole), held(tmp_path / "cut"))
