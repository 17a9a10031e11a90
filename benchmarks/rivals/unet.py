"""U-Net with padded convolutions and batch normalisation, 64 channels at full resolution: segjax's `unet` (its default
variant, `unet/same`).

Ronneberger, Fischer, Brox. U-Net: Convolutional networks for biomedical image segmentation. MICCAI 2015.
arXiv:1505.04597.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Sequential):
    def __init__(self, inputs: int, features: int):
        super().__init__(
            nn.Conv2d(inputs, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Images [B, 3, H, W], H and W multiples of 2^depth."""

    def __init__(self, num_classes: int, base_channels: int = 64, depth: int = 4):
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(DoubleConv(*pair) for pair in itertools.pairwise([3, *widths]))
        widths = widths[-2::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths)
        self.up = nn.ModuleList(DoubleConv(2 * width, width) for width in widths)
        self.classifier = nn.Conv2d(base_channels, num_classes, 1)

    def forward(self, images: torch.Tensor):
        x = self.down[0](images)
        skips = []
        for down in self.down[1:]:
            skips.append(x)
            x = down(F.max_pool2d(x, 2))
        for enlarge, up in zip(self.enlarge, self.up):
            x = up(torch.cat([skips.pop(), enlarge(x)], dim=1))
        logits = self.classifier(x)
        return (logits,) if self.training else logits


def build(num_classes: int, **sizes: Any) -> nn.Module:
    return UNet(num_classes, **sizes)
