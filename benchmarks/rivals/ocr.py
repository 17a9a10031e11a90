"""HRNet-W48 + OCR in PyTorch; equals `ocr/hrnet-w48`.

Yuan, Chen, Wang. Object-Contextual Representations for Semantic Segmentation. ECCV 2020. arXiv:1909.11065. Corners
aligned as in the authors' code; the soft regions are the auxiliary output.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .hrnet import CHANNELS, HRNet, enlarged
from .resnet import conv_norm

FEATURES, KEY_FEATURES = 512, 256


class ObjectAttention(nn.Module):
    """What each pixel finds among the objects: x [B, FEATURES, h, w], objects [B, FEATURES, K, 1] -> x's shape."""

    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(conv_norm(FEATURES, KEY_FEATURES, 1), conv_norm(KEY_FEATURES, KEY_FEATURES, 1))
        self.key = nn.Sequential(conv_norm(FEATURES, KEY_FEATURES, 1), conv_norm(KEY_FEATURES, KEY_FEATURES, 1))
        self.value = conv_norm(FEATURES, KEY_FEATURES, 1)
        self.out = conv_norm(KEY_FEATURES, FEATURES, 1)

    def forward(self, x: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        maps = self.query(x), self.key(objects), self.value(objects)
        query, key, value = (y.flatten(2).transpose(1, 2).unsqueeze(1) for y in maps)  # one head
        context = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        return self.out(context.transpose(1, 2).unflatten(2, x.shape[2:]))


class OCRNet(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.encoder = HRNet()
        self.regions = nn.Sequential(conv_norm(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, num_classes, 1))
        self.pixels = conv_norm(CHANNELS, FEATURES)
        self.attention = ObjectAttention()
        self.join = nn.Sequential(conv_norm(2 * FEATURES, FEATURES, 1), nn.Dropout2d(0.05))
        self.classifier = nn.Conv2d(FEATURES, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(images)
        regions, x = self.regions(features), self.pixels(features)
        share = regions.flatten(2).softmax(dim=2)
        objects = torch.einsum("bkn,bcn->bck", share, x.flatten(2)).unsqueeze(3)
        logits = self.classifier(self.join(torch.cat([self.attention(x, objects), x], dim=1)))
        logits = enlarged(logits.float(), images)
        return (logits, enlarged(regions.float(), images)) if self.training else logits


def build(num_classes: int) -> nn.Module:
    return OCRNet(num_classes)
