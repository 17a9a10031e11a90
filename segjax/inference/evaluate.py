"""Scores of predictions on a data set, image by image and together, and the record kept of them."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from segjax.core.files import write_text
from segjax.core.jsonable import jsonable
from segjax.core.schema import IGNORE, IMAGE, LABEL, NAME, VALID
from segjax.parallel.sharding import replicated
from segjax.tasks.base import Task


def evaluate(
    predict: Callable[[Mapping[str, Any], Mapping[str, Any]], Any],
    batches: Iterable[Mapping[str, Any]],
    task: Task,
    *,
    place: Callable[[Mapping[str, Any]], dict[str, Any]] = jax.device_put,
    per_image: bool = True,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Scores `predict` on every batch.

    Args:
      predict: (placed batch, host batch) -> predictions as the task makes them; `of_engine` makes one of an
        Engine.
      batches: host batches of `segjax.data.pipeline.eval_batches`.
      task: whose metrics are computed; hashable, so that its program is compiled once.
      place: puts the numeric arrays of a batch on the device (`Engine.place`).
      per_image: also score each image alone; left out where several processes share the images.
      on_batch: told the number of images done after each batch.

    Returns:
      `metrics` (the task's scores over all images), `images` (how many), `seconds`, `images_per_second` and, with
      `per_image`, `per_image`: [{"name", task.score}], in order, NaN where an image has nothing that counts.
    """
    processes = jax.process_count()
    per_image = per_image and processes == 1
    state = task.metric_init()
    records: list[dict[str, Any]] = []
    count, start = 0, time.perf_counter()
    for batch in batches:
        placed = place({key: value for key, value in batch.items() if key != NAME})
        predictions = predict(placed, batch)
        update = _compiled_update(task, _mesh_of(predictions))
        truth = {key: value for key, value in placed.items() if key != IMAGE}
        valid = np.flatnonzero(batch[VALID])
        if per_image:
            # The sum over single images is the sum over the batch, so one pass gives both.
            parts = [update(*jax.tree.map(lambda x, i=i: x[i : i + 1], (predictions, truth))) for i in valid]
            for i, part in zip(valid, jax.device_get(parts)):
                alone = task.metric_merge(task.metric_init(), part)
                state = task.metric_merge(state, part)
                records.append({"name": str(batch[NAME][i]), task.score: task.metric_result(alone)[task.score]})
        else:
            state = task.metric_merge(state, jax.device_get(update(predictions, truth)))
        # Over all processes, some of which may hold the same images.
        count += len(valid) if processes == 1 else int(jnp.sum(placed[VALID]))
        if on_batch is not None:
            on_batch(count)
    seconds = time.perf_counter() - start
    results = {
        "metrics": task.metric_result(state),
        "images": count,
        "seconds": seconds,
        "images_per_second": count / max(seconds, 1e-9),
    }
    return {**results, "per_image": records} if per_image else results


@functools.lru_cache(maxsize=8)
def _compiled_update(task: Task, mesh: Mesh | None) -> Callable[..., Any]:
    """One compiled program for a task, however often it is evaluated with; every process gets the whole sums."""
    return jax.jit(task.metric_update, out_shardings=None if mesh is None else replicated(mesh))


def _mesh_of(predictions: Mapping[str, Any]) -> Mesh | None:
    sharding = getattr(next(iter(predictions.values())), "sharding", None)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None


def of_engine(engine: Any) -> Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, jax.Array]]:
    """The `predict` of `evaluate` for an `Engine`."""
    return lambda placed, batch: engine.predictions(placed)


def renumbered(
    predict: Callable[[Mapping[str, Any], Mapping[str, Any]], Any], table: Sequence[int]
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Any]:
    """`predict` with class k called `table[k]`, as `segjax.core.classes.by_name` gives it; void stays void."""
    if all(number == index for index, number in enumerate(table)):
        return predict
    numbers = np.full(max(len(table), IGNORE) + 1, IGNORE, np.int32)
    numbers[: len(table)] = table

    def numbered(placed: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        found = predict(placed, batch)
        keys = [key for key in (LABEL, "segment_class") if key in found]
        return {**found, **{key: jnp.asarray(numbers)[jnp.asarray(found[key]).astype(jnp.int32)] for key in keys}}

    return numbered


def extremes(per_image: list[dict[str, Any]], count: int, score: str) -> tuple[list[int], list[int]]:
    """Positions of the `count` best images by `score`, best first, and of the worst, worst first; none is in both."""
    known = [i for i, record in enumerate(per_image) if math.isfinite(record[score])]
    ranked = sorted(known, key=lambda i: (-per_image[i][score], i))
    count = min(count, len(ranked) // 2) if len(ranked) > 1 else len(ranked)
    return ranked[:count], ranked[::-1][:count] if len(ranked) > 1 else []


def save_results(path: str | Path, results: Mapping[str, Any]) -> Path:
    """Writes results as JSON, NaN as null; raises StorageError when the file cannot be written."""
    return write_text(path, json.dumps(jsonable(results), indent=1, allow_nan=False) + "\n")
