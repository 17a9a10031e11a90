"""Runs a config file: the user's own Python, whose errors are told as theirs."""

from __future__ import annotations

import contextlib
import importlib.util
import types
from collections.abc import Callable, Iterator
from typing import Any

from segjax.core.errors import ConfigError, SegjaxError


def run_config_file(path: str) -> types.ModuleType:
    """The file as a module, run anew each time."""
    module_spec = importlib.util.spec_from_file_location("segjax_config", path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"--config: {path!r} is not a Python file; config files end in .py.")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def config_function(path: str, name: str) -> Callable[..., Any] | None:
    """The function `name` of a config file; None where the file defines none."""
    with told_as_theirs(path):
        return getattr(run_config_file(path), name, None)


@contextlib.contextmanager
def told_as_theirs(path: str) -> Iterator[None]:
    """Whatever the file's code raises inside becomes a ConfigError that names the file."""
    try:
        yield
    except SegjaxError:
        raise
    except Exception as error:
        raise ConfigError(f"--config: {path} failed: {type(error).__name__}: {error}") from error
