"""What is particular about ERFNet."""

from __future__ import annotations

import jax
import pytest

from segjax.core.registry import create_model
from segjax.models.base import init_shapes


def params(name, classes=20):
    return init_shapes(create_model(name, classes))["params"]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Eromera/erfnet_pytorch@d4a46fa train/erfnet.py, Net(20): 2,066,836, of which encoder.output_conv never runs
        ("eromera", 2_066_836 - (128 * 20 + 20)),
        ("erfnet", 2_066_836 - (128 * 20 + 20) - 3_213),
        ("encoder", 1_876_624 - 2_813),
    ],
)
def test_parameter_count_equals_the_authors_less_what_has_no_effect(name, expected):
    assert count(params(f"erfnet/{name}")) == expected
