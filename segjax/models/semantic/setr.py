"""SETR: segmentation as sequence-to-sequence prediction by a plain vision transformer.

Zheng, Lu, Zhao, Zhu, Luo, Wang, Fu, Feng, Xiang, Torr, Zhang. Rethinking Semantic Segmentation from a
Sequence-to-Sequence Perspective with Transformers. CVPR 2021. arXiv:2012.15840. Decoders: section 3.3 and figure 1.

What is particular: ViT-L/16 (`segjax/models/encoders/vit.py`) without its last normalisation sees the whole image at
stride 16 in every layer, and one of three decoders makes it pixels. Naive: 1x1 convolutions. PUP (progressive
upsampling): four 3x3 convolutions, each followed by a doubling. MLA (multi-level aggregation): blocks 6, 12, 18 and 24,
summed top-down, a branch of convolutions each. Auxiliary heads on several blocks, of weight 0.4.

Held to fudan-zvg/SETR, to the parameter, auxiliary heads included. Its own counts, which the paper's table 2 rounds,
include a classifier a head that never runs (512 K + K) and, with MLA, the class token (1024) and its position (1024),
which are made and then cut off; all are left out here:

                                   theirs        here
    naive, K = 19, 768x768    306,576,536  306,537,548
    naive-base, K = 19         88,270,232   88,231,244
    mla, K = 19               310,805,618  310,754,835
    pup, K = 19               319,113,662  319,064,927
    naive, K = 150, 512x512   305,669,296  305,361,496   (grid 32)
    mla, K = 150, 512x512     310,568,836  310,182,038   (grid 32)
    pup, K = 150, 512x512     318,307,292  317,922,542   (grid 32; the paper: 318.31M)

Accuracy (paper, table 2): Cityscapes val, 80,000 iterations, single scale: naive 77.90, MLA 77.24, PUP 79.34 mean IoU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv, ConvNorm
from segjax.nn.transformer import LayerNorm
from segjax.ops.resize import resize

PAPER = "Zheng, Lu, Zhao, Zhu, Luo, Wang, Fu, Feng, Xiang, Torr, Zhang. SETR. CVPR 2021. arXiv:2012.15840"
INPUT = (768, 768, 19)

VARIANTS = {
    "pup": dict(),
    "naive": dict(decoder="naive", blocks=(10, 15, 20)),
    "mla": dict(decoder="mla", blocks=(6, 12, 18, 24)),
    "naive-base": dict(decoder="naive", encoder="vit_b16", blocks=(3, 6, 9)),
    "test": dict(encoder="vit_test", encoder_options=dict(grid=3), blocks=(1,), features=8),
}
# A key's bias moves all scores of a query alike; a convolution's bias is removed by the normalisation after it.
ZERO_GRADIENT = {"test": r"/attention/key/bias$|/conv\d/conv/bias$"}


class UpHead(nn.Module):
    """Layer normalisation, convolutions each followed by upsampling, classifier: the naive and the PUP decoder.

    Called `(x [B, h, w, C], train)` -> [B, h', w', num_classes], h' = h * product of scales.

    Attributes:
      num_classes: K.
      features: channels of the convolutions.
      kernel_size: of the convolutions.
      scales: how much is upsampled after each.
    """

    num_classes: int
    features: int
    kernel_size: int
    scales: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = LayerNorm(dtype=self.dtype, name="norm")(x)
        for i, scale in enumerate(self.scales):
            conv = ConvNorm(self.features, self.kernel_size, use_bias=True, dtype=self.dtype, name=f"conv{i + 1}")
            x = _upsampled(conv(x, train), scale)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)


class SETR(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 16 -> logits [B, H, W, K].

    Attributes:
      decoder: a key of `DECODERS`.
      encoder: a vision transformer.
      encoder_options: such as `ViT.drop_path`, or `ViT.grid`, the training crop's side / 16.
      blocks: the encoder's blocks, from 1, that get an auxiliary head; of MLA, those it aggregates, four or not.
      features: channels of the decoder; MLA's branches have half as many.
      aux_heads: auxiliary heads, for training only.
    """

    decoder: str = "pup"
    encoder: str = "vit_l16"
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"grid": 48})
    blocks: tuple[int, ...] = (10, 15, 20, 24)
    features: int = 256
    aux_heads: bool = True

    @property
    def stride(self) -> int:
        return 16

    def auxiliary_runs(self, train: bool) -> bool:
        return self.aux_heads and super().auxiliary_runs(train)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown decoder, an encoder that is no vision transformer, or a block it does not have.
        """
        self.check_input(images)
        if self.decoder not in DECODERS:
            raise ModelError(f"SETR: decoder={self.decoder!r} is unknown: use 'naive', 'pup' or 'mla'.")
        maps = self.make_encoder(class_token=self.decoder != "mla", final_norm=False).maps(images, train)
        if not self.blocks or not all(1 <= block <= len(maps) for block in self.blocks):
            raise ModelError(f"SETR: blocks={self.blocks}: give some of the encoder's blocks 1 to {len(maps)}.")
        logits, aux = DECODERS[self.decoder](self, maps, train)
        return self.outputs(logits, aux, size=images.shape[1:3])


# A decoder makes its layers children of the network: (network, [B, h, w, C] after each block, train) -> logits, and
# those of the auxiliary heads.


def upsampling(
    network: SETR,
    maps: Sequence[jax.Array],
    train: bool,
    *,
    kernel_size: int,
    scales: tuple[int, ...],
    aux_scales: tuple[int, ...],
) -> tuple[jax.Array, list[jax.Array]]:
    """The naive and the PUP decoder: an `UpHead` on the last block, and an auxiliary one on each of the network's."""

    def head(scales: tuple[int, ...], name: str) -> UpHead:
        return UpHead(network.num_classes, network.features, kernel_size, scales, network.dtype, name=name)

    aux = []
    for block in network.blocks:
        aux += network.auxiliary(head(aux_scales, f"aux{block}"), maps[block - 1], train)
    return head(scales, "head")(maps[-1], train), aux


def multi_level(network: SETR, maps: Sequence[jax.Array], train: bool) -> tuple[jax.Array, list[jax.Array]]:
    """Multi-level aggregation: `network.blocks` summed top-down, each sum through a branch that ends at stride 4; an
    auxiliary classifier on each sum."""

    def conv(features: int, size: int, name: str) -> ConvNorm:
        return ConvNorm(features, size, dtype=network.dtype, name=name)

    branches, aux, total = [], [], 0
    for block in reversed(network.blocks):
        x = LayerNorm(dtype=network.dtype, name=f"norm{block}")(maps[block - 1])
        total = total + conv(network.features, 1, f"lateral{block}")(x, train)
        x = conv(network.features, 3, f"level{block}")(total, train)
        if network.auxiliary_runs(train):
            aux.append(Conv(network.num_classes, 1, use_bias=False, dtype=network.dtype, name=f"aux{block}")(x))
        for i in (1, 2):
            x = conv(network.features // 2, 3, f"branch{block}_conv{i}")(x, train)
        branches.append(_upsampled(x, 4, align_corners=True))
    joined = jnp.concatenate(branches[::-1], axis=-1)
    return Conv(network.num_classes, 3, dtype=network.dtype, name="classifier")(joined), aux[::-1]


DECODERS = {
    "naive": partial(upsampling, kernel_size=1, scales=(1,), aux_scales=(1,)),
    "pup": partial(upsampling, kernel_size=3, scales=(2, 2, 2, 1), aux_scales=(4,)),
    "mla": multi_level,
}


def _upsampled(x: jax.Array, scale: int, align_corners: bool = False) -> jax.Array:
    return resize(x, (scale * x.shape[1], scale * x.shape[2]), align_corners=align_corners)


MODEL = SETR
