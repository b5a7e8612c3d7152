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
import warnings
from pathlib import Path

import torch
from torch import nn

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
    """DistributedDataParallel in one's own loop; ``told`` says what is given to grow: the wrapper or what is inside."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(rank)  # new blocks are drawn differently: rank 0's count
    model = Gpt(Settings(n_layer=1))
    if told == "unwrapped":
        train.grow(model, depth=3, init="random")
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
    for step in range(8):
        if step == 4:
            train.grow(wrapped if told == "wrapper" else wrapped.module, optimizer, depth=3, init="random")
        optimizer.zero_grad()
        loss_of(wrapped, 2 * step + rank).backward()
        optimizer.step()
    torch.distributed.destroy_process_group()
    return digest(model)


def hugging_face(folder: str, resume: int, depth: int) -> str:
    """The Trainer, from a checkpoint if ``resume`` is not 0, with a model made with ``depth`` blocks."""
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
    several = {"ddp_backend": "gloo"} if "WORLD_SIZE" in os.environ else {}
    args = TrainingArguments(
        output_dir=folder, max_steps=PLAN.steps, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        save_steps=3, logging_strategy="no", disable_tqdm=True, **several,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=args, train_dataset=[{"input_ids": row, "labels": row} for row in ROWS],
        optimizers=(optimizer, train.PlanLR(optimizer, PLAN)), callbacks=[train.PlanCallback(PLAN)],
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-{resume}" if resume else None)
    _leave()
    return digest(model)


def lightning(folder: str, resume: int, depth: int) -> str:
    """Lightning, likewise."""
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
            logits = self.net(rows[:, :-1])
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
    # one row again and again: Lightning shuffles, and begins a loader anew when it resumes within an epoch
    loader = torch.utils.data.DataLoader(ROWS[:1].repeat(400, 1), batch_size=4)
    path = str(Path(folder) / f"step={resume}.ckpt") if resume else None
    trainer.fit(module, loader, ckpt_path=path, weights_only=False)
    _leave()
    return digest(module.net)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
