"""All cases, from the modules that hold them."""

from tests.cases import curves, data, growing, trainers  # noqa: F401
from tests.cases.table import CASES

__all__ = ["CASES"]
