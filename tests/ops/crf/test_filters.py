"""Every filter against all-pairs sums in float64; the lattice's own identities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError, SizeError
from segjax.ops.crf.exact import exact_filter
from segjax.ops.crf.features import bilateral_features, spatial_features
from segjax.ops.crf.filter import NORMALIZATIONS, apply_filter, build_filter, build_gaussian, check_filter
from segjax.ops.crf.gaussian import gaussian_filter
from segjax.ops.crf.lattice import _box, cells
from segjax.ops.crf.local import local_filter
from tests.ops.crf.gaussian_sums import kernel, normalised

SIZE = (13, 17)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([40 * np.sin(x / 4) + 120, 100 + 5 * y, 90 + 3 * x - 2 * y], -1) + rng.normal(0, 4, (*SIZE, 3))
    return image.astype(np.float32), rng.normal(size=(x.size, 4)).astype(np.float32)


def extent(theta_alpha: float, theta_beta: float) -> tuple[float, ...]:
    return (SIZE[1] - 1) / theta_alpha, (SIZE[0] - 1) / theta_alpha, *[255 / theta_beta] * 3


def both_ways(features, values, *, other=None, **options):
    """The filter and its transpose under one jit: (K v, K^T w, overflow, count)."""

    @jax.jit
    def run(features, values, other):
        built = build_filter(features, **options)
        there, back = apply_filter(built, values), apply_filter(built, other, transpose=True)
        return there, back, built.overflow, built.count

    return run(features, values, values if other is None else other)


@pytest.mark.parametrize(
    ("normalization", "exclude_self"), [*((n, False) for n in NORMALIZATIONS), ("symmetric", True), ("after", True)]
)
def test_exact_and_its_transpose_are_the_all_pairs_sum(scene, normalization, exclude_self):
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 12.0)
    matrix = normalised(kernel(features, exclude_self), normalization)
    there, back, *_ = both_ways(
        features, values, method="exact", normalization=normalization, exclude_self=exclude_self
    )
    np.testing.assert_allclose(there, matrix @ values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back, matrix.T @ values, rtol=1e-5, atol=1e-5)


def test_exact_in_tiles_with_gradients(scene):
    """A tile that does not divide the points; the narrow kernel of theta_beta = 3; gradients in values and features."""
    image, values = scene
    features = np.asarray(bilateral_features(jnp.asarray(image), 9.0, 3.0))
    matrix = kernel(features)
    weight = np.random.default_rng(1).normal(size=values.shape).astype(np.float32)

    def total(features, values):
        out = exact_filter(features[None], values[None], tile=50)[0]
        return jnp.vdot(out, weight), out

    (_, out), (in_features, in_values) = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(features, values)
    np.testing.assert_allclose(out, matrix @ values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(in_values, matrix @ weight, rtol=1e-4, atol=1e-4)
    # d/df_i of sum_ij w_i k_ij v_j
    pairs = matrix * (weight @ values.T + values @ weight.T)
    expected = pairs @ features - pairs.sum(1)[:, None] * features
    np.testing.assert_allclose(in_features, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("theta", [0.7, 3.0, 40.0])
def test_gaussian_is_the_all_pairs_sum_of_positions(theta):
    height, width = 23, 150
    values = np.random.default_rng(0).normal(size=(height, width, 2)).astype(np.float32)
    matrix = kernel(np.indices((height, width)).reshape(2, -1).T / theta)
    expected = (matrix @ values.reshape(-1, 2)).reshape(values.shape)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gaussian_filter(values, theta), expected, atol=1e-4 * scale)
    traced = jax.jit(gaussian_filter)(values, theta)
    np.testing.assert_allclose(traced, expected, atol=1e-6 * scale)


def test_gaussian_filter_is_normalised_and_leaves_out_self():
    size, theta = (5, 9), 1.5
    values = np.random.default_rng(0).normal(size=(45, 3)).astype(np.float32)
    matrix = normalised(kernel(spatial_features(*size, theta), exclude_self=True), "after")
    built = build_gaussian(1, size, theta, normalization="after", exclude_self=True)
    np.testing.assert_allclose(apply_filter(built, values), matrix @ values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(apply_filter(built, values, transpose=True), matrix.T @ values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_local_is_the_all_pairs_sum_in_a_window(scene, exclude_self):
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 12.0)
    y, x = (t.ravel() for t in np.mgrid[: SIZE[0], : SIZE[1]])
    near = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x)) <= 2
    matrix = normalised(kernel(features, exclude_self) * near, "symmetric")
    built = build_filter(features, "local", size=SIZE, window=5, exclude_self=exclude_self)
    np.testing.assert_allclose(apply_filter(built, values), matrix @ values, rtol=1e-5, atol=1e-5)


def test_blurred_local_filters_means_and_has_an_adjoint(scene):
    """Where features and values are constant, a blurred window weighs as many pixels as it covers."""
    flat = local_filter(jnp.zeros((1, 16, 24, 2)), jnp.ones((1, 16, 24, 1)), window=3, blur=4)
    np.testing.assert_allclose(flat[0, 6:10, 6:18, 0], 9 * 16, rtol=1e-6)
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 12.0)
    other = np.roll(values, 1, 0)
    there, back, *_ = both_ways(features, values, other=other, method="local", size=SIZE, window=3, blur=2)
    np.testing.assert_allclose(np.vdot(there, other), np.vdot(values, back), rtol=1e-4)


def test_grid_and_lattice_come_near_the_exact_filter(scene):
    """The errors are those of the methods (benchmarks/crf.py has them on natural images), so the bounds are loose."""
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 12.0)
    values = np.abs(values)
    exact = normalised(kernel(features), "symmetric") @ values
    for method, bound in (("grid", 0.08), ("lattice", 0.08)):
        out, _, overflow, _ = both_ways(features, values, method=method, extent=extent(9.0, 12.0))
        assert np.linalg.norm(out - exact) < bound * np.linalg.norm(exact), method
        assert not overflow


def test_lattice_by_table_and_by_sorting_agree_and_a_batch_is_its_images(scene):
    image, values = scene
    images = jnp.stack([jnp.asarray(image), jnp.asarray(image[::-1, :, ::-1]), jnp.full_like(image, 77.0)])
    features = bilateral_features(images, 9.0, 6.0)
    stack = np.stack([values, 2 * values, values + 1])
    by_sort, _, _, count = both_ways(features, stack, method="lattice")
    by_table, *_ = both_ways(features, stack, method="lattice", extent=extent(9.0, 6.0))
    np.testing.assert_array_equal(by_sort, by_table)
    single = jax.jit(lambda f, v: (apply_filter(built := build_filter(f), v), built.count))
    outs, counts = zip(*(single(f, v) for f, v in zip(features, stack)))
    np.testing.assert_allclose(by_sort, np.stack(outs), rtol=1e-5, atol=1e-6)
    assert count == sum(counts)


@pytest.mark.parametrize("normalization", [pytest.param("symmetric", marks=pytest.mark.slow), "before"])
def test_lattice_transpose_reverses_the_blur(scene, normalization):
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 6.0)
    other = np.random.default_rng(2).normal(size=values.shape).astype(np.float32)

    @jax.jit
    def run(features, values, other):
        built = build_filter(features, normalization=normalization)
        there, pull = jax.vjp(lambda v: apply_filter(built, v), values)
        return there, pull(other)[0], apply_filter(built, other, transpose=True), apply_filter(built, other)

    there, pulled, back, forth = run(features, values, other)
    np.testing.assert_allclose(np.vdot(there, other), np.vdot(values, back), rtol=1e-4)
    np.testing.assert_allclose(pulled, back, rtol=1e-5, atol=1e-6)
    # The filter is not its own adjoint.
    assert np.abs(back - forth).max() > 1e-2


def test_lattice_has_the_gradient_of_its_own_features(scene):
    """Inside one simplex the lattice is a polynomial of the features, so finite differences in float64 are exact."""
    image, values = scene
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        # Moved off the pixel grid: the first column, at x = 0, lies on the boundary between simplices.
        features = np.asarray(bilateral_features(jnp.asarray(image), 9.0, 12.0), np.float64)
        features += rng.uniform(0, 0.1, features.shape)
        step = rng.normal(size=features.shape)
        weight = np.roll(values, 2, 0).astype(np.float64)

        @jax.jit
        def total(t):
            built = build_filter(features + t * step, "lattice", normalization="after")
            return jnp.vdot(apply_filter(built, values.astype(np.float64)), weight)

        slope = jax.jit(jax.grad(total))(0.0)
        h = 1e-7
        np.testing.assert_allclose(slope, (total(h) - total(-h)) / (2 * h), rtol=1e-4)


@pytest.mark.parametrize("d", [1, 3, 6])
def test_lattice_takes_any_dimension(d):
    """Points in one cloud: the Gaussian's sums, up to the lattice's factor and its error."""
    rng = np.random.default_rng(d)
    features = jnp.asarray(rng.uniform(-1, 1, size=(300, d)).astype(np.float32))
    out, *_ = both_ways(features, np.ones((300, 1), np.float32), method="lattice", normalization="none")
    ratio = np.asarray(out)[:, 0] / kernel(features).sum(1)
    assert 0.3 < ratio.min() < ratio.max() < 2.5
    assert ratio.std() / ratio.mean() < 0.25


def test_cells_bound_the_box_of_features_that_span_their_extent():
    rng = np.random.default_rng(0)
    for span in ([6.2, 4.7, 19.6], [0.0, 0.3], [3.1, 2.3, 85, 85, 85]):
        features = rng.uniform(0, 1, (1, 400, len(span))) * np.array(span) + 7.3
        features[0, 0], features[0, 1] = 7.3, np.array(span) + 7.3
        _, size = _box(jnp.asarray(features, jnp.float32))
        assert np.prod(np.asarray(size), dtype=float) * (len(span) + 1) <= cells(span, 1)


def test_overflow_is_flagged_and_never_garbage(scene):
    image, values = scene
    features = bilateral_features(jnp.asarray(image), 9.0, 3.0)
    small = jax.jit(lambda f: build_filter(f, capacity=20))(features)
    assert np.isnan(apply_filter(small, values)).all()
    with pytest.raises(SizeError, match=rf"overflowed: {int(small.count):,} vertices .* raise capacity"):
        check_filter(small)
    broken = features.at[3, 1].set(jnp.nan)
    for bad, options in (
        (features, {"method": "lattice", "extent": [e / 4 for e in extent(9.0, 3.0)]}),
        (broken, {"method": "lattice"}),
        (features, {"method": "grid", "extent": [0.5] * 5}),
        (broken, {"method": "grid", "extent": [0.5] * 5}),
    ):
        assert np.isnan(both_ways(bad, values, **options)[0]).all(), options


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "latice"}, ModelError, "method='latice' is unknown. Did you mean 'lattice'"),
        ({"normalization": "both"}, ModelError, "normalization='both' is unknown"),
        ({"method": "grid"}, ModelError, "needs extent"),
        ({"method": "local", "size": (3, 3)}, SizeError, r"needs size=\(H, W\) with H \* W = 4"),
        ({"method": "local", "size": (2, 2), "window": 4}, ModelError, "odd window"),
        ({"method": "grid", "extent": (1.0,)}, SizeError, "extent has 1 entries for 2 features"),
        ({"method": "grid", "extent": (1e5, 1e5)}, SizeError, "use larger bandwidths"),
        ({"exclude_self": True}, ModelError, "exclude_self needs"),
        ({"capacity": 0}, ModelError, "capacity=0"),
    ],
)
def test_bad_options_are_named(change, error, message):
    with pytest.raises(error, match=message):
        build_filter(jnp.zeros((1, 4, 2)), **{"method": "lattice", **change})


def test_bad_shapes_and_bandwidths_are_named():
    with pytest.raises(SizeError, match=r"features have shape \(4,\)"):
        build_filter(jnp.zeros(4))
    with pytest.raises(ModelError, match="theta_beta=0"):
        bilateral_features(jnp.zeros((2, 2, 3)), 3.0, 0.0)
    with pytest.raises(ModelError, match="theta=-1"):
        spatial_features(2, 2, -1)
    with pytest.raises(SizeError, match=r"image has shape \(2, 2\)"):
        bilateral_features(jnp.zeros((2, 2)), 3.0, 3.0)
