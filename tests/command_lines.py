"""Commands that pages show: whether their verbs, options and keys exist."""

from __future__ import annotations

import argparse
import importlib
import shlex

from segjax.cli.config_flags import split_overrides
from segjax.core.config import from_dict, set_text


def parsed(command: str) -> argparse.Namespace:
    """The arguments of `segjax VERB ...`, its overrides checked; raises, or exits, where one does not exist."""
    verb, *rest = shlex.split(command)[1:]
    module = importlib.import_module(f"segjax.cli.{verb}")
    overrides, rest = split_overrides(rest)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module.add_arguments(parser)
    args = parser.parse_args(rest)
    record: dict = {}
    for key, text in overrides.items():
        set_text(record, key, text)
    from_dict(record)
    return args
