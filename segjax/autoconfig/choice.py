"""What a config file's `adapt` chooses: the config, the reasons, and a plain config file that says the same."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segjax.autoconfig.machine import Machine
from segjax.core.config import Config, from_dict, set_text, set_value, to_dict
from segjax.core.errors import ConfigError
from segjax.data.fingerprint import Fingerprint

YOURS = "yours"


class Chosen(NamedTuple):
    """A whole config, and why its chosen keys are what they are.

    Attributes:
      config: checked.
      reasons: {dotted key: why}, in the order of the choices; `yours` for what the command line set.
    """

    config: Config
    reasons: Mapping[str, str]


def adapted(
    adapt: Callable[..., Any], config: Config, texts: Mapping[str, str], data: Fingerprint, machine: Machine
) -> Chosen:
    """The config after `adapt(config, data, machine)`, a generator of (dotted key, value, reason).

    Each `yield` gives back the value that holds: what the command line's `texts` say of the key, else the one yielded.

    Raises:
      ConfigError: for a key that does not exist or a value that cannot be.
    """
    record, reasons = to_dict(config), {}
    rules, sent = adapt(config, data, machine), None
    if not isinstance(rules, types.GeneratorType):
        raise ConfigError(f"--config: adapt(config, data, machine) gave {rules!r}; yield (key, value, reason).")
    while True:
        try:
            key, value, why = rules.send(sent)
        except StopIteration:
            break
        theirs = {name: text for name, text in texts.items() if name == key or name.startswith(key + ".")}
        set_value(record, key, value)
        for name, text in theirs.items():
            set_text(record, name, text)
        reasons[key] = YOURS if key in theirs else f"{YOURS} in part; {why}" if theirs else why
        sent = _get(from_dict(record), key)  # as the schema reads it
    return Chosen(from_dict(record), reasons)


def lines(chosen: Chosen) -> list[str]:
    """`train.batch_size = 4    on a CPU ...`, a choice a line."""
    record = to_dict(chosen.config)
    shown = {key: f"{key} = {_literal(_get(record, key))}" for key in chosen.reasons}
    width = max((len(text) for text in shown.values() if len(text) <= 48), default=0)
    return [f"  {shown[key]:<{width}}  {why}" for key, why in chosen.reasons.items()]


def config_file(chosen: Chosen, head: str) -> str:
    """A Python config file that gives `chosen.config`: what differs from the defaults, each choice with its reason.

    `head` is its docstring's text.
    """
    body = _group("", to_dict(chosen.config), to_dict(Config()), chosen.reasons, "        ")
    return "\n".join([f'"""{head}"""', "", "", "def get_config():", "    return dict(", *body, "    )", ""])


def _group(path: str, values: Mapping[str, Any], defaults: Mapping[str, Any], reasons: Any, indent: str) -> list[str]:
    """The lines `key=value,` of one group, each below its reason; groups within it too."""
    found = []
    for key, value in values.items():
        whole, comment = path + key, f"{indent}# "
        if isinstance(value, dict) and dataclasses.is_dataclass(_get(Config(), whole)):
            inside = _group(f"{whole}.", value, defaults[key], reasons, indent + "    ")
            if inside:
                found += [f"{indent}{key}=dict(", *inside, f"{indent}),"]
        elif value != defaults[key] or whole in reasons:
            if whole in reasons:
                found += textwrap.wrap(reasons[whole], 118, initial_indent=comment, subsequent_indent=comment)
            found.append(f"{indent}{key}={_literal(value)},")
    return found


def _get(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part] if isinstance(tree, Mapping) else getattr(tree, part)
    return tree


def _literal(value: Any) -> str:
    """Python source of a JSON-like value, lists as tuples."""
    if isinstance(value, list | tuple):
        inside = ", ".join(_literal(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
