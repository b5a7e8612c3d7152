"""Plan files, and good plans with contents that are not."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latebloom.theory.plan import Curve, Plan, Prediction, write_plan
from tests.faults.hostile.inputs import ESCAPES, INPUTS, MARKUP, Evil, kind
from tests.helpers import tiny_plan


def plan_text(name: str, text: str | bytes | Callable[[str], str], *command: str) -> None:
    """An input that is a plan file; a function changes a good one."""

    def make(folder: Path, base: Path) -> list[Any]:
        content = text((base / "plan.json").read_text()) if callable(text) else text
        path = folder / "plan.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return [*(command or ("plan", "check")), path]

    INPUTS[f"plan {name}"] = make


def renamed(name: str) -> Callable[[str], str]:
    return lambda good: json.dumps(json.loads(good) | {"name": name})


def changed(path: str, value: Any) -> Callable[[str], str]:
    def change(good: str) -> str:
        plan = json.loads(good)
        *outer, last = path.split(".")
        at = plan
        for key in outer:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[last] = value
        return json.dumps(plan)

    return change


plan_text("null byte in its name", renamed("a\0b"))
plan_text("lone surrogate in its name", lambda good: good.replace('"tiny"', '"\\ud800"', 1))
plan_text("terminal escapes in its name, shown", renamed(ESCAPES), "plan", "show")
plan_text("rich mark-up in its name, shown", renamed("[/b][link=file:///etc/passwd]x[/link]"), "plan", "show")
plan_text("nested 100,000 deep", "[" * 100_000)
plan_text("objects nested 100,000 deep", '{"a":' * 100_000)
plan_text("60,000 unknown keys", lambda good: good[:-2] + "".join(f',"k{i}":1' for i in range(60_000)) + "}")
plan_text("a key 60,000 times", lambda good: good[:-2] + ',"name":"x"' * 60_000 + "}")
plan_text("1e999", lambda good: good.replace("0.02", "1e999", 1))
plan_text(
    "an integer of 100,000 digits", lambda good: good.replace('"batch_tokens": 64', f'"batch_tokens": {"9" * 100_000}')
)
plan_text("YAML that would build an object", "!!python/object/apply:os.system ['touch canary']")
plan_text("UTF-16", '{"name": "x"}'.encode("utf-16"))
plan_text("depth 10,000, dry run", changed("stages.1.depth", 10_000), "train", "--dry-run")
plan_text("depth 10^9", changed("stages.1.depth", 10**9))
plan_text("10^9 steps", changed("schedule.steps", 10**9))
plan_text("100,000 stages", changed("stages", [{"start_step": i, "depth": i} for i in range(100_000)]))


@kind("plan is a pickle")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").write_bytes(pickle.dumps(Evil(folder / "canary")))
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a pipe that nobody writes")
def _(folder: Path, base: Path) -> list[Any]:
    os.mkfifo(folder / "plan.json")
    return ["plan", "check", folder / "plan.json"]


@kind("plan is endless")
def _(folder: Path, base: Path) -> list[Any]:
    return ["plan", "check", "/dev/zero"]


@kind("plan is 8 GiB")
def _(folder: Path, base: Path) -> list[Any]:
    with (folder / "plan.json").open("wb") as file:
        file.truncate(8 << 30)
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a directory")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").mkdir()
    return ["plan", "check", folder / "plan.json"]


@kind("plan is a link to itself")
def _(folder: Path, base: Path) -> list[Any]:
    (folder / "plan.json").symlink_to(folder / "plan.json")
    return ["plan", "check", folder / "plan.json"]


@kind("plan path with a null byte")
def _(folder: Path, base: Path) -> list[Any]:
    return ["plan", "check", str(folder / "a\0b")]


def training(name: str, change: Callable[[Plan], Plan]) -> None:
    """An input that is a good plan file with which a run is to begin."""

    def make(folder: Path, base: Path) -> list[Any]:
        write_plan(change(tiny_plan(steps=8, tau=4)), folder / "plan.json")
        return ["train", folder / "plan.json", "--data", base / "data", "--repeat-data", "--evals", "2",
                "--eval-tokens", "64", "--out", folder / "work" / "run", "--device", "cpu"]  # fmt: skip

    INPUTS[f"train {name}"] = make


training(
    "a predicted curve that ends early",
    lambda p: p.replace(predicted=Prediction(curve=Curve(step=(0, 3), loss=(5.0, 4.0)))),
)
training("rich mark-up in the name", lambda p: p.replace(name="[/b][blink]x"))
training("HTML in the name", lambda p: p.replace(name=MARKUP))
