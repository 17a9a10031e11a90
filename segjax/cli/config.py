"""Show the keys of a config: what each means, its type, its default."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

WRITE_PAGE = "segjax config --markdown > docs/config.md"


class Key(NamedTuple):
    """One key of the schema.

    Attributes:
      name: dotted.
      kind: its type, for people.
      default: what it is unless set.
      choices: the values it may take; empty: any of its type.
      doc: what it means.
    """

    name: str
    kind: str
    default: Any
    choices: tuple[Any, ...]
    doc: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", help="a key such as optim.name, or a group such as optim; default: all")
    parser.add_argument("--task", default="semantic", help="whose groups loss, augment and eval are shown")
    parser.add_argument("--markdown", action="store_true", help="the page docs/config.md instead")
    parser.epilog = "Set a key with --config.KEY=VALUE, or in the file that --config names."


def run(args: argparse.Namespace) -> int:
    from segjax.core.errors import ConfigError, suggest

    if args.markdown:
        print(page(), end="")
        return 0
    found = list(keys(args.task))
    if args.key is not None:
        wanted = args.key.removeprefix("config.")
        chosen = [key for key in found if key.name == wanted or key.name.startswith(f"{wanted}.")]
        if not chosen:
            groups = {key.name.rpartition(".")[0] for key in found} - {""}
            near = suggest(wanted, [*(key.name for key in found), *groups])
            raise ConfigError(f"config.{wanted}: no such key.{near} `segjax config` lists them.")
        found = chosen
    for key in found:
        choices = f"; {_choices(key)}" if key.choices else ""
        print(f"{key.name} = {key.default!r}\n    {key.doc} ({key.kind}{choices})")
    return 0


def keys(task: str, only: tuple[str, ...] = ()) -> Iterator[Key]:
    """The keys of a task's config in the order of the schema, or of its groups `only`.

    Raises:
      ConfigError: a task that does not exist.
    """
    from segjax.core.config import Config, from_dict, task_groups

    from_dict({"task": task})  # names a task that does not exist
    groups = task_groups(task)
    for field in dataclasses.fields(Config):
        if not only or field.name in only:
            yield from _below(Config, groups, field)


def _below(owner: type, groups: dict[str, type], field: Any, prefix: str = "") -> Iterator[Key]:
    from segjax.core.options import hints, type_name

    name = f"{prefix}{field.name}"
    kind = {**hints(owner), **groups}[field.name]
    if dataclasses.is_dataclass(kind):
        for inner in dataclasses.fields(kind):
            yield from _below(kind, {}, inner, f"{name}.")
        return
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    yield Key(name, type_name(kind), default, field.metadata["choices"], field.metadata["doc"])


def page() -> str:
    """docs/config.md."""
    from segjax.core.config import task_groups
    from segjax.core.registry import TASKS

    own = tuple(task_groups(TASKS[0]))
    shared = [key for key in keys(TASKS[0]) if key.name.partition(".")[0] not in own]
    lines = [
        "# Configuration",
        "",
        f"Generated: `{WRITE_PAGE}`. `segjax config KEY` shows a part of it.",
        "",
        "A config file returns what differs from these defaults; `--config.KEY=VALUE` on the command line sets a key",
        "on top. A misspelt key, a wrong type or an impossible combination is a one-line error before anything heavy",
        "is imported. `config.task` decides which groups " + ", ".join(f"`{name}`" for name in own) + " there are.",
        "",
        "## Every task",
        "",
        *_table(shared),
    ]
    for task in TASKS:
        lines += ["", f'## task = "{task}"', "", *_table(list(keys(task, own)))]
    return "\n".join(lines) + "\n"


def _table(found: list[Key]) -> list[str]:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in found:
        choices = f": {_choices(key)}" if key.choices else ""
        rows.append(f"| `{key.name}` | `{key.default!r}` | {key.doc} ({key.kind}{choices}) |".replace("||", "|"))
    return rows


def _choices(key: Key) -> str:
    return ", ".join(map(str, key.choices))


PAGE = Path(__file__).parents[2] / "docs" / "config.md"
