"""The tfds builder that writes any `Layout` as ArrayRecord, and the reader of what it wrote.

Images and annotations are stored by name, as encoded bytes, and read back as bytes; `data.records` decodes them.
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
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, IMAGE, IMAGENET_MEAN, IMAGENET_STD, LABEL, NAME
from segjax.data.annotations.tally import Tally
from segjax.data.consistency import LabelSurvey
from segjax.data.counts import SplitCounts
from segjax.data.decode import Picture, encode_label, open_picture, read_image
from segjax.data.instances.counts import InstanceCounts
from segjax.data.instances.objects import INSTANCE_KEYS, Annotated, largest
from segjax.data.labels import Label, read_label, read_mask
from segjax.data.layout import Layout, Sample, require_annotations
from segjax.data.problem import Problem
from segjax.data.records import encode_instances

_AHEAD = 16  # samples read ahead of the writer


class Record(NamedTuple):
    """One sample, read and checked.

    Attributes:
      data: its bytes, by the keys of `core.schema`.
      picture: its image.
      label: what its label file says; None without one.
      ids: uint8 [H, W], its class ids; None where it has none.
      annotated: what else its files say; its `instances` are all that there are.
    """

    data: dict[str, bytes]
    picture: Picture
    label: Label | None
    ids: np.ndarray | None
    annotated: Annotated | None


def read_sample(
    sample: Sample, layout: Layout, channels: int, dtype: str, fill: Sequence[float] | None = None
) -> Record:
    """One sample, every promise checked but those about single instances (`Annotated.problems`).

    `fill` [C] replaces what the image does not measure; a pixel without any measurement is void in the label.

    Raises:
      DataError: naming the file, for whatever is wrong with it.
    """
    image_bytes, picture = read_image(sample.image, channels, nodata=layout.nodata, fill=fill)
    if picture.pixels.dtype != np.dtype(dtype):
        raise DataError(
            f"{sample.image}: {picture.pixels.dtype} pixels where the set's first image has {dtype}; convert one of"
            " them."
        )
    data, size = {IMAGE: image_bytes}, picture.pixels.shape[:2]
    label, ids, annotated = None, None, None
    if sample.label is not None:
        data[LABEL], label = read_label(sample.label, layout)
        ids = label.ids
        if ids.shape != size:
            raise DataError(
                f"{sample.label}: label is {ids.shape[0]}x{ids.shape[1]}, its image {sample.image.name} is"
                f" {size[0]}x{size[1]} (height x width). {layout.way_out()}"
            )
    if sample.instances is not None:
        annotated = sample.instances.read(size, ids)
        if annotated.instances is None:
            return Record({}, picture, label, ids, annotated)
        data |= encode_instances(largest(annotated.instances, layout.max_instances))
        if annotated.label is not None:
            ids, data[LABEL] = annotated.label, encode_label(annotated.label)
    if ids is not None:
        void = np.zeros(size, bool) if picture.void is None else picture.void
        if sample.region is not None:
            inside = read_mask(sample.region)
            if inside.shape != size:
                raise DataError(f"{sample.region}: mask is {list(inside.shape)}, its label is {list(size)}.")
            void = void | ~inside
        if void.any():
            ids = np.where(void, IGNORE, ids).astype(np.uint8)
            data[LABEL] = encode_label(ids)
    return Record(data, picture, label, ids, annotated)


def measure(layout: Layout) -> SplitCounts:
    """Sums over the images of the split that mean and std are of, in a pass of its own."""
    samples = layout.splits[layout.measured_split]
    channels = open_picture(layout.first().image, layout.channels, nodata=layout.nodata).pixels.shape[-1]
    counts = SplitCounts.zeros(len(layout.classes), channels)
    for picture in _in_order(lambda sample: open_picture(sample.image, channels, nodata=layout.nodata), samples):
        counts.add_image(picture)
    return counts


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes one `Layout`; `counts` holds what was seen, split by split, once it is prepared."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded; looking for checksums beside the code would need importlib_resources, which tfds does not
    # declare.
    code_path = None
    url_infos = None

    def __init__(self, layout: Layout, *, data_dir: Path, fill: Sequence[float] | None = None) -> None:
        """`fill` [C]: what replaces image values that are no measurement."""
        require_annotations(layout)
        self.name = layout.name
        self._layout = layout
        pixels = open_picture(layout.first().image, layout.channels, nodata=layout.nodata).pixels
        self.channels, self.image_dtype = pixels.shape[-1], pixels.dtype.name
        self.survey = LabelSurvey(layout)
        fixed = self.imagenet_statistics()
        self._fill = fill if fixed is None else fixed[0]
        self.counts = {split: SplitCounts.zeros(len(layout.classes), self.channels) for split in layout.splits}
        self.instances = {split: InstanceCounts.zeros(len(layout.classes)) for split in layout.splits}
        self.tally = Tally()
        super().__init__(data_dir=data_dir)

    def imagenet_statistics(self) -> tuple[list[float], list[float]] | None:
        """ImageNet's mean and std in units of the stored pixels, or None where measured ones are asked for."""
        photo = self.image_dtype == "uint8" and self.channels == 3
        if not (self._layout.statistics == "imagenet" or (self._layout.statistics == "auto" and photo)):
            return None
        if self.channels != 3:
            raise DataError(
                f"data.options.statistics: 'imagenet' has 3 channels, {self._layout.name!r} has {self.channels}."
            )
        factor = {"uint8": 1.0, "uint16": 257.0, "float32": 1.0}[self.image_dtype]
        return [v * factor for v in IMAGENET_MEAN], [v * factor for v in IMAGENET_STD]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                IMAGE: self._image_feature(),
                **{key: feature for kind in self._layout.annotations for key, feature in _features(kind).items()},
                NAME: tfds.features.Text(),
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
        samples, layout, written = self._layout.splits[split], self._layout, 0
        for sample, record in zip(samples, _in_order(self._read, samples)):
            if record.annotated is not None:
                self._tell(record.annotated)
                if record.annotated.instances is None:
                    continue
                self.instances[split].add(record.annotated.instances, layout.max_instances)
            self.counts[split].add_image(record.picture)
            self.counts[split].add_size(record.picture.pixels.shape[:2])
            if record.ids is not None:
                self.counts[split].add_label(record.ids)
            if record.label is not None:
                self.survey.add(sample.label, record.label)
            yield written, {**record.data, NAME: sample.name.encode(errors="surrogateescape")}
            written += 1
        if not written:
            raise DataError(f"{layout.root}: no image of split {split!r} can be used. {layout.way_out()}")

    def _tell(self, annotated: Annotated) -> None:
        """Refuses what is wrong, or counts it."""
        for problem in annotated.problems:
            if not self._layout.skip_bad:
                raise refused(problem, self._layout)
            self.tally.drop(problem.kind, problem.text)
        for note in annotated.notes:
            self.tally.note(note.kind, note.text)

    def _read(self, sample: Sample) -> Record:
        record = read_sample(sample, self._layout, self.channels, self.image_dtype, self._fill)
        if record.picture.missing is not None and self._fill is None:
            raise _MeanNeeded
        return record


def refused(problem: Problem, layout: Layout) -> DataError:
    """The error of a bad annotation, and how to go on without it."""
    return DataError(
        f"{problem.text}; correct it, or leave out what is bad with data.options.skip_bad=True. {layout.way_out()}"
    )


def _features(kind: str) -> dict[str, Any]:
    """tfds's features of an annotation."""
    if kind == LABEL:
        return {LABEL: tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")}
    return {key: tfds.features.Scalar(np.bytes_) for key in INSTANCE_KEYS}


class _MeanNeeded(Exception):
    """An image lacks measurements, and their place is to hold a mean that is only known when all images are read."""


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
    try:
        return _write(layout, data_dir, None)
    except _MeanNeeded:
        counts = measure(layout)
        return _write(layout, data_dir, counts.mean().tolist())


def _write(layout: Layout, data_dir: Path, fill: Sequence[float] | None) -> tuple[Path, SegmentationBuilder]:
    tfds.disable_progress_bar()
    builder = SegmentationBuilder(layout, data_dir=data_dir, fill=fill)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download there, and there is none
        builder.download_and_prepare(file_format="array_record", download_config=config)
    return Path(builder.data_path), builder


class Records:
    """Random access to the records of a prepared directory: `[i]` is {key of `core.schema`: bytes}."""

    def __init__(self, directory: Path, split: str) -> None:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._examples = tfds.builder_from_directory(directory).as_data_source(split=split, deserialize_method=raw)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        # tfds's own parser, which is for any features, takes longer than the read.
        features = tf_example_pb2.Example.FromString(self._examples[index]).features.feature
        return {key: feature.bytes_list.value[0] for key, feature in features.items()}
