"""Architecture families and optimizers as rows: whole registries, and refusals where a row says nothing."""

import json
import math
from typing import get_args

import pytest

from latebloom.theory import InputError, Optimizer, preset
from latebloom.theory.architectures.presets import PRESETS
from latebloom.theory.architectures.shape import FAMILIES, GPT2Shape, block_tensors, outer_tensors, tensor_of
from latebloom.theory.architectures.tensors import KINDS, matrix
from latebloom.theory.cost import active_parameters, depth_cost_ratio, flops_per_token, parameters, plan_flops
from latebloom.theory.optimizers import OPTIMIZERS, UPDATE_RULES, OptimizerName, rule_of
from latebloom.theory.plan import Base, BlockVariant
from latebloom.theory.plan_transfer import peak_rates, transfer_factors
from latebloom.theory.spec import from_plain
from tests.helpers import tiny_plan, tiny_shape

LLAMA = tiny_shape().replace(heads=4, block=BlockVariant(kv_heads=2, hidden=48))
COMMON_FIELDS = {"name", "width", "heads", "vocab_size", "context", "tied_head"}


def test_every_field_of_a_shape_belongs_to_all_or_to_one_family():
    fields = {field for family in FAMILIES.values() if (field := family.field)}
    assert set(GPT2Shape.__struct_fields__) == COMMON_FIELDS | fields
    assert (tiny_shape().family.name, LLAMA.family.name) == ("gpt2", "llama")


@pytest.mark.parametrize("name", PRESETS)
def test_families_state_each_tensor_once_and_of_a_known_kind(name):
    shape, _ = preset(name)
    for tensors in (outer_tensors(shape), block_tensors(shape)):
        names = [tensor.name for tensor in tensors]
        assert len(set(names)) == len(names)
        assert {tensor.kind for tensor in tensors} <= set(KINDS)
    assert [t.kind for t in outer_tensors(shape)].count("head") == 1
    assert sum(tensor.ends_branch for tensor in block_tensors(shape)) == 2
    assert active_parameters(shape, 3) == parameters(shape, 3)  # no experts


def test_a_tensor_that_the_family_does_not_state_is_refused():
    assert tensor_of(tiny_shape(), "blocks.17.attention.qkv.weight").matrices == 3
    assert tensor_of(tiny_shape(), "tokens.weight").kind == "head"
    for name in ("blocks.0.mlp.experts.weight", "norm2.weight", "blocks.weight", "positions"):
        with pytest.raises(InputError, match="is a tensor that the family gpt2 does not state: its kind is not known"):
            tensor_of(tiny_shape(), name)
    with pytest.raises(InputError, match=r"positions.weight.*the family llama does not state"):
        tensor_of(LLAMA, "positions.weight")


def test_a_token_passes_through_the_experts_that_are_used():
    experts = matrix("mlp.up.weight", 8, 20, 10, matrices=8, used=2)
    assert (experts.size, experts.active_size) == (1600, 400)
    assert matrix("q.weight", 20, 10).active_size == 200


@pytest.mark.parametrize("shape", [tiny_shape(), LLAMA])
def test_a_head_of_its_own_costs_parameters_and_no_operations(shape):
    untied = shape.replace(tied_head=False)
    assert parameters(untied, 2) == parameters(shape, 2) + shape.vocab_size * shape.width
    assert flops_per_token(untied, 2) == flops_per_token(shape, 2)
    assert "tied_head" not in shape.to_json() and from_plain(json.loads(untied.to_json()), GPT2Shape) == untied
    plan = tiny_plan().replace(model=untied)
    with pytest.raises(InputError, match=r"optimizer.base = 'width 8': has no rule for a head that is not tied"):
        plan.replace(optimizer=Optimizer(base=Base(width=8)))


@pytest.mark.parametrize("depth", [-1, 0.5, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [parameters, active_parameters, flops_per_token])
def test_depths_that_are_none_are_refused(count, depth):
    with pytest.raises(InputError, match=r"depth = .* must be a whole number >= 0"):
        count(tiny_shape(), depth)


def test_costs_of_steps_outside_the_plan_are_refused():
    plan = tiny_plan()
    assert plan_flops(plan, 0) == 0
    assert plan_flops(plan, plan.steps) == plan_flops(plan)
    for step in (-3, plan.steps + 1, math.nan, math.inf):
        with pytest.raises(InputError, match=r"step = .* must lie in \[0, 100\], the plan's updates"):
            plan_flops(plan, step)
    with pytest.raises(InputError, match="depth = -1"):
        depth_cost_ratio(plan.model, -1, 3)


def test_every_optimizer_of_a_plan_has_a_row():
    assert set(OPTIMIZERS) == set(get_args(OptimizerName))
    for row in OPTIMIZERS.values():
        for kind, rule in row.rules.items():
            assert kind in {rate.kind for rate in UPDATE_RULES[rule].rates}
        assert "hidden" in row.rules


def test_a_kind_without_an_update_rule_is_refused():
    assert rule_of("muon_adamw", "hidden") == "muon"
    assert rule_of("muon_adamw", "head") == "adamw"
    with pytest.raises(InputError, match="optimizer = 'muon': has no update rule for tensors of kind 'vector'; use an"):
        rule_of("muon", "vector")


def test_muon_adamw_transfers_by_the_rows_of_both():
    for quantity in ("lr", "weight_decay", "eps"):
        mixed, muon, adamw = (
            transfer_factors(name, width=4, depth=3, quantity=quantity) for name in ("muon_adamw", "muon", "adamw")
        )
        expected = {kind: factor for kind, factor in adamw.items() if kind != "hidden"}
        if "hidden" in muon:
            expected["hidden"] = muon["hidden"]
        assert mixed == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_peak_rates_of_every_optimizer(name):
    stages = peak_rates(tiny_plan().replace(optimizer=Optimizer(name=name)))
    factor = 0.03 if name == "muon_adamw" else 1.0
    assert stages[0]["hidden"] == 0.02
    assert stages[0]["head"] == stages[0]["final_vector"] == 0.02 * factor
