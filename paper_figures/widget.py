"""The explorer as a notebook's widget: sliders that move a plan, and what they say read back in Python.

It needs anywidget (``pip install latebloom[notebooks]``).
"""

from __future__ import annotations

import anywidget
import traitlets

from latebloom.paper_figures.explorer import explorer_page
from latebloom.paper_figures.paths import WEB
from latebloom.theory.plan import Plan

__all__ = ["PlanExplorer"]


class PlanExplorer(anywidget.AnyWidget):
    """A live explorer of one plan; ``settings`` and ``answer`` hold where its sliders stand and what it says there.

    Args:
        plan: Made with the recovery field or the area law.
        height: Of the widget, in pixels.

    Raises:
        InputError: if the plan has no landscape that the explorer knows.
    """

    _esm = WEB / "widget.js"
    page = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(900).tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    answer = traitlets.Unicode().tag(sync=True)

    def __init__(self, plan: Plan, *, height: int = 900):
        super().__init__(page=explorer_page(plan), height=height)

    def show_plan(self, plan: Plan) -> None:
        """Show another plan.

        Args:
            plan: As above.

        Raises:
            InputError: as above.
        """
        self.page = explorer_page(plan)
