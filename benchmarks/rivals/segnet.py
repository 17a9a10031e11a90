"""SegNet, a VGG16 with batch normalisation and its mirror image: segjax's `segnet` (its default variant,
`segnet/vgg16`, without the biases that a normalisation removes again).

Badrinarayanan, Kendall, Cipolla. SegNet: A deep convolutional encoder-decoder architecture for image segmentation.
TPAMI 2017. arXiv:1511.00561.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def conv_stack(channels: list[int]) -> list[nn.Module]:
    """A 3x3 convolution with normalisation and ReLU from each of `channels` to the next."""
    modules: list[nn.Module] = []
    for inputs, features in itertools.pairwise(channels):
        modules += [
            nn.Conv2d(inputs, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        ]
    return modules


class SegNet(nn.Module):
    """Images [B, 3, H, W] of any size: an odd one is pooled by ceiling, and unpooled to what it was."""

    def __init__(
        self,
        num_classes: int,
        depths: tuple[int, ...] = (2, 2, 3, 3, 3),
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
    ):
        super().__init__()
        levels = list(zip(depths, [3, *widths], widths))
        self.encoder = nn.ModuleList(nn.Sequential(*conv_stack([above] + [width] * n)) for n, above, width in levels)
        self.decoder = nn.ModuleList(
            nn.Sequential(*conv_stack([width] * n + [above])) for n, above, width in reversed(levels[1:])
        )
        n, _, width = levels[0]
        self.decoder.append(nn.Sequential(*conv_stack([width] * n), nn.Conv2d(width, num_classes, 3, padding=1)))

    def forward(self, images: torch.Tensor):
        x, maxima = images, []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            maxima.append((indices, size))
        for stage in self.decoder:
            indices, size = maxima.pop()
            x = stage(F.max_unpool2d(x, indices, 2, output_size=size))
        return (x,) if self.training else x


def build(num_classes: int, **sizes: Any) -> nn.Module:
    return SegNet(num_classes, **sizes)
