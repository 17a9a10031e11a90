"""DeepLab v3+ in PyTorch; equals `deeplabv3plus/resnet50`.

Chen, Zhu, Papandreou, Schroff, Adam. Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation. ECCV 2018. arXiv:1802.02611. Output stride 16, separable convolutions in pyramid and decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .resnet import ResNet50, conv_norm

FEATURES, LOW_FEATURES, RATES = 256, 48, (6, 12, 18)


def separable(inputs: int, outputs: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(conv_norm(inputs, inputs, rate=rate, groups=inputs), conv_norm(inputs, outputs, 1))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: [B, inputs, h, w] -> [B, FEATURES, h, w]."""

    def __init__(self, inputs: int):
        super().__init__()
        rates = [separable(inputs, FEATURES, rate) for rate in RATES]
        self.branches = nn.ModuleList([conv_norm(inputs, FEATURES, 1), *rates])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm(inputs, FEATURES, 1))
        self.project = nn.Sequential(conv_norm((2 + len(RATES)) * FEATURES, FEATURES, 1), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [branch(x) for branch in self.branches]
        maps.append(self.pool(x).expand(-1, -1, *x.shape[2:]))
        return self.project(torch.cat(maps, dim=1))


class DeepLabV3Plus(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.encoder = ResNet50(output_stride=16)
        self.aspp = ASPP(2048)
        self.low = conv_norm(256, LOW_FEATURES, 1)
        self.decoder = nn.Sequential(separable(FEATURES + LOW_FEATURES, FEATURES), separable(FEATURES, FEATURES))
        self.classifier = nn.Conv2d(FEATURES, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor]:
        low, _, _, deep = self.encoder(images)
        x = F.interpolate(self.aspp(deep), low.shape[2:], mode="bilinear")
        x = self.decoder(torch.cat([x, self.low(low)], dim=1))
        logits = F.interpolate(self.classifier(x).float(), images.shape[2:], mode="bilinear")
        return (logits,) if self.training else logits


def build(num_classes: int) -> nn.Module:
    return DeepLabV3Plus(num_classes)
