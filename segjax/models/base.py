"""What every network and every encoder agrees on.

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, SizeError
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, FEATURES, LOGITS
from segjax.ops.enlarged import Enlarged
from segjax.ops.precision import widen


class Network(nn.Module):
    """Base of every architecture: `__call__(images, train=False) -> dict` with keys of `segjax.core.schema`.

    `init` creates every parameter whatever `train` says: an auxiliary head is called while `self.is_initializing()`
    too. Parameters are float32; `dtype` is the type of the arithmetic; logits are float32, enlarged last by
    `segjax.ops.enlarged.enlarge`, if at all. Dropout draws from the rng "dropout".

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
        """H and W must be multiples of this."""
        return 1

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """A small image batch the network takes, for tracing."""
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

    @staticmethod
    def outputs(
        logits: jax.Array | Enlarged,
        aux: Sequence[jax.Array | Enlarged] = (),
        features: Mapping[int, jax.Array] | None = None,
        border: jax.Array | Enlarged | None = None,
    ) -> dict[str, Any]:
        """The dict to return: float32 logits, `aux_logits` and `border_logits` if any are given (give them in training
        only), `features` by stride if given."""
        result: dict[str, Any] = {LOGITS: logits}
        if aux:
            result[AUX_LOGITS] = tuple(aux)
        if border is not None:
            result[BORDER_LOGITS] = border
        result = jax.tree.map(widen, result)
        if features is not None:
            result[FEATURES] = dict(features)
        return result


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


class Encoder(nn.Module):
    """Base of every encoder: `__call__(x, train) -> {stage stride: [B, H / s, W / s, channels[stage stride]]}`.

    The key is the stride the stage has in an image classifier; its true stride is s = min(key, output_stride). So
    `features[32]` is the deepest stage, and `features[16]` the one before, whatever the output stride.

    Attributes:
      output_stride: the coarsest true stride; stages beyond it keep the resolution and widen their rates instead.
      dtype: of the arithmetic.
    """

    output_stride: int = 32
    dtype: Any = jnp.float32

    @property
    def channels(self) -> dict[int, int]:
        """{stage stride: channels}, known without running the encoder."""
        raise NotImplementedError
