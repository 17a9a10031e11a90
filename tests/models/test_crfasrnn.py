"""CRF-as-RNN: the CRF it puts on its unary network, and what freezing means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.core.schema import LOGITS
from segjax.ops.crf.mean_field import CRFParams, dense_crf
from segjax.training.state import init_variables

CLASSES = 3
MEAN_FIELD = {"theta_alpha": 20.0, "theta_beta": 13.0, "method": "exact", "iterations": 3, "train_iterations": 1}
STD = (50.0, 60.0, 70.0)


def _model(**fields):
    return create_model("crfasrnn/test", CLASSES, mean_field=MEAN_FIELD, std=STD, **fields)


def test_parameters_of_the_published_network():
    """torrvision/crfasrnn, TVG_CRFRNN_new_deploy.prototxt: its FCN-8s, and three matrices of 21 by 21."""
    model = create_model("crfasrnn/fcn8s", 21)
    params = jax.eval_shape(model.init, jax.random.key(0), model.example)["params"]
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert (count(params["unary"]), count(params)) == (134_489_780, 134_491_103)
    assert params["unary"]["up16"]["bias"].shape == (21,)


@pytest.fixture(scope="module")
def variables():
    return init_variables(_model(), 0, (16, 24, 3))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype(np.float32)


def test_it_is_the_dense_crf_on_the_stored_image(variables, pixels) -> None:
    images = (pixels - 100) / np.asarray(STD, np.float32)
    out = jax.jit(lambda v, x: _model().apply(v, x)[LOGITS].upsample())(variables, images)
    unary = create_model("unet/test", CLASSES)
    inner = {collection: tree["unary"] for collection, tree in variables.items() if "unary" in tree}
    logits = jax.jit(lambda v, x: unary.apply(v, x)[LOGITS].upsample())(inner, images)
    expected = dense_crf(
        logits,
        pixels,
        CRFParams(20.0, 13.0, 3.0, 5.0, 3.0),
        iterations=3,
        method="exact",
        normalization="after",
    )
    assert not np.allclose(expected, logits, atol=0.1)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-3)


def test_a_frozen_unary_keeps_statistics_and_takes_no_gradient(variables, pixels) -> None:
    model, images = _model(frozen=True), jnp.asarray((pixels - 100) / 60)
    rest = {key: value for key, value in variables.items() if key != "params"}
    assert rest["batch_stats"]

    @jax.jit
    def gradient(params):
        def loss(params):
            out, state = model.apply({"params": params, **rest}, images, train=True, mutable=list(rest))
            return -jax.nn.log_softmax(out[LOGITS].upsample())[..., 1].mean(), state

        return jax.grad(loss, has_aux=True)(params)

    gradients, state = gradient(variables["params"])
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients["crf"]))
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradients["unary"]))
    jax.tree.map(np.testing.assert_array_equal, state, rest)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mean_field": {"theta_bta": 3.0}}, "mean_field has no 'theta_bta'. Did you mean 'theta_beta'"),
        ({"std": (1.0, 2.0)}, "std has 2 numbers for 3 channels"),
        ({"network": "enet/papr"}, "no variant 'papr'. Did you mean 'paper'"),
        ({"network_options": {"deph": 3}}, "has no field 'deph'"),
    ],
)
def test_wrong_fields_are_one_line(fields, words) -> None:
    model = create_model("crfasrnn/test", CLASSES, **fields)
    with pytest.raises(ModelError, match=words):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
