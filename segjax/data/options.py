"""The group `augment` of tasks whose samples are images, and of those that have instances."""

from __future__ import annotations

import dataclasses

from segjax.core.errors import ConfigError
from segjax.core.options import option


@dataclasses.dataclass(frozen=True)
class Augment:
    flip: bool = option(True, "mirror left to right with probability 1/2")
    scale: tuple[float, float] = option((1.0, 1.0), "range of the random zoom, log-uniform; 0.5 shows twice the view")
    fit: bool = option(False, "scale 1 fits the image into the crop (large-scale jitter), and shrinking is smooth")
    brightness: float = option(0.0, "largest relative change of brightness", minimum=0)
    contrast: float = option(0.0, "largest relative change of contrast", minimum=0)
    saturation: float = option(0.0, "largest relative change of saturation (three channels)", minimum=0)
    hue: float = option(0.0, "largest rotation of the hue, in turns (three channels)", minimum=0)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"config.augment.scale: {self.scale} is not a range (low, high) above 0.")


@dataclasses.dataclass(frozen=True)
class InstanceAugment(Augment):
    """With what moves instances."""

    copy_paste: float = option(0.0, "share of images into which objects of another are pasted", minimum=0)
