"""The best and the worst images of an evaluation, with truth and prediction, for people to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.core.schema import NAME
from segjax.inference.engine import Engine
from segjax.inference.evaluate import extremes


@dataclasses.dataclass(frozen=True)
class Sample:
    """One scored image or cloud.

    Attributes:
      name: its.
      score: its own.
      image: what was segmented (`Task.subject`): [H, W, C] raw pixels, or [P, C] points.
      truth, prediction: of the task's view.
    """

    name: str
    score: float
    image: np.ndarray
    truth: Any
    prediction: Any


def best_and_worst(
    engine: Engine, source: Any, per_image: Sequence[dict[str, Any]], count: int, canvas: tuple[int, int] | None
) -> tuple[list[Sample], list[Sample]]:
    """Up to `count` of the best samples, best first, and of the worst, worst first.

    Args:
      engine: whose scores they are.
      source: random access to the split that was scored, in the order of `per_image`.
      per_image: as from `evaluate`.
      count: of each.
      canvas: what evaluation padded images to, so that nothing new is compiled.
    """
    score, info = engine.task.score, engine.info
    best, worst = extremes(list(per_image), count, score)
    chosen = best + worst
    samples = []
    for start in range(0, len(chosen), engine.batch_size):
        part = chosen[start : start + engine.batch_size]
        read = [source[i] for i in part]
        for i, item, found in zip(part, read, engine.predict_samples(read, canvas=canvas)):
            subject, truth = item[engine.task.subject], engine.view.truth(item, info)
            samples.append(Sample(item[NAME], per_image[i][score], subject, truth, found))
    return samples[: len(best)], samples[len(best) :]
