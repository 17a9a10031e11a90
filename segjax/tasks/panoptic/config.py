"""The groups `loss`, `augment` and `eval` of panoptic segmentation."""

from __future__ import annotations

import dataclasses

from segjax.core import config
from segjax.core.errors import ConfigError
from segjax.core.options import option
from segjax.data.options import InstanceAugment


@dataclasses.dataclass(frozen=True)
class Loss:
    """The defaults are Panoptic-DeepLab's."""

    semantic_weight: float = option(1.0, "weight of the semantic loss", minimum=0)
    center_weight: float = option(200.0, "weight of the centres' squared error", minimum=0)
    offset_weight: float = option(0.01, "weight of the offsets' absolute error, pixels", minimum=0)
    hard_share: float = option(0.2, "share of an image's pixels, of the largest loss, that the semantic loss is of")
    small_area: int = option(4096, "pixels of instances smaller than this weigh more in the semantic loss", minimum=0)
    small_weight: float = option(3.0, "how much those weigh", minimum=0)
    sigma: float = option(8.0, "standard deviation of a centre's Gaussian, pixels")

    def __post_init__(self) -> None:
        if not 0 < self.hard_share <= 1:
            raise ConfigError(f"config.loss.hard_share: {self.hard_share} is no share above 0, up to 1.")
        if not self.sigma > 0:
            raise ConfigError(f"config.loss.sigma: {self.sigma} is not above 0.")


@dataclasses.dataclass(frozen=True)
class Eval(config.Eval):
    """The defaults are Panoptic-DeepLab's."""

    void: str = option("ignore", "how void pixels count in the mean IoU", choices=("ignore", "union", "drop"))
    threshold: float = option(0.1, "least score of a centre", minimum=0)
    peak_window: int = option(7, "side of the square in which a centre must be the largest, odd", minimum=1)
    centers: int = option(200, "most instances of an image", minimum=1)
    stuff_area: int = option(2048, "stuff of fewer pixels becomes void", minimum=0)

    def __post_init__(self) -> None:
        if self.peak_window % 2 != 1:
            raise ConfigError(f"config.eval.peak_window: {self.peak_window} is not odd.")


SCORE = "pq"
GROUPS = {"loss": Loss, "augment": InstanceAugment, "eval": Eval}
