"""Errors of Orbax's threads: what they mean, and what they print although the checkpointer raises them itself.

A write that fails comes back from the next wait, as an exception. Before that, Orbax logs it with its traceback; writes
that were under way report to an event loop that is closed by then, each with a traceback; and what is left of them
complains when it is collected, up to the interpreter's end.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import sys
import traceback
import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

_ORBAX = "/orbax/checkpoint/"
_UNFINISHED = ".orbax-checkpoint-tmp"
"""How Orbax names the folders that it writes into: a TensorStore future's error has no other sign of Orbax."""
_QUOTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE)
"""Errors that are looked for in the text of others."""

_installed: list[Any] = []


def quiet() -> None:
    """Leaves out those reports, in this process from now on; all others go where they went."""
    if sys.excepthook in _installed and sys.unraisablehook in _installed:
        return
    if not _installed:
        logging.getLogger("absl").addFilter(_told_elsewhere)
        logging.getLogger("asyncio").addFilter(_told_elsewhere)
    _installed[:] = [_excepthook(sys.excepthook), _unraisablehook(sys.unraisablehook)]
    sys.excepthook, sys.unraisablehook = _installed


def forget(errors: Iterable[BaseException]) -> None:
    """Collects what failed writes left behind, while their reports are left out."""
    for error in errors:
        traceback.clear_frames(error.__traceback__)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    gc.collect()


def _told_elsewhere(record: logging.LogRecord) -> bool:
    """A filter: false for errors that are logged by Orbax, or about its tasks."""
    if record.levelno < logging.ERROR:
        return True
    message = record.getMessage()
    return not (_ORBAX in record.pathname or _ORBAX in message or _UNFINISHED in message)


def _excepthook(previous: Any) -> Any:
    def hook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if not _of_closed_loop(error, trace):
            previous(kind, error, trace)

    return hook


def _unraisablehook(previous: Any) -> Any:
    orbax, of_closed_loop = _ORBAX, _of_closed_loop  # the module's names may be gone at the interpreter's end

    def hook(told: Any) -> None:
        code = getattr(told.object, "cr_code", None)
        if orbax not in getattr(code, "co_filename", "") and not of_closed_loop(told.exc_value, told.exc_traceback):
            previous(told)

    return hook


def _of_closed_loop(error: BaseException | None, trace: types.TracebackType | None) -> bool:
    """Whether a finished write found that nobody waits for it any more."""
    if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
        return False
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or "asyncio" in trace.tb_frame.f_code.co_filename


def system_error(error: BaseException) -> OSError | None:
    """The operating system's error that `error` is, or that it quotes: TensorStore gives its number, or its words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    number = re.search(r"os_error_code='(\d+)'", str(error))
    if number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    quoted = (code for code in _QUOTED if os.strerror(code) in str(error))
    return next((OSError(code, os.strerror(code)) for code in quoted), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it came from."""
    seen: set[int] = set()
    stack = [error]
    while stack:
        cause = stack.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            stack += [cause.__cause__, cause.__context__]
