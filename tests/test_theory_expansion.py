"""The rows of growth operators: the plan's schema admits exactly these, and places and sources agree."""

from typing import get_args

import pytest

from latebloom.theory import InputError, Stage
from latebloom.theory.expansion import (
    INITS,
    ORDERS,
    STATE_POLICIES,
    Init,
    Order,
    StatePolicy,
    Weights,
    Zeroed,
    placement,
    sources,
)
from latebloom.theory.plan import Plan
from latebloom.theory.spec import json_schema
from tests.helpers import tiny_plan


def test_the_plans_schema_admits_exactly_the_rows():
    assert get_args(Init) == tuple(INITS)
    assert get_args(Order) == tuple(ORDERS)
    assert get_args(StatePolicy) == tuple(STATE_POLICIES)
    properties = json_schema(Plan)["$defs"]["Stage"]["properties"]
    for name, rows in {"init": INITS, "order": ORDERS, "optimizer_state": STATE_POLICIES}.items():
        assert sorted(properties[name]["enum"]) == sorted(rows)


def test_rows_say_only_what_the_growers_know():
    assert {rule.weights for rule in INITS.values()} == set(get_args(Weights))
    assert {rule.zeroed for rule in INITS.values()} == set(get_args(Zeroed))
    assert all(rule.copies == name.startswith("copy") for name, rule in INITS.items())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 7), (2, 3), (3, 7), (4, 8), (5, 6)])
def test_every_old_block_stands_at_one_place_that_continues_it(order, old, new):
    continued, places = sources(order, old, new), placement(order, old, new)
    assert len(continued) == new
    assert places == sorted(set(places))
    assert [continued[place] for place in places] == list(range(old))


def test_from_nothing_no_block_is_old():
    assert placement("stack", 0, 4) == []
    with pytest.raises(InputError, match="order = 'abba': is unknown; valid: stack, inter, last, first, middle"):
        placement("abba", 0, 4)


@pytest.mark.parametrize("init", INITS)
def test_a_plan_copies_only_from_blocks(init):
    stages = (Stage(start_step=0, depth=0), Stage(start_step=10, depth=4, init=init))
    if INITS[init].copies:
        with pytest.raises(InputError, match=r"stages\[1\].init = .*: cannot copy from a model without blocks"):
            tiny_plan().replace(stages=stages)
    else:
        assert tiny_plan().replace(stages=stages).stages[1].init == init
