"""The explorer as a widget: in Chromium as a notebook shows it, moved there and read back."""

import json

import pytest

from latebloom.paper_figures.explorer import example_plan
from latebloom.paper_figures.paths import WEB
from latebloom.theory import InputError
from tests.browser import browser
from tests.helpers import tiny_plan

pytest.importorskip("anywidget", reason="anywidget is not installed")

# A page that does for the widget what a notebook does: holds its values, and says when they change.
HOST = """<!doctype html><meta charset="utf-8"><div id="cell"></div>
<script type="application/json" id="values">%s</script>
<script type="application/json" id="code">%s</script>
<script type="module">
const values = JSON.parse(document.getElementById("values").textContent), heard = {}, saved = [];
const model = {
  get: (name) => values[name],
  set: (name, value) => (values[name] = value),
  on: (name, f) => (heard[name] = f),
  save_changes: () => saved.push(structuredClone(values)),
};
const code = JSON.parse(document.getElementById("code").textContent);
const widget = (await import("data:text/javascript," + encodeURIComponent(code))).default;
const remove = widget.render({ model, el: document.getElementById("cell") });
window.host = { values, heard, saved, remove };
</script>"""


def hosted(widget):
    """The host's page; what stands in its scripts cannot end them."""
    values = {"page": widget.page, "height": widget.height}
    texts = (json.dumps(text).replace("</", "<\\/") for text in (values, (WEB / "widget.js").read_text()))
    return HOST % tuple(texts)


def test_it_says_what_the_page_says_and_follows_the_plan(tmp_path):
    from latebloom.paper_figures.widget import PlanExplorer

    plan = example_plan()
    widget = PlanExplorer(plan, height=700)
    (tmp_path / "host.html").write_text(hosted(widget), encoding="utf-8")
    with browser() as page:
        page.open(tmp_path / "host.html")
        page.until("window.host?.values.answer")
        assert page.read("host.values.answer").startswith(("Grow:", "Do not grow:", "Not decided"))
        assert page.read("host.values.settings.model") == plan.model.name
        assert page.read("host.saved.length") >= 1
        assert page.read("document.querySelector('iframe').getBoundingClientRect().height") == 700
        page.picture(tmp_path / "widget.png")
        longer = plan.replace(batch_tokens=2 * plan.batch_tokens)
        widget.show_plan(longer)
        page.read(f"host.values.page = {json.dumps(widget.page)}; host.heard['change:page']()")
        page.until(f"host.values.settings.tokens === {longer.batch_tokens}")
        before = page.read("host.saved.length")
        page.read("postMessage({latebloom: {settings: {}, head: 'not from the frame'}}, '*')")
        page.read("new Promise((resolve) => setTimeout(resolve, 200))")
        assert page.read("host.saved.length") == before
        assert not page.problems()


def test_a_plan_without_a_fit_is_refused():
    from latebloom.paper_figures.widget import PlanExplorer

    with pytest.raises(InputError, match="has no fit"):
        PlanExplorer(tiny_plan())
