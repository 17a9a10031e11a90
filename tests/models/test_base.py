"""The network protocol, apart from any architecture."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from segjax.core.errors import SizeError
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, FEATURES, LOGITS
from segjax.models.base import Network


class Coarse(Network):
    @property
    def stride(self) -> int:
        return 32


@pytest.mark.parametrize(
    ("size", "padded"), [((900, 1200), (928, 1216)), ((1, 32), (32, 32)), ((64, 65), (64, 96))], ids=str
)
def test_sizes_round_up_to_the_stride(size, padded):
    with pytest.raises(SizeError) as error:
        Coarse(num_classes=2).check_input(jnp.zeros((1, *size, 3)))
    message = "Coarse: {}x{} is not a multiple of stride 32: pad to {}x{}".format(*size, *padded)
    assert str(error.value) == message


def test_multiples_pass():
    Coarse(num_classes=2, in_channels=1).check_input(jnp.zeros((1, 32, 96, 1), jnp.bfloat16))


def test_outputs_hold_what_was_given():
    half = jnp.ones((1, 2, 2, 3), jnp.bfloat16)
    assert set(Network.outputs(half)) == {LOGITS}
    full = Network.outputs(half, [half], {4: half}, half)
    assert set(full) == {LOGITS, AUX_LOGITS, BORDER_LOGITS, FEATURES}
    assert full[LOGITS].dtype == full[AUX_LOGITS][0].dtype == full[BORDER_LOGITS].dtype == jnp.float32
    assert full[FEATURES][4] is half
