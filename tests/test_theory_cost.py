"""Costs against the numbers of arXiv 2511.04981 and against the shapes written out. (train tests them on torch.)"""

import pytest

from latebloom.theory import InputError, Stage, fixed_depth, plan_expansion, preset, wsd
from latebloom.theory.cost import flops_per_token, parameters, plan_flops
from tests.helpers import tiny_plan


def written_out(d, v, n, depth):
    """Every tensor of GPT-2 by its shape."""
    block = [(d,), (d,), (3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,)]
    tensors = [(v, d), (n, d), (d,), (d,)] + block * depth
    size = 0
    for shape in tensors:
        size += shape[0] * (shape[1] if len(shape) == 2 else 1)
    return size


@pytest.mark.parametrize(("name", "depth"), [("gpt2-124m", 0), ("gpt2-124m", 12), ("gpt2-7b", 1), ("gpt2-7b", 60)])
def test_parameters_are_those_of_the_tensors(name, depth):
    model, _ = preset(name)
    assert parameters(model, depth) == written_out(model.width, model.vocab_size, model.context, depth)
    without = parameters(model, depth, embeddings=False)
    assert parameters(model, depth) - without == (model.vocab_size + model.context) * model.width


def test_published_sizes():
    model, depth = preset("gpt2-7b")
    assert depth == 60
    assert parameters(model, 60) == pytest.approx(6.955e9, rel=1e-4)
    assert parameters(model, 0) == pytest.approx(0.158e9, rel=3e-3)
    assert parameters(model, 1) == pytest.approx(0.271e9, rel=1e-3)
    assert flops_per_token(model, 60) == pytest.approx(43.96e9, rel=1e-4)
    assert flops_per_token(model, 1) == pytest.approx(1.64e9, rel=3e-3)
    assert flops_per_token(model, 0) == pytest.approx(0.93e9, rel=4e-3)
    small, _ = preset("gpt2-124m")
    assert [round(parameters(small, d) / 1e6, 1) for d in (0, 1, 12)] == [39.4, 46.5, 124.5]


@pytest.mark.parametrize(
    ("name", "small", "speedup"),
    [("gpt2-7b", 1, 4.35), ("gpt2-7b", 0, 4.61), ("gpt2-124m", 1, 2.15), ("gpt2-124m", 0, 2.40)],
)
def test_speedup_at_four_fifths(name, small, speedup):
    """At 124M the head is all of a zero-layer model: the published fifth is out of reach when it is counted."""
    model, depth = preset(name)
    plan = plan_expansion(
        model=model, small_depth=small, full_depth=depth, schedule=wsd(steps=1000, peak_lr=0.1),
        batch_tokens=1024, mixing_area=15.0,
    )  # fmt: skip
    plan = plan.replace(stages=(plan.stages[0], Stage(start_step=800, depth=depth)))
    ratio = plan_flops(fixed_depth(plan, name="f")) / plan_flops(plan)
    assert ratio == pytest.approx(speedup, abs=0.005)


def test_plan_flops_adds_up_stage_by_stage():
    plan = tiny_plan()
    steps = sum(64 * flops_per_token(plan.model, 1 if k < 60 else 3) for k in range(75))
    assert plan_flops(plan, 75) == steps
    assert plan_flops(plan) == 64 * (60 * flops_per_token(plan.model, 1) + 40 * flops_per_token(plan.model, 3))
    assert plan_flops(plan, head=False) < plan_flops(plan)


def test_bad_depth():
    with pytest.raises(InputError, match="depth = -1"):
        parameters(preset("gpt2-7b")[0], -1)
    with pytest.raises(InputError, match="did you mean 'gpt2-7b'"):
        preset("gpt2-7B")
