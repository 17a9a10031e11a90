"""The network protocol, apart from any architecture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError, SizeError
from segjax.core.registry import create_model, entries
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LOGITS
from segjax.models.base import EncoderNetwork, ImageNetwork, init_shapes

# Made of a piece, taking their encoder apart, or running it at several scales.
UNDIVIDED = {
    *("crfasrnn", "deconvnet", "deeplabv1", "deeplabv2", "dilation", "enet", "erfnet", "espnet", "fcdensenet", "fcn"),
    *("frrn", "icnet", "segnet", "setr", "unet", "unetpp"),
}


class Coarse(ImageNetwork):
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
    alone = ImageNetwork.outputs(half)
    assert set(alone) == {LOGITS}
    assert alone[LOGITS].full_size
    full = ImageNetwork.outputs(half, [half], half, size=(8, 6), align_corners=True)
    assert set(full) == {LOGITS, AUX_LOGITS, BORDER_LOGITS}
    for logits in (full[LOGITS], *full[AUX_LOGITS], full[BORDER_LOGITS]):
        assert (logits.values.dtype, logits.shape, logits.align_corners) == (jnp.float32, (1, 8, 6, 3), True)


@pytest.mark.parametrize("name", [entry.name for entry in entries() if entry.task != "points"])
def test_encode_and_decode_are_the_network(name):
    net = create_model(f"{name}/test", 8)
    if name in UNDIVIDED:
        with pytest.raises(ModelError, match=r"runs a whole encoder [02] times"):
            net.encoder_path()
        return
    path, shapes = net.encoder_path(), init_shapes(net)
    assert path.partition("/")[0] in shapes["params"]
    features = jax.eval_shape(lambda v, x: net.apply(v, x, method="encode"), shapes, net.example)
    assert all(isinstance(stride, int) for stride in features)
    whole = jax.eval_shape(net.apply, shapes, net.example)
    assert jax.eval_shape(lambda v, x, f: net.apply(v, x, f, method="decode"), shapes, net.example, features) == whole


@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_options_of_the_encoder_reach_it_even_where_they_are_false(name):
    net = create_model(f"{name}/test", 8)
    if isinstance(net, EncoderNetwork):
        with pytest.raises(ModelError, match="has no field 'no_such_field'"):
            init_shapes(net.clone(encoder_options={"no_such_field": 0}))
    else:
        assert not hasattr(net, "encoder")


def test_auxiliary_heads_run_in_training_and_while_variables_are_created():
    class Doubled(ImageNetwork):
        def __call__(self, images, train=False):
            return self.auxiliary(lambda x, train: 2 * x, images, train)

    net, images = Doubled(num_classes=2), jnp.ones((1, 2, 2, 3))
    assert net.apply({}, images) == ()
    for found in (net.apply({}, images, train=True), net.init_with_output(jax.random.key(0), images)[0]):
        np.testing.assert_array_equal(found[0], 2 * images)


def test_decode_leaves_the_encoder_out():
    net = create_model("deeplabv3plus/test", 3)
    images = jax.random.normal(jax.random.key(1), net.example.shape)
    variables = net.init(jax.random.key(0), images)
    features = net.apply(variables, images, method="encode")
    expected = net.apply(variables, images)[LOGITS].values
    decoded = net.apply(variables, images, features, method="decode")[LOGITS].values
    np.testing.assert_allclose(decoded, expected, rtol=1e-5)
    doubled = {stride: 2 * value for stride, value in features.items()}
    assert not np.allclose(net.apply(variables, images, doubled, method="decode")[LOGITS].values, expected)
    options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(2)}}
    _, after = net.apply(variables, images, features, method="decode", **options)
    stats = (tree["batch_stats"]["encoder"] for tree in (variables, after))
    assert jax.tree.all(jax.tree.map(np.array_equal, *stats))
