"""The network in training: whole, or from a frozen encoder's features on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax.core.fields import moves_as_label
from segjax.core.schema import FEATURES, IMAGE
from segjax.tasks.base import Task

_PREFIX = f"{FEATURES}/"


def feature_key(stride: int) -> str:
    """Where a batch has the encoder's stage of that stride: `features/16`."""
    return f"{_PREFIX}{stride}"


def is_feature(key: str) -> bool:
    """Whether it is such a key."""
    return key.startswith(_PREFIX)


def features_of(batch: Mapping[str, Any]) -> dict[int, Any]:
    """`{stage stride: features}` of a batch that has an encoder's features; of others, empty."""
    return {int(key.removeprefix(_PREFIX)): value for key, value in batch.items() if is_feature(key)}


def forward(
    model: Any, task: Task, params: Any, model_state: Any, batch: Mapping[str, jax.Array], key: jax.Array
) -> tuple[Any, Any]:
    """(outputs, model state after), with dropout and sampling by `key`.

    Args:
      model: the network.
      task: says what the network takes of a batch.
      params, model_state: its variables.
      batch: the transformed batch, or features of `FeatureCache`, with which the network's method `decode` runs; the
        image may then be missing, and labels [B, H, W, ...] give its shape.
      key: typed PRNG key.
    """
    variables = {"params": params, **model_state}
    rngs = {"dropout": key, "sample": jax.random.fold_in(key, 1)}
    options = {"train": True, "mutable": list(model_state), "rngs": rngs}
    if features := features_of(batch):
        images = batch.get(IMAGE)
        if images is None:
            labels = next(value for name, value in batch.items() if moves_as_label(name))
            images = jnp.zeros((*labels.shape[:3], model.in_channels))
        return model.apply(variables, images, features, method="decode", **options)
    args, kwargs = task.inputs(batch, train=True)
    return model.apply(variables, *args, **kwargs, **options)
