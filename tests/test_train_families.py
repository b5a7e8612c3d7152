"""The torch parts of families and optimizers: whole registries, the tensors that theory states, and refusals."""

import copy
import importlib
import math
import pickle
import pkgutil
from typing import get_args

import pytest
import torch

from latebloom.sim.optimizers import TOY_RULES
from latebloom.theory import InputError, Optimizer, architectures
from latebloom.theory.architectures.family import Family
from latebloom.theory.architectures.shape import FAMILIES, block_tensors, outer_tensors
from latebloom.theory.architectures.tensors import MATRIX_KINDS
from latebloom.theory.optimizers import OPTIMIZERS, OptimizerName, rule_of
from latebloom.theory.plan import BlockVariant
from latebloom.train import model as torch_parts
from latebloom.train.config import Activations
from latebloom.train.experiments.lr_transfer import CONVEX
from latebloom.train.growth.operators import grow
from latebloom.train.model.family import Modules
from latebloom.train.model.memory import activation_bytes
from latebloom.train.model.registry import MODULES
from latebloom.train.model.tensors import inferred_tensor
from latebloom.train.model.transformer import GPT2, Block, init_block_
from latebloom.train.optim.build import build_optimizer
from latebloom.train.optim.muon import MuonNSGD
from latebloom.train.optim.registry import BUILDERS, TRAINED
from latebloom.train.run.dryrun import dry_run
from tests.helpers import tiny_plan, tiny_shape

SHAPES = {
    name: tiny_shape().replace(heads=4, **({family.field: family.example} if family.field else {}))
    for name, family in FAMILIES.items()
} | {
    "untied": tiny_shape().replace(tied_head=False),
    "qwen": tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=4, hidden=40, qk_norm=True)),
}
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Experts(torch.nn.Module):
    """Two matrices in one tensor, which no family here states."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, width, width))


def values_in(package, name):
    """(module, what it calls ``name``) of every module of a package."""
    for module in pkgutil.iter_modules(package.__path__):
        yield module.name, getattr(importlib.import_module(f"{package.__name__}.{module.name}"), name, None)


def test_registries_are_whole():
    assert all(SHAPES[name].family is family for name, family in FAMILIES.items())
    stated = {name for name, value in values_in(architectures, "FAMILY") if isinstance(value, Family)}
    written = {name for name, value in values_in(torch_parts, "MODULES") if isinstance(value, Modules)}
    assert set(MODULES) == set(FAMILIES) == stated == written
    assert all(isinstance(modules, Modules) for modules in MODULES.values())
    assert set(BUILDERS) == set(TOY_RULES) == set(OPTIMIZERS) == set(get_args(OptimizerName))


@EVERY_SHAPE
@pytest.mark.parametrize("depth", [0, 2])
def test_a_model_has_the_tensors_that_its_family_states(shape, depth):
    stated = {tensor.name: tensor.shape for tensor in outer_tensors(shape)}
    for index in range(depth):
        stated |= {f"blocks.{index}.{tensor.name}": tensor.shape for tensor in block_tensors(shape)}
    assert {name: tuple(p.shape) for name, p in GPT2(shape, depth).named_parameters()} == stated


@EVERY_SHAPE
def test_initial_values_follow_from_what_a_tensor_is(shape):
    """Standard deviations within 5 of their errors; what is filled, exactly."""
    block = Block(shape)
    init_block_(block, depth=8, seed=0, name="blocks.0")
    parameters = dict(block.named_parameters())
    for tensor in block_tensors(shape):
        values = parameters[tensor.name].detach()
        if tensor.initial is not None:
            assert torch.equal(values, torch.full_like(values, tensor.initial))
            continue
        std = 0.02 * math.sqrt(768 / min(tensor.shape[-2:])) / (4 if tensor.ends_branch else 1)
        assert float(values.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * tensor.size))


@pytest.mark.parametrize("name", TRAINED)
@EVERY_SHAPE
def test_rule_decay_and_parts_follow_from_the_kind(shape, name):
    model = GPT2(shape, 2)
    spec = Optimizer(name=name, weight_decay=0.25)
    groups = build_optimizer(model, spec).param_groups
    stated = {t.name: t for t in outer_tensors(shape)} | {f"blocks.1.{t.name}": t for t in block_tensors(shape)}
    seen = set()
    for group in groups:
        for parameter_name in group["param_names"]:
            if parameter_name.startswith("blocks.0."):
                continue
            tensor = stated[parameter_name]
            seen.add(parameter_name)
            assert group.get("rule", name) == rule_of(name, tensor.kind)
            if tensor.kind in MATRIX_KINDS:
                assert group["weight_decay"] == 0.25
            elif rule_of(name, tensor.kind) != "nsgd":  # which takes no account of it
                assert group["weight_decay"] == 0.0
    assert seen == stated.keys()


@pytest.mark.parametrize("name", TRAINED)
def test_a_tensor_that_the_family_does_not_state_is_neither_initialised_nor_optimised(name):
    model = GPT2(tiny_shape(), 1)
    model.blocks[0].mlp.experts = Experts(32)
    message = r"parameter = 'blocks.0.mlp.experts.weight': is a tensor that the family gpt2 does not state"
    with pytest.raises(InputError, match=message):
        build_optimizer(model, Optimizer(name=name))
    with pytest.raises(InputError, match=message):
        init_block_(model.blocks[0], depth=1, seed=0, name="blocks.0")


def test_anyones_tensors_are_inferred_up_to_two_axes_and_refused_beyond():
    kinds = {n: inferred_tensor("a", torch.zeros((2,) * n)).kind for n in range(3)}
    assert kinds == {0: "vector", 1: "vector", 2: "hidden"}
    assert inferred_tensor("h.0.attn.qkv.weight", torch.zeros(6, 2)).matrices == 3
    stack = torch.nn.Parameter(torch.zeros(4, 3, 2))
    with pytest.raises(InputError, match="parameter = 'experts': has 3 axes: whether it is a stack .*; say what it is"):
        MuonNSGD([("experts", stack)], lr=0.1)


def test_growth_refuses_new_tensors_of_unknown_kind():
    """A model of no block, grown into an optimizer that keeps kinds."""
    model = torch.nn.Module()
    model.blocks, model.table = torch.nn.ModuleList(), torch.nn.Parameter(torch.zeros(2, 3, 3))
    groups = [{"params": [("table", model.table)], "kind": "embedding"}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    with pytest.raises(InputError, match=r"blocks.0.weight.* has 3 axes"):
        grow(
            model, optimizer, depth=1, blocks="blocks", make_block=lambda: Experts(3),
            init_block=lambda block, _: block.weight.zero_(),
        )  # fmt: skip


def test_copies_of_an_optimizer_know_the_tensors_too():
    model = GPT2(tiny_shape(), 1)
    optimizer = build_optimizer(model, Optimizer())
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other.describe("blocks.0.attention.qkv.weight", None).matrices == 3


def test_stacked_matrices_take_the_steps_that_they_take_alone():
    """Muon on (2, 32, 48), described as two hidden matrices, against the same two by themselves."""
    draws = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(2, 32, 48, generator=draws) for _ in range(2))
    stack = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    from latebloom.theory.architectures.tensors import matrix

    one = MuonNSGD([("experts", stack)], lr=0.1, describe=lambda name, p: matrix(name, *p.shape, matrices=2))
    two = MuonNSGD([("a", alone[0]), ("b", alone[1])], lr=0.1)
    for _ in range(3):
        stack.grad = gradient.clone()
        for parameter, part in zip(alone, gradient, strict=True):
            parameter.grad = part.clone()
        one.step(), two.step()
    for part, parameter in zip(stack.detach(), alone, strict=True):
        torch.testing.assert_close(part, parameter.detach(), rtol=0, atol=0)
    assert not torch.equal(stack, start)


def test_untrained_optimizers_are_refused_in_the_trainer_and_counted_or_refused_in_the_dry_run():
    plan = tiny_plan()
    usable = f"{', '.join(TRAINED[:-1])} or {TRAINED[-1]}"
    for name in set(BUILDERS) - set(TRAINED):
        with pytest.raises(InputError, match=f"'{name}': is not one of the trainer's; use {usable}"):
            build_optimizer(GPT2(tiny_shape(), 0), Optimizer(name=name))
    with pytest.raises(InputError, match="optimizer = 'muon': has no update rule for tensors of kind 'final_vector'"):
        dry_run(plan.replace(optimizer=Optimizer(name="muon")))


@EVERY_SHAPE
def test_every_mode_of_activations_is_counted(shape):
    sizes = [activation_bytes(shape, mode, "float32") for mode in get_args(Activations)]
    assert sorted(sizes, reverse=True) == sizes
    assert activation_bytes(shape, "recompute", "bfloat16") == 4 * shape.width


def test_the_convex_horizon_law_is_the_square_root():
    from latebloom.theory.transfer import horizon_exponent

    assert horizon_exponent(CONVEX) == 0.5
