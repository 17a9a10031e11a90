"""The host pipeline: Grain reads, decodes and cuts raw windows; nothing else happens off the device.

What a batch holds is said by a table of `segjax.core.fields`. Shapes: B batch (this process's share).
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
from segjax.core.fields import HEIGHT, WIDTH, Field, Fields, cut, image_size, make_field
from segjax.core.schema import NAME, SAMPLE, SIZE, VALID
from segjax.data.dataset import Source
from segjax.data.sampling import epoch_order, window_corner

Collate = Callable[[dict[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Stream:
    """Random access to the endless stream of training samples; sample i is the same whoever asks."""

    source: Source
    fields: Fields
    collate: Collate
    seed: int
    shuffle: bool
    numbered: bool

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, place = divmod(index, len(self.source))
        chosen = int(epoch_order(len(self.source), self.seed, epoch)[place]) if self.shuffle else place
        sample = self.collate(self.source[chosen])
        found, corner = {}, (0, 0)
        if (size := image_size(sample, self.fields)) is not None:
            window = window_of(self.fields)
            corner = window_corner(size, window, self.seed, index)
            found[SIZE] = np.asarray(
                [min(side - start, limit) for side, start, limit in zip(size, corner, window)], np.int32
            )
        if self.numbered:
            found[SAMPLE] = np.int32(chosen)
        return found | {key: cut(sample[key], field, corner) for key, field in self.fields.items()}


def window_of(fields: Fields) -> tuple[int, int] | None:
    """(height, width) that the fields have; None where none has pixels."""
    for field in fields.values():
        if field.spatial:
            shape = dict(zip(field.axes, field.shape))
            return shape[HEIGHT], shape[WIDTH]
    return None


class TrainIterator:
    """Endless batches; see `train_batches`.

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
        return {**batch, VALID: np.ones(len(next(iter(batch.values()))), bool)}

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
    fields: Fields,
    *,
    batch_size: int,
    seed: int,
    collate: Collate = dict,
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
      fields: what a batch holds; those with pixels at the size of the window (`data.augment.window_size`) that is cut
        at a random place, which does not depend on the field.
      batch_size: samples a batch, over all processes.
      seed: of order and windows.
      collate: makes a sample's arrays of what the source has of it.
      shuffle: False keeps the source's order.
      numbered: batches also say which samples they are made of.
      threads: decoding threads (a process).
      workers: decoding processes; 0 = threads only.
      prefetch: samples kept ready.
      rows: which samples of a batch this process reads (`parallel.transfer.local_rows`); default all.

    Returns:
      An iterator of the fields' arrays [B, ...], `valid` bool [B] (all true) and, where there are pixels, `size` int32
      [B, 2], how much of the window is image; `numbered` adds `sample` int32 [B].
    """
    stream = _Stream(source, fields, collate, seed, shuffle, numbered)
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

    window = window_of(fields)
    identity = {
        "samples": len(source),
        "batch_size": batch_size,
        "window": None if window is None else list(window),
        "seed": seed,
        "shuffle": shuffle,
    }
    return TrainIterator(start_at, identity)


def batch_fields(fields: Fields) -> dict[str, Field]:
    """`fields` and what the pipeline adds to them."""
    added = {VALID: make_field(VALID, (), bool)}
    if window_of(fields) is not None:
        added[SIZE] = make_field(SIZE, (2,), np.int32)
    return {**fields, **added}


def train_batch_shapes(fields: Fields, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what `train_batches` yields, without the samples."""
    return {
        key: jax.ShapeDtypeStruct((batch_size, *field.shape), field.dtype)
        for key, field in batch_fields(fields).items()
    }


def eval_batches(
    source: Source,
    fields: Fields,
    *,
    batch_size: int,
    collate: Collate = dict,
    threads: int = 4,
    prefetch: int = 16,
    rows: Sequence[int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Every sample once, in the source's order, at one static size.

    Images are padded below and right. Every process yields the same number of batches, the samples that the last one
    lacks padded with `valid` false.

    Args:
      source: random access to samples.
      fields: what a batch holds, at the size that samples are padded to (`eval_size`).
      batch_size: samples a batch, over all processes.
      collate: makes a sample's arrays of what the source has of it.
      threads, prefetch: decoding threads, samples kept ready.
      rows: which samples of a batch this process reads (`parallel.transfer.local_rows`); default all.

    Yields:
      The fields' arrays [B, ...], `valid` bool [B], `sample` int32 [B] their places in the source, `name` list of B str
      ("" where not valid) and, where there are pixels, `size` int32 [B, 2] true heights and widths (0 where not valid).

    Raises:
      SizeError: for an image larger than the fields.
    """
    rounds = -(-len(source) // batch_size)
    rows = range(batch_size) if rows is None else rows
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
    mine = [batch * batch_size + row for batch in range(rounds) for row in rows]
    present = [index for index in mine if index < len(source)]
    samples = iter(grain.MapDataset.source(_Chosen(source, present)).to_iter_dataset(options)) if present else iter(())
    window = window_of(fields)
    for first in range(0, len(mine), len(rows)):
        places = np.asarray(mine[first : first + len(rows)], np.int32)
        valid = places < len(source)
        arrays = {key: [] for key in fields}
        sizes, names = [], []
        for sample in itertools.islice(samples, int(valid.sum())):
            names.append(sample[NAME])
            sample = collate(sample)
            size = image_size(sample, fields) or (0, 0)
            if window is not None and (size[0] > window[0] or size[1] > window[1]):
                raise SizeError(
                    f"{names[-1]}: {size[0]}x{size[1]} is larger than config.eval.size {window[0]}x{window[1]}; raise"
                    f" it to at least {size[0]}x{size[1]}, or leave it out."
                )
            sizes.append(size)
            for key, field in fields.items():
                arrays[key].append(cut(sample[key], field))
        lacking = len(rows) - len(names)
        for key, field in fields.items():
            arrays[key] += [np.full(field.shape, field.fill, field.dtype)] * lacking
        batch = {key: np.stack(values) for key, values in arrays.items()}
        batch |= {VALID: valid, SAMPLE: places, NAME: names + [""] * lacking}
        if window is not None:
            batch[SIZE] = np.asarray(sizes + [(0, 0)] * lacking, np.int32)
        yield batch


def eval_size(source: Source, size: tuple[int, int] | None, multiple: int = 1) -> tuple[int, int] | None:
    """(height, width) to pad a source's images to: `size` or, by default, its `largest`, rounded up to `multiple`.
    None for samples without pixels."""
    if source.largest is None:
        return None
    height, width = (-(-side // multiple) * multiple for side in (size or source.largest))
    return height, width


def _parse_absl_flags() -> None:
    """Grain's workers read absl flags, which only absl's own entry point parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
