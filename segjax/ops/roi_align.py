"""RoIAlign: bilinear samples of a map, averaged in the bins of each box; on one map, on a pyramid, of instance masks.

He et al., Mask R-CNN, ICCV 2017, section 3; the rule at borders and both roundings are those of torchvision and
detectron2. A sample more than a pixel outside the map is 0; other samples outside read the border's pixel.

B images; R boxes; H, W, C of a map; P, Q rows and columns of bins (`size`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.boxes import area
from segjax.ops.geometry import Pair, check_positive, pair
from segjax.ops.precision import wide_type, widen


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    size: int | Pair = 7,
    scale: float = 1.0,
    sampling: int = 0,
    aligned: bool = True,
) -> jax.Array:
    """Bins of boxes on one map, equal to `torchvision.ops.roi_align`.

    A bin's mean of bilinear samples is separable, so each box is a matrix of row weights [P, H] and one of column
    weights [Q, W]: two products, in the gradient too. They cost R * C * P * W * (H + Q) multiply-adds and [R, P, W, C]
    of memory: for small maps, few boxes or few channels. `pyramid_roi_align` costs nothing by the map's size.

    Args:
      features: floating [H, W, C] of one image.
      boxes: [R, 4] x0, y0, x1, y1 in pixels of the image; no gradient.
      size: (P, Q), static.
      scale: the map's pixels a pixel of the image, 1 / stride.
      sampling: samples a bin and axis; 0 takes ceil(side / bins) of them, for each box and axis, but no more than a
        side as long as the map has, and one.
      aligned: pixel centres lie at + 0.5 (detectron2); otherwise they lie at whole numbers and a side shorter than one
        pixel counts as one (torchvision's Mask R-CNN).

    Returns:
      [R, P, Q, C] of the features' dtype; 0 for a box that is not finite, or has no inside where it takes no sample.

    Raises:
      ModelError: not a map [H, W, C], or a size that is not positive or a sampling below 0.
    """
    if features.ndim != 3:
        raise ModelError(f"roi_align takes the features [H, W, C] of one image; got {features.shape}; map over batches")
    size = _checked("roi_align", boxes, size, sampling)
    axes = _axes(lax.stop_gradient(widen(boxes)), scale, features.shape[:2], size, sampling, aligned)
    rows, columns = (_axis_weights(axis, bins) for axis, bins in zip(axes, size))
    # A reduced-precision product would round float32 features to bfloat16 (TPU) or TF32 (GPU).
    exact = lax.Precision.HIGHEST if features.dtype == jnp.float32 else None
    # The rows first, written out: contracting both at once would be H * W products a bin.
    wide = wide_type(features.dtype)
    product = partial(jnp.einsum, precision=exact, preferred_element_type=wide)
    y = product("rph,hwc->rpwc", rows.astype(features.dtype), features).astype(features.dtype)
    return product("rqw,rpwc->rpqc", columns.astype(y.dtype), y).astype(y.dtype)


def mask_targets(instance: jax.Array, slots: jax.Array, boxes: jax.Array, size: int | Pair = 28) -> jax.Array:
    """The masks that boxes see of their instances: aligned RoIAlign of each mask, sampling 0, at least 0.5.

    It is detectron2's target from bit masks (`BitMasks.crop_and_resize`). The masks are taken from the id map one at a
    time, so that neither N nor R of them exist at once. A bin whose mean is 0.5 exactly depends on rounding, as there.

    Args:
      instance: integers [H, W, L]; k means that slot k - 1 covers the pixel in this layer, 0 that nothing does.
      slots: int [R], the instance of each box.
      boxes: [R, 4] in pixels of the id map.
      size: (P, Q), static.

    Returns:
      bool [R, P, Q].
    """
    size = _checked("mask_targets", boxes, size, 0)
    chex.assert_rank(instance, 3)

    axes = _axes(lax.stop_gradient(widen(boxes)), 1.0, instance.shape[:2], size, 0, True)
    rows, columns = (_axis_weights(axis, bins) for axis, bins in zip(axes, size))
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def target(of_box: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        slot, rows, columns = of_box
        mask = jnp.any(instance.astype(jnp.int32) == slot + 1, axis=-1).astype(rows.dtype)
        return product(product(rows, mask), columns.T) >= 0.5

    return lax.map(target, (slots, rows, columns))


def assign_levels(
    boxes: jax.Array, lowest: int = 2, highest: int = 5, canonical_size: float = 224.0, canonical_level: int = 4
) -> jax.Array:
    """[..., 4] -> int32 [...]: the pyramid's level of each box, counted from `lowest`.

    floor(4 + log2(sqrt(area) / 224 + 1e-8)), clamped: Lin et al., Feature Pyramid Networks, CVPR 2017, equation 1, with
    detectron2's guard for empty boxes.
    """
    side = jnp.sqrt(area(widen(boxes)))
    level = jnp.floor(canonical_level + jnp.log2(side / canonical_size + 1e-8))
    return (jnp.clip(level, lowest, highest) - lowest).astype(jnp.int32)


def pyramid_roi_align(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    levels: jax.Array,
    size: int | Pair = 7,
    strides: Sequence[int] = (4, 8, 16, 32),
    sampling: int = 0,
    aligned: bool = True,
) -> jax.Array:
    """Bins of boxes, each on its own level of a pyramid.

    The levels lie behind one another as [pixels, C]. Round by round, one sample of every bin gathers its four pixels
    and is added, until the box with the most samples is done. For 512 boxes, 7x7 bins, 256 channels in bfloat16 and
    sampling 2 that reads 4 * 4 * 512 * 49 * 512 bytes = 205 MB an image and takes 0.2 GFLOP. The products of
    `roi_align` would take 170 GFLOP on a pyramid of 800x1344 pixels and hold 0.6 GB for its first level. A patch of
    fixed size a box would read as much as the samples do, and be wrong for long boxes. Adaptive sampling takes 16
    rounds for the largest square box where levels are assigned by area, and at most 48 for a long one: 4 to 12 times
    the bytes of sampling 2.

    Batched, unlike the other operations: `vmap` would make the loop copy its sums each round. Gathers stay within
    their image, so the images may be on different devices. There is no second derivative.

    Args:
      features: floating [B, H, W, C] of each level, of one dtype and channel count.
      boxes: [B, R, 4] in pixels of the image; no gradient.
      levels: int [B, R], the index into `features` (`assign_levels`); clamped.
      size: (P, Q), static.
      strides: pixels of the image a pixel of each level.
      sampling, aligned: as in `roi_align`.

    Returns:
      [B, R, P, Q, C] of the features' dtype; sums are taken in float32.

    Raises:
      ModelError: levels that differ in batch, channels or dtype, as many strides are not given, or a size or sampling
        that cannot be.
    """
    size = _checked("pyramid_roi_align", boxes, size, sampling)
    if len({(f.shape[0], f.shape[-1], f.dtype) for f in features}) != 1 or any(f.ndim != 4 for f in features):
        shapes = ", ".join(f"{f.dtype} {f.shape}" for f in features)
        raise ModelError(f"pyramid_roi_align takes levels [B, H, W, C] of one batch, width and dtype; got {shapes}")
    if len(features) != len(strides):
        raise ModelError(f"pyramid_roi_align: {len(features)} levels and {len(strides)} strides; give one a level")
    chex.assert_shape(boxes, (features[0].shape[0], None, 4))
    chex.assert_shape(levels, boxes.shape[:2])
    maps = np.array([f.shape[1:3] for f in features], np.int32)
    levels = jnp.clip(levels, 0, len(features) - 1)
    first = jnp.asarray(np.cumsum(maps.prod(1)) - maps.prod(1), jnp.int32)[levels]
    pixels = jnp.asarray(maps)[levels]
    boxes = lax.stop_gradient(widen(boxes))
    scale = jnp.asarray(1.0 / np.asarray(strides), boxes.dtype)[levels]
    rows, columns = _axes(boxes, scale, (pixels[..., 0], pixels[..., 1]), size, sampling, aligned)
    flat = jnp.concatenate([f.reshape(f.shape[0], -1, f.shape[-1]) for f in features], axis=1)
    return _pool(flat, rows, columns, first, size)


class _Axis(NamedTuple):
    """One axis of each box, on its map: arrays [...] over the boxes."""

    start: jax.Array  # where the first bin begins; pixel centres lie at whole numbers
    bin: jax.Array  # how long a bin is
    count: jax.Array  # int32, samples a bin
    pixels: jax.Array | int  # of the map


def _axes(boxes, scale, pixels, size: Pair, sampling: int, aligned: bool) -> tuple[_Axis, _Axis]:
    """Rows and columns of boxes [..., 4]; `scale` and each of `pixels` are a number or [...]."""
    half = 0.5 if aligned else 0.0
    x0, y0, x1, y1 = (boxes[..., i] * scale - half for i in range(4))
    axes = []
    for start, side, length, bins in ((y0, y1 - y0, pixels[0], size[0]), (x0, x1 - x0, pixels[1], size[1])):
        side = side if aligned else jnp.maximum(side, 1)
        count = sampling if sampling else jnp.clip(jnp.nan_to_num(jnp.ceil(side / bins)), 0, -(-length // bins) + 1)
        axes.append(_Axis(start, side / bins, jnp.broadcast_to(count, side.shape).astype(jnp.int32), length))
    return axes[0], axes[1]


def _samples(axis: _Axis, bins: int, sample: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sample [...] of each bin: (place on the map [..., bins], 0 where it is not on it; whether it is)."""
    step = ((sample + 0.5) * axis.bin / jnp.maximum(axis.count, 1))[..., None]
    place = axis.start[..., None] + jnp.arange(bins) * axis.bin[..., None] + step
    pixels = jnp.asarray(axis.pixels)[..., None]
    inside = (place >= -1) & (place <= pixels)
    return jnp.clip(jnp.where(inside, place, 0), 0, pixels - 1), inside


def _axis_weights(axis: _Axis, bins: int) -> jax.Array:
    """[R, bins, pixels]: of each pixel in each bin."""

    # A loop, because the compiler of CPUs writes the weights of all samples out before it adds them.
    def add(sample, weights):
        place, inside = _samples(axis, bins, sample)
        inside &= (sample < axis.count)[:, None]
        hat = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(axis.pixels)), 0)
        return weights + jnp.where(inside[..., None], hat, 0)

    weights = jnp.zeros((*axis.start.shape, bins, axis.pixels), axis.start.dtype)
    weights = lax.fori_loop(0, jnp.max(axis.count, initial=0), add, weights)
    return weights / jnp.maximum(axis.count, 1)[:, None, None]


def _taps(axis: _Axis, bins: int, sample: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sample [...] of each bin: the two pixels that it lies between and their weights, both [..., bins, 2]."""
    place, inside = _samples(axis, bins, sample)
    low = jnp.floor(place)
    share = place - low
    pixel = jnp.stack([low, jnp.minimum(low + 1, jnp.asarray(axis.pixels)[..., None] - 1)], -1).astype(jnp.int32)
    return pixel, jnp.where(inside[..., None], jnp.stack([1 - share, share], -1), 0)


def _corners(turn, rows: _Axis, columns: _Axis, first: jax.Array, size: Pair) -> tuple[jax.Array, jax.Array]:
    """Of each bin's sample number `turn`: indices and weights [B, R * P * Q, 4] of its four pixels."""
    across = jnp.maximum(columns.count, 1)
    (y, of_y), (x, of_x) = _taps(rows, size[0], turn // across), _taps(columns, size[1], turn % across)
    y = first[..., None, None] + y * columns.pixels[..., None, None]
    total = rows.count * columns.count
    of_y = of_y * jnp.where(turn < total, 1 / jnp.maximum(total, 1), 0)[..., None, None].astype(of_y.dtype)
    index = y[:, :, :, None, :, None] + x[:, :, None, :, None, :]
    weight = of_y[:, :, :, None, :, None] * of_x[:, :, None, :, None, :]
    return tuple(rearrange(a, "b r p q i j -> b (r p q) (i j)") for a in (index, weight))


def _turns(rows: _Axis, columns: _Axis) -> jax.Array:
    return jnp.max(rows.count * columns.count, initial=0)


# Written out, because a loop whose length is an array has no gradient of jax's.
@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _pool(flat: jax.Array, rows: _Axis, columns: _Axis, first: jax.Array, size: Pair) -> jax.Array:
    """[B, pixels, C] -> [B, R, P, Q, C]."""
    wide = wide_type(flat.dtype)

    def add(turn, bins):
        index, weight = _corners(turn, rows, columns, first, size)
        corners = jax.vmap(lambda image, i: image[i])(flat, index)
        return bins + jnp.sum(corners.astype(wide) * weight[..., None].astype(wide), axis=2)

    batch, boxes = first.shape
    bins = jnp.zeros((batch, boxes * size[0] * size[1], flat.shape[-1]), wide)
    bins = lax.fori_loop(0, _turns(rows, columns), add, bins)
    return bins.reshape(batch, boxes, *size, -1).astype(flat.dtype)


def _pool_forward(flat, rows, columns, first, size):
    return _pool(flat, rows, columns, first, size), (flat[:, :0], flat.shape[1], rows, columns, first)


def _pool_backward(size, saved, gradient):
    like, pixels, rows, columns, first = saved
    wide = wide_type(gradient.dtype)
    gradient = rearrange(gradient.astype(wide), "b r p q c -> b (r p q) 1 c")

    def add(turn, flat):
        index, weight = _corners(turn, rows, columns, first, size)
        return jax.vmap(lambda image, i, g: image.at[i].add(g))(flat, index, gradient * weight[..., None].astype(wide))

    flat = jnp.zeros((gradient.shape[0], pixels, gradient.shape[-1]), wide)
    flat = lax.fori_loop(0, _turns(rows, columns), add, flat)
    return flat.astype(like.dtype), None, None, None


_pool.defvjp(_pool_forward, _pool_backward)


def _checked(what: str, boxes: jax.Array, size: int | Pair, sampling: int) -> Pair:
    chex.assert_axis_dimension(boxes, -1, 4)
    check_positive(what, size=size)
    if sampling < 0:
        raise ModelError(f"{what}: sampling={sampling} must be positive, or 0 for as many samples as a box needs")
    return pair(size)
