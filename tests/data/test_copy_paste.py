"""Copy-paste: pixels, masks and classes go together, slots never clash, and nothing of a crowd is pasted."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ConfigError
from segjax.core.schema import DatasetInfo
from segjax.data.augment import make_train_transform
from segjax.data.copy_paste import copy_paste
from segjax.data.options import InstanceAugment

B, H, W, N, K = 4, 12, 14, 6, 5
paste = jax.jit(copy_paste, static_argnames="probability")


def scenes(seed: int, present: int, layers: int = 1):
    """Images whose every object has a colour of its own: 10 (image + 1) + slot + 1, on a background of 10 (image + 1).

    Of several layers the last covers the others in the image.
    """
    rng = np.random.default_rng(seed)
    image, instance = np.zeros((B, H, W, 1), np.float32), np.zeros((B, H, W, layers), np.uint8)
    for b in range(B):
        image[b] = 10 * (b + 1)
        for slot in rng.permutation(N)[:present]:
            top, left = rng.integers(0, H - 3), rng.integers(0, W - 3)
            window = np.s_[b, top : top + rng.integers(2, 6), left : left + rng.integers(2, 6)]
            instance[window][..., slot % layers] = slot + 1
        for layer in range(layers):
            ids = instance[b, ..., layer]
            image[b, ..., 0] = np.where(ids > 0, 10 * (b + 1) + ids, image[b, ..., 0])
    held = np.array([[(instance[b] == k + 1).any() for k in range(N)] for b in range(B)])
    return {
        "image": image,
        "label": image[..., 0].astype(np.int32),
        "instance": instance,
        "instance_class": rng.integers(0, K, (B, N)).astype(np.int32),
        "instance_valid": held,
        "instance_crowd": np.zeros((B, N), bool),
        "instance_area": rng.random((B, N)).astype(np.float32),
    }


@pytest.mark.parametrize("present", [2, 6])
def test_masks_pixels_and_classes_agree(present: int) -> None:
    pasted = 0
    for seed in range(8):
        before = scenes(seed, present)
        after = jax.device_get(paste(jax.random.key(seed), before))
        chex.assert_trees_all_equal_shapes_and_dtypes(after, {k: jnp.asarray(v) for k, v in before.items()})
        colour, ids = after["image"][..., 0].astype(int), after["instance"][..., 0]
        np.testing.assert_array_equal(after["label"], colour)
        for b in range(B):
            neighbour = (b - 1) % B
            assert set(np.unique(colour[b]) // 10 - 1) <= {b, neighbour}
            np.testing.assert_array_equal(np.unique(ids[b][ids[b] > 0]), np.flatnonzero(after["instance_valid"][b]) + 1)
            for slot in np.flatnonzero(after["instance_valid"][b]):
                shades = np.unique(colour[b][ids[b] == slot + 1])
                assert len(shades) == 1
                assert shades[0] % 10  # an object, not the background
                image, origin = shades[0] // 10 - 1, shades[0] % 10 - 1
                for key in ("instance_class", "instance_area"):
                    assert after[key][b, slot] == before[key][image, origin]
                if image == neighbour:  # whole, as nothing lies over what is pasted
                    pasted += 1
                    np.testing.assert_array_equal(ids[b] == slot + 1, before["instance"][image, ..., 0] == origin + 1)
                else:
                    assert slot == origin
            # Every pixel of an object's colour is in its mask.
            np.testing.assert_array_equal(ids[b] > 0, colour[b] % 10 > 0)
    assert pasted > (10 if present == 2 else 0)


def test_half_of_the_objects_are_pasted() -> None:
    before = scenes(0, 1)
    share = np.mean(
        [
            (jax.device_get(paste(jax.random.key(n), before))["image"] // 10 - 1 != np.arange(B)[:, None, None, None])
            .any((1, 2, 3))
            .mean()
            for n in range(100)
        ]
    )
    assert 0.42 < share < 0.58


def test_overlapping_objects_keep_their_layers() -> None:
    """A pasted one is whole, hidden parts too; an own one lacks what is pasted over it."""
    for seed in range(5):
        before = scenes(seed, 3, layers=2)
        after = jax.device_get(paste(jax.random.key(seed), before))
        for b in range(B):
            masks = [(after["instance"][b] == k + 1).any(-1) for k in range(N)]
            pasted = np.flatnonzero(after["instance_valid"][b] & ~before["instance_valid"][b])
            covered = np.any([masks[slot] for slot in pasted], axis=0) if len(pasted) else np.zeros((H, W), bool)
            for slot in pasted:
                origins = [
                    before["instance_class"][b - 1, k]
                    for k in range(N)
                    if np.array_equal((before["instance"][b - 1] == k + 1).any(-1), masks[slot])
                ]
                assert after["instance_class"][b, slot] in origins
            for slot in np.flatnonzero(before["instance_valid"][b]):
                own = (before["instance"][b] == slot + 1).any(-1)
                np.testing.assert_array_equal(masks[slot], own & ~covered)
                assert after["instance_valid"][b, slot] == (own & ~covered).any()


def test_crowds_and_slots_without_room_are_not_pasted() -> None:
    before = scenes(1, 3)
    crowds = before | {"instance_crowd": np.ones((B, N), bool)}
    chex.assert_trees_all_equal(jax.device_get(paste(jax.random.key(0), crowds)), crowds)
    nothing = jax.device_get(paste(jax.random.key(0), before, probability=0.0))
    chex.assert_trees_all_equal(nothing, before)
    full = scenes(2, 0)
    full["instance"][:, 0, :N, 0] = np.arange(1, N + 1)
    full["instance_valid"][:] = True
    chex.assert_trees_all_equal(jax.device_get(paste(jax.random.key(0), full)), full)


def test_a_slot_that_is_not_valid_is_free_and_leaves_no_pixels() -> None:
    before = scenes(3, 4)
    before["instance_valid"][:] = False
    after = jax.device_get(paste(jax.random.key(0), before))
    assert not after["instance"].any()
    assert not after["instance_valid"].any()
    np.testing.assert_array_equal(after["image"], before["image"])


def test_it_is_part_of_the_training_transform() -> None:
    info = DatasetInfo("x", ("a",) * K, ((0, 0, 0),) * K, channels=1, mean=(0.0,), std=(1.0,))
    before = scenes(4, 3) | {"image": scenes(4, 3)["image"].astype(np.uint8)}
    plain, pasting = (
        make_train_transform(InstanceAugment(flip=True, copy_paste=share), info, (H, W))(jax.random.key(1), before)
        for share in (0.0, 1.0)
    )
    changed = np.asarray(plain["image"] != pasting["image"])[..., 0]
    assert changed.any()
    np.testing.assert_array_equal(
        np.asarray(pasting["image"][..., 0] % 10 > 0), np.asarray(pasting["instance"] > 0)[..., 0]
    )
    with pytest.raises(ConfigError, match=r"copy_paste: 2\.0 is a share"):
        make_train_transform(InstanceAugment(copy_paste=2.0), info, (H, W))
