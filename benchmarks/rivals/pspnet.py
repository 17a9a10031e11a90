"""PSPNet in PyTorch; equals `pspnet/resnet50`.

Zhao, Shi, Qi, Wang, Jia. Pyramid Scene Parsing Network. CVPR 2017. arXiv:1612.01105. Output stride 8, the authors'
wide stem, first blocks dilated like the others, corners aligned, an auxiliary head on the third stage.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .resnet import ResNet50, conv_norm

BINS, FEATURES, AUX_FEATURES = (1, 2, 3, 6), 512, 256


class PyramidPooling(nn.Module):
    """[B, inputs, h, w] -> [B, inputs + len(BINS) * FEATURES, h, w]."""

    def __init__(self, inputs: int):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), conv_norm(inputs, FEATURES, 1)) for bins in BINS
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = [F.interpolate(level(x), x.shape[2:], mode="bilinear", align_corners=True) for level in self.levels]
        return torch.cat([x, *levels], dim=1)


def head(inputs: int, features: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(inputs, features), nn.Dropout2d(0.1), nn.Conv2d(features, num_classes, 1))


class PSPNet(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.encoder = ResNet50(output_stride=8, wide_stem=True, dilate_first=True)
        self.head = nn.Sequential(PyramidPooling(2048), *head(2048 + len(BINS) * FEATURES, FEATURES, num_classes))
        self.aux_head = head(1024, AUX_FEATURES, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        def enlarge(logits: torch.Tensor) -> torch.Tensor:
            return F.interpolate(logits.float(), images.shape[2:], mode="bilinear", align_corners=True)

        *_, third, deep = self.encoder(images)
        logits = enlarge(self.head(deep))
        return (logits, enlarge(self.aux_head(third))) if self.training else logits


def build(num_classes: int) -> nn.Module:
    return PSPNet(num_classes)
