"""What every architecture of the registry must keep: shapes, types, errors, parameter counts, gradients, one trace.

Nearly everything is checked by tracing alone. Each architecture's `test` variant is compiled once, for training and
for evaluation. What neither the default nor the `test` variant asks is marked `further`.
"""

from __future__ import annotations

import functools
import importlib
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.cli.models import WRITE_PAGE, read_figures
from segjax.core.errors import ModelError, SizeError
from segjax.core.paths import named_leaves
from segjax.core.registry import create_model, entries
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, FEATURES, LOGITS
from segjax.ops.formulation import formulations
from segjax.ops.logits import Logits, upsampled
from tests.contract import golden

VARIANTS = [f"{entry.name}/{variant}" for entry in entries("semantic") for variant in entry.variants]
TESTS = [name for name in VARIANTS if name.endswith("/test")]
DEFAULTS = [f"{entry.name}/{entry.variants[0]}" for entry in entries("semantic")]
MARKED = [name if name in TESTS + DEFAULTS else pytest.param(name, marks=pytest.mark.further) for name in VARIANTS]
CLASSES = 5
PAPER_CLASSES = {entry.name: entry.input[2] for entry in entries("semantic")}
FIGURES = read_figures()

# (name, classes, channels, trainable parameters, whose figure)
PARAMETERS = [
    ("unet/same", 2, 3, 31_037_698, "milesial/Pytorch-UNet"),
    ("unet/same", 1, 3, 31_037_633, "milesial/Pytorch-UNet"),
    ("unet/original", 2, 1, 31_030_658, "the paper's figure 1, counted by layer"),
    ("unet/original", 2, 3, 31_031_810, "the paper's figure 1, counted by layer"),
    ("enet/davidtvs", 12, 3, 350_652, "davidtvs/PyTorch-ENet"),
    ("enet/davidtvs", 19, 3, 351_660, "davidtvs/PyTorch-ENet"),
    ("segnet/caffe", 11, 3, 29_449_355, "alexgkendall/SegNet-Tutorial"),
    ("segnet/caffe", 21, 3, 29_455_125, "alexgkendall/SegNet-Tutorial"),
    ("segnet/basic", 11, 3, 1_416_075, "alexgkendall/SegNet-Tutorial"),
    ("deeplabv3plus/resnet50-smp", 1, 3, 26_677_585, "segmentation_models_pytorch 0.6.0"),
    ("deeplabv3plus/resnet34-smp", 1, 3, 22_437_457, "segmentation_models_pytorch 0.6.0"),
    ("deeplabv3plus/resnet50-mmseg", 19, 3, 43_589_878, "mmsegmentation"),
    ("deeplabv3plus/resnet101-mmseg", 19, 3, 62_582_006, "mmsegmentation"),
]


def count(params) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def sizes(stride: int) -> tuple[int, int]:
    """Two different odd multiples of the stride, large enough for any kernel."""
    rows = max(1, -(-33 // stride))
    rows += 1 - rows % 2
    return rows * stride, (rows + 2) * stride


def keys() -> dict[str, jax.Array]:
    return {"params": jax.random.key(0), "dropout": jax.random.key(1)}


@functools.cache
def traced(name: str, train: bool, classes: int = CLASSES, channels: int = 3, dtype=jnp.float32):
    """(the outputs' shapes, the variables' shapes, (H, W)) of a fresh network.

    With hundreds of variants the time goes here: each is traced twice, in evaluation at its paper's classes, and in
    training in bfloat16.
    """
    model = create_model(name, classes, channels, dtype)
    size = sizes(model.stride)
    images = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    out, variables = jax.eval_shape(functools.partial(model.init_with_output, train=train), keys(), images)
    return out, variables, size


@pytest.fixture(scope="module", params=MARKED)
def variant(request):
    """By the module, so that a network's tests run one after the other, in one process, and share what is traced."""
    return request.param


def test_evaluation_returns_float32_logits_at_the_inputs_size(variant):
    classes = PAPER_CLASSES[variant.split("/")[0]]
    out, variables, size = traced(variant, False, classes)
    assert set(out) - {AUX_LOGITS, BORDER_LOGITS} <= {LOGITS, FEATURES}
    assert out[LOGITS].shape == (2, *size, classes)
    assert isinstance(out[LOGITS], Logits)
    assert out[LOGITS].values.dtype == jnp.float32
    assert set(variables) <= {"params", "batch_stats"}
    for stride, features in out.get(FEATURES, {}).items():
        assert features.shape[1:3] == tuple(-(-n // stride) for n in size)


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=() if name in TESTS + DEFAULTS else pytest.mark.slow) for name in VARIANTS],
    scope="module",
)
def test_init_creates_the_same_float32_variables_for_bfloat16_training(variant):
    classes = PAPER_CLASSES[variant.split("/")[0]]
    out, variables, _ = traced(variant, True, classes, dtype=jnp.bfloat16)
    assert variables == traced(variant, False, classes)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    heads = jax.tree.leaves((out[LOGITS], out.get(AUX_LOGITS), out.get(BORDER_LOGITS)))
    assert {leaf.dtype for leaf in heads} == {jnp.dtype(jnp.float32)}


def test_the_list_of_networks_tells_its_parameters(variant):
    if variant not in TESTS:
        variables = traced(variant, False, PAPER_CLASSES[variant.split("/")[0]])[1]
        assert count(variables["params"]) == FIGURES[variant]["parameters"], f"run `{WRITE_PAGE}`"


@pytest.mark.parametrize("name", TESTS)
def test_auxiliary_and_border_logits_come_in_training_only(name):
    model = create_model(name, CLASSES)
    _, variables, size = traced(name, True)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)

    def apply(train):
        run = functools.partial(model.apply, train=train, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])
        return jax.eval_shape(run, variables, images)

    evaluated, _ = apply(False)
    assert not {AUX_LOGITS, BORDER_LOGITS} & set(evaluated)
    trained, state = apply(True)
    assert trained[LOGITS] == evaluated[LOGITS]
    assert state.get("batch_stats", {}) == variables.get("batch_stats", {})
    for head in trained.get(AUX_LOGITS, ()):
        assert (head.shape, head.values.dtype) == ((2, *size, CLASSES), jnp.float32)
    if BORDER_LOGITS in trained:
        assert trained[BORDER_LOGITS].shape[:3] == (2, *size)


@pytest.mark.parametrize("name", TESTS)
def test_bfloat16_reaches_every_convolution(name):
    model = create_model(name, CLASSES, dtype=jnp.bfloat16)
    _, variables, size = traced(name, False)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    with formulations(backend="gpu"):
        program = str(jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, images))
    results = re.findall(r":(\w+)\[[\d,]+\] = conv_general_dilated", program)
    assert results
    assert set(results) == {"bf16"}


@pytest.mark.parametrize("figure", PARAMETERS, ids=lambda figure: f"{figure[0]}-{figure[1]}-{figure[2]}")
def test_parameter_count_equals_the_published_one(figure):
    name, classes, channels, expected, _ = figure
    assert count(traced(name, False, classes, channels)[1]["params"]) == expected


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("channels", [1, 4])
def test_other_image_channels(name, channels):
    out, _, size = traced(name, False, CLASSES, channels)
    assert out[LOGITS].shape == (2, *size, CLASSES)


@pytest.mark.parametrize("name", TESTS)
def test_a_size_between_strides_names_the_size_to_pad_to(name):
    model = create_model(name, CLASSES)
    if model.stride == 1:
        pytest.skip("takes any size")
    rows, columns = sizes(model.stride)
    images = jnp.zeros((1, rows + 1, columns - 1, 3))
    with pytest.raises(SizeError) as error:
        jax.eval_shape(model.init, keys(), images)
    assert f"{rows + 1}x{columns - 1} is" in str(error.value)
    assert str(error.value).endswith(f"pad to {rows + model.stride}x{columns}")


@pytest.mark.parametrize("name", TESTS)
def test_what_is_no_image_of_the_network_is_one_line_of_error(name):
    model = create_model(name, CLASSES)
    size = sizes(model.stride)
    for images, culprit in (
        (jnp.zeros((1, *size, 2)), "in_channels=2"),
        (jnp.zeros((1, *size, 3), jnp.uint8), "uint8"),
        (jnp.zeros((*size, 3)), "B, H, W, C"),
    ):
        with pytest.raises(ModelError, match=culprit) as error:
            jax.eval_shape(model.init, keys(), images)
        assert "\n" not in str(error.value)


class Compiled:
    """A `test` variant with random variables, its train step and its evaluation compiled once, their traces counted."""

    def __init__(self, name: str):
        self.module = importlib.import_module(type(create_model(name, CLASSES)).__module__)
        self.variant = name.split("/")[1]
        self.model = create_model(name, CLASSES)
        _, shapes, _ = traced(name, False)
        self.variables = jax.tree_util.tree_map_with_path(self._fill, shapes)
        side = max(self.model.stride, 16)
        self.size = (2 * side, 3 * side) if side < 32 else (side, 2 * side)
        self.traces = {"train": 0, "evaluate": 0}
        self.evaluate = jax.jit(self._evaluate)
        self.train = jax.jit(self._train)
        self.outcomes = [self.train(self.variables, self.images(i), jax.random.key(i)) for i in range(2)]

    def images(self, seed: int) -> jax.Array:
        return jnp.asarray(np.random.default_rng(seed).normal(size=(2, *self.size, 3)), jnp.float32)

    def _fill(self, path, leaf):
        name = path[-1].key
        rng = np.random.default_rng(sum(map(ord, jax.tree_util.keystr(path))))
        if name in ("scale", "var"):
            return jnp.ones(leaf.shape, leaf.dtype)
        if leaf.ndim >= 2:
            return jnp.asarray(rng.normal(size=leaf.shape) * math.sqrt(2 / math.prod(leaf.shape[:-1])), leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape) * 0.1, leaf.dtype)

    def _evaluate(self, variables, images):
        self.traces["evaluate"] += 1
        return upsampled(self.model.apply(variables, images, train=False))

    def _train(self, variables, images, key):
        self.traces["train"] += 1
        rest = {name: value for name, value in variables.items() if name != "params"}

        def loss(params):
            out, state = self.model.apply(
                {"params": params, **rest}, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            out = upsampled(out)
            heads = [out[LOGITS], *out.get(AUX_LOGITS, ())]
            value = sum(-jax.nn.log_softmax(head)[..., 1].mean() for head in heads)
            if BORDER_LOGITS in out:
                value += jax.nn.softplus(out[BORDER_LOGITS]).mean()
            return value, (out, state)

        (value, (out, state)), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, out, state, gradient


@pytest.fixture(scope="module", params=TESTS)
def compiled(request):
    return Compiled(request.param)


def test_training_is_finite_and_not_traced_again(compiled):
    for value, out, state, gradient in compiled.outcomes:
        for leaf in jax.tree.leaves((value, out, state, gradient)):
            assert np.isfinite(leaf).all()
    assert compiled.traces["train"] == 1


def test_gradient_reaches_every_parameter(compiled):
    excused = getattr(compiled.module, "ZERO_GRADIENT", {}).get(compiled.variant, "^$")
    paths = [
        (name, first, second)
        for (name, first), second in zip(
            named_leaves(compiled.outcomes[0][3]).items(), jax.tree.leaves(compiled.outcomes[1][3])
        )
    ]
    # A convolution's bias before batch normalisation has a gradient of rounding errors only: far below any other.
    silent = [path for path, *pair in paths if max(float(np.abs(g).max()) for g in pair) < 1e-7]
    assert [path for path in silent if not re.search(excused, path)] == []


def test_training_moves_every_statistic(compiled):
    before = compiled.variables.get("batch_stats", {})
    after = compiled.outcomes[0][2].get("batch_stats", {})
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(old, new), jax.tree_util.keystr(path)


def test_evaluation_is_finite_and_sees_one_image_at_a_time(compiled):
    images = compiled.images(5)
    both = compiled.evaluate(compiled.variables, images)[LOGITS]
    other = compiled.evaluate(compiled.variables, images.at[1].set(0.5))[LOGITS]
    assert np.isfinite(both).all()
    np.testing.assert_array_equal(both[0], other[0])
    assert not np.array_equal(both[1], other[1])
    assert compiled.traces["evaluate"] == 1


def test_logits_and_gradient_are_the_recorded_ones(compiled):
    name = f"{compiled.module.__name__.rpartition('.')[2]}/{compiled.variant}"
    found, recorded = golden.measure(compiled), golden.read()[name]
    assert set(found) == set(recorded), golden.WRITE
    for key, values in recorded.items():
        assert golden.agree(key, found[key], values), f"{key}: {found[key]} is not {values}; if meant: `{golden.WRITE}`"
