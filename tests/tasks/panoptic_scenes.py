"""Procedural scenes as samples and batches of the panoptic task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from segjax.core.schema import IGNORE
from segjax.data.id_layers import id_layers
from segjax.data.scenes.labels import THINGS
from segjax.data.scenes.source import dataset_info, render

INFO = dataclasses.replace(
    dataset_info(),
    things=tuple(k for k in sorted(THINGS) if k < dataset_info().num_classes),
    layers=1,
    max_instances=60,
)


def sample(index: int, size: tuple[int, int] = (64, 96), zoom: float = 1.0, least: int = 1) -> dict:
    """One scene, as a source with instances gives it; instances of fewer than `least` pixels are void."""
    scene = render(index, height=size[0], width=size[1], zoom=zoom)
    ids, counts = np.unique(scene["instance"], return_counts=True)
    small = np.isin(scene["instance"], ids[(ids > 0) & (counts < least)])
    masks = [scene["instance"] == i for i in ids[(ids > 0) & (counts >= least)]]
    return {
        "image": scene["image"],
        "label": np.where(small, np.uint8(IGNORE), scene["label"]),
        "instance": id_layers(masks, size),
        "instance_class": np.array([np.bincount(scene["label"][mask]).argmax() for mask in masks], np.int32),
        "instance_crowd": np.zeros(len(masks), bool),
        "name": f"scene_{index}",
    }


def batch_of(samples: Sequence[dict], task) -> dict:
    """What the host pipeline hands over of samples of one size."""
    collated = [task.collate(one) for one in samples]
    keys = [key for key in collated[0] if key != "name"]
    batch = {key: np.stack([one[key] for one in collated]) for key in keys}
    return batch | {"valid": np.ones(len(samples), bool)}
