"""One owner for a run's folder: who writes there says so in a file, and a second one is told who that is.

The owner holds an exclusive lock (flock) on `FOLDER/.owner`, which the operating system gives up when the owner ends,
however it ends. The file's text names the owner. Two cases need more than the lock. On a network file system the locks
of two hosts may not see each other, and some file systems have none: so the owner also changes the file's time every
few seconds, and whoever finds the file of another host watches it for a while by its own clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segjax.core.errors import BusyError, StorageError

OWNER = ".owner"
BEAT = 4.0
"""Seconds between two signs of an owner."""
PATIENCE = 5 * BEAT
"""Seconds without a sign after which the owner on another host counts as gone."""
SETTLING = 1.0
"""Seconds in which two that start at once on a file system without locks see each other's name."""

KEYS = ("host", "boot", "space", "pid", "started", "since")

_held: dict[tuple[int, int], int] = {}
"""{(device, inode) of a lock file: the thread that holds it}, of this process."""


@contextlib.contextmanager
def owned(folder: str | Path, *, active: bool = True) -> Iterator[None]:
    """Within this context this process alone writes into `folder`, which is made where it is absent.

    The thread that owns a folder may enter again. A folder that was made here and that nothing was written to is
    removed again.

    Args:
      folder: the run's.
      active: false in all processes of a run but the first: they share its owner.

    Raises:
      BusyError: another process owns it.
      StorageError: the folder cannot be made or written to.
    """
    if not active:
        yield
        return
    path = Path(folder).absolute() / OWNER
    if _mine(path):
        yield
        return
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        descriptor, locked = _lock(path, folder)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written to: {error.strerror or error}; choose another place."
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        _refuse_other(path, descriptor, locked, folder)
        stack.callback(_leave, path, descriptor, made)
        _sign(path, descriptor, locked, folder)
        key, stop = _key(os.fstat(descriptor)), threading.Event()
        _held[key] = threading.get_ident()
        stack.callback(_held.pop, key)
        beating = threading.Thread(target=_beat, args=(descriptor, stop), name="owner of a folder", daemon=True)
        beating.start()
        stack.callback(beating.join)
        stack.callback(stop.set)
        yield


def holder(folder: str | Path) -> str | None:
    """Who owns `folder`, as `process 4711 on gpu03 (since ...)`, or None; for messages, as it may change at once."""
    try:
        descriptor = os.open(Path(folder) / OWNER, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _name(_read(descriptor))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _mine(path: Path) -> bool:
    try:
        return _held.get(_key(path.stat())) == threading.get_ident()
    except OSError:
        return False


def _lock(path: Path, folder: str | Path) -> tuple[int, bool]:
    """The lock file's descriptor, and whether it is locked: some file systems have no locks."""
    other = None
    for _ in range(40):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another one has just removed the folder that it made
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _key(path.stat()) == _key(os.fstat(descriptor)):
                return descriptor, True
        except FileNotFoundError:
            pass  # the last owner has just removed it
        except BlockingIOError:
            other = _read(descriptor)
            if other is not None and not _gone(other):
                os.close(descriptor)
                break
            time.sleep(0.05)  # it has not written its name yet, or is just ending
        except OSError:
            return descriptor, False
        os.close(descriptor)
    raise BusyError(_refusal(folder, path, other))


def _refuse_other(path: Path, descriptor: int, locked: bool, folder: str | Path) -> None:
    """Returns where the file's owner is gone, or where there was none."""
    other = _read(descriptor)
    if other is None:
        return
    here = _identity()
    if locked and other["boot"] == here["boot"]:  # one kernel: its locks are to be believed
        return
    if _gone(other) or not (_here(other) or _moves(path, other, folder)):
        return
    raise BusyError(_refusal(folder, path, other))


def _moves(path: Path, other: dict[str, Any], folder: str | Path) -> bool:
    """Whether the file's time changes while it is watched; the clocks of two hosts need not agree."""
    print(
        f"segjax: {folder} was last written to by {_name(other)}; looking for {PATIENCE:.0f} s whether it still runs.",
        file=sys.stderr,
        flush=True,
    )
    before, end = _time(path), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, PATIENCE / 5))
        if _time(path) != before:
            return True
    return False


def _time(path: Path) -> int | None:
    """The file's modification time; a network file system looks anew when a file is opened."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


def _sign(path: Path, descriptor: int, locked: bool, folder: str | Path) -> None:
    """Writes this process's name into the file."""
    identity = _identity()
    text = json.dumps({**identity, "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode()
    try:
        os.pwrite(descriptor, text.ljust(512), 0)  # the same length for all, so that none leaves half of another's
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written to: {error.strerror}; free some space, or choose another place."
        ) from error
    if not locked:  # the last name written stays, and everyone else sees it
        time.sleep(SETTLING)
        with path.open("rb") as file:
            other = _read(file.fileno())
        if other is not None and not _same(other, identity):
            raise BusyError(_refusal(folder, path, other))


def _leave(path: Path, descriptor: int, made: list[Path]) -> None:
    """Removes the file, unless it is another's by now, and the folders that were made for it, if they are empty."""
    with contextlib.suppress(OSError):
        if _key(path.stat()) == _key(os.fstat(descriptor)) and _same(_read(descriptor) or _identity(), _identity()):
            path.unlink()
        for folder in made:
            folder.rmdir()


def _beat(descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):  # a folder that is gone is noticed where something is written to it
            os.utime(descriptor)


def _read(descriptor: int) -> dict[str, Any] | None:
    """The owner's record; None where there is none, or not a whole one."""
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        return {key: record[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in KEYS if key != "since")


def _here(other: dict[str, Any]) -> bool:
    """Whether its process number means something to this process."""
    identity = _identity()
    return other["boot"] == identity["boot"] and other["space"] == identity["space"]


def _gone(other: dict[str, Any]) -> bool:
    """Whether its process is known to have ended."""
    return _here(other) and _started(other["pid"]) != other["started"]


def _refusal(folder: str | Path, path: Path, other: dict[str, Any] | None) -> str:
    insist = ""
    if other is not None and other["boot"] != _identity()["boot"]:
        insist = f"; if that process is gone, delete {path}"
    elif other is not None and _gone(other):
        insist = f"; that process is gone, but one that it started still holds {path}: end it"
    return f"{folder} is in use: {_name(other)} writes there; wait for its end, or give another folder{insist}."


def _name(other: dict[str, Any] | None) -> str:
    if other is None:
        return "another process"
    return f"process {other['pid']} on {other['host']} (since {other['since']})"


def _identity() -> dict[str, Any]:
    """What tells this process from all others, also from a later one of the same number."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": _text("/proc/sys/kernel/random/boot_id") or socket.gethostname(),
        "space": _space(),  # containers on one host number their processes each for itself
        "pid": pid,
        "started": _started(pid),
    }


def _space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks, or `running` where that is not told; None if there is none."""
    status = _text(f"/proc/{pid}/stat")
    if status is not None:
        state, *rest = status.rpartition(")")[2].split()  # proc(5): the name may hold blanks and brackets
        return None if state in "ZX" else rest[18]
    if _space():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "running"


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
