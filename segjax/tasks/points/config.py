"""The groups `loss`, `augment` and `eval` of part segmentation of point clouds."""

from __future__ import annotations

import dataclasses

from segjax.core.config import Eval
from segjax.core.errors import ConfigError
from segjax.core.options import option
from segjax.losses import LOSSES


@dataclasses.dataclass(frozen=True)
class Loss:
    name: str = option("cross_entropy", "loss of segjax.losses, of points", choices=tuple(LOSSES))
    options: dict = option({}, "constants of the loss that differ from its defaults")
    label_smoothing: float = option(0.0, "share of the target spread over all parts", minimum=0)
    class_weights: tuple[float, ...] | None = option(None, "one number a part")
    regulariser: str = option(
        "squared",
        "of the feature transform A: half the sum over clouds of |A A' - I|^2, or the mean of |A A' - I| (norm)",
        choices=("squared", "norm"),
    )
    regulariser_weight: float = option(1e-3, "of that term", minimum=0)

    def __post_init__(self) -> None:
        if self.label_smoothing >= 1:
            raise ConfigError(f"config.loss.label_smoothing: {self.label_smoothing} must stay below 1.")


@dataclasses.dataclass(frozen=True)
class Augment:
    count: int = option(2048, "points of a cloud in a training step, drawn anew each time", minimum=1)
    normalise: bool = option(True, "clouds are moved to their mean and scaled into the unit sphere, in evaluation too")
    rotate: bool = option(True, "turn clouds about the vertical axis, the second coordinate, by any angle")
    scale: tuple[float, float] = option((1.0, 1.0), "range of the random scale, such as (0.8, 1.25)", minimum=0)
    shift: float = option(0.0, "largest shift along each axis, such as 0.1", minimum=0)
    jitter: float = option(0.01, "standard deviation of the noise on coordinates", minimum=0)
    jitter_limit: float = option(0.05, "the noise's largest size", minimum=0)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"config.augment.scale: {self.scale} is not a range (low, high) above 0.")


SCORE = "instance_miou"
GROUPS = {"loss": Loss, "augment": Augment, "eval": Eval}
