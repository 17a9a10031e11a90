"""The host pipeline: Grain reads, decodes and cuts raw windows; nothing else happens off the device.

Shapes: B batch (this process's share), H height, W width, C channels.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np

from segjax.core.errors import CheckpointError, SizeError
from segjax.core.schema import IGNORE, IMAGE, LABEL, SAMPLE, VALID, DatasetInfo
from segjax.data.augment import EXTENT, window_size
from segjax.data.dataset import NAME, Source
from segjax.data.sampling import epoch_order, window_corner

SIZE = "size"  # int32 [B, 2], true (height, width) of evaluation images


@dataclasses.dataclass(frozen=True)
class _Stream:
    """Random access to the endless stream of training windows; sample i is the same whoever asks."""

    source: Source
    window: tuple[int, int]
    seed: int
    shuffle: bool
    numbered: bool

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, place = divmod(index, len(self.source))
        chosen = int(epoch_order(len(self.source), self.seed, epoch)[place]) if self.shuffle else place
        sample = self.source[chosen]
        size = sample[LABEL].shape
        top, left = window_corner(size, self.window, self.seed, index)
        rows, columns = slice(top, top + self.window[0]), slice(left, left + self.window[1])
        image, label = sample[IMAGE][rows, columns], sample[LABEL][rows, columns]
        numbers = {name: np.int32(side) for name, side in zip(EXTENT, label.shape)}
        if self.numbered:
            numbers[SAMPLE] = np.int32(chosen)
        return numbers | {IMAGE: pad_image(image, self.window), LABEL: pad_label(label, self.window)}


class TrainIterator:
    """Endless batches {image, label, valid, height, width}; see `train_batches`.

    `get_state()` is a JSON value, the same in every process of a run: an iterator built with the same arguments, or for
    another share of the same batches, goes on from it exactly, also in the middle of an epoch.
    """

    def __init__(self, start_at: Callable[[int], Iterator[dict[str, Any]]], identity: dict[str, Any]) -> None:
        """`start_at(n)` gives the batches from the n-th on; `identity` is what the stream depends on."""
        self._start_at, self._identity = start_at, identity
        self._batches, self._iterator = 0, start_at(0)

    def __iter__(self) -> TrainIterator:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._iterator)
        self._batches += 1
        return {**batch, VALID: np.ones(len(batch[LABEL]), bool)}

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, and what it must be built with to go on."""
        return {"identity": self._identity, "batches": self._batches}

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
        self.close()
        self._batches, self._iterator = state["batches"], self._start_at(state["batches"])

    def close(self) -> None:
        """Ends worker processes and threads."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class _Share:
    """Random access to the samples a process reads of the stream, from a batch on.

    Order and shares are our own. Grain deals only every n-th sample, with which the order in a batch would depend on
    the number of processes; and its shuffle, repetition and random map took longer than the read.
    """

    def __init__(self, stream: _Stream, batch_size: int, rows: Sequence[int], start: int):
        self._stream, self._batch_size, self._rows, self._start = stream, batch_size, list(rows), start

    def __len__(self) -> int:  # of what has no end
        return sys.maxsize // len(self._rows) * len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch, row = divmod(index, len(self._rows))
        return self._stream[(self._start + batch) * self._batch_size + self._rows[row]]


class _Rows:
    """Random access to samples as rows of the batches that they make: `[i]` is the whole batch, sample i in its place.

    The thread that decoded a sample copies it while its pixels lie in that core's cache, and the decoded image, larger
    than the window, is free again at once. Stacked later, both would have gone out to memory.
    """

    def __init__(self, samples: _Share, batch_size: int):
        self._samples, self._batch_size = samples, batch_size
        self._lock = threading.Lock()
        self._unfinished: dict[int, tuple[dict[str, np.ndarray], list[int]]] = {}  # arrays, rows that are there

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = self._samples[index]
        batch, row = divmod(index, self._batch_size)
        with self._lock:
            if batch not in self._unfinished:
                self._unfinished[batch] = {key: self._empty(value) for key, value in sample.items()}, []
            arrays, done = self._unfinished[batch]
        for key, value in sample.items():
            if value.shape != arrays[key].shape[1:]:  # which numpy might repeat to fit
                raise ValueError(f"{key}: {value.shape} among samples of {arrays[key].shape[1:]}")
            arrays[key][row] = value
        with self._lock:
            done.append(row)
            if len(done) == self._batch_size:
                del self._unfinished[batch]
        return arrays

    def _empty(self, value: np.ndarray) -> np.ndarray:
        return np.empty((self._batch_size, *value.shape), value.dtype)


class _Chosen:
    """Random access to some samples of a source."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[self._indices[index]]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    seed: int,
    scale: tuple[float, float] = (1.0, 1.0),
    shuffle: bool = True,
    numbered: bool = False,
    threads: int = 4,
    workers: int = 0,
    prefetch: int = 16,
    rows: Sequence[int] | None = None,
) -> TrainIterator:
    """Endless training batches, or this process's share of each.

    One shuffled stream, reshuffled every epoch, is cut into batches: each epoch shows every sample exactly once, and
    batch t holds the same samples in the same order whatever the number of processes. Neither order nor windows depend
    on `threads`, `workers`, `prefetch` or `rows`.

    Args:
      source: random access to samples.
      batch_size: samples a batch, over all processes.
      crop_size: (H, W) that augmentation will make of a window.
      seed: of order and windows.
      scale: range of the zoom that follows on the device; below 1 the windows are larger than the crop.
      shuffle: False keeps the source's order.
      numbered: batches also tell which samples they are made of.
      threads: decoding threads (a process).
      workers: decoding processes; 0 = threads only.
      prefetch: samples kept ready.
      rows: which samples of a batch this process reads (`parallel.transfer.local_rows`); default all.

    Returns:
      An iterator of {image: [B, h, w, C] raw, label: uint8 [B, h, w], valid: bool [B] (all true), height, width:
      int32 [B]}, where height and width say how much of the window is image; `numbered` adds sample: int32 [B].
    """
    window = window_size(crop_size, scale, source.largest)
    stream = _Stream(source, window, seed, shuffle, numbered)
    rows = range(batch_size) if rows is None else rows
    if workers:
        _parse_absl_flags()

    def start_at(batch: int) -> Iterator[dict[str, Any]]:
        share = _Share(stream, batch_size, rows, batch)
        if workers:  # which take every n-th element: it must be a whole batch
            ahead = max(2, prefetch // len(rows))
            options = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
            batches = grain.MapDataset.source(share).batch(len(rows)).to_iter_dataset(options)
            return iter(batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers)))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
        samples = grain.MapDataset.source(_Rows(share, len(rows))).to_iter_dataset(options)
        return iter(samples.batch(len(rows), drop_remainder=True, batch_fn=operator.itemgetter(0)))

    identity = {
        "samples": len(source),
        "batch_size": batch_size,
        "window": list(window),
        "seed": seed,
        "shuffle": shuffle,
    }
    return TrainIterator(start_at, identity)


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
    rows: Sequence[int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Every sample once, in the source's order, at one static size.

    Images are padded below and right with zeros, labels with IGNORE. Every process yields the same number of batches,
    the samples that the last one lacks padded with `valid` false.

    Args:
      source: random access to samples.
      batch_size: samples a batch, over all processes.
      size: (H, W) to pad to; default the source's `largest`. Rounded up to `multiple`.
      multiple: what H and W must be multiples of (the network's stride).
      threads, prefetch: decoding threads, samples kept ready.
      rows: which samples of a batch this process reads (`parallel.transfer.local_rows`); default all.

    Yields:
      {image: [B, H, W, C] raw, label: uint8 [B, H, W], valid: bool [B], size: int32 [B, 2] true heights and widths
      (0 where not valid), name: list of B str ("" where not valid)}.

    Raises:
      SizeError: for an image larger than `size`.
    """
    wanted = size if size is not None else source.largest
    height, width = (-(-side // multiple) * multiple for side in wanted)
    rounds = -(-len(source) // batch_size)
    rows = range(batch_size) if rows is None else rows
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
    mine = [batch * batch_size + row for batch in range(rounds) for row in rows]
    there = [index for index in mine if index < len(source)]
    samples = iter(grain.MapDataset.source(_Chosen(source, there)).to_iter_dataset(options)) if there else iter(())
    blank = source[0][IMAGE][:0, :0] if len(there) < len(mine) else None
    for first in range(0, len(mine), len(rows)):
        images, labels, sizes, names = [], [], [], []
        valid = np.asarray(mine[first : first + len(rows)]) < len(source)
        for sample in itertools.islice(samples, int(valid.sum())):
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
        for _ in range(len(rows) - len(images)):
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
