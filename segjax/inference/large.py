"""TIFF images too large to hold, labelled through sliding windows a band of rows at a time.

The windows, their weights and the order of the sums are those of `sliding_window`, so that the labels are those of the
whole image. Held at once are a band of pixels and one of class sums (two with mirroring), as high as a window, and one
batch of windows.

Shape legend: N windows a batch, h, w window, W width of the image padded to the stride, C channels, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, IMAGE, LOGITS
from segjax.data.augment import normalize
from segjax.data.decode import tiff_picture
from segjax.data.tiff import TiffPicture, TiffReader
from segjax.inference.canvas import round_up
from segjax.inference.images import Input, prepared
from segjax.inference.predictor import Predictor
from segjax.inference.sliding_window import WindowGrid, add_window
from segjax.ops.geometry import inside
from segjax.parallel.sharding import batch_sharding, replicated
from segjax.postprocess.semantic import labels_of, probabilities_of

LARGE = 2**26
"""Pixels (8192 x 8192) above which `segjax predict --window` labels a TIFF a band at a time."""
_LARGEST_BLOCK = 2**29  # bytes; a strip or tile is decoded whole


class LargeImages:
    """Labels large TIFF images with a predictor's network; one compiled program for each window and width."""

    def __init__(self, predictor: Predictor):
        """
        Raises:
          DataError: the predictor sees images in a way that needs them whole.
        """
        self.predictor = predictor
        whole = {
            "--window": predictor.window is None,
            "--scales": predictor.scales != (1.0,),
            "--crf": predictor.crf is not None,
            "the checkpoint's resize": predictor.info.resize is not None,
        }
        wrong = [name for name, fault in whole.items() if fault]
        if wrong == ["--window"]:
            raise DataError("too large to be labelled whole; give --window, such as --window 512 512.")
        if wrong:
            raise DataError(f"too large to be labelled whole, which {wrong[-1]} needs; leave it out, or cut the image.")
        self._add = jax.jit(self._add_windows, donate_argnums=1, static_argnames=("mirror", "size"))
        self._finish = jax.jit(self._labels, static_argnames="rows")
        self._shift = jax.jit(_shifted, donate_argnums=0, static_argnames="step")

    def bands(self, path: Path, reader: TiffReader) -> Iterator[np.ndarray]:
        """The labels of an image, from its top to its bottom.

        Yields:
          uint8 (int32 beyond 255 classes) [rows, W of the image]; IGNORE where the file has no measurement.

        Raises:
          DataError: a file that is damaged or not what the network was trained on.
        """
        if reader.block_bytes > _LARGEST_BLOCK:
            raise DataError(
                f"{path}: {reader.block_bytes:,} bytes in one compressed strip, too much to be read in parts; rewrite "
                "it in tiles (gdal_translate -co TILED=YES -co COMPRESS=DEFLATE)."
            )
        predictor = self.predictor
        height, width = reader.shape[:2]
        canvas = round_up((height, width), predictor.stride)
        grid = WindowGrid.cover(
            canvas, predictor.window, overlap=predictor.overlap, blend=predictor.blend, stride=predictor.stride
        )
        views = (False, True) if predictor.flip else (False,)
        sums: list[Any] = [self._zeros((1, grid.size[0], canvas[1], predictor.info.num_classes)) for _ in views]
        with ThreadPoolExecutor(1) as pool, self._mesh():
            rows = _Rows(path, reader, predictor, canvas[1], pool)
            for index, top in enumerate(grid.rows):
                bottom = grid.rows[index + 1] if index + 1 < len(grid.rows) else canvas[0]
                band, sizes = rows.band(top, grid.size[0], following=bottom)
                band = jax.device_put(band, None if predictor.mesh is None else replicated(predictor.mesh))
                for place, mirror in enumerate(views):
                    sums[place] = self._add_row(sums[place], band, sizes, grid, index, mirror)
                step = bottom - top
                labels = self._finish(tuple(sums), grid.shares(top, bottom), _sizes(height - top, width), rows=step)
                if bottom < canvas[0]:
                    sums = [self._shift(each, step=step) for each in sums]
                labels = np.asarray(labels)[: height - top, :width]
                void = rows.void(top, top + len(labels))
                yield labels if void is None else np.where(void, np.asarray(IGNORE, labels.dtype), labels)

    def _add_row(
        self, sums: jax.Array, band: Any, sizes: np.ndarray, grid: WindowGrid, index: int, mirror: bool
    ) -> jax.Array:
        """The sums with a row of windows added, in the order of their places in the (mirrored) image."""
        count, width = self.predictor.batch_size, sums.shape[2]
        starts = np.asarray(grid.columns, np.int32)
        for first in range(0, len(starts), count):
            part = starts[first : first + count]
            columns = np.zeros((count, grid.size[1]), np.float32)  # windows that fill the batch weigh nothing
            columns[: len(part)] = grid.column_weights[first : first + count]
            lefts = np.zeros(count, np.int32)
            lefts[: len(part)] = width - grid.size[1] - part if mirror else part
            sums = self._add(
                self.predictor.variables,
                sums,
                band,
                sizes,
                lefts,
                grid.row_weights[index],
                columns,
                size=grid.size[1],
                mirror=mirror,
            )
        return sums

    def _add_windows(
        self,
        variables: Any,
        sums: jax.Array,
        band: jax.Array,
        sizes: jax.Array,
        lefts: jax.Array,
        row: jax.Array,
        columns: jax.Array,
        *,
        size: int,
        mirror: bool,
    ) -> jax.Array:
        """float32 [1, h, W, K] with the weighted logits of N windows of `band` [h, W, C], raw pixels, added one by one.

        Args:
          sizes: int [1, 2], how many rows and columns of the band are the image.
          lefts: int [N].
          row, columns: the weights, [h] and [N, w]; of the mirrored image with `mirror`.
          size: w.
        """
        info, mesh = self.predictor.info, self.predictor.mesh
        height, width, channels = band.shape
        known = inside(sizes, height, width)[0]

        def cut(left: jax.Array) -> jax.Array:
            pixels = jax.lax.dynamic_slice(band, (0, left, 0), (height, size, channels))
            valid = jax.lax.dynamic_slice(known, (0, left), (height, size))
            shown = normalize(pixels, info.mean, info.std, info.channel_order)
            return jnp.where(valid[..., None], shown, 0.0)

        windows = jax.vmap(cut)(lefts)
        windows = windows[:, :, ::-1] if mirror else windows
        if mesh is not None:
            windows = jax.lax.with_sharding_constraint(windows, batch_sharding(mesh, IMAGE, windows.shape))
        logits = self.predictor.model.apply(variables, windows, train=False)[LOGITS].upsample()
        if mesh is not None:
            logits = jax.lax.with_sharding_constraint(logits, replicated(mesh))
        # Sums of the mirrored image lie mirrored: they are turned round when they are complete.
        places = width - size - lefts if mirror else lefts

        def one_window(sums: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            scores, left, column = one
            return add_window(sums, scores[None], jnp.stack([jnp.int32(0), left]), row, column), None

        return jax.lax.scan(one_window, sums, (logits, places, columns))[0]

    def _labels(self, sums: tuple[jax.Array, ...], shares: jax.Array, sizes: jax.Array, *, rows: int) -> jax.Array:
        """The labels [rows, W] of the uppermost rows, whose windows have all been added."""
        scores = [each[:, :rows] * shares[None, :, :, None] for each in sums]
        if len(scores) == 2:  # as `average_views` does
            mean = (probabilities_of(scores[0]) + probabilities_of(scores[1][:, :, ::-1])) / 2
        else:
            mean = scores[0]
        return labels_of(jax.lax.optimization_barrier(mean), sizes, self.predictor.info.void_class)[0]

    def _zeros(self, shape: tuple[int, ...]) -> jax.Array:
        mesh = self.predictor.mesh
        return jnp.zeros(shape, jnp.float32, device=None if mesh is None else replicated(mesh))

    def _mesh(self) -> contextlib.AbstractContextManager:
        mesh = self.predictor.mesh
        return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


class _Rows:
    """The rows of an image as a network is shown them, read once each and ahead of their use."""

    def __init__(self, path: Path, reader: TiffReader, predictor: Predictor, width: int, pool: ThreadPoolExecutor):
        self._path, self._reader, self._predictor, self._pool = path, reader, predictor, pool
        self._width = width
        self._top = self._bottom = 0
        self._pixels: np.ndarray | None = None
        self._void = np.zeros((0, reader.shape[1]), bool)
        self._next: Any = None

    def band(self, top: int, height: int, *, following: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [height, W, C] from row `top` on, padded with zeros, and int [1, 2], how much of them is the image.

        Args:
          following: the row that the next band will begin at.
        """
        total, columns = self._reader.shape[:2]
        bottom = min(top + height, total)
        parts, voids = [], []
        if self._pixels is not None:
            parts.append(self._pixels[top - self._top : self._bottom - self._top])
            voids.append(self._void[top - self._top :])
        if bottom > self._bottom:
            found = self._next.result() if self._next is not None else self._read(self._bottom, bottom)
            pixels = np.zeros((bottom - self._bottom, self._width, found.pixels.shape[-1]), found.pixels.dtype)
            pixels[:, :columns] = found.pixels
            parts.append(pixels)
            voids.append(np.zeros((len(pixels), columns), bool) if found.void is None else found.void)
        self._pixels, self._void = np.concatenate(parts), np.concatenate(voids)
        self._top, self._bottom = top, bottom
        ahead = min(following + height, total)
        self._next = self._pool.submit(self._read, bottom, ahead) if ahead > bottom else None
        band = self._pixels
        if len(band) < height:  # beyond the image
            band = np.concatenate([band, np.zeros((height - len(band), *band.shape[1:]), band.dtype)])
        return band, _sizes(bottom - top, columns)

    def void(self, top: int, bottom: int) -> np.ndarray | None:
        """bool [bottom - top, W of the image] of rows of the current band, or None without a void pixel."""
        found = self._void[top - self._top : bottom - self._top]
        return found if found.any() else None

    def _read(self, top: int, bottom: int) -> Input:
        reader, predictor = self._reader, self._predictor
        width = reader.shape[1]
        found = TiffPicture(
            reader.read(top, 0, bottom, width),
            reader.palette,
            reader.nodata,
            reader.alpha,
            reader.bits,
            reader.read_mask(top, 0, bottom, width),
        )
        picture = tiff_picture(self._path, found, predictor.info.channels, nodata=predictor.nodata)
        wanted = np.dtype(predictor.info.image_dtype)
        if picture.pixels.dtype != wanted and wanted.kind != "f":  # the range of a band is not the image's
            raise DataError(
                f"{self._path}: {picture.pixels.dtype} pixels, the network was trained on {wanted}; rescale the image."
            )
        return prepared(picture, predictor.info, str(self._path))


def _shifted(sums: jax.Array, *, step: int) -> jax.Array:
    """[1, h, W, K] moved up by `step` rows, zeros below."""
    return jnp.concatenate([sums[:, step:], jnp.zeros_like(sums[:, :step])], axis=1)


def _sizes(height: int, width: int) -> np.ndarray:
    return np.asarray([[height, width]], np.int32)
