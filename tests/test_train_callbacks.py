"""A plan inside other people's trainers, each the real library: grown at the plan's step, at the plan's rates."""

import pytest
import torch

from latebloom import train
from latebloom.theory import Base, InputError, Optimizer
from tests.helpers import tiny_plan

PLAN = tiny_plan(steps=6, tau=3, small=1, full=3)
IDS = torch.randint(0, 64, (24, 8), generator=torch.Generator().manual_seed(0))


def hf_gpt2():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # theirs
def test_hugging_face_trainer(tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = hf_gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    rates, depths = [], []

    def trainer(steps):
        args = TrainingArguments(
            output_dir=str(tmp_path), max_steps=steps, per_device_train_batch_size=4, report_to=[], use_cpu=True,
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        rows = [{"input_ids": row, "labels": row} for row in IDS]
        return Trainer(
            model=model, args=args, train_dataset=rows, optimizers=(optimizer, train.PlanLR(optimizer, PLAN)),
            callbacks=[train.PlanCallback(PLAN)],
        )  # fmt: skip

    with pytest.raises(InputError, match="max_steps = 5: is not the plan's 6"):
        trainer(5).train()
    run = trainer(6)
    real = optimizer.step

    def step(*args, **kwargs):
        rates.append(optimizer.param_groups[0]["lr"])
        depths.append(len(model.transformer.h))
        return real(*args, **kwargs)

    optimizer.step = step
    run.train()
    assert depths == [1, 1, 1, 3, 3, 3]
    assert rates == PLAN.schedule.lrs().tolist()
    assert model.config.n_layer == 3
    assert {int(s["step"]) for s in optimizer.state.values()} == {3, 6}
    assert len(optimizer.state) == len(list(model.parameters()))
    ids = IDS[:1, :4]
    cached = model.eval().generate(ids, max_new_tokens=4, do_sample=False, use_cache=True, pad_token_id=0)
    plain = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False, pad_token_id=0)
    assert torch.equal(cached, plain)  # the new layers have places of their own in the cache


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # theirs
def test_hugging_face_trainer_with_a_rate_tuned_at_another_size(tmp_path):
    """Blocks learn at the factor of the stage's depth, the rest as before; new blocks join their kind."""
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    plan = PLAN.replace(optimizer=Optimizer(name="adamw", base=Base(width=16, depth=2)))  # PLAN's width is 32
    model = hf_gpt2()
    kinds = {"hidden": [], "vector": [], "embedding": [], "head": [], "final_vector": []}
    for name, p in model.named_parameters():
        inside = "hidden" if p.ndim == 2 else "vector"
        outside = {"wte": "head", "wpe": "embedding", "ln_f": "final_vector"}.get(name.split(".")[1])
        kinds[outside or inside].append(p)
    optimizer = torch.optim.AdamW([{"params": params, "kind": kind} for kind, params in kinds.items()], lr=0.0)
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in IDS]
    run = Trainer(
        model=model, args=args, train_dataset=rows, optimizers=(optimizer, train.PlanLR(optimizer, plan)),
        callbacks=[train.PlanCallback(plan)],
    )  # fmt: skip
    rates, real = [], optimizer.step

    def step(*args, **kwargs):
        rates.append({group["kind"]: group["lr"] for group in optimizer.param_groups})
        return real(*args, **kwargs)

    optimizer.step = step
    run.train()
    for i, rate in enumerate(rates):
        lr, depth = plan.schedule.lr(i), 1 if i < 3 else 3
        expected = dict.fromkeys(kinds, lr) | {"hidden": lr / 2 * 2 / depth, "vector": lr * 2 / depth}
        assert rate == pytest.approx(expected)
    counts = {group["kind"]: len(group["params"]) for group in optimizer.param_groups}
    assert counts == {"hidden": 3 * 4, "vector": 3 * 8, "embedding": 1, "head": 1, "final_vector": 2}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # theirs
def test_lightning_trainer(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from latebloom.train.interop import lightning_callback

    seen = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = hf_gpt2()

        def training_step(self, batch, _):
            seen.append((len(self.net.transformer.h), self.optimizers().param_groups[0]["lr"]))
            return self.net(batch, labels=batch).loss

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.0)
            scheduler = {"scheduler": train.PlanLR(optimizer, PLAN), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def trainer(steps):
        return lightning.Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[lightning_callback.PlanLightning(PLAN)],
            default_root_dir=str(tmp_path),
        )  # fmt: skip

    loader = torch.utils.data.DataLoader(IDS, batch_size=4)
    with pytest.raises(InputError, match="max_steps = 5: is not the plan's 6"):
        trainer(5).fit(Module(), loader)
    run, module = trainer(6), Module()
    run.fit(module, loader)
    assert [depth for depth, _ in seen] == [1, 1, 1, 3, 3, 3]
    assert [lr for _, lr in seen] == PLAN.schedule.lrs().tolist()
    assert {int(s["step"]) for s in run.optimizers[0].state.values()} == {3, 6}


def test_a_checkpoint_of_two_processes_that_one_has_not_finished(tmp_path):
    pytest.importorskip("transformers")
    from latebloom.train.interop.hf_checkpoint import missing_files

    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"):
        torch.save({}, tmp_path / name)
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "trainer_state.json"):
        (tmp_path / name).touch()
    assert missing_files(tmp_path, 2, 1) == []
    assert missing_files(tmp_path, 1, 0) == []  # one goes on from two: random numbers begin anew, as the Trainer says
    whole = (tmp_path / "rng_state_1.pth").read_bytes()
    (tmp_path / "rng_state_1.pth").write_bytes(whole[:-9])
    assert missing_files(tmp_path, 2, 1) == ["rng_state_1.pth"] and missing_files(tmp_path, 2, 0) == []
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "trainer_state.json").unlink()
    assert missing_files(tmp_path, 2, 0) == ["model.safetensors", "trainer_state.json"]
