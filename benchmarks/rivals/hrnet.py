"""HRNetV2-W48 in PyTorch: four resolutions side by side, mixed again and again, joined at the finest.

Wang et al. Deep High-Resolution Representation Learning for Visual Recognition. TPAMI 2021. arXiv:1908.07919. Equals
`segjax/models/encoders/hrnet.py` ("hrnet_w48", corners aligned) and `concatenated` of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .resnet import basic_block, bottleneck, conv_norm

WIDTHS = (48, 96, 192, 384)
MODULES = (1, 4, 3)  # with two, three and four resolutions
BLOCKS = 4
CHANNELS = sum(WIDTHS)


def enlarged(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def mixer(source: int, target: int) -> nn.Module:
    """From branch `source` to the channels of branch `target` and, where that is coarser, to its resolution."""
    if source == target:
        return nn.Identity()
    if source > target:
        return conv_norm(WIDTHS[source], WIDTHS[target], 1, relu=False)
    width = WIDTHS[source]
    halvings = [conv_norm(width, width, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, conv_norm(width, WIDTHS[target], stride=2, relu=False))


class ParallelBranches(nn.Module):
    """Residual blocks on each resolution, then each resolution's sum over all: [x_0, x_1, ...] -> the same shapes."""

    def __init__(self, count: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(basic_block(width) for _ in range(BLOCKS))) for width in WIDTHS[:count]
        )
        self.mixers = nn.ModuleList(
            nn.ModuleList(mixer(source, target) for source in range(count)) for target in range(count)
        )

    def forward(self, xs: list[torch.Tensor]) -> list[torch.Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        mixed = []
        for target, mixers in enumerate(self.mixers):
            moved = [mix(x) for mix, x in zip(mixers, xs, strict=True)]
            moved[target + 1 :] = [enlarged(x, xs[target]) for x in moved[target + 1 :]]
            mixed.append(F.relu(sum(moved), inplace=True))
        return mixed


class HRNet(nn.Module):
    """[B, 3, H, W], multiples of 32 -> [B, CHANNELS, H/4, W/4]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, 64, stride=2),
            conv_norm(64, 64, stride=2),
            bottleneck(64, 256),
            *(bottleneck(256, 256) for _ in range(3)),
        )
        self.first = conv_norm(256, WIDTHS[0])
        # Each new resolution comes from the coarsest one there is; the first of them straight from the stem.
        self.halve = nn.ModuleList(
            conv_norm(inputs, width, stride=2) for inputs, width in zip((256, *WIDTHS[1:]), WIDTHS[1:])
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ParallelBranches(count) for _ in range(modules)))
            for count, modules in enumerate(MODULES, start=2)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        coarsest = self.stem(images)
        xs = [self.first(coarsest)]
        for halve, stage in zip(self.halve, self.stages, strict=True):
            xs = stage([*xs, halve(coarsest)])
            coarsest = xs[-1]
        return torch.cat([xs[0], *(enlarged(x, xs[0]) for x in xs[1:])], dim=1)
