"""The groups `loss`, `augment` and `eval` of panoptic segmentation."""

from __future__ import annotations

import dataclasses

from segjax.core.config import Eval
from segjax.data.options import Augment


@dataclasses.dataclass(frozen=True)
class Loss:
    """Nothing can be set yet."""


SCORE = "pq"
GROUPS = {"loss": Loss, "augment": Augment, "eval": Eval}
