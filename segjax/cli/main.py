"""`segjax VERB`: dispatch only. A verb's file is imported when it is named, its heavy imports when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from segjax import __version__
from segjax.cli.config_flags import split_overrides
from segjax.core.errors import ConfigError, SegjaxError, suggest

VERBS = {
    "train": "train a network, evaluate it, write checkpoints and a report",
    "sweep": "train a config's variants and compare them",
    "evaluate": "score a checkpoint, or label images already written, on a data set",
    "predict": "label images with a checkpoint",
    "convert": "turn other people's weights into a checkpoint",
    "models": "list the networks",
    "plan": "compile a run for devices that are not there: memory, time, what is in its way",
    "benchmark": "time a config's programs on the devices that are there",
    "data": "prepare, check or show a data set",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status.

    0 done, 1 done with failures, 2 bad input, 75 (`EXIT_RESUME`) to be gone on with, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        print(f"segjax: no verb {verb!r}.{suggest(verb, VERBS)} `segjax --help` lists them.", file=sys.stderr)
        return 2
    module = importlib.import_module(f"segjax.cli.{verb}")
    parser = argparse.ArgumentParser(prog=f"segjax {verb}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    try:
        overrides, rest = split_overrides(argv[1:])
        if overrides and not getattr(module, "TAKES_OVERRIDES", False):
            raise ConfigError(f"--config.{next(iter(overrides))}: `segjax {verb}` reads no config.")
        args = parser.parse_args(rest)
        args.overrides = overrides
        return module.run(args)
    except SegjaxError as error:
        print(f"segjax {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"segjax {verb}: interrupted.", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = ["usage: segjax VERB [options]", "", "Image segmentation in JAX and Flax.", "", "verbs:"]
    lines += [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join([*lines, "", "`segjax VERB --help` tells a verb's options."])


if __name__ == "__main__":
    sys.exit(main())
