"""What every network agrees on.

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, SizeError
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LOGITS
from segjax.models.encoders import create_encoder
from segjax.models.encoders.base import Encoder
from segjax.ops.geometry import Pair
from segjax.ops.logits import Logits
from segjax.ops.precision import widen


class Network(nn.Module):
    """Base of every architecture: `__call__(..., train=False) -> dict` with keys of `segjax.core.schema`.

    `init` creates every parameter whatever `train` says. Parameters are float32; `dtype` is the type of the arithmetic.
    Dropout draws from the rng "dropout".

    Attributes:
      num_classes: K.
      in_channels: C.
      dtype: of the arithmetic, float32 or bfloat16.
      rows_split: whether an image's rows may be on several devices (`config.parallel.spatial`).
    """

    num_classes: int
    in_channels: int = 3
    dtype: Any = jnp.float32

    rows_split: ClassVar[bool] = True

    @property
    def stride(self) -> int:
        """H and W of images must be multiples of this."""
        return 1

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """A small batch of inputs the network takes, for tracing."""
        raise NotImplementedError


class ImageNetwork(Network):
    """Base of what makes dense predictions of images: `__call__(images, train=False)`.

    Logits are float32 `segjax.ops.logits.Logits`, at the resolution of the last layer.
    """

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        side = -(-64 // self.stride) * self.stride
        return jax.ShapeDtypeStruct((1, side, side, self.in_channels), jnp.float32)

    def check_input(self, images: jax.Array) -> None:
        """Refuses what the network cannot take; call it first.

        Raises:
          ModelError: not [B, H, W, C], not floating, or another number of channels.
          SizeError: H or W is not a multiple of the stride; names the size to pad to.
        """
        name = type(self).__name__
        if images.ndim != 4:
            raise ModelError(f"{name} takes images [B, H, W, C], not an array of shape {tuple(images.shape)}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ModelError(f"{name} takes normalised floating images, not {images.dtype}: normalise them first")
        height, width, channels = images.shape[1:]
        if channels != self.in_channels:
            raise ModelError(
                f"{name} was built with in_channels={self.in_channels}, the images have {channels}: "
                f"create it with in_channels={channels}"
            )
        rows, columns = (-(-size // self.stride) * self.stride for size in (height, width))
        if (rows, columns) != (height, width):
            raise SizeError(
                f"{name}: {height}x{width} is not a multiple of stride {self.stride}: pad to {rows}x{columns}"
            )

    def encoder_path(self) -> str:
        """The path of its one encoder, such as `encoder`: where `encode` and `decode` divide the network.

        Raises:
          ModelError: for a network that runs no `Encoder` as a whole, or one more than once.
        """
        found = []

        def note(call, args, kwargs, context):
            if _is_encoder(context):
                found.append("/".join(context.module.path))
            return call(*args, **kwargs)

        with nn.intercept_methods(note):
            jax.eval_shape(self.init, jax.random.key(0), self.example)
        if len(found) != 1:
            raise ModelError(
                f"{type(self).__name__} runs a whole encoder {len(found)} times: features can be taken out and given "
                "back only where that is once"
            )
        return found[0]

    def encode(self, images: jax.Array) -> dict[int, jax.Array]:
        """What the network's encoder makes of images in evaluation: `{stage stride: [B, h, w, channels]}`.

        For `apply(..., method="encode")`, on a network that has an `encoder_path`.
        """
        found = []

        def keep(call, args, kwargs, context):
            result = call(*args, **kwargs)
            if _is_encoder(context):
                found.append(result)
            return result

        with nn.intercept_methods(keep):
            self(images, train=False)
        return found[0]

    def decode(self, images: jax.Array, features: Mapping[int, jax.Array], train: bool = False) -> dict[str, Any]:
        """`__call__` where the encoder has run already: `features` are what `encode` returned for these images.

        The encoder's statistics stay as they are, even in training. Features that nothing reads may be left out.
        """

        def give(call, args, kwargs, context):
            return dict(features) if _is_encoder(context) else call(*args, **kwargs)

        with nn.intercept_methods(give):
            return self(images, train=train)

    def auxiliary_runs(self, train: bool) -> bool:
        """Whether auxiliary heads run: in training, and while variables are created."""
        return train or self.is_initializing()

    def auxiliary(
        self, head: Callable[[jax.Array, bool], jax.Array], x: jax.Array, train: bool
    ) -> tuple[jax.Array, ...]:
        """The logits of an auxiliary head, `(head(x, train),)`, or () where auxiliary heads do not run."""
        return (head(x, train),) if self.auxiliary_runs(train) else ()

    @staticmethod
    def outputs(
        logits: jax.Array,
        aux: Sequence[jax.Array] = (),
        border: jax.Array | None = None,
        *,
        size: Pair | None = None,
        align_corners: bool = False,
    ) -> dict[str, Any]:
        """The dict to return, of `Logits`: `logits`, and `aux_logits` and `border_logits` if any are given.

        Args:
          logits: float [B, h, w, K].
          aux: logits of auxiliary heads; give them in training only.
          border: float [B, h, w, N], likewise.
          size: (H, W) of the image; None where all logits have its size.
          align_corners: of the interpolation to that size.
        """

        def sized(x: jax.Array) -> Logits:
            return Logits(widen(x), size or x.shape[1:3], align_corners)

        result: dict[str, Any] = {LOGITS: sized(logits)}
        if aux:
            result[AUX_LOGITS] = tuple(map(sized, aux))
        if border is not None:
            result[BORDER_LOGITS] = sized(border)
        return result


class EncoderNetwork(ImageNetwork):
    """Base of what reads the stages of an encoder; `stride` is the coarsest of them unless a network says otherwise.

    Attributes:
      encoder: a name of `segjax.models.encoders.ENCODERS`.
      encoder_options: its fields that differ from its defaults.
    """

    encoder: str = ""
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def stride(self) -> int:
        return 32

    def make_encoder(self, strides: Sequence[int] = (), **fields: Any) -> Encoder:
        """The child `encoder`, with the network's `stride` as output stride.

        Args:
          strides: of the stages that will be read.
          **fields: of the encoder, where the network decides them; `encoder_options` win.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage, the output stride or a field asked for.
        """
        fields = {"output_stride": self.stride, **fields, **self.encoder_options}
        return create_encoder(self.encoder, dtype=self.dtype, stages=strides, **fields, name="encoder")

    def stages(self, images: jax.Array, strides: Sequence[int], train: bool) -> dict[int, jax.Array]:
        """The encoder's stages `{stage stride: [B, h, w, channels]}`; raises as `check_input` and `make_encoder`."""
        self.check_input(images)
        return self.make_encoder(strides)(images, train)


def _is_encoder(context: nn.module.InterceptorContext) -> bool:
    return isinstance(context.module, Encoder) and context.method_name == "__call__"


def init_shapes(network: Network) -> dict[str, Any]:
    """Shapes and types of the network's variables, without computing one."""
    return jax.eval_shape(network.init, jax.random.key(0), network.example)


def layers(network: Network) -> dict[str, nn.Module]:
    """Every module of the network by its path, `encoder/stem/conv`; the network itself is "". To read fields of."""
    found = {}

    def note(call, args, kwargs, context):
        found["/".join(context.module.path)] = context.module
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(network.init, jax.random.key(0), network.example)
    return found


class PointNetwork(Network):
    """Base of networks of point clouds: `__call__(points, category=None, point_valid=None, train=False)`.

    `points` floating [B, P, in_channels], coordinates first; `category` int32 [B] of the shapes, out of range or None:
    not known; `point_valid` bool [B, P], None: all. What a padded point holds reaches no other point's logits, no
    statistics and no gradient. Returns `logits` float32 [B, P, num_classes], which follow a permutation of the points.

    Attributes:
      num_categories: of shapes that the network is told of; 0 for none.
    """

    num_categories: int = 0

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """A small batch of clouds, for tracing."""
        return jax.ShapeDtypeStruct((1, 64, self.in_channels), jnp.float32)

    def check_input(self, points: jax.Array) -> None:
        """Refuses what the network cannot take; call it first.

        Raises:
          ModelError: not [B, P, C], not floating, or another number of channels.
        """
        name = type(self).__name__
        if points.ndim != 3:
            raise ModelError(f"{name} takes points [B, P, C], not an array of shape {tuple(points.shape)}")
        if not jnp.issubdtype(points.dtype, jnp.floating):
            raise ModelError(f"{name} takes floating points, not {points.dtype}: convert them first")
        if points.shape[-1] != self.in_channels:
            raise ModelError(
                f"{name} was built with in_channels={self.in_channels}, the points have {points.shape[-1]}: "
                f"create it with in_channels={points.shape[-1]}"
            )
