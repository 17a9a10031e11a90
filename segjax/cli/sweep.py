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
    parser.add_argument(
        "--shard", metavar="I/N", help="only every N-th variant (program, with --vmap) from the I-th on"
    )
    parser.add_argument(
        "--vmap",
        nargs="?",
        const="all",
        choices=("all", "groups"),
        help="variants that share a program as one: all of them (default), or each group that can",
    )
    parser.add_argument("--members", type=int, metavar="N", help="with --vmap: at most N members in one program")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--list", action="store_true", help="show the variants and their programs; run nothing")
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
    from segjax.sweep.variants import check_one_program, groups, read_variants

    # --- What can be wrong is looked at before anything runs.
    variants = read_variants(args.config, args.overrides)
    for flag, value in (("--jobs", args.jobs), ("--members", args.members)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag}: {value} is below 1.")
    if args.vmap is None and args.members is not None:
        raise ConfigError("--members belongs to --vmap.")
    if args.vmap is not None and args.jobs > 1:
        raise ConfigError("--jobs belongs to the queue: with --vmap one program after another has all devices.")
    if args.vmap == "all":
        check_one_program(variants)
    parts = [[variant] for variant in variants]
    if args.vmap is not None:
        most = args.members or len(variants)
        parts = [group[i : i + most] for group in groups(variants) for i in range(0, len(group), most)]
    mine = shard(parts, args.shard)
    for variant in variants:
        try:
            create_model(variant.config.model.name, num_classes=2, **variant.config.model.options)
        except SegjaxError as error:
            raise ConfigError(f"sweep: variant {variant.name!r}: {error}") from error
    if args.list:
        for number, part in enumerate(parts):
            for variant in part:
                print(f"{number:>4}  {variant.name}")
        return 0

    # --- Run what is open.
    name = args.config.partition(":")[0]
    folder = Path(args.workdir or f"runs/{Path(name).stem}-sweep")
    queue = Queue(folder, variants)
    if args.retry:
        queue.forgive()
    if args.vmap is None:
        command = train_command(args.config, args.overrides)
        interrupted = run_queue(queue, [variant for part in mine for variant in part], args.jobs, command)
    else:
        interrupted = _run_together(queue, mine)

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


def _run_together(queue, parts) -> str | None:
    """Each part as one program; the signal that interrupted them, if one did."""
    import contextlib

    from segjax.cli.members import train_together
    from segjax.core.lock import owned

    for part in parts:
        left = [variant for variant in part if queue.open(variant)]
        with queue.take(left) as locks, contextlib.ExitStack() as owners:
            if not left or locks is None:
                continue
            left = [variant for variant in left if queue.open(variant)]
            for variant in left:
                owners.enter_context(owned(queue.workdir(variant)))
            interrupted = train_together(queue, left)
        if interrupted is not None:
            return interrupted
    return None
