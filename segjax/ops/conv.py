"""Convolution: one function, the formulation chosen by `segjax.ops.formulation`."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops import long_rows, winograd
from segjax.ops.ambient import row_shards
from segjax.ops.border import border
from segjax.ops.conv_gradient import conv_by
from segjax.ops.formulation import formulation
from segjax.ops.geometry import Padding, Pair, check_image, check_positive, explicit_padding, pair
from segjax.ops.halo import map_windows
from segjax.ops.kept import gradient_kept
from segjax.ops.precision import wide_type, widen
from segjax.ops.shifts import shifts
from segjax.ops.stem import fold_stride

_NHWC = ("NHWC", "HWIO", "NHWC")
_NO_PADS = ((0, 0), (0, 0))

# Above so many channels (an image and its depth) folding the stride adds zeros to multiply and wins nothing.
_STEM = 4


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int | Pair = 1,
    rate: int | Pair = 1,
    groups: int = 1,
    padding: Padding = "same",
) -> jax.Array:
    """Cross-correlation, equal to `torch.nn.functional.conv2d`.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C / groups, features], of x's dtype.
      stride: step of the window, in pixels.
      rate: distance between the kernel's taps, in pixels (1: dense).
      groups: the channels are split into so many independent convolutions; `groups == C` is depthwise.
      padding: `"same"` (kernel // 2 * rate on both sides), `"valid"`, an int, or ((top, bottom), (left, right)).

    Returns:
      [B, H', W', features] of x's dtype.

    Raises:
      ModelError: the kernel does not fit the channels and groups, or the padded image; numbers that are not positive;
        two dtypes.
    """
    check_image(x, "conv2d")
    check_positive("conv2d", stride=stride, rate=rate, groups=groups)
    if kernel.ndim != 4 or kernel.dtype != x.dtype:
        raise ModelError(f"conv2d: a kernel {kernel.dtype} {kernel.shape} does not fit an image {x.dtype} {x.shape}")
    size, stride, rate = (kernel.shape[0], kernel.shape[1]), pair(stride), pair(rate)
    pads = explicit_padding(padding, size, rate)
    channels, features = x.shape[-1], kernel.shape[-1]
    if channels != kernel.shape[2] * groups or features % groups:
        raise ModelError(f"a kernel {kernel.shape} in {groups} groups does not fit an input of {channels} channels")
    if any(n + sum(p) <= (k - 1) * r for n, p, k, r in zip(x.shape[1:3], pads, size, rate)):
        raise ModelError(
            f"conv2d: a kernel {size} at rate {rate} is larger than the image {x.shape[1:3]} padded {pads}"
        )

    kernel, pads = _seen_taps(x, kernel, stride, rate, pads)
    if row_shards() == 1 or (kernel.shape[0], stride[0], pads[0]) == (1, 1, (0, 0)):
        y = _conv(x, kernel, stride, rate, groups, pads)
    else:
        y = map_windows(
            lambda part, kernel: _conv(part, kernel, stride, rate, groups, ((0, 0), pads[1])),
            x,
            kernel,
            span=(kernel.shape[0] - 1) * rate[0] + 1,
            stride=stride[0],
            padding=pads[0],
        )
    # Both gradients read it, and of many shifts.
    return gradient_kept(y)


def _seen_taps(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads: tuple[Pair, Pair]):
    """(kernel, pads) without the outer rows and columns of taps that meet only padding: of a 3x3 kernel whose rate is
    the map's height or more, the middle row stays."""
    cut = []
    for size, taps, s, r, (before, after) in zip(x.shape[1:3], kernel.shape[:2], stride, rate, pads):
        outputs = (size + before + after - (taps - 1) * r - 1) // s + 1
        seen = [
            tap
            for tap, offset in enumerate(range(-before, taps * r - before, r))
            if max(0, -(offset // s)) * s + offset < size and max(0, -(offset // s)) < outputs
        ]
        first, last = (seen[0], seen[-1]) if seen else (0, 0)
        cut.append((first, last + 1, (before - first * r, after - (taps - 1 - last) * r)))
    rows, columns = cut
    return kernel[rows[0] : rows[1], columns[0] : columns[1]], (rows[2], columns[2])


def _conv(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, groups: int, pads: tuple[Pair, Pair]) -> jax.Array:
    """`conv2d` of an image that one device holds, or under a partitioner that needs no help."""
    size, channels, features = kernel.shape[:2], x.shape[-1], kernel.shape[-1]
    if groups > 1 and groups == channels:
        if formulation("depthwise", taps=math.prod(size)) == "shift":
            return _depthwise_shift(jnp.repeat(x, features // groups, axis=-1), kernel, stride, rate, pads)
        return _native(x, kernel, stride, rate, pads, groups)
    if groups > 1:
        if formulation("grouped") == "native":
            return _native(x, kernel, stride, rate, pads, groups)
        parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1))
        return jnp.concatenate([_conv(part, weights, stride, rate, 1, pads) for part, weights in parts], axis=-1)
    if size == (1, 1) and pads == _NO_PADS and formulation("pointwise", channels=min(channels, features)) == "dot":
        return jnp.dot(x[:, :: stride[0], :: stride[1]], kernel[0, 0])
    if channels <= _STEM and min(stride) > 1 and rate == (1, 1) and formulation("stem") == "space_to_depth":
        x, kernel, pads = fold_stride(x, kernel, stride, pads)
        stride = (1, 1)
    return _ungrouped(x, kernel, stride, rate, pads)


def _ungrouped(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """The convolution of one group, its result and its kernel's gradient as the table has them."""
    fewer, more = sorted(kernel.shape[2:])
    barred = () if long_rows.suits(kernel.shape, stride) else ("long_rows",)
    # float64 is there to compare, and bfloat16 would round the transforms.
    if x.dtype != jnp.float32 or not winograd.suits(x.shape, kernel.shape, stride, rate, pads):
        barred += ("winograd",)
    choose = functools.partial(
        formulation,
        channels=fewer,
        rate=max(rate),
        taps=math.prod(kernel.shape[:2]),
        ratio=more / fewer,
        pixels=math.prod(x.shape[:3]),
        barred=barred,
    )
    filtering = choose("unstrided") if stride == (1, 1) else "native"
    if filtering == "crop":
        return _atrous_crop(x, kernel, rate, pads)
    gradient = choose("kernel_gradient")
    # Products, tiles and joined rows see all pixels as one axis, for which XLA would gather rows that devices hold.
    if (filtering, gradient) == ("native", "native") or row_shards() > 1:
        return _native(x, kernel, stride, rate, pads)
    x, pads = _padded(x, kernel, rate, pads)
    return conv_by(x, kernel, stride, rate, pads, filtering, gradient)


def _native(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads, groups: int = 1) -> jax.Array:
    x, pads = _padded(x, kernel, rate, pads)
    return lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=rate, dimension_numbers=_NHWC, feature_group_count=groups
    )


def _padded(x: jax.Array, kernel: jax.Array, rate: Pair, pads: tuple[Pair, Pair]):
    """(x, pads): of an image smaller than the result XLA:CPU computes the kernel's gradient by a plain loop, many times
    slower, so that the image is padded first."""
    if all(sum(p) <= (k - 1) * r for p, k, r in zip(pads, kernel.shape, rate)):
        return x, pads
    return border(x, *pads), _NO_PADS


# Written out, the gradients are products of the same rectangles: a sixth less time than the derivative that jax makes.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _atrous_crop(x: jax.Array, kernel: jax.Array, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """Each tap multiplies only the rectangle it sees of the image; a tap wholly in the padding is skipped."""
    size, rectangles = _rectangles(x.shape, kernel.shape, rate, pads)
    wide = wide_type(x.dtype)
    total = jnp.zeros((x.shape[0], *size, kernel.shape[-1]), wide)
    for (i, j), seen, written in rectangles:
        tap = jnp.dot(_cut(x, seen), kernel[i, j], preferred_element_type=wide)
        total = total + _embed(tap, written, size)
    return total.astype(x.dtype)


def _rectangles(shape: tuple[int, ...], kernel_shape: tuple[int, ...], rate: Pair, pads: tuple[Pair, Pair]):
    """The result's (H, W), and for every tap that sees the image (tap, what it sees of the input, the pixels of the
    result that it adds to), both as (rows, columns), each (first, last + 1)."""
    size = [n + sum(p) - (k - 1) * r for n, p, k, r in zip(shape[1:3], pads, kernel_shape, rate)]
    found = []
    for tap in np.ndindex(*kernel_shape[:2]):
        offset = [t * r - p[0] for t, r, p in zip(tap, rate, pads)]  # the tap sees pixel output + offset
        written = [(max(0, -d), min(m, n - d)) for d, m, n in zip(offset, size, shape[1:3])]
        if all(first < last for first, last in written):
            seen = [(first + d, last + d) for (first, last), d in zip(written, offset)]
            found.append((tap, seen, written))
    return (size[0], size[1]), found


def _cut(x: jax.Array, rectangle: list[Pair]) -> jax.Array:
    (top, bottom), (left, right) = rectangle
    return x[:, top:bottom, left:right]


def _embed(x: jax.Array, rectangle: list[Pair], size: Pair) -> jax.Array:
    """x at the rectangle of an image of `size`, zeros around."""
    around = [(first, n - last) for (first, last), n in zip(rectangle, size)]
    return jnp.pad(x, ((0, 0), *around, (0, 0)))


def _atrous_forward(x, kernel, rate, pads):
    return _atrous_crop(x, kernel, rate, pads), (x, kernel)


def _atrous_backward(rate, pads, saved, gradient):
    x, kernel = saved
    wide = wide_type(x.dtype)
    dx = jnp.zeros_like(x, wide)
    taps = {tap: jnp.zeros_like(kernel[tap]) for tap in np.ndindex(*kernel.shape[:2])}
    for tap, seen, written in _rectangles(x.shape, kernel.shape, rate, pads)[1]:
        outer = _cut(gradient, written)
        back = jnp.dot(outer, kernel[tap].T, preferred_element_type=wide)
        dx = dx + _embed(back, seen, x.shape[1:3])
        inner, outer = (a.reshape(-1, a.shape[-1]) for a in (_cut(x, seen), outer))
        taps[tap] = jnp.dot(inner.T, outer, preferred_element_type=wide).astype(kernel.dtype)
    return dx.astype(x.dtype), jnp.stack(list(taps.values())).reshape(kernel.shape)


_atrous_crop.defvjp(_atrous_forward, _atrous_backward)


# XLA:CPU compiles the derivative of this sum of slices to one padded addition a tap; written out, both gradients are
# again sums of shifted products.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise_shift(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads) -> jax.Array:
    """Depthwise convolution as a sum of shifted products; kernel [kh, kw, 1, C]."""
    total = 0.0
    for i, j, shifted in shifts(x, kernel.shape[:2], stride, rate, pads):
        total = total + widen(shifted) * kernel[i, j, 0]
    return total.astype(x.dtype)


def _depthwise_forward(x, kernel, stride, rate, pads):
    return _depthwise_shift(x, kernel, stride, rate, pads), (x, kernel)


def _depthwise_backward(stride, rate, pads, saved, gradient):
    x, kernel = saved
    taps = [
        jnp.sum(widen(shifted) * gradient, axis=(0, 1, 2))
        for _, _, shifted in shifts(x, kernel.shape[:2], stride, rate, pads)
    ]
    # With the stride's gaps filled with zeros, the input's gradient is the full correlation with the flipped kernel.
    gaps = ((0, 0, 0), (0, 0, stride[0] - 1), (0, 0, stride[1] - 1), (0, 0, 0))
    spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), gaps)
    reach = [(k - 1) * r for k, r in zip(kernel.shape[:2], rate)]
    before = [reach[axis] - pads[axis][0] for axis in (0, 1)]
    after = [x.shape[1 + a] + reach[a] - spread.shape[1 + a] - before[a] for a in (0, 1)]
    back = ((before[0], after[0]), (before[1], after[1]))
    dx = _depthwise_shift(spread, jnp.flip(kernel, (0, 1)), (1, 1), rate, back)
    return dx, jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_depthwise_shift.defvjp(_depthwise_forward, _depthwise_backward)
