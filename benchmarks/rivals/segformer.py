"""SegFormer in PyTorch; equals `segformer/b2`.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo. SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers. NeurIPS 2021. arXiv:2105.15203. Inside the encoder maps are [B, H, W, C]: dense layers and layer
normalisation work on the last axis, and a permuted view of such a map is what a convolution calls channels_last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .resnet import conv_norm

WIDTHS, DEPTHS, HEADS, REDUCTIONS = (64, 128, 320, 512), (3, 4, 6, 3), (1, 2, 5, 8), (8, 4, 2, 1)
FEATURES = 768
DROP_PATH = 0.1


def convolved(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """The convolution of a map [B, H, W, C], again such a map."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Self-attention over a map [B, H, W, C], whose keys and values come from the map shrunk by `reduction`."""

    def __init__(self, width: int, heads: int, reduction: int):
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2)

        context = self.norm(convolved(self.reduce, x)) if self.reduction > 1 else x
        y = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(context)), split(self.value(context)))
        return self.project(y.transpose(1, 2).reshape(x.shape))


class MixFFN(nn.Module):
    """Two dense layers with a depthwise 3x3 convolution and a GELU between them; [B, H, W, C] stays."""

    def __init__(self, width: int):
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.contract(F.gelu(convolved(self.depthwise, self.expand(x))))


class DropPath(nn.Module):
    """Leaves out a branch with probability `rate` in training, image by image."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int, drop_path: float):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width, eps=1e-6), Attention(width, heads, reduction))
        self.mlp = nn.Sequential(nn.LayerNorm(width, eps=1e-6), MixFFN(width))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attention(x))
        return x + self.drop_path(self.mlp(x))


class Stage(nn.Module):
    """A patch embedding and its blocks: [B, h, w, inputs] -> [B, h/stride, w/stride, width]."""

    def __init__(self, inputs: int, width: int, stride: int, heads: int, reduction: int, drop_paths: list[float]):
        super().__init__()
        kernel = 2 * stride - 1
        self.embed = nn.Conv2d(inputs, width, kernel, stride, padding=kernel // 2)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, heads, reduction, rate) for rate in drop_paths))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(self.embed_norm(convolved(self.embed, x))))


class SegFormer(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        rates = iter(DROP_PATH * i / (sum(DEPTHS) - 1) for i in range(sum(DEPTHS)))
        layout = zip((3, *WIDTHS), WIDTHS, (4, 2, 2, 2), HEADS, REDUCTIONS)
        self.stages = nn.ModuleList(
            Stage(*sizes, [next(rates) for _ in range(depth)]) for sizes, depth in zip(layout, DEPTHS)
        )
        self.project = nn.ModuleList(nn.Linear(width, FEATURES) for width in WIDTHS)
        self.fuse = nn.Sequential(conv_norm(len(WIDTHS) * FEATURES, FEATURES, 1), nn.Dropout2d(0.1))
        self.classifier = nn.Conv2d(FEATURES, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor]:
        x, projected = images.permute(0, 2, 3, 1), []
        for stage, project in zip(self.stages, self.project, strict=True):
            x = stage(x)
            projected.append(project(x).permute(0, 3, 1, 2))
        finest = projected[0].shape[2:]
        enlarged = [F.interpolate(y, finest, mode="bilinear") for y in projected[:0:-1]]
        x = self.fuse(torch.cat([*enlarged, projected[0]], dim=1))
        logits = F.interpolate(self.classifier(x).float(), images.shape[2:], mode="bilinear")
        return (logits,) if self.training else logits


def build(num_classes: int) -> nn.Module:
    return SegFormer(num_classes)
