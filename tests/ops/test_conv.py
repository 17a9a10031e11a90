"""Convolution in every formulation against PyTorch: values and both gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations

torch = pytest.importorskip("torch")

# (input channels, features, kernel, stride, rate, groups, padding, H, W)
CASES = {
    "3x3": (3, 4, (3, 3), 1, 1, 1, "same", 7, 9),
    "stride 2, odd size": (3, 4, (3, 3), 2, 1, 1, "same", 7, 10),
    "7x7 stem": (3, 4, (7, 7), 2, 1, 1, "same", 11, 8),
    "valid": (2, 3, (3, 3), 1, 1, 1, "valid", 7, 6),
    "asymmetric": (2, 3, (5, 1), 1, 1, 1, "same", 7, 6),
    "2x2 stride 2": (3, 4, (2, 2), 2, 1, 1, 0, 7, 6),
    "1x1 wide": (64, 64, (1, 1), 1, 1, 1, "same", 5, 3),
    "1x1 wide stride 2": (64, 65, (1, 1), 2, 1, 1, "same", 5, 6),
    "rate 2": (3, 4, (3, 3), 1, 2, 1, "same", 7, 9),
    "rate 6": (128, 128, (3, 3), 1, 6, 1, "same", 13, 9),
    "rate 12, taps outside": (128, 129, (3, 3), 1, 12, 1, "same", 9, 15),
    "rate 24, only the centre": (129, 128, (3, 3), 1, 24, 1, "same", 9, 15),
    "rate 6 valid": (3, 4, (3, 3), 1, 6, 1, "valid", 14, 13),
    "depthwise": (5, 5, (3, 3), 1, 1, 5, "same", 7, 9),
    "depthwise stride 2": (5, 5, (3, 3), 2, 1, 5, "same", 7, 10),
    "depthwise stride 2 even": (5, 5, (3, 3), 2, 1, 5, "same", 8, 9),
    "depthwise rate 2": (5, 5, (3, 3), 1, 2, 5, "same", 7, 9),
    "depthwise rate 12": (3, 3, (3, 3), 1, 12, 3, "same", 7, 9),
    "depthwise multiplier": (3, 6, (5, 3), 1, 1, 3, "same", 7, 9),
    "depthwise valid": (3, 3, (3, 3), 2, 1, 3, "valid", 8, 9),
    "groups": (6, 9, (3, 3), 1, 1, 3, "same", 7, 9),
    "groups stride 2": (8, 4, (3, 3), 2, 1, 2, "same", 7, 9),
    "groups rate 6": (256, 256, (3, 3), 1, 6, 2, "same", 13, 9),
}


def torch_conv(x, kernel, cotangent, stride, rate, groups, padding):
    x = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    kernel = torch.tensor(kernel).permute(3, 2, 0, 1).requires_grad_()
    if padding == "same":
        padding = tuple(k // 2 * rate for k in kernel.shape[2:])
    padding = 0 if padding == "valid" else padding
    y = torch.nn.functional.conv2d(x, kernel, stride=stride, dilation=rate, groups=groups, padding=padding)
    y.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    return (
        y.detach().permute(0, 2, 3, 1).numpy(),
        x.grad.permute(0, 2, 3, 1).numpy(),
        kernel.grad.permute(2, 3, 1, 0).numpy(),
    )


# Off the CPU only these take another way.
NATIVE = [case for case in CASES if case.startswith(("depthwise", "1x1", "rate 6", "rate 12", "rate 24"))]


@pytest.mark.parametrize(("case", "backend"), [(c, "cpu") for c in CASES] + [(c, "gpu") for c in NATIVE])
def test_equals_torch(case, backend, value_and_pullback):
    channels, features, size, stride, rate, groups, padding, height, width = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(*size, channels // groups, features)).astype(np.float32)

    def ours(a, k):
        return conv2d(a, k, stride=stride, rate=rate, groups=groups, padding=padding)

    with formulations(backend=backend):
        cotangent = rng.normal(size=jax.eval_shape(ours, x, kernel).shape).astype(np.float32)
        y, (dx, dk) = value_and_pullback(ours, cotangent, x, kernel)
    expected = torch_conv(x, kernel, cotangent, stride, rate, groups, padding)
    for name, mine, theirs in zip(("value", "input gradient", "kernel gradient"), (y, dx, dk), expected):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=3e-4, err_msg=name)


@pytest.mark.parametrize("case", ["1x1 wide", "rate 6", "depthwise", "groups"])
def test_bfloat16_stays_and_is_near(case):
    channels, features, size, _stride, rate, groups, _padding, height, width = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, height, width, channels)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(*size, channels // groups, features)), jnp.bfloat16)
    wide = conv2d(x.astype(jnp.float32), kernel.astype(jnp.float32), rate=rate, groups=groups)
    narrow = conv2d(x, kernel, rate=rate, groups=groups)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(np.float32), wide, rtol=2e-2, atol=2e-2 * float(jnp.abs(wide).max()))


def test_formulations_differ_in_what_is_traced():
    x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))

    def traced(**choice):
        with formulations(**choice):
            return str(jax.make_jaxpr(lambda a, k: conv2d(a, k, groups=4))(x, kernel))

    assert "conv_general_dilated" not in traced(backend="cpu")
    assert "feature_group_count=4" in traced(backend="tpu")
    assert "feature_group_count=4" in traced(backend="cpu", depthwise="native")


@pytest.mark.parametrize(("channels", "rate", "convolutions"), [(128, 12, 0), (128, 6, 1), (64, 12, 1)])
def test_wide_layers_of_large_rate_become_products_on_the_cpu(channels, rate, convolutions):
    with formulations(backend="cpu"):
        traced = jax.make_jaxpr(lambda a, k: conv2d(a, k, rate=rate))(
            jnp.zeros((1, 16, 16, channels)), jnp.zeros((3, 3, channels, channels))
        )
    assert str(traced).count("conv_general_dilated[") == convolutions


@pytest.mark.parametrize(("size", "convolutions"), [(7, 0), (9, 1)])
def test_depthwise_kernels_of_many_taps_stay_convolutions(size, convolutions):
    with formulations(backend="cpu"):
        traced = jax.make_jaxpr(lambda a, k: conv2d(a, k, groups=2))(
            jnp.zeros((1, 9, 9, 2)), jnp.zeros((size, size, 1, 2))
        )
    assert str(traced).count("conv_general_dilated[") == convolutions


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_split_rows_exchange_one_halo_for_all_taps(backend):
    mesh = jax.sharding.AbstractMesh((1, 2), ("data", "spatial"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
    with jax.sharding.use_abstract_mesh(mesh), formulations(backend=backend):
        traced = str(jax.make_jaxpr(lambda a, k: conv2d(a, k, groups=4))(x, kernel))
    assert traced.count("ppermute[") == 2  # one up, one down


@pytest.mark.parametrize("groups", [1, 3])
def test_kernel_that_does_not_fit(groups):
    with pytest.raises(ModelError, match="input of 4 channels"):
        conv2d(jnp.zeros((1, 4, 4, 4)), jnp.zeros((3, 3, 2, 3)), groups=groups)


def test_unknown_padding():
    with pytest.raises(ModelError, match="'SAME' is unknown"):
        conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), padding="SAME")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "stride=0 must be positive"),
        ({"stride": (2, -1)}, r"stride=\(2, -1\) must be positive"),
        ({"rate": 0}, "rate=0 must be positive"),
        ({"groups": 0}, "groups=0 must be positive"),
        ({"padding": "valid", "rate": 2}, r"kernel \(3, 3\) at rate \(2, 2\) is larger than the image \(4, 4\)"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(ModelError, match=message):
        conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), **arguments)


def test_bad_arrays_are_named():
    with pytest.raises(ModelError, match=r"\(4, 4, 1\)"):
        conv2d(jnp.zeros((4, 4, 1)), jnp.zeros((3, 3, 1, 1)))
    with pytest.raises(ModelError, match=r"kernel float32 .* does not fit an image bfloat16"):
        conv2d(jnp.zeros((1, 4, 4, 1), jnp.bfloat16), jnp.zeros((3, 3, 1, 1)))


@pytest.mark.parametrize("case", ["3x3", "1x1 wide", "rate 6", "depthwise", "groups"])
def test_nan_stays_nan(case):
    channels, features, size, _stride, rate, groups, _padding, height, width = CASES[case]
    x = jnp.ones((1, height, width, channels)).at[0, 3, 2].set(jnp.nan)
    with formulations(backend="cpu"):
        y = conv2d(x, jnp.ones((*size, channels // groups, features)), rate=rate, groups=groups)
    assert jnp.isnan(y[0, 3, 2]).all()


def test_the_stem_folds_its_stride():
    x, kernel = jnp.zeros((1, 9, 8, 3)), jnp.zeros((7, 7, 3, 4))

    def traced(**choice):
        with formulations(**choice):
            return str(jax.make_jaxpr(lambda a, k: conv2d(a, k, stride=2))(x, kernel))

    assert "window_strides=(1, 1)" in traced(stem="space_to_depth")
    assert "window_strides=(2, 2)" in traced(stem="native")
