"""Eight members as one program against eight runs one after another: compilation and steps, from config to last state.

    python benchmarks/sweep.py [--config configs/sweeps/quickstart.py] [--config.key=value] [--rounds 3]

`train_members` against `train` of each variant, on batches of random pixels kept in memory, so that only the programs
differ: no process is started, no sample drawn, nothing evaluated, no compilation cache kept. Both ways run in this one
process, in turns whose order alternates. Wall-clock, and the CPU time of all threads, which a busy machine changes
less; medians over the rounds. The states are compared, too. Kept in benchmarks/results, round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

from segjax.cli.config_flags import split_overrides
from segjax.cli.members import arguments_of, builder
from segjax.core.config import Config
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.data.augment import make_train_transform
from segjax.inference.provenance import provenance
from segjax.losses import get_loss
from segjax.sweep.variants import Variant, read_variants
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.loop import train
from segjax.training.members import Member, train_members
from segjax.training.writer import read_metrics

RESULTS = pathlib.Path(__file__).parent / "results"
CLASSES = 11
INFO = DatasetInfo("noise", tuple(map(str, range(CLASSES))), ((0, 0, 0),) * CLASSES)


class Batches:
    """Four batches of random pixels, over and over; labels that follow from the pixels."""

    def __init__(self, config: Config):
        shape = (config.train.batch_size, *config.data.crop_size)
        generator = np.random.default_rng(config.seed)
        self._images = generator.integers(0, 256, (4, *shape, 3), dtype=np.uint8)
        self._position = 0
        self.clock: list[float] = []  # CPU time of the process whenever a batch is asked for

    def __next__(self):
        self.clock.append(time.process_time())
        image = self._images[self._position % 4]
        self._position += 1
        label = (image[..., 0] // 24).astype(np.uint8)
        return {"image": image, "label": label, "valid": np.ones(len(image), bool)}

    def get_state(self):
        return self._position


def parts(variant: Variant):
    """The variant's network, task and augmentation."""
    config = variant.config
    model = create_model(config.model.name, num_classes=CLASSES, **config.model.options)
    task = SemanticTask(CLASSES, get_loss(config.loss.name, **config.loss.options))
    return model, task, make_train_transform(config.augment, INFO, config.data.crop_size)


def separate(variants: list[Variant], folder: pathlib.Path) -> tuple[list, float]:
    """Every variant by itself, one after another: their states, and the CPU time of a step of all."""
    states, seconds = [], 0.0
    for variant in variants:
        model, task, transform = parts(variant)
        result = train(
            variant.config,
            model=model,
            task=task,
            transform=transform,
            batches=(batches := Batches(variant.config)),
            info=INFO,
            steps=variant.config.train.steps,
            workdir=folder / variant.name,
        )
        states.append(result.state)
        seconds += a_step(batches.clock)
    return states, seconds


def together(variants: list[Variant], folder: pathlib.Path) -> tuple[list, float]:
    """All of them as one program: the same."""
    models, tasks, transforms = zip(*map(parts, variants))
    arguments, network = arguments_of(variants, models, tasks)
    streams = {variant.config.seed: Batches(variant.config) for variant in variants}
    members = [
        Member(variant.config, model, task, streams[variant.config.seed], folder / variant.name)
        for variant, model, task in zip(variants, models, tasks)
    ]
    states = train_members(
        members,
        arguments=arguments,
        build=builder(network, tasks[0]),
        transform=transforms[0],
        info=INFO,
        steps=variants[0].config.train.steps,
    ).states
    return states, a_step(next(iter(streams.values())).clock)


def a_step(clock: list[float]) -> float:
    """Mean CPU time between batches, from the sixth on: the first ones compile."""
    return (clock[-1] - clock[5]) / (len(clock) - 6)


def measure(way, variants: list[Variant], folder: pathlib.Path) -> tuple[dict[str, float], list]:
    """Seconds of one way: in all, compiling, and of one step of all members."""
    jax.clear_caches()
    folder.mkdir()
    wall, cpu = time.perf_counter(), time.process_time()
    with (folder / "log.txt").open("w") as log, contextlib.redirect_stdout(log):
        states, step = jax.device_get(way(variants, folder))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    compiled = re.findall(r"compiled .* in ([\d.]+) s", (folder / "log.txt").read_text())
    logs = [read_metrics(folder / variant.name / "metrics.jsonl", "train") for variant in variants]
    steps = [statistics.median(record["step_seconds"] for record in log) for log in logs]
    seconds = {
        "wall": wall,
        "cpu": cpu,
        "wall_compiling": sum(map(float, compiled)),
        "cpu_of_a_step": float(step),
        "wall_of_a_step": steps[0] if way is together else sum(steps),
    }
    return seconds, states


def apart(ours: list, theirs: list) -> float:
    """The largest difference of a parameter, relative to the largest value of its array."""
    pairs = zip(jax.tree.leaves([one.params for one in ours]), jax.tree.leaves([one.params for one in theirs]))
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/sweeps/quickstart.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="sweep_cpu.json", help="name of the result")
    overrides, rest = split_overrides(sys.argv[1:])
    args = parser.parse_args(rest)
    jax.config.update("jax_enable_compilation_cache", False)
    variants = read_variants(args.config, {"log.tensorboard": "False", **overrides})
    measured: dict[str, list[dict[str, float]]] = {"separate": [], "together": []}
    for turn in range(args.rounds):
        states = {}
        with tempfile.TemporaryDirectory() as root:
            for way in (separate, together)[:: 1 if turn % 2 == 0 else -1]:
                seconds, states[way.__name__] = measure(way, variants, pathlib.Path(root) / way.__name__)
                measured[way.__name__].append(seconds)
                print(way.__name__, seconds, flush=True)
        medians = {
            way: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            for way, rounds in measured.items()
        }
        record = {
            "config": args.config,
            "overrides": overrides,
            "members": len(variants),
            "steps": variants[0].config.train.steps,
            "seconds": measured,
            "medians": medians,
            "ratio": {key: medians["together"][key] / medians["separate"][key] for key in medians["together"]},
            "parameters_relative_difference": apart(states["together"], states["separate"]),
            "load_average": os.getloadavg()[0],
            **provenance(),
        }
        (RESULTS / args.output).write_text(json.dumps(record, indent=1) + "\n")
        print(record["ratio"], record["parameters_relative_difference"], flush=True)


if __name__ == "__main__":
    main()
