"""Mutated files through every reader: `python tests/faults/fuzz.py --first 0 --count 500` prints what became of them.

Case n is drawn from seed n alone: a valid file, one to three mutations, the reader. It must end with one line of a
`SegjaxError` or with the right result: what another decoder makes of the same bytes where there is one, and else values
that the reader's contract allows. A case that takes longer than `SECONDS`, or after which the process has grown beyond
`MEMORY`, fails.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import pickle
import resource
import signal
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tifffile
from PIL import Image

from segjax.convert.read import read_weights
from segjax.core.config import Config, from_dict, load_config, set_text
from segjax.core.errors import SegjaxError
from segjax.core.schema import IGNORE
from segjax.data import palettes
from segjax.data.annotations.importing import import_annotations
from segjax.data.check import check
from segjax.data.class_list import read_class_list
from segjax.data.decode import decode_image, image_size, open_picture, read_image
from segjax.data.labels import open_label, read_ids
from segjax.data.layout import Layout, class_values

SECONDS = 20
MEMORY = 10**9  # bytes of the process at its largest
CLASSES = 4
Rng = np.random.Generator


class Timeout(Exception):
    """A case took longer than `SECONDS`."""


# --- Valid files.


def _png(array: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    picture = Image.fromarray(array)
    return _saved(picture if mode is None else picture.convert(mode), "PNG", **options)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def image_files(rng: Rng) -> list[bytes]:
    """Pictures of every kind that is read."""
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (6, 7, 3), np.uint8), 4, 0), 4, 1)
    grey, deep = rgb[..., 0], rgb[..., 0].astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10))
    colour, photo = Image.fromarray(rgb), {"photometric": "rgb"}
    return [
        _png(rgb),
        _png(grey),
        _png(deep),
        _png(rgb, "P"),
        _png(rgb, "RGBA", exif=exif),
        _png(rgb, "LA"),
        _png(rgb, "1"),
        _saved(colour, "JPEG", exif=exif),
        _saved(colour.convert("L"), "JPEG", progressive=True),
        _saved(colour.convert("CMYK"), "JPEG"),
        _saved(colour, "BMP"),
        _saved(colour.convert("P"), "BMP"),
        _saved(colour, "WEBP", lossless=True, exif=exif),
        _saved(colour, "WEBP"),
        _tiff(rgb, **photo),
        _tiff(rgb, compression="zlib", predictor=True, tile=(16, 16), **photo),
        _tiff(rgb, bigtiff=True, planarconfig="separate", **photo),
        _tiff(deep, byteorder=">", extratags=[(274, "H", 1, 6, True)]),
        _tiff(rgb[..., 0] / np.float32(255), extratags=[(42113, "s", 0, "0", True)]),
        _tiff(np.stack([grey] * 3), photometric="minisblack"),
        _saved(colour, "TIFF", compression="tiff_lzw"),
        _saved(colour, "TIFF", compression="jpeg"),
        _saved(colour.convert("1"), "TIFF", compression="packbits"),
        _saved(colour.convert("P"), "TIFF"),
        _npy(rgb),
        _npy(np.stack([deep] * 5, -1)),
        _npy(grey / 255.0),
    ]


def label_files(rng: Rng) -> list[bytes]:
    """Labels of every kind that is read."""
    ids = np.repeat(np.repeat(rng.integers(0, CLASSES, (6, 7)).astype(np.uint8), 4, 0), 4, 1)
    ids[0] = IGNORE
    table = np.full((256, 3), 9, np.uint8)
    table[:CLASSES] = palettes.distinct(CLASSES)
    indexed = Image.fromarray(ids)
    indexed.putpalette(table.ravel().tolist())
    low = ids.copy()
    low[0] = 0
    return [
        _png(ids),
        _png(ids.astype(np.uint16)),
        _png(table[ids]),
        _saved(indexed, "PNG"),
        _png(low),
        _saved(Image.fromarray(low > 1), "PNG"),
        _saved(Image.fromarray(ids), "BMP"),
        _tiff(ids),
        _tiff(ids.astype(np.int16), compression="zlib", extratags=[(42113, "s", 0, "255", True)]),
        _tiff(low, photometric="palette", colormap=(table.T.astype(np.uint16) * 257)),
        _npy(ids.astype(np.int64)),
        _npy(low > 1),
    ]


def weight_files(rng: Rng) -> list[bytes]:
    """State dicts in every form that is read."""
    tensors = {f"layer{i}.weight": rng.normal(size=(3, 2, 3, 3)).astype(np.float32) for i in range(3)}
    archive = io.BytesIO()
    np.savez(archive, **tensors)
    return [safetensors.numpy.save(tensors), archive.getvalue(), _zip_state(tensors), _legacy_state(tensors)]


class _Storage:
    """What torch's pickles call a storage."""

    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class _Named:
    """A function of torch's by its name alone."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Tensor:
    def __init__(self, storage: _Storage, size: tuple[int, ...]) -> None:
        self.storage, self.size = storage, size

    def __reduce__(self) -> Any:
        strides = tuple(int(np.prod(self.size[i + 1 :])) for i in range(len(self.size)))
        return _rebuild, (self.storage, 0, self.size, strides, False, collections.OrderedDict())


def _rebuild(*arguments: Any) -> None:
    raise AssertionError("a name only")


class _Pickler(pickle._Pickler):  # the Python one, whose output of globals can be changed
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            return ("storage", _Named("torch", "FloatStorage"), value.key, "cpu", value.count)
        return None

    def save_global(self, value: Any, name: str | None = None) -> None:
        if value is _rebuild:
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
        else:
            super().save_global(value, name)

    def _save_named(self, value: _Named) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch = {**pickle._Pickler.dispatch, _Named: _save_named}  # noqa: RUF012, as the base class has it
    dispatch[type(_rebuild)] = save_global


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def _state(tensors: dict[str, np.ndarray]) -> dict[str, _Tensor]:
    return {name: _Tensor(_Storage(str(i), a.size), a.shape) for i, (name, a) in enumerate(tensors.items())}


def _zip_state(tensors: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(_state(tensors)))
        for i, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{i}", array.tobytes())
    return buffer.getvalue()


def _legacy_state(tensors: dict[str, np.ndarray]) -> bytes:
    parts = [
        0x1950A86A20F9469CFC6C,
        1001,
        {"little_endian": True},
        _state(tensors),
        [str(i) for i in range(len(tensors))],
    ]
    storages = [struct.pack("<Q", array.size) + array.tobytes() for array in tensors.values()]
    return b"".join([*map(_pickled, parts), *storages])


def class_lists(rng: Rng) -> list[bytes]:
    """Class lists with and without colours."""
    coloured = "".join(f"class {k} {r} {g} {b}\n" for k, (r, g, b) in enumerate(palettes.distinct(CLASSES)))
    return [b"road\nsky\ncar\ntree\n", coloured.encode(), "stra\u00dfe\r\nb\r\n".encode(), b"\xef\xbb\xbfa\nb\n"]


_CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=""):
    config = ConfigDict()
    config.model = dict(name="unet/small", options=dict(base_channels=4))
    config.data = dict(name="scenes", crop_size=(96, 128), options=dict(count=10, zoom=1.5))
    config.augment = dict(scale=(0.5, 2.0), flip=True)
    config.train = dict(steps=10, batch_size=2, ema=0.99)
    config.loss = dict(class_weights=(1.0, 2.0))
    return config
"""
_OVERRIDES = (
    "model.name=unet/small",
    "data.crop_size=(96, 128)",
    "train.steps=100",
    "augment.scale=(0.5, 2.0)",
    "optim.multipliers={'encoder': 0.1}",
    "loss.class_weights=median_frequency",
)


# --- Mutations.


def flip_bits(rng: Rng, data: bytearray) -> None:
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def truncate(rng: Rng, data: bytearray) -> None:
    del data[int(rng.integers(len(data))) :]


def swap(rng: Rng, data: bytearray) -> None:
    a, b, c = sorted(int(n) for n in rng.integers(0, len(data) + 1, 3))
    data[a:c] = data[b:c] + data[a:b]


def absurd(rng: Rng, data: bytearray) -> None:
    """A number of the header becomes as large, or as small, as it can be."""
    width = int(rng.choice([1, 2, 4, 8]))
    place = int(rng.integers(0, max(1, min(len(data), 512) - width)))
    value = [b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\0" * width, b"\xff" * (width - 1) + b"\x7f"]
    data[place : place + width] = value[int(rng.integers(4))]


def insert(rng: Rng, data: bytearray) -> None:
    place = int(rng.integers(len(data) + 1))
    data[place:place] = rng.bytes(int(rng.integers(1, 64)))


def blank(rng: Rng, data: bytearray) -> None:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 200)))
    data[start:stop] = bytes(stop - start)


def png_header(rng: Rng, data: bytearray) -> None:
    """A field of a PNG's header changes and its checksum with it."""
    if data.startswith(b"\x89PNG") and len(data) > 33:
        place = int(rng.choice([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28]))
        data[place] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 64, 255]))
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))


def png_chunks(rng: Rng, data: bytearray) -> None:
    """Two chunks of a PNG change places, whole."""
    if not data.startswith(b"\x89PNG"):
        return
    chunks, position = [], 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunks.append(bytes(data[position:end]))
        position = end
    if len(chunks) > 1:
        i, j = (int(n) for n in rng.integers(0, len(chunks), 2))
        chunks[i], chunks[j] = chunks[j], chunks[i]
        data[8:] = b"".join(chunks)


def tiff_tag(rng: Rng, data: bytearray) -> None:
    """An entry of a TIFF's directory gets another tag, type, count or value."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return
    order = "<" if data[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, start)
    entry = start + 2 + 12 * int(rng.integers(0, max(1, min(count, 64))))
    if entry + 12 <= len(data):
        what = int(rng.integers(4))
        tag = int(
            rng.choice([256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 338, 339, 42113])
        )
        number = int(rng.choice([0, 1, 2, 3, 5, 6, 7, 8, 16, 32, 34712, 50000, 65535]))
        if what == 0:
            struct.pack_into(order + "H", data, entry, tag)
        elif what == 1:
            struct.pack_into(order + "H", data, entry + 2, number % 20)
        elif what == 2:
            struct.pack_into(order + "I", data, entry + 4, number * 65537 % 2**32)
        else:
            struct.pack_into(order + "I", data, entry + 8, number)


MUTATIONS = (flip_bits, truncate, swap, absurd, insert, blank, png_header, png_chunks, tiff_tag)


# --- Readers, each with what the right result is.


def read_image_file(path: Path, rng: Rng) -> None:
    channels = [None, None, 1, 3, 4][int(rng.integers(5))]
    picture = open_picture(path, channels)
    pixels = picture.pixels
    _expect(pixels.ndim == 3 and pixels.dtype in (np.uint8, np.uint16, np.float32), "an image [H, W, C]")
    _expect(channels in (None, pixels.shape[-1]), "the channels that were asked for")
    measured = pixels if picture.missing is None else pixels[~picture.missing]
    _expect(bool(np.isfinite(measured).all()), "finite pixels")
    _expect(image_size(path) == pixels.shape[:2], "one size, from the header and from the pixels")
    stored, again = read_image(path, channels)
    np.testing.assert_array_equal(again.pixels, pixels)
    np.testing.assert_array_equal(decode_image(stored), pixels)
    data = path.read_bytes()
    if data.startswith((b"\x89PNG", b"BM")) and channels is None:
        with Image.open(io.BytesIO(data)) as other:
            mode = "RGB" if other.mode in ("P", "RGB", "RGBA", "PA") else "L"
            if other.mode in ("1", "L", "LA", "P", "RGB", "RGBA") and other.getexif().get(0x0112, 1) == 1:
                expected = np.asarray(other.convert(other.mode if other.mode == "RGBA" else mode))
                if pixels.dtype == np.uint8 and not other.info.get("transparency"):
                    expected = expected.reshape(*expected.shape[:2], -1)[..., : pixels.shape[-1]]
                    np.testing.assert_array_equal(pixels, expected)
    elif data.startswith(b"\x93NUMPY") and channels is None:
        np.testing.assert_array_equal(np.asarray(np.load(io.BytesIO(data)), pixels.dtype).reshape(pixels.shape), pixels)


def read_label_file(path: Path, rng: Rng) -> None:
    coloured = bool(rng.integers(2))
    layout = Layout(
        "fuzz",
        path.parent,
        tuple("abcd"),
        palettes.distinct(CLASSES),
        {},
        class_values(CLASSES),
        colours=coloured,
        void_colours=((9, 9, 9),),
    )
    label = open_label(path, layout)
    _expect(label.ids.ndim == 2 and label.ids.dtype == np.uint8, "class ids [H, W]")
    _expect(bool(((label.ids < CLASSES) | (label.ids == IGNORE)).all()), "classes and void alone")
    _expect(sum(label.unknown.values()) <= label.ids.size, "unknown values on pixels that are there")
    try:
        ids = read_ids(path, layout).ids
    except SegjaxError:
        return
    if label.values and not label.unknown and not label.nodata:
        np.testing.assert_array_equal(ids, label.ids)


def read_data_set(path: Path, rng: Rng) -> None:
    """The mutated picture among good ones: `segjax data check` reports it, or counts it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind, good in (("images", image_files(rng)[0]), ("labels", label_files(rng)[0])):
            (root / "train" / kind).mkdir(parents=True)
            for name in ("0", "1"):
                (root / "train" / kind / f"{name}.png").write_bytes(good)
        (root / "train" / ("images", "labels")[int(rng.integers(2))] / "1.png").write_bytes(path.read_bytes())
        (root / "classes.txt").write_text("a\nb\nc\nd\n")
        report = check("folder", root)
        _expect(all("\n" not in problem.text for problem in report.problems), "one line a problem")
        list(report.lines())


def read_weight_file(path: Path, rng: Rng) -> None:
    tensors = read_weights(path)
    _expect(bool(tensors) and all(isinstance(value, np.ndarray) for value in tensors.values()), "arrays by name")
    data = path.read_bytes()
    if data[8:9] == b"{" and not data.startswith(b"PK"):
        expected = safetensors.numpy.load(data)
        _expect(set(tensors) == set(expected), "the library's names")


def read_class_file(path: Path, rng: Rng) -> None:
    names, colours = read_class_list(path)
    _expect(2 <= len(names) <= IGNORE and len(set(names)) == len(names), "2 to 255 names, each once")
    _expect(all(name.strip() and "\n" not in name for name in names), "names of one line")
    _expect(colours is None or len(colours) == len(names), "a colour each")


def read_config_file(path: Path, rng: Rng) -> None:
    config = load_config(str(path))
    _expect(isinstance(config, Config), "a checked config")


def read_override(path: Path, rng: Rng) -> None:
    key, _, text = path.read_bytes().decode("utf-8", "replace").partition("=")
    record: dict[str, Any] = {}
    set_text(record, key, text)
    _expect(isinstance(from_dict(record), Config), "a checked config")


class Wrong(Exception):
    """A reader gave what its contract does not allow."""


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise Wrong(f"expected {what}")


def annotation_files(rng: Rng) -> list[bytes]:
    """Two shapes on a picture of 24 x 28 pixels, as COCO, labelme and CVAT write them."""
    corners = [[2.0, 3.0], [20.0, 4.5], [12.25, 18.0]]
    flat = [number for corner in corners for number in corner]
    text = ";".join(f"{x},{y}" for x, y in corners)
    coco = {
        "images": [{"id": 1, "file_name": "0.png", "height": 24, "width": 28}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [flat],
                "bbox": [2, 3, 18, 15],
                "area": 1,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 2,
                "segmentation": {"size": [24, 28], "counts": [30, 40, 602]},
                "bbox": [1, 6, 2, 20],
                "area": 40,
                "iscrowd": 1,
            },
        ],
    }
    labelme = {
        "version": "5.0.1",
        "flags": {},
        "shapes": [{"label": "a", "points": corners, "group_id": None, "shape_type": "polygon", "flags": {}}],
        "imagePath": "0.png",
        "imageData": None,
        "imageHeight": 24,
        "imageWidth": 28,
    }
    cvat = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>a</name></label></labels></task></meta>
<image id="0" name="0.png" width="28" height="24"><polygon label="a" occluded="0" points="{text}" z_order="0"></polygon>
<box label="a" occluded="0" xtl="1.0" ytl="2.0" xbr="9.5" ybr="8.0" z_order="0"></box></image></annotations>"""
    return [json.dumps(coco).encode(), json.dumps(labelme).encode(), cvat.encode()]


def read_annotations(path: Path, rng: Rng) -> None:
    """Imported, or refused; what was imported is a data set without a fault."""
    data = path.read_bytes()
    source_format = "cvat" if b"<annotations" in data[:200] else "labelme" if b"shapes" in data[:80] else "coco"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "in").mkdir()
        (root / "in/0.png").write_bytes(_png(np.zeros((24, 28, 3), np.uint8)))
        name = root / "in" / ("a.xml" if source_format == "cvat" else "0.json")
        name.write_bytes(data)
        imported = import_annotations(source_format, name, root / "out", images=root / "in")
        _expect(all("\n" not in line for line in imported.lines()), "one line a thing that was dropped")
        wrong = {problem.kind for problem in check("folder", root / "out").problems}
        _expect(wrong <= {"one class", "only void"}, f"a data set without a fault, not {wrong}")


KINDS: dict[str, tuple[Callable[[Rng], list[bytes]], Callable[[Path, Rng], None], float]] = {
    "image": (image_files, read_image_file, 0.29),
    "label": (label_files, read_label_file, 0.2),
    "data set": (image_files, read_data_set, 0.05),
    "weights": (weight_files, read_weight_file, 0.2),
    "class list": (class_lists, read_class_file, 0.08),
    "annotations": (annotation_files, read_annotations, 0.06),
    "config": (lambda rng: [_CONFIG.encode()], read_config_file, 0.06),
    "override": (lambda rng: [text.encode() for text in _OVERRIDES], read_override, 0.06),
}


def case(number: int, folder: Path) -> tuple[str, str]:
    """(kind, `refused` | `read` | what went wrong) of one case."""
    rng = np.random.default_rng(number)
    kind = str(rng.choice(list(KINDS), p=[share for *_, share in KINDS.values()]))
    files, read, _ = KINDS[kind]
    made = files(rng)
    data = bytearray(made[int(rng.integers(len(made)))])
    done = []
    for _ in range(int(rng.integers(1, 4))):
        mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        if data:
            mutation(rng, data)
            done.append(mutation.__name__)
    path = folder / {"config": "case.py"}.get(kind, "case.png")
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read(path, rng)
        return kind, "read"
    except SegjaxError as error:
        if "\n" in str(error) or not str(error).strip():
            return kind, f"not one line, after {done}: {str(error)!r}"
        return kind, "refused"
    except Timeout:
        return kind, f"no end within {SECONDS} s, after {done}"
    except BaseException as error:  # pytest.fail has no place in a program
        return kind, f"{type(error).__name__}, after {done}: {str(error).strip()[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def peak_memory() -> int:
    """Bytes of this program at its largest; rusage's would be those of the process that started it, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    args = parser.parse_args()

    def stop(number: int, frame: Any) -> None:
        raise Timeout

    signal.signal(signal.SIGALRM, stop)
    warnings.simplefilter("ignore")
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for number in range(args.first, args.first + args.count):
            kind, outcome = case(number, Path(folder))
            peak = peak_memory()
            if peak > MEMORY:
                outcome = f"the process grew to {peak / 1e9:.2f} GB"
            if outcome not in ("read", "refused"):
                failures.append({"case": number, "kind": kind, "what": outcome})
            outcomes[kind][outcome if outcome in ("read", "refused") else "failed"] += 1
            if peak > MEMORY:
                break
    record = {"cases": args.count, "outcomes": outcomes, "peak_memory": peak, "failures": failures}
    print(json.dumps(record, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
