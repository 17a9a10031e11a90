from __future__ import annotations

import math

import jax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_parameters_by_part_equal_the_authors_theano_layout():
    params = init_shapes(create_model("frrn/a", 19))["params"]
    parts = {}
    for name, tree in params.items():
        part = name.split("_")[0].rstrip("0123456789")
        parts[part] = parts.get(part, 0) + _count(tree)
    assert parts == {
        "first": 3_696,
        "start": 124_992,
        "split": 1_600,
        "down": 13_737_952,
        "up": 3_711_936,
        "end": 165_696,
        "classifier": 931,
    }


@pytest.mark.parametrize(("variant", "millions", "parameters"), [("a", 17.7, 17_746_803), ("b", 24.8, 24_755_699)])
def test_parameters_are_the_papers(variant, millions, parameters):
    found = _count(init_shapes(create_model(f"frrn/{variant}", 19))["params"])
    assert found == parameters
    assert round(found / 1e6, 1) == millions


def test_levels_that_do_not_meet_are_one_line_of_error():
    with pytest.raises(ModelError, match="give one level fewer"):
        init_shapes(create_model("frrn/test", 5, up=()))
