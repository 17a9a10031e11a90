"""Online hard example mining: cross entropy of the pixels a network is not yet sure of."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from segjax.losses.base import PixelLoss, label_weights
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.hard_pixels import keep, kth_surprise


@dataclasses.dataclass(frozen=True)
class OHEM(PixelLoss):
    """Mean cross entropy of the pixels whose label has a probability below a threshold, or of the hardest share of the
    image where those are fewer.

    Shrivastava, Gupta, Girshick. Training region-based object detectors with online hard example mining. CVPR 2016.
    arXiv:1604.03540. For pixels, with a threshold: Wu, Shen, van den Hengel. High-performance semantic segmentation
    using very deep fully convolutional networks. arXiv:1604.04339.

    HRNet's and BiSeNet's code choose among the pixels of a device's batch; here each image chooses among its own, so
    that the loss does not depend on how a batch is divided. The kept pixels' mean is by class weight, and an image's
    weight in the batch that of all its pixels.

    Attributes:
      threshold: probability below which a pixel is kept; 0.7 in BiSeNet's code, 0.9 in HRNet's configurations.
      share: the least share of an image's pixels kept, rounded up to whole pixels; 1/16 in BiSeNet's code.
    """

    threshold: float = 0.7
    share: float = 1.0 / 16.0

    above_zero = ("threshold", "share")
    at_most_one = ("threshold", "share")

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        surprise = CrossEntropy().values(logits, targets, counted, jnp.ones_like(class_weights), 0.0)
        weights = jnp.where(counted, label_weights(targets, class_weights), 0.0)
        least = kth_surprise(surprise, counted, self.share)[:, None, None]
        hard = (surprise > -math.log(self.threshold)) | (surprise >= least)
        return keep(weights * surprise, weights, hard & counted)
