"""Tasks: what binds a network to losses, predictions and metrics; one folder each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.core.config import Config
    from segjax.core.schema import DatasetInfo
    from segjax.tasks.base import Task
    from segjax.tasks.view import View


def make_task(config: Config, info: DatasetInfo, dataset: Any = None) -> Task:
    """The task `config.task` for a data set's classes; see `make` in the task's folder."""
    return importlib.import_module(f"segjax.tasks.{config.task}.task").make(config, info, dataset)


def make_view(task: str) -> View:
    """How the task's predictions are written, drawn and reported."""
    return importlib.import_module(f"segjax.tasks.{task}.view").VIEW
