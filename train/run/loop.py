"""The training loop: it executes a Plan, and leaves a Record and checkpoints.

    runs/NAME/plan.json       the plan            runs/NAME/record.jsonl   the record, written while running
    runs/NAME/config.json     how it was run      runs/NAME/checkpoints/   the newest ones

Interrupted at any moment, ``resume`` ends at the same loss bit for bit on the same CPU and thread count; on a GPU the
gradient of attention is summed in no fixed order, and the loss is the same up to rounding.
"""

from __future__ import annotations

import contextlib
import math
import platform
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError, RunError
from latebloom.theory.plan import Plan, diff, read_plan, write_plan
from latebloom.theory.record import Record, RecordWriter, header, read_record
from latebloom.theory.spec import decode, read_spec
from latebloom.train.config import TrainConfig
from latebloom.train.data.batches import Batches, Prefetch
from latebloom.train.data.shards import open_shards
from latebloom.train.growth.operators import grow_blocks
from latebloom.train.growth.optimizer_state import carried_state
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.muon import build_optimizer, load_named_state, named_state
from latebloom.train.optim.plan_lr import PlanLR
from latebloom.train.run import checkpoint
from latebloom.train.run.device import check_memory, keep_freed_memory, usable_device
from latebloom.train.run.dryrun import dry_run, state_bytes
from latebloom.train.run.progress import Display
from latebloom.train.run.trackers import check_tracker, make_tracker

if TYPE_CHECKING:
    from latebloom.theory.online_expansion import AutoExpansion

__all__ = ["Interrupted", "NonFiniteLoss", "TrainConfig", "eval_steps", "fit_gpt2", "resume", "summary", "train"]


class Interrupted(SystemExit):
    """A signal stopped the run after a whole step; the checkpoint is written. Exit code 128 + signal."""


class NonFiniteLoss(RunError):
    """Loss or gradient was not finite; the update was not made and the last checkpoint is good."""


COMPILE_BACKEND = "inductor"
WARMING = 10  # batches whose gradients warm new blocks' optimizer state, the last ones before the expansion


def train(
    plan: Plan, *, data: Path, out: Path, config: TrainConfig | None = None, auto: AutoExpansion | None = None
) -> Record:
    """Execute ``plan`` from its first step.

    Args:
        plan: What to train.
        data: Directory of token shards.
        out: New directory for the run.
        config: How to run it.
        auto: Decides the (single) expansion while the run goes on; the plan's own step is then the latest one. The plan
            that was executed stands in the record and in plan.json, the one before in planned.json.

    Raises:
        InputError: if the data does not fit the plan, or ``out`` holds a run already; nothing is written then.
        NonFiniteLoss: if the loss diverges.
    """
    config, out = config or TrainConfig(), Path(out)
    checkpoint.check_new(out)
    if auto is not None and len(plan.stages) != 2:
        raise InputError("stages", len(plan.stages), "must be two for an online expansion", "plan one expansion")
    run = _Run(plan, Path(data), out, config)
    run.auto = auto
    if config.init_from is not None:
        run.start_from(Path(config.init_from))
    check_tracker(config.tracker)
    with checkpoint.run_lock(out):
        write_plan(plan, out / "plan.json")
        tokenizer = Path(data) / "tokenizer.json"
        if tokenizer.is_file():
            (out / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        (out / "config.json").write_text(config.to_json())
        (out / "data.txt").write_text(str(Path(data).resolve()) + "\n")
        return run.execute()


fit_gpt2 = train  # the name for notebooks: `from latebloom.train import fit_gpt2` (`train.train` reads oddly)


def resume(out: Path, *, data: Path | None = None, quiet: bool | None = None) -> Record:
    """Go on with the run in ``out`` from its newest complete checkpoint.

    Raises:
        InputError: if there is no checkpoint, or plan, configuration or data are not those it began with.
    """
    out = Path(out)
    checkpoint.check_run(out)
    path, passed = checkpoint.newest(out)
    plan, config = read_plan(out / "plan.json"), read_spec(out / "config.json", TrainConfig)
    began = read_plan(path / "plan.json")
    planned = read_plan(out / "planned.json").digest if (out / "planned.json").exists() else None
    if plan.digest != began.digest and planned in (plan.digest, began.digest):  # stopped while it moved its expansion
        write_plan(began, out / "plan.json")
        plan = began
    if plan.digest != began.digest:
        first = diff(began, plan)[0]
        rule = f"was {first[1]!r} when the run began"
        raise InputError(f"{out / 'plan.json'}: {first[0]}", first[2], rule, "restore it, or start another run")
    if quiet is not None:
        config = config.replace(quiet=quiet)
    folder = data or Path((out / "data.txt").read_text(errors="replace").strip())
    run = _Run(plan, folder, out, config)
    with checkpoint.run_lock(out):
        manifest = checkpoint.verify(path)
        if manifest.data_digest != run.data_digest:
            rule = f"is not the data the run began with ({manifest.data_digest[:16]})"
            raise InputError("--data", str(folder), rule, "resume with the same shards")
        run.load(path)
        for line in passed:
            run.display.note(line)
        return run.execute()


class _Run:
    """A run in memory: model, optimizer, schedule, data, and how far it is."""

    def __init__(self, plan: Plan, data: Path, out: Path, config: TrainConfig):
        self.plan, self.out, self.config = plan, out, config
        self.device = usable_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.sequences = config.microbatch or max(1, plan.batch_tokens // plan.model.context)  # in a forward pass
        cost = dry_run(plan, micro_sequences=self.sequences, activations=config.activations, dtype=config.dtype)
        check_memory(self.device, states=state_bytes(plan), peak=cost.memory, sequences=self.sequences)
        shards = open_shards(data)
        self.data_digest = shards.digest
        self.batches = Batches(shards, plan, seed=config.seed, repeat=config.repeat_data)
        if config.microbatch and self.batches.per_step % config.microbatch:
            rule = f"does not divide the batch of {self.batches.per_step} sequences"
            raise InputError("--microbatch", config.microbatch, rule, "choose a divisor")
        self.val = [self._tensor(t) for t in self.batches.val(config.eval_tokens)]
        self.display = Display(plan, quiet=config.quiet)
        self.state = checkpoint.State(step=0, stage=0, wall_s=0.0, train_loss_sum=0.0, train_loss_steps=0)
        self.auto: AutoExpansion | None = None
        self.graphs = 0
        self.tracker = make_tracker("none", out, plan, config)
        self.model = GPT2(plan.model, plan.stages[0].depth, seed=config.seed).to(self.device)
        self._bind({})

    def _bind(self, optimizer_state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Optimizer and scheduler for the model as it is now."""
        for block in self.model.blocks:
            block.activations = self.config.activations
            if self.config.compile:
                block.compile(backend=COMPILE_BACKEND, dynamic=False)
        self.optimizer = build_optimizer(self.model, self.plan.optimizer)
        load_named_state(self.optimizer, optimizer_state)
        self.scheduler = PlanLR(self.optimizer, self.plan, last_epoch=self.state.step - 1)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.phase_from: tuple[int, float] | None = None  # step and wall_s after the first update of this phase here

    def start_from(self, folder: Path) -> None:
        """Take the weights of a Hugging Face model instead of fresh ones."""
        from latebloom.train.model.hf import from_hf

        given, depth = from_hf(folder, name=self.plan.model.name), self.plan.stages[0].depth
        if (given.shape, given.depth) != (self.plan.model, depth):
            rule = f"has shape {given.shape} and depth {given.depth}, not the plan's first stage"
            raise InputError("init_from", str(folder), rule, "make the plan for it")
        self.model.load_state_dict(given.state_dict())

    def start_prefetch(self) -> None:
        """Have a thread make the next batch while the device is busy."""
        self.ahead = Prefetch(self.batches)

    def load(self, path: Path) -> None:
        """Become the run that ``path`` holds."""
        self.state, weights, optimizer_state = checkpoint.load(path)
        if self.state.auto:
            from latebloom.theory.online_expansion import AutoExpansion

            self.auto = decode(self.state.auto, AutoExpansion)
        self.model = GPT2(self.plan.model, self.plan.stages[self.state.stage].depth).to(self.device)
        self.model.load_state_dict(weights)
        self._bind(optimizer_state)

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        self.state = self.state.replace(auto=self.auto.to_json() if self.auto else None)
        checkpoint.save(
            self.out, plan=self.plan, data_digest=self.data_digest, state=self.state,
            model=self.model.state_dict(), optimizer=named_state(self.optimizer), keep=self.config.keep_checkpoints,
        )  # fmt: skip

    def execute(self) -> Record:
        """Train to the horizon."""
        plan, config, path = self.plan, self.config, self.out / "record.jsonl"
        head = header(
            plan, seed=config.seed, config={k: getattr(config, k) for k in config.__struct_fields__},
            data_digest=self.data_digest, machine=_machine(self.device), name=self.out.name,
        )  # fmt: skip
        evals = eval_steps(plan, config.evals)
        self.start_prefetch()
        self.tracker = make_tracker(config.tracker, self.out, plan, config)
        closing = contextlib.ExitStack()
        closing.callback(self.ahead.close)
        closing.callback(self.tracker.close)
        with closing, RecordWriter(path, head) as writer, self.display, _signals() as stop:
            self.writer = writer
            if (self.out / "planned.json").exists():
                writer.change_plan(plan)
            if self.state.step == 0 and self.state.stage == 0:
                self.evaluate()
                self.save()
            while self.state.step < plan.steps:
                if self._expansion_is_due():
                    self.expand()
                loss = self.update()
                step = self.state.step
                if step % config.log_every == 0 or step == plan.steps:
                    self._log_training()
                if step in evals:
                    self.evaluate()
                self.display.step(step, loss, self.state.wall_s)
                if self.auto and not self.auto.due and self.state.stage == 0:
                    self.auto = self.auto.observe(step=step, lr=self.rate, loss=loss)
                    if self.auto.due and step < plan.stages[1].start_step:
                        plan = self.revise(step)
                        evals = evals | eval_steps(plan, config.evals)
                due = self._expansion_is_due()
                if due or step == plan.steps:
                    self._log_phase()
                if due or stop or step % config.checkpoint_every == 0 or step == plan.steps:
                    self.save()
                if stop:
                    raise Interrupted(128 + stop[0])
        return read_record(path)

    def _expansion_is_due(self) -> bool:
        later = self.plan.stages[self.state.stage + 1 :]
        return bool(later) and later[0].start_step == self.state.step

    def revise(self, step: int) -> Plan:
        """Move the expansion to ``step``, in the plan, its file and the record's header; the old plan is kept."""
        before, self.plan = self.plan, self.plan.replace(
            stages=(self.plan.stages[0], self.plan.stages[1].replace(start_step=step)),
            provenance=self.plan.provenance.replace(reason=f"expansion decided online, at step {step}"),
        )  # fmt: skip
        write_plan(before, self.out / "planned.json")  # first: it tells resume that both plans are this run's
        self.save()
        write_plan(self.plan, self.out / "plan.json")
        self.writer.change_plan(self.plan)
        self.display.plan = self.plan
        self.display.note(f"step {step}: the expansion is due now (the plan said {before.stages[1].start_step})")
        return self.plan

    def expand(self) -> None:
        """Grow the model to the next stage's depth; the old parameters keep their optimizer state, by name."""
        index = self.state.stage + 1
        stage = self.plan.stages[index]
        seed = (self.config.seed + 1) * 1_000_003 + index  # not the seed of a fresh model of that depth

        def fresh(block: nn.Module, j: int) -> None:
            init_block_(block, depth=stage.depth, seed=seed, name=f"blocks.{j}")

        held = named_state(self.optimizer)
        old = self.model.depth
        renamed = grow_blocks(
            self.model, stage, init_block=fresh, make_block=lambda: Block(self.plan.model).to(self.device)
        )
        kept = carried_state(held, renamed, stage, old)
        self.state = self.state.replace(stage=index)
        self._bind(kept)
        if stage.optimizer_state == "keep_warmed":
            self.warm(set(renamed.values()))
        self.evaluate(metric="loss_after_growth")
        self.display.note(f"step {self.state.step}: grown to {stage.depth} blocks ({stage.init}, {stage.order})")
        self.save()

    def warm(self, old: set[str]) -> None:
        """Give parameters not in ``old`` the optimizer state that the last :data:`WARMING` batches leave at learning
        rate 0, at which no weight moves; the others keep theirs."""
        kept = named_state(self.optimizer)
        kept = {name: {k: v.clone() for k, v in held.items()} for name, held in kept.items() if name in old}
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        for step in range(max(0, self.state.step - WARMING), self.state.step):
            self._backward(step)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        warmed = {name: held for name, held in named_state(self.optimizer).items() if name not in old}
        load_named_state(self.optimizer, kept | warmed)
        self.scheduler.set_rates()

    def _backward(self, step: int) -> torch.Tensor:
        """Gradients of the batch of ``step``; its mean loss, on the device."""
        inputs, targets = (self._tensor(t) for t in self.ahead.train(step))
        parts = len(inputs) // self.sequences
        total = torch.zeros((), device=self.device)
        for x_BT, y_BT in zip(inputs.split(self.sequences), targets.split(self.sequences), strict=True):
            with self._autocast():
                loss = self.model.loss(x_BT, y_BT) / parts
            loss.backward()
            total += loss.detach()
        return total

    def update(self) -> float:
        """One optimizer step; the mean loss of its batch.

        Raises:
            NonFiniteLoss: before anything is changed.
        """
        start = time.perf_counter()
        graphs = _graphs()
        total = self._backward(self.state.step)
        norm = torch.stack(torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])).norm()
        value, self.gradient_norm = torch.stack([total, norm]).tolist()  # one look at the device a step
        if not (math.isfinite(value) and math.isfinite(self.gradient_norm)):
            raise NonFiniteLoss(
                f"step {self.state.step}: loss {value}, gradient norm {self.gradient_norm} on batch {self.state.step} "
                f"of seed {self.config.seed}; the update was not made. Lower the peak learning rate "
                f"({self.plan.schedule.peak:.4g}) and start another run"
            )
        self.rate = float(self.plan.schedule.lr(self.state.step))  # groups may have theirs
        measured = self.config.diagnostics and (self.state.step + 1) % self.config.log_every == 0
        before = [p.detach().clone() for p in self.parameters] if measured else None
        self.optimizer.step()
        if before is not None:
            self.updates = self._update_rms(before)
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.config.compile:
            self._count_graphs(graphs)
        s = self.state
        self.state = s.replace(
            step=s.step + 1,
            wall_s=s.wall_s + time.perf_counter() - start,
            train_loss_sum=s.train_loss_sum + value,
            train_loss_steps=s.train_loss_steps + 1,
        )
        if self.phase_from is None:
            self.phase_from = self.state.step, self.state.wall_s
        return value

    def _count_graphs(self, before: int) -> None:
        """All blocks share one compiled graph; more mean that something recompiles, which is said at once."""
        self.graphs += _graphs() - before
        if self.graphs > 1:
            raise RuntimeError(
                f"step {self.state.step}: {self.graphs} block graphs were compiled instead of one; "
                "TORCH_LOGS=recompiles says why. Train without --compile meanwhile"
            )

    @torch.no_grad()
    def _update_rms(self, before: list[torch.Tensor]) -> dict[str, float]:
        """RMS of update and weight for each kind of parameter."""
        sums: dict[str, list[torch.Tensor]] = {}
        counts: Counter[str] = Counter()
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        for name, p, b in zip(names, self.parameters, before, strict=True):
            kind = name.split(".")[0]
            kind = f"blocks_{'matrices' if p.ndim == 2 else 'vectors'}" if kind == "blocks" else kind
            sums.setdefault(kind, []).append(torch.stack([(p - b).square().sum(), p.square().sum()]))
            counts[kind] += p.numel()
        totals = torch.stack([torch.stack(parts).sum(0) for parts in sums.values()]).tolist()  # one look at the device
        rms = {}
        for kind, (update, weight) in zip(sums, totals, strict=True):
            rms[f"update_rms_{kind}"] = (update / counts[kind]) ** 0.5
            rms[f"weight_rms_{kind}"] = (weight / counts[kind]) ** 0.5
        return rms

    @torch.no_grad()
    def evaluate(self, metric: str = "loss") -> None:
        """Validation loss, as a row."""
        inputs, targets = self.val
        size = min(64, self.sequences)  # takes no more memory than training
        losses, counts = [], []
        for x_BT, y_BT in zip(inputs.split(size), targets.split(size), strict=True):
            with self._autocast(), torch.compiler.set_stance("force_eager"):
                losses.append(self.model.loss(x_BT, y_BT))
            counts.append(len(x_BT))
        self.last_val = float(np.average(torch.stack(losses).tolist(), weights=counts))
        self._row("val", metric, self.last_val)
        self.display.validation(self.state.step, self.last_val)

    def _log_training(self) -> None:
        s = self.state
        self._row("train", "loss", s.train_loss_sum / s.train_loss_steps)
        self._row("train", "lr", self.rate)
        self._row("train", "gradient_norm", self.gradient_norm)
        if self.config.diagnostics and s.step % self.config.log_every == 0:
            for metric, value in self.updates.items():
                self._row("train", metric, value)
        self.state = s.replace(train_loss_sum=0.0, train_loss_steps=0)

    def _log_phase(self) -> None:
        """Speed of the phase that ends, and its share of the device's peak, with formula and head."""
        if self.phase_from is None or self.state.step == self.phase_from[0]:
            return
        step, wall_s = self.phase_from
        speed = (self.state.step - step) * self.plan.batch_tokens / (self.state.wall_s - wall_s)
        depth, per_token = self.model.depth, flops_per_token(self.plan.model, self.model.depth)
        self._row("train", "tokens_per_s", speed)
        text = f"depth {depth}: {speed:,.0f} tokens/s"
        if self.config.peak_tflops:
            mfu = speed * per_token / (self.config.peak_tflops * 1e12)
            self._row("train", "mfu", mfu)
            head = flops_per_token(self.plan.model, 0) / per_token
            text += (
                f", MFU {mfu:.1%} = {speed:,.0f} x {per_token / 1e9:.3g} GFLOP/token / {self.config.peak_tflops:g} "
                f"TFLOP/s (6 FLOPs a weight and token, attention in full; the head is {head:.0%})"
            )
        self.display.note(text)

    def _row(self, split: str, metric: str, value: float) -> None:
        s, plan = self.state, self.plan
        self.tracker.log(f"{split}/{metric}", value, s.step)
        self.writer.write(
            [
                {
                    "step": s.step, "tokens": s.step * plan.batch_tokens, "flops": float(plan_flops(plan, s.step)),
                    "wall_s": s.wall_s, "depth": self.model.depth, "phase": s.stage, "split": split, "metric": metric,
                    "value": value,
                }
            ]
        )  # fmt: skip

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.config.dtype == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)  # no weight comes twice
        return contextlib.nullcontext()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def eval_steps(plan: Plan, count: int) -> frozenset[int]:
    """Steps after which to validate: logarithmic and even over the run, logarithmic after each expansion, the ends."""
    steps = {plan.steps, *(stage.start_step for stage in plan.stages)}
    starts = [stage.start_step for stage in plan.stages]
    for start, end in zip(starts, [*starts[1:], plan.steps], strict=True):
        share = max(2, round(count / 2 * (end - start) / plan.steps))
        steps |= set(start + np.geomspace(max(1, (end - start) / 100), end - start, share).round().astype(int))
    steps |= set(np.linspace(0, plan.steps, count // 2 + 2).round().astype(int))
    return frozenset(int(s) for s in steps if 0 < s <= plan.steps)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that holds the number of a stop signal once one came; the loop looks at it after each whole step."""
    caught: list[int] = []
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        with contextlib.suppress(ValueError):  # not the main thread: signals are someone else's
            before[number] = signal.signal(number, lambda n, _: caught.append(n))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(record: Record) -> dict[str, Any]:
    """What a finished run prints."""
    return {
        "name": record.header.name,
        "final_loss": record.final(),
        "steps": record.plan.steps,
        "plan": record.plan.digest,
    }
