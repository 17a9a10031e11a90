"""The tfds builder that writes any `Layout` as ArrayRecord, and the reader of what it wrote.

Images and labels are stored as encoded bytes and read back as bytes; decoding is the pipeline's.
tensorflow is never imported: tfds encodes arrays through it, so only bytes are handed over, and reads ArrayRecord
without it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.counts import SplitCounts
from segjax.data.decode import encode_label, open_image, raw_label, read_image, read_label
from segjax.data.layout import Layout, Sample, require_labels

_AHEAD = 16  # samples read ahead of the writer


def read_sample(
    sample: Sample, layout: Layout, channels: int, dtype: str
) -> tuple[bytes, np.ndarray, bytes, np.ndarray]:
    """Image bytes, image [H, W, C], label bytes, class ids [H, W] of one sample, every promise checked.

    Raises:
      DataError: naming the file, for whatever is wrong with it.
    """
    image_bytes, image = read_image(sample.image, channels)
    if image.dtype != np.dtype(dtype):
        raise DataError(
            f"{sample.image}: {image.dtype} pixels where the set's first image has {dtype}; convert one of them."
        )
    assert sample.label is not None, "require_labels comes first"
    label_bytes, label = read_label(sample.label, layout)
    if label.shape != image.shape[:2]:
        raise DataError(
            f"{sample.label}: label is {label.shape[0]}x{label.shape[1]}, its image {sample.image.name} is"
            f" {image.shape[0]}x{image.shape[1]} (height x width). {layout.way_out()}"
        )
    if sample.region is not None:
        label_bytes, label = _void_outside(sample.region, label, layout)
    return image_bytes, image, label_bytes, label


def _void_outside(region: Path, label: np.ndarray, layout: Layout) -> tuple[bytes, np.ndarray]:
    inside = raw_label(region, layout)
    if inside.shape != label.shape:
        raise DataError(f"{region}: mask is {inside.shape[0]}x{inside.shape[1]}, its label is {label.shape}.")
    label = np.where(inside > 0, label, IGNORE).astype(np.uint8)
    return encode_label(label), label


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes one `Layout`; `counts` holds what was seen, split by split, once it is prepared."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded; looking for checksums beside the code would need importlib_resources, which tfds does not
    # declare.
    code_path = None
    url_infos = None

    def __init__(self, layout: Layout, *, data_dir: Path) -> None:
        require_labels(layout)
        self.name = layout.name
        self._layout = layout
        image = open_image(layout.first().image, layout.channels)
        self.channels, self.image_dtype = image.shape[-1], image.dtype.name
        self.counts = {split: SplitCounts.zeros(len(layout.classes), self.channels) for split in layout.splits}
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": self._image_feature(),
                "label": tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png"),
                "name": tfds.features.Text(),
            }
        )
        description = f"{self._layout.name}: {len(self._layout.classes)} classes, {IGNORE} = void."
        return tfds.core.DatasetInfo(builder=self, features=features, description=description, disable_shuffling=True)

    def _image_feature(self) -> Any:
        if self.image_dtype != "float32" and self.channels in (1, 3, 4):
            return tfds.features.Image(shape=(None, None, self.channels), dtype=np.dtype(self.image_dtype).type)
        return tfds.features.Scalar(np.bytes_)  # npy bytes: no picture format holds these

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self._layout.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        samples = self._layout.splits[split]
        for index, (sample, record) in enumerate(zip(samples, _in_order(self._read, samples))):
            image_bytes, image, label_bytes, label = record
            self.counts[split].add_image(image)
            self.counts[split].add_label(label)
            yield (
                index,
                {"image": image_bytes, "label": label_bytes, "name": sample.name.encode(errors="surrogateescape")},
            )

    def _read(self, sample: Sample) -> tuple[bytes, np.ndarray, bytes, np.ndarray]:
        return read_sample(sample, self._layout, self.channels, self.image_dtype)


def _in_order(function: Callable[[Sample], Any], samples: Sequence[Sample]) -> Iterator[Any]:
    """`function` of each sample, computed by a few threads a little ahead of the reader."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[Future[Any]] = deque()
        try:
            for sample in samples:
                waiting.append(pool.submit(function, sample))
                if len(waiting) == _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def write(layout: Layout, data_dir: Path) -> tuple[Path, SegmentationBuilder]:
    """Prepares `layout` under `data_dir` with tfds; returns the directory it wrote and the builder."""
    tfds.disable_progress_bar()
    builder = SegmentationBuilder(layout, data_dir=data_dir)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download there, and there is none
        builder.download_and_prepare(file_format="array_record", download_config=config)
    return Path(builder.data_path), builder


class Records:
    """Random access to the records of a prepared directory: `[i]` is {image: bytes, label: bytes, name: bytes}."""

    def __init__(self, directory: Path, split: str) -> None:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._examples = tfds.builder_from_directory(directory).as_data_source(split=split, deserialize_method=raw)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        # tfds's own parser, which is for any features, takes longer than the read.
        features = tf_example_pb2.Example.FromString(self._examples[index]).features.feature
        return {key: features[key].bytes_list.value[0] for key in ("image", "label", "name")}
