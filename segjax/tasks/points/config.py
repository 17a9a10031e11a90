"""The groups `loss`, `augment` and `eval` of part segmentation of point clouds."""

from __future__ import annotations

import dataclasses

from segjax.core.config import Eval


@dataclasses.dataclass(frozen=True)
class Loss:
    """Nothing can be set yet."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Nothing can be set yet."""


SCORE = "instance_miou"
GROUPS = {"loss": Loss, "augment": Augment, "eval": Eval}
