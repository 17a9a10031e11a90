"""How long a program takes from its Python text to code: the first time, and with a warm persistent cache."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def benchmark_compile(lower: Callable[[], Any], rounds: int = 1) -> list[dict[str, dict[str, float]]]:
    """[{`cold`, `cached`: {`trace`, `compile`}}], seconds, once a round.

    Each compilation begins without anything in memory; the persistent cache is a new folder each round, empty for
    `cold` and filled by it for `cached`. What a new process adds, imports and devices, is left out.

    Args:
      lower: traces and lowers the program anew.
      rounds: how often.
    """
    return [_once(lower) for _ in range(rounds)]


def _once(lower: Callable[[], Any]) -> dict[str, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory() as folder, _cache(folder):
        for name in ("cold", "cached"):
            jax.clear_caches()
            began = time.perf_counter()
            lowered = lower()
            traced = time.perf_counter()
            lowered.compile()
            found[name] = {"trace": traced - began, "compile": time.perf_counter() - traced}
    return found


@contextlib.contextmanager
def _cache(folder: str) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    try:
        for name, value in zip(_SETTINGS, (folder, 0.0, -1)):
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # jax opens the folder once
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
