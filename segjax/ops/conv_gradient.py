"""A convolution whose forward pass and gradients are each written as its caller chose.

XLA writes the kernel's gradient as a convolution whose window is the whole image, which its CPU compiler runs at a
fraction of the speed of the forward pass. Here it is matrix products over the pixels, or Winograd's.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops import long_rows, winograd
from segjax.ops.geometry import Pair
from segjax.ops.precision import wide_type
from segjax.ops.shifts import shifts

_NHWC = ("NHWC", "HWIO", "NHWC")
# One product with all shifts of the gradient reads the image once: worth their copies for so few taps, or where there
# are so many times more channels in than out.
_TAPS, _NARROWING = 3, 2
_OURS = {"long_rows": long_rows.convolve, "winograd": winograd.convolve}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def conv_by(
    x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads: tuple[Pair, Pair], filtering: str, gradient: str
) -> jax.Array:
    """Convolution of x [B, H, W, C] with a kernel [kh, kw, C, features].

    Args:
      x: the image.
      kernel: its taps.
      stride, rate, pads: of rows and columns.
      filtering: "native", "long_rows" or "winograd" (where it `suits`), of the result and of the image's gradient.
      gradient: "native", "products" or "winograd", of the kernel's gradient.
    """
    if filtering in _OURS:
        return _OURS[filtering](x, kernel, rate, pads)
    return _native(x, kernel, stride, rate, pads)


def _native(x, kernel, stride, rate, pads):
    return lax.conv_general_dilated(x, kernel, stride, pads, rhs_dilation=rate, dimension_numbers=_NHWC)


def _forward(x, kernel, stride, rate, pads, filtering, gradient):
    return conv_by(x, kernel, stride, rate, pads, filtering, gradient), (x, kernel)


def _backward(stride, rate, pads, filtering, gradient, saved, cotangent):
    x, kernel = saved
    convolve = functools.partial(_native, stride=stride, rate=rate, pads=pads)
    # As pixel p of the image sees it, tap t's gradient stands at p - t: the taps in reverse, padded by the rest.
    reach = [(k - 1) * r for k, r in zip(kernel.shape, rate)]
    rest = tuple((r - before, r - after) for r, (before, after) in zip(reach, pads))
    if filtering in _OURS:
        dx = _OURS[filtering](cotangent, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), rate, rest)
    else:
        (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(cotangent)
    if gradient == "winograd":
        dkernel = winograd.kernel_gradient(x, cotangent, kernel.shape[:2], rate, pads)
    elif gradient == "products":
        dkernel = _products(x, cotangent, kernel, stride, rate, pads, rest)
    else:
        (dkernel,) = jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(cotangent)
    return dx, dkernel.astype(kernel.dtype)


def _products(x, cotangent, kernel, stride, rate, pads, rest):
    """The kernel's gradient, one product of all pixels a tap."""
    size, (channels, features) = kernel.shape[:2], kernel.shape[2:]
    multiply = functools.partial(jnp.dot, preferred_element_type=wide_type(kernel.dtype))
    if stride == (1, 1) and (math.prod(size) <= _TAPS or channels >= _NARROWING * features):
        shifted = [part for _, _, part in shifts(cotangent, size, (1, 1), rate, rest)][::-1]
        stacked = jnp.concatenate(shifted, axis=-1).reshape(-1, len(shifted) * features)
        product = multiply(x.reshape(-1, channels).T, stacked)
        return product.reshape(channels, *size, features).transpose(1, 2, 0, 3)
    flat = cotangent.reshape(-1, features)
    seen = [part.reshape(-1, channels) for _, _, part in shifts(x, size, stride, rate, pads)]
    return jnp.stack([multiply(part.T, flat) for part in seen]).reshape(kernel.shape)


conv_by.defvjp(_forward, _backward)
