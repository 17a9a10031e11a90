"""What a network costs: parameters, and multiply-accumulates at a size, counted by tracing; nothing is compiled.

Counted as the field's counters do: the multiplications of convolutions and matrix products, taps that lie in the
padding among them; a transposed convolution as its kernel at every pixel of its input. Left out: resizing (here a
product with a matrix, elsewhere a gather), normalisation, activation, pooling.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import Network
from segjax.nn.conv import UpConv
from segjax.ops.formulation import TABLE, formulations

# Every convolution as one, whatever the device of this machine would make of it.
_WHOLE = dict.fromkeys(TABLE["cpu"], "native")
# The products of these files are not counted where they stand: resizing is free, transposed convolutions are
# counted by their layer, since their phases have taps of zeros.
_ELSEWHERE = ("segjax/ops/linear_map.py", "segjax/ops/upconv.py")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one forward pass in evaluation, on one image or cloud.

    Attributes:
      size: (height, width) counted at, multiples of the network's stride; of networks of clouds (points,).
      parameters: trainable, auxiliary heads included.
      macs: multiply-accumulates.
      by_stride: {stride: (layers with a kernel, their parameters, their multiply-accumulates)}, by the resolution of
        their result rounded to a power of two. What `macs` has beyond their sum are products without a kernel.
    """

    size: tuple[int, ...]
    parameters: int
    macs: int
    by_stride: dict[int, tuple[int, int, int]]

    @property
    def output_stride(self) -> int:
        """The coarsest stride at which at least a hundredth of the work is done; pooled vectors do not count."""
        total = sum(macs for _, _, macs in self.by_stride.values())
        return max(stride for stride, (_, _, macs) in self.by_stride.items() if macs >= total / 100)


def cost(network: Network, size: tuple[int, ...]) -> Cost:
    """The network's cost on one image of `size`, padded to the next multiple of its stride; or on a cloud of as many
    points."""
    size = tuple(-(-n // network.stride) * network.stride for n in size)
    images = jax.ShapeDtypeStruct((1, *size, network.in_channels), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), network.example)
    layers: list[tuple[int, tuple[str, ...], int, int]] = []
    transposed = 0

    def note(call, args, kwargs, context):
        nonlocal transposed
        result = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and module.has_variable("params", "kernel"):
            kernel = math.prod(module.get_variable("params", "kernel").shape)
            pixels = _pixels(args[0] if isinstance(module, UpConv) else result)
            if isinstance(module, UpConv):
                transposed += pixels * kernel
            stride = 2 ** round(math.log2(max(1.0, (math.prod(size) / _pixels(result)) ** (1 / len(size)))))
            own = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(module.variables["params"]))
            layers.append((stride, tuple(module.path), own, pixels * kernel))
        return result

    with nn.intercept_methods(note), formulations(**_WHOLE):
        program = jax.make_jaxpr(lambda v, x: network.apply(v, x, train=False))(variables, images)
    by_stride = {}
    for stride in sorted({layer[0] for layer in layers}):
        here = [layer for layer in layers if layer[0] == stride]
        once = {path: own for _, path, own, _ in here}
        by_stride[stride] = (len(once), sum(once.values()), sum(macs for *_, macs in here))
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    return Cost(size, parameters, _products(program.jaxpr) + transposed, by_stride)


def _pixels(x: jax.Array) -> int:
    """Of [B, H, W, C] or [B, N, C]."""
    return math.prod(x.shape[1:-1])


def _products(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if _is_elsewhere(equation):
            continue
        out = equation.outvars[0].aval.shape
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += math.prod(out) * math.prod(kernel) // features
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += math.prod(out) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif equation.primitive.name == "cond":
            total += max(_products(branch.jaxpr) for branch in equation.params["branches"])
        else:
            inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
            inside = sum(_products(value) for value in inner if hasattr(value, "eqns"))
            total += inside * equation.params.get("length", 1)
    return total


def _is_elsewhere(equation: Any) -> bool:
    traceback = equation.source_info.traceback
    return traceback is not None and any(frame.file_name.endswith(_ELSEWHERE) for frame in traceback.frames)
