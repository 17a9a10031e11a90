"""What every loss shares: the mask, the weights, and the contract a trainer relies on.

Shape legend: B batch, H height, W width, K classes.

A loss is called with logits, labels and a mask and returns `(values, weights)`, both float32 and of one shape: the
terms of a sum, already multiplied by their weight, and the weights. The loss of a batch is
`values.sum() / weights.sum()`. The weights follow from the labels alone, never from the logits, so the normaliser of a
whole batch is known before any forward pass, and sums over micro-batches, devices and hosts add up to it exactly.

The terms are pixels (`PixelLoss`, shape [B, H, W]) or, for losses of a whole region such as dice, images (`ImageLoss`,
shape [B]). A loss that keeps only some pixels (online hard example mining) fits too: it scales what it keeps in an
image by counted / kept.

The mask is applied here, once, to the logits before and to the values after the arithmetic of a loss. What a network
said at an ignored pixel, NaN and infinity included, can therefore reach neither a value nor a gradient.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from segjax.core.errors import ConfigError
from segjax.ops.precision import widen


def counted_pixels(labels: jax.Array, valid: jax.Array, num_classes: int) -> jax.Array:
    """bool [B, H, W]: pixels that are valid and carry a class.

    A label that is no class counts for nothing, as an IGNORE pixel does; refusing labels that should not be there is
    the data room's work, since a compiled function cannot raise.
    """
    labels = labels.astype(jnp.int32)
    return valid & (labels >= 0) & (labels < num_classes)


def target_classes(labels: jax.Array, num_classes: int) -> jax.Array:
    """bool [B, H, W, K], true at a pixel's class and nowhere where the label is no class.

    Comparing with an iota fuses into its consumer and partitions along any axis; a gather does neither.
    """
    return labels.astype(jnp.int32)[..., None] == jnp.arange(num_classes)


@dataclasses.dataclass(frozen=True)
class Loss:
    """The interface of all losses; the fields of a subclass are its constants.

    Attributes:
      smooths: whether `label_smoothing` means something to this loss.
      pixelwise: whether a pixel's term depends on that pixel alone.
      above_zero: constants that must be above 0; all others may be 0 too.
      at_most_one: constants that must not exceed 1.

    Raises:
      ConfigError: a constant that is no number, or out of range.
    """

    smooths = False
    pixelwise = False
    above_zero = ()
    at_most_one = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"{type(self).__name__}: {field.name} is {value!r}: give a number of at least 0")
            if field.name in self.above_zero and value == 0:
                raise ConfigError(f"{type(self).__name__}: {field.name} is {value!r}: it must be above 0")
            if field.name in self.at_most_one and value > 1:
                raise ConfigError(f"{type(self).__name__}: {field.name} is {value!r}: it must be at most 1")

    def weights(self, labels: jax.Array, valid: jax.Array, num_classes: int, class_weights=None) -> jax.Array:
        """float32 [B, H, W] or [B], the weight of each term, 0 where there is nothing to learn from.

        Args:
          labels: int [B, H, W].
          valid: bool [B, H, W].
          num_classes: K.
          class_weights: float [K], or None for ones.
        """
        raise NotImplementedError

    def values(self, logits, targets, counted, class_weights, label_smoothing) -> jax.Array:
        """float32 terms times their weight, in the shape of `weights`; the caller clears those that do not count.

        Args:
          logits: float32 [B, H, W, K], 0 at pixels that do not count.
          targets: bool [B, H, W, K], one true class at every pixel that counts.
          counted: bool [B, H, W].
          class_weights: float32 [K].
          label_smoothing: float.
        """
        raise NotImplementedError

    def __call__(
        self,
        logits: jax.Array,
        labels: jax.Array,
        valid: jax.Array,
        *,
        class_weights: jax.Array | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """The terms of the loss and their weights.

        Args:
          logits: float [B, H, W, K]; the arithmetic is float32 whatever their type.
          labels: int [B, H, W]; anything outside 0..K-1 is ignored.
          valid: bool [B, H, W], false at pixels that do not count.
          class_weights: float [K], or None for ones.
          label_smoothing: share of the target spread evenly over all classes, in [0, 1).

        Returns:
          values, weights: float32, each [B, H, W] or, for an `ImageLoss`, [B].

        Raises:
          ConfigError: label smoothing outside [0, 1), or asked of a loss that has none.
        """
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing is {label_smoothing}: it must be at least 0 and below 1")
        if label_smoothing and not self.smooths:
            name = type(self).__name__
            raise ConfigError(f"label_smoothing is {label_smoothing}, but {name} has no smoothed form: set it to 0")
        num_classes = logits.shape[-1]
        counted = counted_pixels(labels, valid, num_classes)
        # Masking before the arithmetic, not only after, keeps 0 * inf out of the gradient.
        logits = jnp.where(counted[..., None], widen(logits), 0.0)
        targets = target_classes(labels, num_classes)
        per_class = jnp.ones(num_classes) if class_weights is None else jnp.asarray(class_weights, jnp.float32)
        values = self.values(logits, targets, counted, per_class, label_smoothing)
        terms = counted.any(axis=(1, 2)) if values.ndim == 1 else counted
        return jnp.where(terms, values, 0.0), self.weights(labels, valid, num_classes, class_weights)


@dataclasses.dataclass(frozen=True)
class PixelLoss(Loss):
    """One term a pixel; its weight is the class weight of its label."""

    def weights(self, labels, valid, num_classes, class_weights=None):
        counted = counted_pixels(labels, valid, num_classes)
        if class_weights is None:
            return counted.astype(jnp.float32)
        return jnp.where(counted, label_weights(target_classes(labels, num_classes), class_weights), 0.0)


@dataclasses.dataclass(frozen=True)
class ImageLoss(Loss):
    """One term an image; its weight is 1, or 0 where no pixel counts. Class weights act inside the term."""

    def weights(self, labels, valid, num_classes, class_weights=None):
        return counted_pixels(labels, valid, num_classes).any(axis=(1, 2)).astype(jnp.float32)


def label_weights(targets: jax.Array, class_weights: jax.Array) -> jax.Array:
    """float32 [B, H, W], the weight of each pixel's class, from bool [B, H, W, K] and [K]."""
    return jnp.where(targets, jnp.asarray(class_weights, jnp.float32), 0.0).sum(axis=-1)
