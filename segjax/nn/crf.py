"""The dense CRF as a layer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.ops.crf.mean_field import CRFParams, dense_crf
from segjax.ops.crf.per_device import per_device


class CRFasRNN(nn.Module):
    """Mean-field inference as a recurrent layer (Zheng et al., Conditional random fields as recurrent neural networks,
    ICCV 2015, arXiv:1502.03240, sections 4 and 5.1), for a whole batch.

    `(logits [B, H, W, C], image [B, H, W, K], train)` -> float32 logits [B, H, W, C], without the last softmax. The
    image is not normalised: the bandwidths are in its units. Parameters, float32 [C, C]: `spatial_weight` and
    `bilateral_weight`, which mix the filtered classes, and `compatibility`, which starts as minus the identity.

    Attributes:
      theta_alpha, theta_beta, theta_gamma: standard deviations in pixels, image units and pixels (Zheng et al.'s code).
      spatial_weight, bilateral_weight: initial values on the diagonals.
      iterations: in evaluation; the paper trains with 5 and tests with 10.
      train_iterations: in training.
      method: of the appearance kernel, see `dense_crf`.
      normalization: see `build_filter`.
      options: further ones of `dense_crf`, say {"capacity": 100_000}.
    """

    theta_alpha: float = 160.0
    theta_beta: float = 3.0
    theta_gamma: float = 3.0
    spatial_weight: float = 3.0
    bilateral_weight: float = 5.0
    iterations: int = 10
    train_iterations: int = 5
    method: str = "auto"
    normalization: str = "after"
    options: Any = None

    @nn.compact
    def __call__(self, logits: jax.Array, image: jax.Array, train: bool = False) -> jax.Array:
        diagonal = lambda value: lambda key, shape: value * jnp.eye(*shape)  # noqa: E731
        shape = (logits.shape[-1], logits.shape[-1])
        spatial = self.param("spatial_weight", diagonal(self.spatial_weight), shape)
        bilateral = self.param("bilateral_weight", diagonal(self.bilateral_weight), shape)
        compatibility = self.param("compatibility", diagonal(-1.0), shape)

        def refine(logits: jax.Array, image: jax.Array, weights: tuple[jax.Array, ...]) -> jax.Array:
            return dense_crf(
                logits,
                image,
                CRFParams(self.theta_alpha, self.theta_beta, self.theta_gamma, *weights),
                iterations=self.train_iterations if train else self.iterations,
                method=self.method,
                normalization=self.normalization,
                **(self.options or {}),
            )

        return per_device(refine, logits, image, whole=(bilateral, spatial, compatibility))
