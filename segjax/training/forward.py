"""The network in training: whole, or from a frozen encoder's features on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax.core.schema import FEATURES, IMAGE, LABEL

_PREFIX = f"{FEATURES}/"


def feature_key(stride: int) -> str:
    """Where a batch has the encoder's stage of that stride: `features/16`."""
    return f"{_PREFIX}{stride}"


def features_of(batch: Mapping[str, Any]) -> dict[int, Any]:
    """`{stage stride: features}` of a batch that has an encoder's features; of others, empty."""
    return {int(key.removeprefix(_PREFIX)): value for key, value in batch.items() if key.startswith(_PREFIX)}


def forward(
    model: Any, params: Any, model_state: Any, batch: Mapping[str, jax.Array], key: jax.Array
) -> tuple[Any, Any]:
    """(outputs, model state after), with dropout by `key`.

    Args:
      model: the network.
      params, model_state: its variables.
      batch: float32 `image` [B, H, W, C], or features of `FeatureCache`, with which the network's method `decode` runs;
        the image may then be missing, and only its shape is told, by `label` [B, H, W].
      key: typed PRNG key.
    """
    variables = {"params": params, **model_state}
    options = {"train": True, "mutable": list(model_state), "rngs": {"dropout": key}}
    if features := features_of(batch):
        images = batch[IMAGE] if IMAGE in batch else jnp.zeros((*batch[LABEL].shape, model.in_channels))
        return model.apply(variables, images, features, method="decode", **options)
    return model.apply(variables, batch[IMAGE], **options)
