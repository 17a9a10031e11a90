"""The errors a user meets: one line each, naming the culprit and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

EXIT_RESUME = 75
"""Exit status of a run that another start with --resume can finish: preempted, or a process of it was lost
(EX_TEMPFAIL of sysexits.h). Launchers restart on it."""


class SegjaxError(Exception):
    """Base of every error that is the input's fault; the command line prints it as one line and exits with 2."""

    def __str__(self) -> str:
        """One line, whatever line breaks a file's name, a key or another library's words brought in."""
        return " ".join(super().__str__().splitlines())


class ConfigError(SegjaxError):
    """A configuration key, type or combination that cannot work."""


class ModelError(SegjaxError):
    """An unknown network name or constructor argument."""


class SizeError(SegjaxError):
    """An image whose size does not fit the network."""


class DataError(SegjaxError):
    """A file, label or folder that is not what the data set promises."""


class CheckpointError(SegjaxError):
    """A checkpoint that is missing, damaged, or another run's."""


class WeightsError(SegjaxError):
    """A file of weights that is damaged, unsafe to read, or not the network's."""


class StorageError(SegjaxError):
    """A file that could not be written, no space left for one."""


class BusyError(SegjaxError):
    """A folder that another process is writing to."""


class ClusterError(SegjaxError):
    """Processes of one run that do not find each other or do not fit together."""


def reason(error: OSError) -> str:
    """`FILE: cause`, as far as the operating system tells them; one line."""
    cause = error.strerror or str(error) or type(error).__name__
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return " ".join(": ".join([" -> ".join(names), cause] if names else [cause]).splitlines())


def first_line(error: Exception) -> str:
    """What another library's error says, at most 200 characters of one line, for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def suggest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, or a list of all when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
