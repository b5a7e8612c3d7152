"""What a GPU would see of a run. torch's meta device stands in for it: it takes the ways that are not the CPU's, and
as it holds no values it refuses to be looked at."""

import pytest
import torch

from latebloom.theory import InputError, Optimizer, Stage
from latebloom.theory.plan import BlockVariant
from latebloom.train.model import transformer as model
from latebloom.train.optim import muon as optim
from latebloom.train.run import device, doctor, loop
from latebloom.train.run import several as runs
from latebloom.train.run.loop import TrainConfig, train
from latebloom.train.run.trainee import Trainee
from tests.helpers import tiny_plan

CONFIG = TrainConfig(quiet=True, evals=0, eval_tokens=32, log_every=4, repeat_data=True)
QWEN = tiny_plan().model.replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48, qk_norm=True))


@pytest.fixture
def looks(monkeypatch):
    """Runs are on the meta device and save nothing; for each update, how often it looked at the device."""
    seen, real_list, real_update = [0], torch.Tensor.tolist, Trainee.update
    looks = []

    def to_list(tensor):
        seen[0] += tensor.is_meta
        return real_list(torch.ones(tensor.shape) if tensor.is_meta else tensor)

    def update(self, **options):
        seen[0] = 0
        value = real_update(self, **options)
        looks.append(seen[0])
        return value

    monkeypatch.setattr(torch.Tensor, "tolist", to_list)
    monkeypatch.setattr(loop, "usable_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(Trainee, "update", update)
    monkeypatch.setattr(loop._Run, "save", lambda self, behind=False: None)
    monkeypatch.setattr(model, "generator", lambda *_: None)  # there is none of that device, nor autocast
    enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": kind != "meta" and enabled(kind))
    return looks


@pytest.mark.parametrize(("optimizer", "small"), [("muon_nsgd", 0), ("muon_nsgd", 1), ("muon_adamw", 1), ("sgd", 1)])
def test_an_update_looks_at_the_device_once(optimizer, small, data, tmp_path, looks, monkeypatch):
    """Before, at and after the expansion; whatever else waited for a value or mixed devices would raise."""
    taken, real = [], optim.polar_express
    monkeypatch.setattr(optim, "polar_express", lambda x: taken.append(x) or real(x))
    plan = tiny_plan(steps=4, tau=2, small=small).replace(optimizer=Optimizer(name=optimizer))
    record = train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(microbatch=2))
    assert looks == [1] * 4
    assert record.columns["step"][-1] == 4
    if optimizer.startswith("muon") and small:
        shapes = {tuple(x.shape) for x in taken if x.dtype == torch.bfloat16 and len(x) > 1}
        assert shapes == {(4, 32, 32), (12, 32, 32), (3, 32, 128), (3, 128, 32)}  # one batch a shape, at both depths


@pytest.mark.parametrize("activations", ["selective", "recompute"])
@pytest.mark.parametrize("shape", [tiny_plan().model, QWEN], ids=["gpt2", "qwen3"])
def test_so_does_one_that_computes_activations_again(shape, activations, data, tmp_path, looks):
    plan = tiny_plan(steps=2, tau=1).replace(model=shape)
    train(plan, data=data, out=tmp_path / "run", config=CONFIG.replace(activations=activations))
    assert looks == [1] * 2


@pytest.mark.parametrize(
    ("init", "policy"), [("random", "keep_warmed"), ("copy_zero_norm", "keep_copied"), ("identity", "reset")]
)
def test_growth_looks_at_nothing(init, policy, data, tmp_path, looks):
    stages = (Stage(start_step=0, depth=1), Stage(start_step=1, depth=3, init=init, optimizer_state=policy))
    plan = tiny_plan(steps=2, tau=1).replace(stages=stages, optimizer=Optimizer(name="muon_adamw"))
    train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert looks == [1] * 2


def test_diagnostics_take_one_look_more(data, tmp_path, looks):
    config = CONFIG.replace(diagnostics=True, log_every=2)
    record = train(tiny_plan(steps=4, tau=2), data=data, out=tmp_path / "run", config=config)
    assert looks == [1, 2] * 2
    assert record.curve(split="train", metric="weight_rms_tokens")[1] == pytest.approx((256 * 32) ** -0.5)  # of ones


def test_validation_takes_no_more_sequences_than_training(data, tmp_path, looks, monkeypatch):
    sizes, real = [], model.GPT2.loss
    monkeypatch.setattr(model.GPT2, "loss", lambda self, x, y: sizes.append(len(x)) or real(self, x, y))
    for microbatch, most in ((None, 4), (2, 2)):
        sizes.clear()
        config = CONFIG.replace(microbatch=microbatch, eval_tokens=16 * 9)
        train(tiny_plan(steps=2, tau=1), data=data, out=tmp_path / str(microbatch), config=config)
        assert max(sizes) == most
        assert sum(sizes) == 4 * 9 + 2 * 4  # validated before, at and after the expansion, at the end


def test_norms_under_autocast_are_in_the_precision_of_their_gains():
    """With bfloat16 values and float32 gains torch leaves its kernel, and says so in a warning."""
    m = model.GPT2(QWEN, 1)
    kernel, seen = torch.nn.functional.rms_norm, []
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(torch.nn.functional, "rms_norm", lambda x, *rest: seen.append(x.dtype) or kernel(x, *rest))
        m(torch.zeros(1, 16, dtype=torch.long))
    assert seen == [torch.float32] * 5


class Properties:
    total_memory = 80 * 2**30


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    def properties(of):
        if of.index:
            raise AssertionError("Invalid device id")
        return Properties

    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert device.usable_device("cuda").type == "cuda"
    with pytest.raises(InputError, match=r"--device = 'cuda:7': is not usable here \(Invalid device id\)"):
        device.usable_device("cuda:7")
    full = 80 * 2**30
    device.check_memory(torch.device("cuda"), states=full, peak=full, sequences=8)
    with pytest.raises(InputError, match=r"takes 80\.0 GiB for its states alone; cuda has 80\.0"):
        device.check_memory(torch.device("cuda"), states=full + 1, peak=full, sequences=8)
    with pytest.raises(InputError, match=r"--microbatch = 8: sequences at a time take 89\.6 GiB .*; cuda has 80"):
        device.check_memory(torch.device("cuda"), states=full, peak=int(1.12 * full), sequences=8)


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**30}
    monkeypatch.setattr("os.sysconf", pages.get)
    plan = tiny_plan(steps=2, tau=1).replace(batch_tokens=16 * 2**15)
    with pytest.raises(InputError, match=r"--microbatch = 32768: sequences at a time .* depth; cpu has 1\.0;"):
        train(plan, data=data, out=tmp_path / "run", config=CONFIG)
    assert not (tmp_path / "run").exists()


def test_the_doctor_says_why_a_gpu_cannot_be_used(monkeypatch, tmp_path):
    def name(_):
        raise RuntimeError("The NVIDIA driver on your system is too old\nmore")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    found = doctor.examine_machine(tmp_path)
    text = doctor.examine_text(found)
    assert "cuda:0 (NOT usable: The NVIDIA driver on your system is too old)\n" in text
    assert "cpu (" in text and ": matrix products" in text
    assert f"torch {torch.__version__}" in text


def test_one_run_at_a_time_on_a_gpu_and_one_a_core_beside_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3), raising=False)
    assert [runs._workers(name)[0] for name in ("auto", "cuda", "cuda:1", "cpu")] == [1, 1, 1, 3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runs._workers("auto") == (3, 1)
