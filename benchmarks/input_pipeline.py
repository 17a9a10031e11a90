"""CPU time of the host pipeline against torch's DataLoader and tf.data: read, decode image and label, crop, batch.

    python benchmarks/input_pipeline.py [--images FOLDER] [--tf-python PYTHON] [--only "jpeg 360x480"] [--rounds 5]
    python benchmarks/input_pipeline.py --sides segjax --before CHECKOUT --out benchmarks/results/input_before_cpu.json

`--before` is a checkout of another commit, whose segjax takes its turns as the side "segjax, before".
`--images` is a CamVid folder (train/*.jpg with trainannot/*.png), else scenes are drawn; the pictures are written once
as JPEG and once as PNG, at their size and at Cityscapes' (enlarged), labels as PNG. `--tf-python` is an interpreter
that has tensorflow; without it that side is left out. Every side is a process of its own that stands still while
another's round runs; rounds alternate. A round ends when the batches are there and the side's queues are as full as
they were before, so that the CPU time (user + system, worker processes included) is that of the images counted.

Prints a table, writes results/input_cpu.json: medians of CPU ms an image and of images/s, the ratios of CPU time
other / segjax, round by round, above 1 where segjax needs less, and what preparing segjax's copy took. `--only`
measures one case again, keeps the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

RESULT = pathlib.Path(__file__).parent / "results" / "input_cpu.json"
BATCH = 8
QUIET = 0.4  # seconds without work after which a side's queues are full
JPEG_QUALITY = 92
CAMVID_VOID, VOID = 11, 255
SCENES = 24  # drawn where no photographs are given

Window = tuple[int, int]  # top, left
Batches = Iterator[tuple[Any, Any]]  # uint8 [B, h, w, 3], uint8 [B, h, w]


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set on disk, what is cut out of it, and how many images a round has."""

    suffix: str
    size: tuple[int, int]
    crop: tuple[int, int]
    files: int
    images: int

    @property
    def name(self) -> str:
        return f"{self.suffix} {self.size[0]}x{self.size[1]}".replace("jpg", "jpeg")


CASES = (
    Case("jpg", (360, 480), (352, 352), files=367, images=1440),
    Case("png", (360, 480), (352, 352), files=367, images=1440),
    Case("jpg", (1024, 2048), (512, 1024), files=24, images=48),
    Case("png", (1024, 2048), (512, 1024), files=24, images=48),
)


def photographs(folder: pathlib.Path | None, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`count` pairs of RGB [H, W, 3] and ids [H, W], uint8: CamVid's training images, or scenes of its size."""
    if folder is None:
        from segjax.data.scenes import SceneSource

        scenes = SceneSource("train", count=SCENES, height=360, width=480)
        for index in range(count):
            yield scenes[index % SCENES]["image"], scenes[index % SCENES]["label"]
        return
    from PIL import Image

    paths = sorted((folder / "train").glob("*.jpg"))
    for path in itertools.islice(itertools.cycle(paths), count):
        label = np.array(Image.open(folder / "trainannot" / f"{path.stem}.png"))
        label[label == CAMVID_VOID] = VOID
        yield np.asarray(Image.open(path)), label


def write_set(folder: pathlib.Path, case: Case, pictures: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """A `folder` data set: train/images/000.{jpg,png}, train/labels/000.png, classes.txt."""
    from PIL import Image

    (folder / "train" / "images").mkdir(parents=True)
    (folder / "train" / "labels").mkdir()
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(32)))
    size = case.size[::-1]
    options = {"quality": JPEG_QUALITY} if case.suffix == "jpg" else {}
    for index, (image, label) in enumerate(pictures):
        pair = Image.fromarray(image).resize(size, Image.BICUBIC), Image.fromarray(label).resize(size, Image.NEAREST)
        pair[0].save(folder / "train" / "images" / f"{index:03d}.{case.suffix}", **options)
        pair[1].save(folder / "train" / "labels" / f"{index:03d}.png")


def pairs(folder: pathlib.Path) -> list[tuple[str, str]]:
    """(image, label) paths in order of their names."""
    images = sorted((folder / "train" / "images").iterdir())
    return [(str(path), str(folder / "train" / "labels" / f"{path.stem}.png")) for path in images]


def open_prepared(folder: pathlib.Path) -> Any:
    """The set in `folder` as segjax reads it, its prepared copy beside it, written on first use."""
    from segjax.core.config import Data
    from segjax.data.dataset import open_dataset

    return open_dataset(Data(name="folder", root=str(folder), cache=str(folder / "cache")))


def preparation(folder: pathlib.Path) -> dict[str, float]:
    """Prepares the set: CPU ms an image that this takes once, MB of the files and of the copy."""
    import tensorflow_datasets  # noqa: F401  its import is not the set's time

    def megabytes(*folders: pathlib.Path) -> float:
        return round(sum(path.stat().st_size for one in folders for path in one.rglob("*") if path.is_file()) / 1e6, 1)

    start = time.process_time()
    images = len(open_prepared(folder).split("train"))
    taken = time.process_time() - start
    sizes = {"MB of files": megabytes(folder / "train"), "MB of the copy": megabytes(folder / "cache")}
    return {"cpu ms an image": round(1e3 * taken / images, 1)} | sizes


class FileSource:
    """segjax's decoders on the files themselves, without a prepared copy."""

    def __init__(self, folder: pathlib.Path, size: tuple[int, int]):
        self._pairs, self.largest = pairs(folder), size

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from segjax.data.decode import decode_image, decode_label, read_bytes

        image, label = (read_bytes(pathlib.Path(path)) for path in self._pairs[index])
        return {"image": decode_image(image), "label": decode_label(label), "name": ""}


def segjax_batches(folder: pathlib.Path, case: Case, windows: list[Window] | None, *, prepared: bool) -> Batches:
    """`train_batches` with its defaults, freed memory kept as in every `segjax` command.

    With `windows` given it is in the files' order (the windows stay its own).
    """
    from segjax.core.fields import labelled_image
    from segjax.core.host_memory import keep_freed_memory
    from segjax.data.pipeline import train_batches

    keep_freed_memory()
    if prepared:
        source = open_prepared(folder).split("train")
    else:
        source = FileSource(folder, case.size)
    for batch in train_batches(source, labelled_image(case.crop), batch_size=BATCH, seed=0, shuffle=windows is None):
        yield batch["image"], batch["label"]


def read_cv2(path: str) -> np.ndarray:
    """RGB [H, W, 3] of a file in `images`, ids [H, W] of one in `labels`."""
    import cv2

    if f"{os.sep}labels{os.sep}" in path:
        return cv2.imread(path, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_cv2_rgb(path: str) -> np.ndarray:
    """The same without a second pass over the colours: a flag since OpenCV 4.11 that data sets rarely use yet."""
    import cv2

    label = f"{os.sep}labels{os.sep}" in path
    return cv2.imread(path, cv2.IMREAD_UNCHANGED if label else cv2.IMREAD_COLOR_RGB)


def read_pil(path: str) -> np.ndarray:
    """The same by PIL, as torchvision's data sets read."""
    from PIL import Image

    return np.array(Image.open(path))


class TorchFiles:
    """A map-style data set: decode, cut, hand over as tensors; `windows[i]` instead of a random one where given."""

    def __init__(self, folder: pathlib.Path, case: Case, windows: list[Window] | None, read: Callable):
        self._pairs, self._crop, self._windows, self._read = pairs(folder), case.crop, windows, read

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        import torch

        image, label = (self._read(path) for path in self._pairs[index])
        (top, left), (height, width) = self._window(index, label.shape), self._crop
        window = slice(top, top + height), slice(left, left + width)
        return torch.from_numpy(image[window]), torch.from_numpy(label[window])

    def _window(self, index: int, size: tuple[int, int]) -> Window:
        if self._windows is not None:
            return self._windows[index]
        top, left = (random.randint(0, have - want) for have, want in zip(size, self._crop))
        return top, left


class Endless:
    """A sampler without ends of epochs, at which a DataLoader's workers run dry."""

    def __init__(self, count: int, shuffle: bool):
        self._count, self._shuffle = count, shuffle

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from random.sample(range(self._count), self._count) if self._shuffle else range(self._count)


def torch_batches(
    folder: pathlib.Path, case: Case, windows: list[Window] | None, *, workers: int, read: Callable
) -> Batches:
    """DataLoader with its usual collation; OpenCV's own threads off, as mmsegmentation and others have it."""
    import cv2
    from torch.utils.data import DataLoader

    cv2.setNumThreads(0)
    files = TorchFiles(folder, case, windows, read)
    yield from DataLoader(
        files,
        batch_size=BATCH,
        sampler=Endless(len(files), windows is None),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def tf_batches(folder: pathlib.Path, case: Case, windows: list[Window] | None) -> Batches:
    """tf.data, every choice of parallelism and prefetch its own."""
    import tensorflow as tf

    decode = tf.io.decode_jpeg if case.suffix == "jpg" else tf.io.decode_png
    (height, width), given = case.crop, windows is not None

    def load(paths, window):
        image = decode(tf.io.read_file(paths[0]), channels=3)
        label = tf.io.decode_png(tf.io.read_file(paths[1]), channels=1)
        if not given:
            window = [tf.random.uniform((), 0, have - want + 1, tf.int32) for have, want in zip(case.size, case.crop)]
        image = tf.slice(image, [window[0], window[1], 0], [height, width, 3])
        return image, tf.slice(label, [window[0], window[1], 0], [height, width, 1])[..., 0]

    files = pairs(folder)
    data = tf.data.Dataset.from_tensor_slices((files, windows if given else [(0, 0)] * len(files)))
    data = data if given else data.shuffle(len(files))
    data = data.repeat().map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    yield from data.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


@dataclasses.dataclass(frozen=True)
class Side:
    """One way of doing the work, and the package whose version is recorded."""

    batches: Callable[[pathlib.Path, Case, list[Window] | None], Batches]
    package: str


def _torch(workers: int, read: Callable) -> Side:
    return Side(lambda *where: torch_batches(*where, workers=workers, read=read), "torch")


BEFORE = "segjax, before"
SIDES = {
    "segjax": Side(lambda *where: segjax_batches(*where, prepared=True), "segjax"),
    BEFORE: Side(lambda *where: segjax_batches(*where, prepared=True), "segjax"),
    "segjax, files": Side(lambda *where: segjax_batches(*where, prepared=False), "segjax"),
    "torch": _torch(2, read_cv2),
    "torch, 0 workers": _torch(0, read_cv2),
    "torch, PIL": _torch(2, read_pil),
    "torch, cv2 to RGB": _torch(2, read_cv2_rgb),
    "tf.data": Side(tf_batches, "tensorflow"),
}


def cpu_seconds() -> float:
    """User and system time of this process and its worker processes, the living and those that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(use.ru_utime + use.ru_stime for use in uses)
    ticks = os.sysconf("SC_CLK_TCK")
    for worker in multiprocessing.active_children():
        fields = pathlib.Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / ticks  # utime, stime: proc(5), fields 14 and 15
    return seconds


def settle() -> tuple[float, float]:
    """Waits until the queues are full; CPU seconds so far, and when (perf_counter) the last work was seen."""
    seen, since = cpu_seconds(), time.perf_counter()
    while time.perf_counter() - since < QUIET:
        time.sleep(0.02)
        now = cpu_seconds()
        if now - seen > 0.015:  # a tick of /proc is 0.01, and looking costs something too
            seen, since = now, time.perf_counter()
    return cpu_seconds(), since


def serve(side: str, case: Case, folder: pathlib.Path) -> None:
    """A side's process: for each line on stdin, a number of images, one line with what they took."""
    batches = SIDES[side].batches(folder, case, None)
    for line in sys.stdin:
        images = int(line)
        settle()
        cpu, start = cpu_seconds(), time.perf_counter()
        for image, label in itertools.islice(batches, images // BATCH):
            assert tuple(image.shape) == (BATCH, *case.crop, 3), image.shape
            assert tuple(label.shape) == (BATCH, *case.crop), label.shape
        after, end = settle()
        taken = {"cpu_ms": 1e3 * (after - cpu) / images, "images_s": images / (end - start)}
        print(json.dumps(taken | {"version": sys.modules[SIDES[side].package].__version__}), flush=True)


class Worker:
    """A side's process, from outside."""

    def __init__(self, side: str, case: Case, folder: pathlib.Path, python: str, before: pathlib.Path | None):
        command = [python, __file__, "--serve", side, "--only", case.name, "--folder", str(folder)]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        if side == BEFORE:
            environment["PYTHONPATH"] = str(before)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def measure(self, images: int) -> dict[str, Any]:
        """CPU ms an image, images/s and the package's version."""
        self._process.stdin.write(f"{images}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process, which has no files to write."""
        self._process.kill()
        self._process.wait()


def run_case(
    case: Case, folder: pathlib.Path, pythons: dict[str, str], rounds: int, before: pathlib.Path | None
) -> dict[str, Any]:
    """Rounds of every side in turn, after one of each that is not counted."""
    workers = {side: Worker(side, case, folder, python, before) for side, python in pythons.items()}
    taken: dict[str, list[dict[str, Any]]] = {side: [] for side in workers}
    try:
        for worker in workers.values():
            worker.measure(case.images)
        for _ in range(rounds):
            for side, worker in workers.items():
                taken[side].append(worker.measure(case.images))
    finally:
        for worker in workers.values():
            worker.close()
    cpu = {side: [one["cpu_ms"] for one in series] for side, series in taken.items()}
    return {
        "crop": list(case.crop),
        "files": case.files,
        "rounds": rounds,
        "images a round": case.images,
        "cpu ms an image": {side: round(statistics.median(series), 3) for side, series in cpu.items()},
        "images/s": {
            side: round(statistics.median(one["images_s"] for one in series), 1) for side, series in taken.items()
        },
        "cpu ratio to segjax": {
            side: round(statistics.median(other / ours for other, ours in zip(series, cpu["segjax"])), 3)
            for side, series in cpu.items()
            if side != "segjax"
        },
        "cpu ms, every round": {side: [round(value, 3) for value in series] for side, series in cpu.items()},
        "versions": {SIDES[side].package: series[0]["version"] for side, series in taken.items()},
    }


def has_tensorflow(python: str | None) -> bool:
    """Whether that interpreter can run tf.data's side."""
    if python is None:
        return False
    found = subprocess.run([python, "-c", "import tensorflow"], capture_output=True, text=True)
    if found.returncode:
        print(f"{python} cannot import tensorflow: tf.data is left out", file=sys.stderr)
    return found.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Input pipelines on this machine's cores.")
    parser.add_argument("--images", type=pathlib.Path, help="a CamVid folder; default: drawn scenes")
    parser.add_argument("--tf-python", help="an interpreter with tensorflow")
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES), help="segjax is always there")
    parser.add_argument("--before", type=pathlib.Path, help="a checkout of another commit")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--serve", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = [case for case in CASES if args.only in (None, case.name)]
    if args.serve:
        return serve(args.serve, cases[0], args.folder)

    from segjax.inference.provenance import provenance

    sides = [side for side in SIDES if side == "segjax" or (side in args.sides and side != BEFORE)]
    if args.before is not None:
        sides.append(BEFORE)
    if not has_tensorflow(args.tf_python):
        sides = [side for side in sides if side != "tf.data"]
    pythons = {side: args.tf_python if side == "tf.data" else sys.executable for side in sides}
    origin = provenance()
    record = json.loads(args.out.read_text()) if args.out.exists() else {"cases": {}}
    for case in cases:
        load = round(os.getloadavg()[0], 1)
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            write_set(root, case, photographs(args.images, case.files))
            prepared = preparation(root)
            measured = run_case(case, root, pythons, args.rounds, args.before)
        versions = {name: origin["versions"][name] for name in ("python", "grain", "numpy")} | {
            name: importlib.metadata.version(name) for name in ("opencv-python-headless", "pillow")
        }
        record["cases"][case.name] = {
            **measured,
            "preparation": prepared,
            "pictures": "scenes" if args.images is None else "photographs",
            "left out": [side for side in SIDES if side not in sides],
            "load before": load,
            **{key: origin[key] for key in ("command", "commit", "time", "device")},
            "versions": versions | measured["versions"],
        }
        if args.before is not None:
            head = subprocess.run(["git", "-C", str(args.before), "rev-parse", "HEAD"], capture_output=True, text=True)
            record["cases"][case.name]["commit before"] = head.stdout.strip()
        print(
            case.name, json.dumps(measured["cpu ms an image"]), json.dumps(measured["cpu ratio to segjax"]), flush=True
        )
        ordered = {known.name: record["cases"][known.name] for known in CASES if known.name in record["cases"]}
        args.out.write_text(json.dumps({"batch": BATCH, "cases": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
