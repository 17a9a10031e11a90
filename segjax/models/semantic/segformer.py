"""SegFormer.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo. SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers. NeurIPS 2021. arXiv:2105.15203.

What is particular: a hierarchical transformer without position embedding (`segjax/models/encoders/mit.py`), and a
decoder of dense layers alone: the four stages projected to as many channels each, upsampled to stride 4, concatenated,
mixed by one 1x1 convolution, classified (equation 4).

Held to NVlabs/SegFormer, to the parameter. Its own counts include a classifier that never runs (`decode_head.conv_seg`,
128 K + K), which is left out here:

             parameters at K = 150   at K = 19   GMACs at 150, 512x512
    b0              3,752,694       3,719,027      8.39    (B0 at 150: Hugging Face's count too)
    b2             27,461,974      27,361,235     62.34
    b5             84,708,694      84,607,955    183.14 at 640x640

Accuracy (paper, table 1): ADE20K val, single scale: B0 37.4, B5 51.0 mean IoU; Cityscapes val: B0 76.2, B5 82.4.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.nn.join import JoinNorm
from segjax.nn.transformer import Dense

PAPER = "Xie, Wang, Yu, Anandkumar, Alvarez, Luo. SegFormer. NeurIPS 2021. arXiv:2105.15203"
INPUT = (512, 512, 150)

VARIANTS = {
    "b0": dict(encoder="mit_b0", features=256),
    "b1": dict(encoder="mit_b1", features=256),
    "b2": dict(encoder="mit_b2"),
    "b3": dict(encoder="mit_b3"),
    "b4": dict(encoder="mit_b4"),
    "b5": dict(encoder="mit_b5"),
    "test": dict(encoder="mit_test", features=8, dropout=0.0),
}
# A key's bias moves all scores of a query alike; what is added to a stage is removed by the decoder's normalisation.
ZERO_GRADIENT = {"test": r"/attention/key/bias$|^stage\d+/bias$|^encoder/stage4_norm/bias$"}


class SegFormer(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 4, 8, 16 and 32.
      encoder_options: such as the stochastic depth, `MiT.drop_path`.
      features: channels of the decoder.
      dropout: probability with which a channel is dropped before the classifier, image by image.
    """

    encoder: str = "mit_b0"
    features: int = 768
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for.
        """
        strides = (32, 16, 8, 4)
        stages = self.stages(images, strides, train)
        projected = [Dense(self.features, dtype=self.dtype, name=f"stage{s}")(stages[s]) for s in strides]
        x = JoinNorm(self.features, dtype=self.dtype, name="fuse")(projected, train)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        return self.outputs(logits, size=images.shape[1:3])


MODEL = SegFormer
