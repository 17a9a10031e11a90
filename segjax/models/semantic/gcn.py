"""GCN: kernels as large as the feature map, and boundaries refined at every scale.

Peng, Zhang, Yu, Luo, Sun. Large Kernel Matters: Improve Semantic Segmentation by Global Convolutional Network. CVPR
2017. arXiv:1703.02719.

What is particular: each stage of a ResNet is scored by a global convolution, a k x k kernel as two separable pairs, and
refined by a residual block on the scores themselves (boundary refinement); scores are upsampled by two, added to the
finer ones and refined again, down to the image. k = 15 nearly covers the coarsest map of a 512x512 image.

Held to these published layouts, to the parameter:

    resnet101-k7, 21 classes   43,725,972   zijundeng/pytorch-semantic-segmentation, its ResNet-152 replaced
    resnet152-k7, 21 classes   59,369,620   zijundeng/pytorch-semantic-segmentation

GMACs of those at 512x512: 46.14 and 65.53. The upsampling is bilinear with aligned corners, as there; the paper's is a
transposed convolution. Its ResNet-152 with GCN and boundary refinement, trained on COCO too, has 82.2 mean IoU on VOC
2012 test.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv, GlobalConv
from segjax.ops.precision import widen
from segjax.ops.resize import resize

PAPER = "Peng, Zhang, Yu, Luo, Sun. Large Kernel Matters (GCN). CVPR 2017. arXiv:1703.02719"

VARIANTS = {
    "resnet152": dict(encoder="resnet152"),
    "resnet50": dict(encoder="resnet50"),
    "resnet101": dict(encoder="resnet101"),
    "resnet50-k7": dict(encoder="resnet50", kernel_size=7),
    "resnet101-k7": dict(encoder="resnet101", kernel_size=7),
    "resnet152-k7": dict(encoder="resnet152", kernel_size=7),
    "test": dict(encoder="resnet_test", kernel_size=3),
}


class BoundaryRefinement(nn.Module):
    """x plus two 3x3 convolutions of it with ReLU between; [B, H, W, C] -> the same shape. Children
    `conv1`, `conv2`, with biases.

    Attributes:
      dtype: of the arithmetic.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(Conv(x.shape[-1], 3, dtype=self.dtype, name="conv1")(x))
        return x + Conv(x.shape[-1], 3, dtype=self.dtype, name="conv2")(y)


class GCN(EncoderNetwork):
    """GCN. Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 2, 4, 8, 16 and 32.
      kernel_size: k of every global convolution, odd.
    """

    encoder: str = "resnet152"
    kernel_size: int = 15

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for; for an even kernel size.
        """
        stages = self.stages(images, (2, 4, 8, 16, 32), train)

        def refine(x: jax.Array, name: str) -> jax.Array:
            return BoundaryRefinement(self.dtype, name=name)(x)

        def score(stride: int) -> jax.Array:
            conv = GlobalConv(self.num_classes, self.kernel_size, self.dtype, name=f"global_{stride}")
            return refine(conv(stages[stride]), f"refine_{stride}")

        x = score(32)
        for stride in (16, 8, 4):
            finer = score(stride)
            x = refine(resize(x, finer.shape[1:3], align_corners=True) + finer, f"refine_sum_{stride}")
        x = refine(resize(x, stages[2].shape[1:3], align_corners=True), "refine_2")
        return self.outputs(refine(resize(widen(x), images.shape[1:3], align_corners=True), "refine_1"))


MODEL = GCN
