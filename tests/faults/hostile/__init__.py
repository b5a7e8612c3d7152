"""Files from strangers, and a watch over what reading them does.

    python -m tests.faults.hostile FOLDER [NAME ...]     # JSON lines: what came of each input

Each input is made in a folder of its own and given to a command in a forked process under an audit hook. The hook notes
whatever would execute something, open a connection, unpickle a name, or write outside the folder ``work``; the input
itself would leave a canary. Memory and time are limited by the system: whoever needs more than that is ended by it.
"""

from tests.faults.hostile import curves, data, hugging_face, plans, records, runs  # noqa: F401  (they fill the table)
from tests.faults.hostile.inputs import INPUTS, given
from tests.faults.hostile.watch import judge, watched

__all__ = ["INPUTS", "given", "judge", "watched"]
