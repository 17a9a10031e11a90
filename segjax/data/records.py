"""How each annotation of a sample is stored in a record: bytes by the keys of `core.schema`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segjax.core.schema import (
    IMAGE,
    INSTANCE,
    INSTANCE_AREA,
    INSTANCE_BOX,
    INSTANCE_CLASS,
    INSTANCE_CROWD,
    LABEL,
    NAME,
    DatasetInfo,
)
from segjax.data.decode import decode_grey, decode_image, decode_label, encode_label
from segjax.data.instances.objects import Instances, id_type


def encode_instances(instances: Instances) -> dict[str, bytes]:
    """The layers [H, W, L] as one grey PNG of L H rows, a layer below the other; npy of all else.

    PNG has no picture of two layers of 16 bits, nor of five, and a channel by itself packs better.
    """
    arrays = instances.arrays()
    layers = np.concatenate(np.moveaxis(arrays.pop(INSTANCE), -1, 0))
    return {INSTANCE: encode_label(layers), **{key: _npy(array) for key, array in arrays.items()}}


def decode_record(record: Mapping[str, bytes], info: DatasetInfo) -> dict[str, Any]:
    """The arrays of a record, and its name; layers as many and as wide as the data set's."""
    sample = {key: _DECODERS[key](data) for key, data in record.items()}
    if INSTANCE in sample:
        sample[INSTANCE] = _layers(sample[INSTANCE], sample[IMAGE].shape[0], info)
    return sample


def _layers(stacked: np.ndarray, height: int, info: DatasetInfo) -> np.ndarray:
    """[H, W, L] of [l H, W], l <= L; layers that the image does not need are zero."""
    found = stacked.reshape(-1, height, stacked.shape[1])
    layers = np.zeros((height, stacked.shape[1], info.layers), id_type(info.max_instances))
    layers[..., : len(found)] = np.moveaxis(found, 0, -1)
    return layers


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _decode_npy(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    IMAGE: decode_image,
    LABEL: decode_label,
    INSTANCE: decode_grey,
    INSTANCE_CLASS: _decode_npy,
    INSTANCE_CROWD: _decode_npy,
    INSTANCE_AREA: _decode_npy,
    INSTANCE_BOX: _decode_npy,
    NAME: lambda data: data.decode(errors="surrogateescape"),
}
