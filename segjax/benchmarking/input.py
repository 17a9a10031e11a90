"""The input pipeline without a consumer: what it delivers, and what that costs."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def benchmark_input(batches: Iterator[Mapping[str, np.ndarray]], *, count: int, warmup: int = 4) -> dict[str, Any]:
    """Takes `count` batches as fast as they come, after a few that start threads and fill buffers.

    Returns:
      `images_per_second` of this process; `cpu_seconds_per_image`, of all its threads (worker processes' too, once
      they have ended); `bytes_per_image`, as they go to the device.
    """
    for _ in itertools.islice(batches, warmup):
        pass
    images, nbytes, began, worked = 0, 0, time.perf_counter(), _cpu_seconds()
    for batch in itertools.islice(batches, count):
        arrays = [np.asarray(value) for value in batch.values()]
        images += len(arrays[0])
        nbytes += sum(array.nbytes for array in arrays)
    seconds = time.perf_counter() - began
    return {
        "images": images,
        "images_per_second": images / seconds,
        "cpu_seconds_per_image": (_cpu_seconds() - worked) / images,
        "bytes_per_image": nbytes / images,
    }


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
