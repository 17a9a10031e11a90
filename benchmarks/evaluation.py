"""Evaluating ENet on CamVid's test images, files to mean IoU: segjax's evaluation against a PyTorch loop.

    python benchmarks/evaluation.py --root CAMVID [--batch 8] [--rounds 5] [--write]

CAMVID has `test/*.jpg` and `testannot/*.png`, 233 of each. Both sides read, decode and normalise the files, label them
with the same network (`enet/paper` and its twin in `rivals/`, one set of parameters) and count a confusion matrix;
our boundary F1 is off.
They take turns in one process, with as many threads. PyTorch's images come from a DataLoader without workers and from
one with two, in either order of memory; the fastest of a first round counts. Medians of whole passes. The two mean IoUs
must agree, or nothing is written. Writes results/evaluation_DEVICE.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import cv2
import jax
import numpy as np
import torch
from rivals import build
from rivals.parameters import carry, random_variables
from turns import alternate

from segjax.core.fields import labelled_image
from segjax.core.registry import create_model
from segjax.core.schema import IMAGE, IMAGENET_MEAN, IMAGENET_STD, LABEL, DatasetInfo
from segjax.data.dataset import NAME
from segjax.data.decode import decode_image, decode_label
from segjax.data.pipeline import eval_batches, eval_size
from segjax.inference.evaluate import evaluate, of_engine
from segjax.inference.predictor import Predictor
from segjax.inference.provenance import provenance
from segjax.metrics.confusion import scores
from segjax.tasks.semantic.task import SemanticTask

RESULTS = pathlib.Path(__file__).parent / "results"
NETWORK, CLASSES = "enet/paper", 11


@dataclasses.dataclass
class Files:
    """Random access to images and labels in their files, as either side reads them."""

    root: pathlib.Path

    @functools.cached_property
    def images(self) -> list[pathlib.Path]:
        return sorted(path for path in (self.root / "test").iterdir() if path.suffix in (".jpg", ".png"))

    def __len__(self) -> int:
        return len(self.images)

    def label(self, image: pathlib.Path) -> bytes:
        return (self.root / "testannot" / f"{image.stem}.png").read_bytes()

    @property
    def largest(self) -> tuple[int, int]:
        return self[0][LABEL].shape

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.images[index]
        return {
            IMAGE: decode_image(path.read_bytes()),
            LABEL: decode_label(self.label(path)),
            NAME: path.stem,
        }


class Samples(torch.utils.data.Dataset):
    """The same files for a DataLoader: what a PyTorch user writes, with cv2."""

    def __init__(self, files: Files):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self.files.images[index]
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        label = cv2.imdecode(np.frombuffer(self.files.label(path), np.uint8), cv2.IMREAD_UNCHANGED)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label)


class Ours:
    """segjax's evaluation, as `segjax evaluate` runs it."""

    def __init__(self, files: Files, variables: Any, batch: int):
        info = DatasetInfo(
            "camvid", tuple(map(str, range(CLASSES))), ((0, 0, 0),) * CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        self.files, self.task = files, SemanticTask(CLASSES, boundary=False)
        model = create_model(NETWORK, CLASSES)
        self.predictor = Predictor(model, jax.device_put(variables), info, batch_size=batch)

    def __call__(self) -> float:
        """The mean IoU of one pass."""
        batches = eval_batches(
            self.files,
            labelled_image(eval_size(self.files, None, self.predictor.stride)),
            batch_size=self.predictor.batch_size,
        )
        found = evaluate(of_engine(self.predictor), batches, self.task, place=self.predictor.place, per_image=False)
        return found["metrics"]["miou"]


class Theirs:
    """The loop of a PyTorch user."""

    def __init__(self, files: Files, network: torch.nn.Module, batch: int, workers: int, channels_last: bool):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(self.device, memory_format=self.layout)
        # Forking a process in which jax has threads can hang.
        kept = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
        self.loader = torch.utils.data.DataLoader(Samples(files), batch, num_workers=workers, **kept)
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(3, 1, 1)
        self.std = torch.tensor(IMAGENET_STD, device=self.device).view(3, 1, 1)

    @torch.inference_mode()
    def __call__(self) -> float:
        """The mean IoU of one pass."""
        cells = CLASSES + 1
        matrix = torch.zeros(cells * cells, dtype=torch.int64, device=self.device)
        for images, labels in self.loader:
            images = images.to(self.device, torch.float32).contiguous(memory_format=self.layout)
            predicted = self.network((images - self.mean) / self.std).argmax(1)
            truth = labels.to(self.device, torch.int64).clamp(max=CLASSES)
            matrix += torch.bincount((truth * cells + predicted).flatten(), minlength=cells * cells)
        return scores(matrix.reshape(cells, cells).cpu().numpy())["miou"]


def twins(size: tuple[int, int]) -> tuple[Any, torch.nn.Module]:
    """Our variables, random, and the twin that holds the same."""
    model = create_model(NETWORK, CLASSES)
    variables, rival = random_variables(model), build("enet", CLASSES).eval()
    carry(model, variables, rival, torch.zeros(1, 3, *size))
    return variables, rival


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluation, segjax against PyTorch.")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="CamVid's folder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    files = Files(args.root)
    variables, rival = twins(files.largest)
    ours = Ours(files, variables, args.batch)
    orders = (True,) if torch.cuda.is_available() else (False, True)
    ways = [(workers, order) for workers in (0, 2) for order in orders]

    scored = {"segjax": ours()}
    first = {}
    for way in ways:
        theirs = Theirs(files, rival, args.batch, *way)
        if way[0]:
            theirs()  # starts the workers
        began = time.perf_counter()
        scored[f"torch {way}"] = theirs()
        first[way] = time.perf_counter() - began
    if max(scored.values()) - min(scored.values()) > 1e-4:
        sys.exit(f"the mean IoUs differ: {scored}")
    workers, order = min(first, key=first.get)
    arms = {"segjax": ours, "torch": Theirs(files, rival, args.batch, workers, order)}
    arms["torch"]()
    load = os.getloadavg()[0]
    times = alternate(arms, args.rounds)
    middle = {arm: statistics.median(found) for arm, found in times.items()}
    record = {
        "images": len(files),
        "size": list(files.largest),
        "batch": args.batch,
        "threads": threads,
        "miou": scored["segjax"],
        "unit": "s a pass, median",
        **middle,
        "ratio": middle["torch"] / middle["segjax"],
        "passes": times,
        "torch_way": {"workers": workers, "channels_last": order},
        "torch_ways": {f"workers {w}, {'channels_last' if o else 'contiguous'}": s for (w, o), s in first.items()},
        "load_before": round(load, 1),
        **provenance(),
    }
    record["versions"]["torch"] = torch.__version__
    print(json.dumps(record, indent=1))
    if args.write:
        (RESULTS / f"evaluation_{jax.default_backend()}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
