"""Tasks: what binds a network to losses, predictions and metrics; one folder each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segjax.core.errors import ModelError
from segjax.core.registry import create_model, entries, resolve

if TYPE_CHECKING:
    from segjax.core.config import Config
    from segjax.core.schema import DatasetInfo
    from segjax.tasks.base import Task
    from segjax.tasks.view import View


def make_task(config: Config, info: DatasetInfo, dataset: Any = None) -> Task:
    """The task `config.task` for a data set's classes; see `make` in the task's folder."""
    return importlib.import_module(f"segjax.tasks.{config.task}.task").make(config, info, dataset)


def make_network(config: Config, info: DatasetInfo) -> Any:
    """The network of a config for a data set's classes and channels.

    Raises:
      ModelError: an unknown name or option, or a network of another task.
    """
    import jax.numpy as jnp

    entry, _ = resolve(config.model.name)
    if entry.task != config.task:
        known = ", ".join(one.name for one in entries(config.task))
        raise ModelError(
            f"config.model.name: {config.model.name} is a network of task {entry.task!r}, and config.task is "
            f"{config.task!r}; set one of them, such as config.model.name to one of {known}."
        )
    task = make_task(config, info)
    given = {"num_classes": task.num_classes_of(info), "in_channels": info.channels, **task.network_fields(info)}
    return create_model(config.model.name, dtype=jnp.dtype(config.train.dtype), **{**given, **config.model.options})


def make_view(task: str) -> View:
    """How the task's predictions are written, drawn and reported."""
    return importlib.import_module(f"segjax.tasks.{task}.view").VIEW
