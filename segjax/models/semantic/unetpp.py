"""U-Net++: a U-Net whose skips pass through nested, dense convolutions.

Zhou, Siddiquee, Tajbakhsh, Liang. UNet++: A Nested U-Net Architecture for Medical Image Segmentation. DLMIA 2018.
arXiv:1807.10165.

What is particular: node (i, j) of level i and column j takes the nodes (i, 0) ... (i, j-1) and the upsampled node
(i+1, j-1); column 0 is the encoder. Every node (0, j) is as fine as the image, so that each can have a classifier
(deep supervision), and a network cut after column j is a whole U-Net++ of depth j (pruning).

Held to 4uiiurz1/pytorch-nested-unet, `NestedUNet`, to the parameter: 9,163,329 at 1 class without deep supervision
(variant "plain", 4.85 GMACs at 96x96), 33 more for each of the three further classifiers with it. Its convolutions have
biases although normalisations follow, and its upsampling is bilinear with aligned corners, where the paper has
transposed convolutions and 9.04M.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.pooling import max_pool
from segjax.ops.resize import resize

PAPER = "Zhou, Siddiquee, Tajbakhsh, Liang. UNet++. DLMIA 2018. arXiv:1807.10165"
INPUT = (96, 96, 1)

VARIANTS = {
    "supervised": dict(),
    "plain": dict(deep_supervision=False),
    "test": dict(widths=(4, 6, 8)),
}
# A convolution's bias is removed by the normalisation after it.
ZERO_GRADIENT = {"test": r"/conv[12]/conv/bias$"}


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with normalisation and ReLU. [B, H, W, C] -> [B, H, W, features]."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i in (1, 2):
            x = ConvNorm(self.features, use_bias=True, dtype=self.dtype, name=f"conv{i}")(x, train)
        return x


class UNetPlusPlus(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 2^(levels - 1) -> logits [B, H, W, K].

    Attributes:
      widths: channels of each level, the finest first.
      deep_supervision: a classifier on each of the columns 1, 2, ...; only on the last without.
      column: whose classifier gives the logits (the others' are auxiliary); 0 for the last. A smaller one in
        evaluation is the paper's pruned network: what it does not need is not computed. Needs deep supervision.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    deep_supervision: bool = True
    column: int = 0

    @property
    def stride(self) -> int:
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        self.check_input(images)
        depth = len(self.widths) - 1
        column = self.column or depth
        if not 1 <= column <= depth or (column < depth and not self.deep_supervision):
            raise ModelError(f"UNetPlusPlus: column={self.column}: use 0 to {depth}, with deep_supervision unless 0.")
        nodes: dict[tuple[int, int], jax.Array] = {}
        x = images.astype(self.dtype)
        for total in range(depth + 1):
            for j in range(total + 1):
                i = total - j
                if j == 0:
                    inputs = [max_pool(nodes[i - 1, 0]) if i else x]
                else:
                    below = nodes[i + 1, j - 1]
                    size = (2 * below.shape[1], 2 * below.shape[2])
                    inputs = [*(nodes[i, k] for k in range(j)), resize(below, size, align_corners=True)]
                conv = DoubleConv(self.widths[i], self.dtype, name=f"node{i}_{j}")
                nodes[i, j] = conv(jnp.concatenate(inputs, -1), train)
        columns = range(1, depth + 1) if self.deep_supervision else [depth]
        heads = {j: Conv(self.num_classes, 1, dtype=self.dtype, name=f"classifier{j}")(nodes[0, j]) for j in columns}
        logits = heads.pop(column)
        return self.outputs(logits, list(heads.values()) if train else ())


MODEL = UNetPlusPlus
