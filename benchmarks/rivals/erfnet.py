"""ERFNet: segjax's `erfnet` (its default variant, `erfnet/erfnet`, without the biases that a normalisation removes
again).

Romera, Álvarez, Bergasa, Arroyo. ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic Segmentation.
IEEE Transactions on Intelligent Transportation Systems, 2018.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-3


class Downsample(nn.Module):
    """A 3x3 convolution beside a max-pooling, together `features` channels."""

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, features - inputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(features, EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(torch.cat([self.conv(x), F.max_pool2d(x, 2)], dim=1)), inplace=True)


class NonBottleneck1D(nn.Module):
    """3x1, 1x3, and the same dilated, around a shortcut."""

    def __init__(self, width: int, rate: int, dropout: float):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, (3, 1), padding=(1, 0)),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, (1, 3), padding=(0, 1), bias=False),
            nn.BatchNorm2d(width, EPS),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, (3, 1), padding=(rate, 0), dilation=(rate, 1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, (1, 3), padding=(0, rate), dilation=(1, rate), bias=False),
            nn.BatchNorm2d(width, EPS),
        )
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.dropout(self.branch(x)), inplace=True)


def upsample(inputs: int, features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, features, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(features, EPS),
        nn.ReLU(inplace=True),
    )


class ERFNet(nn.Sequential):
    """Images [B, 3, H, W], H and W multiples of 8."""

    def __init__(
        self,
        num_classes: int,
        widths: tuple[int, int, int] = (16, 64, 128),
        blocks: int = 5,
        rates: tuple[int, ...] = (2, 4, 8, 16),
        decoder_blocks: int = 2,
        first_dropout: float = 0.03,
        dropout: float = 0.3,
    ):
        half, quarter, eighth = widths
        super().__init__(
            Downsample(3, half),
            Downsample(half, quarter),
            *(NonBottleneck1D(quarter, 1, first_dropout) for _ in range(blocks)),
            Downsample(quarter, eighth),
            *(NonBottleneck1D(eighth, rate, dropout) for rate in 2 * rates),
            upsample(eighth, quarter),
            *(NonBottleneck1D(quarter, 1, 0) for _ in range(decoder_blocks)),
            upsample(quarter, half),
            *(NonBottleneck1D(half, 1, 0) for _ in range(decoder_blocks)),
            nn.ConvTranspose2d(half, num_classes, 2, stride=2),
        )

    def forward(self, images: torch.Tensor):
        logits = super().forward(images)
        return (logits,) if self.training else logits


def build(num_classes: int, **sizes: Any) -> nn.Module:
    return ERFNet(num_classes, **sizes)
