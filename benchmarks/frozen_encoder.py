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
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from subjects import add_input_arguments, host_batch, network, subject
from turns import add_turn_arguments, timed

from segjax.core.host_memory import keep_freed_memory
from segjax.core.schema import SAMPLE
from segjax.training.features import FeatureCache

RESULTS = pathlib.Path(__file__).parent / "results"
NETWORKS = ("deeplabv3plus/resnet50", "pspnet/resnet50", "segformer/b2")
FROZEN = {"^encoder/": 0.0}


def arms(name: str, args: argparse.Namespace) -> tuple[dict[str, Callable[[], Any]], int]:
    """The steps by name, and how many bytes an image's features take."""
    trained, frozen = subject(name, args), subject(name, args, multipliers=FROZEN)
    cache = FeatureCache(
        network(name, args), None, frozen.state, multipliers=FROZEN, samples=args.batch, mesh=frozen.mesh
    )
    numbered = host_batch(args) | {SAMPLE: np.arange(args.batch, dtype=np.int32)}
    features = cache(numbered)
    cached = subject(name, args, multipliers=FROZEN, batch=features)
    steps = {
        "trained": lambda: jax.block_until_ready(trained.run()),
        "frozen": lambda: jax.block_until_ready(frozen.run()),
        "cached": lambda: jax.block_until_ready(cached.run(cached.program.put(cache(numbered)))),
    }
    return steps, sum(value.nbytes for value in features.values()) // args.batch


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps with a frozen encoder.")
    parser.add_argument("names", nargs="*", default=NETWORKS, help=f"default {', '.join(NETWORKS)}")
    add_input_arguments(parser)
    add_turn_arguments(parser, rounds=9, seconds=20.0)
    args = parser.parse_args()
    memory_kept = keep_freed_memory()

    path = RESULTS / f"frozen_encoder_{jax.default_backend()}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    for name in args.names:
        steps, kept = arms(name, args)
        for step in steps.values():
            step()
        one = timed(steps, args, memory_kept)
        records[name] = one | {
            "trained / cached": one["trained"] / one["cached"],
            "frozen / cached": one["frozen"] / one["cached"],
            "bytes kept an image": kept,
        }
        print(f"{name}: {records[name]['trained / cached']:.2f}, {records[name]['frozen / cached']:.2f}", flush=True)
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
