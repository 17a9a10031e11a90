"""A progress bar in a terminal; nothing elsewhere, where the last line says what was done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(total: int, task: str) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many of `total` are done."""
    if not sys.stdout.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        line = bar.add_task(task, total=total)
        yield lambda done: bar.update(line, completed=done)
