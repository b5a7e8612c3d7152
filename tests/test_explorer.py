"""The explorer and the report as people see them: theory in JavaScript against theory in Python, pages in Chromium."""

import functools
import json
import shutil
import subprocess
import urllib.parse

import msgspec
import numpy as np
import pytest

from latebloom.paper_figures.explorer import (
    example_field,
    example_plan,
    explorer_page,
    golden_numbers,
    posterior_of,
    write_explorer,
)
from latebloom.paper_figures.paths import WEB
from latebloom.paper_figures.report import write_report
from latebloom.theory import AreaLaw, InputError, plan_expansion, write_plan, wsd
from latebloom.theory.architectures.presets import preset
from latebloom.theory.cost import flops_per_token
from latebloom.theory.decision import decide
from latebloom.theory.fitting.field_kernel import FieldPrior
from latebloom.theory.landscapes.area import Signal
from latebloom.theory.menu import equal_compute_menu, points_of, schedule_for
from tests.browser import browser
from tests.test_figures import experiment

EXACT = 1e-12  # relative, of everything that both languages compute; a test holds Python against itself to the same
DRAWN = 0.04  # probabilities from 2000 draws here, 4000 there, of other random numbers: four standard errors


@pytest.fixture(scope="module")
def plan():
    return example_plan()


def area_plan():
    """A plan whose landscape is an area law."""
    schedule = wsd(steps=2000, peak_lr=0.02)
    unit = {"onset": 0.04, "reference": schedule.total_area}
    law = AreaLaw(
        small_depth=1, full_depth=12, floor=2.5, small_gap=0.12, trunk=Signal(amplitude=0.9, exponent=0.3, **unit),
        fresh=Signal(amplitude=0.05, exponent=0.4, **unit), kappa=1.1, noise=3.0, noise_rate=2.0,
    )  # fmt: skip
    model, _ = preset("gpt2-124m")
    made = plan_expansion(
        model=model, small_depth=1, full_depth=12, schedule=schedule, batch_tokens=8192, law=law, tolerance=0.02
    )
    return made.replace(provenance=made.provenance.replace(landscape="area", parameters=law.parameters)), law


def agrees(worst: dict[str, float]) -> None:
    """Every quantity within its tolerance."""
    assert len(worst) > 8
    for name, apart in worst.items():
        assert apart <= EXACT, (name, apart)


# --- theory.js against theory -----------------------------------------------------------------------------------------


def test_theory_in_node_is_theory(plan, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(WEB / "theory.js", tmp_path / "theory.mjs")
    golden = {"golden": golden_numbers(plan, settings=40, seed=1), "prior": msgspec.to_builtins(FieldPrior())}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    (tmp_path / "check.mjs").write_text(
        "import { readFileSync } from 'fs'; import { disagreement } from './theory.mjs';\n"
        "const { golden, prior } = JSON.parse(readFileSync('golden.json'));\n"
        "console.log(JSON.stringify(disagreement(golden, prior)));\n"
    )
    run = subprocess.run([node, "check.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    agrees(json.loads(run.stdout))


def test_a_plan_holds_all_that_its_posterior_follows_from(plan):
    field, again = example_field(), posterior_of(plan.predicted.field)
    assert again.prior == field.prior and field.prior.fall > 0  # so that Node computes what a fall adds
    menu = equal_compute_menu(plan, small_depth=1, full_depth=4, budget=plan.predicted.flops, depths=(2,))
    np.testing.assert_allclose(
        again.expected(points_of(again, menu)), field.expected(points_of(field, menu)), rtol=EXACT
    )
    covariances = [one.moments(points_of(one, menu))[1] for one in (field, again)]
    np.testing.assert_allclose(*covariances, rtol=EXACT)


def test_two_orders_of_the_same_pilots_differ_by_rounding_alone(plan):
    field = plan.predicted.field
    menu = equal_compute_menu(plan, small_depth=1, full_depth=4, budget=plan.predicted.flops)
    found = []
    for ends in (field.ends, field.ends[::-1]):
        posterior = posterior_of(field.replace(ends=ends))
        _, covariance = posterior.moments(points_of(posterior, menu))
        found.append((posterior.expected(points_of(posterior, menu)), np.sqrt(np.diag(covariance))))
    for name, one, other in zip(("loss", "deviation"), *found, strict=True):
        assert np.max(np.abs(one / other - 1)) < EXACT, name


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_names_no_other(plan):
    page = explorer_page(plan)
    assert page.count("<html") == 1
    assert "src=" not in page.partition("<script>")[0]
    assert "@import" not in page
    assert len(page) < 600_000


def test_a_plan_without_a_fit_is_refused():
    made, _ = area_plan()
    with pytest.raises(InputError, match="has no fit that the explorer knows"):
        explorer_page(made.replace(provenance=made.provenance.replace(landscape=None)))


def read(page):
    """What the page computed, as plain data."""
    return page.read(
        "(({ decision, budget, ratio }) => ({ budget, ratio, head: decision.head, p_grow: decision.p_grow,"
        " best: decision.best, choices: decision.choices.map(({ arm, mean, p_best }) =>"
        " ({ depths: arm.depths, tau: arm.tau, steps: arm.steps, flops: arm.flops, mean, p_best })) }))"
        "(window.latebloom.result)"
    )


def compare(found, plan, posterior, *, horizon, schedule, tokens):
    """The page's decision against theory's, of the same settings."""
    base = plan.replace(schedule=schedule, batch_tokens=tokens)
    budget = horizon * float(tokens) * flops_per_token(plan.model, 4)
    menu = equal_compute_menu(base, small_depth=1, full_depth=4, budget=budget, depths=(2,))
    decision = decide(posterior, menu, base)
    assert found["budget"] == pytest.approx(budget, rel=EXACT)
    for choice, wanted in zip(found["choices"], decision.choices, strict=True):
        assert (choice["tau"], choice["steps"]) == (wanted.arm.tau, wanted.arm.steps)
        assert choice["flops"] == pytest.approx(wanted.arm.flops, rel=EXACT)
        mean = posterior.expected(points_of(posterior, [wanted.arm]))
        assert choice["mean"] == pytest.approx(mean[0], rel=EXACT)
        assert choice["p_best"] == pytest.approx(wanted.p_best, abs=DRAWN)
    assert found["p_grow"] == pytest.approx(decision.p_grow, abs=DRAWN)


def test_the_explorer_in_chromium(plan, tmp_path):
    """Opened from a file, moved by keys and by its address, dropped another plan on: always what theory says."""
    path = write_explorer(tmp_path / "explorer.html")
    posterior = posterior_of(plan.predicted.field)
    same = functools.partial(compare, plan=plan, posterior=posterior)
    with browser() as page:
        page.open(path)
        page.until("window.latebloom && window.latebloom.worst")
        agrees(page.read("window.latebloom.worst"))
        found, settings = read(page), page.read("window.latebloom.settings")
        horizon = settings["horizon"]
        same(found, horizon=horizon, schedule=schedule_for(plan.schedule, horizon), tokens=768)
        assert page.read("document.getElementById('head').textContent").startswith("Do not grow: train 1 block for ")
        page.until("document.querySelectorAll('.chart svg').length === 3")
        assert page.read("[...document.querySelectorAll('.chart svg')].every((svg) => svg.getAttribute('aria-label'))")

        page.read("document.getElementById('horizon').focus()")
        for _ in range(3):
            page.press("ArrowRight", 39)
        longer = page.read("window.latebloom.settings.horizon")
        assert longer > horizon
        same(read(page), horizon=longer, schedule=schedule_for(plan.schedule, longer), tokens=768)
        assert f"horizon={longer}" in page.read("location.hash")

        page.open(path, address="#" + urllib.parse.urlencode({"horizon": 1300, "tokens": 1536, "decay": 0.2}))
        page.until("window.latebloom && window.latebloom.worst")
        schedule = wsd(steps=1300, peak_lr=plan.schedule.peak, decay=0.2).replace(warmup_steps=16)
        same(read(page), horizon=1300, schedule=schedule, tokens=1536)

        assert "not a forecast" not in page.read("document.getElementById('sure').textContent")
        page.read("change({ model: 'gpt2-7b', horizon: 50000 })")
        doubt = "the losses are those of gpt2-tiny with 1 and 4 blocks, and this run is "
        assert doubt in page.read("document.getElementById('sure').textContent")

        other, law = area_plan()
        page.read(f"open({other.to_json()})")
        found = read(page)
        schedule = schedule_for(other.schedule, page.read("window.latebloom.settings.horizon"))
        assert found["p_grow"] is None
        for choice in found["choices"]:
            rates = schedule_for(schedule, choice["steps"])
            if choice["tau"] is None:
                wanted = law.fixed(rates, choice["steps"], depth=choice["depths"][0])
            else:
                wanted = law.grown(rates, choice["steps"], tau=choice["tau"])
            assert choice["mean"] == pytest.approx(float(wanted), rel=EXACT)
        page.read("open({})")
        assert page.read("document.getElementById('notice').textContent") == "This file is not a plan."
        assert page.problems() == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_explorer_on_a_phone(plan, tmp_path, dark):
    path = write_explorer(tmp_path / "explorer.html")
    with browser() as page:
        page.open(path, width=390, height=844, dark=dark)
        page.until("window.latebloom && document.querySelectorAll('.chart svg').length === 3")
        assert page.read("document.documentElement.scrollWidth") <= 390
        ground = page.read("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") != dark
        small = page.read(
            "[...document.querySelectorAll('input, select, button')].filter((e) => e.clientHeight < 24).length"
        )
        assert small == 0
        assert page.read("[...document.querySelectorAll('input, select')].every((e) => e.labels.length === 1)")


INSIDE = """[...document.querySelectorAll('.chart svg [aria-label=rule] line')].map((line) => {
  const rule = line.getBoundingClientRect(), frame = line.closest('svg').getBoundingClientRect();
  return frame.left <= rule.left && rule.right <= frame.right; })"""


def test_the_report_in_chromium(tmp_path):
    """It grows early, while its losses are above those shown: the rule stands in its own chart all the same."""
    experiment(tmp_path, tau=10)
    path = write_report(tmp_path)
    with browser() as page:
        for width in (1280, 390):
            page.open(path, width=width)
            page.until("document.querySelectorAll('.chart svg').length === 2")
            assert page.read("document.documentElement.scrollWidth") <= width
            rules = page.read(INSIDE)
            assert len(rules) > 1 and all(rules)
        finals = page.read("window.latebloom.curves.map((curve) => [curve.name, curve.loss[curve.loss.length - 1]])")
        assert dict(map(tuple, finals))["never grown, equal compute"] == pytest.approx(2.45)
        dots = page.read("document.querySelectorAll('#steps [aria-label=dot] circle').length")
        assert dots == len(finals)
        box = page.read(
            "(({ x, y }) => [x, y])(document.querySelector('#steps [aria-label=dot] circle').getBoundingClientRect())"
        )
        page.read("document.getElementById('steps').scrollIntoView({block: 'center'})")
        box = page.read(
            "(({ x, y }) => [x, y])(document.querySelector('#steps [aria-label=dot] circle').getBoundingClientRect())"
        )
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 3, y=box[1] + 3)
        page.until("document.querySelector('#steps [aria-label=tip]').textContent.includes('step ')")
        assert page.problems() == []


def test_command(tmp_path, monkeypatch, capsys):
    from latebloom import cli

    monkeypatch.chdir(tmp_path)
    made, _ = area_plan()
    write_plan(made, tmp_path / "plan.json")
    with pytest.raises(SystemExit) as end:
        cli.main(["explorer", "plan.json", "--out", "page.html"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip().endswith("page.html")
    assert "Should this model grow?" in (tmp_path / "page.html").read_text()
