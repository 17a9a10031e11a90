"""`segjax VERB`: dispatch only. A verb's file is imported when it is named, its heavy imports when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from segjax import __version__
from segjax.cli import output
from segjax.cli.config_flags import split_overrides
from segjax.core.errors import ConfigError, SegjaxError, reason, suggest

VERBS = {
    "train": "train a network, evaluate it, write checkpoints and a report",
    "sweep": "train a config's variants and compare them",
    "evaluate": "score a checkpoint, or label images already written, on a data set",
    "predict": "label images with a checkpoint",
    "convert": "turn other people's weights into a checkpoint",
    "models": "list the networks",
    "config": "show the keys of a config",
    "plan": "compile a run for devices that are not there: memory, time, what is in its way",
    "benchmark": "time a config's programs on the devices that are there",
    "data": "import, prepare, check or show a data set",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status.

    0 done, 1 done with failures, 2 bad input, 75 (`EXIT_RESUME`) to be gone on with, 130 interrupted, 141
    (`EXIT_PIPE`) the reader of the output has gone.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = " ".join(["segjax", *(word for word in argv[:1] if word in VERBS)])
    output.prepare()
    try:
        status = _run(argv)
    except SegjaxError as error:
        output.say(f"{name}: {error}")
        status = 2
    except KeyboardInterrupt:
        output.say(f"{name}: interrupted.")
        status = 130
    except OSError as error:
        found = output.lost(error)
        if found is None:
            output.say(f"{name}: {reason(error)}.")
            return 2
        return _no_output(name, found)
    except SystemExit:  # argparse's, after --help or a wrong flag
        found = output.lost()
        if found is not None:
            raise SystemExit(_no_output(name, found)) from None
        raise
    found = output.lost()
    return status if found is None else _no_output(name, found)


def _no_output(name: str, error: OSError) -> int:
    """Ends quietly where the reader of a pipe has seen enough, as other command-line tools do."""
    if isinstance(error, BrokenPipeError):
        return output.EXIT_PIPE
    output.say(f"{name}: standard output cannot be written to: {error.strerror or error}.")
    return 2


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        raise ConfigError(f"no verb {verb!r}.{suggest(verb, VERBS)} `segjax --help` lists them.")
    module = importlib.import_module(f"segjax.cli.{verb}")
    parser = argparse.ArgumentParser(prog=f"segjax {verb}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    overrides, rest = split_overrides(argv[1:])
    if overrides and not getattr(module, "TAKES_OVERRIDES", False):
        raise ConfigError(f"--config.{next(iter(overrides))}: `segjax {verb}` reads no config.")
    args = parser.parse_args(rest)
    args.overrides = overrides
    return module.run(args)


def _usage() -> str:
    lines = ["usage: segjax VERB [options]", "", "Image segmentation in JAX and Flax.", "", "verbs:"]
    lines += [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join([*lines, "", "`segjax VERB --help` tells a verb's options."])


if __name__ == "__main__":
    sys.exit(main())
