"""CRF-as-RNN.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr. Conditional Random Fields as Recurrent Neural Networks.
ICCV 2015. arXiv:1502.03240.

What is particular: a dense CRF over the image stands on another network's logits (the unary term) as a layer, its
mean-field iterations unrolled, so that both train together; 5 iterations in training, 10 in evaluation (section 6). The
paper's unary is FCN-8s (variant `fcn8s`); here it may be any network of the registry. The loss sees the CRF's output;
auxiliary logits of the unary are handed through.

The CRF compares colours as the eye sees them, so its bandwidths are in units of the stored image. A network gets
(image - mean) / std; differences are all that matters, so multiplying by `std` is enough.

Published figures. Trainable parameters with 21 classes, the authors' Caffe network: 134,491,103, of which 134,489,780
are FCN-8s with a bias in its first transposed convolution and 3 * 21 * 21 the CRF's. Mean IoU on the 346 images of VOC
2012 val that SBD does not have, section 7 and table 1: FCN-8s 61.3, CRF apart from the network 63.7, CRF-as-RNN
69.6 (with COCO 72.9).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, suggest
from segjax.core.registry import create_model
from segjax.core.schema import LOGITS
from segjax.models.base import ImageNetwork
from segjax.nn.crf import CRFasRNN
from segjax.ops.precision import widen

PAPER = "Zheng et al. Conditional Random Fields as Recurrent Neural Networks. ICCV 2015. arXiv:1502.03240"

VARIANTS = {
    "fcn8s": {"network": "fcn/8s", "network_options": {"first_up_bias": True}},
    "enet": {"network": "enet/paper"},
    "test": {
        "network": "unet/test",
        "mean_field": {"theta_alpha": 20.0, "theta_beta": 60.0, "iterations": 2, "method": "local"},
    },
}

IMAGENET_STD_MEAN = 57.63


class CRFasRNNNetwork(ImageNetwork):
    """Images [B, H, W, C], H and W as the unary network wants them -> logits [B, H, W, K] of the CRF's marginals.

    Parameters: `unary/...` of the network, `crf/...` of `segjax.nn.crf.CRFasRNN`.

    Attributes:
      network: the unary, a name of the registry.
      network_options: its fields that differ from its variant's.
      frozen: the unary runs as in evaluation, statistics and all, and no gradient enters it.
      std: what images were divided by, in the units of the stored image: one number, or one a channel.
      mean_field: fields of `segjax.nn.crf.CRFasRNN` that differ from its defaults.
    """

    network: str = "enet/paper"
    network_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frozen: bool = False
    std: float | Sequence[float] = IMAGENET_STD_MEAN
    mean_field: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def setup(self):
        fields = {field.name for field in dataclasses.fields(CRFasRNN) if field.init} - {"parent", "name"}
        for key in self.mean_field:
            if key not in fields:
                raise ModelError(f"crfasrnn: mean_field has no {key!r}.{suggest(key, fields)}")
        if jnp.ndim(jnp.asarray(self.std)) and len(self.std) != self.in_channels:
            raise ModelError(
                f"crfasrnn: std has {len(self.std)} numbers for {self.in_channels} channels; give one each"
            )
        self.unary = self._make_unary()
        self.crf = CRFasRNN(**self.mean_field)

    def _make_unary(self) -> ImageNetwork:
        basics = (self.num_classes, self.in_channels, self.dtype)
        return create_model(self.network, *basics, parent=None, **self.network_options)

    @property
    def stride(self) -> int:
        return (self._make_unary() if self.scope is None else self.unary).stride

    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        unary = self.unary(images, train and not self.frozen)
        if self.frozen:
            unary = jax.lax.stop_gradient(unary)
        pixels = widen(images) * jnp.asarray(self.std, jnp.float32)
        logits = self.crf(unary[LOGITS].upsample(), pixels, train)
        return {**unary, **self.outputs(logits)}


MODEL = CRFasRNNNetwork
