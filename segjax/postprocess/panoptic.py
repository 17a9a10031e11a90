"""Panoptic segments: from centres and offsets, and from instance masks, over a semantic label map.

Both return `segment` int32 [B, H, W], p where segment p - 1 is and 0 in void; `segment_class` int32 [B, P];
`segment_valid` bool [B, P], whether a segment has pixels; `segment_score` float32 [B, P], 0 where it has none. The
instances come first, then one segment for each class that is not in `things`.

Shape legend: B batch, H height, W width, K classes, N centres, D masks, S classes of stuff, P = N + S or D + S.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.geometry import inside
from segjax.ops.pooling import max_pool
from segjax.ops.precision import widen

Segments = dict[str, jax.Array]


def group_by_centers(
    logits: jax.Array,
    heatmap: jax.Array,
    offset: jax.Array,
    sizes: jax.Array,
    things: Sequence[int],
    *,
    threshold: float = 0.1,
    window: int = 7,
    centers: int = 200,
    stuff_area: int = 2048,
) -> Segments:
    """The segments of Panoptic-DeepLab (arXiv:1911.10194, section 3.2).

    A pixel of a thing belongs to the centre nearest to where its offset points, and an instance is of the class that
    most of its pixels have (of equals the first). Without a centre pixels of things are void, and so is stuff of too
    few pixels. Equal to `get_panoptic_segmentation` of bowenc0221/panoptic-deeplab (`cf8e20b`), but that of `centers`
    or more it drops the last one and its equals. The score of an instance is the heatmap at its centre times the mean
    probability of its class over its pixels, that of stuff this mean.

    Args:
      logits: float [B, H, W, K].
      heatmap: float [B, H, W].
      offset: float [B, H, W, 2], (rows, columns) in pixels.
      sizes: int [B, 2], each image's (height, width); outside is void.
      things: the classes with instances.
      threshold: of the heatmap at a centre, at least 0.
      window: pixels on a side; a centre is the maximum of the window around it. Odd.
      centers: N, the most of an image.
      stuff_area: the least pixels of a segment of stuff.
    """
    _, height, width, classes = logits.shape
    chex.assert_shape(heatmap, logits.shape[:3])
    chex.assert_shape(offset, (*logits.shape[:3], 2))
    within = inside(sizes, height, width)
    labels = jnp.where(within, jnp.argmax(logits, axis=-1), classes)
    heatmap = jnp.where(within, widen(heatmap), -1.0)
    place, score, valid = find_centers(heatmap, threshold, window, centers)
    thing = jnp.isin(labels, jnp.asarray(things, jnp.int32))
    segment = jnp.where(thing, nearest_center(offset, place, valid), 0)

    image = jnp.arange(len(labels))[:, None, None]
    votes = jnp.zeros((len(labels), centers + 1, classes), jnp.int32).at[image, segment, labels].add(1, mode="drop")
    votes = votes[:, 1:]
    found = _with_stuff(segment, votes.argmax(axis=2), votes.any(axis=2), labels, things, classes, stuff_area)
    share = _mean_probability(logits, found)
    score = jnp.concatenate([score, jnp.ones((len(share), share.shape[1] - centers))], axis=1)
    return found | {"segment_score": jnp.where(found["segment_valid"], share * score, 0.0)}


def find_centers(
    heatmap: jax.Array, threshold: float, window: int, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maxima of a heatmap above a threshold, the `count` largest, in the order of pixels.

    Args:
      heatmap: float32 [B, H, W].
      threshold, window: as in `group_by_centers`.
      count: N.

    Returns:
      (row, column) int32 [B, N, 2], the values there float32 [B, N], valid bool [B, N]; those that are not valid last.
    """
    batch, _, width = heatmap.shape
    heatmap = jnp.where(heatmap > threshold, heatmap, -1.0)
    largest = max_pool(heatmap[..., None], window, 1, padding=window // 2)[..., 0]
    peaks = jnp.where(heatmap == largest, heatmap, -1.0).reshape(batch, -1)
    if peaks.shape[1] < count:
        peaks = jnp.pad(peaks, ((0, 0), (0, count - peaks.shape[1])), constant_values=-1.0)
    score, index = lax.top_k(peaks, count)
    # The order of pixels decides between two centres that are equally near, as in the reference.
    index, score = lax.sort((jnp.where(score > 0, index, peaks.shape[1]), score), num_keys=1)
    return jnp.stack([index // width, index % width], axis=-1), score, score > 0


def nearest_center(offset: jax.Array, place: jax.Array, valid: jax.Array) -> jax.Array:
    """int32 [B, H, W], n + 1 for the centre n nearest to where a pixel's offset points, 0 without centres.

    A pass over the image for each centre that is valid, the first ones: no [N, H, W] of distances.

    Args:
      offset: float [B, H, W, 2], (rows, columns).
      place: int [B, N, 2].
      valid: bool [B, N].
    """
    _, height, width, _ = offset.shape
    offset = widen(offset)
    row, column = jnp.arange(height)[:, None] + offset[..., 0], jnp.arange(width) + offset[..., 1]

    def closer(n: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance, nearest = best
        center, known = place[:, n, :, None, None].astype(row.dtype), valid[:, n, None, None]
        own = jnp.square(row - center[:, 0]) + jnp.square(column - center[:, 1])
        better = known & (own < distance)
        return jnp.where(better, own, distance), jnp.where(better, n + 1, nearest)

    far = jnp.full(row.shape, jnp.inf, row.dtype), jnp.zeros(row.shape, jnp.int32)
    return lax.fori_loop(0, valid.sum(axis=1).max(), closer, far)[1]


def merge_masks(
    masks: jax.Array,
    classes: jax.Array,
    scores: jax.Array,
    valid: jax.Array,
    labels: jax.Array,
    sizes: jax.Array,
    things: Sequence[int],
    num_classes: int,
    *,
    score: float = 0.5,
    overlap: float = 0.5,
    stuff_area: int = 4096,
) -> Segments:
    """Instance masks over a label map, as cocodataset/panopticapi (combine_semantic_and_instance_predictions.py).

    Masks are placed one after the other, the best score first (of equals the first): one of which more than `overlap`
    is taken is left out, of others the free part is theirs. Stuff gets what is left. The score of stuff is 1.

    Args:
      masks: bool [B, D, H, W].
      classes: int [B, D].
      scores: float [B, D].
      valid: bool [B, D].
      labels: int [B, H, W]; what is no class of stuff leaves a pixel void.
      sizes: int [B, 2], each image's (height, width); outside is void.
      things: the classes with instances.
      num_classes: K.
      score: the least of a mask.
      overlap: the largest share of a mask that may be taken.
      stuff_area: the least pixels of a segment of stuff.
    """
    images, count, height, width = masks.shape
    chex.assert_shape([classes, scores, valid], (images, count))
    chex.assert_shape(labels, (images, height, width))
    within, image = inside(sizes, height, width), jnp.arange(images)
    order = jnp.argsort(-scores, axis=1, stable=True)
    valid &= scores >= score

    def put(segment: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
        mask = masks[image, d] & within
        area, taken = mask.sum(axis=(1, 2)), (mask & (segment > 0)).sum(axis=(1, 2))
        kept = valid[image, d] & (area > 0) & ~(taken / jnp.maximum(area, 1) > overlap)
        own = mask & (segment == 0) & kept[:, None, None]
        return jnp.where(own, d[:, None, None] + 1, segment), kept

    segment, kept = lax.scan(put, jnp.zeros(labels.shape, jnp.int32), order.T)
    kept = jnp.zeros((images, count), bool).at[image[:, None], order].set(kept.T)
    labels = jnp.where(within, labels.astype(jnp.int32), num_classes)
    found = _with_stuff(segment, classes, kept, labels, things, num_classes, stuff_area)
    scores = jnp.concatenate([widen(scores), jnp.ones((images, found["segment_valid"].shape[1] - count))], axis=1)
    return found | {"segment_score": jnp.where(found["segment_valid"], scores, 0.0)}


def _with_stuff(
    segment: jax.Array,
    instance_class: jax.Array,
    instance_valid: jax.Array,
    labels: jax.Array,
    things: Sequence[int],
    classes: int,
    stuff_area: int,
) -> Segments:
    """Instances [B, H, W], of [B, N], and behind them each class of stuff where there is no instance."""
    images, count = instance_class.shape
    stuff = np.setdiff1d(np.arange(classes), np.asarray(things, int)).astype(np.int32)
    free = jnp.where(segment == 0, labels, classes)
    free = jnp.where((free >= 0) & (free < classes), free, classes)
    image = jnp.arange(images)[:, None, None]
    area = jnp.zeros((images, classes + 1), jnp.int32).at[image, free].add(1)
    valid = jnp.concatenate([instance_valid, area[:, stuff] >= max(stuff_area, 1)], axis=1)
    # Of a class, the number of its segment; 0 for things and void.
    number = np.zeros(classes + 1, np.int32)
    number[stuff] = count + 1 + np.arange(len(stuff))
    behind = jnp.asarray(number)[free]
    segment = jnp.where(segment > 0, segment, behind)
    shown = jnp.take_along_axis(jnp.pad(valid, ((0, 0), (1, 0))), segment.reshape(images, -1), axis=1)
    return {
        "segment": jnp.where(shown.reshape(segment.shape), segment, 0),
        "segment_class": jnp.concatenate(
            [instance_class.astype(jnp.int32), jnp.broadcast_to(jnp.asarray(stuff), (images, len(stuff)))], axis=1
        ),
        "segment_valid": valid,
    }


def _mean_probability(logits: jax.Array, found: Segments) -> jax.Array:
    """float32 [B, P]: the mean of the softmax of a segment's class over its pixels, 0 where it has none."""
    images, height, _, classes = logits.shape
    segment, segment_class = found["segment"], found["segment_class"]
    own = jnp.take_along_axis(jnp.pad(segment_class, ((0, 0), (1, 0))), segment.reshape(images, -1), axis=1)
    own = own.reshape(segment.shape)[..., None] == jnp.arange(classes)
    logits = widen(logits)
    share = jnp.exp(jnp.where(own, logits, 0.0).sum(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
    # Row by row first: a float32 sum over a whole image would lose digits.
    image, row = jnp.arange(images)[:, None, None], jnp.arange(height)[:, None]
    shape = (images, segment_class.shape[1] + 1, height)
    total = jnp.zeros(shape, share.dtype).at[image, segment, row].add(share).sum(axis=2)[:, 1:]
    pixels = jnp.zeros(shape, jnp.int32).at[image, segment, row].add(1).sum(axis=2)[:, 1:]
    return total / jnp.maximum(pixels, 1)
