"""Plans: exact round trip, stable digest, published schema, and refusals that say where, what, which rule and fix."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebloom.theory import InputError, Stage, Tail, cold_start, fixed_depth, read_plan, write_plan
from latebloom.theory.cost import plan_flops
from latebloom.theory.plan import Curve, Interval, Plan, Prediction, diff
from latebloom.theory.prediction import JointDraws, MenuRow, Quantiles
from latebloom.theory.spec import canonical_json, decode, flatten, json_schema
from tests.helpers import tiny_plan


def test_round_trip_is_exact(tmp_path):
    plan = tiny_plan()
    write_plan(plan, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert again == plan
    assert again.digest == plan.digest
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_digest_is_pinned():
    """The canonical form is a format: a change here breaks every checkpoint and figure that was made before."""
    assert tiny_plan().digest == "696380bc68c55fe9f877fd4c0934299f77dd546a8dc9b16b81037bc06dc41d46"


def test_an_optional_field_that_is_not_given_is_not_in_the_digest():
    text = canonical_json(tiny_plan())
    assert b"null" not in text
    assert b"final_loss" not in text
    assert b"final_loss" in canonical_json(tiny_plan().replace(predicted=Prediction(final_loss=2.0)))


def test_digest_ignores_layout_and_sees_values():
    plan = tiny_plan()
    scrambled = json.dumps(dict(reversed(json.loads(plan.to_json()).items())), indent=7)
    assert decode(scrambled, Plan).digest == plan.digest
    assert plan.replace(name="other").digest != plan.digest


def test_published_schema_admits_plans_and_refuses_others():
    import jsonschema  # here: takes seconds, which every worker would spend before its first test

    schema = json_schema(Plan)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = json.loads(tiny_plan().to_json())
    jsonschema.validate(good, schema)
    jsonschema.validate(json.loads(cold_start(tiny_plan(), name="cold").to_json()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"extra": 1}, schema)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"depth": 3', '"depth": 1', r"\$\.stages\[1\]\.depth = 1: must be larger than the depth before it, 1"),
        ('"depth": 3', '"dept": 3', r"\$\.stages\[1\]\.dept = 3: is not a field here; did you mean 'depth'\?"),
        ('"depth": 3', '"depth": "3"', r"\$\.stages\[1\]\.depth = '3': expected int, got str"),
        ('"depth": 3', '"depth": 3, "depth": 4', r"\$\.stages\[1\]\.depth = 4: stands more than once"),
        ('"depth": 3', '"depth": 1e999', r"\$\.stages\[1\]\.depth = inf: must be a finite number"),
        ('"depth": 3', '"depth": 3.5', r"\$\.stages\[1\]\.depth = 3.5: expected int, got float"),
        ('"depth": 3', '"depth": 99999999999999999999999', r"is larger than 2\^53"),
        (
            '"start_step": 60',
            '"start_step": 100',
            r"\$\.stages\[1\]\.start_step = 100: must lie before the horizon of 100",
        ),
        ('"replayed_to": null', '"replayed_to": 3', r"replayed_to = 3: must be larger than the stage's depth 3"),
        ('"replayed_to": null', '"replayed_to": 5', r"replayed_to = 5: must not exceed the last stage's 3 blocks"),
        ('"start_step": 60', '"start_step": -1', r"\$\.stages\[1\]\.start_step = -1: expected int >= 0"),
        ('"start_step": 60', '"start_step": 0', r"must come after the stage before it"),
        ('"start_step": 0', '"start_step": 5', r"\$\.stages\[0\]\.start_step = 5: must be 0"),
        ('"peak_lr": 0.02', '"peak_lr": NaN', r"\$\.schedule\.peak_lr = nan: must be a finite number"),
        ('"peak_lr": 0.02', '"peak_lr": -0.1', r"\$\.schedule\.peak_lr = -0.1: expected float > 0"),
        ('"decay_steps": 10', '"decay_steps": 99', r"\$\.schedule\.decay_steps = 99: does not fit"),
        ('"wsd"', '"wds"', r"\$\.schedule\.shape = 'wds': invalid value 'wds'; did you mean 'wsd'\?"),
        ('"shape": "wsd",', "", r"\$\.schedule\.shape = None: is required"),
        ('"muon_nsgd"', '"moun_nsgd"', r"\$\.optimizer\.name = .*did you mean 'muon_nsgd'\?"),
        ('"schema_version": 1', '"schema_version": 3', r"\$\.schema_version = 3"),
        ('"batch_tokens": 64', '"batch_tokens": 70', r"\$\.batch_tokens = 70: is not a multiple .* use 64"),
        ('"batch_tokens": 64,', "", r"\$\.batch_tokens = None: is required"),
        ('"heads": 2', '"heads": 3', r"\$\.model\.heads = 3: does not divide the width 32"),
        ('"model": {', '"model": [', r"is not JSON"),
    ],
)
def test_refusals(old, new, message):
    text = tiny_plan().to_json()
    position = text.rindex(old)  # the last stage, where a key stands twice
    if old == '"start_step": 0':
        position = text.index(old)
    with pytest.raises(InputError, match=message):
        decode(text[:position] + new + text[position + len(old) :], Plan)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{", b"\xff\xfe\x00", "[" * 10**5, "9" * 5000, '{"a":' * 5000])
def test_what_is_not_a_plan_at_all(text):
    with pytest.raises(InputError):
        decode(text, Plan)


def test_zero_layers_have_nothing_to_copy():
    plan = tiny_plan(small=0)
    with pytest.raises(InputError, match="cannot copy from a model without blocks"):
        plan.replace(stages=(plan.stages[0], Stage(start_step=60, depth=3, init="copy")))


def test_replayed_blocks_cost_what_they_compute_and_end_untied():
    plan = tiny_plan(small=2, full=5)
    tied = Stage(start_step=30, depth=2, replayed_to=5, order="inter")
    replaying = plan.replace(stages=(plan.stages[0], tied, plan.stages[1]))
    assert tied.passes == 5 and tied.replayed == (0, 0, 0, 1, 1)
    assert plan_flops(replaying) == plan_flops(plan.replace(stages=(plan.stages[0], Stage(start_step=30, depth=5))))
    with pytest.raises(InputError, match="must be larger than the depth before it, 2"):
        replaying.replace(stages=(*replaying.stages[:2], tied.replace(start_step=40), plan.stages[1]))
    with pytest.raises(InputError, match=r"stages\[1\].replayed_to = 5: passes blocks again, which the simulator"):
        replaying.refuse_special_stages("the simulator")
    plan.refuse_special_stages("anyone")
    faster = plan.replace(stages=(plan.stages[0], plan.stages[1].replace(new_rate=2.0)))
    with pytest.raises(InputError, match=r"stages\[1\].new_rate = 2.0: gives new blocks a rate of their own, which"):
        faster.refuse_special_stages("the simulator")
    with pytest.raises(InputError, match=r"stages\[0\].new_rate = 2.0: has no blocks that are newer"):
        plan.replace(stages=(plan.stages[0].replace(new_rate=2.0), plan.stages[1]))


def test_python_construction_obeys_the_same_rules():
    with pytest.raises(InputError, match=r"init = 'rand': .*did you mean 'random'\?"):
        Stage(start_step=0, depth=1, init="rand")
    with pytest.raises(InputError, match="is above high"):
        Interval(low=2.0, high=1.0)
    with pytest.raises(InputError, match="must increase"):
        Curve(step=(1, 1), loss=(2.0, 2.0))


def test_controls_of_a_plan():
    plan = tiny_plan()
    assert plan.tau == 60
    assert [plan.stage_at(step) for step in (0, 59, 60, 99)] == [0, 0, 1, 1]
    fixed = fixed_depth(plan, name="fixed")
    assert (fixed.tau, fixed.depth, fixed.steps) == (None, 3, 100)
    cold = cold_start(plan, name="cold")
    assert (cold.steps, cold.depth) == (40, 3)
    assert isinstance(cold.schedule, Tail)
    with pytest.raises(InputError, match="has no expansion"):
        cold_start(fixed, name="cold")


def test_diff_names_paths():
    a = tiny_plan()
    assert diff(a, a) == []
    assert diff(a, tiny_plan(peak_lr=0.5)) == [("$.schedule.peak_lr", 0.02, 0.5)]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_fuzz_raises_nothing_but_input_errors(data):
    """Any leaf of a valid plan replaced by anything: a plan, or an InputError that is one line."""
    plan = json.loads(tiny_plan().to_json())
    path = data.draw(st.sampled_from(sorted(flatten(tiny_plan()))))
    node, tokens = plan, [int(t) if t.isdigit() else t for t in path[2:].replace("[", ".").replace("]", "").split(".")]
    for token in tokens[:-1]:
        node = node[token]
    node[tokens[-1]] = data.draw(LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.text(max_size=4), LEAVES))
    try:
        plan_read = decode(json.dumps(plan), Plan)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("$")
    else:
        assert decode(plan_read.to_json(), Plan) == plan_read


@settings(max_examples=200, deadline=None)
@given(st.text() | st.binary())
def test_fuzz_of_raw_text(text):
    with pytest.raises(InputError):
        decode(text, Plan)


# --- version 2 --------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden" / "plan_version_1.json"  # as written before there was a second version
GOLDEN_DIGEST = "38107a1aedb3ffcbbdd082d4f61940b4b3dc420e14823b164ae8dfcb630634a5"


def test_a_plan_of_version_1_reads_and_keeps_its_digest():
    plan = read_plan(GOLDEN)
    assert (plan.schema_version, plan.digest) == (1, GOLDEN_DIGEST)
    assert plan.predicted.tau_interval.level == 0.9 and plan.predicted.menu is None
    assert decode(plan.to_json(), Plan) == plan


def test_version_1_has_no_menu():
    row = MenuRow(
        name="depth 1",
        depths=(1,),
        steps=100,
        flops=1e9,
        loss=Quantiles(low=1.0, median=2.0, high=3.0),
        p_best=1.0,
        regret=0.0,
    )
    predicted = Prediction(menu=(row,))
    with pytest.raises(InputError, match=r"schema_version = 1: has no field predicted\.menu; say schema_version 2"):
        tiny_plan().replace(predicted=predicted)
    plan = tiny_plan().replace(predicted=predicted, schema_version=2)
    assert decode(plan.to_json(), Plan) == plan
    with pytest.raises(InputError, match=r"\$\.predicted\.menu\[0\]\.p_bets = 1\.0: is not a field here; did you mean"):
        decode(plan.to_json().replace("p_best", "p_bets"), Plan)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Quantiles(low=1.0, median=0.0, high=2.0), "median = 0.0: must lie between"),
        (lambda: JointDraws(names=("a",), measured=(True,), losses=((1.0, 2.0),)), r"losses\[0\] = 2: needs one loss"),
        (lambda: JointDraws(names=("a",), measured=(), losses=((1.0,),)), "measured = 0: needs one value"),
    ],
)
def test_predictions_that_do_not_fit_together(make, words):
    with pytest.raises(InputError, match=words):
        make()
