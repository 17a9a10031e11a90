"""The dense CRF after a network (Krähenbühl and Koltun, NIPS 2011, arXiv:1210.5644), as DeepLab applies it (Chen et
al., arXiv:1412.7062, section 4.2): on batches of images that are padded.

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError
from segjax.core.schema import DatasetInfo
from segjax.ops.crf.features import bilateral_features
from segjax.ops.crf.filter import Filter, apply_filter, build_filter, build_gaussian
from segjax.ops.crf.per_device import per_device
from segjax.ops.geometry import inside
from segjax.tasks.semantic.config import CRF

_RANGE = {"uint8": 255.0, "uint16": 65535.0}
_SMALLEST = 1e-20  # of a normalisation's sum


def check_settings(settings: CRF, info: DatasetInfo) -> None:
    """A ConfigError where a colour bandwidth a channel is wanted and their numbers differ, or no grid can be made."""
    betas = np.atleast_1d(settings.theta_beta)
    if len(betas) not in (1, info.channels):
        raise ConfigError(
            f"config.eval.crf.theta_beta: {len(betas)} numbers for images of {info.channels} channels; give one, or "
            "one a channel."
        )
    if settings.method == "grid" and info.image_dtype not in _RANGE:
        raise ConfigError(
            f"config.eval.crf.method: grid needs pixels of a known range, not {info.image_dtype}; use lattice."
        )


def refine(
    logits: jax.Array, images: jax.Array, sizes: jax.Array, settings: CRF, info: DatasetInfo
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of the marginals after mean-field inference over each image.

    What lies outside an image sends no message and takes no part in the normalisation, so an image has the labels it
    would have without padding.

    Args:
      logits: [B, H, W, K], logits or log-probabilities.
      images: [B, H, W, C], as stored: bandwidths are in these units.
      sizes: int [B, 2], each image's true (height, width).
      settings: `config.eval.crf`.
      info: the data set's; its `image_dtype` bounds the pixels.

    Returns:
      float32 [B, H, W, K]; bool [], the lattice has overflowed and the logits are NaN; int32 [], vertices in use on one
      device.
    """

    def on_one(logits, images, sizes, _):
        shape, (batch, height, width, classes) = logits.shape, logits.shape
        mask = inside(sizes, height, width).reshape(batch, height * width, 1)
        alpha, beta = settings.theta_alpha, np.asarray(settings.theta_beta, np.float32)
        features = bilateral_features(images, alpha, beta)
        # Padding lies where the first pixel does: it makes no vertex of the lattice that the image has not.
        features = jnp.where(mask, features, features[:, :1])
        extent = None
        if info.image_dtype in _RANGE:
            colours = _RANGE[info.image_dtype] / np.broadcast_to(beta, info.channels)
            extent = ((width - 1) / alpha, (height - 1) / alpha, *map(float, colours))
        appearance = build_filter(
            features,
            settings.method,
            normalization="none",
            size=(height, width),
            extent=extent,
            capacity=settings.capacity,
        )
        smoothness = build_gaussian(batch, (height, width), settings.theta_gamma, normalization="none")
        kernels = (
            (settings.w_spatial, smoothness, _norm(smoothness, mask)),
            (settings.w_bilateral, appearance, _norm(appearance, mask)),
        )
        start = logits.reshape(batch, height * width, classes)

        def step(q, _):
            marginals = jax.nn.softmax(q)
            messages = (w * norm * apply_filter(kernel, norm * marginals) for w, kernel, norm in kernels)
            return start + sum(messages), None

        q, _ = jax.lax.scan(step, start, length=settings.iterations)
        return q.reshape(shape), appearance.overflow[None], appearance.count[None]

    refined, overflow, count = per_device(on_one, logits.astype(jnp.float32), images, sizes)
    return refined, overflow.any(), count.max()


def _norm(kernel: Filter, mask: jax.Array) -> jax.Array:
    """[B, N, 1], D^-1/2 M with the mask M and D = K M 1: the symmetric normalisation among the pixels of the mask."""
    total = apply_filter(kernel, mask.astype(jnp.float32))
    return jnp.where(mask, jax.lax.rsqrt(total + _SMALLEST), 0.0)
