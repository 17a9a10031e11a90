"""Standard output and error: of any encoding, into a pipe that closes, onto a full disk, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
from typing import TextIO

EXIT_PIPE = 128 + signal.SIGPIPE
"""Exit status where the reader of the output has gone, as a shell tells it of a program that SIGPIPE ended."""


def prepare() -> None:
    """Makes the standard streams such that no text raises: what their encoding lacks is written as `\\xe9`.

    A stream that was closed at the start becomes /dev/null: the next file opened would take its number, and whatever
    libraries print would end up in that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (to the process's end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback


def say(text: str) -> None:
    """Prints a line to standard error, if that is still possible."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def lost(error: OSError | None = None) -> OSError | None:
    """Why standard output or error cannot be written to, if one cannot; it is /dev/null from then on.

    Args:
      error: that may have come from there; the text that met it is no longer in the stream.
    """
    found = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            if found is None and error is not None and error.filename is None:
                _probe(stream, error)
        except OSError as failure:
            found = failure
            _discard(stream)
    return found


def _probe(stream: TextIO, error: OSError) -> None:
    """Raises what writing to the stream raises, if that is the kind of `error`."""
    try:
        number = stream.fileno()
    except ValueError:  # io.UnsupportedOperation: no file at all
        return
    if isinstance(error, BrokenPipeError):
        poll = select.poll()
        poll.register(number, 0)  # reports POLLERR at a pipe or socket without a reader
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            raise error
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        os.write(number, b"\n")


def _discard(stream: TextIO) -> None:
    """What is left in the stream's buffer is written at the interpreter's end, without another error."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
