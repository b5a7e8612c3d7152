"""Every derivation ends in zero."""

import pytest

from theory.derivations import area


@pytest.mark.parametrize("name", area.__all__)
def test_area(name):
    assert getattr(area, name)() == 0
