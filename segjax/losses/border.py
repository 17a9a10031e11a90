"""Where classes meet, and the loss of a network that says so.

Shape legend: B batch, H height, W width, K classes, N border logits a pixel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.core.schema import IGNORE
from segjax.losses.base import counted_pixels
from segjax.losses.focal import Focal
from segjax.ops.pooling import max_pool

RADIUS = 3


def border_labels(labels: jax.Array, valid: jax.Array, num_classes: int, radius: int = RADIUS) -> jax.Array:
    """int32 [B, H, W]: 1 where a pixel of another class is at most `radius` rows and columns away, 0 where none is,
    IGNORE where the pixel itself does not count. A pixel that does not count is of no class, so void has no border.

    Yu et al. (DFN, CVPR 2018, arXiv:1804.09337, section 3.2) take Canny's edges of the label map. Their code
    (ycszen/TorchSeg, dataloader.py) widens those, one pixel thick, by a square of 7, on the host; with void as class
    0, so that its outline is a border too. This is the same band, 3 pixels on either side, of the labels alone.

    Args:
      labels: int [B, H, W]; anything outside 0..K-1 does not count.
      valid: bool [B, H, W].
      num_classes: K.
      radius: in pixels.
    """
    counted = counted_pixels(labels, valid, num_classes)
    labels = labels.astype(jnp.int32)
    # Two classes are in a window where its largest and its smallest differ; what does not count is neither.
    ends = jnp.stack([jnp.where(counted, labels, -1), jnp.where(counted, -labels, -num_classes)], axis=-1)
    ends = max_pool(ends, (2 * radius + 1, 1), 1, (radius, 0))
    ends = max_pool(ends, (1, 2 * radius + 1), 1, (0, radius))
    return jnp.where(counted, (ends[..., 0] != -ends[..., 1]).astype(jnp.int32), IGNORE)


def border_loss(
    logits: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    num_classes: int,
    *,
    radius: int = RADIUS,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> tuple[jax.Array, jax.Array]:
    """The focal loss of the sigmoid of each border logit, summed over the N, as the mean over the image's pixels.

    With p the probability of what a pixel is, and w = `alpha` on a border and 1 - `alpha` off it, the term of a pixel
    is w * (1 - p)^gamma * -log p (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5), which DFN
    takes; both constants are those of its code. The formula is not: `SigmoidFocalLoss` there falls with the logit
    whatever the label.

    Args:
      logits: float [B, H, W, N].
      labels, valid, num_classes, radius: see `border_labels`.
      gamma: how strongly pixels that are already right are turned down.
      alpha: weight of borders.

    Returns:
      values, weights: float32 [B], as an `ImageLoss` has them.
    """
    border = border_labels(labels, valid, num_classes, radius)
    focal = Focal(gamma)
    terms = jnp.zeros(labels.shape)
    for i in range(logits.shape[-1]):
        # The softmax of (0, z) is the sigmoid of z.
        pair = jnp.stack([jnp.zeros_like(logits[..., i]), logits[..., i]], axis=-1)
        values, _ = focal(pair, border, valid, class_weights=jnp.array([1 - alpha, alpha]))
        terms += values
    pixels = (border != IGNORE).sum(axis=(1, 2))
    return terms.sum(axis=(1, 2)) / jnp.maximum(pixels, 1), (pixels > 0).astype(jnp.float32)
