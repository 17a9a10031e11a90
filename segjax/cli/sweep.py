"""Train the variants that a config's sweep(config) yields, and compare them."""

from __future__ import annotations

import argparse

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE.py[:arg]", required=True, help="with get_config() and sweep(config)")
    parser.add_argument("--workdir", metavar="DIR", help="the sweep's folder; default runs/NAME-sweep")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes at a time, a variant each; default 1"
    )
    parser.add_argument("--shard", metavar="I/N", help="only every N-th variant from the I-th on")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--list", action="store_true", help="show the variants; run nothing")
    parser.epilog = (
        "The same command goes on where a sweep was interrupted, and started several times, also on several hosts "
        "that share DIR, it splits the work. --config.key=value holds for every variant."
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from segjax.core.errors import ConfigError, SegjaxError
    from segjax.core.registry import create_model
    from segjax.sweep.queue import Queue, run_queue, shard, train_command
    from segjax.sweep.table import collect, print_table, write_table
    from segjax.sweep.variants import read_variants

    # --- What can be wrong is looked at before anything runs.
    variants = read_variants(args.config, args.overrides)
    if args.jobs < 1:
        raise ConfigError(f"--jobs: {args.jobs} is below 1.")
    mine = shard(variants, args.shard)
    for variant in variants:
        try:
            create_model(variant.config.model.name, num_classes=2, **variant.config.model.options)
        except SegjaxError as error:
            raise ConfigError(f"sweep: variant {variant.name!r}: {error}") from error
    if args.list:
        for number, variant in enumerate(variants):
            print(f"{number:>4}  {variant.name}")
        return 0

    # --- Run what is open.
    name = args.config.partition(":")[0]
    folder = Path(args.workdir or f"runs/{Path(name).stem}-sweep")
    queue = Queue(folder, variants)
    if args.retry:
        queue.forgive()
    command = train_command(args.config, args.overrides)
    interrupted = run_queue(queue, mine, args.jobs, command)

    # --- Compare.
    from segjax.report.comparison import write_comparison
    from segjax.tasks import make_view

    record = collect(queue)
    write_table(folder, record)
    view = make_view(variants[0].config.task)
    page = write_comparison(folder, view, record, folder.name)
    print_table(record, view.overall)
    print(f"report: {page}", flush=True)
    left = [variant["name"] for variant in record["variants"] if variant["status"] == "open"]
    failed = [variant["name"] for variant in record["variants"] if variant["status"] == "failed"]
    if left:
        why = f"{interrupted}; the same command goes on" if interrupted else "another worker's, or see their log.txt"
        print(f"open: {len(left)} of {len(variants)} variants ({why})", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; --retry tries them again", flush=True)
    return 1 if left or failed else 0
