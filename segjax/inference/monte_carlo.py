"""Uncertainty by Monte Carlo dropout: the spread of the predictions when dropout stays on.

Kendall, Badrinarayanan, Cipolla. Bayesian SegNet. BMVC 2017. arXiv:1511.02680, section 3; after Gal and Ghahramani,
arXiv:1506.02142.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.core.schema import LOGITS


def monte_carlo(
    apply: Callable[..., dict[str, Any]], variables: Any, images: jax.Array, key: jax.Array, samples: int
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the class probabilities over dropout masks.

    Args:
      apply: the `apply` of a network that takes `sample=True`, such as `segnet/bayesian`.
      variables: its parameters and running statistics.
      images: float [B, H, W, C], normalised.
      key: a typed PRNG key; sample i draws its masks from `fold_in(key, i)`.
      samples: how many, static; the paper reports a gain over one pass from about 6 on, and none beyond about 40.

    Returns:
      mean: float32 [B, H, W, K], the prediction: sums to 1 over classes.
      variance: float32 [B, H, W, K], the samples' variance around the mean (divided by `samples`); the paper's map of
        overall uncertainty is its mean over the classes.

    Raises:
      ModelError: fewer than one sample; a network without dropout (raised by the network).
    """
    if samples < 1:
        raise ModelError(f"samples={samples} is too few: take at least 1.")

    def draw(index: jax.Array) -> jax.Array:
        rngs = {"dropout": jax.random.fold_in(key, index)}
        return jax.nn.softmax(apply(variables, images, train=False, sample=True, rngs=rngs)[LOGITS].upsample())

    # Welford's update, one sample in memory at a time; the difference of two sums would cancel where samples agree.
    def update(index: jax.Array, moments: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        mean, squares = moments
        probabilities = draw(index)
        delta = probabilities - mean
        mean = mean + delta / (index + 1)
        return mean, squares + delta * (probabilities - mean)

    shape = jax.eval_shape(draw, 0).shape
    zeros = jnp.zeros(shape, jnp.float32)
    mean, squares = jax.lax.fori_loop(0, samples, update, (zeros, zeros))
    return mean, squares / samples
