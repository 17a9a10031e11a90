"""The best and the worst images of an evaluation, with truth and prediction, for people to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.core.schema import IMAGE, LABEL
from segjax.inference.evaluate import NAME, extremes
from segjax.inference.images import check_image
from segjax.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Sample:
    """One scored image.

    Attributes:
      name: the image's.
      miou: its own score.
      image: [H, W, C] raw pixels.
      truth: int [H, W].
      prediction: int [H, W].
    """

    name: str
    miou: float
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def best_and_worst(
    predictor: Predictor, source: Any, per_image: Sequence[dict[str, Any]], count: int, canvas: tuple[int, int]
) -> tuple[list[Sample], list[Sample]]:
    """Up to `count` of the best samples, best first, and of the worst, worst first.

    Args:
      predictor: whose scores they are.
      source: random access to the split that was scored, in the order of `per_image`.
      per_image: as from `evaluate`.
      count: of each.
      canvas: what evaluation padded to, so that nothing new is compiled.
    """
    best, worst = extremes(list(per_image), count)
    chosen = best + worst
    samples = []
    for start in range(0, len(chosen), predictor.batch_size):
        part = chosen[start : start + predictor.batch_size]
        read = [source[i] for i in part]
        images = [check_image(item[IMAGE], predictor.info, item[NAME]) for item in read]
        for i, item, found in zip(part, read, predictor.predict(images, canvas=canvas)):
            samples.append(Sample(item[NAME], per_image[i]["miou"], item[IMAGE], item[LABEL], found.labels))
    return samples[: len(best)], samples[len(best) :]
