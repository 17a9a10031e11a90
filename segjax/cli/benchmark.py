"""Time a config's programs on the devices that are there: train, infer, input, compile, memory."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from segjax.cli.known_data import add_data_arguments, known_data
from segjax.cli.runtime import add_process_arguments, join, prepare_jax

if TYPE_CHECKING:
    from segjax.cli.known_data import Known
    from segjax.core.config import Config

TAKES_OVERRIDES = True

MODES = {
    "train": "the train step alone, then behind the input pipeline",
    "infer": "labels of a batch of evaluation images",
    "input": "the input pipeline without a consumer",
    "compile": "the train step from Python to code, cold and from the persistent cache",
    "memory": "what a device holds in a train step, by kind",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mode", choices=MODES, help="; ".join(f"{name}: {text}" for name, text in MODES.items()))
    parser.add_argument("--config", metavar="FILE.py[:arg]", required=True, help="Python file with get_config()")
    parser.add_argument("--rounds", type=int, metavar="N", help="timed rounds; default 10, of compile 1")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="steps behind the pipeline; default 50")
    parser.add_argument("--output", metavar="FILE", help="where the record is written as JSON")
    add_data_arguments(parser)
    add_process_arguments(parser)
    parser.epilog = "Any key of the config can be set as --config.key=value, such as --config.train.batch_size=64."


def run(args: argparse.Namespace) -> int:
    from segjax.core.config import load_config, refuse_cached_features
    from segjax.core.errors import ConfigError
    from segjax.core.registry import resolve

    # --- What can be wrong is looked at before anything heavy is imported.
    config = load_config(args.config, args.overrides)
    resolve(config.model.name)
    refuse_cached_features(config, "segjax benchmark")
    if args.rounds is None:
        args.rounds = 1 if args.mode == "compile" else 10
    for name in ("rounds", "steps"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name}={getattr(args, name)}: at least 1.")
    if args.mode == "input" and args.classes is not None:
        raise ConfigError("--classes: the input pipeline needs the data set; leave the flag out.")

    prepare_jax()
    with join(args, config.parallel):
        return _benchmark(args, config)


def _benchmark(args: argparse.Namespace, config: Config) -> int:
    import json

    import jax

    from segjax.benchmarking.text import lines
    from segjax.core.files import write_text
    from segjax.core.jsonable import jsonable
    from segjax.inference.provenance import provenance

    known = known_data(args, config)
    found = (_input if args.mode == "input" else _infer if args.mode == "infer" else _step)(args, config, known)
    record = {
        "kind": "benchmark",
        "mode": args.mode,
        "config": config.name,
        "model": config.model.name,
        "dtype": config.train.dtype,
        "batch_size": config.eval.batch_size if args.mode == "infer" else config.train.batch_size,
        **found,
        **provenance(),
    }
    if jax.process_index() == 0:
        print("\n".join(lines(record)))
        if args.output:
            print(f"record: {write_text(args.output, json.dumps(jsonable(record), indent=1) + chr(10))}")
    return 0


def _step(args: argparse.Namespace, config: Config, known: Known) -> dict[str, Any]:
    """Modes train, compile and memory: the step as `segjax train` makes it, on a batch of noise."""
    from segjax.benchmarking.compilation import benchmark_compile
    from segjax.benchmarking.train import Subject, benchmark_memory, benchmark_train
    from segjax.cli.assembly import build
    from segjax.parallel.transfer import check_batch_size, local_rows

    run, size = build(config, known.dataset, largest=known.largest, samples=known.samples), config.train.batch_size
    check_batch_size(size, run.mesh, accumulate=config.train.accumulate)
    subject = Subject(
        config,
        model=run.model,
        task=run.task,
        transform=run.transform,
        variables=run.variables(),
        batch=run.noise(len(local_rows(size, run.mesh))),
    )
    found: dict[str, Any] = {"crop_size": list(config.data.crop_size), "devices": run.mesh.size}
    if args.mode == "compile":
        return found | {"compile": benchmark_compile(subject.lower, args.rounds)}
    if args.mode == "memory":
        return found | benchmark_memory(subject)
    limits = _limits(config, run.mesh.size)
    batches = None if args.classes is not None else run.batches()
    measured = benchmark_train(subject, limits, rounds=args.rounds, batches=batches, steps=args.steps)
    if batches is not None:
        batches.close()
    return found | limits.record | measured


def _infer(args: argparse.Namespace, config: Config, known: Known) -> dict[str, Any]:
    import jax
    import numpy as np

    from segjax.benchmarking.infer import benchmark_infer
    from segjax.cli.assembly import build
    from segjax.core.errors import ConfigError
    from segjax.inference.canvas import round_up
    from segjax.inference.predictor import make_engine
    from segjax.parallel.sharding import replicated

    info = known.dataset.info
    size = config.eval.size or (known.dataset.split(config.eval.split).largest if args.classes is None else None)
    size = size or known.largest
    if size is None:
        raise ConfigError("--image-size: give it, or config.eval.size; without the data set no size is known.")
    run = build(config, known.dataset, largest=known.largest, samples=known.samples)
    mesh = run.mesh if run.mesh.size > 1 else None
    variables = jax.device_put(run.variables(), None if mesh is None else replicated(mesh))
    engine = make_engine(run.model, variables, info, config, mesh=mesh)
    height, width = round_up(size, run.model.stride)
    shape = (config.eval.batch_size, height, width, info.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(info.image_dtype)
    limits = _limits(config, run.mesh.size)
    measured = benchmark_infer(engine, images, limits, rounds=args.rounds)
    return {"image_size": [height, width], "devices": run.mesh.size} | limits.record | measured


def _input(args: argparse.Namespace, config: Config, known: Known) -> dict[str, Any]:
    from segjax.benchmarking.input import benchmark_input
    from segjax.cli.assembly import build

    batches = build(config, known.dataset).batches()
    found = benchmark_input(batches, count=args.steps)
    batches.close()
    return {"crop_size": list(config.data.crop_size), **found}


def _limits(config: Config, devices: int) -> Any:
    import jax.numpy as jnp

    from segjax.benchmarking.limits import measure_limits

    return measure_limits(jnp.dtype(config.train.dtype), devices)
