"""What a run measures: rows of its record, when it validates, its speed, and how many graphs were compiled."""

from __future__ import annotations

import functools
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.record import RecordWriter
from latebloom.theory.words import blocks_text
from latebloom.train.config import TrainConfig
from latebloom.train.data.tokenizers import find_tokenizer
from latebloom.train.run.checkpoint import State
from latebloom.train.run.progress import Display
from latebloom.train.run.trackers import Tracker
from latebloom.train.run.trainee import Trainee, Update

__all__ = ["Measure", "check_prompt", "graphs_compiled", "validation_steps"]

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_TOKENS = 32  # that a sample adds to its prompt


class Measure:
    """Writes what a trainee does into its record, its tracker and its display.

    Args:
        trainee: It is asked where it is, and validated.
        state: How far the run was; time and training loss go on from there.
        writer: The record; None on all ranks but the first.
        tracker: Where rows are mirrored.
        display: What is shown.
    """

    def __init__(
        self, trainee: Trainee, state: State, *, writer: RecordWriter | None, tracker: Tracker, display: Display
    ):
        self.trainee = trainee
        self.wall_s = state.wall_s  # seconds of training
        self.train_loss_sum, self.train_loss_steps = state.train_loss_sum, state.train_loss_steps  # since the last row
        self.writer, self.tracker, self.display = writer, tracker, display
        self.config: TrainConfig = trainee.config
        self.graphs = 0
        self.told: tuple[int, int] | None = None  # step and stage that the tracker knows
        self.bytes_per_token = bytes_per_token(trainee)
        self.begin_stage()

    def begin_stage(self) -> None:
        """Measure speed anew, from the first update of this stage on: it may compile."""
        self.speed_from: tuple[int, float] | None = None  # step and wall_s

    def update(self) -> Update:
        """Have the trainee make an update, and time it."""
        start, graphs = time.perf_counter(), graphs_compiled()
        logged = self.config.diagnostics and (self.trainee.step + 1) % self.config.log_every == 0
        update = self.trainee.update(measure_movement=logged)
        if self.config.compile:
            self._count_graphs(graphs)
        self.wall_s += time.perf_counter() - start
        self.train_loss_sum += update.loss
        self.train_loss_steps += 1
        if self.speed_from is None:
            self.speed_from = self.trainee.step, self.wall_s
        return update

    def log_update(self, update: Update) -> None:
        """Rows of the mean training loss since the last ones, and of the update.

        Args:
            update: The last one.
        """
        self._row("train", "loss", self.train_loss_sum / self.train_loss_steps)
        self._row("train", "lr", update.lr)
        self._row("train", "gradient_norm", update.gradient_norm)
        for metric, value in update.movement.items():
            self._row("train", metric, value)
        self.train_loss_sum, self.train_loss_steps = 0.0, 0

    @property
    def validation_is_due(self) -> bool:
        """Whether the run validates after the update that was made."""
        plan = self.trainee.plan
        starts = tuple(stage.start_step for stage in plan.stages)
        return self.trainee.step in validation_steps(starts, plan.steps, self.config.evals)

    def validate(self, metric: str = "loss") -> None:
        """Validation loss, as a row.

        Args:
            metric: Its name there.
        """
        loss = self.trainee.validate()
        self._row("val", metric, loss)
        bits = None if self.bytes_per_token is None else loss / math.log(2) / self.bytes_per_token
        if bits is not None and self.writer is not None and metric == "loss":
            self.tracker.log("val/bits_per_byte", bits, self.trainee.step)
        self.display.validation(loss, bits)
        if self.config.prompt is not None and metric == "loss" and not self.config.quiet:  # on every rank
            text = self.trainee.continued(self._tokenizer, self.config.prompt, tokens=SAMPLE_TOKENS)
            self.display.note(f"step {self.trainee.step}: {text!r}")

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        """Of the prompt."""
        assert self.config.prompt is not None
        return check_prompt(self.config.prompt, self.trainee)

    def log_speed(self) -> None:
        """Speed of the stage that ends, and its share of the device's peak, with formula and head."""
        step, wall_s = self.trainee.step, self.wall_s
        if self.speed_from is None or step == self.speed_from[0]:
            return
        plan, depth, peak = self.trainee.plan, self.trainee.depth, self.config.peak_tflops
        speed = (step - self.speed_from[0]) * plan.batch_tokens / (wall_s - self.speed_from[1])
        self._row("train", "tokens_per_s", speed)
        text = f"{blocks_text(depth)}: {speed:,.0f} tokens/s"
        if peak:
            per_token = flops_per_token(plan.model, depth)
            mfu = speed * per_token / (peak * 1e12 * self.trainee.ranks.world)
            self._row("train", "mfu", mfu)
            head = flops_per_token(plan.model, 0) / per_token
            text += (
                f", MFU {mfu:.1%} = {speed:,.0f} x {per_token / 1e9:.3g} GFLOP/token / {peak:g} "
                f"TFLOP/s (6 FLOPs a weight and token, attention in full; the head is {head:.0%})"
            )
        self.display.note(text)

    def _count_graphs(self, before: int) -> None:
        """All blocks share one compiled graph; more mean that something recompiles, which is said at once."""
        self.graphs += graphs_compiled() - before
        if self.graphs > 1:
            raise RuntimeError(
                f"step {self.trainee.step - 1}: {self.graphs} block graphs were compiled instead of one; "
                "TORCH_LOGS=recompiles says why. Train without --compile meanwhile"
            )

    def _row(self, split: str, metric: str, value: float) -> None:
        trainee, plan = self.trainee, self.trainee.plan
        if self.writer is None:
            return
        spent = {
            "tokens": trainee.step * plan.batch_tokens, "flops": float(plan_flops(plan, trainee.step)),
            "depth": trainee.depth,
        }  # fmt: skip
        self.tracker.log(f"{split}/{metric}", value, trainee.step)
        if self.told != (trainee.step, trainee.stage):  # axes against which a tracker can draw the loss
            self.told = trainee.step, trainee.stage
            for name, count in {**spent, "stage": trainee.stage}.items():
                self.tracker.log(f"spent/{name}", count, trainee.step)
        about = {"wall_s": self.wall_s, "phase": trainee.stage, "split": split, "metric": metric, "value": value}
        self.writer.write([{"step": trainee.step, **spent, **about}])


def check_prompt(prompt: str, trainee: Trainee) -> Tokenizer:
    """The tokenizer with which samples of a run are shown.

    Args:
        prompt: With which they begin.
        trainee: Whose data and processes they are.

    Raises:
        InputError: if the data have none.
    """
    tokenizer = find_tokenizer(trainee.data)
    if tokenizer is None:
        rule, fix = "needs the data's tokenizer.json, which is not there", "put it beside the shards, or leave it out"
        raise InputError("--prompt", prompt, rule, fix)
    return tokenizer


def bytes_per_token(trainee: Trainee) -> float | None:
    """Mean bytes of text that a token of the validation windows stands for; None where the data have no tokenizer.

    Tokens of a byte-level tokenizer are written with a letter a byte; marks such as the end of a document are no text.

    Args:
        trainee: Its validation windows.
    """
    from tokenizers.decoders import ByteLevel

    try:
        tokenizer = find_tokenizer(trainee.data)
    except InputError:  # damaged: training needs none
        return None
    if tokenizer is None or not isinstance(tokenizer.decoder, ByteLevel):
        return None
    marks = tokenizer.get_added_tokens_decoder()
    known = range(tokenizer.get_vocab_size())
    sizes = np.array([0 if i in marks else len(tokenizer.id_to_token(i) or "") for i in known])
    targets = np.asarray(trainee.validation_targets).ravel()
    return float(sizes[np.minimum(targets, len(sizes) - 1)].mean()) or None


def graphs_compiled() -> int:
    """Graphs that torch.compile has made in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@functools.lru_cache(maxsize=2)  # asked after every update
def validation_steps(starts: tuple[int, ...], horizon: int, count: int) -> frozenset[int]:
    """Steps after which to validate: logarithmic and even over the run, logarithmic after each expansion, the ends.

    Args:
        starts: First step of each stage.
        horizon: Steps of the run.
        count: About how many besides the ends.
    """
    steps = {horizon, *starts}
    for start, end in zip(starts, [*starts[1:], horizon], strict=True):
        share = max(2, round(count / 2 * (end - start) / horizon))
        steps |= set(start + np.geomspace(max(1, (end - start) / 100), end - start, share).round().astype(int))
    steps |= set(np.linspace(0, horizon, count // 2 + 2).round().astype(int))
    return frozenset(int(s) for s in steps if 0 < s <= horizon)
