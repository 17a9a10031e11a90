"""The groups `loss`, `augment` and `eval` of instance segmentation."""

from __future__ import annotations

import dataclasses

from segjax.core.config import Eval
from segjax.data.options import InstanceAugment


@dataclasses.dataclass(frozen=True)
class Loss:
    """Nothing can be set yet."""


SCORE = "mask_ap"
GROUPS = {"loss": Loss, "augment": InstanceAugment, "eval": Eval}
