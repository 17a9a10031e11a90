"""The soft sizes that losses of whole regions are made of, and the mean over their classes.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def probabilities(logits: jax.Array, counted: jax.Array) -> jax.Array:
    """The softmax [B, H, W, K], 0 at pixels that do not count."""
    return jnp.where(counted[..., None], jax.nn.softmax(logits, axis=-1), 0.0)


def region_sizes(logits: jax.Array, targets: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over an image's pixels that count of p t, of p and of t, float32 [B, K] each: p softmax, t one-hot label."""
    p = probabilities(logits, counted)
    t = targets & counted[..., None]
    return jnp.where(t, p, 0.0).sum(axis=(1, 2)), p.sum(axis=(1, 2)), t.sum(axis=(1, 2)).astype(jnp.float32)


def class_mean(per_class: jax.Array, class_weights: jax.Array, present: jax.Array | None = None) -> jax.Array:
    """float32 [B], the weighted mean of [B, K] over the classes, or those `present` (bool [B, K]); 0 without one."""
    weights = class_weights if present is None else jnp.where(present, class_weights, 0.0)
    total = weights.sum(axis=-1)
    return (weights * per_class).sum(axis=-1) / jnp.where(total > 0, total, 1.0)
