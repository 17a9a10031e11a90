"""What a plan refuses before it compiles; plans themselves are made in tests/cli/test_plan.py."""

from __future__ import annotations

import types

import pytest

from segjax.core.errors import ConfigError
from segjax.planning.plan import _check_height


def test_a_height_that_does_not_divide_is_told_with_one_that_does():
    mesh = types.SimpleNamespace(shape={"data": 1, "fsdp": 1, "spatial": 3})
    with pytest.raises(ConfigError, match=r"512 rows do not divide over config\.parallel\.spatial=3.* such as 513"):
        _check_height(mesh, 512)
    _check_height(mesh, 513)
