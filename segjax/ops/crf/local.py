"""The Gaussian kernel cut to a window of pixels (Teichmann and Cipolla, Convolutional CRFs for semantic segmentation,
BMVC 2019, arXiv:1805.04777): another model than the dense CRF, not an approximation of it, and a cheap one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.pooling import avg_pool
from segjax.ops.resize import resize


def local_filter(
    features: jax.Array, values: jax.Array, window: int = 11, blur: int = 1, exclude_self: bool = False
) -> jax.Array:
    """out_p = sum exp(-|f_p - f_q|^2 / 2) v_q over the window x window pixels q around p.

    Args:
      features: [B, H, W, d] floating.
      values: [B, H, W, C] floating.
      window: odd, in pixels, or in steps of `blur` pixels.
      blur: filter means of blur x blur pixels, and interpolate the result bilinearly: the reach of a blur times larger
        window for less than the cost of this one. Each mean stands for blur^2 pixels.
      exclude_self: leave out q = p; needs blur = 1.

    Returns:
      [B, H, W, C] of the values' dtype, summed in float32 at least.
    """
    height, width = values.shape[1:3]
    wide = jnp.promote_types(values.dtype, jnp.float32)
    small, reference = values.astype(wide), features
    if blur > 1:
        means = lambda x: avg_pool(x, blur, ceil_mode=True, count_include_pad=False)  # noqa: E731
        small, reference = means(small), means(reference)
    out = _window_sum(reference, small, window // 2, exclude_self)
    if blur > 1:
        # On a grid that covers whole blocks, so that each mean sits at the centre of its pixels.
        rows, columns = (n * blur for n in out.shape[1:3])
        out = resize(out * blur**2, (rows, columns))[:, :height, :width]
    return out.astype(values.dtype)


def _window_sum(features: jax.Array, values: jax.Array, reach: int, exclude_self: bool) -> jax.Array:
    height, width = values.shape[1:3]
    around = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    padded_features, padded_values = jnp.pad(features, around), jnp.pad(values, around)

    # Recomputing a shift's kernel in the gradient costs less than keeping window^2 of them.
    @jax.checkpoint
    def shifted(padded_features, padded_values, dy, dx):
        f, v = (
            lax.dynamic_slice(x, (0, dy, dx, 0), (x.shape[0], height, width, x.shape[3]))
            for x in (padded_features, padded_values)
        )
        square = sum((f[..., i] - features[..., i]) ** 2 for i in range(f.shape[-1]))
        # A padded pixel has the value zero, so its kernel does not matter.
        return jnp.exp(-0.5 * square)[..., None].astype(v.dtype) * v

    side = 2 * reach + 1
    centre = side * side // 2

    def add(total, i):
        term = shifted(padded_features, padded_values, i // side, i % side)
        return total + (jnp.where(i == centre, 0.0, term) if exclude_self else term), None

    return lax.scan(add, jnp.zeros_like(values), jnp.arange(side * side))[0]
