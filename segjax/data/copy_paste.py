"""Copy-paste augmentation: objects of one image appear in another one, with their masks, on the device, under jit.

Ghiasi et al. Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation. CVPR 2021,
arXiv:2012.07177, section 3. Both images have been moved by their own view before (the paper's large-scale jitter); a
pasted pixel replaces the one below it, without blending, which the paper finds to change nothing.

Shape legend: B batch, H height, W width, C channels, L layers, N slots.
"""

from __future__ import annotations

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp

from segjax.core.fields import axes_of
from segjax.core.schema import IMAGE, INSTANCE, INSTANCE_CROWD, INSTANCE_VALID, LABEL

CHOSEN = 0.5
"""The share of an image's objects that are pasted (section 3: a random subset)."""


def copy_paste(key: jax.Array, batch: Mapping[str, jax.Array], probability: float = 1.0) -> dict[str, jax.Array]:
    """Pastes objects of each image's neighbour in the batch (the one before, of the first the last) into it.

    An object is pasted where it is; what it covers is cut from the objects below. Pasted ones take free slots, the
    first chosen first, and those for which there is none are not pasted. Objects without a pixel left, and slots
    without a pixel at all, are no longer valid. Crowds are never pasted. Boxes and areas of what is partly covered stay
    as they are: `ops.boxes.boxes_of_layers` gives the new ones.

    Args:
      key: of the choice.
      batch: `image` [B, H, W, C], `instance` uint8 or uint16 [B, H, W, L], `instance_valid` and `instance_crowd` bool
        [B, N]; optionally `label` [B, H, W] and whatever else has a slot axis. Others stay.
      probability: with which an image has anything pasted into it.
    """
    layers, valid, crowd = batch[INSTANCE], batch[INSTANCE_VALID], batch[INSTANCE_CROWD]
    images, slots = valid.shape
    chex.assert_shape(crowd, (images, slots))
    chex.assert_shape(layers, (images, *batch[IMAGE].shape[1:3], None))
    image_key, slot_key = jax.random.split(key)

    present = valid & shown(layers, slots)
    layers = _renumber(layers, jnp.where(present, jnp.arange(slots), slots))
    other = {name: jnp.roll(value, 1, axis=0) for name, value in batch.items() if _moves(name)}
    source, source_present = jnp.roll(layers, 1, axis=0), jnp.roll(present, 1, axis=0)

    chosen = source_present & ~other[INSTANCE_CROWD] & jax.random.bernoulli(slot_key, CHOSEN, (images, slots))
    chosen &= jax.random.bernoulli(image_key, probability, (images, 1))
    # The k-th chosen object takes the k-th free slot. A stable sort puts the free ones first.
    free = jnp.argsort(present, axis=1, stable=True)
    place = jnp.cumsum(chosen, axis=1) - 1
    chosen &= place < (~present).sum(axis=1, keepdims=True)
    target = jnp.where(chosen, jnp.take_along_axis(free, jnp.maximum(place, 0), axis=1), slots)

    pasted = _renumber(source, target)
    covered = (pasted > 0).any(axis=-1)
    result = dict(batch)
    for name in other:
        if name == INSTANCE:
            result[name] = jnp.where(covered[..., None], pasted, layers)
        elif name in (IMAGE, LABEL):
            where = covered.reshape(*covered.shape, *(1,) * (batch[name].ndim - 3))
            result[name] = jnp.where(where, other[name], batch[name])
        else:
            result[name] = jax.vmap(lambda mine, to, new: mine.at[to].set(new, mode="drop"))(
                batch[name], target, other[name]
            )
    result[INSTANCE_VALID] = shown(result[INSTANCE], slots)
    return result


def shown(layers: jax.Array, slots: int) -> jax.Array:
    """bool [B, N]: which slots have a pixel in id layers [B, H, W, L]."""
    ids = layers.reshape(layers.shape[0], -1).astype(jnp.int32)
    found = jnp.zeros((layers.shape[0], slots + 1), bool)
    return jax.vmap(lambda row, at: row.at[at].set(True))(found, ids)[:, 1:]


def _renumber(layers: jax.Array, target: jax.Array) -> jax.Array:
    """Id layers whose slot k has become slot `target[b, k]`; N stands for none."""
    slots = target.shape[1]
    table = jnp.pad(jnp.where(target < slots, target + 1, 0), ((0, 0), (1, 0)))
    return jax.vmap(lambda row, ids: row[ids])(table, layers.astype(jnp.int32)).astype(layers.dtype)


def _moves(name: str) -> bool:
    return name in (IMAGE, LABEL, INSTANCE) or axes_of(name)[:1] == ("instance",)
