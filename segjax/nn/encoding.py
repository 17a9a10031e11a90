"""A learned dictionary's residuals."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.nn.conv import Conv, ConvNorm
from segjax.nn.norm import BatchNorm
from segjax.ops.precision import widen


class Encoding(nn.Module):
    """The residuals of an image's pixels from K codewords, softly assigned (Zhang, Xue, Dana. Deep TEN: texture
    encoding network. CVPR 2017, arXiv:1612.02844, equations 1 to 3): [B, H, W, D] -> float32 [B, K, D].

    Pixel i belongs to codeword k by a_ik = softmax over k of s_k |x_i - d_k|^2; the result is sum_i a_ik (x_i - d_k).
    Parameters `codewords` [K, D] and `smoothing` [K], which starts between -1 and 0. All float32.

    Attributes:
      codes: K.
    """

    codes: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        depth = x.shape[-1]
        bound = (self.codes * depth) ** -0.5
        uniform = lambda low, high: lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high)  # noqa: E731
        codewords = self.param("codewords", uniform(-bound, bound), (self.codes, depth))
        smoothing = self.param("smoothing", uniform(-1.0, 0.0), (self.codes,))
        x = widen(x).reshape(x.shape[0], -1, depth)
        # |x - d|^2 and the sum of residuals, expanded: the differences themselves would be N x K x D numbers.
        distances = jnp.square(x).sum(-1)[..., None] - 2 * x @ codewords.T + jnp.square(codewords).sum(-1)
        shares = nn.softmax(smoothing * distances, axis=-1)
        return jnp.einsum("bnk,bnd->bkd", shares, x) - shares.sum(1)[..., None] * codewords


class ContextEncoding(nn.Module):
    """The context encoding module (Zhang et al. Context encoding for semantic segmentation. CVPR 2018,
    arXiv:1803.08904, section 3.1): what the image contains, as an `Encoding`, decides channel by channel how much of x
    is added to it.

    [B, H, W, C] -> the same shape, rectified; called `(x, train)`. Children: `project` (1x1 ConvNorm), `encoding`,
    `norm` (over the codewords), `gate` (1x1 convolution).

    Attributes:
      codes: codewords.
      dtype: of the arithmetic outside the encoding.
    """

    codes: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        code = Encoding(self.codes, name="encoding")(
            ConvNorm(x.shape[-1], 1, dtype=self.dtype, name="project")(x, train)
        )
        code = nn.relu(BatchNorm(name="norm")(code.swapaxes(1, 2), train))  # [B, C, codes]: a scale a codeword
        gate = Conv(x.shape[-1], 1, dtype=self.dtype, name="gate")(code.mean(-1)[:, None, None])
        return nn.relu(x + x * nn.sigmoid(gate))
