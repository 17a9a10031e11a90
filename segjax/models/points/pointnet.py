"""PointNet: parts of point clouds.

Qi, Su, Mo, Guibas. PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation. CVPR 2017.
arXiv:1612.00593. The part segmentation network: figure 9 of the supplement.

What is particular: every layer sees one point at a time, and only a maximum over all points, the global feature, tells
them of each other. A small network of the same kind (T-Net) predicts a matrix that turns the points, a second one a
matrix for their features, which the loss keeps near an orthogonal one. Each point is then labelled by its features of
all depths, the global feature and the category of the shape.

* `part`: the authors' TensorFlow network (charlesq34/pointnet@2618f72b, part_seg/pointnet_part_seg.py). Its head that
  classifies the shape, 595,472 parameters, is left out: their training weighs its loss by 0.
* `part-torch`: yanx27/Pointnet_Pointnet2_pytorch@eb64fe0b, models/pointnet_part_seg.py: other T-Nets, no ReLU before
  the maximum, no dropout, another epsilon.
* `small`: a quarter of the widths, for few points and two cores.

The running statistics keep 0.9 of the old values throughout; both references let that share grow to 0.99.

Trainable parameters with 50 parts and 16 categories: part 7,979,451, which with the head left out are the authors'
8,574,923; part-torch 8,342,395, and 8,342,779 with normals. Multiply-adds of part-torch at 2,048 points: 5.77 G, here
4.68 G, since the global feature meets its layer once a cloud. Accuracy: mean IoU over ShapeNet's shapes 83.7 (paper,
table 2).

Shape legend: B batch, P points, C channels of a point, D features, K parts.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.schema import LOGITS, TRANSFORM
from segjax.models.base import PointNetwork
from segjax.nn.norm import BatchNorm
from segjax.ops.precision import widen

PAPER = "Qi, Su, Mo, Guibas. PointNet. CVPR 2017. arXiv:1612.00593"

VARIANTS = {
    "part": dict(num_categories=16),
    "part-torch": dict(
        num_categories=16,
        input_net=((64, 128, 1024), (512, 256)),
        feature_net=((64, 128, 1024), (512, 256)),
        rectify_last=False,
        dropout=0.0,
        epsilon=1e-5,
    ),
    "small": dict(
        num_categories=16,
        input_net=((16, 32, 256), (32, 32)),
        feature_net=((64, 256), (128, 64)),
        local=(16, 32, 32),
        deep=(128, 512),
        head=(64, 64, 32),
    ),
    "test": dict(
        input_net=((4, 8), (6,)), feature_net=((6, 8), (6,)), local=(4, 6), deep=(8, 12), head=(10, 8), dropout=0.0
    ),
}
INPUT = (2048, 50)

_glorot = nn.initializers.glorot_uniform()


class PointNet(PointNetwork):
    """PointNet for parts.

    Attributes:
      input_net, feature_net: (features of each point, features of the cloud) of the T-Nets' hidden layers.
      local: features of the layers before the feature transform.
      deep: of those after it; the last one's maximum is the global feature.
      rectify_last: whether a ReLU comes before that maximum.
      head: of the layers that label a point.
      dropout: after each of them but the last.
      epsilon: of batch normalisation.
    """

    input_net: tuple[tuple[int, ...], tuple[int, ...]] = ((64, 128, 1024), (128, 128))
    feature_net: tuple[tuple[int, ...], tuple[int, ...]] = ((256, 1024), (512, 256))
    local: tuple[int, ...] = (64, 128, 128)
    deep: tuple[int, ...] = (512, 2048)
    rectify_last: bool = True
    head: tuple[int, ...] = (256, 256, 128)
    dropout: float = 0.2
    epsilon: float = 1e-3

    @nn.compact
    def __call__(
        self,
        points: jax.Array,
        category: jax.Array | None = None,
        point_valid: jax.Array | None = None,
        train: bool = False,
    ) -> dict[str, Any]:
        """See `PointNetwork`; beside `logits`, `transform` [B, D, D] of the features."""
        self.check_input(points)
        mask = jnp.ones(points.shape[:2], bool) if point_valid is None else point_valid
        layer = functools.partial(_Layer, epsilon=self.epsilon, dtype=self.dtype)
        t_net = functools.partial(_TNet, epsilon=self.epsilon, dtype=self.dtype)
        # A padded point may hold anything, NaN too: 0 times it would still be NaN in a gradient.
        x = jnp.where(mask[..., None], points, 0).astype(self.dtype)

        turned = x[..., :3] @ t_net(3, *self.input_net, name="input_transform")(x, mask, train)
        x = jnp.concatenate([turned, x[..., 3:]], axis=-1)
        levels = []
        for index, features in enumerate(self.local):
            x = layer(features, name=f"local{index + 1}")(x, mask, train)
            levels.append(x)
        transform = t_net(x.shape[-1], *self.feature_net, name="feature_transform")(x, mask, train)
        x = x @ transform
        for index, features in enumerate(self.deep):
            act = self.rectify_last or index + 1 < len(self.deep)
            x = layer(features, act=act, name=f"deep{index + 1}")(x, mask, train)
            levels.append(x)
        cloud = masked_max(x, mask)
        if self.num_categories:
            known = jnp.full(len(points), -1) if category is None else category
            cloud = jnp.concatenate([cloud, jax.nn.one_hot(known, self.num_categories, dtype=cloud.dtype)], axis=-1)

        x = jnp.concatenate(levels, axis=-1)
        for index, features in enumerate(self.head):
            x = layer(features, name=f"head{index + 1}")(x, mask, train, cloud if index == 0 else None)
            if index + 1 < len(self.head):
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=_glorot, name="classifier")(x)
        return {LOGITS: widen(logits), TRANSFORM: widen(transform)}


class _TNet(nn.Module):
    """[B, P, C] -> [B, size, size]: the identity at first."""

    size: int
    points: tuple[int, ...]
    cloud: tuple[int, ...]
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        layer = functools.partial(_Layer, epsilon=self.epsilon, dtype=self.dtype)
        for index, features in enumerate(self.points):
            x = layer(features, name=f"point{index + 1}")(x, mask, train)
        x = masked_max(x, mask)
        for index, features in enumerate(self.cloud):
            x = layer(features, name=f"cloud{index + 1}")(x, mask.any(axis=-1), train)
        zeros = nn.initializers.zeros
        x = nn.Dense(self.size**2, dtype=self.dtype, kernel_init=zeros, name="matrix")(x)
        return x.reshape(-1, self.size, self.size) + jnp.eye(self.size, dtype=self.dtype)


class _Layer(nn.Module):
    """A dense layer (`kernel`, `bias`), batch normalisation (`norm`), ReLU, of [B, P, C] or [B, C].

    `cloud` [B, G], features that all points of a cloud share, come before the point's own in the kernel [G + C,
    features]. Their product is taken once a cloud and added at each point, rather than the features repeated there.
    """

    features: int
    epsilon: float
    dtype: Any
    act: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool, cloud: jax.Array | None = None) -> jax.Array:
        shared = 0 if cloud is None else cloud.shape[-1]
        kernel = self.param("kernel", _glorot, (shared + x.shape[-1], self.features), jnp.float32).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        y = x @ kernel[shared:] + bias
        if cloud is not None:
            y += (cloud @ kernel[:shared])[:, None]
        y = BatchNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(y, train, mask)
        return nn.relu(y) if self.act else y


def masked_max(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The maximum of [B, P, D] over the points of `mask` [B, P]: [B, D], 0 for a cloud that has none."""
    # Not `max`: its gradient divides by the number of values equal to the largest, and where a compiler computes x anew
    # for that, rounded otherwise, there are none.
    largest = jnp.argmax(jnp.where(mask[..., None], x, -jnp.inf), axis=1)
    chosen = jnp.arange(x.shape[1])[:, None] == largest[:, None]
    return jnp.where(chosen & mask[..., None], x, 0).sum(axis=1)


MODEL = PointNet
