"""The configuration of the task `points`."""

from __future__ import annotations

import dataclasses

from segjax.core.option import option


@dataclasses.dataclass(frozen=True)
class Points:
    count: int = option(2048, "points of a cloud in a training step, drawn anew each time", minimum=1)
    normalise: bool = option(True, "clouds are moved to their mean and scaled into the unit sphere")
    rotate: bool = option(True, "turn clouds about the vertical axis, the second coordinate, by any angle")
    scale: tuple[float, float] = option((1.0, 1.0), "range of the random scale, such as (0.8, 1.25)", minimum=0)
    shift: float = option(0.0, "largest shift along each axis, such as 0.1", minimum=0)
    jitter: float = option(0.01, "standard deviation of the noise on coordinates", minimum=0)
    jitter_limit: float = option(0.05, "the noise's largest size", minimum=0)
    regulariser: str = option(
        "squared",
        "of the feature transform A: half the sum over clouds of |A A' - I|^2, or the mean of |A A' - I| (norm)",
        choices=("squared", "norm"),
    )
    regulariser_weight: float = option(1e-3, "of that term", minimum=0)
