"""ICNet: a thin PSPNet on a small image, corrected by shallow branches on larger ones.

Zhao, Qi, Shen, Shi, Jia. ICNet for Real-Time Semantic Segmentation on High-Resolution Images. ECCV 2018.
arXiv:1704.08545.

What is particular: a cascade of three resolutions. The image at half size runs through the first stages of a ResNet-50
of half the width; there (stride 16) the features are halved once more, and the heavy stages, dilated, and the summed
pyramid pooling run at a quarter of the image's resolution (stride 32). The full image sees three convolutions. Cascade
feature fusion upsamples the coarser branch by two and adds the finer one, twice. In training each coarser branch is
scored as well (cascade label guidance, section 3.4); hellochick/ICNet-tensorflow weighs them by 0.16 at stride 16, 0.4
at stride 8, 1 at stride 4.

Held to the authors' layout: 6,699,990 parameters at 19 classes (hszhao/ICNet, icnet_cityscapes_bnnomerge.prototxt).
Ours has 6,707,321: 7,334 more for the two training classifiers, which that file for testing leaves out, and 3 less, its
scale of the image's channels. meetshah1995/pytorch-semseg has those too, and 1,050,624 weights that it never uses; its
strides sit on the 3x3 convolutions (variant `semseg`).

GMACs at 1025x2049: 29.81. Published accuracy: 67.7 mean IoU on Cityscapes val (hszhao/ICNet). Pyramid pooling
is adaptive: the same bins at any size, where the authors' windows are made for 1025x2049 and overlap by up to a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import ImageNetwork
from segjax.models.encoders.resnet import Bottleneck
from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.adaptive_pool import adaptive_avg_pool
from segjax.ops.pooling import max_pool
from segjax.ops.resize import resize

PAPER = "Zhao, Qi, Shen, Shi, Jia. ICNet for Real-Time Semantic Segmentation. ECCV 2018. arXiv:1704.08545"

VARIANTS = {
    "paper": dict(),
    "semseg": dict(stride_in_1x1=False),
    "test": dict(width=4, blocks=(1, 2, 1, 1), low_features=8, features=8),
}


class ICNet(ImageNetwork):
    """ICNet. Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K]; in training auxiliary logits of the
    branches at strides 8 and 16.

    Attributes:
      width: channels of the stems; the residual stages have 4, 8, 16 and 32 times as many.
      blocks: residual blocks of each stage.
      bins: of each level of the pyramid pooling, on a side.
      low_features: to which the coarsest branch is reduced.
      features: of the fused branches.
      stride_in_1x1: see `segjax.models.encoders.resnet.Bottleneck`.
    """

    width: int = 32
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    bins: tuple[int, ...] = (1, 2, 3, 6)
    low_features: int = 256
    features: int = 128
    stride_in_1x1: bool = True

    @property
    def stride(self) -> int:
        return 32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`."""
        self.check_input(images)
        full = images.astype(self.dtype)

        x = self._stem(_scale(full, 0.5), "stem", (2, 1, 1), train)
        x = self._stage(max_pool(x, 3, 2, padding=1), 1, range(self.blocks[0]), train)
        medium = self._stage(x, 2, range(1), train)
        x = self._stage(_scale(medium, 0.5), 2, range(1, self.blocks[1]), train)
        x = self._stage(x, 3, range(self.blocks[2]), train)
        x = self._stage(x, 4, range(self.blocks[3]), train)
        pooled = [adaptive_avg_pool(x, bins) for bins in self.bins]
        x = x + sum(resize(level, x.shape[1:3], align_corners=True) for level in pooled)
        low = ConvNorm(self.low_features, 1, dtype=self.dtype, name="low")(x, train)
        high = self._stem(full, "high", (2, 2, 2), train)

        scores = []
        for stride, branch in ((16, medium), (8, high)):
            low = _scale(low, 2)
            if self.auxiliary_runs(train):
                scores.append(self._classify(low, f"classifier_{stride}"))
            low = ConvNorm(self.features, 3, rate=2, act=None, dtype=self.dtype, name=f"coarse_{stride}")(low, train)
            low = low + ConvNorm(self.features, 1, act=None, dtype=self.dtype, name=f"fine_{stride}")(branch, train)
            low = nn.relu(low)
        logits = self._classify(_scale(low, 2), "classifier")
        return self.outputs(logits, scores[::-1], size=images.shape[1:3], align_corners=True)

    def _stem(self, x: jax.Array, name: str, strides: Sequence[int], train: bool) -> jax.Array:
        """Three 3x3 convolutions of `width`, `width` and twice `width` channels."""
        for i, stride in enumerate(strides, start=1):
            x = ConvNorm(self.width * (i // 3 + 1), 3, stride, dtype=self.dtype, name=f"{name}{i}")(x, train)
        return x

    def _stage(self, x: jax.Array, stage: int, blocks: range, train: bool) -> jax.Array:
        """Those blocks of a stage; the second halves the resolution, the third and fourth have rates of 2 and 4."""
        rate = {3: 2, 4: 4}.get(stage, 1)
        for i in blocks:
            stride = 2 if stage == 2 and i == 0 else 1
            block = Bottleneck(
                self.width * 2 ** (stage + 1),
                stride,
                (rate, rate),
                self.dtype,
                self.stride_in_1x1,
                name=f"stage{stage}_block{i + 1}",
            )
            x = block(x, train)
        return x

    def _classify(self, x: jax.Array, name: str) -> jax.Array:
        return Conv(self.num_classes, 1, dtype=self.dtype, name=name)(x)


def _scale(x: jax.Array, factor: float) -> jax.Array:
    return resize(x, (int(x.shape[1] * factor), int(x.shape[2] * factor)), align_corners=True)


MODEL = ICNet
