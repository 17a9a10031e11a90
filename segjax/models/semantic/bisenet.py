"""BiSeNet: a shallow path for detail, a deep one for context.

Yu, Wang, Peng, Gao, Yu, Sang. BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation. ECCV 2018.
arXiv:1808.00897. Layout: figure 2.

What is particular: a spatial path of four convolutions that keeps 128 channels at stride 8; a context path, a light
classifier whose two deepest stages pass attention refinement modules (channels weighed by their own means) and are
summed top-down onto the mean of the whole image; a feature fusion module that joins both and weighs the result's
channels likewise; in training an auxiliary head on each of the two refined stages, of weight 1.

Held to the parameter, auxiliary heads included, at 19 classes (ycszen/TorchSeg is by the first author):

    resnet18              13,494,777   TorchSeg, cityscapes.bisenet.R18
    xception39             1,842,289   TorchSeg, cityscapes.bisenet.X39
    resnet18-coincheung   13,425,721   CoinCheung/BiSeNet and mmsegmentation (13,275,539 without auxiliary heads)

The last has another fusion (one normalised convolution), nearest upsampling in the context path and wider heads.
Accuracy, Cityscapes: test (paper) ResNet-18 74.7, Xception-39 68.4 mean IoU; val, one scale (TorchSeg's README) 76.28
and 70.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.pooling import global_avg_pool
from segjax.ops.resize import resize

PAPER = "Yu, Wang, Peng, Gao, Yu, Sang. BiSeNet. ECCV 2018. arXiv:1808.00897"
INPUT = (1024, 2048, 19)

VARIANTS = {
    "resnet18": dict(),
    "xception39": dict(encoder="xception39", aux_features=128),
    "resnet18-coincheung": dict(
        head_features=256, aux_features=64, normalised_fusion=True, nearest=True, align_corners=False
    ),
    "test": dict(encoder="resnet_test", features=8, spatial_features=4, head_features=4, aux_features=4),
}


class AttentionRefinement(nn.Module):
    """A 3x3 convolution whose channels are weighed by their own means (figure 2b).

    [B, H, W, C] -> [B, H, W, features]; called `(x, train)`.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNorm(self.features, dtype=self.dtype, name="conv")(x, train)
        gate = ConvNorm(self.features, 1, act=None, dtype=self.dtype, name="gate")
        return x * nn.sigmoid(gate(global_avg_pool(x), train))


class FeatureFusion(nn.Module):
    """Both paths concatenated, mixed, and each channel raised by a share of itself that the means decide (figure 2c).

    [B, H, W, C] twice -> [B, H, W, 2 * C]; called `(spatial, context, train)`.

    Attributes:
      normalised: the gate is one normalised convolution rather than two bare ones with a ReLU between.
    """

    normalised: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, spatial: jax.Array, context: jax.Array, train: bool) -> jax.Array:
        x = jnp.concatenate([spatial, context], axis=-1)
        features = x.shape[-1]
        x = ConvNorm(features, 1, dtype=self.dtype, name="mix")(x, train)
        gate = global_avg_pool(x)
        if self.normalised:
            gate = ConvNorm(features, 1, act=None, dtype=self.dtype, name="gate")(gate, train)
        else:
            gate = nn.relu(Conv(features, 1, use_bias=False, dtype=self.dtype, name="gate1")(gate))
            gate = Conv(features, 1, use_bias=False, dtype=self.dtype, name="gate2")(gate)
        return x + x * nn.sigmoid(gate)


class BiSeNet(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: the context path, with stages at strides 16 and 32.
      features: channels of the paths' results.
      spatial_features: of the spatial path's first three convolutions.
      head_features: of the head's 3x3 convolution.
      aux_features: of the auxiliary heads'.
      normalised_fusion: see `FeatureFusion.normalised`.
      nearest: the context path upsamples by the nearest pixel rather than bilinearly.
      align_corners: of every bilinear resize.
    """

    encoder: str = "resnet18"
    features: int = 128
    spatial_features: int = 64
    head_features: int = 64
    aux_features: int = 256
    normalised_fusion: bool = False
    nearest: bool = False
    align_corners: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for.
        """
        stages = self.stages(images, (16, 32), train)
        spatial = self._spatial_path(images, train)
        middle, fine = self._context_path(stages, train)
        fused = FeatureFusion(self.normalised_fusion, self.dtype, name="fusion")(spatial, fine, train)
        logits = self._head(fused, self.head_features, "head", train)
        aux = []
        if self.auxiliary_runs(train):
            aux = [self._head(x, self.aux_features, name, train) for x, name in ((middle, "aux16"), (fine, "aux8"))]
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)

    def _spatial_path(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H/8, W/8, features]."""
        for i, size in enumerate((7, 3, 3)):
            x = ConvNorm(self.spatial_features, size, 2, dtype=self.dtype, name=f"spatial{i + 1}")(x, train)
        return ConvNorm(self.features, 1, dtype=self.dtype, name="spatial4")(x, train)

    def _context_path(self, stages: Mapping[int, jax.Array], train: bool) -> tuple[jax.Array, jax.Array]:
        """The encoder's stages -> [B, H/16, W/16, features] and [B, H/8, W/8, features]."""
        x = ConvNorm(self.features, 1, dtype=self.dtype, name="mean")(global_avg_pool(stages[32]), train)
        results = []
        for stride in (32, 16):
            x = x + AttentionRefinement(self.features, self.dtype, name=f"attention{stride}")(stages[stride], train)
            size = (2 * x.shape[1], 2 * x.shape[2])
            x = resize(x, size, "nearest") if self.nearest else resize(x, size, align_corners=self.align_corners)
            x = ConvNorm(self.features, dtype=self.dtype, name=f"refine{stride}")(x, train)
            results.append(x)
        return results[0], results[1]

    def _head(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        x = ConvNorm(features, dtype=self.dtype, name=f"{name}_conv")(x, train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name=f"{name}_classifier")(x)


MODEL = BiSeNet
