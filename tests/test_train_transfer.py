"""A learning rate tuned at one size, used at another: what a plan's ``optimizer.base`` does in the trainer."""

import json

import numpy as np
import pytest
import torch

from latebloom import cli, train
from latebloom.theory import Base, InputError, Optimizer, Stage, read_plan, read_record, write_plan
from latebloom.theory.architectures.shape import tensor_of
from latebloom.theory.architectures.tensors import KINDS
from latebloom.theory.optimizers import ADAMW_FACTOR
from latebloom.theory.plan import GPT2Shape, Plan
from latebloom.theory.plan_transfer import peak_rates, size_factors
from latebloom.theory.schedules import Constant
from latebloom.theory.spec import canonical_json, decode
from latebloom.train.experiments.coord_check import TOLERANCE
from latebloom.train.growth.operators import grow
from latebloom.train.model.tensors import describe
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.build import build_optimizer, split_groups
from latebloom.train.optim.plan_lr import PlanLR
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, resume
from latebloom.train.run.trainee import Trainee
from tests.helpers import tiny_plan

CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=256, log_every=4, checkpoint_every=50, repeat_data=True, device="cpu"
)
BASE = Base(width=8, depth=2)
OPTIMIZERS = ("muon_nsgd", "muon_adamw", "adamw", "sgd")


def plan_of(name="muon_nsgd", *, base=BASE, small=1, full=4, tau=6, **stage):
    plan = tiny_plan(steps=12, tau=tau, small=small, full=full)
    stages = (plan.stages[0], Stage(start_step=tau, depth=full, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=name, base=base))


def by_hand(name, kind, w, d):
    """The exponents of the literature at alpha = 0, typed anew; w and d are target over base."""
    hidden = {"muon_nsgd": 1 / d, "muon_adamw": 1 / d, "adamw": 1 / (w * d), "sgd": 1 / d}[name]
    others = {  # embedding, vector, final_vector, head
        "muon_nsgd": (w**0.5, w**0.5 / d, w**0.5, 1), "muon_adamw": (1, 1 / d, 1, 1), "adamw": (1, 1 / d, 1, 1),
        "sgd": (w, w / d, w, w),
    }[name]  # fmt: skip
    return dict(zip(("embedding", "vector", "final_vector", "head"), others, strict=True)).get(kind, hidden)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_factors_over_width_and_depth(name):
    for width in (4, 8, 64):
        for depth in (1, 2, 6):
            optimizer = Optimizer(name=name, base=Base(width=8, depth=2))
            found = size_factors(optimizer, width=width, depth=depth)
            expected = {kind: by_hand(name, kind, width / 8, depth / 2) for kind in KINDS}
            assert {kind: found.get(kind, 1.0) for kind in KINDS} == pytest.approx(expected, rel=1e-12)
            decay = size_factors(optimizer, width=width, depth=depth, quantity="weight_decay")
            for kind in ("embedding", "hidden", "head"):  # eta lambda, the averaging time, is that of the base
                assert decay.get(kind, 1.0) * found[kind] == pytest.approx(1.0)
    assert size_factors(Optimizer(name=name), width=64, depth=6) == {}
    flat = size_factors(Optimizer(name=name, base=Base(width=8)), width=8, depth=60)  # the paper: one rate, any depth
    assert set(flat.values()) == {1.0}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_trainer_learns_at_these_rates_before_and_after_growth(name, data, tmp_path, monkeypatch):
    seen = []
    real = Trainee.update

    def update(self, **options):
        rates = {n: g["lr"] for g in self.optimizer.param_groups for n in g["param_names"]}
        decays = {n: g["weight_decay"] for g in self.optimizer.param_groups for n in g["param_names"]}
        shapes = dict(self.model.named_parameters())
        seen.append((self.model.depth, rates, decays, shapes))
        return real(self, **options)

    monkeypatch.setattr(Trainee, "update", update)
    plan = plan_of(name)
    record = train.fit_gpt2(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert [depth for depth, *_ in seen] == [1] * 6 + [4] * 6
    for step, (depth, rates, decays, parameters) in enumerate(seen):
        assert rates.keys() == parameters.keys()  # new blocks too
        for parameter_name, rate in rates.items():
            kind = tensor_of(plan.model, parameter_name).kind
            own = ADAMW_FACTOR if name == "muon_adamw" and kind != "hidden" else 1.0
            expected = plan.schedule.lr(step) * own * by_hand(name, kind, 32 / 8, depth / 2)
            assert rate == pytest.approx(expected, rel=1e-12), (step, parameter_name)
        assert rates["blocks.0.mlp.fc.weight"] * decays["blocks.0.mlp.fc.weight"] == pytest.approx(
            plan.schedule.lr(step) * plan.optimizer.weight_decay
        )
    steps, logged = record.curve(split="train", metric="lr")
    assert logged == pytest.approx([plan.schedule.lr(int(s) - 1) for s in steps])  # the plan's, not some group's
    stages = peak_rates(plan)
    assert [stage["hidden"] for stage in stages] == pytest.approx(
        [plan.schedule.peak * by_hand(name, "hidden", 4, d / 2) for d in (1, 4)]
    )


@pytest.mark.parametrize("name", ["muon_nsgd", "muon_adamw", "adamw"])
def test_resume_is_bitwise(name, data, tmp_path):
    plan = plan_of(name, init="copy", optimizer_state="keep_copied")
    train.fit_gpt2(plan, data=data, out=tmp_path / "whole", config=CONFIG)
    train.fit_gpt2(plan, data=data, out=tmp_path / "cut", config=CONFIG.replace(checkpoint_every=3))
    whole = checkpoint.load(RunDirectory(tmp_path / "whole").newest_checkpoint()[0])[1]
    for step in (9, 6):  # after the expansion, and at it
        for path in RunDirectory(tmp_path / "cut").checkpoints():
            if int(path.name[5:13]) > step:
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
        if not RunDirectory(tmp_path / "cut").checkpoints():
            continue
        resume(tmp_path / "cut")
        cut = checkpoint.load(RunDirectory(tmp_path / "cut").newest_checkpoint()[0])[1]
        assert all(torch.equal(whole[k], cut[k]) for k in whole)
    other = train.fit_gpt2(plan_of(name, base=None), data=data, out=tmp_path / "other", config=CONFIG)
    assert other.final() != read_record(tmp_path / "whole").final()


def test_plans_without_a_base_keep_their_digests():
    plan = tiny_plan()
    old = json.loads(plan.to_json())
    del old["optimizer"]["base"]  # as it was written before there was one
    assert decode(json.dumps(old), Plan).digest == plan.digest
    assert b"base" not in canonical_json(plan)
    based = plan_of()
    assert decode(based.to_json(), Plan) == based
    assert len({plan_of(base=b).digest for b in (None, Base(width=8), Base(width=8, depth=2))}) == 3


def test_refusals():
    with pytest.raises(InputError, match="base = 'width 8': has no rule to go by: transfer is 'none'; set transfer"):
        Optimizer(transfer="none", base=Base(width=8))
    with pytest.raises(InputError, match=r"depth = 0"):
        Base(width=8, depth=0)
    plan, parameter = plan_of("adamw"), torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match=r"param_groups\[...\]\['kind'\] = None: is no kind of parameter.*set one of"):
        PlanLR(torch.optim.AdamW([parameter]), plan)
    PlanLR(torch.optim.AdamW([{"params": [parameter], "kind": "vector"}]), plan)
    PlanLR(torch.optim.AdamW([parameter]), plan_of("adamw", base=None))


@pytest.mark.parametrize("small", [0, 1])
def test_a_foreign_optimizer_grows_into_the_right_kinds(small):
    """torch's own AdamW with kinds on its groups, grown by `train.grow`: what the callbacks do."""
    plan = plan_of("adamw", small=small)
    model = GPT2(plan.model, small)
    optimizer = torch.optim.AdamW([{"params": list(model.named_parameters())}], lr=0.0)
    split_groups(optimizer, describe(model))
    scheduler = PlanLR(optimizer, plan)
    for step in range(plan.steps):
        if step == 6:
            grow(
                model, optimizer, depth=4, blocks="blocks", make_block=lambda:
                Block(plan.model), init_block=lambda block, j: init_block_(block,
                depth=4, seed=0, name=f"blocks.{j}"),
            )  # fmt: skip
            scheduler.set_rates()
        rates = {n: g["lr"] for g in optimizer.param_groups for n in g["param_names"]}
        assert rates.keys() == dict(model.named_parameters()).keys()
        for name, _ in model.named_parameters():
            expected = plan.schedule.lr(step) * by_hand(
                "adamw", tensor_of(plan.model, name).kind, 4, max(model.depth, 1) / 2
            )
            assert rates[name] == pytest.approx(expected), (step, name)
        model.loss(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()


def feature_update(name, lr, width, depth, base, seed):
    """RMS of what two updates by build_optimizer and PlanLR change in what the blocks add, over that of the stream."""
    ids = torch.randint(0, 64, (4, 33), generator=torch.Generator().manual_seed(seed))
    plan = tiny_plan(steps=100, tau=None, full=depth, peak_lr=lr)
    shape = GPT2Shape(name="probe", width=width, heads=width // 16, vocab_size=64, context=32)
    schedule, optimizer = Constant(steps=100, peak_lr=lr), Optimizer(name=name, base=base)
    plan = plan.replace(model=shape, schedule=schedule, optimizer=optimizer)
    model = GPT2(shape, depth, seed=seed)
    optimizer = build_optimizer(model, plan.optimizer)
    scheduler = PlanLR(optimizer, plan)

    @torch.no_grad()
    def added():
        x = begin = model.tokens(ids[:, :-1]) + model.positions.weight
        for block in model.blocks:
            x = block(x)
        return x - begin, x

    before, stream = added()
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        scheduler.step()
    return float((added()[0] - before).norm() / stream.norm())


@pytest.mark.parametrize(("name", "lr"), [("adamw", 1e-4), ("muon_nsgd", 2e-3)])
def test_updates_of_features_are_flat_over_size_with_a_base_and_not_without(name, lr):
    """Exponents fitted to the mean of three seeds: one seed's scatters by 0.1 about it."""
    sizes = [(64, 2), (128, 2), (256, 2)], [(64, 2), (64, 4), (64, 8), (64, 16)]

    def exponents(base):
        found = []
        for row in sizes:
            seen = [np.mean([feature_update(name, lr, *size, base, seed) for seed in range(3)]) for size in row]
            found.append(np.polyfit(np.log([width * depth for width, depth in row]), np.log(seen), 1)[0])
        return found

    assert np.abs(exponents(Base(width=64, depth=2))).max() < TOLERANCE
    width, depth = exponents(None)
    assert depth > 0.4
    assert width > 0.4 if name == "adamw" else width < -TOLERANCE  # Muon's matrices need no factor, vectors do


def run_command(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(map(str, args)))
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def test_commands(tmp_path, capsys):
    path = tmp_path / "plan.json"
    make = ("plan", "--model", "gpt2-124m", "--steps", 1000, "--batch-tokens", 1024 * 8, "--u-mix", 0.12, "--out", path)
    code, _, _ = run_command(capsys, *make, "--peak-lr", 0.02, "--base-width", 192, "--base-depth", 3)
    assert code == 0
    plan = read_plan(path)
    assert plan.optimizer.base == Base(width=192, depth=3)
    _, shown, _ = run_command(capsys, "plan", "show", path)
    assert "tuned at width 192, 3 blocks; factors of latebloom.theory.transfer" in shown
    assert "from step 0 at the peak: embedding 0.04 (x 2), hidden 0.06 (x 3), vector 0.12 (x 6)" in shown
    assert "hidden 0.005 (x 0.25)" in shown
    _, printed, _ = run_command(capsys, "train", path, "--print-config", "--activations", "selective")
    assert 'activations = "selective"' in printed.splitlines()
    assert [stage["hidden"] for stage in peak_rates(plan)] == pytest.approx([0.06, 0.005])
    for more, message in (
        (("--peak-lr", 0.02, "--base-depth", 3), "--base-width = None: is required beside --base-depth; say at which"),
        (("--peak-lr", 0.02, "--base-width", 0), "--base-width = 0: must be at least 1; give the size"),
        (("--base-width", 192, "--steps", 100_000), "--base-width = 192: needs the learning rate that was tuned there"),
    ):
        code, _, err = run_command(capsys, *make, *more)
        assert code == 2
        assert message in err
    write_plan(tiny_plan(), path)
    assert "tuned at" not in run_command(capsys, "plan", "show", path)[1]
