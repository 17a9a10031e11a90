"""What benchmarks/ops.py times: every operation, the plain flax or lax form of it, and PyTorch's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool, bin_edges
from segjax.ops.conv import conv2d
from segjax.ops.norm import batch_moments, batch_norm
from segjax.ops.pooling import avg_pool, global_avg_pool, max_pool, max_pool_argmax
from segjax.ops.resize import resize
from segjax.ops.unpool import max_unpool
from segjax.ops.upconv import conv_transpose2d

try:
    import torch.nn.functional as tf
except ImportError:
    tf = None

_OIHW = (3, 2, 0, 1)  # a convolution's kernel for PyTorch
_IOHW = (2, 3, 0, 1)  # a transposed convolution's


@dataclasses.dataclass(frozen=True)
class Case:
    """`ours`, `naive` and `torch` take an image and kernels of `shapes` (NHWC, HWIO; NCHW for torch, whose kernels have
    their axes permuted by `torch_kernels`); `same` is false where the naive form computes something else."""

    name: str
    shapes: list[tuple[int, ...]]
    ours: Callable
    naive: Callable
    torch: Callable
    torch_kernels: tuple[tuple[int, ...], ...] = ()
    same: bool = True


def _conv(name: str, image, kernel, stride=1, rate=1, groups=1) -> Case:
    pads = [k // 2 * rate for k in kernel[:2]]

    def naive(x, k):
        return lax.conv_general_dilated(
            x,
            k,
            (stride, stride),
            [(p, p) for p in pads],
            rhs_dilation=(rate, rate),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    return Case(
        name,
        [image, kernel],
        lambda x, k: conv2d(x, k, stride=stride, rate=rate, groups=groups),
        naive,
        lambda x, k: tf.conv2d(x, k, stride=stride, padding=pads, dilation=rate, groups=groups),
        (_OIHW,),
    )


def _separable(name: str, image, features: int, rate: int) -> Case:
    """Depthwise at a rate, then 1x1."""
    channels = image[-1]
    depthwise = _conv("", image, (3, 3, 1, channels), rate=rate, groups=channels)
    point = _conv("", image, (1, 1, channels, features))
    return Case(
        name,
        [image, (3, 3, 1, channels), (1, 1, channels, features)],
        lambda x, k, p: point.ours(depthwise.ours(x, k), p),
        lambda x, k, p: point.naive(depthwise.naive(x, k), p),
        lambda x, k, p: point.torch(depthwise.torch(x, k), p),
        (_OIHW, _OIHW),
    )


def _large_kernel(name: str, image, features: int, k: int) -> Case:
    """k x 1, 1 x k, plus 1 x k, k x 1."""
    channels = image[-1]
    inner = (*image[:3], features)
    tall, wide = _conv("", image, (k, 1, channels, features)), _conv("", image, (1, k, channels, features))
    second_tall, second_wide = (
        _conv("", inner, (k, 1, features, features)),
        _conv("", inner, (1, k, features, features)),
    )

    def pairs(form: str) -> Callable:
        a, b, c, d = (getattr(case, form) for case in (tall, second_wide, wide, second_tall))
        return lambda x, ka, kb, kc, kd: b(a(x, ka), kb) + d(c(x, kc), kd)

    shapes = [image, *(case.shapes[1] for case in (tall, second_wide, wide, second_tall))]
    return Case(name, shapes, pairs("ours"), pairs("naive"), pairs("torch"), (_OIHW,) * 4)


def _up(name: str, image, kernel, stride: int, padding: int, extra: int = 0) -> Case:
    around = [(k - 1 - padding, k - 1 - padding + extra) for k in kernel[:2]]

    def naive(x, k):
        return lax.conv_general_dilated(
            x,
            jnp.flip(k, (0, 1)),
            (1, 1),
            around,
            lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    return Case(
        name,
        [image, kernel],
        lambda x, k: conv_transpose2d(x, k, stride=stride, padding=padding, output_padding=extra),
        naive,
        lambda x, k: tf.conv_transpose2d(x, k, stride=stride, padding=padding, output_padding=extra),
        (_IOHW,),
    )


def _pool(name: str, image, kind: str, window: int, stride: int, padding: int) -> Case:
    around = ((padding, padding),) * 2
    ours, flax, torch = {
        "max": (max_pool, nn.max_pool, "max_pool2d"),
        "mean": (avg_pool, nn.avg_pool, "avg_pool2d"),
    }[kind]
    return Case(
        name,
        [image],
        lambda x: ours(x, window, stride, padding),
        lambda x: flax(x, (window, window), (stride, stride), around),
        lambda x: getattr(tf, torch)(x, window, stride, padding),
    )


def _pool_unpool(name: str, image) -> Case:
    def ours(x):
        values, code = max_pool_argmax(x)
        return max_unpool(values, code, x.shape[1:3])

    def naive(x):
        batch, height, width, channels = x.shape
        flat = lax.broadcasted_iota(jnp.int32, x.shape, 1) * width + lax.broadcasted_iota(jnp.int32, x.shape, 2)

        def larger(a, b):
            first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
            return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

        lowest = (jnp.asarray(-jnp.inf, x.dtype), jnp.int32(height * width))
        operands = (lax.stop_gradient(x), flat)
        _, index = lax.reduce_window(operands, lowest, larger, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        index = index.reshape(batch, -1, channels)
        pixels = x.reshape(batch, height * width, channels)
        values = jnp.take_along_axis(pixels, index, axis=1)
        image_, channel = jnp.arange(batch)[:, None, None], jnp.arange(channels)
        return jnp.zeros_like(pixels).at[image_, index, channel].set(values).reshape(x.shape)

    def torch(x):
        values, index = tf.max_pool2d(x, 2, return_indices=True)
        return tf.max_unpool2d(values, index, 2, output_size=x.shape[2:])

    return Case(name, [image], ours, naive, torch)


def _resize(name: str, image, size, method: str, antialias: bool = False, same: bool = True) -> Case:
    plain = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}[method]
    how = {} if method == "nearest" else {"antialias": antialias}
    return Case(
        name,
        [image],
        lambda x: resize(x, size, method, **how),
        lambda x: jax.image.resize(x, (x.shape[0], *size, x.shape[3]), plain, antialias=antialias),
        lambda x: tf.interpolate(x, size, mode=method, **how),
        same=same,
    )


def _adaptive(name: str, image, kind: str, levels: tuple[int, ...]) -> Case:
    """All levels, their bins in one row."""
    ours, reduce, torch = {
        "mean": (adaptive_avg_pool, jnp.mean, "adaptive_avg_pool2d"),
        "max": (adaptive_max_pool, jnp.max, "adaptive_max_pool2d"),
    }[kind]

    def naive(x, bins):
        rows, columns = (list(zip(*bin_edges(size, bins))) for size in x.shape[1:3])
        cells = [reduce(x[:, a:b, c:d], axis=(1, 2)) for a, b in rows for c, d in columns]
        return jnp.stack(cells, 1)[:, None]

    def all_ours(x):
        return jnp.concatenate([ours(x, bins).reshape(x.shape[0], 1, -1, x.shape[3]) for bins in levels], 2)

    def all_torch(x):
        from torch import cat

        return cat([getattr(tf, torch)(x, bins).flatten(2)[:, :, None] for bins in levels], 3)

    return Case(name, [image], all_ours, lambda x: jnp.concatenate([naive(x, b) for b in levels], 2), all_torch)


def _strips(name: str, image) -> Case:
    """Means of rows plus means of columns."""
    return Case(
        name,
        [image],
        lambda x: adaptive_avg_pool(x, (None, 1)) + adaptive_avg_pool(x, (1, None)),
        lambda x: jnp.mean(x, 2, keepdims=True) + jnp.mean(x, 1, keepdims=True),
        lambda x: tf.adaptive_avg_pool2d(x, (None, 1)) + tf.adaptive_avg_pool2d(x, (1, None)),
    )


def _image_pool(name: str, image) -> Case:
    """The image's mean at every pixel."""
    return Case(
        name,
        [image],
        lambda x: jnp.broadcast_to(global_avg_pool(x), x.shape),
        lambda x: jnp.broadcast_to(jnp.mean(x, (1, 2), keepdims=True), x.shape),
        lambda x: tf.adaptive_avg_pool2d(x, 1).expand(x.shape),
    )


def _batch_norm(name: str, image) -> Case:
    channels = image[-1]
    layer = nn.BatchNorm(use_running_average=False, epsilon=1e-5)
    start = {"batch_stats": {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}}

    def naive(x, scale, bias):
        return layer.apply({"params": {"scale": scale, "bias": bias}, **start}, x, mutable=["batch_stats"])[0]

    return Case(
        name,
        [image, (channels,), (channels,)],
        lambda x, scale, bias: batch_norm(x, scale, bias, *batch_moments(x)),
        naive,
        lambda x, scale, bias: tf.batch_norm(x, None, None, scale, bias, training=True),
        ((0,), (0,)),
    )


CASES = [
    _conv("convolution 3x3", (1, 180, 240, 64), (3, 3, 64, 64)),
    _conv("convolution 3x3 stride 2", (1, 180, 240, 64), (3, 3, 64, 128), stride=2),
    _conv("convolution 1x1", (2, 90, 120, 256), (1, 1, 256, 256)),
    _conv("stem 7x7 stride 2", (1, 352, 480, 3), (7, 7, 3, 64), stride=2),
    _conv("stem 3x3 stride 2", (1, 352, 480, 3), (3, 3, 3, 32), stride=2),
    _conv("atrous rate 2", (1, 45, 60, 256), (3, 3, 256, 256), rate=2),
    _conv("atrous rate 6", (1, 45, 60, 256), (3, 3, 256, 256), rate=6),
    _conv("atrous rate 12", (1, 45, 60, 256), (3, 3, 256, 256), rate=12),
    _conv("atrous rate 24", (1, 45, 60, 256), (3, 3, 256, 256), rate=24),
    _conv("atrous rate 64, beyond the map", (1, 45, 60, 256), (3, 3, 256, 256), rate=64),
    _conv("depthwise 3x3", (1, 180, 240, 64), (3, 3, 1, 64), groups=64),
    _conv("depthwise 3x3 stride 2", (1, 180, 240, 64), (3, 3, 1, 64), stride=2, groups=64),
    _separable("atrous separable rate 12", (1, 45, 60, 256), 256, rate=12),
    _conv("grouped 8", (2, 90, 120, 64), (3, 3, 8, 64), groups=8),
    _large_kernel("large separable 15", (1, 45, 60, 256), 21, 15),
    _up("up-convolution 2x2 stride 2", (2, 45, 60, 128), (2, 2, 128, 64), 2, 0),
    _up("up-convolution 3x3 stride 2", (2, 45, 60, 128), (3, 3, 128, 64), 2, 1, 1),
    _up("up-convolution 4x4 stride 2", (2, 45, 60, 128), (4, 4, 128, 64), 2, 1),
    _up("up-convolution 16x16 stride 8", (1, 45, 60, 21), (16, 16, 21, 21), 8, 4),
    _pool("max pool 2x2", (1, 180, 240, 64), "max", 2, 2, 0),
    _pool("max pool 3x3 stride 2", (1, 180, 240, 64), "max", 3, 2, 1),
    _pool("mean pool 3x3 stride 2", (1, 180, 240, 64), "mean", 3, 2, 1),
    _pool_unpool("argmax pool and unpool", (1, 180, 240, 64)),
    _resize("bilinear x8, 12 channels", (1, 45, 60, 12), (360, 480), "bilinear"),
    _resize("bilinear x8, 64 channels", (1, 45, 60, 64), (360, 480), "bilinear"),
    _resize("bilinear x2, 256 channels", (1, 45, 60, 256), (90, 120), "bilinear"),
    # jax.image takes a = -0.5 where PyTorch takes -0.75.
    _resize("bicubic x2, 64 channels", (1, 90, 120, 64), (180, 240), "bicubic", same=False),
    _resize("bilinear / 2, antialias", (1, 180, 240, 64), (90, 120), "bilinear", antialias=True),
    _resize("nearest x2", (1, 90, 120, 64), (180, 240), "nearest"),
    _adaptive("pyramid of means 1-2-3-6", (1, 60, 60, 512), "mean", (1, 2, 3, 6)),
    _adaptive("pyramid of maxima 1-2-3-6", (1, 60, 60, 512), "max", (1, 2, 3, 6)),
    _strips("strip means", (1, 60, 60, 512)),
    _image_pool("image mean, repeated", (1, 45, 60, 256)),
    _batch_norm("batch norm", (1, 180, 240, 64)),
]
