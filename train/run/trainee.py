"""The trainee: a model with its optimizer, schedule and batches, on a device, in one stage of a plan.

It makes updates, grows, and gives and takes the tensors of a checkpoint; it writes no file and shows nothing. Nothing
outside this module asks where a tensor lives or how large its batch is: on several devices, each with its rows of every
tensor, the callers' lines stay as they are. So numbers leave it as Python floats, tensors by name, and ``update``,
``grow`` and ``validate`` are what every process would call together.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from latebloom.theory.architectures.shape import tensor_of
from latebloom.theory.architectures.tensors import Kind, TensorSpec
from latebloom.theory.errors import InputError, RunError
from latebloom.theory.expansion import STATE_POLICIES, check_init, placement
from latebloom.theory.plan import Plan
from latebloom.train.config import TrainConfig
from latebloom.train.data.batches import Batches, Prefetch
from latebloom.train.growth.operators import grow_blocks
from latebloom.train.growth.optimizer_state import carried_state
from latebloom.train.growth.rows import grown_rows
from latebloom.train.model.sharding import OwnRows, empty_block, init_rows_, sharded_model
from latebloom.train.model.tensors import describe
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.build import build_optimizer, scale_rate
from latebloom.train.optim.owners import Owners
from latebloom.train.optim.plan_lr import PlanLR
from latebloom.train.optim.state import load_named_state, named_state
from latebloom.train.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["NonFiniteLoss", "Trainee", "Update", "sequences_in_pass"]

COMPILE_BACKEND = "inductor"
WARMING = 10  # batches whose gradients warm new blocks' optimizer state, the last ones before the expansion
VALIDATION_SEQUENCES = 64  # in a forward pass, at most
IN_BLOCKS: dict[Kind, str] = {"hidden": "blocks_matrices", "vector": "blocks_vectors"}  # their names in records


class NonFiniteLoss(RunError):
    """Loss or gradient was not finite; the update was not made and the last checkpoint is good."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update was.

    Attributes:
        loss: Mean over the batch, before the update, in nats per token.
        gradient_norm: Of all parameters together.
        lr: The plan's learning rate; groups may have theirs.
        movement: RMS of update and weight by kind of parameter; empty where it was not asked for.
    """

    loss: float
    gradient_norm: float
    lr: float
    movement: dict[str, float] = field(default_factory=dict)


class Trainee:
    """A model in training. It has weights after :meth:`begin` or :meth:`load`.

    Args:
        plan: What is trained.
        config: How.
        batches: Its data.
        device: Where it is computed.
        ranks: Among which its tensors and batches are divided.

    Raises:
        InputError: if ``config.microbatch`` does not divide the batch, or a rank's share of it.
    """

    model: GPT2
    rows: OwnRows | None  # None for one that is alone: its model is whole
    optimizer: torch.optim.Optimizer
    scheduler: PlanLR
    parameters: list[nn.Parameter]

    def __init__(
        self, plan: Plan, config: TrainConfig, batches: Batches, *, device: torch.device, ranks: Ranks = ALONE
    ):
        self.plan, self.config, self.device, self.ranks = plan, config, device, ranks
        self.step = self.stage = 0
        self.sequences = sequences_in_pass(batches.per_step, config.microbatch, ranks.world)
        if batches.per_step % (ranks.world * self.sequences):
            rule = f"does not divide the batch of {batches.per_step} sequences"
            if not ranks.alone:
                rule = f"x {ranks.world} ranks {rule}"
            raise InputError("--microbatch", self.sequences, rule, "choose a divisor")
        inputs, targets = batches.val(config.eval_tokens)
        self.validation = [self._on_device(windows) for windows in (inputs, targets)]
        self.validation_targets = targets  # as they were read: to count bytes the device is not asked
        self.data, self.data_digest = batches.folder, batches.data_digest
        self.batches = Prefetch(batches)

    @property
    def depth(self) -> int:
        """Blocks of the model as it is now."""
        return self.model.depth

    @property
    def growth_is_due(self) -> bool:
        """Whether the plan expands the model before the next update."""
        later = self.plan.stages[self.stage + 1 :]
        return bool(later) and later[0].start_step == self.step

    def begin(self) -> None:
        """Take fresh weights, or those of ``config.init_from``.

        Raises:
            InputError: if those are not of the plan's shape and first depth, or an expansion to come would leave new
                blocks of this family without a gradient.
        """
        for stage in self.plan.stages[1:]:
            check_init(stage.init, self.plan.model.family)
        given = None if self.config.init_from is None else self._given_weights(Path(self.config.init_from))
        depth = self.plan.stages[0].depth
        if self.ranks.alone:
            self._take_model(GPT2(self.plan.model, depth, seed=self.config.seed).to(self.device))
            if given is not None:
                self.model.load_state_dict(given)
        else:
            self._take_model(self._sharded_model(depth))
            if given is None:
                init_rows_(self.model, ranks=self.ranks, seed=self.config.seed)
            elif self.rows is not None:
                self.rows.fill({name: tensor[self.ranks.rows(len(tensor))] for name, tensor in given.items()})
        self._bind({})

    def load(
        self, *, step: int, stage: int, weights: dict[str, Tensor], optimizer_state: dict[str, dict[str, Tensor]]
    ) -> None:
        """Be what :meth:`weights` and :meth:`optimizer_state` were after ``step`` updates, in ``stage``.

        Args:
            step: Updates done.
            stage: Index of the plan's stage.
            weights: By name; of several ranks, this one's rows.
            optimizer_state: By name; empty for a parameter that was never updated.

        Raises:
            InputError: if a tensor is missing, unknown, or of another shape.
        """
        self.step, self.stage = step, stage
        depth = self.plan.stages[stage].depth
        alone = self.ranks.alone
        self._take_model(GPT2(self.plan.model, depth).to(self.device) if alone else self._sharded_model(depth))
        shapes = {name: tensor.shape for name, tensor in self.weights().items()}
        _check_names("weights", shapes.keys(), weights.keys())
        for name, shape in shapes.items():
            _check_shape("weights", name, weights[name], shape)
        if self.rows is None:
            self.model.load_state_dict(weights)
        else:
            self.rows.fill(weights)
        self._bind(optimizer_state)
        self._check_optimizer_state(optimizer_state)

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors by name; of several ranks, this one's rows."""
        return self.model.state_dict() if self.rows is None else self.rows.values()

    def tensors(self) -> dict[str, TensorSpec]:
        """What each whole tensor of the model is, by name."""
        names = self.model.state_dict() if self.rows is None else self.rows.parameters
        return {name: tensor_of(self.plan.model, name) for name in names}

    def optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """Each parameter's optimizer state by name; empty for one that was never updated."""
        return named_state(self.optimizer)

    def update(self, *, measure_movement: bool = False) -> Update:
        """Make the next update.

        Args:
            measure_movement: Measure how far weights move, too; takes a copy of them.

        Raises:
            NonFiniteLoss: before anything is changed.
        """
        self.ranks.step = self.step
        total = self._backward(self.step)
        loss, gradient_norm = self._loss_and_norm(total)
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise NonFiniteLoss(
                f"step {self.step}: loss {loss}, gradient norm {gradient_norm} on batch {self.step} "
                f"of seed {self.config.seed}; the update was not made. Lower the peak learning rate "
                f"({self.plan.schedule.peak:.4g}) and start another run"
            )
        lr = float(self.plan.schedule.lr(self.step))
        before = [p.detach().clone() for p in self.parameters] if measure_movement else []
        self.optimizer.step()
        movement = self._movement(before) if measure_movement else {}
        self._drop_gradients()
        self.scheduler.step()
        self.step += 1
        return Update(loss=loss, gradient_norm=gradient_norm, lr=lr, movement=movement)

    def grow(self) -> None:
        """Grow to the next stage's depth; what was there keeps its weights and, as the plan says, optimizer state."""
        index = self.stage + 1
        stage = self.plan.stages[index]
        seed = (self.config.seed + 1) * 1_000_003 + index  # not the seed of a fresh model of that depth

        def init_block(block: nn.Module, j: int) -> None:
            init_block_(block, depth=stage.depth, seed=seed, name=f"blocks.{j}")

        def make_block() -> Block:
            return Block(self.plan.model).to(self.device)

        state, old_depth = self.optimizer_state(), self.depth
        if stage.depth == old_depth:  # the same blocks, from now on passed again
            self.stage = index
            self._bind(state if STATE_POLICIES[stage.optimizer_state].keeps_old else {})
            return
        if self.rows is None:
            renamed = grow_blocks(self.model, stage, init_block=init_block, make_block=make_block)
        else:
            before = self.rows.values()
            self._take_model(self._sharded_model(stage.depth))
            renamed = grown_rows(
                before, stage, old_depth, described=describe(self.model), init_block=init_block,
                own=self.ranks.rows, fill=self.rows.fill, new_block=lambda: empty_block(self.plan.model, self.device),
            )  # fmt: skip
        self.stage = index
        self._bind(carried_state(state, renamed, stage, old_depth))
        if STATE_POLICIES[stage.optimizer_state].new == "warmed":
            self.warm(set(renamed.values()))

    def warm(self, old: set[str]) -> None:
        """Give new parameters the optimizer state that the last :data:`WARMING` batches leave at learning rate 0, at
        which no weight moves; old ones keep theirs.

        Args:
            old: Names of the parameters that were there before.
        """
        kept = {
            name: {key: value.clone() for key, value in held.items()}
            for name, held in self.optimizer_state().items()
            if name in old
        }
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        for step in range(max(0, self.step - WARMING), self.step):
            self._backward(step)
            self.optimizer.step()
            self._drop_gradients()
        warmed = {name: held for name, held in self.optimizer_state().items() if name not in old}
        load_named_state(self.optimizer, kept | warmed)
        self.scheduler.set_rates()

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss of the validation windows, eagerly, in no more memory than training takes."""
        inputs, targets = self.validation
        size = min(VALIDATION_SEQUENCES, self.sequences)
        parts = list(zip(inputs.split(size), targets.split(size), strict=True))
        losses = torch.zeros(len(parts), device=self.device)
        world, rank = self.ranks.world, self.ranks.rank
        for index in range(
            rank, -(-len(parts) // world) * world, world
        ):  # every rank as many passes: they talk in them
            with torch.compiler.set_stance("force_eager"):
                loss = self._loss(*parts[min(index, len(parts) - 1)])
            if index < len(parts):
                losses[index] = loss
        if self.rows is not None:
            self.rows.end_pass()
        return float(np.average(self.ranks.sum(losses), weights=[len(x_BT) for x_BT, _ in parts]))

    def continued(self, tokenizer: Tokenizer, prompt: str, *, tokens: int) -> str:
        """``prompt`` and what the model goes on with, eagerly; every rank draws the same, as they talk in each pass.

        Args:
            tokenizer: Of the data.
            prompt: Text.
            tokens: How many are drawn.
        """
        from latebloom.train.interop.sample import sample  # it reads runs, which are made here

        with self._autocast(), torch.compiler.set_stance("force_eager"):
            text = sample(self.model, tokenizer, prompt, tokens=tokens, seed=self.config.seed)
        if self.rows is not None:
            self.rows.end_pass()
        return text

    def close(self) -> None:
        """End the thread that makes batches."""
        self.batches.close()

    def _bind(self, optimizer_state: dict[str, dict[str, Tensor]]) -> None:
        """Compile new blocks, and make optimizer and scheduler for the model as it is now."""
        self.model.replayed = self.plan.stages[self.stage].replayed
        if self.rows is None:
            for block in self.model.blocks:
                block.activations = self.config.activations  # type: ignore[assignment]  # torch types them as tensors
                if self.config.compile:
                    block.compile(backend=COMPILE_BACKEND, dynamic=False)
            self.optimizer = build_optimizer(self.model, self.plan.optimizer)
            self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        else:
            owners = Owners(self.tensors(), self.ranks)
            own = self.rows.parameters
            self.optimizer = build_optimizer(self.model, self.plan.optimizer, rows=own, owners=owners)
            self.parameters = list(own.values())
        stage = self.plan.stages[self.stage]
        if stage.new_rate is not None:
            kept = placement(stage.order, self.plan.stages[self.stage - 1].depth, stage.depth)
            scale_rate(self.optimizer, stage.new_rate, blocks=set(range(stage.depth)) - set(kept))
        load_named_state(self.optimizer, optimizer_state)
        self.scheduler = PlanLR(self.optimizer, self.plan, last_epoch=self.step - 1)

    def _take_model(self, model: GPT2) -> None:
        self.model = model
        self.rows = None if self.ranks.alone else OwnRows(model)

    def _sharded_model(self, depth: int) -> GPT2:
        """A model of ``depth`` blocks, divided among the ranks, without values."""
        return sharded_model(
            self.plan.model, depth, ranks=self.ranks, device=self.device, activations=self.config.activations,
            gather=self.config.gather,
            compile_backend=COMPILE_BACKEND if self.config.compile else None,
        )  # fmt: skip

    def _given_weights(self, folder: Path) -> dict[str, Tensor]:
        """The weights of a Hugging Face model."""
        from latebloom.train.model.hf import from_hf

        given, depth = from_hf(folder, name=self.plan.model.name), self.plan.stages[0].depth
        if (given.shape, given.depth) != (self.plan.model, depth):
            rule = f"has shape {given.shape} and depth {given.depth}, not the plan's first stage"
            raise InputError("init_from", str(folder), rule, "make the plan for it")
        return given.state_dict()

    def _check_optimizer_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Refuse a state in which a parameter lacks what the others of its group have."""
        names = [name for group in self.optimizer.param_groups for name in group["param_names"]]
        _check_names("optimizer state", names, state.keys())
        for group in self.optimizer.param_groups:
            keys = {key for name in group["param_names"] for key in state[name]}
            for name, parameter in zip(group["param_names"], group["params"], strict=True):
                if state[name]:  # a new parameter has none yet
                    _check_names(f"optimizer state of {name}", keys, state[name].keys())
                for tensor in state[name].values():
                    if tensor.ndim:  # a number of steps has no shape
                        _check_shape("optimizer state", name, tensor, parameter.shape)

    def _backward(self, step: int) -> Tensor:
        """Gradients of the batch of ``step``; its mean loss over this rank's sequences, on the device."""
        inputs, targets = (self._on_device(windows) for windows in self.batches.train(step))
        parts = len(inputs) // self.sequences
        total = torch.zeros((), device=self.device)
        passes = zip(inputs.split(self.sequences), targets.split(self.sequences), strict=True)
        for index, (x_BT, y_BT) in enumerate(passes, 1):
            if self.ranks.replicas > 1:  # rows are summed within a group each pass, over the replicas once
                self.model.set_requires_all_reduce(index == parts)  # type: ignore[operator]  # fully_shard gives it
            loss = self._loss(x_BT, y_BT) / parts
            loss.backward()
            total += loss.detach()
        if self.rows is not None:
            self.rows.take_gradients()
        return total

    def _loss_and_norm(self, total: Tensor) -> tuple[float, float]:
        """Mean loss and gradient norm over all ranks, of which ``total`` and the gradients are one's."""
        norms = torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = torch.stack(norms).norm()
        if self.ranks.alone:
            loss, gradient_norm = torch.stack([total, norm]).tolist()  # one look at the device a step
            return loss, gradient_norm
        square = norm.square() / self.ranks.replicas  # each holds all rows
        loss, square = self.ranks.sum(torch.stack([total / self.ranks.world, square]))
        return loss, square**0.5

    def _drop_gradients(self) -> None:
        if self.rows is None:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            self.rows.drop_gradients()

    def _loss(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        with self._autocast():
            return self.model.loss(x_BT, y_BT)

    @torch.no_grad()
    def _movement(self, before: list[Tensor]) -> dict[str, float]:
        """RMS of update and weight, for matrices and vectors of blocks and for each module outside them."""
        sums: dict[str, list[Tensor]] = {}
        counts: Counter[str] = Counter()
        sizes = {name: tensor.size for name, tensor in self.tensors().items()}
        named = self.model.named_parameters() if self.rows is None else self.rows.parameters.items()
        names = [name for name, p in named if p.requires_grad]
        for name, p, b in zip(names, self.parameters, before, strict=True):
            kind = tensor_of(self.plan.model, name).kind
            group = IN_BLOCKS.get(kind, name.split(".")[0])
            sums.setdefault(group, []).append(torch.stack([(p - b).square().sum(), p.square().sum()]))
            counts[group] += sizes[name]
        totals = torch.cat([torch.stack(parts).sum(0) for parts in sums.values()])
        squares = iter(self.ranks.sum(totals / self.ranks.replicas))  # one look at the device
        rms = {}
        for group in sums:
            rms[f"update_rms_{group}"] = (next(squares) / counts[group]) ** 0.5
            rms[f"weight_rms_{group}"] = (next(squares) / counts[group]) ** 0.5
        return rms

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.config.dtype == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)  # no weight comes twice
        return contextlib.nullcontext()

    def _on_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def sequences_in_pass(batch: int, microbatch: int | None, world: int = 1) -> int:
    """Sequences in one forward and backward pass of one rank.

    Args:
        batch: Sequences of an update.
        microbatch: Those asked for; without them a pass takes the rank's whole share of the batch.
        world: Number of ranks.
    """
    return microbatch or max(1, batch // world)


def _check_names(what: str, expected: Iterable[str], given: Iterable[str]) -> None:
    """Refuse tensors that are missing or unknown."""
    expected, given = set(expected), set(given)
    for names, rule in ((expected - given, "is missing"), (given - expected, "is not of this model")):
        if names:
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(what, min(names), f"{rule}{more}", "use another checkpoint")


def _check_shape(what: str, name: str, tensor: Tensor, shape: torch.Size) -> None:
    if tensor.shape != shape:
        rule = f"has the shape {tuple(tensor.shape)}, the model {tuple(shape)}"
        raise InputError(what, name, rule, "use another checkpoint")
