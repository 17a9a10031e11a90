"""The host pipeline: Grain reads, decodes and cuts raw windows; nothing else happens off the device.

Shapes: B batch (this process's share), H height, W width, C channels.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np

from segjax.core.errors import CheckpointError, SizeError
from segjax.core.schema import IGNORE, IMAGE, LABEL, VALID, DatasetInfo
from segjax.data.augment import EXTENT, window_size
from segjax.data.dataset import NAME, Source

SIZE = "size"  # int32 [B, 2], true (height, width) of evaluation images


@dataclasses.dataclass(frozen=True)
class RandomWindow(grain.transforms.RandomMap):
    """Cuts a random [h, w] window out of a sample; an image that is smaller is padded below and right."""

    size: tuple[int, int]

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        image, label = element[IMAGE], element[LABEL]
        top, left = (int(rng.integers(max(0, have - want) + 1)) for have, want in zip(label.shape, self.size))
        rows, columns = slice(top, top + self.size[0]), slice(left, left + self.size[1])
        image, label = image[rows, columns], label[rows, columns]
        record = {name: np.int32(side) for name, side in zip(EXTENT, label.shape)}
        return record | {IMAGE: pad_image(image, self.size), LABEL: pad_label(label, self.size)}


class TrainIterator:
    """Endless batches {image, label, valid, height, width}; see `train_batches`.

    `get_state()` is a JSON value; an iterator built with the same arguments goes on from it exactly, also in the
    middle of an epoch.
    """

    def __init__(self, dataset: grain.IterDataset, identity: dict[str, Any]) -> None:
        self._iterator = iter(dataset)
        self._identity = identity

    def __iter__(self) -> TrainIterator:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._iterator)
        return {**batch, VALID: np.ones(len(batch[LABEL]), bool)}

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, and what it must be built with to go on."""
        return {"identity": self._identity, "position": json.loads(json.dumps(self._iterator.get_state()))}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state()`'s value.

        Raises:
          CheckpointError: when this iterator was built differently, so that the stream would be another.
        """
        for key, value in self._identity.items():
            if state["identity"].get(key) != value:
                raise CheckpointError(
                    f"data iterator: {key} was {state['identity'].get(key)!r} in the checkpoint and is {value!r} now;"
                    " resume with the same value, or start a new run."
                )
        self._iterator.set_state(state["position"])

    def close(self) -> None:
        """Ends worker processes and threads."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def train_batches(
    source: Source,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    seed: int,
    scale: tuple[float, float] = (1.0, 1.0),
    shuffle: bool = True,
    threads: int = 4,
    workers: int = 0,
    prefetch: int = 16,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainIterator:
    """Endless training batches of this process.

    One shuffled stream, reshuffled every epoch, is dealt to the processes in turn: shares are equal and disjoint, and
    each epoch shows every sample exactly once. Neither order nor windows depend on `threads` or `prefetch`.

    Args:
      source: random access to samples.
      batch_size: samples a batch, of this process.
      crop_size: (H, W) that augmentation will make of a window.
      seed: of order and windows.
      scale: range of the zoom that follows on the device; below 1 the windows are larger than the crop.
      shuffle: False keeps the source's order.
      threads: decoding threads (a process).
      workers: decoding processes; 0 = threads only. Part of the stream's identity.
      prefetch: samples kept ready.
      process_index, process_count: this host and how many there are.

    Returns:
      An iterator of {image: [B, h, w, C] raw, label: uint8 [B, h, w], valid: bool [B] (all true), height, width:
      int32 [B]}, where height and width say how much of the window is image.
    """
    window = window_size(crop_size, scale, source.largest)
    dataset = grain.MapDataset.source(source).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat().random_map(RandomWindow(window))
    if process_count > 1:
        dataset = dataset[process_index::process_count]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
    batches = dataset.to_iter_dataset(options).batch(batch_size, drop_remainder=True)
    if workers:
        _parse_absl_flags()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    identity = {
        "samples": len(source),
        "batch_size": batch_size,
        "window": list(window),
        "seed": seed,
        "shuffle": shuffle,
        "workers": workers,
        "process_count": process_count,
    }
    return TrainIterator(batches, identity)


def train_batch_shapes(
    info: DatasetInfo,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    largest: tuple[int, int] | None = None,
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what `train_batches` yields, without the images; `largest` as their source has it."""
    height, width = window_size(crop_size, scale, largest)
    shapes = {
        IMAGE: ((height, width, info.channels), info.image_dtype),
        LABEL: ((height, width), "uint8"),
        VALID: ((), "bool"),
        **{name: ((), "int32") for name in EXTENT},
    }
    return {key: jax.ShapeDtypeStruct((batch_size, *shape), dtype) for key, (shape, dtype) in shapes.items()}


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    size: tuple[int, int] | None = None,
    multiple: int = 1,
    threads: int = 4,
    prefetch: int = 16,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, Any]]:
    """Every sample once, in the source's order, at one static size.

    Images are padded below and right with zeros, labels with IGNORE. Process p of n gets samples p, p + n, ...; every
    process yields the same number of batches, the missing samples padded with `valid` false.

    Args:
      source: random access to samples.
      batch_size: samples a batch, of this process.
      size: (H, W) to pad to; default the source's `largest`. Rounded up to `multiple`.
      multiple: what H and W must be multiples of (the network's stride).
      threads, prefetch: decoding threads, samples kept ready.
      process_index, process_count: this host and how many there are.

    Yields:
      {image: [B, H, W, C] raw, label: uint8 [B, H, W], valid: bool [B], size: int32 [B, 2] true heights and widths
      (0 where not valid), name: list of B str ("" where not valid)}.

    Raises:
      SizeError: for an image larger than `size`.
    """
    wanted = size if size is not None else source.largest
    height, width = (-(-side // multiple) * multiple for side in wanted)
    rounds = -(-len(source) // (batch_size * process_count))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
    mine = grain.MapDataset.source(source)[process_index::process_count]
    samples = iter(mine.to_iter_dataset(options)) if len(mine) else iter(())
    blank = source[0][IMAGE][:0, :0] if len(mine) < rounds * batch_size else None
    for _ in range(rounds):
        images, labels, sizes, names = [], [], [], []
        for sample in itertools.islice(samples, batch_size):
            true = sample[LABEL].shape
            if true[0] > height or true[1] > width:
                raise SizeError(
                    f"{sample[NAME]}: {true[0]}x{true[1]} is larger than config.eval.size {height}x{width}; raise it"
                    f" to at least {true[0]}x{true[1]}, or leave it out."
                )
            images.append(pad_image(sample[IMAGE], (height, width)))
            labels.append(pad_label(sample[LABEL], (height, width)))
            sizes.append(true)
            names.append(sample[NAME])
        valid = np.arange(batch_size) < len(images)
        for _ in range(batch_size - len(images)):
            images.append(pad_image(blank, (height, width)))
            labels.append(np.full((height, width), IGNORE, np.uint8))
            sizes.append((0, 0))
            names.append("")
        yield {
            IMAGE: np.stack(images),
            LABEL: np.stack(labels),
            VALID: valid,
            SIZE: np.asarray(sizes, np.int32),
            NAME: names,
        }


def pad_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, C] of the image's type: `image` in the top left corner, zeros elsewhere."""
    if image.shape[:2] == tuple(size):
        return image
    padded = np.zeros((*size, image.shape[-1]), image.dtype)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def pad_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W]: `label` in the top left corner, IGNORE elsewhere."""
    if label.shape == tuple(size):
        return label
    padded = np.full(size, IGNORE, label.dtype)
    padded[: label.shape[0], : label.shape[1]] = label
    return padded


def _parse_absl_flags() -> None:
    """Grain's workers read absl flags, which only absl's own entry point parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
