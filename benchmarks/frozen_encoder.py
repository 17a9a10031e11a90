"""Train steps of networks whose encoder is frozen: whole, and from kept features (`config.train.cache_features`).

    python benchmarks/frozen_encoder.py [NAME ...] [--size 256x256] [--batch 2] [--dtype bfloat16] [--rounds 9]

Three steps take turns in one process, medians: `trained`, all of the network; `frozen`, no gradient and no update for
the encoder; `cached`, from the encoder's features on, their copy from the host to the device included. The first
`cached` call, which runs the encoder, is not counted.

Writes results/frozen_encoder_DEVICE.json, network by network: seconds, the ratios trained / cached and frozen / cached,
and the bytes kept for an image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from against_torch import AUX_WEIGHT, CLASSES, add_input_arguments, alternate, noise, settings

from segjax.benchmarking.train import Subject
from segjax.core.registry import create_model
from segjax.core.schema import IMAGE, LABEL, SAMPLE, VALID
from segjax.inference.provenance import provenance
from segjax.tasks.semantic import SemanticTask
from segjax.training.features import FeatureCache

RESULTS = pathlib.Path(__file__).parent / "results"
NETWORKS = ("deeplabv3plus/resnet50", "pspnet/resnet50", "segformer/b2")
FROZEN = {"^encoder/": 0.0}


def arms(name: str, images: np.ndarray, labels: np.ndarray, dtype: str) -> tuple[dict[str, Callable[[], Any]], int]:
    """The steps by name, and how many bytes an image's features take."""
    config = settings(images, dtype)
    model = create_model(name, CLASSES, dtype=jnp.dtype(dtype))
    batch = {IMAGE: images, LABEL: labels.astype(np.uint8), VALID: np.ones(len(images), bool)}

    def subject(multipliers: dict[str, float], batch: dict[str, Any]) -> Subject:
        optim = dataclasses.replace(config.optim, multipliers=multipliers)
        one = dataclasses.replace(config, optim=optim)
        return Subject(one, model=model, task=SemanticTask(CLASSES, aux_weight=AUX_WEIGHT), transform=None, batch=batch)

    trained, frozen = subject({}, batch), subject(FROZEN, batch)
    cache = FeatureCache(model, None, frozen.state, multipliers=FROZEN, samples=len(images), mesh=frozen.mesh)
    numbered = batch | {SAMPLE: np.arange(len(images), dtype=np.int32)}
    features = cache(numbered)
    cached = subject(FROZEN, features)
    steps = {
        "trained": lambda: jax.block_until_ready(trained.run()),
        "frozen": lambda: jax.block_until_ready(frozen.run()),
        "cached": lambda: jax.block_until_ready(cached.run(cached.program.put(cache(numbered)))),
    }
    return steps, sum(value.nbytes for value in features.values()) // len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps with a frozen encoder.")
    parser.add_argument("names", nargs="*", default=NETWORKS, help=f"default {', '.join(NETWORKS)}")
    add_input_arguments(parser)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0, help="for the rounds of one network")
    args = parser.parse_args()

    path = RESULTS / f"frozen_encoder_{jax.default_backend()}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    images, labels = noise(args)
    for name in args.names:
        steps, kept = arms(name, images, labels, args.dtype)
        for step in steps.values():
            step()
        load = os.getloadavg()[0]
        times = alternate(steps, args.rounds, args.seconds)
        middle = {arm: statistics.median(found) for arm, found in times.items()}
        records[name] = {
            **middle,
            "trained / cached": middle["trained"] / middle["cached"],
            "frozen / cached": middle["frozen"] / middle["cached"],
            "bytes kept an image": kept,
            "rounds": len(times["cached"]),
            "load before": round(load, 1),
            "size": list(args.size),
            "batch": args.batch,
            "dtype": args.dtype,
            **provenance(),
        }
        print(f"{name}: {records[name]['trained / cached']:.2f}, {records[name]['frozen / cached']:.2f}", flush=True)
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
