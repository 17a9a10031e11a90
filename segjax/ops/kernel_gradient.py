"""A convolution whose kernel's gradient is matrix products over the pixels instead of a convolution.

XLA writes that gradient as a convolution whose window is the whole image, which its CPU compiler runs at a fraction of
the speed of the forward pass.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.geometry import Pair
from segjax.ops.precision import wide_type
from segjax.ops.shifts import shifts

_NHWC = ("NHWC", "HWIO", "NHWC")
# So many times more channels in than out, one product with all shifts of the gradient reads the image once.
_NARROWING = 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv_by_products(x: jax.Array, kernel: jax.Array, stride: Pair, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """XLA's convolution of x [B, H, W, C] with a kernel [kh, kw, C, features]; only the gradient is another."""
    return lax.conv_general_dilated(x, kernel, stride, pads, rhs_dilation=rate, dimension_numbers=_NHWC)


def _forward(x, kernel, stride, rate, pads):
    return conv_by_products(x, kernel, stride, rate, pads), (x, kernel)


def _backward(stride, rate, pads, saved, gradient):
    x, kernel = saved
    convolve = functools.partial(
        lax.conv_general_dilated, window_strides=stride, padding=pads, rhs_dilation=rate, dimension_numbers=_NHWC
    )
    (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(gradient)
    size, (channels, features) = kernel.shape[:2], kernel.shape[2:]
    multiply = functools.partial(jnp.dot, preferred_element_type=wide_type(kernel.dtype))
    if stride == (1, 1) and channels >= _NARROWING * features:
        # As pixel p of the image sees it, tap t's gradient stands at p - t: the taps in reverse, padded by the rest.
        rest = [tuple((k - 1) * r - p for p in pad) for k, r, pad in zip(size, rate, pads)]
        shifted = [part for _, _, part in shifts(gradient, size, (1, 1), rate, (rest[0], rest[1]))][::-1]
        stacked = jnp.concatenate(shifted, axis=-1).reshape(-1, len(shifted) * features)
        product = multiply(x.reshape(-1, channels).T, stacked)
        dkernel = product.reshape(channels, *size, features).transpose(1, 2, 0, 3)
    else:
        flat = gradient.reshape(-1, features)
        seen = [part.reshape(-1, channels) for _, _, part in shifts(x, size, stride, rate, pads)]
        dkernel = jnp.stack([multiply(part.T, flat) for part in seen]).reshape(kernel.shape)
    return dx, dkernel.astype(kernel.dtype)


conv_by_products.defvjp(_forward, _backward)
