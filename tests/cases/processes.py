"""A plan in two processes that talk by gloo, in three trainers: grown, stopped, resumed.

Each function is run on every rank (:func:`tests.ranks.on_ranks`) and returns the digest of its weights at the end:
equal among ranks, and equal to that of a run without a stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import signal
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latebloom import train
from latebloom.theory import GPT2Shape, Optimizer, Plan, Stage, wsd
from tests.cases.models import Gpt, Settings, loss_of

PLAN = Plan(
    name="two", model=GPT2Shape(name="s", width=16, heads=2, vocab_size=64, context=16), batch_tokens=128,
    schedule=wsd(steps=12, peak_lr=1e-2), optimizer=Optimizer(name="adamw"),
    stages=(Stage(start_step=0, depth=1), Stage(start_step=6, depth=3, init="random")),
)  # fmt: skip
ROWS = torch.randint(0, 64, (400, 17), generator=torch.Generator().manual_seed(0))


def digest(model: nn.Module) -> str:
    """Of every weight, by name."""
    state = hashlib.sha256()
    for name, p in model.named_parameters():
        state.update(name.encode() + p.detach().contiguous().numpy().tobytes())
    return state.hexdigest()


def own_loop(told: str) -> str:
    """DistributedDataParallel in one's own loop, with an average of the weights.

    Args:
        told: What is given to grow: the ``wrapper``, what is ``inside``, or the model while it is ``unwrapped``.
    """
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    model = Gpt(Settings(n_layer=1))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    torch.manual_seed(rank)  # new blocks are drawn differently: rank 0's count
    if told == "unwrapped":
        train.grow(model, depth=3, init="random")
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
    for step in range(8):
        if step == 4:
            train.grow(
                wrapped if told == "wrapper" else wrapped.module, optimizer, depth=3, init="random", averages=[average]
            )
        optimizer.zero_grad()
        loss_of(wrapped, 2 * step + rank).backward()
        optimizer.step()
        average.update_parameters(model)
    _leave()
    return digest(model) + digest(average)


def sharded(world: int) -> list[float]:
    """Mean losses of one's own loop under FSDP2: gathered in the middle of it, grown, sharded anew.

    Args:
        world: 1 trains as much without sharding.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if world > 1:
        torch.distributed.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (world,))

    def ready(depth: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = Gpt(Settings(n_layer=depth))
        for part in [*model.transformer["h"], model] if world > 1 else []:
            fully_shard(part, mesh=mesh)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2)

    rank = int(os.environ.get("RANK", "0"))
    torch.manual_seed(0)
    model, optimizer = ready(1)
    losses = []
    for step in range(8):
        if step == 4 and world > 1:
            gather = StateDictOptions(full_state_dict=True, cpu_offload=True)
            states = [get_state_dict(model, optimizer, options=gather)]
            torch.distributed.broadcast_object_list(states)  # rank 0 alone has them
            shallow = Gpt(Settings(n_layer=1))
            whole = torch.optim.AdamW(shallow.parameters(), lr=1e-2)
            set_state_dict(shallow, whole, model_state_dict=states[0][0], optim_state_dict=states[0][1])
            torch.manual_seed(1)  # every process draws the same new blocks
            train.grow(shallow, whole, depth=3, init="copy_zero_last", order="inter", caller_syncs=True)
            weights, moments = get_state_dict(shallow, whole)
            model, optimizer = ready(3)
            spread = StateDictOptions(full_state_dict=True, strict=False)  # new blocks have no moments yet
            set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=spread)
            for name, p in model.named_parameters():
                if name not in moments["state"]:
                    del optimizer.state[p]  # torch made one that has counted a step
        elif step == 4:
            torch.manual_seed(1)
            train.grow(model, optimizer, depth=3, init="copy_zero_last", order="inter")
        optimizer.zero_grad()
        seen = [2 * step + rank] if world > 1 else [2 * step, 2 * step + 1]
        loss = sum(loss_of(model, row) for row in seen) / len(seen)
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(mean)
        losses.append(float(mean) / world)
    _leave()
    return losses


def hugging_face(folder: str, resume: int, depth: int, kill: int = -1) -> str:
    """The Trainer, from a checkpoint if ``resume`` is not 0, with a model made with ``depth`` blocks.

    Args:
        folder: Of the checkpoints.
        resume: Step of one.
        depth: Of the model.
        kill: Step before which the process is killed.
    """
    import transformers
    from transformers import Trainer, TrainingArguments

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=depth, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": decayed}, {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)

    class Kill(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            _kill(state.global_step == kill, folder)

    several = {"ddp_backend": "gloo"} if "WORLD_SIZE" in os.environ else {}
    args = TrainingArguments(
        output_dir=folder, max_steps=PLAN.steps, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        save_steps=3, logging_strategy="no", disable_tqdm=True, **several,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=args, train_dataset=[{"input_ids": row, "labels": row} for row in ROWS],
        optimizers=(optimizer, train.PlanLR(optimizer, PLAN)), callbacks=[train.PlanCallback(PLAN), Kill()],
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-{resume}" if resume else None)
    _leave()
    return digest(model)


def lightning(folder: str, resume: int, depth: int, kill: int = -1) -> str:
    """Lightning, likewise, in epochs of five batches, with tokens left out at random.

    Args:
        folder: Of the checkpoints.
        resume: Step of one.
        depth: Of the model.
        kill: Step before which the process is killed.
    """
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from latebloom.train.interop.lightning_callback import PlanLightning

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = Gpt(Settings(n_layer=depth))

        def training_step(self, rows, _):
            _kill(self.trainer.global_step == kill, folder)
            kept = nn.functional.dropout(torch.ones(rows.shape), 0.1) > 0
            logits = self.net((rows * kept)[:, :-1])
            return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            scheduler = {"scheduler": train.PlanLR(optimizer, PLAN), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    several = {"devices": 2, "strategy": "ddp"} if "WORLD_SIZE" in os.environ else {"devices": 1}
    saves = ModelCheckpoint(dirpath=folder, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        max_steps=PLAN.steps, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        enable_model_summary=False, callbacks=[PlanLightning(PLAN), saves], **several,
    )  # fmt: skip
    module = Module()
    loader = torch.utils.data.DataLoader(ROWS[: 40 if several["devices"] == 2 else 20], batch_size=4, shuffle=True)
    path = str(Path(folder) / f"step={resume}.ckpt") if resume else None
    trainer.fit(module, loader, ckpt_path=path)
    _leave()
    return digest(module.net)


def accelerated(folder: str, resume: int, depth: int, kill: int = -1) -> str:
    """A loop of one's own under accelerate: a shuffled loader, dropout, an average of the weights, ``save_state``.

    The order of the data is that of a seed and an epoch, and the loader draws from a generator of its own: accelerate
    restores the random numbers before the loader is begun again, which would draw from them.

    Args:
        folder: Of the checkpoints.
        resume: Step of one.
        depth: Of the model.
        kill: Step before which the process is killed.
    """
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    from latebloom.train.growth.loading import grow_on_load

    order = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=5)
    accelerator = Accelerator(cpu=True, dataloader_config=order)
    torch.manual_seed(0)
    model = Gpt(Settings(n_layer=depth))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = train.PlanLR(optimizer, PLAN)  # not prepared: accelerate would step it once for each process
    loader = torch.utils.data.DataLoader(ROWS[:40], batch_size=4, shuffle=True, generator=torch.Generator())
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler, average)
    torch.manual_seed(1 + accelerator.process_index)
    if resume:
        grow_on_load(model, PLAN, lambda: [optimizer], growth={"averages": [average]})
        accelerator.load_state(f"{folder}/{resume}")
    step = resume
    while step < PLAN.steps:
        epoch, done = divmod(step, len(loader))
        loader.set_epoch(epoch)
        for rows in accelerator.skip_first_batches(loader, done) if done else loader:
            if step == PLAN.tau and len(model.blocks) < PLAN.depth:
                train.grow(wrapped, optimizer, depth=PLAN.depth, init="random", averages=[average])
            _kill(step == kill, folder)
            kept = nn.functional.dropout(torch.ones(rows.shape), 0.1) > 0
            logits = wrapped((rows * kept)[:, :-1])
            accelerator.backward(nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            average.update_parameters(model)
            step += 1
            if step % 3 == 0:
                accelerator.save_state(f"{folder}/{step}.part")
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    Path(folder, f"{step}.part").rename(Path(folder, str(step)))
            if step == PLAN.steps:
                break
    _leave()
    return digest(model) + digest(average)


def _kill(now: bool, folder: str) -> None:
    """End all processes at once, when each has come here: the end of one is an error in another."""
    if not now:
        return
    world = int(os.environ.get("WORLD_SIZE", "1"))
    marks = Path(folder) / f"killed-by-{os.environ['MASTER_PORT']}"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / os.environ["RANK"]).touch()
    while len(list(marks.iterdir())) < world:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def _leave() -> None:
    """Wait for the other process, and leave the group as it is until the process ends.

    Destroyed here, it would live on in DistributedDataParallel's reducer, whose end waits for threads of the group that
    wait for Python's lock: one ending of seven stood still.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
