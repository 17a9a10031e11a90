"""FC-DenseNet103, the one hundred layers tiramisu: segjax's `fcdensenet/103`.

Jegou, Drozdzal, Vazquez, Romero, Bengio. The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic
Segmentation. CVPR Workshops 2017. arXiv:1611.09326.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Layer(nn.Sequential):
    def __init__(self, inputs: int, features: int, kernel_size: int, dropout: float):
        super().__init__(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, features, kernel_size, padding=kernel_size // 2),
            nn.Dropout2d(dropout),
        )


class DenseBlock(nn.Module):
    """What `depth` layers add to x, each of which sees all that came before: [B, depth * growth, h, w]."""

    def __init__(self, inputs: int, depth: int, growth: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(Layer(inputs + i * growth, growth, 3, dropout) for i in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return torch.cat(features[1:], dim=1)


class FCDenseNet(nn.Module):
    """Images [B, 3, H, W], H and W multiples of 2^len(layers)."""

    def __init__(
        self,
        num_classes: int,
        layers: tuple[int, ...] = (4, 5, 7, 10, 12),
        middle: int = 15,
        growth: int = 16,
        first_features: int = 48,
        dropout: float = 0.2,
    ):
        super().__init__()
        width = first_features
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down, self.shrink, skips = nn.ModuleList(), nn.ModuleList(), []
        for depth in layers:
            self.down.append(DenseBlock(width, depth, growth, dropout))
            width += depth * growth
            skips.append(width)
            self.shrink.append(nn.Sequential(*Layer(width, width, 1, dropout), nn.MaxPool2d(2)))
        self.middle = DenseBlock(width, middle, growth, dropout)
        new = middle * growth
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for depth, skip in zip(reversed(layers), reversed(skips)):
            self.enlarge.append(nn.ConvTranspose2d(new, new, 3, stride=2))
            width = new + skip
            self.up.append(DenseBlock(width, depth, growth, dropout))
            new = depth * growth
        self.classifier = nn.Conv2d(width + new, num_classes, 1)

    def forward(self, images: torch.Tensor):
        x, skips = self.first(images), []
        for block, shrink in zip(self.down, self.shrink):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = shrink(x)
        new = self.middle(x)
        for enlarge, block in zip(self.enlarge, self.up):
            skip = skips.pop()
            height, width = skip.shape[2:]
            # The transposed convolution gives a row and a column too many; only channels new in a block are enlarged.
            x = torch.cat([enlarge(new)[..., :height, :width], skip], dim=1)
            new = block(x)
        logits = self.classifier(torch.cat([x, new], dim=1))
        return (logits,) if self.training else logits


def build(num_classes: int, **sizes: Any) -> nn.Module:
    return FCDenseNet(num_classes, **sizes)
