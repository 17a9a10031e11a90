"""Values at points of a map, and points where a mask is uncertain.

H, W, C of one image's map; N points x, y, relative: 0 is the left or upper edge, 1 the right or lower one, so maps of
any size agree on a place.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.precision import wide_type, widen


def sample_points(features: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear values at points: `grid_sample(features, 2 * points - 1, align_corners=False)`, zeros outside.

    Four gathers. Both arguments have gradients.

    Args:
      features: floating [H, W, C].
      points: [..., 2] x, y, relative to the map; finite.

    Returns:
      [..., C] of the features' dtype.
    """
    chex.assert_rank(features, 3)
    chex.assert_axis_dimension(points, -1, 2)
    height, width, _ = features.shape
    place = widen(points) * jnp.asarray([width, height]) - 0.5
    low = jnp.floor(place)
    share = place - low
    total = 0.0
    for right in (0, 1):
        for below in (0, 1):
            corner = low + jnp.asarray([right, below])
            inside = jnp.all((corner >= 0) & (corner < jnp.asarray([width, height])), axis=-1)
            x, y = (jnp.where(inside, corner[..., axis], 0).astype(jnp.int32) for axis in (0, 1))
            weight = jnp.abs(1 - right - share[..., 0]) * jnp.abs(1 - below - share[..., 1])
            value = features[y, x].astype(wide_type(features.dtype))
            total = total + jnp.where(inside, weight, 0)[..., None] * value
    return total.astype(features.dtype)


def uncertain_points(
    logits: jax.Array,
    key: jax.Array,
    count: int,
    oversample: float = 3.0,
    importance: float = 0.75,
    uncertainty: Callable[[jax.Array], jax.Array] = lambda logits: -jnp.abs(logits[..., 0]),
) -> jax.Array:
    """Points to train a mask at: the most uncertain of many drawn uniformly, and some drawn uniformly.

    Kirillov et al., PointRend, CVPR 2020, section 3.1; the defaults are Mask2Former's too. No gradient.

    Args:
      logits: floating [H, W, C] of one mask or image.
      key: PRNG key; one for each mask.
      count: N, static.
      oversample: points drawn a point wanted.
      importance: share of N that is taken for its uncertainty; rounded down.
      uncertainty: sampled logits [..., C] -> [...], larger where it is less certain; by default minus the size of the
        only channel.

    Returns:
      float32 [N, 2] x, y, relative: the uncertain ones first, the most uncertain ahead.

    Raises:
      ModelError: a count that is not positive, an oversample below 1, or an importance outside 0..1.
    """
    if count < 1 or oversample < 1 or not 0 <= importance <= 1:
        raise ModelError(
            f"uncertain_points: count={count} must be positive, oversample={oversample} at least 1 and "
            f"importance={importance} within 0..1"
        )
    drawn_key, uniform_key = jax.random.split(key)
    points = jax.random.uniform(drawn_key, (int(count * oversample), 2), jnp.float32)
    taken = int(count * importance)
    _, index = lax.top_k(uncertainty(sample_points(lax.stop_gradient(logits), points)), taken)
    uniform = jax.random.uniform(uniform_key, (count - taken, 2), jnp.float32)
    return jnp.concatenate([points[index], uniform])
