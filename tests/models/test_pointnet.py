"""PointNet: published counts, exactness against PyTorch layers, and that padding and order of points do not matter."""

from __future__ import annotations

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.core.schema import LOGITS, TRANSFORM
from segjax.models.base import init_shapes
from segjax.models.count import cost
from segjax.training.state import init_variables

torch = pytest.importorskip("torch")

PARTS, CATEGORIES, CLOUDS, POINTS = 7, 3, 4, 24
AUTHORS_HEAD = 595_472  # fully connected 2048-256-256-16 with batch normalisation, which classifies the shape


def count(model) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(init_shapes(model)["params"]))


@pytest.mark.parametrize(
    ("variant", "channels", "published", "left_out"),
    [
        ("part", 3, 8_574_923, AUTHORS_HEAD),  # charlesq34/pointnet@2618f72b part_seg, summed by layer
        ("part-torch", 3, 8_342_395, 0),  # yanx27/Pointnet_Pointnet2_pytorch@eb64fe0b get_model(50, False)
        ("part-torch", 6, 8_342_779, 0),  # get_model(50, True)
    ],
)
def test_parameter_count_equals_the_published_one(variant, channels, published, left_out):
    assert count(create_model(f"pointnet/{variant}", 50, channels, num_categories=16)) == published - left_out


def test_multiply_adds_are_the_ports_but_for_the_global_features_layer():
    model = create_model("pointnet/part-torch", 50)
    saved = (2048 - 1) * (2048 + 16) * model.head[0]
    assert cost(model, (2048,)).macs + saved == pytest.approx(5.77e9, rel=2e-3)


class TorchTNet(torch.nn.Module):
    def __init__(self, channels, size, points, cloud, epsilon):
        super().__init__()
        widths = [channels, *points, *cloud]
        self.layers = torch.nn.ModuleList(map(torch.nn.Linear, widths[:-1], widths[1:]))
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width, eps=epsilon) for width in widths[1:])
        self.matrix = torch.nn.Linear(widths[-1], size * size)
        self.size, self.pooled = size, len(points)

    def forward(self, x):
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            if index == self.pooled:
                x = x.max(1).values
            x = torch.relu(channels_last(norm, layer(x)))
        return self.matrix(x).view(-1, self.size, self.size) + torch.eye(self.size, dtype=x.dtype)


class TorchPointNet(torch.nn.Module):
    """The part segmentation network of the PyTorch port, written down again, at any widths."""

    def __init__(self, channels, model):
        super().__init__()
        epsilon = model.epsilon
        self.input_net = TorchTNet(channels, 3, *model.input_net, epsilon)
        self.feature_net = TorchTNet(model.local[-1], model.local[-1], *model.feature_net, epsilon)
        self.split, self.rectify_last = len(model.local), model.rectify_last
        widths = [channels, *model.local, *model.deep]
        joined = sum(widths[1:]) + widths[-1] + model.num_categories
        heads = [joined, *model.head]
        pairs = [*itertools.pairwise(widths), *itertools.pairwise(heads)]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in pairs)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width, eps=epsilon) for _, width in pairs)
        self.classifier = torch.nn.Linear(heads[-1], model.num_classes)
        self.own = len(widths) - 1  # layers before the heads

    def forward(self, points, one_hot):
        x = torch.cat([points[..., :3] @ self.input_net(points), points[..., 3:]], -1)
        levels = []
        for index in range(self.own):
            if index == self.split:
                transform = self.feature_net(x)
                x = x @ transform
            x = channels_last(self.norms[index], self.layers[index](x))
            x = torch.relu(x) if self.rectify_last or index + 1 < self.own else x
            levels.append(x)
        cloud = torch.cat([x.max(1).values, one_hot], -1)[:, None].expand(-1, x.shape[1], -1)
        x = torch.cat([cloud, *levels], -1)
        for index in range(self.own, len(self.layers)):
            x = torch.relu(channels_last(self.norms[index], self.layers[index](x)))
        return self.classifier(x), transform


def channels_last(norm, x):
    return norm(x) if x.ndim == 2 else norm(x.transpose(1, 2)).transpose(1, 2)


def random_variables(model):
    shapes, rng = init_shapes(model), np.random.default_rng(3)

    def fill(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.5, 2, leaf.shape)
        if path[-1].key == "scale":
            return rng.uniform(0.8, 1.2, leaf.shape)
        return rng.normal(size=leaf.shape) * (1.2 / math.sqrt(leaf.shape[0]) if leaf.ndim == 2 else 0.1)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def copy_into(twin, variables):
    """Our variables, in the order in which the network makes its layers, into the twin's."""

    def fill(linear, norm, name, params, stats):
        params, stats = params[name], stats.get(name)
        pairs = [(linear.weight, np.transpose(params["kernel"])), (linear.bias, params["bias"])]
        if norm is not None:
            pairs += [(norm.weight, params["norm"]["scale"]), (norm.bias, params["norm"]["bias"])]
            pairs += [(norm.running_mean, stats["norm"]["mean"]), (norm.running_var, stats["norm"]["var"])]
        for theirs, ours in pairs:
            assert theirs.shape == ours.shape
            theirs.data.copy_(torch.tensor(np.asarray(ours)))

    params, stats = variables["params"], variables["batch_stats"]
    for name, net in (("input_transform", twin.input_net), ("feature_transform", twin.feature_net)):
        names = [f"point{k + 1}" for k in range(net.pooled)]
        names += [f"cloud{k + 1}" for k in range(len(net.layers) - net.pooled)]
        for layer, norm, each in zip(net.layers, net.norms, names, strict=True):
            fill(layer, norm, each, params[name], stats[name])
        fill(net.matrix, None, "matrix", params[name], stats[name])
    names = [f"local{k + 1}" for k in range(twin.split)] + [f"deep{k + 1}" for k in range(twin.own - twin.split)]
    names += [f"head{k + 1}" for k in range(len(twin.layers) - twin.own)]
    for layer, norm, each in zip(twin.layers, twin.norms, names, strict=True):
        fill(layer, norm, each, params, stats)
    fill(twin.classifier, None, "classifier", params, stats)


def clouds(channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(CLOUDS, POINTS, channels)), rng.integers(0, CATEGORIES, CLOUDS)


@pytest.mark.parametrize(("rectify_last", "channels"), [(True, 3), (False, 6)])
def test_logits_statistics_and_gradient_are_those_of_pytorchs_layers(rectify_last, channels):
    """In float64, where nothing but the arithmetic's order is left."""
    points, category = clouds(channels)
    target = np.random.default_rng(1).integers(0, PARTS, (CLOUDS, POINTS))
    with jax.enable_x64(True):
        model = create_model(
            "pointnet/test", PARTS, channels, jnp.float64, num_categories=CATEGORIES, rectify_last=rectify_last
        )
        variables = random_variables(model)
        twin = TorchPointNet(channels, model).double()
        copy_into(twin, variables)
        one_hot = torch.nn.functional.one_hot(torch.tensor(category), CATEGORIES).double()

        out = jax.jit(model.apply)(variables, points, category)
        theirs, transform = twin.eval()(torch.tensor(points), one_hot)
        np.testing.assert_allclose(out[LOGITS], theirs.detach(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(out[TRANSFORM], transform.detach(), rtol=1e-6, atol=1e-6)

        def loss(params):
            rest = {**variables, "params": params}
            out, state = model.apply(rest, points, category, train=True, mutable=["batch_stats"])
            value = optax.softmax_cross_entropy_with_integer_labels(out[LOGITS], target).mean()
            return value + 0.1 * jnp.square(out[TRANSFORM]).sum(), state

        (value, state), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        theirs, transform = twin.train()(torch.tensor(points), one_hot)
        their_loss = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), torch.tensor(target).flatten())
        their_loss = their_loss + 0.1 * transform.square().sum()
        their_loss.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
        gradient, state = jax.tree.map(np.asarray, (gradient, state))
    assert float(value) == pytest.approx(their_loss.item(), rel=1e-6)
    ours = math.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    assert ours == pytest.approx(norm, rel=1e-6)
    kernel = gradient["input_transform"]["point1"]["kernel"]
    np.testing.assert_allclose(kernel.T, twin.input_net.layers[0].weight.grad, rtol=1e-6, atol=1e-9)
    mean = state["batch_stats"]["head1"]["norm"]["mean"]
    np.testing.assert_allclose(mean, twin.norms[twin.own].running_mean, rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    model = create_model("pointnet/test", PARTS, num_categories=CATEGORIES)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), random_variables(model))
    return model, variables, jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))


def test_logits_follow_a_permutation_of_the_points(network):
    _, variables, train = network
    points, category = clouds()
    order = np.random.default_rng(2).permutation(POINTS)
    (first, stats), (second, again) = (train(variables, jnp.float32(p), category) for p in (points, points[:, order]))
    np.testing.assert_allclose(first[LOGITS][:, order], second[LOGITS], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first[TRANSFORM], second[TRANSFORM], rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(stats, again, rtol=1e-4, atol=1e-5)


def test_what_padded_points_hold_changes_nothing(network):
    """Against the same clouds without them, and whatever number stands there."""
    model, variables, _ = network
    points, category = (np.asarray(x, t) for x, t in zip(clouds(), (np.float32, np.int32)))
    kept = POINTS - 9
    valid = jnp.broadcast_to(jnp.arange(POINTS) < kept, (CLOUDS, POINTS))

    @jax.jit
    def run(points, valid):
        def loss(params):
            out, state = model.apply(
                {**variables, "params": params}, points, category, valid, train=True, mutable=["batch_stats"]
            )
            return jnp.where(valid[..., None], jnp.sin(out[LOGITS]), 0).sum(), (out, state)

        return jax.grad(loss, has_aux=True)(variables["params"])

    padded, same = points.copy(), points[:, :kept]
    padded[:, kept:] = 1e6
    gradient, (out, state) = run(padded, valid)
    padded[:, kept:] = np.nan
    again, (_, statistics) = run(padded, valid)
    chex.assert_trees_all_equal((gradient, state), (again, statistics))
    alone, (expected, statistics) = run(same, valid[:, :kept])
    np.testing.assert_allclose(out[LOGITS][:, :kept], expected[LOGITS], rtol=1e-3, atol=1e-4)
    chex.assert_trees_all_close(state, statistics, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(gradient, alone, rtol=1e-2, atol=1e-3)


def test_transforms_start_at_the_identity():
    model = create_model("pointnet/test", PARTS)
    variables = init_variables(model, 0, (POINTS, 3))
    points, _ = clouds()
    out = model.apply(variables, jnp.float32(points))
    np.testing.assert_array_equal(out[TRANSFORM], np.broadcast_to(np.eye(6), (CLOUDS, 6, 6)))
    assert not np.any(variables["params"]["input_transform"]["matrix"]["kernel"])


def test_a_cloud_without_points_is_finite_and_an_unknown_category_is_none(network):
    model, variables, _ = network
    points, category = clouds()
    none = model.apply(variables, jnp.float32(points), None, jnp.zeros((CLOUDS, POINTS), bool))
    assert np.isfinite(none[LOGITS]).all()
    logits = [
        model.apply(variables, jnp.float32(points), known)[LOGITS]
        for known in (None, jnp.full(CLOUDS, -1), jnp.asarray(category))
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-3


def test_bfloat16_arithmetic_returns_float32():
    model = create_model("pointnet/test", PARTS, dtype=jnp.bfloat16)
    out = jax.eval_shape(model.init_with_output, jax.random.key(0), model.example)[0]
    chex.assert_trees_all_equal_dtypes(out, {LOGITS: jnp.float32(0), TRANSFORM: jnp.float32(0)})


@pytest.mark.parametrize(
    ("points", "culprit"),
    [
        (jnp.zeros((1, 8, 2)), "in_channels=2"),
        (jnp.zeros((1, 8, 3), jnp.int32), "int32"),
        (jnp.zeros((8, 3)), "B, P, C"),
    ],
)
def test_what_is_no_cloud_of_the_network_is_one_line_of_error(points, culprit):
    with pytest.raises(ModelError, match=culprit):
        create_model("pointnet/test", PARTS).check_input(points)
