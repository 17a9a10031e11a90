from __future__ import annotations

import pytest

from segjax.core.errors import ModelError
from segjax.models.encoders.atrous import Stage, atrous_stages


def test_nothing_dilates_at_the_full_stride():
    assert atrous_stages((1, 2, 2, 2), 32, start=4) == (
        Stage(1, 1, 1),
        Stage(2, 1, 1),
        Stage(2, 1, 1),
        Stage(2, 1, 1),
    )


def test_removed_strides_become_rates_and_the_strided_operation_keeps_the_rate_before():
    assert atrous_stages((1, 2, 2, 2), 8, start=4) == (
        Stage(1, 1, 1),
        Stage(2, 1, 1),
        Stage(1, 1, 2),
        Stage(1, 2, 4),
    )


@pytest.mark.parametrize("output_stride", [0, 2, 12, 64])
def test_an_impossible_output_stride_names_the_possible_ones(output_stride):
    with pytest.raises(ModelError, match=rf"output_stride={output_stride} .* \[4, 8, 16, 32\]"):
        atrous_stages((1, 2, 2, 2), output_stride, start=4)
