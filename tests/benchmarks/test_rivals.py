"""The PyTorch twins of benchmarks/rivals are the networks they are measured against: parameters, shapes of the outputs,
multiply-accumulates, all without computing anything; and values, of those whose sizes can be made small."""

from __future__ import annotations

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.rivals import RIVALS, build
from segjax.core.registry import create_model
from segjax.core.schema import AUX_LOGITS, LOGITS
from segjax.models.base import init_shapes
from segjax.models.count import cost

torch = pytest.importorskip("torch", reason="the rivals are PyTorch networks")
from benchmarks.rivals.parameters import carry, random_variables  # noqa: E402 - imports torch

CLASSES = 11
# A multiple of every stride, and larger than every atrous rate at its stride: taps that meet nothing but padding are
# left out here, and the work would differ.
SIZE = (320, 384)

# Reduced sizes, fields of ours and of the twin alike, and the images: what a small network still shows.
SMALL = {
    "unet": (dict(base_channels=4, depth=2), (8, 12)),
    "enet": (
        dict(
            initial_features=8,
            features=(8, 16),
            first_blocks=1,
            pattern=(2, "asymmetric"),
            first_dropout=0.0,
            dropout=0.0,
        ),
        (48, 56),  # every rate finds a neighbour
    ),
    "erfnet": (
        dict(widths=(8, 12, 16), blocks=1, rates=(2, 4), decoder_blocks=1, first_dropout=0.0, dropout=0.0),
        (48, 56),  # every rate finds a neighbour
    ),
    "segnet": (dict(depths=(1, 2, 1), widths=(4, 6, 8)), (9, 14)),  # odd sizes at three levels
    "fcdensenet/103": (dict(layers=(2, 1), middle=2, growth=4, first_features=6, dropout=0.0), (8, 12)),
}


def _marked(names, quick):
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


# Tracing the deepest takes half a minute, and so does compiling ENet.
TRACED = _marked(RIVALS, set(RIVALS) - {"fcdensenet/103", "ocr/hrnet-w48", "segformer/b2"})
COMPILED = _marked(SMALL, ("unet", "segnet"))


@functools.cache
def ours(name):
    """Our network and the shapes of its variables."""
    network = create_model(name, CLASSES)
    return network, init_shapes(network)


@functools.cache
def twin(name):
    with torch.device("meta"):
        return build(name, CLASSES)


@pytest.mark.parametrize("name", TRACED)
def test_the_same_parameters(name):
    # A kernel's axes stand in another order.
    theirs = collections.Counter(tuple(sorted(p.shape)) for p in twin(name).parameters())
    assert theirs == collections.Counter(tuple(sorted(p.shape)) for p in jax.tree.leaves(ours(name)[1]["params"]))


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", TRACED)
def test_the_same_outputs(name, train):
    network, variables = ours(name)
    images = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    rngs = {"dropout": jax.random.key(0)}
    run = functools.partial(network.apply, train=train, rngs=rngs, mutable=["batch_stats"])
    result, _ = jax.eval_shape(run, variables, images)
    assert result.keys() <= {LOGITS, AUX_LOGITS}
    expected = [(b, k, h, w) for b, h, w, k in (x.shape for x in (result[LOGITS], *result.get(AUX_LOGITS, ())))]
    found = twin(name).train(train)(torch.empty(2, 3, *SIZE, device="meta"))
    assert isinstance(found, tuple) == train
    found = found if train else (found,)
    assert [tuple(x.shape) for x in found] == expected


@pytest.mark.parametrize("name", TRACED)
def test_the_same_work(name):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(name).eval()(torch.empty(1, 3, *SIZE, device="meta"))
    # Both count a transposed convolution as its kernel at every pixel of its input, not the zeros of its phases here.
    assert counter.get_total_flops() / 2 == pytest.approx(cost(ours(name)[0], SIZE).macs, rel=0.005)


@pytest.mark.parametrize("name", COMPILED)
def test_the_same_values(name):
    fields, size = SMALL[name]
    network, rival = create_model(name, CLASSES, **fields), build(name, CLASSES, **fields)
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    theirs = torch.from_numpy(images.transpose(0, 3, 1, 2))
    variables = random_variables(network)
    carry(network, variables, rival.eval(), theirs)

    @jax.jit
    def run(variables, images):
        trained, _ = network.apply(variables, images, train=True, mutable=["batch_stats"])
        return network.apply(variables, images)[LOGITS].upsample(), trained[LOGITS].upsample()

    for found, expected in zip((rival(theirs), rival.train()(theirs)[0]), run(variables, images), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.detach().numpy().transpose(0, 2, 3, 1) / scale, expected / scale, atol=2e-5)
