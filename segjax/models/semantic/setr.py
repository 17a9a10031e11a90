"""SETR: segmentation as sequence-to-sequence prediction by a plain vision transformer.

Zheng, Lu, Zhao, Zhu, Luo, Wang, Fu, Feng, Xiang, Torr, Zhang. Rethinking Semantic Segmentation from a
Sequence-to-Sequence Perspective with Transformers. CVPR 2021. arXiv:2012.15840. Decoders: section 3.3 and figure 1.

What is particular: ViT-L/16 (`segjax/models/encoders/vit.py`) without its last normalisation sees the whole image at
stride 16 in every layer, and one of three decoders makes it pixels. Naive: 1x1 convolutions, one enlargement. PUP
(progressive upsampling): four 3x3 convolutions, each followed by a doubling. MLA (multi-level aggregation): blocks 6,
12, 18 and 24, summed top-down, a branch of convolutions each. Auxiliary heads on several blocks, of weight 0.4.

Held to fudan-zvg/SETR, to the parameter, auxiliary heads included. Its own counts, which the paper's table 2 rounds,
include a classifier a head that never runs (512 K + K) and, with MLA, the class token (1024) and its position (1024),
which are made and then cut off; all are left out here:

                                   theirs        here
    naive, K = 19, 768x768    306,576,536  306,537,548
    naive-base, K = 19         88,270,232   88,231,244
    mla, K = 19               310,805,618  310,754,835
    pup, K = 19               319,113,662  319,064,927
    naive, K = 150, 512x512   305,669,296  305,361,496   (`grid=32`)
    mla, K = 150, 512x512     310,568,836  310,182,038   (`grid=32`)
    pup, K = 150, 512x512     318,307,292  317,922,542   (`grid=32`; the paper: 318.31M)

Accuracy (paper, table 2): Cityscapes val, 80,000 iterations, single scale: naive 77.90, MLA 77.24, PUP 79.34 mean IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import Network
from segjax.models.encoders import create_encoder
from segjax.models.encoders.vit import ViT
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
    "test": dict(encoder="vit_test", blocks=(1,), features=8, grid=3),
}
# A key's bias moves all scores of a query alike; a convolution's bias is removed by the normalisation after it.
ZERO_GRADIENT = {"test": r"/attention/key/bias$|/conv\d/conv/bias$"}


class UpHead(nn.Module):
    """Layer normalisation, convolutions each followed by an enlargement, classifier: the naive and the PUP decoder.

    Called `(x [B, h, w, C], train)` -> [B, h', w', num_classes], h' = h * product of scales.

    Attributes:
      num_classes: K.
      features: channels of the convolutions.
      kernel_size: of the convolutions.
      scales: how much is enlarged after each.
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
            x = _enlarged(conv(x, train), scale)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)


class SETR(Network):
    """Images [B, H, W, C], H and W multiples of 16 -> logits [B, H, W, K].

    Attributes:
      decoder: "naive", "pup" or "mla".
      encoder: a vision transformer of `segjax.models.encoders.ENCODERS`.
      grid: patches on a side of the stored position embedding, see `ViT.grid`: the training crop's side / 16.
      blocks: the encoder's blocks, from 1, that get an auxiliary head; of MLA, those it aggregates, four or not.
      features: channels of the decoder; MLA's branches have half as many.
      drop_path: see `ViT.drop_path`.
      aux_heads: auxiliary heads, for training only.
    """

    decoder: str = "pup"
    encoder: str = "vit_l16"
    grid: int = 48
    blocks: tuple[int, ...] = (10, 15, 20, 24)
    features: int = 256
    drop_path: float = 0.0
    aux_heads: bool = True

    @property
    def stride(self) -> int:
        return 16

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `Network`.

        Raises:
          ModelError: for an unknown decoder, an encoder that is no vision transformer, or a block it does not have.
        """
        self.check_input(images)
        if self.decoder not in ("naive", "pup", "mla"):
            raise ModelError(f"SETR: decoder={self.decoder!r} is unknown: use 'naive', 'pup' or 'mla'.")
        maps = self._encoder().maps(images, train)
        if not self.blocks or not all(1 <= block <= len(maps) for block in self.blocks):
            raise ModelError(f"SETR: blocks={self.blocks}: give some of the encoder's blocks 1 to {len(maps)}.")
        taps = [maps[block - 1] for block in self.blocks]
        aux_wanted = self.aux_heads and (train or self.is_initializing())
        if self.decoder == "mla":
            logits, aux = self._multi_level(taps, train, aux_wanted)
        else:
            aux_scales = (1,) if self.decoder == "naive" else (4,)
            scales = (1,) if self.decoder == "naive" else (2, 2, 2, 1)
            logits = self._up_head(scales, "head")(maps[-1], train)
            heads = zip(self.blocks, taps) if aux_wanted else ()
            aux = [self._up_head(aux_scales, f"aux{block}")(x, train) for block, x in heads]
        return self.outputs(logits, aux, size=images.shape[1:3])

    def _encoder(self) -> ViT:
        fields = dict(grid=self.grid, drop_path=self.drop_path, class_token=self.decoder != "mla", final_norm=False)
        return create_encoder(self.encoder, dtype=self.dtype, **fields, name="encoder")

    def _up_head(self, scales: tuple[int, ...], name: str) -> UpHead:
        kernel_size = 1 if self.decoder == "naive" else 3
        return UpHead(self.num_classes, self.features, kernel_size, scales, self.dtype, name=name)

    def _multi_level(
        self, taps: Sequence[jax.Array], train: bool, aux_wanted: bool
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Logits at stride 4, and an auxiliary head's at stride 16 for each of `taps` [B, h, w, C]."""

        def conv(features: int, size: int, name: str) -> ConvNorm:
            return ConvNorm(features, size, dtype=self.dtype, name=name)

        branches, aux, total = {}, {}, 0
        for block, x in zip(reversed(self.blocks), reversed(taps)):
            x = LayerNorm(dtype=self.dtype, name=f"norm{block}")(x)
            total = total + conv(self.features, 1, f"lateral{block}")(x, train)
            x = conv(self.features, 3, f"level{block}")(total, train)
            if aux_wanted:
                classifier = Conv(self.num_classes, 1, use_bias=False, dtype=self.dtype, name=f"aux{block}")
                aux[block] = classifier(x)
            for i in (1, 2):
                x = conv(self.features // 2, 3, f"branch{block}_conv{i}")(x, train)
            branches[block] = _enlarged(x, 4, align_corners=True)
        joined = jnp.concatenate([branches[block] for block in self.blocks], axis=-1)
        logits = Conv(self.num_classes, 3, dtype=self.dtype, name="classifier")(joined)
        return logits, [aux[block] for block in self.blocks if aux_wanted]


def _enlarged(x: jax.Array, scale: int, align_corners: bool = False) -> jax.Array:
    return resize(x, (scale * x.shape[1], scale * x.shape[2]), align_corners=align_corners)


MODEL = SETR
