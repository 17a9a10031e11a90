"""The features whose Gaussian the pairwise terms are (Krähenbühl and Koltun, NIPS 2011, arXiv:1210.5644, eq. 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError, SizeError


def spatial_features(height: int, width: int, theta: float | jax.Array) -> jax.Array:
    """float32 [H*W, 2]: (x, y) / theta in pixels, row by row; the smoothness kernel's features."""
    check_bandwidth("theta", theta)
    y, x = jnp.meshgrid(jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij")
    return jnp.stack([x, y], -1).reshape(height * width, 2) / theta


def bilateral_features(image: jax.Array, theta_alpha: float | jax.Array, theta_beta: float | jax.Array) -> jax.Array:
    """The appearance kernel's features: (x, y) / theta_alpha, channels / theta_beta.

    Args:
      image: [B, H, W, K] or [H, W, K], any K and any real dtype; a natural image in 0..255.
      theta_alpha: standard deviation in pixels.
      theta_beta: standard deviation in units of the image, a number or [K].

    Returns:
      float32 [B, H*W, 2 + K] or [H*W, 2 + K].

    Raises:
      SizeError: another rank. ModelError: a bandwidth that is not positive.
    """
    if image.ndim not in (3, 4):
        raise SizeError(f"image has shape {image.shape}; a dense CRF takes [B, H, W, K] or [H, W, K]")
    check_bandwidth("theta_beta", theta_beta)
    height, width, channels = image.shape[-3:]
    lead = image.shape[:-3]
    where = jnp.broadcast_to(spatial_features(height, width, theta_alpha), (*lead, height * width, 2))
    colour = (
        image.astype(jnp.promote_types(image.dtype, jnp.float32)).reshape(*lead, height * width, channels) / theta_beta
    )
    return jnp.concatenate([where, colour], -1)


def check_bandwidth(name: str, value: float | jax.Array) -> None:
    """A ModelError unless every entry is positive and finite; a traced value is let through."""
    if isinstance(value, jax.core.Tracer):
        return
    if not (np.all(np.isfinite(value)) and np.all(np.asarray(value) > 0)):
        raise ModelError(f"{name}={value} is not a bandwidth: give a positive standard deviation")
