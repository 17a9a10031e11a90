"""Mask R-CNN: boxes are proposed, then classified, refined and given a mask each.

He, Gkioxari, Dollár, Girshick. Mask R-CNN. ICCV 2017. arXiv:1703.06870.

What is particular: RoIAlign, and a mask for every class, of which the box's own class alone counts (figures 1 and 4).
The backbone is a feature pyramid (Lin et al., arXiv:1612.03144). Layout and constants are detectron2's
`mask_rcnn_R_50_FPN_3x` and `mask_rcnn_R_101_FPN_3x`: aligned RoIAlign with as many samples as a bin needs, boxes of
their class, background last.

Held to detectron2's counts, to the parameter: resnet50 with 80 classes has 44,120,816 that detectron2 trains, 222,400
in the stem and first stage, which it freezes, and 53,120 in the affine part of normalisations, which it freezes too;
43,733,312 + 222,400 + 53,120 with Cityscapes' 8.

Both variants have the stride of a block in its first 1x1 convolution, as the ImageNet weights of MSRA have that
detectron2 begins with (`STRIDE_IN_1X1`). For torchvision's weights of the same encoder give
`encoder_options=dict(stride_in_1x1=False)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.core.schema import (
    ANCHORS,
    BOX_DELTAS,
    BOX_LOGITS,
    DETECTED,
    INSTANCE_BOX,
    INSTANCE_CROWD,
    INSTANCE_VALID,
    MASK_LOGITS,
    ROI_BOX,
    ROI_MATCH,
    ROI_ROLE,
    RPN_DELTAS,
    RPN_LOGITS,
)
from segjax.models.base import EncoderNetwork
from segjax.nn.fpn import FeaturePyramid
from segjax.nn.roi_heads import BoxHead, MaskHead
from segjax.nn.rpn import Proposing, RegionProposals
from segjax.ops.detection import detect, propose, sample_regions
from segjax.ops.roi_align import assign_levels, pyramid_roi_align

PAPER = "He, Gkioxari, Dollár, Girshick. Mask R-CNN. ICCV 2017. arXiv:1703.06870"
INPUT = (800, 1344, 80)

VARIANTS = {
    "resnet50": dict(encoder="resnet50"),
    "resnet101": dict(encoder="resnet101"),
    "small": dict(
        encoder="resnet18",
        encoder_options=dict(),
        features=64,
        box_features=256,
        anchor_sizes=(8, 16, 32, 64, 128),
        candidates=(256, 256),
        proposals=(128, 128),
        samples=64,
        detections=50,
    ),
    "test": dict(
        encoder="resnet50",
        encoder_options=dict(blocks=(1, 1, 1, 1), width=8, stride_in_1x1=True),
        features=16,
        box_features=32,
        anchor_sizes=(8, 16, 32, 64, 128),
        candidates=(64, 64),
        proposals=(48, 48),
        samples=32,
        detections=10,
    ),
}


class MaskRCNN(EncoderNetwork):
    """Mask R-CNN. Images [B, H, W, C], H and W multiples of 32.

    Attributes:
      encoder: a name of `segjax.models.encoders.ENCODERS` with stages at strides 4, 8, 16 and 32.
      encoder_options: its fields that differ from its defaults.
      frozen_norm: the encoder's normalisations keep their statistics in training, as detectron2's do. Right for
        pretrained weights and small batches; without weights, nothing is normalised then. Detectron2 keeps their
        scales and biases as well: `config.optim.multipliers` does that.
      features: channels of the pyramid and of the mask head.
      box_features: of the box head's fully connected layers.
      anchor_sizes: pixels, of the five levels.
      candidates: anchors of a level that are decoded, in training and evaluation.
      proposals: of an image, in training and evaluation.
      samples: S, regions of an image that the heads learn from; at most a quarter of them foreground, which alone the
        mask head sees.
      detections: D, of an image.
      score_threshold: the probability that a detection must exceed.
    """

    encoder: str = "resnet50"
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(stride_in_1x1=True))
    frozen_norm: bool = False
    features: int = 256
    box_features: int = 1024
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    candidates: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (1000, 1000)
    samples: int = 512
    detections: int = 100
    score_threshold: float = 0.05

    rows_split: ClassVar[bool] = False

    @property
    def stride(self) -> int:
        return 32

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        size: jax.Array | None = None,
        targets: Mapping[str, jax.Array] | None = None,
    ) -> dict[str, Any]:
        """See `Network`.

        Args:
          images: float [B, H, W, C].
          train: whether to return what the losses need, of regions sampled by the rng "sample".
          size: int [B, 2], height and width of each image itself, beyond which there is no box; default: all of it.
          targets: in training, the true `instance_box` [B, N, 4], `instance_valid` and `instance_crowd` [B, N].

        Returns:
          By keys of `core.schema`, whose comments give the shapes: `rpn_logits`, `rpn_deltas`, `anchors`; `roi_box` and
          `roi_role`, the samples, in evaluation the proposals (0, or -1 where there is none); their `box_logits`,
          `box_deltas`. In training `roi_match`, and `mask_logits` of the first F = S / 4 samples. In evaluation
          `detected`, and `mask_logits` of its D boxes.

        Raises:
          ModelError: training without targets; an encoder that is unknown, or lacks a stage or a field asked for.
        """
        training = train and not self.is_initializing()
        if training and targets is None:
            raise ModelError("MaskRCNN samples regions in training: give it targets, as the task's inputs do")
        if size is None:
            size = jnp.full((images.shape[0], 2), jnp.asarray(images.shape[1:3]))

        stages = self.stages(images, (4, 8, 16, 32), train and not self.frozen_norm)
        pyramid = FeaturePyramid(self.features, self.dtype, name="pyramid")(
            {stride: stages[stride] for stride in (4, 8, 16, 32)}
        )
        coarsest = pyramid[32][:, ::2, ::2]  # only proposals come from it
        proposing = RegionProposals(self.anchor_sizes, dtype=self.dtype, name="rpn")({**pyramid, 64: coarsest})
        boxes, valid = self._propose(proposing, size, training)

        outputs = {}
        if training:
            boxes, role, outputs[ROI_MATCH] = self._sample(boxes, valid, targets)
        else:
            role = jnp.where(valid, 0, -1).astype(jnp.int8)
        logits, deltas = BoxHead(self.num_classes, self.box_features, self.dtype, name="box_head")(
            self._align(pyramid, boxes, 7)
        )
        if training:
            masked = boxes[:, : self.samples // 4]
        else:
            outputs[DETECTED] = jax.vmap(self._detect)(logits, deltas, boxes, valid, size)
            masked = outputs[DETECTED]["box"]
        masks = MaskHead(self.num_classes, self.features, dtype=self.dtype, name="mask_head")(
            self._align(pyramid, masked, 14)
        )
        return outputs | {
            RPN_LOGITS: jnp.concatenate(proposing.logits, 1),
            RPN_DELTAS: jnp.concatenate(proposing.deltas, 1),
            ANCHORS: jnp.concatenate(proposing.anchors),
            ROI_BOX: boxes,
            ROI_ROLE: role,
            BOX_LOGITS: logits,
            BOX_DELTAS: deltas,
            MASK_LOGITS: masks,
        }

    def _propose(self, found: Proposing, size: jax.Array, training: bool) -> tuple[jax.Array, jax.Array]:
        before, after = (numbers[0 if training else 1] for numbers in (self.candidates, self.proposals))

        def of_image(logits, deltas, size):
            return propose(logits, deltas, found.anchors, size, before=before, after=after)

        return jax.vmap(of_image)(found.logits, found.deltas, size)

    def _sample(
        self, boxes: jax.Array, valid: jax.Array, targets: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        keys = jax.random.split(self.make_rng("sample"), boxes.shape[0])
        present = targets[INSTANCE_VALID] & ~targets[INSTANCE_CROWD]

        def of_image(key, boxes, valid, truth, present):
            return sample_regions(key, boxes, valid, truth, present, count=self.samples)

        return jax.vmap(of_image)(keys, boxes, valid, targets[INSTANCE_BOX], present)

    def _align(self, pyramid: Mapping[int, jax.Array], boxes: jax.Array, bins: int) -> jax.Array:
        return pyramid_roi_align(list(pyramid.values()), boxes, assign_levels(boxes), bins, tuple(pyramid))

    def _detect(self, logits, deltas, boxes, valid, size) -> dict[str, jax.Array]:
        return detect(logits, deltas, boxes, valid, size, count=self.detections, score=self.score_threshold)


MODEL = MaskRCNN
