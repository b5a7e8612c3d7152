"""Two ranks against one: the same run bit for bit, what they say to each other, their checkpoints, and faults."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import latebloom
from latebloom.theory import (
    InputError,
    Optimizer,
    Plan,
    Stage,
    plan_expansion,
    preset,
    read_record,
    write_plan,
    wsd,
)
from latebloom.theory.plan import BlockVariant
from latebloom.train.ranks import Ranks, joined, refuse_ranks, rows_of
from latebloom.train.run import checkpoint, trainee
from latebloom.train.run.branch import branch
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.dryrun import dry_run
from latebloom.train.run.loop import TrainConfig, make_trainee, resume, train
from latebloom.train.run.progress import Display
from latebloom.train.run.trainee import Trainee
from tests.fake_ranks import peak_bytes
from tests.helpers import COMPILES, ROOT, batches_of, needs_checkout, tiny_plan
from tests.ranks import on_ranks
from tests.rounding import allowed, apart, updates

# A micro-batch is half of the batch of four sequences: two ranks sum what one accumulates, in the same order.
CONFIG = TrainConfig(
    quiet=True, evals=2, eval_tokens=160, log_every=4, checkpoint_every=5, keep_checkpoints=9, repeat_data=True,
    device="cpu", microbatch=2, diagnostics=True,
)  # fmt: skip


def plan_of(*, steps=12, tau=6, small=1, full=3, optimizer="muon_nsgd", **stage):
    plan = tiny_plan(steps=steps, tau=tau, small=small, full=full)
    stages = (plan.stages[0], Stage(start_step=tau, depth=full, **stage))
    return plan.replace(stages=stages, optimizer=Optimizer(name=optimizer))


def replayed(plan):
    """Two blocks, passed as four from step 3 on and untied at ``tau``."""
    tied = Stage(start_step=3, depth=2, replayed_to=4)
    untied = Stage(start_step=plan.tau, depth=4, init="copy", optimizer_state="keep_copied")
    return plan.replace(stages=(Stage(start_step=0, depth=2), tied, untied))


LLAMA = plan_of().model.replace(
    width=48, heads=4, vocab_size=259, block=BlockVariant(kv_heads=2, hidden=80, qk_norm=True)
)
UNTIED = plan_of().model.replace(tied_head=False)


def run(plan, data, out, config=CONFIG):
    return train(plan, data=data, out=out, config=config).final()


def run_with_samples(plan, data, out, config):
    """The final loss, and what this rank was given to show of samples."""
    shown = []
    Display.note = lambda self, text: shown.append(text)
    final = run(plan, data, out, config.replace(quiet=False, prompt="late"))
    return final, [text for text in shown if ": 'late" in text or ': "late' in text]


def go_on(out):
    return resume(out).final()


def held(out, index=-1):
    """State, weights and optimizer state of a run's checkpoint, whole."""
    return checkpoint.load(RunDirectory(out).checkpoints()[index])


def assert_same(one, two):
    """Of weights and optimizer state, to the last bit."""
    assert one[1].keys() == two[1].keys() and one[2].keys() == two[2].keys()
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])
    for name, state in one[2].items():
        assert state.keys() == two[2][name].keys(), name
        assert all(torch.equal(state[key], two[2][name][key]) for key in state), name


@pytest.mark.parametrize(
    "plan",
    [
        plan_of(small=0),
        plan_of(init="copy", optimizer_state="keep_copied"),
        plan_of(init="copy_zero_last", order="inter", small=2, full=5, optimizer="muon_adamw"),
        plan_of(init="identity", optimizer="adamw", optimizer_state="keep_warmed").replace(model=UNTIED),
        plan_of(optimizer="sgd", optimizer_state="reset", init="zero"),
        plan_of(init="copy_zero_last").replace(model=LLAMA),
        replayed(plan_of()),
        plan_of(init="copy_zero_last", order="inter", new_rate=2.0, optimizer="muon_adamw"),
    ],
    ids=["zero", "copy", "inter", "identity", "sgd", "llama", "replayed", "new_rate"],
)
def test_two_ranks_are_one_bit_for_bit(plan, data, tmp_path):
    """Through growth, with the optimizer's state, validation losses and the record's rows; uneven rows, too."""
    run(plan, data, tmp_path / "one")
    on_ranks(run, 2, plan, data, tmp_path / "two")
    for index in (0, 1, -1):
        assert_same(held(tmp_path / "one", index), held(tmp_path / "two", index))
    one, two = (read_record(tmp_path / name).columns for name in ("one", "two"))
    kept = [i for i, metric in enumerate(one["metric"]) if metric not in ("tokens_per_s", "gradient_norm")]
    exact = [i for i in kept if "rms" not in one["metric"][i]]
    assert (one["metric"] == two["metric"]).all() and (one["step"] == two["step"]).all()
    assert one["value"][exact].tolist() == two["value"][exact].tolist()
    assert two["value"][kept] == pytest.approx(one["value"][kept], rel=1e-5)  # sums over rows in another order


@pytest.mark.parametrize("optimizer", ["muon_nsgd", "sgd"])
def test_other_micro_batches_differ_by_no_more_than_last_bits_of_the_weights(optimizer, data):
    """In loss and gradient norm, at every step, through growth; SGD, because Muon does not see a gradient's scale."""
    plan = plan_of(steps=10, tau=5, optimizer=optimizer)
    whole = CONFIG.replace(microbatch=None)
    values = updates(plan, data, whole)
    within = allowed(apart(plan, data, whole), values)
    (others, _) = on_ranks(updates, 2, plan, data, CONFIG.replace(microbatch=1))
    for other in (updates(plan, data, CONFIG), updates(plan, data, CONFIG.replace(microbatch=1)), others):
        assert (np.abs(other - values) <= within).all()
    assert within.max() < 1e-3 * values.max()


def test_more_ranks_than_rows_of_a_tensor(data, tmp_path):
    """Four ranks, some of which hold no row of the positions; sums are taken in another order than by one."""
    plan = plan_of(steps=6, tau=3)
    plan = plan.replace(model=plan.model.replace(context=2), batch_tokens=8)
    config = CONFIG.replace(microbatch=1)
    finals = on_ranks(run, 4, plan, data, tmp_path / "four", config)
    assert finals == pytest.approx([run(plan, data, tmp_path / "one", config)] * 4, abs=1e-4)


class Calls(TorchDispatchMode):
    """Counts collective operations and the bytes that a rank hands in."""

    def __init__(self):
        super().__init__()
        self.count, self.bytes = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::")
            self.count[name] += 1
            given = args[0] if name == "allreduce_" else args[1]
            tensors = given if isinstance(given, list | tuple) else [given]
            self.bytes[name] += sum(t.nbytes for t in tensors)
        return func(*args, **(kwargs or {}))


def counted(plan, data, config):
    """Collectives of a step and of the growth after it, full_tensor's and warnings being errors."""
    import warnings

    from torch.distributed.tensor import DTensor

    def refused(*_):
        raise AssertionError("a tensor was gathered")

    DTensor.full_tensor = refused
    warnings.simplefilter("error")
    with joined("cpu") as ranks:
        made = make_trainee(plan, data, config, ranks)
        made.begin()
        for _ in range(plan.stages[1].start_step - 1):
            made.update()
        with Calls() as step:
            made.update()
        with Calls() as growth:
            made.grow()
        made.update()
        made.close()
        return dict(step.count), dict(step.bytes), dict(growth.count), made.depth


@pytest.mark.parametrize("passes", [1, 2])
def test_collectives_of_a_step_are_counted_and_growth_has_none(passes, data):
    plan, blocks = plan_of(small=2, tau=3), 2
    steps, sizes, growth, depth = on_ranks(counted, 2, plan, data, CONFIG.replace(microbatch=2 // passes))[0]
    assert steps == {
        "_allgather_base_": passes * (2 * blocks + 1),
        "_reduce_scatter_base_": passes * (blocks + 1),
        "alltoall_base_": 2,
        "allreduce_": 1,
    }
    assert growth == {} and depth == 3
    weights = 4 * plan_of().model.width * 256  # the embedding alone
    assert sizes["allreduce_"] == 16 and sizes["alltoall_base_"] > weights


@pytest.mark.parametrize(("wrote", "reads"), [(1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("steps", [5, 7])
def test_a_checkpoint_is_read_by_any_number_of_ranks(wrote, reads, steps, data, tmp_path):
    """Before and after growth: bit for bit what was written, and the run ends as if it had not been stopped."""
    plan, whole, cut = plan_of(optimizer="muon_adamw"), tmp_path / "whole", tmp_path / "cut"
    final = run(plan, data, whole)
    on_ranks(stopped_at, wrote, plan, data, cut, steps)
    path, passed_over = RunDirectory(cut).newest_checkpoint()
    assert passed_over == [] and checkpoint.verify(path).step == steps
    assert (path / "manifest.json").read_text().startswith(f'{{\n  "checkpoint_version": {wrote}')
    results = on_ranks(go_on, reads, cut)
    assert results == [final] * reads
    assert_same(held(whole), held(cut))


def stopped_at(plan, data, out, step, config=CONFIG):
    """A run that gets a signal on its last rank during the update that makes ``step`` steps."""
    real = Trainee.update

    def update(self, **options):
        if self.step == step - 1 and self.ranks.rank == self.ranks.world - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(self, **options)

    Trainee.update = update
    try:
        train(plan, data=data, out=out, config=config.replace(checkpoint_every=50))
    except SystemExit as stop:
        return stop.code
    finally:
        Trainee.update = real


def refused(plan, data, out, config=CONFIG):
    try:
        return train(plan, data=data, out=out, config=config)
    except (InputError, SystemExit) as error:
        return str(error)


def differing(plan, data, out):
    """Ranks that were given different seeds."""
    return refused(plan, data, out, CONFIG.replace(seed=int(os.environ["RANK"])))


def not_finite(plan, data, out, config):
    """Rank 1 meets a loss that is not finite."""
    real = Trainee._loss

    def loss(self, *batch):
        bad = self.ranks.rank == 1 and self.step == 3
        return real(self, *batch) * (float("nan") if bad else 1.0)

    Trainee._loss = loss
    try:
        return refused(plan, data, out, config)
    except trainee.NonFiniteLoss as error:
        return str(error)


def test_a_refusal_is_one_line_of_one_rank_and_ends_all(data, tmp_path):
    plan = plan_of()
    first, second = on_ranks(refused, 2, plan.replace(batch_tokens=48), data, tmp_path / "uneven")
    assert first.startswith("batch_tokens = 48: is not a multiple of 2 ranks x 16 tokens") and second == "2"
    first, second = on_ranks(refused, 2, plan, data, tmp_path / "micro", CONFIG.replace(microbatch=4))
    assert first.startswith("--microbatch = 4: x 2 ranks does not divide the batch of 4") and second == "2"
    first, second = on_ranks(differing, 2, plan, data, tmp_path / "seeds")
    assert first.startswith("settings: $.seed = '1': of rank 1 is not that of rank 0, '0'") and second == "2"
    first, second = on_ranks(refused, 2, plan, tmp_path, tmp_path / "nodata")
    assert "has no train shard" in first and second == "2"
    assert not any((tmp_path / name).exists() for name in ("uneven", "micro", "seeds", "nodata"))


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_the_update(data, tmp_path):
    first, second = on_ranks(not_finite, 2, plan_of(), data, tmp_path / "run", CONFIG.replace(checkpoint_every=1))
    assert first.startswith("step 3: loss nan, gradient norm nan") and second == "1"
    assert [path.name for path in RunDirectory(tmp_path / "run").checkpoints()][-1] == "step-00000003-stage-0"


def test_rows_that_are_missing_changed_or_unknown_are_refused(data, tmp_path):
    on_ranks(run, 2, plan_of(steps=2, tau=1), data, tmp_path / "run")
    path = RunDirectory(tmp_path / "run").checkpoints()[-1]
    manifest = json.loads((path / "manifest.json").read_text())
    embedding = manifest["model"]["tokens.weight"]
    assert manifest["world"] == 2 and embedding == {"shape": [256, 32], "rows": [[0, 128], [128, 256]]}
    embedding["rows"][1] = [129, 256]
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    with pytest.raises(InputError, match="are not the 256 rows of tokens.weight, each once"):
        checkpoint.verify(path)
    embedding["rows"][1] = [128, 256]
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    checkpoint.verify(path)
    file = path / "optimizer-00002-of-00002.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="the file was changed"):
        checkpoint.verify(path)
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        checkpoint.verify(path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torch_distributed_checkpoint_reads_our_rows(data, tmp_path):
    """An independent reader: where rows begin stands in the files as it expects."""
    import torch.distributed.checkpoint as dcp

    on_ranks(run, 2, plan_of(steps=2, tau=1), data, tmp_path / "run")
    path = RunDirectory(tmp_path / "run").checkpoints()[-1]
    ours = checkpoint.load(path)[1]
    theirs = {name: torch.zeros_like(tensor) for name, tensor in ours.items()}
    only_model = tmp_path / "model"
    only_model.mkdir()
    for file in path.glob("model-*"):
        (only_model / file.name).write_bytes(file.read_bytes())
    dcp.load(theirs, storage_reader=dcp.HuggingFaceStorageReader(str(only_model)), no_dist=True)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_runs_in_one_process_says_so(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="processes were started; a branch runs in one"):
        branch(tmp_path, plan_of(), out=tmp_path / "out")
    with pytest.raises(InputError, match="RANK = None: is not set, but WORLD_SIZE is; start with torchrun"):
        train(plan_of(), data=data, out=tmp_path / "out")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="MASTER_ADDR = None: is not set, but WORLD_SIZE is"):
        train(plan_of(), data=data, out=tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(InputError, match="WORLD_SIZE = 'many': is not a number"):
        refuse_ranks("anything")


def test_rows_and_batches_are_divided_without_rest(data):
    for count, world in ((1, 4), (3, 4), (5, 4), (8, 2), (259, 8)):
        parts = [rows_of(count, rank, world) for rank in range(world)]
        cut = torch.arange(count).chunk(world)
        assert [list(range(count))[part] for part in parts][: len(cut)] == [part.tolist() for part in cut]
        assert sum(part.stop - part.start for part in parts) == count
    whole = batches_of(data, plan_of(), seed=1, repeat=True).train(3)[0]
    halves = [batches_of(data, plan_of(), seed=1, repeat=True, rank=r, world=2).train(3)[0] for r in range(2)]
    assert (np.concatenate(halves) == whole).all()


def test_only_ranks_and_sharding_import_torch_distributed():
    root = Path(latebloom.__file__).parent / "train"
    users = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if "torch.distributed" in code_of(path)}
    assert users == {"ranks.py", "model/sharding.py", "growth/wrappers.py"}  # the last: other people's DDP


def code_of(path):
    return "\n".join(line for line in path.read_text().splitlines() if line.lstrip().startswith(("import ", "from ")))


def test_one_process_joins_nothing():
    with joined() as ranks:
        assert ranks.alone and ranks.is_first and ranks.store is None
        assert ranks.texts("a") == ["a"] and ranks.sum(torch.ones(2)) == [1.0, 1.0]
        ranks.ask_to_stop(signal.SIGTERM)
        assert ranks.stop == signal.SIGTERM
    assert not torch.distributed.is_initialized() and Ranks().stop is None


def test_torchrun_trains_by_the_command_and_one_rank_speaks(data, tmp_path):
    write_plan(plan_of(), tmp_path / "plan.json")
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "latebloom",
    ]
    options = ["--data", data, "--repeat-data", "--microbatch", "2", "--device", "cpu", "--evals", "2", "--json"]
    command = [*torchrun, "train", tmp_path / "plan.json", "--out", tmp_path / "run", *options, "--eval-tokens", "160"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["final_loss"] == run(plan_of(), data, tmp_path / "one")


@pytest.mark.parametrize(("joins", "closed"), [(True, False), (False, True)])
def test_a_rank_that_ends_amid_its_group_keeps_its_exit_code(joins, closed):
    """The interpreter is not closed under the threads of a process group, which would abort."""
    code = f"""
import atexit, torch, torch.distributed as dist
from latebloom.train.ranks import exit_process
from latebloom.train.run.directory import RunDirectory
if {joins}:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dist.all_reduce(torch.zeros(1))
atexit.register(print, "closed")
exit_process(75)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert ("closed" in done.stdout) == closed


def test_restarted_ranks_go_on_from_the_newest_checkpoint(data, tmp_path):
    final = run(plan_of(), data, tmp_path / "whole")
    on_ranks(stopped_at, 2, plan_of(), data, tmp_path / "cut", 7)
    assert on_ranks(run, 2, plan_of(), data, tmp_path / "cut", TORCHELASTIC_RESTART_COUNT="1") == [final, final]


@needs_checkout
def test_examples_are_settings_and_scripts(tmp_path):
    folder = ROOT / "examples"
    text = (folder / "README.md").read_text()
    recipes = {"train-124m": ("gpt2-124m", 1, 524_288), "train-7b-8": ("gpt2-7b", 8, 524_288),
               "train-7b-64": ("gpt2-7b", 64, 524_288), "train-65b-512": ("gpt2-65b", 512, 4_194_304)}  # fmt: skip
    assert {path.stem for path in folder.glob("*.toml")} == set(recipes)
    for name, (model, devices, batch_tokens) in recipes.items():
        config = TrainConfig(**tomllib.loads((folder / f"{name}.toml").read_text()))
        shape, depth = preset(model)
        plan = plan_expansion(
            model=shape, small_depth=1, full_depth=depth, schedule=wsd(steps=100_000, peak_lr=0.03),
            batch_tokens=batch_tokens, mixing_area=360.0,
        )  # fmt: skip
        cost = dry_run(
            plan, devices=devices, shard=config.shard, gather=config.gather, micro_sequences=config.microbatch,
            activations=config.activations, dtype=config.dtype,
        )  # fmt: skip
        columns = (f"`{name}.toml`", f"{model}, {depth} blocks", f"{devices}", f"{cost.memory / 2**30:.1f} GiB",
                   f"{cost.computing_seconds:.2f} s", f"{cost.communication_seconds:.2f} s")  # fmt: skip
        assert f"| {' | '.join(columns)} |" in text
    for path in folder.glob("*.sh"):
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("world", "shard", "depth", "sequences", "activations", "dtype", "gather"),
    [
        (2, 2, 2, 2, "recompute", "bfloat16", "float32"),
        (8, 8, 4, 8, "keep", "float32", "float32"),
        (64, 64, 4, 1, "selective", "bfloat16", "float32"),
        (64, 8, 4, 1, "recompute", "bfloat16", "bfloat16"),
        (8, 2, 3, 2, "keep", "bfloat16", "bfloat16"),
        (8, 1, 3, 2, "recompute", "bfloat16", "float32"),
    ],
)
def test_the_dry_run_of_a_rank_is_what_a_fake_rank_holds(world, shard, depth, sequences, activations, dtype, gather):
    """An account of every storage, fully_shard's own included; the promise is 10 %."""
    shape = preset("gpt2-124m")[0].replace(vocab_size=8192)
    plan = Plan(
        name="fake", model=shape, batch_tokens=1024 * sequences * world, schedule=wsd(steps=2, peak_lr=0.1),
        stages=(Stage(start_step=0, depth=depth),),
    )  # fmt: skip
    counted = peak_bytes(
        plan, world, sequences=sequences, activations=activations, dtype=dtype, shard=shard, gather=gather
    )
    said = dry_run(
        plan, devices=world, micro_sequences=sequences, activations=activations, dtype=dtype, shard=shard, gather=gather
    )
    assert said.memory == pytest.approx(counted, rel=0.1)
    assert said.gathered > 0 and f"memory on each of {world} devices" in said.text()


@pytest.mark.parametrize(("world", "shard"), [(2, 1), (4, 2)])
def test_groups_of_ranks_hold_replicas(world, shard, data, tmp_path):
    """Hybrid sharding: losses and weights of one process through growth; one group writes, and any number goes on."""
    config = CONFIG.replace(microbatch=1, shard=shard)
    shown = on_ranks(run_with_samples, world, plan_of(), data, tmp_path / "grouped", config)
    finals, samples = map(list, zip(*shown, strict=True))
    assert len(samples[0]) >= 4 and len(set(map(tuple, samples))) == 1  # ranks talk while they draw: all draw the same
    final = run(plan_of(), data, tmp_path / "one", CONFIG.replace(microbatch=1))
    assert finals == pytest.approx([final] * world, abs=1e-4)
    saved = RunDirectory(tmp_path / "grouped").checkpoints()[-1]
    assert len(list(saved.glob("model*"))) == shard
    checkpoint.verify(saved)
    for name, tensor in held(tmp_path / "one")[1].items():
        torch.testing.assert_close(held(tmp_path / "grouped")[1][name], tensor, atol=1e-4, rtol=1e-3)
    columns = [read_record(tmp_path / name).columns for name in ("one", "grouped")]
    for metric in ("gradient_norm", "update_rms_blocks_matrices", "weight_rms_blocks_matrices"):
        one, grouped = (c["value"][c["metric"] == metric] for c in columns)
        assert len(one) == len(grouped) > 0, metric
        assert grouped == pytest.approx(one, rel=2e-3), metric
    on_ranks(stopped_at, world, plan_of(), data, tmp_path / "cut", 7, config)
    assert on_ranks(go_on, world, tmp_path / "cut") == finals
    on_ranks(stopped_at, world, plan_of(), data, tmp_path / "other", 7, config)
    assert go_on(tmp_path / "other") == pytest.approx(final, abs=1e-4)


def test_replicas_that_do_not_fit_the_ranks_are_refused(data, tmp_path):
    results = on_ranks(run, 2, plan_of(), data, tmp_path / "run", CONFIG.replace(shard=3))
    assert {str(result) for result in results} == {
        "--shard = 3: does not divide the 2 ranks; give a divisor, or leave it out"
    }
    with pytest.raises(InputError, match="does not divide the 8 devices"):
        dry_run(plan_of(), devices=8, shard=3)


def test_dry_run_counts_what_the_network_takes():
    """7B on 64 devices: in one group the network is slower than computing, in groups of one machine it is not."""
    shape, depth = preset("gpt2-7b")
    plan = Plan(
        name="7b", model=shape, batch_tokens=524_288, schedule=wsd(steps=100, peak_lr=0.02),
        stages=(Stage(start_step=0, depth=depth),),
    )  # fmt: skip
    options = {"devices": 64, "micro_sequences": 8, "gather": "bfloat16", "activations": "recompute"}
    flat, grouped = dry_run(plan, **options), dry_run(plan, **options, shard=8)
    assert flat.computing_seconds == grouped.computing_seconds
    assert flat.communication_seconds > flat.computing_seconds > grouped.communication_seconds
    assert grouped.seconds < flat.seconds and grouped.memory > flat.memory
    sent = 63 / 64 * (2 * 2 * (flat.phases[0].parameters) + 4 * flat.phases[0].parameters)  # blocks nearly all of it
    assert flat.communication == pytest.approx(sent, rel=0.05)
    assert flat.checkpoint == 8 * flat.phases[0].parameters and flat.disk == 3 * flat.checkpoint


@pytest.mark.parametrize("model", [plan_of().model, LLAMA], ids=["gpt2", "llama"])
def test_blocks_gathered_in_bfloat16_train_nearly_alike(model, data, tmp_path):
    plan = plan_of(steps=8, tau=4).replace(model=model)
    config = CONFIG.replace(dtype="bfloat16")
    exact = on_ranks(run, 2, plan, data, tmp_path / "exact", config)[0]
    gathered = config.replace(gather="bfloat16")
    (rounded, first), (_, second) = on_ranks(run_with_samples, 2, plan, data, tmp_path / "rounded", gathered)
    assert first == second != []
    assert rounded != exact and rounded == pytest.approx(exact, abs=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in held(tmp_path / "rounded")[1].values())
    with pytest.raises(InputError, match="--gather"):
        CONFIG.replace(gather="bfloat16")


def compiled_run(plan, data, out, config):
    """Graphs that this rank made at each depth, and the final loss."""
    from latebloom.train.run.measure import graphs_compiled

    graphs, real_update, real_backend = Counter(), Trainee.update, trainee.COMPILE_BACKEND

    def update(self, **options):
        before = graphs_compiled()
        value = real_update(self, **options)
        graphs[self.model.depth] += graphs_compiled() - before
        return value

    Trainee.update, trainee.COMPILE_BACKEND = update, "aot_eager"
    try:
        final = run(plan, data, out, config)
        return dict(graphs) | {"final": final}
    finally:
        Trainee.update, trainee.COMPILE_BACKEND = real_update, real_backend


@COMPILES
@pytest.mark.parametrize(("small", "activations"), [(1, "keep"), (0, "recompute"), (1, "selective")])
def test_growth_on_ranks_compiles_nothing_again(small, activations, data, tmp_path):
    config = CONFIG.replace(compile=True, activations=activations, diagnostics=False)
    results = on_ranks(
        compiled_run, 2, plan_of(steps=6, tau=3, small=small), data, tmp_path / "two", config, seconds=200
    )
    alone = run(plan_of(steps=6, tau=3, small=small), data, tmp_path / "one", CONFIG)
    for result in results:
        assert [result[small], result[3]] == ([1, 0] if small else [0, 1])
        assert result["final"] == pytest.approx(alone, abs=1e-3)  # compiled kernels round differently


def test_a_run_of_two_ranks_is_exported_whole(data, tmp_path):
    from latebloom.train.model.hf import from_hf

    on_ranks(run, 2, plan_of(), data, tmp_path / "two")
    done = subprocess.run(
        [sys.executable, "-m", "latebloom", "export", tmp_path / "two", "--out", tmp_path / "hf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = held(tmp_path / "two")[1]
    exported = from_hf(tmp_path / "hf", name="x").state_dict()
    assert exported.keys() == weights.keys() and all(torch.equal(exported[name], weights[name]) for name in weights)
