"""The groups `loss`, `augment` and `eval` of semantic segmentation."""

from __future__ import annotations

import dataclasses
import math

from segjax.core import config
from segjax.core.errors import ConfigError, suggest
from segjax.core.options import option
from segjax.data.options import Augment
from segjax.losses import CLASS_WEIGHTS, LOSSES


@dataclasses.dataclass(frozen=True)
class Loss:
    name: str = option("cross_entropy", "loss of segjax.losses", choices=tuple(LOSSES))
    options: dict = option({}, "constants of the loss that differ from its defaults, such as ohem's threshold")
    label_smoothing: float = option(0.0, "share of the target spread over all classes", minimum=0)
    class_weights: str | tuple[float, ...] = option(
        "none", "none, auto (= median_frequency), median_frequency, enet_log, or one number a class"
    )
    aux_weight: float = option(0.4, "weight of each auxiliary head", minimum=0)
    border_weight: float = option(0.0, "weight of the border loss, where the network has one: 0.1 for dfn", minimum=0)

    def __post_init__(self) -> None:
        if self.label_smoothing >= 1:
            raise ConfigError(f"config.loss.label_smoothing: {self.label_smoothing} must stay below 1.")
        weights = self.class_weights
        if isinstance(weights, str) and weights not in CLASS_WEIGHTS:
            raise ConfigError(f"config.loss.class_weights: {weights!r} is unknown.{suggest(weights, CLASS_WEIGHTS)}")


@dataclasses.dataclass(frozen=True)
class CRF:
    """The defaults are those of Krähenbühl and Koltun's example program, which pydensecrf's repeats."""

    enabled: bool = option(False, "refine the network's probabilities over the image before the labels are taken")
    theta_alpha: float = option(80.0, "appearance kernel: standard deviation in pixels")
    theta_beta: float | tuple[float, ...] = option(
        13.0, "and in units of the stored image; one number, or one a channel"
    )
    theta_gamma: float = option(3.0, "smoothness kernel: standard deviation in pixels")
    w_bilateral: float = option(10.0, "weight of the appearance kernel", minimum=0)
    w_spatial: float = option(3.0, "weight of the smoothness kernel", minimum=0)
    iterations: int = option(5, "mean-field updates", minimum=0)
    method: str = option("lattice", "of the appearance kernel", choices=("lattice", "exact", "grid", "local"))
    capacity: int | None = option(None, "lattice vertices an image; default: enough for natural images", minimum=1)

    def __post_init__(self) -> None:
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            value = getattr(self, name)
            if not all(0 < number < math.inf for number in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"config.eval.crf.{name}: {value} is no standard deviation; give a number above 0.")


@dataclasses.dataclass(frozen=True)
class Eval(config.Eval):
    scales: tuple[float, ...] = option((1.0,), "the network sees the image at these scales; probabilities averaged")
    flip: bool = option(False, "average with the mirrored image")
    window: tuple[int, int] | None = option(None, "(height, width) of a sliding window", minimum=1)
    overlap: float = option(0.5, "share of a window that the next one covers again", minimum=0)
    blend: str = option(
        "gaussian",
        "weights of overlapping windows; centre cuts each in the middle of its overlap instead",
        choices=("gaussian", "uniform", "centre"),
    )
    void: str = option("ignore", "how void pixels count", choices=("ignore", "union", "drop"))
    boundary: bool = option(True, "boundary F1 too")
    crf: CRF = dataclasses.field(default_factory=CRF)

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"config.eval.scales: {self.scales} needs at least one scale, each above 0.")
        if self.overlap >= 1:
            raise ConfigError(f"config.eval.overlap: {self.overlap} must stay below 1, or windows never advance.")


SCORE = "miou"
GROUPS = {"loss": Loss, "augment": Augment, "eval": Eval}
