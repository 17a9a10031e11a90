"""ResNet-50 in PyTorch, held at output stride 16 or 8 by atrous convolution, and the blocks that HRNet has too.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016. arXiv:1512.03385. Equals
`segjax/models/encoders/resnet.py` ("resnet50") with the fields of `deeplabv3plus/resnet50` and `pspnet/resnet50`.
"""

from __future__ import annotations

import torch
from torch import nn

BLOCKS = (3, 4, 6, 3)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, rate: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, unless told otherwise, ReLU; half a kernel of padding."""
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2 * rate, dilation=rate, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]: ReLU of the branch plus x, or plus its 1x1 projection."""

    def __init__(self, branch: nn.Module, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.branch = branch
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


def basic_block(width: int) -> Residual:
    branch = nn.Sequential(conv_norm(width, width), conv_norm(width, width, relu=False))
    return Residual(branch, width, width)


def bottleneck(inputs: int, outputs: int, stride: int = 1, rate: int = 1) -> Residual:
    inner = outputs // 4
    branch = nn.Sequential(
        conv_norm(inputs, inner, 1),
        conv_norm(inner, inner, 3, stride, rate),
        conv_norm(inner, outputs, 1, relu=False),
    )
    return Residual(branch, inputs, outputs, stride)


class ResNet50(nn.Module):
    """[B, 3, H, W] -> the results of the four stages, with 256, 512, 1024 and 2048 channels.

    Args:
      output_stride: 16 or 8: the last stage, or the last two, keep their resolution and sample at a rate instead.
      wide_stem: three 3x3 convolutions of 64, 64 and 128 channels in place of the 7x7 one of 64.
      dilate_first: the first block of a stage samples at the stage's rate, rather than at that of the stage before.
    """

    def __init__(self, output_stride: int, wide_stem: bool = False, dilate_first: bool = False):
        super().__init__()
        if wide_stem:
            inputs, stem = 128, [conv_norm(3, 64, stride=2), conv_norm(64, 64), conv_norm(64, 128)]
        else:
            inputs, stem = 64, [conv_norm(3, 64, 7, 2)]
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.ModuleList()
        reached, rate = 4, 1
        for i, blocks in enumerate(BLOCKS):
            outputs, stride, rate_before = 256 * 2**i, 1, rate
            if i > 0 and reached < output_stride:
                stride, reached = 2, 2 * reached
            elif i > 0:
                rate *= 2
            first = bottleneck(inputs, outputs, stride, rate if dilate_first else rate_before)
            others = [bottleneck(outputs, outputs, rate=rate) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *others))
            inputs = outputs

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
