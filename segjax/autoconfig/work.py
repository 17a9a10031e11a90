"""What a train step of a network costs on one image, by tracing; nothing is compiled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.core.schema import LOGITS
from segjax.models.base import ImageNetwork
from segjax.models.count import cost

_BYTES = 32  # a value that a layer leaves: its input, its gradient and the workspace of the two, in float32


class Work(NamedTuple):
    """Of one image.

    Attributes:
      flops: of the forward and the backward pass, counted as three forward passes.
      memory: bytes for activations and gradients, roughly: 0.9 to 4 times what the compiler of TPUs took for three
        networks (benchmarks/results/plan_*.json, too_large_*.json).
    """

    flops: float
    memory: float


def work(network: ImageNetwork, size: tuple[int, int]) -> Work:
    """The work of one image of `size` (height, width), which is padded to a multiple of the network's stride."""
    counted = cost(network, size)
    images = jax.ShapeDtypeStruct((1, *counted.size, network.in_channels), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), network.example)
    program = jax.make_jaxpr(lambda v, x: network.apply(v, x, train=False)[LOGITS].upsample())(variables, images)
    width = jnp.dtype(network.dtype).itemsize / 4
    return Work(6.0 * counted.macs, _BYTES * width * _kept(program.jaxpr))


def _kept(jaxpr: Any) -> int:
    """Values that convolutions and products leave: the backward pass needs them."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            total += math.prod(equation.outvars[0].aval.shape)
        else:
            inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
            total += sum(_kept(value) for value in inner if hasattr(value, "eqns"))
    return total
