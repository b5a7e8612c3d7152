"""What came of each input, as JSON lines."""

import json
import sys
from pathlib import Path

from tests.faults.hostile import INPUTS, given, judge, watched

folder = Path(sys.argv[1]).resolve()
base = given(folder / "given")
for name in sys.argv[2:] or INPUTS:
    found = watched(name, folder / "inputs" / f"{list(INPUTS).index(name):03}", base)
    print(json.dumps(found | {"page": len(found["page"]), "wrong": judge(found)}), flush=True)
