"""ESPNet: efficient spatial pyramids of dilated convolutions.

Mehta, Rastegari, Caspi, Shapiro, Hajishirzi. ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic
Segmentation. ECCV 2018. arXiv:1803.06815. Layout: `train/Model.py` of sacmehta/ESPNet.

Particular about it: the ESP module reduces to a fifth of the width, filters that at five rates at once, and adds the
results up from the narrowest rate but one to the widest before joining them, which removes the gridding of dilated
convolutions; the image itself, averaged down, enters again at strides 2 and 4. The light-weight decoder works on as
many channels as there are classes.

* `p2-q8` the full network; p and q are the ESP modules at strides 4 and 8 (alpha_2 and alpha_3 in the paper).
* `c-p2-q8` ESPNet-C: the encoder and a classifier at stride 8, upsampled bilinearly; the first stage of the authors'
  training.

Figures, sacmehta/ESPNet's train/Model.py at 20 classes: 365,109 parameters, ESPNet-C 349,449. The authors' other file,
test/Model.py, leaves the image out of the last fusion, 540 parameters less, but their trained networks fit this one.
Accuracy: CamVid test, 11 classes, 55.64 mean IoU and 68.30 class average (sacmehta/ESPNet; docs/weights.md has what
their weights give here); Cityscapes test 60.3 (same README).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.nn.activation import PReLU
from segjax.nn.conv import Conv, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import avg_pool

PAPER = "Mehta, Rastegari, Caspi, Shapiro, Hajishirzi. ESPNet. ECCV 2018. arXiv:1803.06815"
INPUT = (512, 1024, 20)

VARIANTS = {
    "p2-q8": dict(),
    "p2-q5": dict(depths=(2, 5)),
    "p2-q3": dict(depths=(2, 3)),
    "c-p2-q8": dict(decoder=False),
    "c-p2-q5": dict(depths=(2, 5), decoder=False),
    "c-p2-q3": dict(depths=(2, 3), decoder=False),
    "test": dict(depths=(1, 1), widths=(8, 12, 16)),
}

RATES = (1, 2, 4, 8, 16)
EPS = 1e-3


class _NormAct(nn.Module):
    """Batch normalisation (child `norm`) and PReLU (`act`)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = BatchNorm(epsilon=EPS, dtype=self.dtype, name="norm")(x, train)
        return PReLU(name="act")(x)


class _ESP(nn.Module):
    """The ESP module: reduce, split, transform, merge. [B, H, W, C] -> [B, H/stride, W/stride, features].

    Attributes:
      features: channels of the result; a fifth of them in each branch, what is left over in that of rate 1.
      stride: 2 halves the size by a 3x3 reduction instead of a 1x1 one.
      residual: add the input.
    """

    features: int
    stride: int
    residual: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        bare = {"use_bias": False, "dtype": self.dtype}
        narrow = self.features // len(RATES)
        reduced = Conv(narrow, 2 * self.stride - 1, self.stride, **bare, name="reduce")(x)
        parts, total = [], 0
        for rate in RATES:
            features = self.features - (len(RATES) - 1) * narrow if rate == 1 else narrow
            part = Conv(features, 3, rate=rate, **bare, name=f"rate_{rate}")(reduced)
            # Hierarchical fusion; rate 1 has other channels and stands aside.
            parts.append(part if rate == 1 else (total := total + part))
        y = jnp.concatenate(parts, axis=-1)
        return _NormAct(self.dtype, name="norm_act")(x + y if self.residual else y, train)


class ESPNet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 8 -> logits [B, H, W, K]; K at least 5 with the decoder.

    Attributes:
      depths: residual ESP modules at strides 4 and 8.
      widths: channels at strides 2, 4 and 8, before the image joins them; the last two at least 5.
      decoder: the full network rather than ESPNet-C.
    """

    depths: tuple[int, int] = (2, 8)
    widths: tuple[int, int, int] = (16, 64, 128)
    decoder: bool = True

    @property
    def stride(self) -> int:
        return 8

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: fewer classes than the decoder's ESP module has branches.
        """
        self.check_input(images)
        if self.decoder and self.num_classes < len(RATES):
            raise ModelError(
                f"ESPNet: num_classes={self.num_classes} is too few for the decoder's {len(RATES)} branches; use a "
                "variant c-*, or decoder=False."
            )
        first, second, third = self._encode(images.astype(self.dtype), train)
        scores = Conv(self.num_classes, 1, use_bias=False, dtype=self.dtype, name="classifier")(third)
        if self.decoder:
            return self.outputs(self._decode(first, second, scores, train))
        return self.outputs(scores, size=images.shape[1:3])

    def _encode(self, x: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """The joined features at strides 2, 4 and 8."""
        half = avg_pool(x, 3, 2, padding=1)
        quarter = avg_pool(half, 3, 2, padding=1)

        y = Conv(self.widths[0], 3, 2, use_bias=False, dtype=self.dtype, name="level1")(x)
        y = self._norm_act("level1_norm_act")(y, train)
        first = self._join("join1", train, y, half)
        second = self._join("join2", train, *self._level(first, 2, train)[::-1], quarter)
        third = self._join("join3", train, *self._level(second, 3, train))
        return first, second, third

    def _level(self, x: jax.Array, level: int, train: bool) -> tuple[jax.Array, jax.Array]:
        """The halved features, and what the level's residual modules make of them."""
        width = self.widths[level - 1]
        down = x = _ESP(width, 2, False, self.dtype, name=f"level{level}_down")(x, train)
        for i in range(self.depths[level - 2]):
            x = _ESP(width, 1, True, self.dtype, name=f"level{level}_{i + 1}")(x, train)
        return down, x

    def _decode(self, first: jax.Array, second: jax.Array, scores: jax.Array, train: bool) -> jax.Array:
        classes, bare = self.num_classes, {"use_bias": False, "dtype": self.dtype}
        x = BatchNorm(epsilon=EPS, dtype=self.dtype, name="scores_norm")(scores, train)
        x = UpConv(classes, **bare, name="up3")(x)
        x = self._join("join_scores", train, Conv(classes, 1, **bare, name="project2")(second), x)
        x = _ESP(classes, 1, False, self.dtype, name="fuse")(x, train)
        x = self._norm_act("up2_norm_act")(UpConv(classes, **bare, name="up2")(x), train)
        x = Conv(classes, 3, **bare, name="last")(jnp.concatenate([x, first], axis=-1))
        x = self._norm_act("last_norm_act")(x, train)
        return UpConv(classes, **bare, name="logits")(x)

    def _norm_act(self, name: str) -> _NormAct:
        return _NormAct(self.dtype, name=name)

    def _join(self, name: str, train: bool, *parts: jax.Array) -> jax.Array:
        return self._norm_act(name)(jnp.concatenate(parts, axis=-1), train)


MODEL = ESPNet
