"""A run's parts from its config: network, task, training batches."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax.numpy as jnp

from segjax.core.config import Config
from segjax.core.errors import ConfigError, SizeError
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.data.dataset import Dataset
from segjax.data.pipeline import TrainIterator, train_batches
from segjax.losses import get_loss
from segjax.losses.class_weights import class_weights
from segjax.parallel.transfer import local_rows
from segjax.tasks.semantic import SemanticTask


def make_batches(config: Config, dataset: Dataset, mesh: Any) -> TrainIterator:
    """Training batches: each process reads what its devices hold of a batch.

    Raises:
      ConfigError: features are to be kept, and windows differ from epoch to epoch.
    """
    source, crop = dataset.split(config.data.train_split), config.data.crop_size
    if config.train.cache_features and any(side < largest for side, largest in zip(crop, source.largest)):
        raise ConfigError(
            f"config.data.crop_size: {crop[0]}x{crop[1]} cuts windows out of images of up to {source.largest[0]}x"
            f"{source.largest[1]}, and config.train.cache_features keeps the first one's features; cover them, or set "
            "that to False."
        )
    return train_batches(
        source,
        batch_size=config.train.batch_size,
        crop_size=crop,
        scale=config.augment.scale,
        seed=config.seed,
        threads=config.data.threads,
        workers=config.data.workers,
        prefetch=config.data.prefetch,
        rows=local_rows(config.train.batch_size, mesh),
        numbered=config.train.cache_features,
    )


def make_task(config: Config, dataset: Dataset) -> SemanticTask:
    """The semantic task of a config, its class weights counted on the training split.

    Raises:
      ConfigError: class weights of another number than the classes.
      DataError: a training split with fewer than two classes in it.
    """
    dataset.require_classes(config.data.train_split)
    weights = config.loss.class_weights
    if isinstance(weights, tuple):
        if len(weights) != dataset.info.num_classes:
            raise ConfigError(
                f"config.loss.class_weights: {len(weights)} numbers, {dataset.info.num_classes} classes; give one each."
            )
    elif weights == "none":
        weights = None
    else:
        pixels, present = dataset.class_counts(config.data.train_split)
        with warnings.catch_warnings(record=True) as caught:
            weights = tuple(class_weights(weights, pixels, present, classes=dataset.info.classes).tolist())
        for warning in caught:
            print(f"warning: {warning.message}", flush=True)
    return SemanticTask(
        num_classes=dataset.info.num_classes,
        loss_name=get_loss(config.loss.name, **config.loss.options),
        label_smoothing=config.loss.label_smoothing,
        class_weights=weights,
        aux_weight=config.loss.aux_weight,
        border_weight=config.loss.border_weight,
        void=config.eval.void,
        classes=dataset.info.classes,
        boundary=config.eval.boundary,
    )


def make_network(config: Config, info: DatasetInfo) -> Any:
    """The network of a config for a data set's classes and channels.

    Raises:
      ModelError: an unknown name or option.
      SizeError: a crop that does not fit the network's stride, before anything is compiled.
    """
    model = create_model(
        config.model.name,
        num_classes=info.num_classes,
        in_channels=info.channels,
        dtype=jnp.dtype(config.train.dtype),
        **config.model.options,
    )
    (height, width), stride = config.data.crop_size, model.stride
    rows, columns = math.ceil(height / stride) * stride, math.ceil(width / stride) * stride
    if (rows, columns) != (height, width):
        raise SizeError(
            f"config.data.crop_size: {height}x{width} is not a multiple of {config.model.name}'s stride {stride}; "
            f"use ({rows}, {columns})."
        )
    return model
