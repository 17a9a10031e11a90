"""Image encoders by name: what turns an image into features at several strides.

An encoder returns `{stage stride: features}`. The key is the stride that stage has in the image classifier the encoder
comes from, so heads name the stage they want whatever the output stride: `features[32]` is the deepest stage even
where `output_stride=8` keeps it at an eighth of the image. The true stride of a feature is `min(key, output_stride)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from segjax.core.errors import ModelError, suggest
from segjax.models.encoders.base import Encoder

ENCODERS = {
    "vgg16": "vgg",
    "vgg19": "vgg",
    "vgg16_plain": "vgg",
    "vgg19_plain": "vgg",
    "vgg16_fc": "vgg",
    "vgg19_fc": "vgg",
    "vgg_test": "vgg",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
    "resnet_test": "resnet",
    "mobilenetv2": "mobilenet",
    "mobilenetv2_test": "mobilenet",
    "mit_b0": "mit",
    "mit_b1": "mit",
    "mit_b2": "mit",
    "mit_b3": "mit",
    "mit_b4": "mit",
    "mit_b5": "mit",
    "mit_test": "mit",
    "vit_b16": "vit",
    "vit_l16": "vit",
    "vit_test": "vit",
    "xception39": "xception39",
    "xception39_test": "xception39",
    "hrnet_w18_small": "hrnet",
    "hrnet_w18_small_v2": "hrnet",
    "hrnet_w18": "hrnet",
    "hrnet_w32": "hrnet",
    "hrnet_w48": "hrnet",
    "hrnet_test": "hrnet",
    "drn_c_26": "drn",
    "drn_c_42": "drn",
    "drn_c_58": "drn",
    "drn_d_22": "drn",
    "drn_d_24": "drn",
    "drn_d_38": "drn",
    "drn_d_40": "drn",
    "drn_d_54": "drn",
    "drn_d_56": "drn",
    "drn_d_105": "drn",
    "drn_d_107": "drn",
    "drn_test": "drn",
    "densenet121": "densenet",
    "densenet161": "densenet",
    "densenet169": "densenet",
    "densenet_test": "densenet",
    "xception65": "xception",
    "xception_test": "xception",
}
"""Which file of this folder knows which encoder."""


def create_encoder(
    name: str, /, output_stride: int = 32, dtype: Any = jnp.float32, *, stages: Sequence[int] = (), **fields: Any
) -> Encoder:
    """The encoder called `name`, unbound (inside a compact method it becomes a child of the module that makes it).

    Args:
      name: a key of `ENCODERS`.
      output_stride: 8, 16 or 32 (VGG and ResNet also less): deeper stages keep that stride and dilate instead.
      dtype: compute type.
      stages: the stage strides that whoever asks will read.
      **fields: further fields of the encoder; `name` is the module's.

    Raises:
      ModelError: for an unknown encoder or field, with the nearest known one; for one without a stage asked for; for an
        output stride it cannot have.
    """
    if name not in ENCODERS:
        raise ModelError(f"encoder {name!r} is unknown.{suggest(name, ENCODERS)}")
    module = importlib.import_module(f"segjax.models.encoders.{ENCODERS[name]}")
    known = module.ENCODER.__dataclass_fields__
    for key in fields:
        if key not in known:
            raise ModelError(f"encoder {name!r} has no field {key!r}.{suggest(key, known)}")
    encoder = module.ENCODER(output_stride=output_stride, dtype=dtype, **{**module.VARIANTS[name], **fields})
    if missing := set(stages) - encoder.channels.keys():
        raise ModelError(f"encoder {name!r} has no stage at stride {min(missing)}: use another encoder.")
    return encoder
