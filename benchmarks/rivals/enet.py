"""ENet as in the paper's text: segjax's `enet` (its default variant, `enet/paper`).

Paszke, Chaurasia, Kim, Culurciello. ENet: A deep neural network architecture for real-time semantic segmentation. 2016.
arXiv:1606.02147.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-3


def conv_norm(inputs: int, features: int, kernel_size: int | tuple[int, int] = 1, **window: Any) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, features, kernel_size, bias=False, **window)
    return [conv, nn.BatchNorm2d(features, EPS)]


class Initial(nn.Module):
    """Half size: a convolution beside the pooled image."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Conv2d(3, features - 3, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(features, EPS)
        self.act = nn.PReLU(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(torch.cat([self.conv(images), F.max_pool2d(images, 2)], dim=1)))


def branch(inputs: int, inner: int, features: int, reduce: int, middle: list[nn.Module], dropout: float):
    """To `inner` channels by a convolution of size and stride `reduce`, the middle one, and to `features` channels."""
    return nn.Sequential(
        *conv_norm(inputs, inner, reduce, stride=reduce),
        nn.PReLU(inner),
        *middle,
        nn.PReLU(inner),
        *conv_norm(inner, features),
        nn.Dropout2d(dropout),
    )


class Bottleneck(nn.Module):
    """`kind`: "regular", "asymmetric", or the rate of a dilated convolution."""

    def __init__(self, features: int, kind: str | int, dropout: float):
        super().__init__()
        inner = features // 4
        if kind == "asymmetric":
            middle = [*conv_norm(inner, inner, (5, 1), padding=(2, 0)), nn.PReLU(inner)]
            middle += conv_norm(inner, inner, (1, 5), padding=(0, 2))
        else:
            rate = 1 if kind == "regular" else kind
            middle = conv_norm(inner, inner, 3, padding=rate, dilation=rate)
        self.branch = branch(features, inner, features, 1, middle, dropout)
        self.act = nn.PReLU(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.branch(x))


class Down(nn.Module):
    """Half size; also the indices of the maxima."""

    def __init__(self, inputs: int, features: int, dropout: float):
        super().__init__()
        inner = features // 4
        self.missing = features - inputs
        self.branch = branch(inputs, inner, features, 2, conv_norm(inner, inner, 3, padding=1), dropout)
        self.act = nn.PReLU(features)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shortcut, indices = F.max_pool2d(x, 2, return_indices=True)
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.missing))
        return self.act(shortcut + self.branch(x)), indices


class Up(nn.Module):
    """Double size, the shortcut unpooled to where the maxima were."""

    def __init__(self, inputs: int, features: int, dropout: float):
        super().__init__()
        inner = features // 4
        self.shortcut = nn.Sequential(*conv_norm(inputs, features))
        enlarge = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.branch = branch(inputs, inner, features, 1, [enlarge, nn.BatchNorm2d(inner, EPS)], dropout)
        self.act = nn.PReLU(features)

    def forward(self, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return self.act(F.max_unpool2d(self.shortcut(x), indices, 2) + self.branch(x))


class ENet(nn.Module):
    """Images [B, 3, H, W], H and W multiples of 8."""

    def __init__(
        self,
        num_classes: int,
        initial_features: int = 16,
        features: tuple[int, int] = (64, 128),
        first_blocks: int = 4,
        pattern: tuple[str | int, ...] = ("regular", 2, "asymmetric", 4, "regular", 8, "asymmetric", 16),
        first_dropout: float = 0.01,
        dropout: float = 0.1,
    ):
        super().__init__()
        quarter, eighth = features
        self.initial = Initial(initial_features)
        self.down1 = Down(initial_features, quarter, first_dropout)
        self.stage1 = nn.Sequential(*(Bottleneck(quarter, "regular", first_dropout) for _ in range(first_blocks)))
        self.down2 = Down(quarter, eighth, dropout)
        self.stage2 = nn.Sequential(*(Bottleneck(eighth, kind, dropout) for kind in pattern))
        self.stage3 = nn.Sequential(*(Bottleneck(eighth, kind, dropout) for kind in pattern))
        self.up4 = Up(eighth, quarter, dropout)
        self.stage4 = nn.Sequential(*(Bottleneck(quarter, "regular", dropout) for _ in range(2)))
        self.up5 = Up(quarter, initial_features, dropout)
        self.stage5 = Bottleneck(initial_features, "regular", dropout)
        self.classifier = nn.ConvTranspose2d(initial_features, num_classes, 2, stride=2)

    def forward(self, images: torch.Tensor):
        x, first = self.down1(self.initial(images))
        x, second = self.down2(self.stage1(x))
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, second))
        x = self.stage5(self.up5(x, first))
        logits = self.classifier(x)
        return (logits,) if self.training else logits


def build(num_classes: int, **sizes: Any) -> nn.Module:
    return ENet(num_classes, **sizes)
