"""Compile a config's train step for devices that are not there: does it fit, how fast may it be, what is in its way."""

from __future__ import annotations

import argparse
import os
import sys

from segjax.cli.known_data import add_data_arguments, known_data

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE.py[:arg]", required=True, help="Python file with get_config()")
    parser.add_argument(
        "--topology",
        metavar="NAME[,NAME]",
        required=True,
        help="v5e:16x16, v5p:4x4x4, v6e, v4, tpu7x; cuda:h100:8; cpu:8 simulates devices; several with --sweep",
    )
    add_data_arguments(parser)
    parser.add_argument("--memory", type=float, metavar="GIB", help="of a device, where it is not the data sheet's")
    parser.add_argument("--output", metavar="DIR", help="for plan.json and plan.html; default runs/NAME/plan/TOPOLOGY")
    parser.add_argument(
        "--no-search", action="store_true", help="where the batch is too large, do not look for another"
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="let a TPU's compiler recompute however much memory is missing; it may take very long",
    )
    parser.add_argument("--sweep", action="store_true", help="plan every combination of the lists below, and rank them")
    parser.add_argument(
        "--batch", metavar="N,N", help="batch sizes of a sweep; default: half, once and twice the config's"
    )
    parser.add_argument(
        "--spatial", metavar="N,N", default="1,2", help="values of config.parallel.spatial; default 1,2"
    )
    parser.add_argument("--fsdp", metavar="N,N", default="1,8", help="values of config.parallel.fsdp; default 1,8")
    parser.add_argument("--minutes", type=float, default=15.0, help="a sweep's limit for one plan; default 15")
    parser.epilog = "Any key of the config can be set as --config.key=value, such as --config.train.batch_size=2048."


def run(args: argparse.Namespace) -> int:
    from segjax.core.config import load_config, refuse_cached_features
    from segjax.core.registry import resolve
    from segjax.planning.topology import parse

    # --- What can be wrong is looked at before anything heavy is imported.
    config = load_config(args.config, args.overrides)
    resolve(config.model.name)
    refuse_cached_features(config, "segjax plan")
    names = args.topology.split(",")
    for name in names:
        parse(name)
    if args.sweep:
        return _sweep(args, config, names)
    if len(names) > 1:
        from segjax.core.errors import ConfigError

        raise ConfigError(f"--topology: {args.topology!r} names {len(names)}; plan one, or add --sweep.")
    return _plan(args, config, names[0])


def _plan(args: argparse.Namespace, config, name: str) -> int:
    import dataclasses
    import json
    from pathlib import Path

    if "jax" not in sys.modules:
        os.environ["JAX_PLATFORMS"] = "cpu"  # an accelerator that is there is left alone
    from segjax.planning.topology import open_topology

    topology = open_topology(name)
    if args.memory is not None:
        chip = dataclasses.replace(topology.chip, memory=args.memory * 2**30)
        topology = dataclasses.replace(topology, chip=chip)

    from segjax.cli.assembly import build
    from segjax.core.files import write_text
    from segjax.core.jsonable import jsonable
    from segjax.inference.provenance import provenance
    from segjax.planning import text
    from segjax.planning.page import page
    from segjax.planning.plan import plan

    # --- Data: its shapes and classes only.
    dataset, largest, samples = known_data(args, config)

    # --- Network, task, augmentation, as `segjax train` makes them.
    run = build(config, dataset, largest=largest, samples=samples)
    record = plan(
        config,
        model=run.model,
        task=run.task,
        transform=run.transform,
        input_shape=run.task.input_shape(run.info, config.data.crop_size),
        batch=run.batch_shapes,
        topology=topology,
        steps=run.steps,
        would_fit=not args.no_search,
        recompute=args.recompute,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    record = jsonable(record | _provenance(provenance(), name))
    print("\n".join(text.lines(record)))
    folder = Path(args.output or f"runs/{config.name}/plan/{name.replace(':', '-')}")
    write_text(folder / "plan.json", json.dumps(record, indent=1) + "\n")
    print(f"\nplan: {write_text(folder / 'plan.html', page(record))}")
    return 0 if record["fits"] else 1


def _sweep(args: argparse.Namespace, config, names: list[str]) -> int:
    import json
    from pathlib import Path

    from segjax.core.errors import ConfigError
    from segjax.core.files import write_text
    from segjax.planning import sweep
    from segjax.planning.topology import count_devices

    size = config.train.batch_size
    batches = _numbers(args.batch, "--batch") if args.batch else sorted({max(1, size // 2), size, 2 * size})
    topologies = {name: count_devices(name) for name in names}
    chosen = list(
        sweep.candidates(
            topologies,
            batches,
            _numbers(args.spatial, "--spatial"),
            _numbers(args.fsdp, "--fsdp"),
            unit=config.train.accumulate,
        )
    )
    if not chosen:
        shown = ", ".join(f"{name} ({count} devices)" for name, count in topologies.items())
        raise ConfigError(
            f"--sweep: none of the batches {', '.join(map(str, batches))} splits over {shown}; give --batch "
            "multiples of the devices."
        )
    command = [sys.executable, "-m", "segjax.cli.main", "plan", f"--config={args.config}", "--no-search"]
    command += [f"--config.{key}={text}" for key, text in args.overrides.items()]
    for flag in ("classes", "image_size", "memory"):
        if getattr(args, flag) is not None:
            command.append(f"--{flag.replace('_', '-')}={getattr(args, flag)}")
    command.append(f"--channels={args.channels}")
    if args.recompute:
        command.append("--recompute")
    folder = Path(args.output or f"runs/{config.name}/plan/sweep")
    rows = sweep.sweep(
        chosen,
        command,
        folder,
        seconds=60 * args.minutes,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    ranked = sweep.rank(rows)
    print("\n".join(sweep.lines(ranked)))
    print(f"\nranking: {write_text(folder / 'sweep.json', json.dumps(ranked, indent=1) + chr(10))}")
    return 0 if all(row["fits"] is not None for row in ranked) else 1


def _numbers(text: str, flag: str) -> list[int]:
    from segjax.core.errors import ConfigError

    parts = text.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"{flag}: {text!r} is no list of whole numbers such as 8,16.")
    return [int(part) for part in parts]


def _provenance(found, topology: str):
    """With the compiler's version; the device is the machine that compiled."""
    import importlib.metadata

    for package in ("libtpu", "jax-cuda13-plugin"):
        if topology.startswith("cuda") == ("cuda" in package) and not topology.startswith("cpu"):
            found["versions"][package] = importlib.metadata.version(package)
    return found
