"""Options of data sets that have instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segjax.core.errors import ConfigError

MOST = 65535  # the most that an id layer can number


def check_instance_options(chosen: Mapping[str, Any]) -> None:
    """ConfigError for a value of `max_instances` or `skip_bad` that means nothing."""
    count = chosen["max_instances"]
    if type(count) is not int or not 1 <= count <= MOST:
        raise ConfigError(f"config.data.options.max_instances: {count!r} is not a number from 1 to {MOST}.")
    if type(chosen.get("skip_bad", False)) is not bool:
        raise ConfigError(f"config.data.options.skip_bad: {chosen['skip_bad']!r} is neither True nor False.")
