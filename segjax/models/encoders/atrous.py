"""Output stride by atrous convolution: which stages keep their stride, and at which rate the others sample.

Chen, Papandreou, Kokkinos, Murphy, Yuille. DeepLab. TPAMI 2018, section 3.1, arXiv:1606.00915: a stage whose stride is
removed is computed at every position, and all that follows is dilated by the stride removed, so that every position
that the strided network would have visited gets the same value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from segjax.core.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Stage:
    """How one stage samples.

    Attributes:
      stride: of the stage's strided operation; 1 where it was removed.
      first_rate: rate of that strided operation itself, which still sees the resolution of the stage before.
      rate: rate of all that follows it in the stage.
    """

    stride: int
    first_rate: int
    rate: int


def atrous_stages(strides: Sequence[int], output_stride: int, start: int = 1) -> tuple[Stage, ...]:
    """The stages' sampling such that the last one has `output_stride`.

    Args:
      strides: of each stage in the image classifier, in order.
      output_stride: the stride wanted, from `start` up to `start` times the product of `strides`.
      start: stride of the first stage's input.

    Raises:
      ModelError: when no set of stages to dilate gives `output_stride`.
    """
    reached, rate, stages = start, 1, []
    for stride in strides:
        first_rate = rate
        if reached * stride <= output_stride:
            reached *= stride
            stages.append(Stage(stride, first_rate, rate))
        else:
            rate *= stride
            stages.append(Stage(1, first_rate, rate))
    if reached != output_stride:
        possible, stride_now = [start], start
        for stride in strides:
            stride_now *= stride
            possible += [stride_now] if stride > 1 else []
        raise ModelError(f"output_stride={output_stride} is impossible here: use one of {possible}.")
    return tuple(stages)
