"""`--config.key=value`: overrides of a config file, or of a checkpoint's config, on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from segjax.core.errors import ConfigError


def split_overrides(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Parts `--config.key=value` and `--config.key value` from the other arguments: ({key: text}, the rest)."""
    overrides, rest = {}, []
    items = iter(argv)
    for item in items:
        if item.startswith("--config."):
            key, equals, text = item.removeprefix("--config.").partition("=")
            if not equals:
                text = next(items, None)
                if text is None:
                    raise ConfigError(f"--config.{key} needs a value: --config.{key}=VALUE.")
            overrides[key] = text
        else:
            rest.append(item)
    return overrides, rest
