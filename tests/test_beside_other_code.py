"""In a directory with someone else's train.py, sim.py and theory.py, Latebloom is what it is anywhere."""

import re
import subprocess
import sys

from tests.helpers import CHECKOUT, needs_checkout

NAMES = ("train", "sim", "theory")  # what nearly every research repository calls some file


def run(folder, *args):
    return subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, text=True, check=False)


@needs_checkout
def test_the_readmes_lines_run_beside_files_of_those_names(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is someone else\\'s')\n")
    lines = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)[0]
    (tmp_path / "ten_lines.py").write_text(lines)
    result = run(tmp_path, "ten_lines.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Train 1 block for 83000 of 100000 steps, then grow to 60.")
    assert "muon" in result.stdout


def test_everything_imports_beside_files_of_those_names(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is someone else\\'s')\n")
    code = "from latebloom import PlanLR, grow, read_plan; import latebloom.theory, latebloom.train, latebloom.sim"
    assert run(tmp_path, "-c", code).returncode == 0
    assert run(tmp_path, "-m", "latebloom", "doctor").returncode == 0


def test_nothing_of_those_names_is_installed(tmp_path):
    code = f"from importlib.util import find_spec; print([name for name in {NAMES} if find_spec(name)])"
    assert run(tmp_path, "-c", code).stdout.strip() == "[]"
