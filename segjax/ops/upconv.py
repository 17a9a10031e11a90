"""Transposed convolution without holes: a convolution at the input's resolution, then depth to space.

XLA's own form dilates the input with zeros; its weight gradient is 17 to 83 times slower than PyTorch's on a CPU and
gathers the image under row sharding. Here each of the stride^2 phases of the output is a small dense convolution
(Shi et al., Real-time single image super-resolution using an efficient sub-pixel convolutional network, CVPR 2016,
arXiv:1609.05158), and all phases are computed as one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.ambient import row_shards
from segjax.ops.conv import conv2d
from segjax.ops.geometry import Pair, check_image, check_positive, pair
from segjax.ops.halo import map_rows
from segjax.ops.space_to_depth import depth_to_space


def conv_transpose2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int | Pair = 2,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
) -> jax.Array:
    """Transposed convolution, equal to `torch.nn.functional.conv_transpose2d`.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C, features], of x's dtype (PyTorch's is [C, features, kh, kw]).
      stride: the enlargement.
      padding: pixels cut from every side of the full result.
      output_padding: pixels added at the bottom and the right, less than `stride`.

    Returns:
      [B, (H - 1) * stride - 2 * padding + kh + output_padding, likewise, features] of x's dtype.

    Raises:
      ModelError: a kernel of other channels, numbers that are not positive, an output_padding not below the stride, a
        padding that leaves nothing.
    """
    check_image(x, "conv_transpose2d")
    check_positive("conv_transpose2d", stride=stride)
    if kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ModelError(f"conv_transpose2d: a kernel {kernel.shape} does not fit an image {x.shape}")
    stride, padding, extra = pair(stride), pair(padding), pair(output_padding)
    for size, taps, s, p, e in zip(x.shape[1:3], kernel.shape, stride, padding, extra):
        if not 0 <= e < s or p < 0 or (size - 1) * s - 2 * p + taps + e < 1:
            raise ModelError(
                f"conv_transpose2d: padding={p}, output_padding={e} do not fit {size} pixels, {taps} taps, stride {s}"
            )
    axes = [_Axis(x.shape[1 + a], kernel.shape[a], stride[a], padding[a], extra[a]) for a in (0, 1)]
    rows = _arrange(kernel, axes[0])  # [window rows, row phase, kw, C, features]
    both = _arrange(jnp.moveaxis(rows, 2, 0), axes[1])  # [window columns, column phase, window rows, row phase, ...]
    phases = both.transpose(2, 0, 4, 3, 1, 5)
    phases = phases.reshape(*phases.shape[:3], -1)  # [window rows, window columns, C, phases * features]
    rows, columns = axes
    left, right = columns.crop
    shards = row_shards()
    if shards == 1:
        y = depth_to_space(conv2d(x, phases, padding=(rows.pads, columns.pads)), stride)
        return y[:, rows.crop[0] : rows.crop[1], left:right]

    length = rows.crop[1] - rows.crop[0]
    made = -(-length // shards)

    def reads(first: int, last: int) -> Pair:
        start, stop = (first + rows.crop[0]) // stride[0], (last - 1 + rows.crop[0]) // stride[0]
        return start - rows.pads[0], stop - rows.pads[0] + phases.shape[0]

    def body(part: jax.Array, shard: jax.Array, phases: jax.Array) -> jax.Array:
        y = depth_to_space(conv2d(part, phases, padding=((0, 0), columns.pads)), stride)
        # Where this device's first row stands among the phases of the first pixel it reads.
        first = rows.crop[0] if made % stride[0] == 0 else shard * made + rows.crop[0]
        return lax.dynamic_slice_in_dim(y, first % stride[0], made, axis=1)[:, :, left:right]

    return map_rows(body, x, phases, rows=length, reads=reads)


class _Axis:
    """How one axis is computed.

    Pixel `stride * q + phase` of the convolution's result sums, over offsets d, input pixel `q + d` times kernel tap
    `phase + shift - stride * d`, where that tap exists; `crop` then takes the wanted pixels.

    Attributes:
      taps: [window][phase], the kernel tap of each; outside the kernel where there is none.
      pads: (before, after) for the convolution.
      crop: (first, last + 1) of the result.
    """

    def __init__(self, size: int, taps: int, stride: int, padding: int, extra: int):
        length = (size - 1) * stride - 2 * padding + taps + extra
        window = -(-taps // stride)
        shift = padding
        offsets = self._offsets(taps, stride, shift)
        if offsets[1] - offsets[0] + 1 > window:
            # Phases that straddle two input pixels would widen the window with zeros: compute from the border, crop.
            shift = 0
            offsets = self._offsets(taps, stride, shift)
        cut = padding - shift
        low, high = offsets
        steps = -(-(length + cut) // stride)
        self.pads = (-low, steps - 1 + high - (size - 1))
        self.crop = (cut, cut + length)
        self.taps = [[p + shift - stride * d for p in range(stride)] for d in range(low, high + 1)]

    @staticmethod
    def _offsets(taps: int, stride: int, shift: int) -> Pair:
        """The least and the greatest d for which some phase has a tap in 0..taps-1."""
        used = [
            d
            for d in range(-taps - 1, taps + shift + 1)
            if any(0 <= phase + shift - stride * d < taps for phase in range(stride))
        ]
        return min(used), max(used)


def _arrange(kernel: jax.Array, axis: _Axis) -> jax.Array:
    """[taps, ...] -> [window, phase, ...], zeros where a phase has no tap. Slices, not a gather: the gradient of a
    gather is a scatter, slow on the CPU."""
    nothing = jnp.zeros_like(kernel[0])
    return jnp.stack(
        [jnp.stack([kernel[t] if 0 <= t < kernel.shape[0] else nothing for t in phases]) for phases in axis.taps]
    )
