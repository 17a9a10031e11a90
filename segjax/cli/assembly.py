"""A run's parts from its config: the one place that train, evaluate, plan, benchmark and convert take them from."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from segjax import tasks
from segjax.core.config import Config
from segjax.core.errors import ConfigError, SizeError
from segjax.core.fields import Fields
from segjax.core.schema import DatasetInfo
from segjax.data.dataset import Dataset, Source
from segjax.data.noise import noise_batch
from segjax.data.pipeline import TrainIterator, eval_batches, eval_size, train_batch_shapes, train_batches
from segjax.parallel.mesh import make_mesh
from segjax.parallel.transfer import local_rows
from segjax.tasks.base import Task, Transform
from segjax.training.loop import steps_of
from segjax.training.state import init_variables


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config says, made.

    Attributes:
      config: the run's.
      dataset: its data, perhaps without images (`cli.known_data`).
      task: its task.
      model: its network.
      largest: (height, width) of the largest training image; None: any, or no pixels.
      samples: of the training split.
    """

    config: Config
    dataset: Dataset
    task: Task
    model: Any
    largest: tuple[int, int] | None
    samples: int

    @property
    def info(self) -> DatasetInfo:
        return self.dataset.info

    @functools.cached_property
    def mesh(self) -> Mesh:
        parallel = self.config.parallel
        return make_mesh(parallel.data, parallel.spatial, parallel.fsdp)

    @functools.cached_property
    def steps(self) -> int:
        return steps_of(self.config, self.samples)

    @functools.cached_property
    def transform(self) -> Transform | None:
        """Augmentation on the device."""
        return self.task.transform(self.info, self.config.data.crop_size)

    @functools.cached_property
    def fields(self) -> Fields:
        """Of training batches, as the host makes them."""
        return self.task.fields(self.info, self.task.window(self.config.data.crop_size, self.largest), True)

    def variables(self) -> dict[str, Any]:
        """The network's initial variables as numpy arrays."""
        shape = self.task.input_shape(self.info, self.config.data.crop_size)
        return init_variables(self.model, self.config.seed, shape)

    def batches(self) -> TrainIterator:
        """Training batches: each process reads what its devices hold of a batch.

        Raises:
          ConfigError: features are to be kept, and windows differ from epoch to epoch.
        """
        config, crop = self.config, self.config.data.crop_size
        windows = self.largest is not None and any(side < largest for side, largest in zip(crop, self.largest))
        if config.train.cache_features and windows:
            raise ConfigError(
                f"config.data.crop_size: {crop[0]}x{crop[1]} cuts windows out of images of up to {self.largest[0]}x"
                f"{self.largest[1]}, and config.train.cache_features keeps the first one's features; cover them, or "
                "set that to False."
            )
        return train_batches(
            self.dataset.split(config.data.train_split),
            self.fields,
            batch_size=config.train.batch_size,
            seed=config.seed,
            collate=self.task.collate,
            numbered=config.train.cache_features,
            threads=config.data.threads,
            workers=config.data.workers,
            prefetch=config.data.prefetch,
            rows=local_rows(config.train.batch_size, self.mesh),
        )

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of training batches."""
        return train_batch_shapes(self.fields, batch_size)

    def noise(self, batch_size: int) -> dict[str, Any]:
        """A training batch of noise."""
        return noise_batch(self.fields, batch_size, self.info.num_classes)


def build(
    config: Config, dataset: Dataset, *, largest: tuple[int, int] | None = None, samples: int | None = None
) -> Run:
    """Network and task of a config for a data set.

    Args:
      config: the run's.
      dataset: its data.
      largest, samples: of its training split, where that has no images; default: what the split says.

    Raises:
      ConfigError, DataError, ModelError: what does not fit together.
      SizeError: a crop that does not fit the network's stride, before anything is compiled.
    """
    if samples is None:
        source = dataset.split(config.data.train_split)
        largest, samples = source.largest, len(source)
    model = make_network(config, dataset.info)
    return Run(config, dataset, tasks.make_task(config, dataset.info, dataset), model, largest, samples)


def make_network(config: Config, info: DatasetInfo) -> Any:
    """The network of a config for a data set's classes and channels.

    Raises:
      ModelError: an unknown name or option.
      SizeError: a crop that does not fit the network's stride, before anything is compiled.
    """
    model = tasks.make_network(config, info)
    (height, width), stride = config.data.crop_size, model.stride
    rows, columns = math.ceil(height / stride) * stride, math.ceil(width / stride) * stride
    if (rows, columns) != (height, width):
        raise SizeError(
            f"config.data.crop_size: {height}x{width} is not a multiple of {config.model.name}'s stride {stride}; "
            f"use ({rows}, {columns})."
        )
    return model


def scored_batches(
    source: Source, task: Task, info: DatasetInfo, config: Config, *, stride: int = 1, mesh: Mesh | None = None
) -> Iterator[Mapping[str, Any]]:
    """Evaluation batches of a split; of several devices, this process's share.

    Args:
      source: the split.
      task: whose fields they have.
      info: of the data set.
      config: the run's; `eval.batch_size`, `eval.size` and `data.threads` are read.
      stride: what heights and widths must be multiples of.
      mesh: of the run, or None for one device.
    """
    return eval_batches(
        source,
        task.fields(info, eval_size(source, config.eval.size, stride), False),
        batch_size=config.eval.batch_size,
        collate=task.collate,
        threads=config.data.threads,
        rows=None if mesh is None else local_rows(config.eval.batch_size, mesh),
    )
