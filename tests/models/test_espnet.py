"""What is particular about ESPNet."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes


def count(name, classes):
    return sum(leaf.size for leaf in jax.tree.leaves(init_shapes(create_model(name, classes))["params"]))


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        # sacmehta/ESPNet@afe71c3 train/Model.py, ESPNet(classes, 2, q) and ESPNet_Encoder(classes, 2, q)
        ("p2-q8", 20, 365_109),
        ("p2-q8", 12, 354_517),
        ("p2-q5", 20, 267_957),
        ("p2-q3", 20, 203_189),
        ("c-p2-q8", 20, 349_449),
        ("c-p2-q3", 12, 185_481),
    ],
)
def test_parameter_count_equals_the_authors(name, classes, expected):
    assert count(f"espnet/{name}", classes) == expected


def test_the_rest_of_a_fifth_goes_to_rate_1():
    params = init_shapes(create_model("espnet", 12))["params"]
    assert params["level2_1"]["reduce"]["kernel"].shape == (1, 1, 64, 12)
    assert params["level2_1"]["rate_1"]["kernel"].shape == (3, 3, 12, 16)
    assert params["level3_down"]["rate_16"]["kernel"].shape == (3, 3, 25, 25)


def test_too_few_classes_for_the_decoder():
    with pytest.raises(ModelError, match="num_classes=4 is too few"):
        jax.eval_shape(create_model("espnet", 4).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert count("espnet/c-p2-q3", 4)
